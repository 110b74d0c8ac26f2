//! One line of a log.

use std::{fmt::Display, io::Write};

/// A longer line is written in parts, all but the last tagged `P`.
pub const MAX_LINE_BYTES: usize = 16 << 10;

/// Where a container wrote something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Appends a line to `out`; `time` is shown as it is, `whole` is false for a part that goes on.
pub fn put_line(out: &mut Vec<u8>, time: impl Display, stream: Stream, whole: bool, text: &[u8]) {
    let tag = if whole { 'F' } else { 'P' };
    // Writing to a Vec can't fail.
    let _ = write!(out, "{time} {} {tag} ", stream.name());
    out.extend_from_slice(text);
    out.push(b'\n');
}
