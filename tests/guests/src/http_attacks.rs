//! Attacks on the node, each at its path: `/spin` computes for ever, `/allocate` takes memory in a
//! loop, `/log` writes to the log for ever, `/log-unasked` does so without asking for room,
//! `/recurse` calls itself, `/handles`, `/requests`, `/bodies`, `/streams` and `/pollables` open
//! handles in a loop, `/hang` answers a head and nothing
//! more, `/flood` answers without end, `/head` answers with huge headers; the rest answers at once.
//! Bodies of requests are never read.

use guests::{Target, answer, sleep_ms, write};
use wasip2::{
    clocks::monotonic_clock::subscribe_duration,
    http::types::{
        Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
    },
};

struct Attacks;

wasip2::http::proxy::export!(Attacks);

impl wasip2::exports::http::incoming_handler::Guest for Attacks {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        match Target::of(&request).path.as_str() {
            "/spin" => spin(),
            "/allocate" => allocate(),
            "/log" => loop {
                guests::say("a line that is written again and again, as fast as it will go\n");
            },
            "/log-unasked" => {
                let stdout = wasip2::cli::stdout::get_stdout();
                let block = [b'x'; 32 << 10];
                while stdout.write(&block).is_ok() {}
            }
            "/recurse" => {
                std::hint::black_box(recurse(1));
            }
            "/handles" => open(Fields::new),
            "/requests" => open(|| OutgoingRequest::new(Fields::new())),
            "/bodies" => open(|| {
                let response = OutgoingResponse::new(Fields::new());
                let body = response.body().expect("taken once");
                (response, body)
            }),
            "/streams" => open(wasip2::cli::stdout::get_stdout),
            "/pollables" => open(|| subscribe_duration(600_000_000_000)),
            "/hang" => return stream(to, |_| sleep_ms(600_000)),
            "/flood" => {
                return stream(to, |out| {
                    let block = [b'x'; 4096];
                    while out.blocking_write_and_flush(&block).is_ok() {}
                });
            }
            "/head" => {
                let fields = Fields::new();
                let value = vec![b'x'; 8 << 10];
                for n in 0..10_000 {
                    let _ = fields.append(&format!("x-{n}"), &value);
                }
            }
            "/never" => loop {
                sleep_ms(600_000);
            },
            _ => {}
        }
        answer(to, 200, b"ok\n");
        drop(request);
    }
}

/// Opens handles and closes none.
fn open<T>(handle: impl Fn() -> T) {
    std::hint::black_box((0..100_000).map(|_| handle()).collect::<Vec<_>>());
}

fn stream(to: ResponseOutparam, fill: impl Fn(&wasip2::http::types::OutputStream)) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("taken once");
    ResponseOutparam::set(to, Ok(response));
    if let Ok(out) = body.write() {
        write(&out, b"begun\n");
        fill(&out);
    }
    let _ = OutgoingBody::finish(body, None);
}

fn spin() -> ! {
    let mut rounds = 0u64;
    loop {
        rounds = std::hint::black_box(rounds + 1);
    }
}

fn allocate() -> ! {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        held.push(guests::take_mib(1));
    }
}

#[inline(never)]
#[allow(unconditional_recursion, reason = "it is the attack")]
fn recurse(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 64]);
    recurse(depth + 1) + here[(depth % 64) as usize]
}
