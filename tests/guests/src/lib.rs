//! What the guests share. WASI is called directly and `std::io` never, so the same source builds
//! for `wasm32-wasip2` and, with rebuilt std, for `wasm32-unknown-unknown`.

/// Addresses of sockets, for the types that are in scope: those of two versions of WASI are alike.
macro_rules! addresses {
    () => {
        pub fn to_wasi(address: SocketAddr) -> IpSocketAddress {
            match address {
                SocketAddr::V4(v4) => {
                    let [a, b, c, d] = v4.ip().octets();
                    IpSocketAddress::Ipv4(Ipv4SocketAddress {
                        port: v4.port(),
                        address: (a, b, c, d),
                    })
                }
                SocketAddr::V6(v6) => {
                    let [a, b, c, d, e, f, g, h] = v6.ip().segments();
                    let address = (a, b, c, d, e, f, g, h);
                    let (port, scope_id, flow_info) = (v6.port(), v6.scope_id(), v6.flowinfo());
                    IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info, address, scope_id })
                }
            }
        }

        pub fn from_wasi(address: IpSocketAddress) -> SocketAddr {
            match address {
                IpSocketAddress::Ipv4(v4) => (ip(IpAddress::Ipv4(v4.address)), v4.port).into(),
                IpSocketAddress::Ipv6(v6) => (ip(IpAddress::Ipv6(v6.address)), v6.port).into(),
            }
        }

        fn ip(address: IpAddress) -> IpAddr {
            match address {
                IpAddress::Ipv4((a, b, c, d)) => [a, b, c, d].into(),
                IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => [a, b, c, d, e, f, g, h].into(),
            }
        }

        fn family(of: SocketAddr) -> IpAddressFamily {
            if of.is_ipv4() { IpAddressFamily::Ipv4 } else { IpAddressFamily::Ipv6 }
        }
    };
}

pub mod sockets;
pub mod sockets3;

use wasip2::{
    clocks::monotonic_clock::subscribe_duration,
    http::{
        outgoing_handler,
        types::{
            ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse,
            OutputStream, ResponseOutparam, Scheme,
        },
    },
};

/// Path and query of a request, taken apart: `/grow?mib=3` is (`/grow`, [(`mib`, `3`)]).
pub struct Target {
    pub path: String,
    pub query: Vec<(String, String)>,
}

impl Target {
    pub fn of(request: &IncomingRequest) -> Self {
        Self::parse(&request.path_with_query().unwrap_or_default())
    }

    pub fn parse(whole: &str) -> Self {
        let (path, query) = whole.split_once('?').unwrap_or((whole, ""));
        let query = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_string(), value.to_string()))
            .collect();
        Self { path: path.to_string(), query }
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn number(&self, key: &str) -> u64 {
        self.get(key).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

pub fn answer(to: ResponseOutparam, status: u16, text: &[u8]) {
    let response = OutgoingResponse::new(Fields::new());
    let _ = response.set_status_code(status);
    let body = response.body().expect("taken once");
    ResponseOutparam::set(to, Ok(response));
    if let Ok(stream) = body.write() {
        write(&stream, text);
    }
    let _ = OutgoingBody::finish(body, None);
}

/// What `http://HOST[:PORT]/PATH` answers: status and body.
pub fn fetch(url: &str) -> Result<(u16, Vec<u8>), ErrorCode> {
    let (scheme, rest) = url.split_once("://").ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let _ = request.set_scheme(Some(&scheme));
    let _ = request.set_authority(Some(authority));
    let _ = request.set_path_with_query(Some(if path.is_empty() { "/" } else { path }));
    let answer = outgoing_handler::handle(request, None)?;
    answer.subscribe().block();
    let response = answer.get().expect("is ready").expect("taken once")?;
    let body = response.consume().expect("taken once");
    let stream = body.stream().expect("taken once");
    let mut bytes = Vec::new();
    while let Ok(chunk) = stream.blocking_read(64 * 1024) {
        bytes.extend(chunk);
    }
    Ok((response.status(), bytes))
}

/// `blocking_write_and_flush` takes at most 4096 bytes.
pub fn write(stream: &OutputStream, bytes: &[u8]) {
    for chunk in bytes.chunks(4096) {
        let _ = stream.blocking_write_and_flush(chunk);
    }
}

pub fn sleep_ms(ms: u64) {
    subscribe_duration(ms * 1_000_000).block();
}

pub fn say(text: &str) {
    write(&wasip2::cli::stdout::get_stdout(), text.as_bytes());
}

pub fn complain(text: &str) {
    write(&wasip2::cli::stderr::get_stderr(), text.as_bytes());
}

/// Takes memory, writes to every page of it, and gives it back when dropped.
pub fn take_mib(mib: u64) -> Vec<u8> {
    let mut taken = Vec::with_capacity((mib as usize) << 20);
    taken.resize((mib as usize) << 20, 1);
    std::hint::black_box(taken)
}
