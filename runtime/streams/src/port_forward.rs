//! `portforward.k8s.io`: for each connection that a client forwards it opens two streams with one
//! request id, one for bytes and one for what went wrong.

use std::collections::HashMap;

use tokio_util::sync::CancellationToken;

use crate::{
    Wire,
    spdy::{Connection, Stream, header},
};

/// One connection to a port.
pub struct Forward {
    pub port: u16,
    pub data: Stream,
    /// Written where the connection fails; the client takes any text here as the end of it.
    pub error: Stream,
}

/// The connections that a client forwards, as they come.
pub struct Forwards {
    connection: Connection,
    /// The first stream of a pair, by request id.
    halves: HashMap<String, Stream>,
}

impl Forwards {
    /// Takes over an upgraded connection. Must be called inside a tokio runtime.
    pub fn start(wire: impl Wire) -> Self {
        Self { connection: Connection::start(wire), halves: HashMap::new() }
    }

    /// The next connection that has both its streams; None once the client has hung up. A stream
    /// that belongs to no pair is closed. As many halves wait as streams may be open.
    pub async fn next(&mut self) -> Option<Forward> {
        loop {
            let stream = self.connection.accept().await?;
            if let Some(forward) = self.pair(stream) {
                return Some(forward);
            }
        }
    }

    /// Told when the client has hung up.
    pub fn gone(&self) -> CancellationToken {
        self.connection.gone()
    }

    fn pair(&mut self, stream: Stream) -> Option<Forward> {
        let is_data = |stream: &Stream| match header(&stream.headers, "streamtype") {
            Some("data") => Some(true),
            Some("error") => Some(false),
            _ => None,
        };
        let port = header(&stream.headers, "port")?.parse().ok().filter(|port| *port > 0)?;
        let data_now = is_data(&stream)?;
        let id = header(&stream.headers, "requestid")?.to_owned();
        match self.halves.remove(&id) {
            None => {
                self.halves.insert(id, stream);
                None
            }
            Some(first) if is_data(&first) == Some(data_now) => None,
            Some(first) if data_now => Some(Forward { port, data: stream, error: first }),
            Some(first) => Some(Forward { port, data: first, error: stream }),
        }
    }
}
