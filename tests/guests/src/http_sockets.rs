//! Does with sockets what it is asked for, and answers what came of it: the reply, or the error's
//! name with 502.

use guests::{
    Target, answer,
    sockets::{address, bind_udp, connect, from_wasi, listen, look_up, read_all, to_wasi},
    write,
};
use wasip2::{
    clocks::monotonic_clock::subscribe_duration,
    http::types::{IncomingRequest, ResponseOutparam},
    io::poll::poll,
    sockets::{
        network::{ErrorCode, IpAddressFamily},
        tcp::ShutdownType,
        tcp_create_socket::create_tcp_socket,
        udp::OutgoingDatagram,
    },
};

struct Sockets;

wasip2::http::proxy::export!(Sockets);

impl wasip2::exports::http::incoming_handler::Guest for Sockets {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        let target = Target::of(&request);
        let done = match target.path.as_str() {
            "/tcp" => tcp(&target),
            "/udp" => udp(&target),
            "/name" => look_up(target.get("name").unwrap_or_default())
                .map(|found| found.iter().map(|ip| format!("{ip}\n")).collect()),
            "/bind" => bind(&target),
            "/many" => Ok(many(target.number("count"))),
            _ => Ok("hello\n".to_string()),
        };
        match done {
            Ok(text) => answer(to, 200, text.as_bytes()),
            Err(error) => answer(to, 502, format!("{}\n", error.name()).as_bytes()),
        }
    }
}

/// Sends `send`, `times` times, and returns what comes until the end, or how many bytes that were.
fn tcp(target: &Target) -> Result<String, ErrorCode> {
    let to = address(target.get("to").unwrap_or_default());
    let (socket, input, output) = connect(to)?;
    let remote = from_wasi(socket.remote_address()?);
    let local = from_wasi(socket.local_address()?);
    let text = target.get("send").unwrap_or_default();
    let times = target.number("times").max(1);
    if times == 1 {
        write(&output, text.as_bytes());
        let _ = socket.shutdown(ShutdownType::Send);
        let reply = String::from_utf8_lossy(&read_all(&input)).into_owned();
        drop((input, output));
        return Ok(format!("{reply}|{remote}|{}\n", local.ip()));
    }
    // Both directions at once, more than any buffer holds.
    let block = text.as_bytes().repeat(4096 / text.len().max(1));
    let (mut left, mut came) = (times * block.len() as u64, 0);
    let (can_read, can_write) = (input.subscribe(), output.subscribe());
    loop {
        let ready = match left {
            0 => poll(&[&can_read]),
            _ => poll(&[&can_read, &can_write]),
        };
        if ready.contains(&1) {
            let room = output.check_write().unwrap_or(0).min(left).min(block.len() as u64);
            if output.write(&block[..room as usize]).is_ok() {
                left -= room;
            }
            if left == 0 {
                let _ = socket.shutdown(ShutdownType::Send);
            }
        }
        if ready.contains(&0) {
            match input.read(64 * 1024) {
                Ok(bytes) => came += bytes.len(),
                Err(_) => break,
            }
        }
    }
    drop((can_read, can_write));
    drop((input, output));
    Ok(format!("{came}\n"))
}

/// Sends one datagram and waits for one, for a while.
fn udp(target: &Target) -> Result<String, ErrorCode> {
    let to = address(target.get("to").unwrap_or_default());
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = bind_udp(address(target.get("from").unwrap_or(any)))?;
    let connected = (target.get("connected") == Some("yes")).then(|| to_wasi(to));
    let (incoming, outgoing) = socket.stream(connected)?;
    let datagram = OutgoingDatagram {
        data: target.get("send").unwrap_or_default().as_bytes().to_vec(),
        remote_address: connected.is_none().then(|| to_wasi(to)),
    };
    while outgoing.check_send()? == 0 {
        outgoing.subscribe().block();
    }
    outgoing.send(&[datagram])?;
    let patience = subscribe_duration(5_000_000_000);
    poll(&[&incoming.subscribe(), &patience]);
    let received = incoming.receive(1)?;
    let Some(reply) = received.first() else { return Err(ErrorCode::Timeout) };
    let text = String::from_utf8_lossy(&reply.data).into_owned();
    Ok(format!("{text}|{}\n", from_wasi(reply.remote_address)))
}

fn bind(target: &Target) -> Result<String, ErrorCode> {
    let at = address(target.get("at").unwrap_or_default());
    let local = match target.get("with") {
        Some("udp") => bind_udp(at)?.local_address()?,
        _ => listen(at)?.local_address()?,
    };
    Ok(format!("{}\n", from_wasi(local)))
}

/// How many sockets there may be, and what is said of one more.
fn many(count: u64) -> String {
    let mut sockets = Vec::new();
    for _ in 0..count {
        match create_tcp_socket(IpAddressFamily::Ipv4) {
            Ok(socket) => sockets.push(socket),
            Err(error) => return format!("{} {}\n", sockets.len(), error.name()),
        }
    }
    format!("{}\n", sockets.len())
}
