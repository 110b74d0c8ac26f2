//! Startup, liveness and readiness probes. All of a node's wait in one delay queue, so that an idle
//! pod costs no task. What a result means is pure; the task only waits, asks and reports.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, time::DelayQueue};
use windlass_runtime_api::Runtime;
use windlass_sdk_types::api::core::v1::{Container, Probe};

use crate::call::{Call, Outcome};

/// Probes under way at a time: more than a few pods with slow ones can hold.
const IN_FLIGHT: usize = 512;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// Until it succeeds there are no others.
    Startup,
    Liveness,
    Readiness,
}

/// One attempt of a container that is probed until it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub pod_uid: String,
    pub address: IpAddr,
    pub container: String,
    pub attempt: u32,
    pub sort: Sort,
}

/// When to ask, and how many answers it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
    pub call: Call,
}

/// The results in a row, and what they amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The last that was decided; None before there were enough of one sort.
    pub healthy: Option<bool>,
    successes: u32,
    failures: u32,
}

impl Sort {
    /// As Events begin.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }

    pub fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            Self::Startup => container.startup_probe.as_ref(),
            Self::Liveness => container.liveness_probe.as_ref(),
            Self::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

impl Schedule {
    /// One of the container's probes with upstream's defaults; None where it has none.
    pub fn of(container: &Container, sort: Sort) -> Option<Self> {
        let probe = sort.of(container)?;
        let count = |value: Option<i32>, otherwise: u32| {
            let given = value.and_then(|value| u32::try_from(value).ok()).filter(|n| *n > 0);
            given.unwrap_or(otherwise)
        };
        let seconds = |value, otherwise| Duration::from_secs(count(value, otherwise).into());
        Some(Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
            call: Call::of_probe(container, probe)?,
        })
    }
}

impl Tally {
    /// What an agent that comes back goes on from.
    pub fn told(healthy: bool) -> Self {
        Self { healthy: Some(healthy), ..Self::default() }
    }

    pub fn is_healthy(&self) -> bool {
        self.healthy == Some(true)
    }

    /// Counts a result; true where it changed what is decided.
    pub fn count(&mut self, success: bool, schedule: &Schedule) -> bool {
        if success {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
        } else {
            (self.successes, self.failures) = (0, self.failures.saturating_add(1));
        }
        let before = self.healthy;
        if self.successes >= schedule.success_threshold {
            self.healthy = Some(true);
        } else if self.failures >= schedule.failure_threshold {
            self.healthy = Some(false);
        }
        before != self.healthy
    }
}

impl Outcome {
    /// A warning is a success that is told.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Success | Self::Warning(_))
    }

    /// Reason and message of upstream's Event; None where there is nothing to tell.
    pub fn event(&self, sort: Sort) -> Option<(&'static str, String)> {
        let name = sort.name();
        Some(match self {
            Self::Success => return None,
            Self::Warning(why) => ("ProbeWarning", format!("{name} probe warning: {why}")),
            Self::Failure(why) => ("Unhealthy", format!("{name} probe failed: {why}")),
            Self::Error(why) => {
                ("Unhealthy", format!("{name} probe errored and resulted in unknown state: {why}"))
            }
        })
    }
}

/// Where results go.
pub trait Report: Send + Sync + 'static {
    /// Takes a result; false ends this probe.
    fn probed(&self, target: &Target, schedule: &Schedule, outcome: Outcome) -> bool;
}

/// A probe that is to be made from now on.
pub struct Watched {
    pub target: Target,
    pub schedule: Arc<Schedule>,
    pub runtime: Arc<dyn Runtime>,
    /// Until the first time.
    pub delay: Duration,
}

/// Runs until told to stop. New targets come through the channel.
pub async fn run(
    mut targets: mpsc::UnboundedReceiver<Watched>,
    report: Arc<dyn Report>,
    shutdown: CancellationToken,
) {
    let mut waiting: DelayQueue<Watched> = DelayQueue::new();
    let mut under_way: FuturesUnordered<JoinHandle<(Watched, Outcome)>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(done) = under_way.next(), if !under_way.is_empty() => {
                let Ok((watched, outcome)) = done else { continue };
                if report.probed(&watched.target, &watched.schedule, outcome) {
                    let period = watched.schedule.period;
                    waiting.insert(watched, period);
                }
            }
            Some(watched) = targets.recv() => {
                let delay = watched.delay;
                if delay.is_zero() {
                    under_way.push(ask(watched));
                } else {
                    waiting.insert(watched, delay);
                }
            }
            Some(due) = waiting.next(), if !waiting.is_empty() && under_way.len() < IN_FLIGHT => {
                under_way.push(ask(due.into_inner()));
            }
        }
    }
}

fn ask(watched: Watched) -> JoinHandle<(Watched, Outcome)> {
    tokio::spawn(async move {
        let (target, schedule) = (&watched.target, &watched.schedule);
        let (uid, container) = (&target.pod_uid, &target.container);
        let runtime = &*watched.runtime;
        let call = schedule.call.run(runtime, uid, container, target.address, schedule.timeout);
        let outcome = call.await;
        (watched, outcome)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schedule(probe: serde_json::Value) -> Option<Schedule> {
        let container = json!({"name": "c", "livenessProbe": probe});
        let container = serde_json::from_value(container).expect("container");
        Schedule::of(&container, Sort::Liveness)
    }

    #[test]
    fn thresholds() {
        let schedule = schedule(json!({"httpGet": {"port": 80}, "successThreshold": 2,
            "failureThreshold": 3}))
        .expect("probe");
        let mut tally = Tally::default();
        let states: String = "+-++--+---+-++"
            .chars()
            .map(|result| {
                tally.count(result == '+', &schedule);
                match tally.healthy {
                    None => '?',
                    Some(true) => 'R',
                    Some(false) => '.',
                }
            })
            .collect();
        assert_eq!(states, "???RRRRRR....R");
    }

    #[test]
    fn defaults() {
        let found = schedule(json!({"httpGet": {"port": 80}})).expect("probe");
        let seconds = [found.initial_delay, found.period, found.timeout].map(|t| t.as_secs());
        assert_eq!(seconds, [0, 10, 1]);
        assert_eq!((found.success_threshold, found.failure_threshold), (1, 3));
        assert_eq!(schedule(json!({"periodSeconds": 1})), None);
    }

    #[test]
    fn events() {
        for (outcome, expected) in [
            (Outcome::Success, None),
            (Outcome::Warning("w".into()), Some(("ProbeWarning", "Startup probe warning: w"))),
            (Outcome::Failure("f".into()), Some(("Unhealthy", "Startup probe failed: f"))),
            (
                Outcome::Error("e".into()),
                Some(("Unhealthy", "Startup probe errored and resulted in unknown state: e")),
            ),
        ] {
            let event = outcome.event(Sort::Startup);
            assert_eq!(event.as_ref().map(|(reason, text)| (*reason, text.as_str())), expected);
        }
    }
}
