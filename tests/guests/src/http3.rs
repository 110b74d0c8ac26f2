//! A handler of WASI 0.3. What it answers is in `answer`; it keeps a counter in its memory, which
//! shows how many requests an instance has had.

use std::{cell::Cell, future::Future};

use wasip3::{
    cli::{environment, stdout},
    clocks::monotonic_clock,
    http::{
        client,
        types::{ErrorCode, Fields, Method, Request, Response, Scheme, Trailers},
    },
    spawn_local,
    wit_bindgen::{FutureReader, StreamReader, StreamResult},
    wit_future, wit_stream,
};

struct Http3;

wasip3::http::service::export!(Http3);

type End = Result<Option<Trailers>, ErrorCode>;
type Bytes = StreamReader<u8>;

thread_local! {
    static ASKED: Cell<u32> = const { Cell::new(0) };
    static HERE: Cell<u32> = const { Cell::new(0) };
}

impl wasip3::exports::http::handler::Guest for Http3 {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        ASKED.set(ASKED.get() + 1);
        let whole = request.get_path_with_query().unwrap_or_default();
        let (path, query) = whole.split_once('?').unwrap_or((&whole, ""));
        let value = |key: &str| query.strip_prefix(key).and_then(|rest| rest.strip_prefix('='));
        let number = |key: &str| value(key).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        match path {
            // How many requests this instance has had.
            "/count" => Ok(text(format!("{}\n", ASKED.get()))),
            // How many are in it with this one.
            "/slow" => {
                HERE.set(HERE.get() + 1);
                monotonic_clock::wait_for(number("ms") * 1_000_000).await;
                let here = HERE.replace(HERE.get() - 1);
                Ok(text(format!("{here} here\n")))
            }
            "/spin" => {
                let end = monotonic_clock::now() + number("ms") * 1_000_000;
                while monotonic_clock::now() < end {}
                Ok(text("spun\n".into()))
            }
            "/never" => loop {
                monotonic_clock::wait_for(3_600_000_000_000).await;
            },
            "/trap" => std::process::abort(),
            // Some of the answer is sent, and then no more comes.
            "/late-trap" => Ok(streamed(vec![], |mut to| async move {
                to.write_all(vec![b'x'; 1000]).await;
                monotonic_clock::wait_for(100_000_000).await;
                std::process::abort()
            })),
            "/error" => Err(ErrorCode::LoopDetected),
            "/grow" => {
                let held = vec![1u8; (number("mib") as usize) << 20];
                let held = std::hint::black_box(held);
                Ok(text(format!("held {} bytes\n", held.len())))
            }
            // The body and the trailers of the request, as they come.
            "/echo" => {
                let headers = request.get_headers().copy_all();
                let kept = headers.into_iter().filter(|(name, _)| name == "trailer").collect();
                let (bytes, end) = Request::consume_body(request, fine());
                Ok(streamed_with_end(kept, end, |to| copy(bytes, to)))
            }
            // The same without a look at the bytes.
            "/pass" => {
                let (bytes, end) = Request::consume_body(request, fine());
                let headers = Fields::from_list(&[]).expect("no headers");
                Ok(Response::new(headers, Some(bytes), end).0)
            }
            "/measure" => {
                let (mut bytes, end) = Request::consume_body(request, fine());
                let mut length = 0;
                while let Some(part) = next(&mut bytes).await {
                    length += part.len();
                }
                drop(bytes);
                let trailers = end.await?.map(|trailers| trailers.copy_all()).unwrap_or_default();
                Ok(text(format!("{length} bytes, {} trailers\n", trailers.len())))
            }
            "/make" => {
                let parts = number("mib") * 16;
                Ok(streamed(vec![], move |mut to| async move {
                    for _ in 0..parts {
                        if !to.write_all(vec![b'x'; 1 << 16]).await.is_empty() {
                            say("nobody reads it\n".into()).await;
                            return;
                        }
                    }
                }))
            }
            // Answers, and works on.
            "/after" => {
                let ms = number("ms");
                spawn_local(async move {
                    monotonic_clock::wait_for(ms * 1_000_000).await;
                    say(format!("{ms} ms later\n")).await;
                });
                Ok(text("answered\n".into()))
            }
            "/call" => call(value("to").unwrap_or_default()).await,
            _ => {
                let method = match request.get_method() {
                    Method::Other(other) => other,
                    method => format!("{method:?}"),
                };
                let authority = request.get_authority().unwrap_or_default();
                say(format!("asked for {path}\n")).await;
                let greeting = environment::get_environment();
                let greeting = greeting.into_iter().find(|(name, _)| name == "GREETING");
                let greeting = greeting.map(|(_, value)| value).unwrap_or_default();
                Ok(text(format!("{method} {whole} for {authority}: {greeting}\n")))
            }
        }
    }
}

/// Asks another server, and passes its answer on.
async fn call(to: &str) -> Result<Response, ErrorCode> {
    let (authority, path) = to.split_once('/').unwrap_or((to, ""));
    let (_, end) = nothing();
    let request = Request::new(Fields::new(), None, end, None).0;
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).expect("an authority");
    request.set_path_with_query(Some(&format!("/{path}"))).expect("a path");
    match client::send(request).await {
        Ok(response) => {
            let status = response.get_status_code();
            let (bytes, end) = Response::consume_body(response, fine());
            let passed = Response::new(Fields::new(), Some(bytes), end).0;
            passed.set_status_code(status).expect("a status");
            Ok(passed)
        }
        Err(code) => Ok(text(format!("{code:?}\n"))),
    }
}

fn text(text: String) -> Response {
    streamed(vec![], move |mut to| async move {
        to.write_all(text.into_bytes()).await;
    })
}

fn streamed<F>(
    headers: Vec<(String, Vec<u8>)>,
    write: impl FnOnce(wasip3::wit_bindgen::StreamWriter<u8>) -> F,
) -> Response
where
    F: Future<Output = ()> + 'static,
{
    let (_, end) = nothing();
    streamed_with_end(headers, end, write)
}

fn streamed_with_end<F>(
    headers: Vec<(String, Vec<u8>)>,
    end: FutureReader<End>,
    write: impl FnOnce(wasip3::wit_bindgen::StreamWriter<u8>) -> F,
) -> Response
where
    F: Future<Output = ()> + 'static,
{
    let (to, bytes) = wit_stream::new();
    spawn_local(write(to));
    let headers = Fields::from_list(&headers).expect("headers");
    Response::new(headers, Some(bytes), end).0
}

async fn copy(mut from: Bytes, mut to: wasip3::wit_bindgen::StreamWriter<u8>) {
    while let Some(part) = next(&mut from).await {
        if !to.write_all(part).await.is_empty() {
            return;
        }
    }
}

async fn next(from: &mut Bytes) -> Option<Vec<u8>> {
    let (result, part) = from.read(Vec::with_capacity(1 << 16)).await;
    match result {
        StreamResult::Complete(_) => Some(part),
        _ => None,
    }
}

/// An end without trailers.
fn nothing() -> ((), FutureReader<End>) {
    let (writer, reader) = wit_future::new(|| Ok(None));
    drop(writer);
    ((), reader)
}

fn fine() -> FutureReader<Result<(), ErrorCode>> {
    let (writer, reader) = wit_future::new(|| Ok(()));
    drop(writer);
    reader
}

async fn say(text: String) {
    let (mut to, bytes) = wit_stream::new();
    let written = stdout::write_via_stream(bytes);
    to.write_all(text.into_bytes()).await;
    drop(to);
    let _ = written.await;
}
