//! What the agent knows of a pod beyond its object: a fold of what the runtimes report. It can be
//! built again at any time from the API, the records and the runtimes, and is after a restart.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};
use windlass_runtime_api::{ContainerState, Nature, ObservedSandbox};
use windlass_sdk_meta::{Timestamp, quota::Amounts};
use windlass_sdk_types::api::core::v1::{
    ContainerStateTerminated, ContainerStatus, Pod, ResourceRequirements,
};

use crate::{order, probe::Tally};

/// `lastState.terminated.reason` of a container whose process died with the agent's.
pub const NODE_RESTART: &str = "NodeRestart";
/// The exit code that goes with it: 128 + SIGKILL.
const NODE_RESTART_CODE: i32 = 137;
/// A container that ran this long starts its back-off anew.
const STABLE_SECONDS: i64 = 600;
const CRASH_FIRST: Duration = Duration::from_secs(10);
const CRASH_MOST: Duration = Duration::from_secs(300);
/// Between attempts to give a container other amounts.
const RESIZE_FIRST: Duration = Duration::from_secs(2);
const RESIZE_MOST: Duration = Duration::from_secs(60);

/// One pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodState {
    pub address: Option<IpAddr>,
    pub sandbox: SandboxState,
    /// Why the sandbox can't be made.
    pub trouble: Option<Trouble>,
    pub containers: BTreeMap<String, ContainerMemory>,
    /// `status.startTime`.
    pub started_at: Option<Timestamp>,
    /// Why the pod has to end, whatever its containers do.
    pub failure: Option<Failure>,
    /// The API has been asked to remove the object, and agreed.
    pub deleted: bool,
    /// What the other pods of the node ask for; only while this one wants another size.
    pub others_ask: Amounts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SandboxState {
    #[default]
    Absent,
    Making,
    Ready,
    Removing,
}

/// One container of the pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerMemory {
    pub state: Attempt,
    /// Of the newest attempt that started: `restartCount`.
    pub attempt: u32,
    /// The attempt that is being started.
    pub starting: Option<u32>,
    /// By when a stop that is under way ends it.
    pub stopping: Option<Timestamp>,
    /// Why the next attempt can't start.
    pub trouble: Option<Trouble>,
    /// How the attempt before the newest ended.
    pub last: Option<Terminated>,
    /// Restarts in a row that count for the back-off.
    pub crashes: u32,
    pub readiness: Tally,
    /// Of the startup probe, then of the liveness probe.
    pub health: Tally,
    /// The startup probe succeeded.
    pub passed_startup: bool,
    /// The postStart hook runs, or has failed.
    pub hooking: bool,
    /// Why the newest attempt has to end, whatever it does; also after it did.
    pub doom: Option<Doom>,
    /// CPU and memory that the newest attempt has; None where that isn't known.
    pub given: Option<ResourceRequirements>,
    /// A runtime is being asked to give it others.
    pub resizing: bool,
    /// Why it wasn't given them.
    pub resize_trouble: Option<Trouble>,
    /// The attempt whose termination message was looked for.
    pub message_of: Option<u32>,
    /// What the image is that was found last for this container.
    pub nature: Option<Nature>,
    /// The image of the newest attempt, as the pod named it, and its digest.
    pub image: String,
    pub image_digest: String,
}

/// The newest attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Attempt {
    #[default]
    Never,
    Running {
        id: String,
        started_at: Timestamp,
    },
    Ended(Terminated),
}

/// What the runtimes say of one pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen<'a> {
    pub sandbox: Option<&'a ObservedSandbox>,
    /// Those that didn't answer: what they had they may have still.
    pub silent: &'a [&'static str],
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Terminated {
    /// With its runtime's name, as `containerID` has it.
    pub id: String,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
}

/// Why a container has to end and to be started anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doom {
    pub by: DoomedBy,
    /// The probe's own grace period; None: the pod's.
    pub grace: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoomedBy {
    Startup,
    Liveness,
    PostStart,
    /// Its `resizePolicy`: what it is to have it gets by a new start.
    Resize,
}

/// Something that keeps a container (or sandbox) from starting.
#[derive(Clone, Debug, PartialEq)]
pub struct Trouble {
    pub reason: String,
    pub message: String,
    pub since: Timestamp,
    pub retry_at: Timestamp,
    /// How often in a row.
    pub failures: u32,
}

/// `status.reason` and `status.message` of a pod that failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    pub message: String,
}

/// What is kept on disk of a pod whose containers ended or restarted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub namespace: String,
    pub name: String,
    pub containers: BTreeMap<String, ContainerRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub attempt: u32,
    /// None while that attempt runs.
    pub ended: Option<Terminated>,
    pub last: Option<Terminated>,
    pub crashes: u32,
}

impl Trouble {
    /// The same again: its delay doubles from `first` to `most`.
    pub fn again(
        before: Option<&Self>,
        reason: &str,
        message: String,
        now: Timestamp,
        (first, most): (Duration, Duration),
    ) -> Self {
        let failures = before.filter(|b| b.reason == reason).map_or(0, |b| b.failures) + 1;
        let delay = doubled(first, most, failures);
        Self { reason: reason.to_owned(), message, since: now, retry_at: now + delay, failures }
    }
}

impl ContainerMemory {
    /// How long after its end the newest attempt is followed by another: none at first, then
    /// upstream's 10 s doubling to 300 s.
    pub fn restart_delay(&self) -> Duration {
        match &self.state {
            Attempt::Ended(ended) if ended.reason == NODE_RESTART => Duration::ZERO,
            _ if self.is_resized_by_restart() => Duration::ZERO,
            _ if self.crashes == 0 => Duration::ZERO,
            _ => doubled(CRASH_FIRST, CRASH_MOST, self.crashes),
        }
    }

    fn is_resized_by_restart(&self) -> bool {
        self.doom.is_some_and(|doom| doom.by == DoomedBy::Resize)
    }

    /// The runtime was asked to give the attempt other amounts.
    pub fn resized(
        &mut self,
        (attempt, given): (u32, ResourceRequirements),
        outcome: Result<(), String>,
        now: Timestamp,
    ) {
        self.resizing = false;
        if attempt != self.attempt {
            return;
        }
        match outcome {
            Ok(()) => {
                self.given = Some(given);
                self.resize_trouble = None;
            }
            Err(why) => {
                let before = self.resize_trouble.take();
                let delays = (RESIZE_FIRST, RESIZE_MOST);
                self.resize_trouble =
                    Some(Trouble::again(before.as_ref(), "Error", why, now, delays));
            }
        }
    }

    /// The attempt that was being started runs.
    pub fn started(&mut self, attempt: u32, id: String, started_at: Timestamp) {
        if let Attempt::Ended(ended) = std::mem::take(&mut self.state) {
            if ended.reason != NODE_RESTART && !self.is_resized_by_restart() {
                self.crashes += 1;
            }
            self.last = Some(ended);
        }
        self.state = Attempt::Running { id, started_at };
        self.attempt = attempt;
        self.starting = None;
        self.trouble = None;
        self.readiness = Tally::default();
        self.health = Tally::default();
        self.passed_startup = false;
        self.hooking = false;
        self.doom = None;
        (self.given, self.resize_trouble) = (None, None);
    }

    fn ended(&mut self, ended: Terminated) {
        if ended.finished_at.duration_since(ended.started_at).as_secs() >= STABLE_SECONDS {
            self.crashes = 0;
        }
        self.state = Attempt::Ended(ended);
        self.stopping = None;
        self.readiness = Tally::default();
    }
}

impl PodState {
    /// As it was before the agent's restart: from the API, and from the record where that is newer.
    pub fn restore(pod: &Pod, record: Option<&Record>) -> Self {
        let status = pod.status.as_ref();
        let mut state = Self {
            address: status.and_then(|status| status.pod_ip.as_deref()?.parse().ok()),
            started_at: status.and_then(|status| Some(status.start_time.as_ref()?.0)),
            ..Self::default()
        };
        let known = status.iter().flat_map(|status| {
            let init = status.init_container_statuses.iter().flatten();
            let late = status.ephemeral_container_statuses.iter().flatten();
            init.chain(status.container_statuses.iter().flatten()).chain(late)
        });
        for container in order::every(pod) {
            let told = known.clone().find(|told| told.name == container.name);
            let mut memory = told.map(from_status).unwrap_or_default();
            if let Some(record) = record.and_then(|record| record.containers.get(&container.name)) {
                merge(&mut memory, record);
            }
            state.containers.insert(container.name.clone(), memory);
        }
        state
    }

    /// Takes in what the runtimes say of the pod. True where something changed.
    pub fn observe(&mut self, seen: Seen<'_>, now: Timestamp) -> bool {
        let before = self.clone();
        let Seen { sandbox: seen, silent } = seen;
        let is_silent = |id: &str| {
            let name = id.split_once("://").map_or("", |(name, _)| name);
            silent.contains(&name)
        };
        if seen.is_none() && silent.is_empty() && self.sandbox == SandboxState::Ready {
            self.sandbox = SandboxState::Absent;
        } else if seen.is_some() && self.sandbox == SandboxState::Absent {
            self.sandbox = SandboxState::Ready;
        }
        for (name, memory) in &mut self.containers {
            let found =
                seen.and_then(|seen| seen.containers.iter().find(|other| other.name == *name));
            // While an attempt is being started its call tells how that went.
            let found = found.filter(|found| memory.starting.is_none_or(|at| at != found.attempt));
            match found {
                Some(found) => take_in(memory, found),
                // Who doesn't answer may have it still.
                None if is_silent(memory.state.id()) => {}
                None if memory.starting.is_none() => lose(memory, now),
                None => {}
            }
        }
        *self != before
    }

    /// What is kept on disk; None where the API tells as much.
    pub fn record(&self, namespace: &str, name: &str) -> Option<Record> {
        let told = |memory: &ContainerMemory| {
            memory.attempt > 0
                || memory.starting.is_some_and(|attempt| attempt > 0)
                || matches!(memory.state, Attempt::Ended(_))
        };
        if !self.containers.values().any(told) {
            return None;
        }
        let containers = self.containers.iter().map(|(name, memory)| {
            let mut record = ContainerRecord {
                attempt: memory.attempt,
                ended: None,
                last: memory.last.clone(),
                crashes: memory.crashes,
            };
            if let Attempt::Ended(ended) = &memory.state {
                match memory.starting {
                    // Should the process die now, the attempt counts as one that ran.
                    Some(attempt) => {
                        record.attempt = attempt;
                        record.last = Some(ended.clone());
                    }
                    None => record.ended = Some(ended.clone()),
                }
            }
            (name.clone(), record)
        });
        Some(Record {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            containers: containers.collect(),
        })
    }

    pub fn any_running(&self) -> bool {
        self.containers.values().any(|memory| {
            matches!(memory.state, Attempt::Running { .. }) || memory.starting.is_some()
        })
    }
}

fn take_in(memory: &mut ContainerMemory, found: &windlass_runtime_api::ObservedContainer) {
    match &found.state {
        ContainerState::Running { started_at } => {
            // An end never changes: this was seen before it.
            if matches!(&memory.state, Attempt::Ended(ended) if ended.id == found.id) {
                return;
            }
            let running = Attempt::Running { id: found.id.clone(), started_at: *started_at };
            if memory.attempt != found.attempt {
                memory.readiness = Tally::default();
                memory.health = Tally::default();
                memory.doom = None;
                memory.given = None;
            }
            memory.state = running;
            memory.attempt = found.attempt;
        }
        ContainerState::Exited { started_at, finished_at, exit_code, reason, message } => {
            let is_known = matches!(&memory.state, Attempt::Ended(ended) if ended.id == found.id);
            if !is_known {
                memory.attempt = found.attempt;
                let otherwise = if *exit_code == 0 { "Completed" } else { "Error" };
                memory.ended(Terminated {
                    id: found.id.clone(),
                    exit_code: *exit_code,
                    reason: if reason.is_empty() { otherwise.into() } else { reason.clone() },
                    message: message.clone(),
                    started_at: *started_at,
                    finished_at: *finished_at,
                });
            }
        }
    }
}

/// The runtime doesn't know a container that ran: its process died.
fn lose(memory: &mut ContainerMemory, now: Timestamp) {
    if let Attempt::Running { id, started_at } = &memory.state {
        memory.ended(Terminated {
            id: id.clone(),
            exit_code: NODE_RESTART_CODE,
            reason: NODE_RESTART.to_owned(),
            message: "The process that ran the container ended".to_owned(),
            started_at: *started_at,
            finished_at: now,
        });
    }
}

fn from_status(told: &ContainerStatus) -> ContainerMemory {
    let mut memory = ContainerMemory {
        attempt: u32::try_from(told.restart_count).unwrap_or_default(),
        image: told.image.clone(),
        image_digest: told.image_id.clone(),
        given: told.resources.clone(),
        readiness: Tally::told(told.ready),
        passed_startup: told.started == Some(true),
        ..ContainerMemory::default()
    };
    let last = told.last_state.as_ref().and_then(|last| last.terminated.as_ref()).map(terminated);
    let state = told.state.as_ref();
    if let Some(running) = state.and_then(|state| state.running.as_ref()) {
        let started_at = running.started_at.as_ref().map_or(Timestamp::UNIX_EPOCH, |at| at.0);
        memory.state = Attempt::Running { id: id_of(told.container_id.as_deref()), started_at };
        memory.last = last;
    } else if let Some(ended) = state.and_then(|state| state.terminated.as_ref()) {
        memory.state = Attempt::Ended(terminated(ended));
        memory.last = last;
    } else if let Some(ended) = last {
        // It waits for its next attempt.
        memory.crashes = memory.attempt.max(1);
        memory.state = Attempt::Ended(ended);
    }
    memory
}

fn terminated(ended: &ContainerStateTerminated) -> Terminated {
    let at = |time: &Option<windlass_sdk_types::Time>| {
        time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
    };
    Terminated {
        id: id_of(ended.container_id.as_deref()),
        exit_code: ended.exit_code,
        reason: ended.reason.clone().unwrap_or_default(),
        message: ended.message.clone().unwrap_or_default(),
        started_at: at(&ended.started_at),
        finished_at: at(&ended.finished_at),
    }
}

fn id_of(container_id: Option<&str>) -> String {
    container_id.unwrap_or_default().to_owned()
}

/// The record is written before the API hears of it, so where it is newer it wins.
fn merge(memory: &mut ContainerMemory, record: &ContainerRecord) {
    let ended = matches!(memory.state, Attempt::Ended(_));
    if record.attempt < memory.attempt || (record.attempt == memory.attempt && ended) {
        memory.crashes = record.crashes;
        return;
    }
    let running_since = match &memory.state {
        Attempt::Running { started_at, .. } if record.attempt == memory.attempt => {
            Some(*started_at)
        }
        _ => record.last.as_ref().map(|last| last.finished_at),
    };
    memory.attempt = record.attempt;
    memory.last = record.last.clone();
    memory.crashes = record.crashes;
    memory.state = match &record.ended {
        Some(ended) => Attempt::Ended(ended.clone()),
        None => Attempt::Running {
            id: String::new(),
            started_at: running_since.unwrap_or(Timestamp::UNIX_EPOCH),
        },
    };
}

/// `first`, doubled with each failure after the first, at most `most`.
fn doubled(first: Duration, most: Duration, failures: u32) -> Duration {
    let factor = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_silent_runtime_had_is_not_lost() {
        let at = |seconds| Timestamp::from_second(seconds).expect("in range");
        let running = |id: &str| ContainerMemory {
            state: Attempt::Running { id: id.into(), started_at: at(1) },
            ..ContainerMemory::default()
        };
        let mut state = PodState { sandbox: SandboxState::Ready, ..PodState::default() };
        state.containers.insert("c".into(), running("docker://c"));
        state.containers.insert("w".into(), running("wasm://w"));
        let runs = |state: &PodState, name: &str| {
            matches!(state.containers[name].state, Attempt::Running { .. })
        };
        state.observe(Seen { sandbox: None, silent: &["docker"] }, at(2));
        assert_eq!((runs(&state, "c"), runs(&state, "w")), (true, false));
        assert_eq!(state.sandbox, SandboxState::Ready);
        // It answers, and has it no more.
        state.observe(Seen::default(), at(3));
        assert!(!runs(&state, "c"));
        assert_eq!(state.sandbox, SandboxState::Absent);
    }
}
