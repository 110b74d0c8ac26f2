//! A service as one is written with the crate, on a host in memory.

use serde::{Deserialize, Serialize};
use windlass_guest::{
    Call, Config, Fault, Fetch, KeyValue, Level, Log, Request, Response, Router, Store,
    testing::Fake,
};

#[derive(Deserialize, Serialize)]
struct Order {
    item: String,
    count: u32,
}

fn order<H: KeyValue + Log>(request: &Request, host: &H) -> Result<Response, Fault> {
    let (customer, order): (u64, Order) = (request.path("customer")?, request.json()?);
    if order.count == 0 {
        return Err(Fault::new(422, "an order is for something"));
    }
    let sum = host.open("orders")?.increment(&order.item, i64::from(order.count))?;
    host.log(Level::Info, &format!("{customer} ordered {}", order.item));
    Ok(Response::json(201, &order)?.header("x-ordered", &sum.to_string()))
}

fn stock<H: KeyValue>(request: &Request, host: &H) -> Result<Response, Fault> {
    let item: String = request.path("item")?;
    let least: i64 = request.query("least")?.unwrap_or(0);
    let found = host.open("orders")?.get(&item)?;
    let found = found.ok_or_else(|| Fault::new(404, format!("nobody ordered {item}")))?;
    let count: i64 = String::from_utf8_lossy(&found).parse().unwrap_or(0);
    Ok(Response::plain(200, format!("{}\n", count >= least)))
}

fn price<H: Config + Fetch>(request: &Request, host: &H) -> Result<Response, Fault> {
    let shop = host.config("SHOP")?.ok_or_else(|| Fault::new(500, "SHOP is not set"))?;
    let call = Call::get(&format!("{shop}/{}", request.path::<String>("item")?));
    let answer = host.fetch(&call.header("accept", "application/json"))?;
    let cents: u32 = answer.json()?;
    Response::json(200, &cents)
}

fn routes<H: Config + Fetch + KeyValue + Log>() -> Router<H> {
    Router::new()
        .post("/orders/{customer}", order)
        .get("/stock/{item}", stock)
        .get("/price/{item}", price)
}

windlass_guest::serve!(routes);

fn check(host: &Fake, request: Request, status: u16, body: &str) -> Response {
    let response = routes().answer(request, host);
    assert_eq!((response.status, &*response.text()), (status, body));
    response
}

#[test]
fn what_was_asked_is_typed() {
    let host = Fake::default();
    let tea = r#"{"item":"green tea","count":2}"#;
    let response = check(&host, Request::post("/orders/7", tea), 201, tea);
    assert_eq!(response.headers[1], ("x-ordered".into(), "2".into()));
    assert_eq!(host.lines(), [(Level::Info, "7 ordered green tea".into())]);
    check(&host, Request::get("/stock/green%20tea?least=2"), 200, "true\n");
    check(&host, Request::get("/stock/green%20tea?x&least=3"), 200, "false\n");
    check(&host, Request::of("HEAD", "/stock/green%20tea", ""), 200, "");
}

#[test]
fn whose_fault_it_is_is_told() {
    let host = Fake::default();
    let error = |text: &str| serde_json::json!({"error": text}).to_string();
    check(
        &host,
        Request::post("/orders/me", "{}"),
        400,
        &error("{customer} of the path: \"me\" is no u64"),
    );
    check(
        &host,
        Request::post("/orders/7", "{}"),
        400,
        &error("the body is no JSON as expected: missing field `item` at line 1 column 2"),
    );
    check(
        &host,
        Request::post("/orders/7", r#"{"item":"tea","count":0}"#),
        422,
        &error("an order is for something"),
    );
    check(
        &host,
        Request::get("/stock/tea?least=many"),
        400,
        &error("least of the query: \"many\" is no i64"),
    );
    check(&host, Request::get("/stock/tea"), 404, &error("nobody ordered tea"));
    check(&host, Request::get("/stock/"), 404, &error("nothing at /stock/"));
    check(&host, Request::get("/stock/a/b"), 404, &error("nothing at /stock/a/b"));
    let response = check(&host, Request::get("/orders/7"), 405, &error("GET is not for /orders/7"));
    assert_eq!(response.headers[1], ("allow".into(), "POST".into()));
}

#[test]
fn other_services_are_called() {
    let host = Fake::default();
    check(&host, Request::get("/price/tea"), 500, r#"{"error":"SHOP is not set"}"#);
    let host = Fake::default()
        .with_config("SHOP", "http://shop")
        .with_answer("http://shop/tea", 200, "250")
        .with_answer("http://shop/air", 200, "free");
    check(&host, Request::get("/price/tea"), 200, "250");
    assert_eq!(host.calls()[0].headers, [("accept".into(), "application/json".into())]);
    let gone = r#"{"error":"http://shop/gold: nobody answers"}"#;
    check(&host, Request::get("/price/gold"), 500, gone);
    let free = routes().answer(Request::get("/price/air"), &host);
    assert!(free.status == 500 && free.text().contains("no JSON as expected"), "{}", free.text());
}
