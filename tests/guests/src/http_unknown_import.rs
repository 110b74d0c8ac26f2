//! Imports an interface that no host has.

use wasip2::http::types::{IncomingRequest, ResponseOutparam};

wit_bindgen::generate!({
    inline: "
        package acme:gadgets@1.2.0;
        interface lathe { turn: func() -> u32; }
        world workshop { import lathe; }
    ",
});

struct Handler;

wasip2::http::proxy::export!(Handler);

impl wasip2::exports::http::incoming_handler::Guest for Handler {
    fn handle(_: IncomingRequest, to: ResponseOutparam) {
        let turned = acme::gadgets::lathe::turn();
        guests::answer(to, 200, format!("{turned}\n").as_bytes());
    }
}
