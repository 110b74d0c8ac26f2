//! `/trap` traps, `/slow?ms=N` answers after N ms, `/spin?ms=N` computes that long,
//! `/late-trap` answers and traps afterwards, the rest answers at once.

use guests::{Target, answer, sleep_ms};
use wasip2::{
    clocks::monotonic_clock,
    http::types::{IncomingRequest, ResponseOutparam},
};

struct Traps;

wasip2::http::proxy::export!(Traps);

impl wasip2::exports::http::incoming_handler::Guest for Traps {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        let target = Target::of(&request);
        match target.path.as_str() {
            "/trap" => deliberately_trap(),
            "/slow" => sleep_ms(target.number("ms")),
            "/spin" => spin(target.number("ms")),
            "/late-trap" => {
                answer(to, 200, b"answered\n");
                deliberately_trap();
            }
            _ => {}
        }
        answer(to, 200, b"ok\n");
    }
}

#[inline(never)]
fn deliberately_trap() -> ! {
    std::process::abort()
}

fn spin(ms: u64) {
    let end = monotonic_clock::now() + ms * 1_000_000;
    let mut rounds = 0u64;
    while !(rounds.is_multiple_of(1 << 20) && monotonic_clock::now() > end) {
        rounds = std::hint::black_box(rounds + 1);
    }
}
