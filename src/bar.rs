//! A bar on stderr while bytes come or go, where a person looks on.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use windlass_runtime_image::{Meter, Passed};

const FORM: &str = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec}";

/// Is gone from the terminal when it is dropped.
pub struct Bar(ProgressBar);

impl Bar {
    /// Shows nothing where stderr is no terminal.
    pub fn new() -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        // A form that isn't one would leave indicatif's own.
        if let Ok(style) = ProgressStyle::with_template(FORM) {
            bar.set_style(style);
        }
        Self(bar)
    }

    /// What moves it.
    pub fn meter(&self) -> Meter {
        let bar = self.0.clone();
        Meter::new(move |passed| match passed {
            Passed::Expected(bytes) => bar.inc_length(bytes),
            Passed::Done(bytes) => bar.inc(bytes),
        })
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
