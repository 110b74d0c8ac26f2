//! What {{name}} answers: the files of `site`. This is plain Rust, so `cargo test` runs it on your
//! machine; `component.rs` connects it to `wasi:http`.

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

/// Path and content of each file, by path.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// A folder's path, with or without a slash, is its `index.html`.
pub fn handle(request: &Request) -> Response {
    if !matches!(request.method.as_str(), "GET" | "HEAD") {
        return text(405, "only GET and HEAD\n");
    }
    let path = request.path.trim_end_matches('/');
    let index = format!("{path}/index.html");
    match content(path).or_else(|| content(&index).map(|(_, body)| (index.as_str(), body))) {
        Some((path, body)) => {
            Response { status: 200, content_type: content_type(path), body: body.into() }
        }
        None => text(404, "not found\n"),
    }
}

fn content(path: &str) -> Option<(&str, &'static [u8])> {
    let at = FILES.binary_search_by_key(&path, |(known, _)| known).ok()?;
    Some((path, FILES[at].1))
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "wasm" => "application/wasm",
        _ => "application/octet-stream",
    }
}

fn text(status: u16, body: &str) -> Response {
    Response { status, content_type: "text/plain; charset=utf-8", body: body.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, path: &str, status: u16, content_type: &str) {
        let (method, path) = (method.into(), path.into());
        let response = handle(&Request { method, path, query: None, body: Vec::new() });
        assert_eq!((response.status, response.content_type), (status, content_type));
    }

    #[test]
    fn files_are_at_their_paths() {
        check("GET", "/", 200, "text/html; charset=utf-8");
        check("HEAD", "/index.html", 200, "text/html; charset=utf-8");
        check("GET", "/style.css", 200, "text/css; charset=utf-8");
        check("GET", "/nowhere", 404, "text/plain; charset=utf-8");
        check("POST", "/", 405, "text/plain; charset=utf-8");
    }
}
