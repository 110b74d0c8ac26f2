//! What a container wrote to its terminal, as the engine has it: one stream without frames, of pieces
//! that begin with their time and end with their line, or go on in the next piece where that is
//! longer than the engine's buffer. Read here and not by the client of the engine, which waits for
//! the end of a line however long it is, and knows nothing of pieces.

use std::io;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};
use windlass_sdk_meta::Timestamp;

/// The engine's buffer: a longer line comes in pieces of exactly so many bytes.
const PIECE_BYTES: usize = 16 << 10;
/// The longest time, with the blank behind it.
const TIME_BYTES: usize = 40;
/// Bytes that are read at a time.
const READ_BYTES: usize = 64 << 10;
/// The head of an answer.
const HEAD_BYTES: usize = 16 << 10;

/// A line, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    pub at: Timestamp,
    pub whole: bool,
    pub text: Vec<u8>,
}

/// The log of one container, as it comes.
pub struct Terminal {
    stream: UnixStream,
    pieces: Pieces,
    buffer: Vec<u8>,
    /// Nothing comes after what is there: the last piece may be without an end.
    finite: bool,
}

impl Terminal {
    /// Asks the engine that listens at `socket`; from the second `since` on, for as long as the
    /// container runs where `follow` says so.
    pub async fn open(socket: &str, id: &str, since: i64, follow: bool) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket).await?;
        // In this version of HTTP the body is what comes until the connection ends.
        let request = format!(
            "GET /containers/{id}/logs?stdout=1&stderr=1&timestamps=1&since={since}&follow={} \
             HTTP/1.0\r\nHost: docker\r\n\r\n",
            u8::from(follow)
        );
        stream.write_all(request.as_bytes()).await?;
        let mut terminal = Self {
            stream,
            pieces: Pieces::default(),
            buffer: vec![0; READ_BYTES],
            finite: !follow,
        };
        terminal.head().await?;
        Ok(terminal)
    }

    async fn head(&mut self) -> io::Result<()> {
        let mut head = Vec::new();
        loop {
            let length = self.stream.read(&mut self.buffer).await?;
            head.extend_from_slice(&self.buffer[..length]);
            if let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let status = head.split(|byte| *byte == b' ').nth(1);
                if status != Some(b"200") {
                    return Err(io::Error::other(
                        String::from_utf8_lossy(&head[..end]).into_owned(),
                    ));
                }
                self.pieces.0.extend_from_slice(&head[end + 4..]);
                return Ok(());
            }
            if length == 0 || head.len() > HEAD_BYTES {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// What has come; None at the end.
    pub async fn next(&mut self) -> io::Result<Option<Vec<Piece>>> {
        loop {
            let some: Vec<Piece> = std::iter::from_fn(|| self.pieces.next()).collect();
            if !some.is_empty() {
                return Ok(Some(some));
            }
            match self.stream.read(&mut self.buffer).await? {
                0 if self.finite => return Ok(self.pieces.end().map(|last| vec![last])),
                0 => return Ok(None),
                length => self.pieces.0.extend_from_slice(&self.buffer[..length]),
            }
        }
    }
}

/// Bytes that are not a whole piece yet.
#[derive(Default)]
struct Pieces(Vec<u8>);

impl Pieces {
    fn next(&mut self) -> Option<Piece> {
        loop {
            let (at, begin) = match self.time() {
                Some(found) => found?,
                // No piece begins here: the next line is as good a place as any.
                None => {
                    let line = self.0.iter().position(|byte| *byte == b'\n');
                    self.0.drain(..line.map_or(self.0.len(), |end| end + 1));
                    continue;
                }
            };
            let rest = &self.0[begin..];
            let end = rest.iter().take(PIECE_BYTES + 1).position(|byte| *byte == b'\n');
            let (text, whole) = match end {
                Some(end) => (&rest[..end], true),
                None if rest.len() > PIECE_BYTES => (&rest[..PIECE_BYTES], false),
                None => return None,
            };
            let piece = Piece { at, whole, text: text.to_vec() };
            self.0.drain(..begin + piece.text.len() + usize::from(whole));
            return Some(piece);
        }
    }

    /// The time with which a piece begins, and where its text does. Some(None): not all of it is here
    /// yet. None: there is no time.
    fn time(&self) -> Option<Option<(Timestamp, usize)>> {
        let head = &self.0[..self.0.len().min(TIME_BYTES)];
        let Some(blank) = head.iter().position(|byte| *byte == b' ') else {
            return (head.len() < TIME_BYTES && !head.contains(&b'\n')).then_some(None);
        };
        let at = std::str::from_utf8(&head[..blank]).ok()?.parse().ok()?;
        Some(Some((at, blank + 1)))
    }

    /// What a container that has ended wrote last may have no end.
    fn end(&mut self) -> Option<Piece> {
        let (at, begin) = self.time()??;
        let text = self.0.split_off(begin);
        self.0.clear();
        (!text.is_empty()).then_some(Piece { at, whole: true, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "2026-01-01T00:00:01.000000001Z ";
    const TWO: &str = "2026-01-01T00:00:02Z ";

    /// Lengths and sorts of the pieces, fed in steps of `step` bytes.
    fn read(text: &str, step: usize) -> String {
        let mut pieces = Pieces::default();
        let mut said = Vec::new();
        let mut say = |piece: Piece| {
            let sort = if piece.whole { "F" } else { "P" };
            said.push(format!("{}:{}{sort}", piece.at.as_second() % 60, piece.text.len()));
        };
        for some in text.as_bytes().chunks(step) {
            pieces.0.extend_from_slice(some);
            std::iter::from_fn(|| pieces.next()).for_each(&mut say);
        }
        pieces.end().into_iter().for_each(&mut say);
        said.join(" ")
    }

    #[test]
    fn long_lines_come_in_pieces() {
        let full = "x".repeat(PIECE_BYTES);
        for (text, expected) in [
            (format!("{ONE}a\r\n{TWO}\n{TWO}end"), "1:2F 2:0F 2:3F"),
            (format!("{ONE}{full}\n"), "1:16384F"),
            (format!("{ONE}{full}{TWO}rest\n{TWO}b\n"), "1:16384P 2:4F 2:1F"),
            (format!("{ONE}{full}{ONE}{full}{TWO}rest\n"), "1:16384P 1:16384P 2:4F"),
            (format!("no time here\n{ONE}a\n"), "1:1F"),
            (format!("{}\n{ONE}a\n", "y".repeat(100)), "1:1F"),
            (String::new(), ""),
        ] {
            for step in [1, 7, 1000, 1 << 20] {
                assert_eq!(read(&text, step), expected, "{step}");
            }
        }
    }
}
