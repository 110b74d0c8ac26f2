//! What `command_echo` does, with the sockets of WASI 0.3: the stream that a connection gives is
//! the stream that it is sent.

use std::net::SocketAddr;

use guests::{
    sockets::address,
    sockets3::{bind_udp, from_wasi, listen, name},
};
use wasip3::{
    cli::{environment, stdout},
    sockets::types::{ErrorCode, TcpSocket},
    spawn_local, wit_stream,
};

struct Echo;

wasip3::cli::command::export!(Echo);

impl wasip3::exports::cli::run::Guest for Echo {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let at = address(arguments.last().expect("an address"));
        let served = match arguments.iter().any(|argument| argument == "udp") {
            true => udp(at).await,
            false => tcp(at).await,
        };
        say(format!("ended: {}\n", served.map_or_else(name, |()| "well".into()))).await;
        Err(())
    }
}

async fn tcp(at: SocketAddr) -> Result<(), ErrorCode> {
    let (socket, mut connections) = listen(at)?;
    assert!(socket.get_is_listening());
    say(format!("listens at {}\n", from_wasi(socket.get_local_address()?))).await;
    while let Some(socket) = connections.next().await {
        say(format!("called by {}\n", from_wasi(socket.get_remote_address()?).ip())).await;
        spawn_local(echo(socket));
    }
    Ok(())
}

async fn echo(socket: TcpSocket) {
    let (bytes, received) = socket.receive();
    // A caller that is gone is no matter.
    let _ = socket.send(bytes).await;
    let _ = received.await;
}

async fn udp(at: SocketAddr) -> Result<(), ErrorCode> {
    let socket = bind_udp(at)?;
    say(format!("listens at {}\n", from_wasi(socket.get_local_address()?))).await;
    loop {
        let (data, sender) = socket.receive().await?;
        socket.send(data, Some(sender)).await?;
    }
}

async fn say(text: String) {
    let (mut to, bytes) = wit_stream::new();
    let written = stdout::write_via_stream(bytes);
    to.write_all(text.into_bytes()).await;
    drop(to);
    let _ = written.await;
}
