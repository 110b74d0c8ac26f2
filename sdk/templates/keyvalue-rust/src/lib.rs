//! What {{name}} answers: counts by name. This is plain Rust, so `cargo test` runs it on your machine;
//! `component.rs` connects it to `wasi:http`, `store.rs` to `wasi:keyvalue`.

#[cfg(target_family = "wasm")]
mod component;
#[cfg(target_family = "wasm")]
mod store;

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

/// Where counts are kept.
pub trait Counts {
    fn count(&self, name: &str) -> Result<i64, String>;
    /// The sum, at once for whoever else adds.
    fn add(&self, name: &str, more: i64) -> Result<i64, String>;
}

#[cfg(target_family = "wasm")]
pub fn handle(request: &Request) -> Response {
    respond(request, &store::Kept)
}

/// `GET /NAME` tells a count, `POST /NAME` adds one to it.
pub fn respond(request: &Request, counts: &impl Counts) -> Response {
    let name = request.path.trim_start_matches('/');
    let counted = match request.method.as_str() {
        _ if name.is_empty() => return text(200, "Hello from {{name}}: POST /NAME counts\n"),
        "GET" | "HEAD" => counts.count(name),
        "POST" => counts.add(name, 1),
        method => return text(405, &format!("{method} is not for counts\n")),
    };
    match counted {
        Ok(count) => text(200, &format!("{count}\n")),
        Err(why) => text(500, &format!("{why}\n")),
    }
}

fn text(status: u16, body: &str) -> Response {
    Response { status, content_type: "text/plain; charset=utf-8", body: body.into() }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeMap};

    use super::*;

    #[derive(Default)]
    struct InMemory(RefCell<BTreeMap<String, i64>>);

    impl Counts for InMemory {
        fn count(&self, name: &str) -> Result<i64, String> {
            self.add(name, 0)
        }

        fn add(&self, name: &str, more: i64) -> Result<i64, String> {
            let mut counts = self.0.borrow_mut();
            let count = counts.entry(name.to_owned()).or_default();
            *count += more;
            Ok(*count)
        }
    }

    #[test]
    fn it_counts() {
        let counts = InMemory::default();
        let check = |method: &str, path: &str, status: u16, expected: &str| {
            let (method, path) = (method.into(), path.into());
            let request = Request { method, path, query: None, body: Vec::new() };
            let response = respond(&request, &counts);
            assert_eq!(response.status, status);
            assert_eq!(String::from_utf8_lossy(&response.body), expected);
        };
        check("GET", "/visits", 200, "0\n");
        check("POST", "/visits", 200, "1\n");
        check("POST", "/visits", 200, "2\n");
        check("GET", "/visits", 200, "2\n");
        check("GET", "/others", 200, "0\n");
        check("PUT", "/visits", 405, "PUT is not for counts\n");
    }
}
