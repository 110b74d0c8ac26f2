//! The demo microservice: a `wasi:http` handler that says which version it is. It calls WASI
//! directly and never `std::io`, so it builds for `wasm32-wasip2` and, with rebuilt std, for
//! `wasm32-unknown-unknown`.

use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

const VERSION: &str = if cfg!(feature = "v2") { "v2" } else { "v1" };

struct Hello;

wasip2::http::proxy::export!(Hello);

impl wasip2::exports::http::incoming_handler::Guest for Hello {
    fn handle(request: IncomingRequest, answer_to: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (status, text) = match path.split('?').next() {
            Some("/") => (200, format!("Hello from Windlass, version {VERSION}\n")),
            _ => (404, format!("nothing at {path}\n")),
        };
        log(&format!("{} {path} {status}\n", name(&request.method())));
        answer(answer_to, status, text.as_bytes());
    }
}

fn answer(to: ResponseOutparam, status: u16, text: &[u8]) {
    let headers = Fields::new();
    let _ = headers.append("content-type", b"text/plain");
    let _ = headers.append("content-length", text.len().to_string().as_bytes());
    let response = OutgoingResponse::new(headers);
    let _ = response.set_status_code(status);
    let Ok(body) = response.body() else { return };
    ResponseOutparam::set(to, Ok(response));
    if let Ok(stream) = body.write() {
        let _ = stream.blocking_write_and_flush(text);
    }
    let _ = OutgoingBody::finish(body, None);
}

/// One line to the container's log.
fn log(line: &str) {
    let _ = wasip2::cli::stdout::get_stdout().blocking_write_and_flush(line.as_bytes());
}

fn name(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Patch => "PATCH",
        Method::Options => "OPTIONS",
        Method::Connect => "CONNECT",
        Method::Trace => "TRACE",
        Method::Other(other) => other,
    }
}
