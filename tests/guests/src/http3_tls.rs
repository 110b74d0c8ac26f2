//! What `http_tls` does, with `wasi:tls` of 0.3.

use guests::{
    Target,
    sockets::address,
    sockets3::{connect, name},
};
use wasip3::{
    http::types::{ErrorCode as HttpError, Fields, Request, Response},
    spawn_local, wit_future, wit_stream,
};

mod bindings {
    wit_bindgen::generate!({
        path: "interfaces/tls-0.3",
        world: "wasi:tls/imports",
        generate_all,
    });
}

use bindings::wasi::tls::client::Connector;

struct Handler;

wasip3::http::service::export!(Handler);

impl wasip3::exports::http::handler::Guest for Handler {
    async fn handle(request: Request) -> Result<Response, HttpError> {
        let target = Target::parse(&request.get_path_with_query().unwrap_or_default());
        let (status, bytes) = match get(&target).await {
            Ok(bytes) => (200, bytes),
            Err(error) => (502, error.into_bytes()),
        };
        let (mut to, body) = wit_stream::new();
        spawn_local(async move {
            to.write_all(bytes).await;
        });
        let (writer, end) = wit_future::new(|| Ok(None));
        drop(writer);
        let response = Response::new(Fields::new(), Some(body), end).0;
        response.set_status_code(status).expect("a status");
        Ok(response)
    }
}

async fn get(target: &Target) -> Result<Vec<u8>, String> {
    let host = target.get("name").unwrap_or_default();
    let socket = connect(address(target.get("to").unwrap_or_default())).await.map_err(name)?;
    let connector = Connector::new();
    let (mut to, cleartext) = wit_stream::new();
    let (ciphertext, _sent) = connector.send(cleartext);
    let (answer, received) = connector.receive(socket.receive().0);
    let _passed = socket.send(ciphertext);
    let shaken = Connector::connect(connector, host.into()).await;
    shaken.map_err(|error| error.to_debug_string())?;
    let asked = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    to.write_all(asked.into_bytes()).await;
    let bytes = answer.collect().await;
    drop(to);
    received.await.map_err(|error| error.to_debug_string())?;
    Ok(bytes)
}
