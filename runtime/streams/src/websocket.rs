//! WebSocket as far as sessions need it: taking over an upgraded connection, and a byte stream
//! carried in binary messages (`SPDY/3.1+portforward.k8s.io`).

use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{BUFFER_BYTES, LINGER, Wire};

/// Bytes of a message that is taken.
const MESSAGE_BYTES: usize = 1024 * 1024;
const READ_BYTES: usize = 16 * 1024;

/// `Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key` (RFC 6455, 4.2.2).
pub fn accept_key(key: &str) -> String {
    derive_accept_key(key.as_bytes())
}

/// Takes over an upgraded connection.
pub async fn open<W: Wire>(wire: W) -> WebSocketStream<W> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES));
    WebSocketStream::from_raw_socket(wire, Role::Server, Some(config)).await
}

/// The bytes that binary messages carry, as one stream. Must be called inside a tokio runtime.
pub fn tunnel<W: Wire>(socket: WebSocketStream<W>) -> DuplexStream {
    let (near, far) = tokio::io::duplex(BUFFER_BYTES);
    tokio::spawn(async move {
        let (mut sink, mut messages) = socket.split();
        let (mut read, mut write) = tokio::io::split(far);
        let inbound = async {
            while let Some(Ok(message)) = messages.next().await {
                let written = match message {
                    Message::Binary(bytes) => write.write_all(&bytes).await,
                    Message::Close(_) => break,
                    _ => Ok(()),
                };
                if written.is_err() {
                    break;
                }
            }
            // The reader sees the end.
            let _ = write.shutdown().await;
            while let Some(Ok(_)) = messages.next().await {}
        };
        let outbound = async {
            let mut buffer = vec![0; READ_BYTES];
            while let Ok(bytes @ 1..) = read.read(&mut buffer).await {
                if sink.send(Message::binary(buffer[..bytes].to_vec())).await.is_err() {
                    return;
                }
            }
            let _ = sink.send(goodbye()).await;
        };
        tokio::pin!(inbound, outbound);
        tokio::select! {
            biased;
            () = &mut inbound => {}
            () = &mut outbound => {
                let _ = tokio::time::timeout(LINGER, inbound).await;
            }
        }
    });
    near
}

/// A normal end, which clients tell from a lost connection.
pub(crate) fn goodbye() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: "".into() }))
}
