//! What {{name}} answers: `/` itself, and below `/backend` what its back end answers. This is plain
//! Rust, so `cargo test` runs it on your machine; `component.rs` connects it to `wasi:http`,
//! `backend.rs` to the container.

#[cfg(target_family = "wasm")]
mod backend;
#[cfg(target_family = "wasm")]
mod component;

pub struct Request {
    pub method: String,
    /// Without the query.
    pub path: String,
    pub query: Option<String>,
    pub body: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub body: Vec<u8>,
}

/// What runs in the container.
pub trait Backend {
    /// Status and body of what it has at a path.
    fn get(&self, path: &str) -> Result<(u16, Vec<u8>), String>;
}

#[cfg(target_family = "wasm")]
pub fn handle(request: &Request) -> Response {
    respond(request, &backend::Container)
}

/// The whole service: a request in, a response out.
pub fn respond(request: &Request, backend: &impl Backend) -> Response {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return text(405, "only GET and HEAD\n");
    }
    let Some(path) = request.path.strip_prefix("/backend") else {
        return match request.path.as_str() {
            "/" => text(200, "Hello from {{name}}\n"),
            path => text(404, &format!("nothing at {path}\n")),
        };
    };
    match backend.get(if path.is_empty() { "/" } else { path }) {
        Ok((status, body)) => Response { status, content_type: "text/plain; charset=utf-8", body },
        Err(why) => text(502, &format!("the back end doesn't answer: {why}\n")),
    }
}

fn text(status: u16, body: &str) -> Response {
    Response { status, content_type: "text/plain; charset=utf-8", body: body.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct InMemory;

    impl Backend for InMemory {
        fn get(&self, path: &str) -> Result<(u16, Vec<u8>), String> {
            match path {
                "/" => Ok((200, b"from the back end\n".to_vec())),
                "/gone" => Err("it is gone".to_owned()),
                _ => Ok((404, Vec::new())),
            }
        }
    }

    fn check(method: &str, path: &str, status: u16, expected: &str) {
        let (method, path) = (method.into(), path.into());
        let request = Request { method, path, query: None, body: Vec::new() };
        let response = respond(&request, &InMemory);
        assert_eq!(response.status, status);
        assert_eq!(String::from_utf8_lossy(&response.body), expected);
    }

    #[test]
    fn it_answers_and_asks() {
        check("GET", "/", 200, "Hello from {{name}}\n");
        check("GET", "/backend", 200, "from the back end\n");
        check("GET", "/backend/none", 404, "");
        check("GET", "/backend/gone", 502, "the back end doesn't answer: it is gone\n");
        check("POST", "/", 405, "only GET and HEAD\n");
        check("GET", "/nowhere", 404, "nothing at /nowhere\n");
    }
}
