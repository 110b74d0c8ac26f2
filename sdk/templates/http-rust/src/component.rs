//! Between `wasi:http` and `handle`. WASI is called directly and `std::io` never, so this builds for
//! every Rust target that Windlass can use.

use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use crate::{Request, Response, handle};

/// A longer body is answered with 413.
const MOST_BODY_BYTES: usize = 1 << 20;
/// What one read asks for, and what one write may hold.
const READ_BYTES: u64 = 64 << 10;
const WRITE_BYTES: usize = 4096;

struct Component;

wasip2::http::proxy::export!(Component);

impl wasip2::exports::http::incoming_handler::Guest for Component {
    fn handle(request: IncomingRequest, answer_to: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path.to_owned(), Some(query.to_owned())),
            None => (target, None),
        };
        let method = name(request.method());
        let line = format!("{method} {path}");
        let response = match body(&request) {
            Some(body) => handle(&Request { method, path, query, body }),
            None => Response {
                status: 413,
                content_type: "text/plain; charset=utf-8",
                body: b"the body is too long\n".into(),
            },
        };
        log(&format!("{line} {}\n", response.status));
        answer(answer_to, &response);
    }
}

/// None where it is too long.
fn body(request: &IncomingRequest) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let Ok(body) = request.consume() else { return Some(bytes) };
    let Ok(stream) = body.stream() else { return Some(bytes) };
    while let Ok(part) = stream.blocking_read(READ_BYTES) {
        bytes.extend(part);
        if bytes.len() > MOST_BODY_BYTES {
            return None;
        }
    }
    Some(bytes)
}

fn answer(to: ResponseOutparam, response: &Response) {
    let headers = Fields::new();
    let _ = headers.append("content-type", response.content_type.as_bytes());
    let outgoing = OutgoingResponse::new(headers);
    let _ = outgoing.set_status_code(response.status);
    let Ok(body) = outgoing.body() else { return };
    ResponseOutparam::set(to, Ok(outgoing));
    if let Ok(stream) = body.write() {
        for part in response.body.chunks(WRITE_BYTES) {
            // The client is gone: nobody reads the rest.
            if stream.blocking_write_and_flush(part).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

/// One line to the pod's log.
fn log(line: &str) {
    let _ = wasip2::cli::stdout::get_stdout().blocking_write_and_flush(line.as_bytes());
}

fn name(method: Method) -> String {
    let known = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Patch => "PATCH",
        Method::Options => "OPTIONS",
        Method::Connect => "CONNECT",
        Method::Trace => "TRACE",
        Method::Other(other) => return other,
    };
    known.to_owned()
}
