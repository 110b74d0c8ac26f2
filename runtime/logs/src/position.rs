//! How far a log has come: who writes it after a restart goes on behind the last line, which its
//! time tells. Lines of one moment are told apart by how many of them are there.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use windlass_sdk_meta::Timestamp;

use crate::file::rotations;

/// At the end of a file so much is read to find its last moment.
const TAIL_BYTES: u64 = 256 << 10;

/// The last moment of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub at: Timestamp,
    /// Lines (and parts of lines) of exactly that moment.
    pub lines: u64,
}

/// The last moment of the log at `path`, or of its newest rotated file where it was just rotated;
/// None where nothing was written.
pub fn last_position(path: &Path) -> io::Result<Option<Position>> {
    if let Some(found) = position_in(path)? {
        return Ok(Some(found));
    }
    match rotations(path).last() {
        Some(newest) => position_in(newest),
        None => Ok(None),
    }
}

fn position_in(path: &Path) -> io::Result<Option<Position>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    Ok(position_of(&tail))
}

/// Lines that can't be read (the first, where the tail begins inside it) have no time.
fn position_of(tail: &[u8]) -> Option<Position> {
    let mut found: Option<Position> = None;
    for line in tail.split(|byte| *byte == b'\n').rev() {
        let time = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        let time = std::str::from_utf8(time).ok().and_then(|text| text.parse::<Timestamp>().ok());
        match (time, &mut found) {
            (None, _) => {}
            (Some(at), None) => found = Some(Position { at, lines: 1 }),
            (Some(at), Some(last)) if last.at == at => last.lines += 1,
            (Some(_), Some(_)) => break,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(tail: &str, expected: Expect) {
        let shown = match position_of(tail.as_bytes()) {
            None => "nothing".to_owned(),
            Some(found) => format!("{:.9} x{}", found.at, found.lines),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn the_last_moment_is_found() {
        check("", expect!["nothing"]);
        check("no time here\n", expect!["nothing"]);
        check(
            "2026-01-02T03:04:05.000000001Z stdout F a\n",
            expect!["2026-01-02T03:04:05.000000001Z x1"],
        );
        let one = "2026-01-02T03:04:05.1Z stdout F a\n";
        let two = "2026-01-02T03:04:05.2Z stdout P b\n2026-01-02T03:04:05.2Z stderr F c\n";
        check(&format!("{one}{two}"), expect!["2026-01-02T03:04:05.200000000Z x2"]);
        check(&format!("5.1Z stdout F cut\n{two}"), expect!["2026-01-02T03:04:05.200000000Z x2"]);
    }
}
