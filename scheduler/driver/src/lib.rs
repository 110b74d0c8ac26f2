//! Carries the scheduler's decisions out: informers tell the core what changed, the core decides,
//! and bindings go out side by side, each assumed to hold until the API shows it or it fails.
//! Nothing polls: a pod that appears is decided upon as soon as its informer has it.

mod act;
mod observe;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use windlass_scheduler_core::{Decision, Scheduler};
use windlass_sdk_client::{Changes, Cluster, EventType, Informer, Key, Recorder};
use windlass_sdk_types::{Kind, Node, Pod};

use act::{Actor, Ending, Finished};

/// The name in Events, in managed fields and in `spec.schedulerName`.
const NAME: &str = "default-scheduler";
/// Bindings and status patches under way at a time: as many as share a group commit, and few enough
/// for the server's limits.
const IN_FLIGHT: usize = 128;
/// Decisions between two looks at what changed.
const DECISIONS: usize = 64;
/// Changes taken between two rounds of decisions.
const CHANGES: usize = 1024;
/// A binding that succeeded shows in the informer at once; after this long we ask.
const CONFIRMED_WITHIN: Duration = Duration::from_secs(60);

/// Schedules pods of `default-scheduler` until `shutdown`.
pub async fn run(cluster: Cluster, shutdown: CancellationToken) {
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = schedule(cluster) => {}
    }
}

struct Driver {
    scheduler: Scheduler,
    pods: Informer<Pod>,
    pod_changes: Changes<Pod>,
    node_changes: Changes<Node>,
    actor: Actor,
    recorder: Recorder,
    finished: mpsc::UnboundedReceiver<Finished>,
    in_flight: usize,
    /// Bindings that succeeded but aren't seen yet, oldest first.
    unconfirmed: VecDeque<(Instant, Key, Arc<str>)>,
    start: Instant,
}

async fn schedule(cluster: Cluster) {
    let (pods, nodes) = (cluster.informers.of::<Pod>(), cluster.informers.of::<Node>());
    nodes.synced().await;
    pods.synced().await;
    // Bounded by IN_FLIGHT: each task sends one message.
    let (sender, finished) = mpsc::unbounded_channel();
    let mut driver = Driver {
        scheduler: Scheduler::new(cluster.rng.clone()),
        pod_changes: pods.changes(),
        node_changes: nodes.changes(),
        actor: Actor::new(cluster.api(NAME), cluster.clock.clone(), sender),
        recorder: cluster.recorder(NAME),
        pods,
        finished,
        in_flight: 0,
        unconfirmed: VecDeque::new(),
        start: Instant::now(),
    };
    // Everything that exists counts before the first decision.
    driver.take_changes(usize::MAX);
    loop {
        let more = driver.decide();
        if more {
            tokio::task::yield_now().await;
        } else {
            driver.wait().await;
        }
        driver.take_finished();
        driver.take_changes(CHANGES);
    }
}

impl Driver {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Decides upon waiting pods; true where more could be done at once.
    fn decide(&mut self) -> bool {
        for _ in 0..DECISIONS {
            if self.in_flight >= IN_FLIGHT {
                return false;
            }
            let Some(decision) = self.scheduler.next(self.now()) else { return false };
            self.in_flight += 1;
            self.act(decision);
        }
        true
    }

    fn act(&mut self, decision: Decision) {
        match decision {
            Decision::Bind { pod, node } => self.actor.bind(pod, node),
            Decision::Unschedulable { pod, why } => {
                let message = why.to_string();
                let reference = pod.reference();
                let (name, namespace) = (&*pod.name, &*pod.namespace);
                tracing::debug!(kind = "Pod", namespace, name, why = message, "unschedulable");
                self.recorder.record(&reference, EventType::Warning, "FailedScheduling", &*message);
                let known = self.pods.get(namespace, name);
                self.actor.report(pod, known, message);
            }
        }
    }

    /// Waits until there is something to look at.
    async fn wait(&mut self) {
        // A binding that ends may make room for the next one, so that wakes in any case.
        let wake = self.scheduler.wake_at().filter(|_| self.in_flight < IN_FLIGHT);
        let wake = wake.map(|at| self.start + at);
        let unconfirmed = self.unconfirmed.front().map(|(at, ..)| *at);
        let until = wake.into_iter().chain(unconfirmed).min();
        tokio::select! {
            biased;
            Some(finished) = self.finished.recv() => self.finish(finished),
            change = self.node_changes.next_change() => observe::node(&mut self.scheduler, change),
            change = self.pod_changes.next_change() => {
                observe::pod(&mut self.scheduler, change, self.start.elapsed());
            }
            () = until_or_never(until) => self.ask_for_unconfirmed(),
        }
    }

    fn take_changes(&mut self, most: usize) {
        for _ in 0..most {
            let Some(change) = self.node_changes.try_next() else { break };
            observe::node(&mut self.scheduler, change);
        }
        let now = self.now();
        for _ in 0..most {
            let Some(change) = self.pod_changes.try_next() else { break };
            observe::pod(&mut self.scheduler, change, now);
        }
    }

    fn take_finished(&mut self) {
        while let Ok(finished) = self.finished.try_recv() {
            self.finish(finished);
        }
    }

    fn finish(&mut self, finished: Finished) {
        self.in_flight -= 1;
        let Finished { pod, ending } = finished;
        match ending {
            Ending::Reported => {}
            Ending::Bound { node } => {
                let message =
                    format!("Successfully assigned {}/{} to {node}", pod.namespace, pod.name);
                self.recorder.record(&pod.reference(), EventType::Normal, "Scheduled", message);
                if self.scheduler.is_assumed(&pod.uid) {
                    let key = Key { namespace: pod.namespace.clone(), name: pod.name.clone() };
                    let until = Instant::now() + CONFIRMED_WITHIN;
                    self.unconfirmed.push_back((until, key, pod.uid.clone()));
                }
            }
            Ending::Found(found) => observe::is(&mut self.scheduler, &found, self.start.elapsed()),
            Ending::Gone => self.scheduler.gone(&pod.uid),
            Ending::Failed { error } => {
                let (name, namespace) = (&*pod.name, &*pod.namespace);
                tracing::warn!(kind = "Pod", namespace, name, error, "binding failed");
                let message = format!("binding rejected: {error}");
                self.recorder.record(
                    &pod.reference(),
                    EventType::Warning,
                    "FailedScheduling",
                    message,
                );
                self.retry(&pod.uid, namespace, name);
            }
            Ending::StillWaits => self.retry(&pod.uid, &pod.namespace, &pod.name),
        }
    }

    /// Lets a pod whose binding didn't come about be tried again, as it is now.
    fn retry(&mut self, uid: &str, namespace: &str, name: &str) {
        let now = self.now();
        self.scheduler.unbind(uid, now);
        if let Some(pod) = self.pods.get(namespace, name).filter(|pod| pod.uid() == uid) {
            observe::is(&mut self.scheduler, &pod, now);
        }
    }

    /// Asks the API about bindings that its watch should have shown long ago.
    fn ask_for_unconfirmed(&mut self) {
        let now = Instant::now();
        while self.in_flight < IN_FLIGHT
            && let Some((until, key, uid)) = self.unconfirmed.front().cloned()
            && until <= now
        {
            self.unconfirmed.pop_front();
            if self.scheduler.is_assumed(&uid) {
                self.in_flight += 1;
                self.actor.look(&key, uid);
            }
        }
    }
}

async fn until_or_never(until: Option<Instant>) {
    match until {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
