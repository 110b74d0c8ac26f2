//! What a person, or a program, sees of a run: lines as the guest writes them, in colour at a terminal;
//! or one JSON object a line on stdout.

use std::io::{IsTerminal, Write};

use serde_json::{Value, json};

/// The colours of what a guest writes to stderr, and of what the engine says of it.
const YELLOW: &str = "\u{1b}[33m";
const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// Who is shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    People,
    Programs,
}

impl Show {
    pub fn of(json: bool) -> Self {
        if json { Self::Programs } else { Self::People }
    }

    /// It answers; only the first time, people are told where.
    pub fn ready(self, url: &str, digest: &str, is_first: bool) {
        match self {
            Self::Programs => event("ready", json!({"url": url, "digest": digest})),
            Self::People if is_first => println!("{url}"),
            Self::People => {}
        }
    }

    /// What the guest wrote to stdout.
    pub fn stdout(self, text: &[u8]) {
        match self {
            Self::People => drop(std::io::stdout().lock().write_all(text)),
            Self::Programs => lines("stdout", text),
        }
    }

    pub fn stderr(self, text: &[u8]) {
        match self {
            Self::People => say(YELLOW, String::from_utf8_lossy(text).trim_end_matches('\n')),
            Self::Programs => lines("stderr", text),
        }
    }

    /// What the engine says of the guest.
    pub fn notice(self, reason: &str, message: &str) {
        match self {
            Self::People => say(RED, &format!("{reason}: {message}")),
            Self::Programs => event("notice", json!({"reason": reason, "message": message})),
        }
    }

    /// A command came to its end.
    pub fn ended(self, exit_code: i32, why: &str) {
        if self == Self::Programs {
            event("ended", json!({"exitCode": exit_code, "message": why}));
        }
    }
}

fn lines(stream: &str, text: &[u8]) {
    for line in String::from_utf8_lossy(text).lines() {
        event("log", json!({"stream": stream, "line": line}));
    }
}

/// A line on stdout at once: whoever reads it waits for it.
fn event(name: &str, mut with: Value) {
    with["event"] = name.into();
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{with}").and_then(|()| stdout.flush());
}

/// A line on stderr, in colour where a person reads it.
fn say(colour: &str, text: &str) {
    match std::io::stderr().is_terminal() {
        true => eprintln!("{colour}{text}{PLAIN}"),
        false => eprintln!("{text}"),
    }
}
