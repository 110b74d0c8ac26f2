//! A service written with `sdk/guest`: greets as its config says, counts in a store, asks another
//! service. Its imports are what a test looks at, too.

use windlass_guest::{
    Call, Config, Fault, Fetch, KeyValue, Level, Log, Request, Response, Router, Store,
};

fn greet<H: Config>(request: &Request, host: &H) -> Result<Response, Fault> {
    let greeting = host.config("GREETING")?.ok_or_else(|| Fault::new(500, "no GREETING"))?;
    Ok(Response::plain(200, format!("{greeting}, {}\n", request.path::<String>("name")?)))
}

fn count<H: KeyValue + Log>(request: &Request, host: &H) -> Result<Response, Fault> {
    let (name, more): (String, i64) = (request.path("name")?, request.json()?);
    let store = host.open("default")?;
    let count = store.increment(&name, more)?;
    store.set("last", name.as_bytes())?;
    host.log(Level::Info, &format!("{name} is {count}"));
    Response::json(201, &count)
}

fn forget<H: KeyValue>(_: &Request, host: &H) -> Result<Response, Fault> {
    let store = host.open("default")?;
    let last = store.get("last")?.ok_or_else(|| Fault::new(404, "nothing was counted"))?;
    store.delete(&String::from_utf8_lossy(&last))?;
    store.delete("last")?;
    Ok(Response::empty(204))
}

/// Sends the body on, and answers with what came back.
fn pass_on<H: Fetch>(request: &Request, host: &H) -> Result<Response, Fault> {
    let url: String = request.query("url")?.ok_or_else(|| Fault::new(400, "no url"))?;
    let call = Call::of("POST", &url).header("x-by", "sdk").body(request.body.clone());
    let answer = host.fetch(&call).map_err(|why| Fault::new(502, why.0))?;
    Ok(Response::bytes(answer.status, "application/octet-stream", answer.body))
}

fn routes<H: Config + Fetch + KeyValue + Log>() -> Router<H> {
    Router::new()
        .get("/greet/{name}", greet)
        .post("/counts/{name}", count)
        .delete("/counts", forget)
        .post("/pass-on", pass_on)
}

windlass_guest::serve!(routes);
