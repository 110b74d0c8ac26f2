//! What probes and hooks mean for a container: which are asked when, what their results change, and
//! the hooks themselves. A container whose startup or liveness probe fails, or whose postStart hook
//! does, is doomed: the plan stops it and starts it anew.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use windlass_runtime_api::Runtime;
use windlass_sdk_client::{EventType, Key};
use windlass_sdk_types::{
    Kind, Pod,
    api::core::v1::{Container, LifecycleHandler},
};

use crate::{
    agent::Agent,
    call::{Call, Outcome},
    order,
    probe::{Report, Schedule, Sort, Target, Watched},
    state::{Attempt, Doom, DoomedBy},
};

/// A postStart hook that takes longer has failed.
const POST_START_MOST: Duration = Duration::from_secs(600);
/// What is left to a container after its preStop hook took the whole grace period, as upstream has
/// it.
const LEFT_AFTER_PRE_STOP: Duration = Duration::from_secs(2);

impl Agent {
    /// Begins to probe an attempt that runs now.
    pub(crate) fn watch(&self, pod: &Pod, container: &str) {
        let Some(found) = order::containers(pod).find(|of| of.name == container) else { return };
        let begins = {
            let entries = self.entries.lock();
            let entry = entries.by_uid.get(pod.uid());
            entry.and_then(|entry| {
                let memory = entry.state.containers.get(container)?;
                let Attempt::Running { started_at, .. } = memory.state else { return None };
                let starts = found.startup_probe.is_some() && !memory.passed_startup;
                Some((entry.state.address?, memory.attempt, started_at, starts))
            })
        };
        let Some((address, attempt, started_at, starts)) = begins else { return };
        let sorts = match starts {
            true => &[Sort::Startup][..],
            false => &[Sort::Liveness, Sort::Readiness],
        };
        let age = self.clock.now().duration_since(started_at);
        self.probe_all(
            pod.uid(),
            address,
            found,
            attempt,
            sorts,
            age.try_into().unwrap_or_default(),
        );
    }

    /// Who does it: a program runs beside the container, a port is called through the pod's network.
    fn runtime_for(&self, call: &Call, uid: &str, container: &str) -> Arc<dyn Runtime> {
        match call {
            Call::Exec(_) => self.runtime_of(uid, container),
            _ => self.runtimes.first().clone(),
        }
    }

    fn probe_all(
        &self,
        uid: &str,
        address: IpAddr,
        container: &Container,
        attempt: u32,
        sorts: &[Sort],
        age: Duration,
    ) {
        for &sort in sorts {
            let Some(schedule) = Schedule::of(container, sort) else { continue };
            let target = Target {
                pod_uid: uid.to_owned(),
                address,
                container: container.name.clone(),
                attempt,
                sort,
            };
            let delay = schedule.initial_delay.saturating_sub(age);
            let runtime = self.runtime_for(&schedule.call, uid, &container.name);
            let schedule = Arc::new(schedule);
            // The receiver goes only when the agent stops.
            let _ = self.probes.send(Watched { target, schedule, runtime, delay });
        }
    }

    /// Runs the container's postStart hook, if it has one; what depends on the container waits for
    /// it. True where the container may go on.
    pub(crate) async fn post_start(&self, pod: &Pod, container: &Container) -> bool {
        let hook = container.lifecycle.as_ref().and_then(|of| of.post_start.as_ref());
        let Some(hook) = hook else { return true };
        let (uid, name) = (pod.uid(), &container.name);
        let stopped = CancellationToken::new();
        let address = self.update(uid, |entry| {
            entry.hooks.insert(name.clone(), stopped.clone());
            entry.state.address
        });
        let Some(address) = address.flatten() else { return false };
        let hooked = self.hook(uid, address, container, hook, POST_START_MOST);
        let outcome = stopped.run_until_cancelled(hooked).await;
        let failed = outcome.is_some_and(|outcome| !outcome.is_success());
        if failed {
            // Upstream keeps the output out of the Event: it may hold secrets.
            let about = self.about(&Key::of(pod), uid, Some(name));
            let said = "PostStartHook failed".to_owned();
            self.recorder.record(&about, EventType::Warning, "FailedPostStartHook", said);
        }
        self.update(uid, |entry| {
            entry.hooks.remove(name);
            if let Some(memory) = entry.state.containers.get_mut(name) {
                memory.hooking = failed;
                if failed {
                    memory.doom = Some(Doom { by: DoomedBy::PostStart, grace: None });
                }
            }
        });
        !failed
    }

    /// Runs the container's preStop hook, if it has one, and returns what is left of the grace
    /// period.
    pub(crate) async fn pre_stop(
        &self,
        pod: &Pod,
        address: IpAddr,
        container: &Container,
        grace: Duration,
    ) -> Duration {
        let hook = container.lifecycle.as_ref().and_then(|of| of.pre_stop.as_ref());
        let Some(hook) = hook.filter(|_| !grace.is_zero()) else { return grace };
        let began = self.clock.now();
        let outcome = self.hook(pod.uid(), address, container, hook, grace).await;
        if !outcome.is_success() {
            let about = self.about(&Key::of(pod), pod.uid(), Some(&container.name));
            let said = "PreStopHook failed".to_owned();
            self.recorder.record(&about, EventType::Warning, "FailedPreStopHook", said);
        }
        let took = self.clock.now().duration_since(began);
        grace.saturating_sub(took.try_into().unwrap_or_default()).max(LEFT_AFTER_PRE_STOP)
    }

    async fn hook(
        &self,
        uid: &str,
        address: IpAddr,
        container: &Container,
        hook: &LifecycleHandler,
        most: Duration,
    ) -> Outcome {
        let call = if let Some(exec) = &hook.exec {
            Call::Exec(exec.command.clone().unwrap_or_default())
        } else if let Some(get) = &hook.http_get {
            Call::of_hook(container, get)
        } else if let Some(sleep) = &hook.sleep {
            let seconds = Duration::from_secs(sleep.seconds.unsigned_abs());
            tokio::time::sleep(seconds.min(most)).await;
            return Outcome::Success;
        } else {
            Call::Wrong("the hook has no handler".to_owned())
        };
        let outcome = call
            .run(
                &*self.runtime_for(&call, uid, &container.name),
                uid,
                &container.name,
                address,
                most,
            )
            .await;
        match outcome {
            // Upstream looks at nothing but whether an answer came.
            Outcome::Failure(why) if why.starts_with("HTTP probe failed") => Outcome::Success,
            other => {
                tracing::debug!(uid, container = container.name, outcome = ?other, "hook ran");
                other
            }
        }
    }
}

impl Report for Agent {
    fn probed(&self, target: &Target, schedule: &Schedule, outcome: Outcome) -> bool {
        let uid = &target.pod_uid;
        let mut entries = self.entries.lock();
        let Some(entry) = entries.by_uid.get_mut(uid) else { return false };
        let key = entry.key.clone();
        let Some(memory) = entry.state.containers.get_mut(&target.container) else { return false };
        if memory.attempt != target.attempt || !matches!(memory.state, Attempt::Running { .. }) {
            return false;
        }
        // What is being stopped may still become unready, but isn't stopped once more.
        if memory.stopping.is_some() && target.sort != Sort::Readiness {
            return false;
        }
        // Who can't be reached, because what leads there isn't there (again), is judged later.
        let runtime = self.runtimes.of_id(memory.state.id());
        if !outcome.is_success() && (entry.resuming || !is_there(runtime.as_ref())) {
            return true;
        }
        if let Some((reason, message)) = outcome.event(target.sort) {
            let about = self.about(&key, uid, Some(&target.container));
            self.recorder.record(&about, EventType::Warning, reason, message);
        }
        let tally = match target.sort {
            Sort::Readiness => &mut memory.readiness,
            Sort::Startup | Sort::Liveness => &mut memory.health,
        };
        if !tally.count(outcome.is_success(), schedule) {
            return true;
        }
        let healthy = tally.is_healthy();
        if (target.sort, healthy) != (Sort::Liveness, true) {
            self.queue.add(uid.clone());
        }
        match (target.sort, healthy) {
            (Sort::Readiness, _) | (Sort::Liveness, true) => true,
            (Sort::Startup, true) => {
                memory.passed_startup = true;
                memory.health = Default::default();
                drop(entries);
                if let Some(pod) = self.pods.find(&key).filter(|pod| pod.uid() == uid) {
                    self.watch(&pod, &target.container);
                }
                false
            }
            (sort @ (Sort::Startup | Sort::Liveness), false) => {
                let pod = self.pods.find(&key).filter(|pod| pod.uid() == uid);
                let grace = pod.and_then(|pod| probe_grace(&pod, &target.container, sort));
                let by = match sort {
                    Sort::Startup => DoomedBy::Startup,
                    _ => DoomedBy::Liveness,
                };
                memory.doom = Some(Doom { by, grace });
                false
            }
        }
    }
}

fn is_there(runtime: &dyn Runtime) -> bool {
    runtime.availability().is_none_or(|availability| availability.borrow().is_ready())
}

/// The probe's own `terminationGracePeriodSeconds`.
fn probe_grace(pod: &Pod, container: &str, sort: Sort) -> Option<Duration> {
    let container = order::containers(pod).find(|of| of.name == container)?;
    let seconds = sort.of(container)?.termination_grace_period_seconds?;
    Some(Duration::from_secs(seconds.unsigned_abs()))
}
