//! Which handler answers: the first route whose method and path are the request's.

use crate::{Fault, Request, Response, request::decoded};

/// Answers one kind of request.
pub type Handler<H> = fn(&Request, &H) -> Result<Response, Fault>;

/// Handlers by method and path. A segment `{name}` of a route's path is any one segment.
pub struct Router<H> {
    routes: Vec<Route<H>>,
}

struct Route<H> {
    method: &'static str,
    path: &'static str,
    handler: Handler<H>,
}

impl<H> Default for Router<H> {
    fn default() -> Self {
        Self { routes: Vec::new() }
    }
}

impl<H> Router<H> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers HEAD as well.
    pub fn get(self, path: &'static str, handler: Handler<H>) -> Self {
        self.on("GET", path, handler)
    }

    pub fn post(self, path: &'static str, handler: Handler<H>) -> Self {
        self.on("POST", path, handler)
    }

    pub fn put(self, path: &'static str, handler: Handler<H>) -> Self {
        self.on("PUT", path, handler)
    }

    pub fn delete(self, path: &'static str, handler: Handler<H>) -> Self {
        self.on("DELETE", path, handler)
    }

    pub fn on(mut self, method: &'static str, path: &'static str, handler: Handler<H>) -> Self {
        self.routes.push(Route { method, path, handler });
        self
    }

    /// The answer to a request, whatever it is.
    pub fn answer(&self, mut request: Request, host: &H) -> Response {
        let is_head = request.method == "HEAD";
        let method = if is_head { "GET" } else { request.method.as_str() };
        let mut others = Vec::new();
        for route in &self.routes {
            let Some(parts) = parts(route.path, request.raw_path()) else { continue };
            if route.method != method {
                others.push(route.method);
                continue;
            }
            request.parts = parts;
            let mut response = (route.handler)(&request, host).unwrap_or_else(Response::from);
            if is_head {
                response.body.clear();
            }
            return response;
        }
        let path = request.raw_path();
        if others.is_empty() {
            return Fault::new(404, format!("nothing at {path}")).into();
        }
        let fault = Fault::new(405, format!("{} is not for {path}", request.method));
        Response::from(fault).header("allow", &others.join(", "))
    }
}

/// The named parts of a path that a route is for; None: it is for others.
fn parts(route: &str, path: &str) -> Option<Vec<(String, String)>> {
    let (mut wanted, mut given) = (route.split('/'), path.split('/'));
    let mut parts = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(parts),
            (Some(wanted), Some(given)) => {
                let name = wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
                match name {
                    Some(name) if !given.is_empty() => {
                        parts.push((name.to_owned(), decoded(given)));
                    }
                    _ if wanted == given => {}
                    _ => return None,
                }
            }
            _ => return None,
        }
    }
}
