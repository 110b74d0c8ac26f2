//! What to do for a pod: a pure function of its object, of what is known about it, and of the time.
//! Each call says everything that is left to do, so a lost wake-up costs time, never truth; what is
//! under way is part of what is known, so asking twice does nothing twice.

use std::time::Duration;

use serde_json::Value;
use windlass_runtime_api::Nature;
use windlass_sdk_client::EventType;
use windlass_sdk_meta::Timestamp;
use windlass_sdk_types::{
    Kind,
    api::core::v1::{Container, Pod},
};

use crate::{
    order::{self, Role},
    resize::{self, Resizing},
    state::{
        Attempt, ContainerMemory, Doom, DoomedBy, Failure, NODE_RESTART, PodState, SandboxState,
        Terminated,
    },
    status::{self, Rows, Shown},
    unsupported::Refusals,
};

/// What a pod without `terminationGracePeriodSeconds` has.
const GRACE_SECONDS: i64 = 30;
/// For pods whose object is gone: there is nobody left to ask how long.
const ORPHAN_GRACE: Duration = Duration::from_secs(1);
/// For pods that took more than they may.
const EVICTION_GRACE: Duration = Duration::from_secs(1);
/// Until a node that had too little for a resize is looked at again.
const DEFERRED: Duration = Duration::from_secs(5);
/// How long a failed pull shows as ErrImagePull before it shows as ImagePullBackOff.
const PULL_ERROR_SHOWN: Duration = Duration::from_secs(1);

/// Facts of the node that every plan needs.
#[derive(Clone, Debug)]
pub struct NodeView {
    pub host_ip: String,
    /// `wasm`: the prefix of container ids.
    pub runtime: &'static str,
    /// The node has a runtime for containers, be it reachable now or not.
    pub containers: bool,
    /// Allocatable: what a container without limits may use.
    pub cpu_millis: i64,
    pub memory_bytes: u64,
}

/// What to do now, what to tell, and when to look again without being asked.
#[derive(Debug, PartialEq)]
pub struct Plan {
    pub actions: Vec<Action>,
    /// The whole status as it should be; None where the object is gone.
    pub status: Option<Value>,
    pub says: Vec<Say>,
    /// For the log: the rule that applied.
    pub why: &'static str,
    pub wake_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    RunSandbox,
    Start {
        container: String,
        attempt: u32,
    },
    Stop {
        container: String,
        grace: Duration,
    },
    /// Give a container the amounts that the pod wants now.
    Resize {
        container: String,
    },
    RemoveSandbox,
    /// Tell the API the final status, then remove the object.
    Delete,
    /// Nothing is left of the pod: drop its record, logs and address.
    Forget,
}

/// An Event about a container, said once for each attempt and message.
#[derive(Clone, Debug, PartialEq)]
pub struct Say {
    pub container: String,
    pub sort: EventType,
    pub reason: &'static str,
    pub message: String,
}

/// Plans for one pod; `pod` is None where its object is gone. `previous` is the status as it was
/// told last (or as the API has it).
pub fn plan_pod(
    pod: Option<&Pod>,
    state: &PodState,
    previous: &Value,
    node: &NodeView,
    now: Timestamp,
) -> Plan {
    let mut plan =
        Plan { actions: Vec::new(), status: None, says: Vec::new(), why: "running", wake_at: None };
    let Some(pod) = pod else {
        plan.why = "object is gone";
        plan.end(None, state, ORPHAN_GRACE, Action::Forget, now);
        return plan;
    };
    let refused = Refusals::of(pod);
    let (mut init, mut main) = (Vec::new(), Vec::new());
    let deleting = pod.is_deleting();
    let over = is_over(pod, state, previous);
    let failure = if over { None } else { plan.failure(pod, state, now) };
    let ended = over || failure.is_some();
    // Those before have done what is waited for.
    let mut open = true;
    let begun = order::has_begun(pod, state);
    for (role, container) in order::roles(pod) {
        let memory = state.containers.get(&container.name).cloned().unwrap_or_default();
        let is_done = order::is_done(role, container, &memory);
        let is_left = match role {
            Role::Init => is_done || begun,
            Role::Sidecar | Role::Main | Role::Ephemeral => false,
        };
        let waits = !open && !begun && matches!(memory.state, Attempt::Never);
        let view = if deleting || ended || is_left || waits {
            at_rest(&memory, &refused, container, node, waits)
        } else {
            plan.container(pod, (role, container), &memory, state, (&refused, node), now)
        };
        open &= is_done || role == Role::Main;
        let rows = if role == Role::Main { &mut main } else { &mut init };
        rows.push((container, memory, view));
    }
    let ephemeral = order::ephemeral(pod);
    let mut late = Vec::new();
    for container in &ephemeral {
        let memory = state.containers.get(&container.name).cloned().unwrap_or_default();
        let view = if deleting || ended {
            at_rest(&memory, &refused, container, node, false)
        } else {
            let role = (Role::Ephemeral, container);
            plan.container(pod, role, &memory, state, (&refused, node), now)
        };
        late.push((container, memory, view));
    }
    let grace = grace(pod);
    if deleting {
        plan.why = "object is being deleted";
        plan.end(Some(pod), state, remaining_grace(pod, now), Action::Delete, now);
    } else if ended {
        let (why, grace) = match &failure {
            Some(failure) if failure.reason == "Evicted" => ("evicted", EVICTION_GRACE),
            Some(_) => ("deadline is over", grace),
            None => ("all containers have ended", grace),
        };
        plan.why = why;
        plan.stop_next(Some(pod), state, grace, now);
        if state.sandbox == SandboxState::Ready && !state.any_running() {
            plan.actions.push(Action::RemoveSandbox);
        }
    } else if let Some(trouble) = &state.trouble {
        plan.wake(trouble.retry_at, now);
    }
    let is_over = (deleting || ended) && !state.any_running();
    let resizing = if is_over { Resizing::default() } else { Resizing::of(pod, state, node) };
    let failure = failure.as_ref();
    let rows = Rows { init: &init, main: &main, late: &late, failure, begun, resizing };
    plan.status = Some(status::build(pod, state, &rows, is_over, previous, node, now));
    plan
}

/// The pod has come to its end by itself: nothing runs and nothing will be started.
fn is_over(pod: &Pod, state: &PodState, previous: &Value) -> bool {
    if matches!(previous["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return true;
    }
    let is_final = |(role, container): (Role, &Container)| {
        let memory = state.containers.get(&container.name);
        memory.is_some_and(|memory| match &memory.state {
            Attempt::Ended(ended) => {
                memory.starting.is_none() && !restarts(pod, role, container, memory, ended)
            }
            _ => false,
        })
    };
    let has_failed = |(role, container): (Role, &Container)| {
        let memory = state.containers.get(&container.name);
        role == Role::Init
            && memory.is_some_and(|memory| !order::is_done(role, container, memory))
            && is_final((role, container))
    };
    if !order::has_begun(pod, state) && order::roles(pod).any(has_failed) {
        return true;
    }
    let mut mains = order::roles(pod).filter(|(role, _)| *role == Role::Main).peekable();
    mains.peek().is_some() && mains.all(is_final)
}

/// A changed image restarts a container whatever the policy says.
fn restarts(
    pod: &Pod,
    role: Role,
    container: &Container,
    memory: &ContainerMemory,
    ended: &Terminated,
) -> bool {
    order::restarts(pod, role, container, memory, ended)
        || (role != Role::Init && is_changed(container, memory))
}

fn is_changed(container: &Container, memory: &ContainerMemory) -> bool {
    !memory.image.is_empty() && container.image.as_deref().is_some_and(|name| name != memory.image)
}

/// What the container's image may be: both, before it was found.
fn natures(container: &Container, memory: &ContainerMemory, node: &NodeView) -> &'static [Nature] {
    match memory.nature.filter(|_| !is_changed(container, memory)) {
        _ if !node.containers => &[Nature::Wasm],
        Some(Nature::Wasm) => &[Nature::Wasm],
        Some(Nature::Container) => &[Nature::Container],
        None => &[Nature::Wasm, Nature::Container],
    }
}

/// How long the pod's containers may take to end.
pub(crate) fn grace(pod: &Pod) -> Duration {
    let seconds = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
    Duration::from_secs(seconds.unwrap_or(GRACE_SECONDS).unsigned_abs())
}

fn remaining_grace(pod: &Pod, now: Timestamp) -> Duration {
    match &pod.metadata.deletion_timestamp {
        Some(at) => at.0.duration_since(now).try_into().unwrap_or(Duration::ZERO),
        None => Duration::ZERO,
    }
}

/// What a container shows when nothing will be done for it any more.
fn at_rest(
    memory: &ContainerMemory,
    refused: &Refusals<'_>,
    container: &Container,
    node: &NodeView,
    waits: bool,
) -> Shown {
    match &memory.state {
        Attempt::Running { id, started_at } => {
            Shown::Running { id: id.clone(), started_at: *started_at }
        }
        Attempt::Ended(ended) => Shown::Terminated(ended.clone()),
        Attempt::Never => {
            match (refused.concerning(container, natures(container, memory, node)), &memory.trouble)
            {
                (Some(message), _) => Shown::waiting("CreateContainerConfigError", message),
                (None, Some(trouble)) => Shown::waiting(&trouble.reason, &trouble.message),
                (None, None) if waits => Shown::waiting("PodInitializing", ""),
                (None, None) => Shown::waiting("ContainerCreating", ""),
            }
        }
    }
}

impl Plan {
    /// Ends everything in order: containers, sandbox, then the last step.
    fn end(
        &mut self,
        pod: Option<&Pod>,
        state: &PodState,
        grace: Duration,
        last: Action,
        now: Timestamp,
    ) {
        self.stop_next(pod, state, grace, now);
        match state.sandbox {
            _ if state.any_running() => {}
            SandboxState::Ready => self.actions.push(Action::RemoveSandbox),
            SandboxState::Absent if !state.deleted || last == Action::Forget => {
                self.actions.push(last);
            }
            _ => {}
        }
    }

    /// Stops what may be stopped now; where the object is gone, everything.
    fn stop_next(&mut self, pod: Option<&Pod>, state: &PodState, grace: Duration, now: Timestamp) {
        let next = pod.map(|pod| order::next_to_stop(pod, state));
        for (name, memory) in &state.containers {
            let is_next = next.as_ref().is_none_or(|next| next.contains(&name.as_str()));
            if is_next && matches!(memory.state, Attempt::Running { .. }) {
                self.stop(name, memory, grace, now);
            }
        }
    }

    /// Why the pod has to end before its containers do.
    fn failure(&mut self, pod: &Pod, state: &PodState, now: Timestamp) -> Option<Failure> {
        if let Some(failure) = &state.failure {
            self.say("", EventType::Warning, "Evicted", failure.message.clone());
            return Some(failure.clone());
        }
        let seconds = pod.spec.as_ref()?.active_deadline_seconds?;
        let due = state.started_at? + Duration::from_secs(seconds.unsigned_abs());
        if now < due {
            self.wake(due, now);
            return None;
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        self.say("", EventType::Normal, "DeadlineExceeded", message.clone());
        Some(Failure { reason: "DeadlineExceeded".to_owned(), message })
    }

    /// A stop that is under way is repeated only to make it shorter.
    fn stop(&mut self, name: &str, memory: &ContainerMemory, grace: Duration, now: Timestamp) {
        if memory.stopping.is_some_and(|by| by <= now + grace) {
            return;
        }
        if memory.stopping.is_none() {
            self.say(name, EventType::Normal, "Killing", format!("Stopping container {name}"));
        }
        self.actions.push(Action::Stop { container: name.to_owned(), grace });
    }

    fn container(
        &mut self,
        pod: &Pod,
        (role, container): (Role, &Container),
        memory: &ContainerMemory,
        state: &PodState,
        (refused, node): (&Refusals<'_>, &NodeView),
        now: Timestamp,
    ) -> Shown {
        let runs = matches!(memory.state, Attempt::Running { .. });
        let natures = natures(container, memory, node);
        if let Some(message) = (!runs).then(|| refused.concerning(container, natures)).flatten() {
            self.say(&container.name, EventType::Warning, "Failed", format!("Error: {message}"));
            return Shown::waiting("CreateContainerConfigError", message);
        }
        match &memory.state {
            Attempt::Running { id, started_at } => {
                if let Some(doom) = memory.doom {
                    self.restart(pod, (role, container), memory, doom);
                } else if is_changed(container, memory) {
                    self.change(pod, container, memory);
                } else if resize::is_wanted(container, memory) {
                    self.resize(pod, container, memory, state, node, now);
                }
                if memory.hooking {
                    return Shown::waiting("ContainerCreating", "");
                }
                Shown::Running { id: id.clone(), started_at: *started_at }
            }
            Attempt::Never => self.start(container, memory, state, 0, now),
            Attempt::Ended(ended) => {
                if !restarts(pod, role, container, memory, ended) {
                    return Shown::Terminated(ended.clone());
                }
                let delay = match is_changed(container, memory) {
                    true => Duration::ZERO,
                    false => memory.restart_delay(),
                };
                let due = ended.finished_at + delay;
                if memory.starting.is_none() && due > now {
                    return self.back_off(pod, container, delay, due, now);
                }
                self.start(container, memory, state, memory.attempt + 1, now)
            }
        }
    }

    /// Starts the next attempt, as far as everything it needs is there.
    fn start(
        &mut self,
        container: &Container,
        memory: &ContainerMemory,
        state: &PodState,
        attempt: u32,
        now: Timestamp,
    ) -> Shown {
        let trouble = memory.trouble.as_ref().or(state.trouble.as_ref());
        let held = trouble.is_some_and(|trouble| trouble.retry_at > now);
        if memory.starting.is_none() && !held {
            match state.sandbox {
                SandboxState::Ready => {
                    let container = container.name.clone();
                    self.actions.push(Action::Start { container, attempt });
                }
                SandboxState::Absent if !self.actions.contains(&Action::RunSandbox) => {
                    self.actions.push(Action::RunSandbox);
                }
                _ => {}
            }
        }
        if held && let Some(trouble) = trouble {
            self.wake(trouble.retry_at, now);
        }
        match (trouble, &memory.state) {
            (Some(trouble), _) => self.show_trouble(container, trouble, now),
            (None, Attempt::Ended(ended)) if ended.reason != NODE_RESTART => {
                Shown::Terminated(ended.clone())
            }
            _ => Shown::waiting("ContainerCreating", ""),
        }
    }

    fn show_trouble(
        &mut self,
        container: &Container,
        trouble: &crate::state::Trouble,
        now: Timestamp,
    ) -> Shown {
        let shown_until = trouble.since + PULL_ERROR_SHOWN;
        if trouble.reason != "ErrImagePull" {
            return Shown::waiting(&trouble.reason, &trouble.message);
        }
        if now < shown_until {
            self.wake(shown_until, now);
            return Shown::waiting(&trouble.reason, &trouble.message);
        }
        let image = container.image.as_deref().unwrap_or_default();
        let message = format!("Back-off pulling image {image:?}");
        self.say(&container.name, EventType::Normal, "BackOff", message.clone());
        let failed = "Error: ImagePullBackOff".to_owned();
        self.say(&container.name, EventType::Warning, "Failed", failed);
        let message = format!("{message}: ErrImagePull: {}", trouble.message);
        Shown::waiting("ImagePullBackOff", &message)
    }

    fn back_off(
        &mut self,
        pod: &Pod,
        container: &Container,
        delay: Duration,
        due: Timestamp,
        now: Timestamp,
    ) -> Shown {
        self.wake(due, now);
        let of = format!("{}_{}({})", pod.name(), pod.namespace(), pod.uid());
        let name = &container.name;
        let message = format!("Back-off restarting failed container {name} in pod {of}");
        self.say(name, EventType::Warning, "BackOff", message);
        let delay = match delay.as_secs() {
            seconds @ 0..60 => format!("{seconds}s"),
            seconds => format!("{}m{}s", seconds / 60, seconds % 60),
        };
        Shown::waiting(
            "CrashLoopBackOff",
            &format!("back-off {delay} restarting failed container={name} pod={of}"),
        )
    }

    /// Ends a container that its probes or its hook gave up.
    fn restart(
        &mut self,
        pod: &Pod,
        (role, container): (Role, &Container),
        memory: &ContainerMemory,
        doom: Doom,
    ) {
        if memory.stopping.is_some() {
            return;
        }
        let name = &container.name;
        let again = match order::policy(pod, role, container) {
            "Never" => "",
            _ => ", will be restarted",
        };
        let message = match doom.by {
            DoomedBy::Startup => format!("Container {name} failed startup probe{again}"),
            DoomedBy::Liveness => format!("Container {name} failed liveness probe{again}"),
            DoomedBy::PostStart => "FailedPostStartHook".to_owned(),
            DoomedBy::Resize => format!("Container {name} resize requires restart"),
        };
        self.say(name, EventType::Normal, "Killing", message);
        let grace = doom.grace.unwrap_or_else(|| grace(pod));
        self.actions.push(Action::Stop { container: name.clone(), grace });
    }

    /// Asks for what the pod wants now, if the node has it and no attempt of that is under way.
    fn resize(
        &mut self,
        pod: &Pod,
        container: &Container,
        memory: &ContainerMemory,
        state: &PodState,
        node: &NodeView,
        now: Timestamp,
    ) {
        if memory.resizing || memory.stopping.is_some() {
            return;
        }
        if let Some(trouble) = memory.resize_trouble.as_ref().filter(|t| t.retry_at > now) {
            return self.wake(trouble.retry_at, now);
        }
        // What a container of unknown size was given is what it is given now.
        if memory.given.is_some() && resize::deferred(pod, state, node).is_some() {
            return self.wake(now + DEFERRED, now);
        }
        self.actions.push(Action::Resize { container: container.name.clone() });
    }

    fn change(&mut self, pod: &Pod, container: &Container, memory: &ContainerMemory) {
        let grace = grace(pod);
        if memory.stopping.is_none() {
            let name = &container.name;
            let message = format!("Container {name} definition changed, will be restarted");
            self.say(name, EventType::Normal, "Killing", message);
            self.actions.push(Action::Stop { container: name.clone(), grace });
        }
    }

    fn say(&mut self, container: &str, sort: EventType, reason: &'static str, message: String) {
        self.says.push(Say { container: container.to_owned(), sort, reason, message });
    }

    fn wake(&mut self, at: Timestamp, now: Timestamp) {
        if at > now {
            self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
        }
    }
}

#[cfg(test)]
mod tests;
