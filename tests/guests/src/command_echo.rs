//! `tcp ADDRESS` or `udp ADDRESS`: gives back what it gets, for ever.

use guests::{
    say,
    sockets::{accept, address, bind_udp, from_wasi, listen, read_all},
    write,
};
use wasip2::sockets::{tcp::ShutdownType, udp::OutgoingDatagram};

struct Echo;

wasip2::cli::command::export!(Echo);

impl wasip2::exports::cli::run::Guest for Echo {
    fn run() -> Result<(), ()> {
        let arguments = wasip2::cli::environment::get_arguments();
        let at = address(arguments.last().expect("an address"));
        let served = match arguments.iter().any(|argument| argument == "udp") {
            true => udp(at),
            false => tcp(at),
        };
        say(&format!("ended: {}\n", served.map_or_else(|error| error.name(), |()| "well")));
        Err(())
    }
}

fn tcp(at: std::net::SocketAddr) -> guests::sockets::Result<()> {
    let listener = listen(at)?;
    say(&format!("listens at {}\n", from_wasi(listener.local_address()?)));
    loop {
        let (socket, input, output) = accept(&listener)?;
        say(&format!("called by {}\n", from_wasi(socket.remote_address()?).ip()));
        // Small calls are read to their end first; large ones pass through.
        let mut first = true;
        while let Ok(bytes) = input.blocking_read(64 * 1024) {
            if first && bytes.len() < 1024 {
                let rest = read_all(&input);
                write(&output, &[bytes, rest].concat());
                break;
            }
            first = false;
            write(&output, &bytes);
        }
        let _ = socket.shutdown(ShutdownType::Send);
        drop((input, output));
    }
}

fn udp(at: std::net::SocketAddr) -> guests::sockets::Result<()> {
    let socket = bind_udp(at)?;
    say(&format!("listens at {}\n", from_wasi(socket.local_address()?)));
    let (incoming, outgoing) = socket.stream(None)?;
    loop {
        incoming.subscribe().block();
        for datagram in incoming.receive(16)? {
            while outgoing.check_send()? == 0 {
                outgoing.subscribe().block();
            }
            outgoing.send(&[OutgoingDatagram {
                data: datagram.data,
                remote_address: Some(datagram.remote_address),
            }])?;
        }
    }
}
