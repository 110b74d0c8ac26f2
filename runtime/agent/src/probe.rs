//! Readiness probes. All of a node's wait in one delay queue, so that an idle pod costs no task.
//! What a result means is pure; the task only waits, asks and reports.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::{sync::CancellationToken, time::DelayQueue};
use windlass_runtime_api::{HttpProbe, Runtime, RuntimeError};
use windlass_sdk_types::api::core::v1::Container;

/// Probes under way at a time.
const IN_FLIGHT: usize = 128;

/// One attempt of a container that is probed until it ends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    pub pod_uid: String,
    pub container: String,
    pub attempt: u32,
}

/// When to ask, and how many answers it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub initial_delay: Duration,
    pub period: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
    pub request: HttpProbe,
}

/// The results in a row, and what they amount to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    pub ready: bool,
    successes: u32,
    failures: u32,
}

impl Schedule {
    /// The container's readiness probe with upstream's defaults; None where it has none that this
    /// node can make. A port given by name is looked up in the container's ports.
    pub fn of(container: &Container) -> Option<Self> {
        let probe = container.readiness_probe.as_ref()?;
        let get = probe.http_get.as_ref()?;
        let named = |name: &str| {
            let port = container.ports.iter().flatten();
            port.clone().find(|port| port.name.as_deref() == Some(name)).map(|p| p.container_port)
        };
        let port = match &get.port {
            windlass_sdk_types::apimachinery::pkg::util::intstr::IntOrString::Int(port) => *port,
            windlass_sdk_types::apimachinery::pkg::util::intstr::IntOrString::String(name) => {
                named(name).or_else(|| name.parse().ok())?
            }
        };
        let headers = get.http_headers.iter().flatten();
        let count = |value: Option<i32>, otherwise: u32| {
            value
                .and_then(|value| u32::try_from(value).ok())
                .filter(|n| *n > 0)
                .unwrap_or(otherwise)
        };
        let seconds = |value, otherwise| Duration::from_secs(count(value, otherwise).into());
        let is_host = |name: &str| name.eq_ignore_ascii_case("host");
        Some(Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
            request: HttpProbe {
                container: container.name.clone(),
                port: u16::try_from(port).ok()?,
                path: get.path.clone().filter(|path| !path.is_empty()).unwrap_or("/".into()),
                host: headers.clone().find(|h| is_host(&h.name)).map(|h| h.value.clone()),
                headers: headers
                    .filter(|header| !is_host(&header.name))
                    .map(|header| (header.name.clone(), header.value.clone()))
                    .collect(),
                timeout: seconds(probe.timeout_seconds, 1),
            },
        })
    }
}

impl Readiness {
    /// What an agent that comes back goes on from.
    pub fn told(ready: bool) -> Self {
        Self { ready, ..Self::default() }
    }

    /// Counts a result; true where it changed `ready`.
    pub fn count(&mut self, success: bool, schedule: &Schedule) -> bool {
        if success {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
        } else {
            (self.successes, self.failures) = (0, self.failures.saturating_add(1));
        }
        let before = self.ready;
        if self.successes >= schedule.success_threshold {
            self.ready = true;
        } else if self.failures >= schedule.failure_threshold {
            self.ready = false;
        }
        before != self.ready
    }
}

/// The message of a failed probe as upstream words it; None for a success (200 to 399).
pub fn failure(result: &Result<u16, RuntimeError>) -> Option<String> {
    match result {
        Ok(200..=399) => None,
        Ok(code) => Some(format!("HTTP probe failed with statuscode: {code}")),
        Err(error) => Some(error.message.clone()),
    }
}

/// Where results go.
pub trait Report: Send + Sync + 'static {
    /// Takes a result; false ends the probing of this target.
    fn probed(
        &self,
        target: &Target,
        schedule: &Schedule,
        result: Result<u16, RuntimeError>,
    ) -> bool;
}

type Watched = (Target, Arc<Schedule>, Arc<dyn Runtime>);

/// Runs until told to stop. New targets come through the channel.
pub async fn run(
    mut targets: mpsc::UnboundedReceiver<Watched>,
    report: Arc<dyn Report>,
    shutdown: CancellationToken,
) {
    let mut waiting: DelayQueue<Watched> = DelayQueue::new();
    let mut under_way: FuturesUnordered<JoinHandle<(Watched, Result<u16, RuntimeError>)>> =
        FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(done) = under_way.next(), if !under_way.is_empty() => {
                let Ok(((target, schedule, runtime), result)) = done else { continue };
                if report.probed(&target, &schedule, result) {
                    let period = schedule.period;
                    waiting.insert((target, schedule, runtime), period);
                }
            }
            Some(watched) = targets.recv() => {
                let delay = watched.1.initial_delay;
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

fn ask(watched: Watched) -> JoinHandle<(Watched, Result<u16, RuntimeError>)> {
    tokio::spawn(async move {
        let (target, schedule, runtime) = &watched;
        let asked = runtime.http_probe(&target.pod_uid, schedule.request.clone());
        // The runtime keeps the timeout itself; this holds one that doesn't.
        let result = match tokio::time::timeout(schedule.request.timeout, asked).await {
            Ok(result) => result,
            Err(_) => Err(RuntimeError::new(
                "ProbeTimeout",
                format!("no answer within {} s", schedule.request.timeout.as_secs()),
            )),
        };
        (watched, result)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schedule(probe: serde_json::Value) -> Option<Schedule> {
        let container = json!({"name": "c", "readinessProbe": probe,
            "ports": [{"name": "web", "containerPort": 8080}]});
        Schedule::of(&serde_json::from_value(container).expect("container"))
    }

    #[test]
    fn thresholds() {
        let schedule = schedule(json!({"httpGet": {"port": 80}, "successThreshold": 2,
            "failureThreshold": 3}))
        .expect("probe");
        let mut readiness = Readiness::default();
        let states: String = "+-++--+---+-++"
            .chars()
            .map(|result| {
                readiness.count(result == '+', &schedule);
                if readiness.ready { 'R' } else { '.' }
            })
            .collect();
        assert_eq!(states, "...RRRRRR....R");
    }

    #[test]
    fn defaults_and_names() {
        let found = schedule(json!({"httpGet": {"port": "web", "httpHeaders":
            [{"name": "Host", "value": "h"}, {"name": "X", "value": "y"}]}}))
        .expect("probe");
        assert_eq!((found.request.port, found.request.path.as_str()), (8080, "/"));
        assert_eq!(found.request.host.as_deref(), Some("h"));
        assert_eq!(found.request.headers, [("X".to_owned(), "y".to_owned())]);
        assert_eq!((found.period.as_secs(), found.initial_delay.as_secs()), (10, 0));
        assert_eq!((found.success_threshold, found.failure_threshold), (1, 3));
        assert_eq!(schedule(json!({"httpGet": {"port": "unknown"}})), None);
        assert_eq!(schedule(json!({"tcpSocket": {"port": 1}})), None);
    }

    #[test]
    fn results() {
        for (code, expected) in [
            (200, None),
            (302, None),
            (404, Some("HTTP probe failed with statuscode: 404")),
            (500, Some("HTTP probe failed with statuscode: 500")),
        ] {
            assert_eq!(failure(&Ok(code)).as_deref(), expected);
        }
    }
}
