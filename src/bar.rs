//! A bar on stderr while bytes come or go, where a person looks on. Drawn by hand: a library for it
//! would bring more than it draws.

use std::{
    io::{IsTerminal, Write},
    sync::Arc,
};

use parking_lot::Mutex;
use windlass_runtime_image::{Meter, Passed};

const CELLS: u64 = 30;
/// Less is over before it is seen.
const LEAST_BYTES: u64 = 1 << 20;
/// Back to the line's beginning, and the line empty.
const CLEAR: &str = "\r\u{1b}[2K";

/// Is gone from the terminal when it is dropped.
pub struct Bar(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    expected_bytes: u64,
    done_bytes: u64,
    /// What is on the terminal; empty: nothing.
    shown: String,
}

impl Bar {
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// What moves it. Where stderr is no terminal, nothing is shown.
    pub fn meter(&self) -> Meter {
        if !std::io::stderr().is_terminal() {
            return Meter::default();
        }
        let state = self.0.clone();
        Meter::new(move |passed| {
            let mut state = state.lock();
            if let Some(line) = state.advance(passed) {
                let mut stderr = std::io::stderr().lock();
                let _ = write!(stderr, "{CLEAR}{line}").and_then(|()| stderr.flush());
            }
        })
    }
}

impl State {
    /// The line to draw; None: it is the one that is drawn.
    fn advance(&mut self, passed: Passed) -> Option<&str> {
        match passed {
            Passed::Expected(bytes) => self.expected_bytes += bytes,
            Passed::Done(bytes) => self.done_bytes += bytes,
        }
        // What is tried again is done twice.
        let done = self.done_bytes.min(self.expected_bytes);
        let cells = (done * CELLS).checked_div(self.expected_bytes).unwrap_or(0);
        let bar: String = (0..CELLS).map(|cell| if cell < cells { '#' } else { '-' }).collect();
        let line = format!("[{bar}] {} of {} MiB", done >> 20, self.expected_bytes >> 20);
        if self.expected_bytes < LEAST_BYTES || line == self.shown {
            return None;
        }
        self.shown = line;
        Some(&self.shown)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if !self.0.lock().shown.is_empty() {
            let _ = write!(std::io::stderr(), "{CLEAR}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_drawn_when_it_moves() {
        let mut state = State::default();
        assert_eq!(state.advance(Passed::Expected(100)), None);
        let begun = state.advance(Passed::Expected(20 << 20));
        assert_eq!(begun, Some("[------------------------------] 0 of 20 MiB"));
        assert_eq!(state.advance(Passed::Done(1)), None);
        let half = state.advance(Passed::Done(11 << 20));
        assert_eq!(half, Some("[################--------------] 11 of 20 MiB"));
        let over = state.advance(Passed::Done(40 << 20));
        assert_eq!(over, Some("[##############################] 20 of 20 MiB"));
    }
}
