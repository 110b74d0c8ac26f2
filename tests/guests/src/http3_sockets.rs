//! What `http_sockets` does, with the sockets of WASI 0.3.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::{Pin, pin},
    task::Poll,
};

use guests::{
    Target,
    sockets::address,
    sockets3::{bind_udp, connect, from_wasi, listen, look_up, name, to_wasi},
};
use wasip3::{
    clocks::monotonic_clock,
    http::types::{ErrorCode as HttpError, Fields, Request, Response},
    sockets::types::{ErrorCode, IpAddressFamily, IpSocketAddress, TcpSocket, UdpSocket},
    spawn_local,
    wit_bindgen::{StreamReader, StreamResult},
    wit_future, wit_stream,
};

type Receive<'a> = dyn Future<Output = Received> + 'a;
type Received = Result<(Vec<u8>, IpSocketAddress), ErrorCode>;

struct Sockets;

wasip3::http::service::export!(Sockets);

impl wasip3::exports::http::handler::Guest for Sockets {
    async fn handle(request: Request) -> Result<Response, HttpError> {
        let target = Target::parse(&request.get_path_with_query().unwrap_or_default());
        let done = match target.path.as_str() {
            "/tcp" => tcp(&target).await.map_err(name),
            "/through" => through(&target).await.map_err(name),
            "/twice" => twice(&target).await.map_err(name),
            "/udp" => udp(&target).await.map_err(name),
            "/name" => look_up(target.get("name").unwrap_or_default())
                .await
                .map(|found| found.iter().map(|ip| format!("{ip}\n")).collect()),
            "/bind" => bind(&target).map_err(name),
            "/many" => Ok(many(target.number("count"))),
            _ => Ok("hello\n".to_string()),
        };
        Ok(match done {
            Ok(text) => answer(200, text),
            Err(name) => answer(502, format!("{name}\n")),
        })
    }
}

/// Sends `send`, `times` times, and returns what comes until the end, or how many bytes that were.
async fn tcp(target: &Target) -> Result<String, ErrorCode> {
    let socket = connect(address(target.get("to").unwrap_or_default())).await?;
    let remote = from_wasi(socket.get_remote_address()?);
    let local = from_wasi(socket.get_local_address()?);
    let text = target.get("send").unwrap_or_default();
    let times = target.number("times").max(1);
    let (mut to, bytes) = wit_stream::new();
    let sent = socket.send(bytes);
    let (mut from, end) = socket.receive();
    if times == 1 {
        let unsent = to.write_all(text.as_bytes().to_vec()).await;
        assert!(unsent.is_empty() || text.is_empty(), "{} bytes were not sent", unsent.len());
        drop(to);
        sent.await?;
        let reply = String::from_utf8_lossy(&from.collect().await).into_owned();
        end.await?;
        return Ok(format!("{reply}|{remote}|{}\n", local.ip()));
    }
    // Both directions at once, more than any buffer holds.
    let block = text.as_bytes().repeat(4096 / text.len().max(1));
    spawn_local(async move {
        for _ in 0..times {
            to.write_all(block.clone()).await;
        }
    });
    let mut came = 0;
    while let Some(part) = next(&mut from).await {
        came += part.len();
    }
    sent.await?;
    end.await?;
    Ok(format!("{came}\n"))
}

/// What `a` answers is what `b` is sent, without a look at it; what `b` answers to that.
async fn through(target: &Target) -> Result<String, ErrorCode> {
    let a = connect(address(target.get("a").unwrap_or_default())).await?;
    let b = connect(address(target.get("b").unwrap_or_default())).await?;
    let (mut to, bytes) = wit_stream::new();
    let sent = a.send(bytes);
    let passed = b.send(a.receive().0);
    let (from, end) = b.receive();
    // The streams hold the connections.
    drop((a, b));
    to.write_all(target.get("send").unwrap_or_default().as_bytes().to_vec()).await;
    drop(to);
    sent.await?;
    let reply = String::from_utf8_lossy(&from.collect().await).into_owned();
    passed.await?;
    end.await?;
    Ok(format!("{reply}\n"))
}

/// What a socket may do once.
async fn twice(target: &Target) -> Result<String, ErrorCode> {
    let to = address(target.get("to").unwrap_or_default());
    let socket = connect(to).await?;
    let mut said = Vec::new();
    let again = socket.connect(to_wasi(to)).await;
    said.push(again.map_or_else(name, |()| "connected".into()));
    said.push(socket.listen().map_or_else(name, |_| "listens".into()));
    let (_incoming, _end) = socket.receive();
    let (incoming, end) = socket.receive();
    said.push(incoming.collect().await.len().to_string());
    said.push(end.await.map_or_else(name, |()| "received".into()));
    let (_to, bytes) = wit_stream::new();
    let _sent = socket.send(bytes);
    let (_to, bytes) = wit_stream::new();
    said.push(socket.send(bytes).await.map_or_else(name, |()| "sent".into()));
    let fresh = TcpSocket::create(IpAddressFamily::Ipv4)?;
    said.push(fresh.get_local_address().map_or_else(name, |at| from_wasi(at).to_string()));
    let refused = fresh.connect(to_wasi((to.ip(), 1).into())).await;
    said.push(refused.map_or_else(name, |()| "connected".into()));
    let closed = fresh.connect(to_wasi(to)).await;
    said.push(closed.map_or_else(name, |()| "connected".into()));
    Ok(format!("{}\n", said.join(" ")))
}

/// Waits for as many datagrams as it sends, `times`, for a while.
async fn udp(target: &Target) -> Result<String, ErrorCode> {
    let to = address(target.get("to").unwrap_or_default());
    let socket = match target.get("from") {
        Some(from) => bind_udp(address(from))?,
        // Sending gives it a port.
        None => UdpSocket::create(match to {
            SocketAddr::V4(_) => IpAddressFamily::Ipv4,
            SocketAddr::V6(_) => IpAddressFamily::Ipv6,
        })?,
    };
    let connected = target.get("connected") == Some("yes");
    if connected {
        socket.connect(to_wasi(to))?;
    }
    let given = (!connected).then(|| to_wasi(to));
    let data = target.get("send").unwrap_or_default().as_bytes().to_vec();
    let times = target.number("times").max(1);
    socket.send(data.clone(), given).await?;
    // Those that wait are there before what they wait for is sent.
    let waiting = (0..times).map(|_| Box::pin(socket.receive()) as Pin<Box<Receive<'_>>>).collect();
    let rest = async {
        for _ in 1..times {
            socket.send(data.clone(), given).await?;
        }
        Ok::<_, ErrorCode>(())
    };
    let both = all_of(all(waiting), rest);
    let patience = monotonic_clock::wait_for(5_000_000_000);
    let Some((received, sent)) = first(both, patience).await else {
        return Err(ErrorCode::Timeout);
    };
    sent?;
    let mut texts = Vec::new();
    for reply in received {
        let (data, sender) = reply?;
        texts.push(format!("{}|{}", String::from_utf8_lossy(&data), from_wasi(sender)));
    }
    Ok(format!("{}\n", texts.join(" ")))
}

fn bind(target: &Target) -> Result<String, ErrorCode> {
    let at = address(target.get("at").unwrap_or_default());
    let local = match target.get("with") {
        Some("udp") => bind_udp(at)?.get_local_address()?,
        _ => listen(at)?.0.get_local_address()?,
    };
    Ok(format!("{}\n", from_wasi(local)))
}

/// How many sockets there may be, and what is said of one more.
fn many(count: u64) -> String {
    let mut sockets = Vec::new();
    for _ in 0..count {
        match TcpSocket::create(IpAddressFamily::Ipv4) {
            Ok(socket) => sockets.push(socket),
            Err(code) => return format!("{} {}\n", sockets.len(), name(code)),
        }
    }
    format!("{}\n", sockets.len())
}

fn answer(status: u16, text: String) -> Response {
    let (mut to, bytes) = wit_stream::new();
    spawn_local(async move {
        to.write_all(text.into_bytes()).await;
    });
    let (writer, end) = wit_future::new(|| Ok(None));
    drop(writer);
    let response = Response::new(Fields::new(), Some(bytes), end).0;
    response.set_status_code(status).expect("a status");
    response
}

async fn next(from: &mut StreamReader<u8>) -> Option<Vec<u8>> {
    let (result, part) = from.read(Vec::with_capacity(1 << 16)).await;
    matches!(result, StreamResult::Complete(_)).then_some(part)
}

async fn all<T>(mut futures: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let Poll::Ready(result) = future.as_mut().poll(cx)
            {
                *done = Some(result);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

async fn all_of<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> (A, B) {
    let (mut a, mut b) = (pin!(a), pin!(b));
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(done) = a.as_mut().poll(cx)
        {
            first = Some(done);
        }
        if second.is_none()
            && let Poll::Ready(done) = b.as_mut().poll(cx)
        {
            second = Some(done);
        }
        if first.is_some() && second.is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    (first.expect("is there"), second.expect("is there"))
}

/// None where `b` is done first.
async fn first<A, B>(a: impl Future<Output = A>, b: impl Future<Output = B>) -> Option<A> {
    let (mut a, mut b) = (pin!(a), pin!(b));
    poll_fn(|cx| match a.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => b.as_mut().poll(cx).map(|_| None),
    })
    .await
}
