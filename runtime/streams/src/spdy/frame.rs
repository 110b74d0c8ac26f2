//! Frames to bytes and back. The decoder takes bytes as they come, in pieces of any size, and
//! hands data on without waiting for the end of its frame, so what it holds is bounded by the
//! largest control frame.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    SpdyError,
    headers::{Deflater, Headers, Inflater, MOST_BYTES},
};

const VERSION: u16 = 3;
const HEAD_BYTES: usize = 8;
const FIN: u8 = 1;
/// Bytes of a data frame that is sent.
const DATA_BYTES: usize = 0xff_ffff;
const STREAM_ID: u32 = 0x7fff_ffff;

/// What is sent over a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    SynStream {
        id: u32,
        headers: Headers,
        fin: bool,
    },
    SynReply {
        id: u32,
        headers: Headers,
        fin: bool,
    },
    Headers {
        id: u32,
        headers: Headers,
        fin: bool,
    },
    Reset {
        id: u32,
        status: u32,
    },
    /// A data frame or, when it was received, a part of one; `fin` comes with the last part.
    Data {
        id: u32,
        payload: Bytes,
        fin: bool,
    },
    Ping(u32),
    GoAway {
        last: u32,
        status: u32,
    },
    Settings,
    WindowUpdate {
        id: u32,
        delta: u32,
    },
}

/// Bytes to frames.
pub struct Decoder {
    buffer: BytesMut,
    inflater: Inflater,
    /// The rest of a data frame whose beginning was handed on.
    data: Option<(u32, usize, bool)>,
}

/// Frames to bytes.
#[derive(Debug, Default)]
pub struct Encoder {
    deflater: Deflater,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: BytesMut::new(), inflater: Inflater::new(), data: None }
    }
}

impl Decoder {
    /// Takes bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame; None: more bytes are needed. After an error the connection is over.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, SpdyError> {
        loop {
            if let Some((id, left, fin)) = self.data.take() {
                return Ok(self.data_part(id, left, fin));
            }
            let Some((head, _)) = self.buffer.split_first_chunk::<HEAD_BYTES>() else {
                return Ok(None);
            };
            let first = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
            let flags = head[4];
            let length = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
            if first & !STREAM_ID == 0 {
                self.buffer.advance(HEAD_BYTES);
                if length == 0 {
                    let fin = flags & FIN != 0;
                    return Ok(Some(Frame::Data { id: first, payload: Bytes::new(), fin }));
                }
                self.data = Some((first, length, flags & FIN != 0));
                continue;
            }
            let (version, kind) = ((first >> 16 & 0x7fff) as u16, (first & 0xffff) as u16);
            if version != VERSION {
                return Err(SpdyError::Version(version));
            }
            if length > MOST_BYTES {
                return Err(SpdyError::Size { kind, bytes: length });
            }
            if self.buffer.len() < HEAD_BYTES + length {
                return Ok(None);
            }
            self.buffer.advance(HEAD_BYTES);
            let body = self.buffer.split_to(length);
            if let Some(frame) = self.control(kind, flags & FIN != 0, &body)? {
                return Ok(Some(frame));
            }
        }
    }

    fn data_part(&mut self, id: u32, left: usize, fin: bool) -> Option<Frame> {
        if self.buffer.is_empty() {
            self.data = Some((id, left, fin));
            return None;
        }
        let payload = self.buffer.split_to(left.min(self.buffer.len())).freeze();
        let left = left - payload.len();
        if left > 0 {
            self.data = Some((id, left, fin));
        }
        Some(Frame::Data { id, payload, fin: fin && left == 0 })
    }

    /// None: a kind of frame that is to be ignored.
    fn control(&mut self, kind: u16, fin: bool, body: &[u8]) -> Result<Option<Frame>, SpdyError> {
        let wrong = || SpdyError::Size { kind, bytes: body.len() };
        let word = |at: usize| {
            let word = body.get(at..at + 4).and_then(|word| word.first_chunk());
            word.map(|word| u32::from_be_bytes(*word)).ok_or_else(wrong)
        };
        let id = |at: usize| word(at).map(|id| id & STREAM_ID);
        let block = |at: usize| body.get(at..).ok_or_else(wrong);
        let exactly = |bytes: usize| if body.len() == bytes { Ok(()) } else { Err(wrong()) };
        Ok(Some(match kind {
            1 => {
                let (id, headers) = (id(0)?, self.inflater.read(block(10)?)?);
                Frame::SynStream { id, headers, fin }
            }
            2 => Frame::SynReply { id: id(0)?, headers: self.inflater.read(block(4)?)?, fin },
            3 => {
                exactly(8)?;
                Frame::Reset { id: id(0)?, status: word(4)? }
            }
            4 => Frame::Settings,
            6 => {
                exactly(4)?;
                Frame::Ping(word(0)?)
            }
            7 => {
                exactly(8)?;
                Frame::GoAway { last: id(0)?, status: word(4)? }
            }
            8 => Frame::Headers { id: id(0)?, headers: self.inflater.read(block(4)?)?, fin },
            9 => {
                exactly(8)?;
                Frame::WindowUpdate { id: id(0)?, delta: id(4)? }
            }
            _ => return Ok(None),
        }))
    }
}

impl Encoder {
    /// Appends a frame to what is to be sent.
    pub fn write(&mut self, frame: &Frame, out: &mut BytesMut) {
        let mut body = BytesMut::new();
        let (kind, fin) = match frame {
            Frame::Data { id, payload, fin } => return data(*id, payload, *fin, out),
            Frame::SynStream { id, headers, fin } => {
                body.put_u32(*id);
                // No associated stream, highest priority, no slot.
                body.put_slice(&[0; 6]);
                self.deflater.write(headers, &mut body);
                (1, *fin)
            }
            Frame::SynReply { id, headers, fin } => {
                body.put_u32(*id);
                self.deflater.write(headers, &mut body);
                (2, *fin)
            }
            Frame::Headers { id, headers, fin } => {
                body.put_u32(*id);
                self.deflater.write(headers, &mut body);
                (8, *fin)
            }
            Frame::Reset { id, status } => (pair(*id, *status, 3, &mut body), false),
            Frame::Settings => {
                body.put_u32(0);
                (4, false)
            }
            Frame::Ping(id) => {
                body.put_u32(*id);
                (6, false)
            }
            Frame::GoAway { last, status } => (pair(*last, *status, 7, &mut body), false),
            Frame::WindowUpdate { id, delta } => (pair(*id, *delta, 9, &mut body), false),
        };
        out.put_u16(0x8000 | VERSION);
        out.put_u16(kind);
        put_length(u8::from(fin), body.len(), out);
        out.put_slice(&body);
    }
}

fn pair(first: u32, second: u32, kind: u16, body: &mut BytesMut) -> u16 {
    body.put_u32(first);
    body.put_u32(second);
    kind
}

fn data(id: u32, payload: &Bytes, fin: bool, out: &mut BytesMut) {
    let mut parts = payload.chunks(DATA_BYTES).peekable();
    if parts.peek().is_none() {
        out.put_u32(id);
        put_length(u8::from(fin), 0, out);
    }
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        out.put_u32(id);
        put_length(u8::from(fin && last), part.len(), out);
        out.put_slice(part);
    }
}

fn put_length(flags: u8, length: usize, out: &mut BytesMut) {
    // 24 bits: control frames that we send are small, and data is cut to fit.
    let length = u32::try_from(length).unwrap_or(u32::MAX) & 0xff_ffff;
    out.put_u32(u32::from(flags) << 24 | length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_frames_are_told_apart() {
        let check = |bytes: &[u8], expected: Result<Option<Frame>, SpdyError>| {
            let mut decoder = Decoder::default();
            decoder.push(bytes);
            assert_eq!(decoder.next_frame(), expected, "{bytes:x?}");
        };
        check(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7], Ok(Some(Frame::Ping(7))));
        check(&[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0], Ok(None));
        check(&[0x80, 2, 0, 6, 0, 0, 0, 4], Err(SpdyError::Version(2)));
        check(&[0x80, 3, 0, 6, 0, 0, 0, 1, 0], Err(SpdyError::Size { kind: 6, bytes: 1 }));
        let large = SpdyError::Size { kind: 1, bytes: 0x10001 };
        check(&[0x80, 3, 0, 1, 0, 1, 0, 1], Err(large));
        check(&[0x80, 3, 0, 3, 0, 0, 0, 4, 0, 0, 0, 1], Err(SpdyError::Size { kind: 3, bytes: 4 }));
        check(&[0x80, 3, 0, 1, 0, 0, 0, 2, 0, 0], Err(SpdyError::Size { kind: 1, bytes: 2 }));
        check(
            &[0x80, 3, 0, 1, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
            Err(SpdyError::Compression),
        );
        // A kind that nobody knows is skipped.
        check(
            &[0x80, 3, 0, 99, 0, 0, 0, 1, 0, 0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7],
            Ok(Some(Frame::Ping(7))),
        );
        let end = Frame::Data { id: 5, payload: Bytes::new(), fin: true };
        check(&[0, 0, 0, 5, 1, 0, 0, 0], Ok(Some(end)));
    }
}
