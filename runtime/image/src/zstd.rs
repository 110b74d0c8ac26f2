//! Layers compressed with Zstandard (RFC 8878): one frame after the other, as tools that compress in
//! parallel write them, with skippable frames between. The decoder refuses windows above 100 MiB.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

/// Unpacks while it is read.
pub(crate) struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    /// In a frame that isn't read to its end.
    within: bool,
}

impl<R: BufRead> Frames<R> {
    pub fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), within: false }
    }

    /// Goes to the next frame; false where there is none.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.decoder.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !into.is_empty() {
            if !self.within && !self.begin()? {
                break;
            }
            self.within = true;
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let some = BlockDecodingStrategy::UptoBytes(into.len());
                self.decoder.decode_blocks(&mut self.source, some).map_err(io::Error::other)?;
            }
            match self.decoder.read(into)? {
                0 => self.within = false,
                read => return Ok(read),
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn unpack(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Frames::new(bytes).read_to_end(&mut out).map(|_| out)
    }

    #[test]
    fn frames_follow_each_other() {
        let text = b"layers and layers and layers ".repeat(10_000);
        let frame = compress_to_vec(text.as_slice(), CompressionLevel::Fastest);
        assert!(frame.len() < text.len() / 10);
        assert!(unpack(&frame).expect("a frame") == text);
        let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..]].concat();
        let all = [frame.clone(), skipped, frame.clone()].concat();
        assert!(unpack(&all).expect("frames") == [text.clone(), text].concat());
        assert!(unpack(&frame[..frame.len() / 2]).is_err());
        assert!(unpack(b"\x28\xb5\x2f\xfd....").is_err());
        assert_eq!(unpack(b"").expect("nothing"), b"");
    }
}
