//! Whole sessions over in-memory connections, with a client that speaks the protocol from outside.

use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};
use windlass_runtime_streams::{
    ChannelProtocol, Forwards, Outcome, Session, Wanted, accept_key, open, session_over_spdy,
    session_over_websocket,
    spdy::{Decoder, Encoder, Frame, Headers},
    tunnel,
};

/// A client at the level of frames.
struct Client {
    wire: DuplexStream,
    encoder: Encoder,
    decoder: Decoder,
}

impl Client {
    fn new() -> (Self, DuplexStream) {
        let (near, far) = tokio::io::duplex(64 * 1024);
        (Self { wire: near, encoder: Encoder::default(), decoder: Decoder::default() }, far)
    }

    async fn send(&mut self, frames: &[Frame]) {
        let mut out = BytesMut::new();
        frames.iter().for_each(|frame| self.encoder.write(frame, &mut out));
        self.wire.write_all(&out).await.expect("written");
    }

    /// The next frame; None at the end.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("well-formed") {
                return Some(frame);
            }
            let mut buffer = [0; 1024];
            match self.wire.read(&mut buffer).await.expect("readable") {
                0 => return None,
                bytes => self.decoder.push(&buffer[..bytes]),
            }
        }
    }

    /// What is sent until the end, as one text a stream.
    async fn rest(&mut self, streams: &[u32]) -> Vec<String> {
        let mut texts = vec![String::new(); streams.len()];
        while let Some(frame) = self.next().await {
            if let Frame::Data { id, payload, fin } = frame
                && let Some(at) = streams.iter().position(|known| *known == id)
            {
                texts[at] += &String::from_utf8_lossy(&payload);
                texts[at] += if fin { "." } else { "" };
            }
        }
        texts
    }
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn syn(id: u32, pairs: &[(&str, &str)]) -> Frame {
    Frame::SynStream { id, headers: headers(pairs), fin: false }
}

fn data(id: u32, text: &str, fin: bool) -> Frame {
    Frame::Data { id, payload: Bytes::copy_from_slice(text.as_bytes()), fin }
}

const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };

/// A program that copies stdin to stdout in upper case, complains, and ends with 3.
async fn upper_case(session: Session) {
    let Session { stdin, stdout, stderr, end, .. } = session;
    let (mut text, mut stdin) = (String::new(), stdin.expect("stdin"));
    stdin.read_to_string(&mut text).await.expect("read");
    let (mut stdout, mut stderr) = (stdout.expect("stdout"), stderr.expect("stderr"));
    stdout.write_all(text.to_uppercase().as_bytes()).await.expect("written");
    stderr.write_all(b"done").await.expect("written");
    drop((stdin, stdout, stderr));
    end.tell(Outcome { status: "{3}".into(), error: "three".into() }).await;
}

#[tokio::test]
async fn a_session_over_spdy() {
    let (mut client, server) = Client::new();
    let program = tokio::spawn(async move {
        upper_case(session_over_spdy(server, ALL).await.expect("a session")).await;
    });
    let kinds = ["error", "stdin", "stdout", "stderr"];
    let opening: Vec<Frame> =
        (0..4).map(|n| syn(2 * n + 1, &[("streamtype", kinds[n as usize])])).collect();
    client.send(&opening).await;
    for n in 0..4 {
        let reply = Frame::SynReply { id: 2 * n + 1, headers: vec![], fin: false };
        assert_eq!(client.next().await, Some(reply));
    }
    client.send(&[Frame::Ping(1), data(3, "hello ", false), data(3, "there", true)]).await;
    assert_eq!(client.next().await, Some(Frame::Ping(1)));
    assert_eq!(client.rest(&[5, 7, 1]).await, ["HELLO THERE.", "done.", "{3}."]);
    drop(client);
    program.await.expect("ended");
}

#[tokio::test]
async fn a_session_whose_client_hangs_up_is_told() {
    let (mut client, server) = Client::new();
    let wanted = Wanted { stdout: true, ..Wanted::default() };
    client.send(&[syn(1, &[("streamtype", "error")]), syn(3, &[("streamtype", "stdout")])]).await;
    let session = session_over_spdy(server, wanted).await.expect("a session");
    drop(client);
    session.gone.cancelled().await;
}

#[tokio::test]
async fn what_is_malformed_ends_the_connection_with_one_error() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x80, 2, 0, 6, 0, 0, 0, 4],
        &[0x80, 3, 0, 1, 0xff, 0, 0, 0],
    ] {
        let (mut client, server) = Client::new();
        let mut forwards = Forwards::start(server);
        client.wire.write_all(bytes).await.expect("written");
        if bytes[0] != b'G' {
            let bye = Frame::GoAway { last: 0, status: 1 };
            assert_eq!(client.next().await, Some(bye), "{bytes:x?}");
            assert_eq!(client.next().await, None);
        }
        drop(client);
        assert!(forwards.next().await.is_none());
    }
    // Stream numbers of the wrong kind and order.
    for ids in [&[2][..], &[3, 3], &[5, 3]] {
        let (mut client, server) = Client::new();
        let _forwards = Forwards::start(server);
        let opening: Vec<Frame> = ids.iter().map(|id| syn(*id, &[])).collect();
        client.send(&opening).await;
        let mut ended = false;
        while let Some(frame) = client.next().await {
            ended |= matches!(frame, Frame::GoAway { status: 1, .. });
        }
        assert!(ended, "{ids:?}");
    }
}

#[tokio::test]
async fn streams_past_the_bound_are_refused() {
    let (mut client, server) = Client::new();
    let mut forwards = Forwards::start(server);
    let (mut replied, mut refused) = (0, 0);
    let taking = tokio::spawn(async move { while forwards.next().await.is_some() {} });
    for n in 0..1030u32 {
        let id = n.to_string();
        let pairs = [("streamtype", "error"), ("port", "80"), ("requestid", &id)];
        client.send(&[syn(2 * n + 1, &pairs)]).await;
        match client.next().await {
            Some(Frame::SynReply { .. }) => replied += 1,
            Some(Frame::Reset { status: 3, .. }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((replied, refused), (1024, 6));
    drop(client);
    taking.await.expect("ended");
}

#[tokio::test]
async fn forwards_are_pairs_also_inside_websocket_messages() {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let client = WebSocketStream::from_raw_socket(
        near,
        tokio_tungstenite::tungstenite::protocol::Role::Client,
        None,
    );
    let (mut client, socket) = tokio::join!(client, open(far));
    let mut forwards = Forwards::start(tunnel(socket));
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    let pair = |kind: &'static str, id: &'static str| {
        [("streamtype", kind), ("port", "8080"), ("requestid", id)]
    };
    for frame in [
        syn(1, &pair("error", "0")),
        Frame::Data { id: 1, payload: Bytes::new(), fin: true },
        syn(3, &pair("error", "1")),
        syn(5, &pair("data", "1")),
        syn(7, &pair("data", "0")),
        data(5, "ping", true),
    ] {
        encoder.write(&frame, &mut out);
    }
    // Messages don't have to end where frames do.
    for piece in out.chunks(7) {
        client.send(Message::binary(piece.to_vec())).await.expect("sent");
    }
    let mut first = forwards.next().await.expect("a connection");
    assert_eq!(first.port, 8080);
    let mut text = String::new();
    first.data.read_to_string(&mut text).await.expect("read");
    assert_eq!(text, "ping");
    first.data.write_all(b"pong").await.expect("written");
    drop(first);
    assert!(forwards.next().await.is_some());
    let (mut decoder, mut answered) = (Decoder::default(), String::new());
    while !answered.ends_with('.') {
        let message = client.next().await.expect("a message").expect("well-formed");
        decoder.push(&message.into_data());
        while let Some(frame) = decoder.next_frame().expect("well-formed") {
            if let Frame::Data { id: 5, payload, fin } = frame {
                answered += &String::from_utf8_lossy(&payload);
                answered += if fin { "." } else { "" };
            }
        }
    }
    assert_eq!(answered, "pong.");
}

#[tokio::test]
async fn sessions_over_channels() {
    for (protocol, closes, status) in [
        (ChannelProtocol::V5, true, "{3}"),
        (ChannelProtocol::V4, false, "{3}"),
        (ChannelProtocol::V1, false, "three"),
    ] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
        let client = WebSocketStream::from_raw_socket(near, role, None);
        let (mut client, socket) = tokio::join!(client, open(far));
        let wanted = Wanted { stdin: closes, ..ALL };
        let session = session_over_websocket(socket, protocol, wanted);
        let program = tokio::spawn(async move {
            match session.stdin.is_some() {
                true => upper_case(session).await,
                false => {
                    let stdin: std::pin::Pin<Box<dyn tokio::io::AsyncRead + Send>> =
                        Box::pin(&b"hello"[..]);
                    upper_case(Session { stdin: Some(stdin), ..session }).await;
                }
            }
        });
        if closes {
            for message in [&b"\0hel"[..], b"\x04{\"Width\":80}", b"\0lo", b"\xff\0"] {
                client.send(Message::binary(message.to_vec())).await.expect("sent");
            }
        }
        let mut told = vec![String::new(); 4];
        while let Some(Ok(message)) = client.next().await {
            match message {
                Message::Binary(bytes) => {
                    told[usize::from(bytes[0])] += &String::from_utf8_lossy(&bytes[1..]);
                }
                Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), 1000),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, ["", "HELLO", "done", status]);
        drop(client);
        program.await.expect("ended");
    }
}

#[tokio::test]
async fn a_client_that_closes_ends_its_stdin_and_is_gone() {
    // Version 4 has no other way to end stdin.
    for protocol in [ChannelProtocol::V5, ChannelProtocol::V4] {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
        let client = WebSocketStream::from_raw_socket(near, role, None);
        let (mut client, socket) = tokio::join!(client, open(far));
        let mut session = session_over_websocket(socket, protocol, ALL);
        client.send(Message::binary(b"\0half".to_vec())).await.expect("sent");
        client.close(None).await.expect("closed");
        let mut text = String::new();
        let mut stdin = session.stdin.take().expect("stdin");
        stdin.read_to_string(&mut text).await.expect("read");
        assert_eq!(text, "half");
        session.gone.cancelled().await;
    }
}

#[test]
fn the_accept_key_of_the_standard() {
    assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let id = 0u32..0x8000_0000;
    let headers = || prop::collection::vec(("[a-z]{0,12}", ".{0,40}"), 0..5);
    let bytes = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        (id.clone(), headers(), any::<bool>()).prop_map(|(id, headers, fin)| Frame::SynStream {
            id,
            headers,
            fin
        }),
        (id.clone(), headers(), any::<bool>()).prop_map(|(id, headers, fin)| Frame::SynReply {
            id,
            headers,
            fin
        }),
        (id.clone(), headers(), any::<bool>()).prop_map(|(id, headers, fin)| Frame::Headers {
            id,
            headers,
            fin
        }),
        (id.clone(), bytes, any::<bool>()).prop_map(|(id, bytes, fin)| Frame::Data {
            id,
            payload: bytes.into(),
            fin
        }),
        (id.clone(), any::<u32>()).prop_map(|(id, status)| Frame::Reset { id, status }),
        (id.clone(), any::<u32>()).prop_map(|(last, status)| Frame::GoAway { last, status }),
        (id.clone(), id).prop_map(|(id, delta)| Frame::WindowUpdate { id, delta }),
        any::<u32>().prop_map(Frame::Ping),
        Just(Frame::Settings),
    ]
}

/// Puts the parts of data frames together again.
fn joined(frames: Vec<Frame>) -> Vec<Frame> {
    let mut whole: Vec<Frame> = Vec::new();
    let mut open = false;
    for frame in frames {
        match (frame, whole.last_mut()) {
            (
                Frame::Data { id, payload, fin },
                Some(Frame::Data { payload: before, fin: ended, id: same }),
            ) if open && id == *same => {
                *before = [&before[..], &payload[..]].concat().into();
                *ended = fin;
            }
            (frame, _) => whole.push(frame),
        }
        open = matches!(whole.last(), Some(Frame::Data { fin: false, payload, .. }) if !payload.is_empty());
    }
    whole
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn frames_come_back_however_their_bytes_are_split(
        frames in prop::collection::vec(any_frame(), 1..8),
        cuts in prop::collection::vec(1usize..40, 1..20),
    ) {
        let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
        frames.iter().for_each(|frame| encoder.write(frame, &mut out));
        let (mut decoder, mut read, mut cuts) = (Decoder::default(), Vec::new(), cuts.iter().cycle());
        while !out.is_empty() {
            let at = (*cuts.next().expect("endless")).min(out.len());
            decoder.push(&out.split_to(at));
            while let Some(frame) = decoder.next_frame().expect("well-formed") {
                read.push(frame);
            }
        }
        prop_assert_eq!(joined(read), joined(frames));
    }

    #[test]
    fn any_bytes_are_an_error_or_frames(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut decoder = Decoder::default();
        decoder.push(&bytes);
        while let Ok(Some(_)) = decoder.next_frame() {}
    }
}
