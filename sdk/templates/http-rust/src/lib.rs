//! What {{name}} answers. This is plain Rust, so `cargo test` runs it on your machine; `component.rs`
//! connects it to `wasi:http`.

#[cfg(target_family = "wasm")]
mod component;

pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: Option<String>,
    pub body: Vec<u8>,
}

#[derive(Debug, PartialEq)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

/// The whole service: a request in, a response out.
pub fn handle(request: &Request) -> Response {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "HEAD", "/") => text(200, "Hello from {{name}}\n"),
        ("POST", "/echo") => Response {
            status: 200,
            content_type: "application/octet-stream",
            body: request.body.clone(),
        },
        (method, "/" | "/echo") => text(405, &format!("{method} is not for this path\n")),
        (_, path) => text(404, &format!("nothing at {path}\n")),
    }
}

fn text(status: u16, body: &str) -> Response {
    Response { status, content_type: "text/plain; charset=utf-8", body: body.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, body: &str, status: u16, expected: &str) {
        let (method, path, body) = (method.into(), path.into(), body.into());
        let response = handle(&Request { method, path, query: None, body });
        assert_eq!(response.status, status);
        assert_eq!(String::from_utf8_lossy(&response.body), expected);
    }

    #[test]
    fn it_answers() {
        check("GET", "/", "", 200, "Hello from {{name}}\n");
        check("POST", "/echo", "there and back", 200, "there and back");
        check("PUT", "/echo", "", 405, "PUT is not for this path\n");
        check("GET", "/nowhere", "", 404, "nothing at /nowhere\n");
    }
}
