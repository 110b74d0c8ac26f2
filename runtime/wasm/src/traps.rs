//! Tells the agent of traps without drowning it: the first at once, those of the following second
//! as one number.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::broadcast, time::Instant};
use windlass_runtime_api::RuntimeEvent;

const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Traps {
    pod_uid: String,
    container: String,
    events: broadcast::Sender<RuntimeEvent>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    last: Option<Instant>,
    untold: u64,
    message: String,
    /// A task waits for the interval to end.
    scheduled: bool,
}

impl Traps {
    pub fn new(
        pod_uid: String,
        container: String,
        events: broadcast::Sender<RuntimeEvent>,
    ) -> Arc<Self> {
        Arc::new(Self { pod_uid, container, events, told: Mutex::default() })
    }

    /// Counts one trap, and returns how many there were since the last time the agent was told.
    /// Must be called on a tokio runtime.
    pub fn count(self: &Arc<Self>, message: String) -> u64 {
        let mut told = self.told.lock();
        told.untold += 1;
        told.message = message;
        let untold = told.untold;
        if told.scheduled {
            return untold;
        }
        match told.last.map(|last| last + INTERVAL).filter(|next| *next > Instant::now()) {
            None => self.tell(&mut told),
            Some(next) => {
                told.scheduled = true;
                let traps = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep_until(next).await;
                    let mut told = traps.told.lock();
                    told.scheduled = false;
                    traps.tell(&mut told);
                });
            }
        }
        untold
    }

    fn tell(&self, told: &mut Told) {
        told.last = Some(Instant::now());
        let event = RuntimeEvent::Trapped {
            pod_uid: self.pod_uid.clone(),
            container: self.container.clone(),
            count: std::mem::take(&mut told.untold),
            message: std::mem::take(&mut told.message),
        };
        // Nobody listens: the count is still in the container's log.
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_is_told_at_once_and_the_rest_as_a_sum() {
        let (events, mut told) = broadcast::channel(8);
        let traps = Traps::new("uid".into(), "web".into(), events);
        for n in 0..5 {
            traps.count(format!("trap {n}"));
        }
        let trapped = |count, message: &str| RuntimeEvent::Trapped {
            pod_uid: "uid".into(),
            container: "web".into(),
            count,
            message: message.into(),
        };
        assert_eq!(told.recv().await, Ok(trapped(1, "trap 0")));
        assert!(told.try_recv().is_err());
        assert_eq!(told.recv().await, Ok(trapped(4, "trap 4")));
    }
}
