//! `channel.k8s.io` and its versions: WebSocket messages whose first byte is the number of a
//! stream.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::{mpsc, oneshot},
};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    BUFFER_BYTES, FLUSH, LINGER, Session, Wanted, Wire,
    resize::{SIZES, size},
    session::{End, Outcome, Told},
    websocket::goodbye,
};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// Followed by the number of a stream that the client won't write to any more; from version 5 on.
const CLOSE: u8 = 255;
const READ_BYTES: usize = 16 * 1024;
/// Messages that wait to be written.
const MESSAGES: usize = 16;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelProtocol {
    V5,
    V4,
    /// Text messages: the number as a digit, then base64.
    V4Base64,
    /// The outcome is plain text, and nothing where all went well.
    V1,
    V1Base64,
}

impl ChannelProtocol {
    /// Every version by its name as a subprotocol, the best first.
    pub const ALL: [(&'static str, Self); 5] = [
        ("v5.channel.k8s.io", Self::V5),
        ("v4.channel.k8s.io", Self::V4),
        ("v4.base64.channel.k8s.io", Self::V4Base64),
        ("channel.k8s.io", Self::V1),
        ("base64.channel.k8s.io", Self::V1Base64),
    ];

    fn is_base64(self) -> bool {
        matches!(self, Self::V4Base64 | Self::V1Base64)
    }

    fn encode(self, channel: u8, bytes: &[u8]) -> Message {
        if self.is_base64() {
            return Message::text(format!("{channel}{}", STANDARD.encode(bytes)));
        }
        let mut message = Vec::with_capacity(bytes.len() + 1);
        message.push(channel);
        message.extend_from_slice(bytes);
        Message::binary(message)
    }

    /// The stream and what was sent on it; None: nothing to take.
    fn decode(self, message: Message) -> Option<(u8, Bytes)> {
        match message {
            Message::Binary(bytes) if !self.is_base64() => {
                Some((*bytes.first()?, bytes.slice(1..)))
            }
            Message::Text(text) if self.is_base64() => {
                let (digit, rest) = text.as_bytes().split_first()?;
                let channel = char::from(*digit).to_digit(10)?;
                Some((u8::try_from(channel).ok()?, STANDARD.decode(rest).ok()?.into()))
            }
            _ => None,
        }
    }

    fn outcome(self, outcome: &Outcome) -> Option<Message> {
        let text = match self {
            Self::V5 | Self::V4 | Self::V4Base64 => &outcome.status,
            Self::V1 | Self::V1Base64 => &outcome.error,
        };
        (!text.is_empty()).then(|| self.encode(ERROR, text.as_bytes()))
    }
}

/// The streams of a session whose client speaks one of these protocols. Must be called inside a
/// tokio runtime.
pub fn session_over_websocket<W: Wire>(
    socket: WebSocketStream<W>,
    protocol: ChannelProtocol,
    wanted: Wanted,
) -> Session {
    let (sink, messages) = socket.split();
    let (send, queued) = mpsc::channel(MESSAGES);
    let (gone, tasks) = (CancellationToken::new(), TaskTracker::new());
    let output = |channel: u8, is_wanted: bool| {
        is_wanted.then(|| {
            let (near, far) = tokio::io::duplex(BUFFER_BYTES);
            tasks.spawn(to_client(protocol, channel, far, send.clone()));
            near
        })
    };
    let (stdout, stderr) = (output(STDOUT, wanted.stdout), output(STDERR, wanted.stderr));
    let (near, far) = tokio::io::duplex(BUFFER_BYTES);
    let (outcome, told) = oneshot::channel();
    let (sizes, resize) = mpsc::channel(SIZES);
    let session = Session {
        stdin: wanted.stdin.then(|| -> std::pin::Pin<Box<_>> { Box::pin(near) }).map(|s| s as _),
        stdout: stdout.map(|stream| Box::pin(stream) as _),
        stderr: stderr.map(|stream| Box::pin(stream) as _),
        resize: wanted.tty.then_some(resize),
        gone: gone.clone(),
        end: End(outcome),
    };
    let over = gone.clone();
    tokio::spawn(async move {
        from_client(protocol, messages, far, sizes).await;
        over.cancel();
    });
    let over = gone.clone();
    tokio::spawn(async move {
        if write(sink, queued, &over).await.is_err() {
            over.cancel();
        }
    });
    tokio::spawn(end(protocol, told, send, tasks, gone));
    session
}

/// Waits for the outcome, sends it after all else, and lets the client hang up.
async fn end(
    protocol: ChannelProtocol,
    told: oneshot::Receiver<Told>,
    send: mpsc::Sender<Message>,
    tasks: TaskTracker,
    gone: CancellationToken,
) {
    let over = gone.clone().drop_guard();
    let told = tokio::select! {
        biased;
        told = told => told,
        // Its outcome has no reader any more.
        () = gone.cancelled() => return,
    };
    let Ok((outcome, _done)) = told else { return };
    tasks.close();
    let _ = tokio::time::timeout(FLUSH, tasks.wait()).await;
    if let Some(message) = protocol.outcome(&outcome) {
        let _ = send.send(message).await;
    }
    let _ = send.send(goodbye()).await;
    let _ = tokio::time::timeout(LINGER, gone.cancelled()).await;
    drop(over);
}

/// What the client writes.
async fn from_client<S>(
    protocol: ChannelProtocol,
    mut messages: S,
    stdin: DuplexStream,
    sizes: mpsc::Sender<(u16, u16)>,
) where
    S: futures::Stream<Item = Result<Message, tokio_tungstenite::tungstenite::Error>> + Unpin,
{
    let mut stdin = Some(stdin);
    while let Some(Ok(message)) = messages.next().await {
        match protocol.decode(message) {
            Some((STDIN, bytes)) => {
                if let Some(open) = &mut stdin
                    && open.write_all(&bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            Some((RESIZE, bytes)) => {
                // Nobody may be interested.
                let _ = size(&bytes).map(|size| sizes.try_send(size));
            }
            Some((CLOSE, bytes)) if protocol == ChannelProtocol::V5 && *bytes == [STDIN] => {
                stdin = None;
            }
            _ => {}
        }
    }
}

async fn to_client(
    protocol: ChannelProtocol,
    channel: u8,
    mut from: DuplexStream,
    send: mpsc::Sender<Message>,
) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(bytes @ 1..) = from.read(&mut buffer).await {
        if send.send(protocol.encode(channel, &buffer[..bytes])).await.is_err() {
            return;
        }
    }
}

async fn write<S>(
    mut sink: S,
    mut queued: mpsc::Receiver<Message>,
    gone: &CancellationToken,
) -> Result<(), ()>
where
    S: futures::Sink<Message> + Unpin,
{
    loop {
        let message = tokio::select! {
            biased;
            () = gone.cancelled() => return Ok(()),
            message = queued.recv() => message,
        };
        let Some(message) = message else { return Ok(()) };
        let is_last = matches!(message, Message::Close(_));
        tokio::select! {
            biased;
            () = gone.cancelled() => return Ok(()),
            sent = sink.send(message) => sent.map_err(drop)?,
        }
        if is_last {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_a_number_and_bytes() {
        for (name, protocol) in ChannelProtocol::ALL {
            let message = protocol.encode(STDOUT, b"hello \xff");
            let read = protocol.decode(message);
            assert_eq!(read, Some((STDOUT, Bytes::from_static(b"hello \xff"))), "{name}");
        }
        let (v5, text) = (ChannelProtocol::V5, ChannelProtocol::V1Base64);
        assert_eq!(v5.encode(3, b"x"), Message::binary(vec![3, b'x']));
        assert_eq!(text.encode(1, b"hi"), Message::text("1aGk="));
        for message in [Message::binary(vec![]), Message::text("0aGk=")] {
            assert_eq!(v5.decode(message), None);
        }
        for message in ["", "x", "0*", "é"] {
            assert_eq!(text.decode(Message::text(message)), None, "{message}");
        }
    }

    #[test]
    fn outcomes_are_told_as_the_version_has_it() {
        let well = Outcome { status: "{}".into(), error: String::new() };
        assert_eq!(ChannelProtocol::V4.outcome(&well), Some(Message::binary(b"\x03{}".to_vec())));
        assert_eq!(ChannelProtocol::V1.outcome(&well), None);
        let badly = Outcome { error: "no".into(), ..well };
        assert_eq!(ChannelProtocol::V1.outcome(&badly), Some(Message::binary(b"\x03no".to_vec())));
    }
}
