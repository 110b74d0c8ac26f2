//! The protocols in which `kubectl exec`, `attach` and `port-forward` talk to a node once their
//! HTTP request was upgraded: SPDY/3.1, SPDY/3.1 inside WebSocket messages, and numbered channels
//! over WebSocket. Turned into plain byte streams here, so that neither the agent nor a runtime
//! knows which of them a client speaks. Knows neither HTTP, nor Kubernetes objects, nor wasmtime.

mod channels;
mod port_forward;
mod resize;
mod session;
pub mod spdy;
mod websocket;

pub use channels::{ChannelProtocol, session_over_websocket};
pub use port_forward::{Forward, Forwards};
pub use session::{End, Outcome, Session, SessionError, Wanted, session_over_spdy};
pub use websocket::{accept_key, open, tunnel};

/// What carries a session: an upgraded connection.
pub trait Wire: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static {}

impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static> Wire for T {}

/// How long a side that has said all waits for the other to hang up: closing while the other still
/// sends would reset the connection, and what is on its way to it would be lost.
const LINGER: std::time::Duration = std::time::Duration::from_secs(5);
/// How long the last bytes of a session may take to be read by its client.
const FLUSH: std::time::Duration = std::time::Duration::from_secs(30);
/// Bytes between a program and the wire, a stream and direction.
const BUFFER_BYTES: usize = 64 * 1024;
