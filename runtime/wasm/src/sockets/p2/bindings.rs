//! `wasi:sockets` 0.2 with resources of our own: wasmtime-wasi's sockets are the host's, and can
//! be filtered but not led elsewhere.

wasmtime::component::bindgen!({
    path: "wit/sockets-0.2",
    world: "wasi:sockets/imports",
    imports: {
        "wasi:sockets/tcp.[method]tcp-socket.start-listen": async | trappable,
        default: trappable,
    },
    trappable_error_type: {
        "wasi:sockets/network.error-code" => super::SocketError,
    },
    with: {
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
        "wasi:sockets/network.network": super::Network,
        "wasi:sockets/tcp.tcp-socket": super::tcp::TcpSocket,
        "wasi:sockets/udp.udp-socket": super::udp::UdpSocket,
        "wasi:sockets/udp.incoming-datagram-stream": super::udp::IncomingDatagramStream,
        "wasi:sockets/udp.outgoing-datagram-stream": super::udp::OutgoingDatagramStream,
        "wasi:sockets/ip-name-lookup.resolve-address-stream": super::names::ResolveAddressStream,
    },
});

pub use wasi::sockets::*;
