//! `wasi:sockets` 0.3 with resources of our own, for the reason of 0.2's.

wasmtime::component::bindgen!({
    path: "wit/sockets-0.3",
    world: "wasi:sockets/imports",
    imports: {
        "wasi:sockets/types.[method]tcp-socket.listen": async | store | trappable,
        "wasi:sockets/types.[method]tcp-socket.send": store | trappable,
        "wasi:sockets/types.[method]tcp-socket.receive": store | trappable,
        default: trappable,
    },
    trappable_error_type: {
        "wasi:sockets/types.error-code" => super::SocketError,
    },
    with: {
        "wasi:clocks": wasmtime_wasi::p3::bindings::clocks,
        "wasi:sockets/types.tcp-socket": super::tcp::TcpSocket,
        "wasi:sockets/types.udp-socket": super::udp::UdpSocket,
    },
});

pub use wasi::sockets::*;
