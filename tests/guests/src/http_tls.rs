//! Speaks HTTP over `wasi:tls` of 0.2: `/?to=ADDRESS&name=SERVER` gets that server's `/`, and answers
//! with all that comes.

use guests::{
    Target, answer,
    sockets::{address, connect, read_all},
    write,
};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

wit_bindgen::generate!({
    path: "interfaces/tls-0.2",
    world: "wasi:tls/imports",
    with: {
        "wasi:io/error@0.2.12": wasip2::io::error,
        "wasi:io/poll@0.2.12": wasip2::io::poll,
        "wasi:io/streams@0.2.12": wasip2::io::streams,
    },
    generate_all,
});

use wasi::tls::types::ClientHandshake;

struct Handler;

wasip2::http::proxy::export!(Handler);

impl wasip2::exports::http::incoming_handler::Guest for Handler {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        match get(&Target::of(&request)) {
            Ok(bytes) => answer(to, 200, &bytes),
            Err(error) => answer(to, 502, error.as_bytes()),
        }
    }
}

fn get(target: &Target) -> Result<Vec<u8>, String> {
    let to = address(target.get("to").unwrap_or_default());
    let name = target.get("name").unwrap_or_default();
    let (socket, input, output) = connect(to).map_err(|code| code.name().to_string())?;
    let handshake = ClientHandshake::finish(ClientHandshake::new(name, input, output));
    handshake.subscribe().block();
    let shaken = handshake.get().expect("is ready").expect("taken once");
    let (connection, input, output) = shaken.map_err(|error| error.to_debug_string())?;
    write(
        &output,
        format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n").as_bytes(),
    );
    // A server may drop a client that has nothing more to say before it has answered.
    let bytes = read_all(&input);
    connection.close_output();
    drop((input, output));
    drop((connection, socket));
    Ok(bytes)
}
