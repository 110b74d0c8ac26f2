//! A service written with `sdk/guest` that uses nothing: it is to import nothing either.

use windlass_guest::{Fault, Request, Response, Router};

fn hello<H>(_: &Request, _: &H) -> Result<Response, Fault> {
    Ok(Response::plain(200, "hello\n"))
}

fn routes<H>() -> Router<H> {
    Router::new().get("/", hello)
}

windlass_guest::serve!(routes);
