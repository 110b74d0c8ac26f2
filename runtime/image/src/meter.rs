//! How far a transfer has come, for who shows that.

use std::{fmt, sync::Arc};

/// What is told: bytes that are to come or to go, and bytes that did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    Expected(u64),
    Done(u64),
}

/// Tells nobody by default. What is tried again is told again.
#[derive(Clone, Default)]
pub struct Meter(Option<Arc<dyn Fn(Passed) + Send + Sync>>);

impl Meter {
    pub fn new(tell: impl Fn(Passed) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    pub fn expect(&self, bytes: u64) {
        self.tell(Passed::Expected(bytes));
    }

    pub fn done(&self, bytes: u64) {
        self.tell(Passed::Done(bytes));
    }

    fn tell(&self, passed: Passed) {
        if let Some(tell) = &self.0 {
            tell(passed);
        }
    }
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Meter(told)" } else { "Meter(nobody)" })
    }
}
