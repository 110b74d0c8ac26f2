//! How much a container may write to its log: 8 MiB at once, and 1 MiB a second in the long run.
//! Whoever writes more loses lines (a handler: it must go on serving) or waits (a command: its
//! output is what it is run for). Pure: time comes in.

use std::time::Duration;

use windlass_sdk_meta::Timestamp;

const BYTES_A_SECOND: i128 = 1 << 20;
const BURST_BYTES: i128 = 8 << 20;
/// Once lines were lost, none is taken before there is room for so much: the log then has whole
/// passages, and few notes about gaps.
const RESUME_BYTES: i128 = BYTES_A_SECOND / 4;
/// Bytes are counted in billionths, so that each nanosecond earns its part.
const PARTS: i128 = 1_000_000_000;

/// What one container may still write.
#[derive(Debug)]
pub struct Allowance {
    /// Billionths of bytes. Below zero: taken in advance by a writer that will wait.
    parts: i128,
    since: Option<Timestamp>,
    exhausted: bool,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { parts: BURST_BYTES * PARTS, since: None, exhausted: false }
    }
}

impl Allowance {
    /// Takes `bytes` if they may be written now.
    pub fn try_take(&mut self, bytes: usize, now: Timestamp) -> bool {
        self.refill(now);
        let bytes = bytes as i128;
        let needed = if self.exhausted { bytes.max(RESUME_BYTES) } else { bytes };
        self.exhausted = self.parts < needed * PARTS;
        if !self.exhausted {
            self.parts -= bytes * PARTS;
        }
        !self.exhausted
    }

    /// Takes `bytes` of a writer that asks `wait` before it writes again.
    pub fn take(&mut self, bytes: usize, now: Timestamp) {
        self.refill(now);
        self.parts -= bytes as i128 * PARTS;
    }

    /// How long such a writer has to wait.
    pub fn wait(&mut self, now: Timestamp) -> Duration {
        self.refill(now);
        let nanos = -self.parts / BYTES_A_SECOND;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
    }

    /// A clock that is set back gives nothing, and counts from there.
    fn refill(&mut self, now: Timestamp) {
        let since = self.since.replace(now).unwrap_or(now);
        let nanos = now.duration_since(since).as_nanos().max(0);
        self.parts = (self.parts + BYTES_A_SECOND * nanos).min(BURST_BYTES * PARTS);
    }
}

/// Lines that are not in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    pub lines: u64,
    pub bytes: u64,
}

impl Lost {
    pub fn add(&mut self, lines: u64, bytes: usize) {
        self.lines += lines;
        self.bytes += bytes as u64;
    }

    /// A line for the log, in their place; None where nothing was lost.
    pub fn note(&mut self, why: &str) -> Option<String> {
        let Self { lines, bytes } = std::mem::take(self);
        (bytes > 0)
            .then(|| format!("windlass: {lines} lines ({bytes} bytes) were dropped here: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(1_795_454_400_000 + millis).expect("in range")
    }

    #[test]
    fn a_burst_then_a_rate() {
        let mut allowance = Allowance::default();
        let mut took = |bytes, millis| allowance.try_take(bytes, at(millis));
        assert!(took(8 * MIB, 0));
        assert!(!took(1, 0));
        // It resumes with some room, not line by line.
        assert!(!took(1, 100));
        assert!(took(MIB / 4, 250));
        assert!(!took(1, 250));
        assert!(took(MIB, 1250));
        // Never more than the burst, and nothing for a clock that goes back.
        assert!(took(8 * MIB, 1_000_000));
        assert!(!took(1, 1_000_000) && !took(1, 500_000));
        assert!(took(MIB / 2, 500_500));
    }

    #[test]
    fn small_steps_earn_as_much() {
        let mut allowance = Allowance::default();
        allowance.take(8 * MIB, at(0));
        for micros in 1..=1_000_000 {
            let now = at(0) + jiff::SignedDuration::from_micros(micros);
            allowance.refill(now);
        }
        assert_eq!(allowance.parts, BYTES_A_SECOND * PARTS);
    }

    #[test]
    fn a_writer_that_waits_loses_nothing() {
        let mut allowance = Allowance::default();
        assert_eq!(allowance.wait(at(0)), Duration::ZERO);
        allowance.take(9 * MIB, at(0));
        assert_eq!(allowance.wait(at(0)), Duration::from_secs(1));
        assert_eq!(allowance.wait(at(750)), Duration::from_millis(250));
        assert_eq!(allowance.wait(at(1000)), Duration::ZERO);
    }

    #[test]
    fn gaps_are_told() {
        let mut lost = Lost::default();
        assert_eq!(lost.note("why"), None);
        lost.add(2, 30);
        lost.add(1, 5);
        let told = "windlass: 3 lines (35 bytes) were dropped here: why";
        assert_eq!(lost.note("why").as_deref(), Some(told));
        assert_eq!(lost, Lost::default());
    }
}
