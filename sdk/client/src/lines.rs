//! The lines of a streamed answer, however they were cut into chunks on their way.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use crate::{api::unreachable, error::Error};

/// An object has at most 3 MiB; a line holds one and a few words.
const MAX_LINE_BYTES: usize = 8 << 20;

/// Reads a body line by line.
pub struct Lines<B> {
    body: B,
    buffer: BytesMut,
    /// How far the buffer was searched for a line's end already.
    searched: usize,
}

impl<B> Lines<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    pub fn new(body: B) -> Self {
        Self { body, buffer: BytesMut::new(), searched: 0 }
    }

    /// The next line that isn't empty; None at the end. A last line without its end is dropped: the
    /// stream was cut in it.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            while let Some(line) = self.buffered() {
                if !line.is_empty() {
                    return Ok(Some(line));
                }
            }
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(Error::Unreachable("a line of a watch is too long".into()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(unreachable(error)),
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
            }
        }
    }

    fn buffered(&mut self) -> Option<Bytes> {
        let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
        match end {
            None => {
                self.searched = self.buffer.len();
                None
            }
            Some(at) => {
                let line = self.buffer.split_to(self.searched + at + 1).freeze();
                self.searched = 0;
                Some(line.slice(..line.len() - 1))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    async fn check(chunks: &[&'static str], expected: Expect) {
        let chunks: Vec<Result<_, std::io::Error>> = chunks
            .iter()
            .map(|chunk| Ok(http_body::Frame::data(Bytes::from_static(chunk.as_bytes()))))
            .collect();
        let body = http_body_util::StreamBody::new(futures::stream::iter(chunks));
        let mut lines = Lines::new(body);
        let mut found = Vec::new();
        while let Ok(Some(line)) = lines.next().await {
            found.push(String::from_utf8_lossy(&line).into_owned());
        }
        expected.assert_eq(&format!("{found:?}"));
    }

    #[tokio::test]
    async fn lines_are_put_together() {
        check(&["a\nb\n"], expect![[r#"["a", "b"]"#]]).await;
        check(&["a", "", "b\n\nc", "\nd"], expect![[r#"["ab", "c"]"#]]).await;
        check(&[], expect!["[]"]).await;
    }
}
