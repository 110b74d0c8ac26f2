//! Tells the people who own a pod what it was denied: one Event a host and rule, however often the
//! guest tries.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The same denial is told again after so long; the Event counts how often.
const AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Different denials that are told in that time: a guest can think of any number of hosts.
const MOST: usize = 16;

#[derive(Debug, Default)]
pub struct Denials(Mutex<BTreeMap<String, Instant>>);

impl Denials {
    /// Whether to tell of it now.
    pub fn is_news(&self, message: &str) -> bool {
        let now = Instant::now();
        let mut told = self.0.lock();
        told.retain(|_, at| now - *at < AGAIN_AFTER);
        if told.len() >= MOST || told.contains_key(message) {
            return false;
        }
        told.insert(message.to_owned(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_denial_is_told_once_in_a_while() {
        let denials = Denials::default();
        assert!(denials.is_news("a") && !denials.is_news("a"));
        let others = (0..100).filter(|n| denials.is_news(&format!("host {n}"))).count();
        assert_eq!(others, MOST - 1);
        tokio::time::advance(AGAIN_AFTER).await;
        assert!(denials.is_news("a"));
    }
}
