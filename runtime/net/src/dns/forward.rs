//! Questions that aren't the cluster's, asked of the machine's resolvers.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use windlass_sdk_meta::Rng;

/// How long one resolver is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Datagrams that are passed over because they answer no question of ours.
const STRANGERS: usize = 16;
/// The largest answer.
pub(super) const MESSAGE_BYTES: usize = 65_535;
const HEADER_BYTES: usize = 12;

/// Which transport the question came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// The first answer that a resolver gives, with the question's own ID.
pub(super) async fn ask(
    resolvers: &[SocketAddr],
    question: &[u8],
    transport: Transport,
    rng: &Rng,
) -> io::Result<Vec<u8>> {
    let Some(own_id) = question.first_chunk::<2>() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the machine has no resolvers");
    for resolver in resolvers {
        // Both the ID and the socket's port are hard to guess for who wants to answer first.
        let [high, low, ..] = rng.next_u64().to_be_bytes();
        let mut asked = question.to_vec();
        asked[..2].copy_from_slice(&[high, low]);
        let asking = async {
            match transport {
                Transport::Udp => by_udp(*resolver, &asked).await,
                Transport::Tcp => by_tcp(*resolver, &asked).await,
            }
        };
        match timeout(PATIENCE, asking).await {
            Ok(Ok(mut answer)) => {
                answer[..2].copy_from_slice(own_id);
                return Ok(answer);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

async fn by_udp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match resolver {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut answer = vec![0; MESSAGE_BYTES];
    for _ in 0..STRANGERS {
        let length = socket.recv(&mut answer).await?;
        if answers(question, &answer[..length]) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

async fn by_tcp(resolver: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(question.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    match answers(question, &answer) {
        true => Ok(answer),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// The answer has the question's ID and repeats the question. One that says only that it failed may
/// leave the question out.
fn answers(question: &[u8], answer: &[u8]) -> bool {
    let Some(header) = answer.first_chunk::<HEADER_BYTES>() else { return false };
    let is_response = header[2] & 0x80 != 0;
    let failed = header[3] & 0x0f != 0 && header[4..6] == [0, 0];
    let end = question_end(question);
    let repeats = end.is_some_and(|end| {
        let wanted = question.get(HEADER_BYTES..end);
        let got = answer.get(HEADER_BYTES..end);
        wanted.zip(got).is_some_and(|(wanted, got)| wanted.eq_ignore_ascii_case(got))
    });
    is_response && question.get(..2) == Some(&header[..2]) && (failed || repeats)
}

/// Where the first question ends: labels, type, class.
fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER_BYTES;
    loop {
        match *message.get(at)? {
            0 => return Some(at + 5),
            length if length < 64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_to_the_question_counts() {
        let question = b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x01\0\x01".as_slice();
        let with = |at: usize, byte: u8| {
            let mut answer = question.to_vec();
            answer[2] = 0x81;
            answer[at] = byte;
            answer
        };
        assert!(answers(question, &with(2, 0x81)));
        assert!(answers(question, &with(13, b'A')), "names have no case");
        assert!(!answers(question, &with(0, 0x13)), "another ID");
        assert!(!answers(question, &with(2, 0x01)), "a question");
        assert!(!answers(question, &with(13, b'x')), "another name");
        assert!(!answers(question, &with(2, 0x81)[..14]), "cut off");
        let failed = b"\x12\x34\x81\x82\0\0\0\0\0\0\0\0";
        assert!(answers(question, failed));
        assert!(!answers(b"", b""));
    }
}
