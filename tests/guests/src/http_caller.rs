//! `/?url=http://HOST[:PORT]/PATH` answers with what that URL answers; the error, as 502, if it
//! can't be had; `/?method=HEAD&url=...` asks by HEAD. `/loop?times=N&url=...` asks it N times and answers with the nanoseconds that took.

use guests::{Target, answer};
use wasip2::{
    clocks::monotonic_clock,
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, IncomingRequest, Method, OutgoingRequest, ResponseOutparam, Scheme,
        },
    },
};

struct Caller;

wasip2::http::proxy::export!(Caller);

impl wasip2::exports::http::incoming_handler::Guest for Caller {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        let target = Target::of(&request);
        let url = target.get("url").unwrap_or_default();
        let method = if target.get("method") == Some("HEAD") { Method::Head } else { Method::Get };
        if target.path == "/loop" {
            let began = monotonic_clock::now();
            for _ in 0..target.number("times") {
                if let Err(error) = ask(&method, url) {
                    return answer(to, 502, format!("{error:?}\n").as_bytes());
                }
            }
            let took = monotonic_clock::now() - began;
            return answer(to, 200, format!("{took}\n").as_bytes());
        }
        match ask(&method, url) {
            Ok((status, body)) => answer(to, status, &body),
            Err(error) => answer(to, 502, format!("{error:?}\n").as_bytes()),
        }
    }
}

fn ask(method: &Method, url: &str) -> Result<(u16, Vec<u8>), ErrorCode> {
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let _ = request.set_method(method);
    let _ = request.set_scheme(Some(&scheme));
    let _ = request.set_authority(Some(authority));
    let _ = request.set_path_with_query(Some(if path.is_empty() { "/" } else { path }));
    let answer = outgoing_handler::handle(request, None)?;
    answer.subscribe().block();
    let response = answer.get().expect("is ready").expect("taken once")?;
    let body = response.consume().expect("taken once");
    let stream = body.stream().expect("taken once");
    let mut bytes = Vec::new();
    while let Ok(chunk) = stream.blocking_read(64 * 1024) {
        bytes.extend(chunk);
    }
    Ok((response.status(), bytes))
}
