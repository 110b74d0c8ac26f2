//! Time as a parameter: pure code is handed a `Clock`, so tests and the simulation own it.

use std::fmt::Debug;

pub use jiff::Timestamp;

/// Tells what time it is.
pub trait Clock: Send + Sync + Debug {
    fn now(&self) -> Timestamp;
}

/// The machine's clock: handed in by the binary, and by nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// `metav1.Time`: whole seconds in UTC, such as `2026-11-23T17:20:00Z`.
pub fn format_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `metav1.MicroTime`: always six digits after the second.
pub fn format_micro_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

/// Reads either form (RFC 3339).
pub fn parse_time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}
