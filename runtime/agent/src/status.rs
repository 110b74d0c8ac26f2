//! A pod's status as upstream's clients expect it: phase, conditions, container statuses. Pure.

use serde_json::{Map, Value, json};
use windlass_sdk_meta::{Timestamp, format_time};
use windlass_sdk_types::api::core::v1::{Container, Pod};

use crate::{
    eviction,
    order::{self, Role},
    plan::NodeView,
    resize::Resizing,
    state::{ContainerMemory, Failure, NODE_RESTART, PodState, SandboxState, Terminated},
};

/// What a container shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    Waiting { reason: String, message: String },
    Running { id: String, started_at: Timestamp },
    Terminated(Terminated),
}

type Row<'a> = (&'a Container, ContainerMemory, Shown);

/// What the containers of a pod show.
pub struct Rows<'a> {
    pub init: &'a [Row<'a>],
    pub main: &'a [Row<'a>],
    /// The ephemeral ones.
    pub late: &'a [Row<'a>],
    /// Why the pod has to end before its containers do.
    pub failure: Option<&'a Failure>,
    /// A main container has been started.
    pub begun: bool,
    pub resizing: Resizing,
}

/// Conditions this agent writes; others are kept as they are.
const OWN_CONDITIONS: [&str; 6] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    RESIZE_PENDING,
    RESIZE_IN_PROGRESS,
];
const RESIZE_PENDING: &str = "PodResizePending";
const RESIZE_IN_PROGRESS: &str = "PodResizeInProgress";

/// The pod was ended for the node's sake, not for what it did (KEP-3329).
const DISRUPTION_TARGET: &str = "DisruptionTarget";

impl Shown {
    pub fn waiting(reason: &str, message: &str) -> Self {
        Self::Waiting { reason: reason.to_owned(), message: message.to_owned() }
    }
}

/// The whole status. `is_over`: nothing runs and nothing will be started. `previous` gives the
/// transition times of conditions that don't change.
pub fn build(
    pod: &Pod,
    state: &PodState,
    rows: &Rows<'_>,
    is_over: bool,
    previous: &Value,
    node: &NodeView,
    now: Timestamp,
) -> Value {
    let generation = pod.metadata.generation.unwrap_or_default();
    let phase = phase(is_over, rows, previous);
    let mut status = Map::new();
    if generation > 0 {
        status.insert("observedGeneration".into(), generation.into());
    }
    status.insert("phase".into(), phase.into());
    if phase == "Failed" {
        let (reason, message) = match rows.failure {
            Some(failure) => (json!(failure.reason), json!(failure.message)),
            None => (previous["reason"].clone(), previous["message"].clone()),
        };
        for (key, text) in [("reason", reason), ("message", message)] {
            if text.is_string() {
                status.insert(key.into(), text);
            }
        }
    }
    let conditions = conditions(pod, state, rows, phase, previous, now);
    status.insert("conditions".into(), conditions);
    status.insert("hostIP".into(), node.host_ip.as_str().into());
    status.insert("hostIPs".into(), json!([{ "ip": node.host_ip }]));
    if let Some(address) = state.address {
        status.insert("podIP".into(), address.to_string().into());
        status.insert("podIPs".into(), json!([{ "ip": address.to_string() }]));
    }
    let started_at = state.started_at.unwrap_or(now);
    status.insert("startTime".into(), format_time(started_at).into());
    if !rows.init.is_empty() {
        let statuses = rows.init.iter().map(|row| {
            let mut status = container_status(row, node.runtime);
            if !is_sidecar(row) {
                status["ready"] = is_done(row).into();
                status["started"] = false.into();
            }
            status
        });
        status.insert("initContainerStatuses".into(), statuses.collect());
    }
    let mut statuses: Vec<Value> =
        rows.main.iter().map(|row| container_status(row, node.runtime)).collect();
    statuses.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    status.insert("containerStatuses".into(), statuses.into());
    if !rows.late.is_empty() {
        let statuses = rows.late.iter().map(|row| {
            let mut status = container_status(row, node.runtime);
            // Nobody waits for it to be ready.
            status["ready"] = false.into();
            status["started"] = false.into();
            status
        });
        status.insert("ephemeralContainerStatuses".into(), statuses.collect());
    }
    Value::Object(status)
}

/// The rules of upstream's kubelet; a phase that is an end stays.
fn phase(is_over: bool, rows: &Rows<'_>, previous: &Value) -> &'static str {
    match previous["phase"].as_str() {
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    if is_over {
        let succeeded =
            |row: &Row<'_>| matches!(&row.2, Shown::Terminated(ended) if ended.exit_code == 0);
        let all = rows.failure.is_none() && rows.main.iter().all(succeeded);
        return if all { "Succeeded" } else { "Failed" };
    }
    // A container that waits for its next attempt doesn't make the pod pending again.
    let is_new = |(_, memory, shown): &Row<'_>| {
        matches!(shown, Shown::Waiting { .. }) && last(memory, shown).is_none()
    };
    if rows.main.iter().any(is_new) { "Pending" } else { "Running" }
}

fn conditions(
    pod: &Pod,
    state: &PodState,
    rows: &Rows<'_>,
    phase: &str,
    previous: &Value,
    now: Timestamp,
) -> Value {
    let generation = pod.metadata.generation.unwrap_or_default();
    let sandbox = state.sandbox == SandboxState::Ready;
    let containers_ready = containers_ready(rows, phase);
    let ready = match &containers_ready {
        None => unmet_gate(pod),
        some => some.clone(),
    };
    let uninitialized = if rows.begun || phase == "Succeeded" { None } else { unfinished(rows) };
    let is_initialized = uninitialized.is_none();
    let initialized =
        uninitialized.or_else(|| (phase == "Succeeded").then_some(("PodCompleted", String::new())));
    let own = [
        ("PodReadyToStartContainers", sandbox, None),
        ("Initialized", is_initialized, initialized),
        ("Ready", ready.is_none(), ready),
        ("ContainersReady", containers_ready.is_none(), containers_ready),
    ];
    let known = previous["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    let foreign = foreign_conditions(pod);
    let mut all: Vec<Value> = own
        .into_iter()
        .map(|(sort, holds, why)| condition(sort, holds, why, generation, known, now))
        .collect();
    if !foreign.iter().any(|condition| condition["type"] == "PodScheduled") {
        all.push(condition("PodScheduled", true, None, generation, known, now));
    }
    let disrupted = rows.failure.filter(|failure| eviction::is_for_the_node(failure));
    if let Some(failure) = disrupted
        && !foreign.iter().any(|condition| condition["type"] == DISRUPTION_TARGET)
    {
        let why = Some(("TerminationByKubelet", failure.message.clone()));
        all.push(condition(DISRUPTION_TARGET, true, why, generation, known, now));
    }
    if let Some(why) = rows.resizing.deferred.clone() {
        let why = Some(("Deferred", why));
        all.push(condition(RESIZE_PENDING, true, why, generation, known, now));
    }
    if rows.resizing.under_way || rows.resizing.failed.is_some() {
        let why = rows.resizing.failed.clone().map(|why| ("Error", why));
        all.push(condition(RESIZE_IN_PROGRESS, true, why, generation, known, now));
    }
    all.extend(foreign);
    all.into()
}

/// What others (the scheduler, controllers of readiness gates) say of the pod, as the API has it.
fn foreign_conditions(pod: &Pod) -> Vec<Value> {
    let known = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
    let foreign =
        known.unwrap_or_default().iter().filter(|c| !OWN_CONDITIONS.contains(&c.type_.as_str()));
    foreign
        .map(|condition| {
            let time = |at: &Option<windlass_sdk_types::Time>| {
                at.as_ref().map_or(Value::Null, |at| format_time(at.0).into())
            };
            let mut value = json!({ "type": condition.type_ });
            if let Some(generation) = condition.observed_generation {
                value["observedGeneration"] = generation.into();
            }
            value["status"] = condition.status.as_str().into();
            value["lastProbeTime"] = time(&condition.last_probe_time);
            value["lastTransitionTime"] = time(&condition.last_transition_time);
            for (key, text) in [("reason", &condition.reason), ("message", &condition.message)] {
                if let Some(text) = text {
                    value[key] = text.as_str().into();
                }
            }
            value
        })
        .collect()
}

/// A condition keeps its transition time for as long as its status does.
fn condition(
    sort: &str,
    holds: bool,
    why: Option<(&str, String)>,
    generation: i64,
    known: &[Value],
    now: Timestamp,
) -> Value {
    let status = if holds { "True" } else { "False" };
    let before = known.iter().find(|known| known["type"] == sort && known["status"] == status);
    let since = before
        .map_or_else(|| format_time(now).into(), |before| before["lastTransitionTime"].clone());
    let mut condition = json!({ "type": sort });
    if generation > 0 {
        condition["observedGeneration"] = generation.into();
    }
    condition["status"] = status.into();
    condition["lastProbeTime"] = Value::Null;
    condition["lastTransitionTime"] = since;
    if let Some((reason, message)) = why {
        condition["reason"] = reason.into();
        if !message.is_empty() {
            condition["message"] = message.into();
        }
    }
    condition
}

/// None where all are ready, else (reason, message).
fn containers_ready(rows: &Rows<'_>, phase: &str) -> Option<(&'static str, String)> {
    match phase {
        "Succeeded" => return Some(("PodCompleted", String::new())),
        "Failed" => return Some(("PodFailed", String::new())),
        _ => {}
    }
    let counted = rows.init.iter().filter(|row| is_sidecar(row)).chain(rows.main);
    let unready: Vec<&str> =
        counted.filter(|row| !is_ready(row)).map(|(of, _, _)| of.name.as_str()).collect();
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    (!unready.is_empty()).then_some(("ContainersNotReady", message))
}

/// The init containers that haven't done what the main ones wait for.
fn unfinished(rows: &Rows<'_>) -> Option<(&'static str, String)> {
    let left: Vec<&str> = rows
        .init
        .iter()
        .filter(|row| !is_done(row))
        .map(|(container, _, _)| container.name.as_str())
        .collect();
    let message = format!("containers with incomplete status: [{}]", left.join(" "));
    (!left.is_empty()).then_some(("ContainersNotInitialized", message))
}

fn is_sidecar((container, _, _): &Row<'_>) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn is_done(row: &Row<'_>) -> bool {
    let role = if is_sidecar(row) { Role::Sidecar } else { Role::Init };
    order::is_done(role, row.0, &row.1)
}

fn unmet_gate(pod: &Pod) -> Option<(&'static str, String)> {
    let known = foreign_conditions(pod);
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_deref());
    let messages: Vec<String> = gates
        .unwrap_or_default()
        .iter()
        .filter_map(|gate| {
            let sort = gate.condition_type.as_str();
            match known.iter().find(|condition| condition["type"] == sort) {
                None => Some(format!(
                    "corresponding condition of pod readiness gate {sort:?} does not exist."
                )),
                Some(condition) if condition["status"] == "True" => None,
                Some(condition) => Some(format!(
                    "the status of pod readiness gate {sort:?} is not \"True\", but {}",
                    condition["status"].as_str().unwrap_or_default()
                )),
            }
        })
        .collect();
    (!messages.is_empty()).then(|| ("ReadinessGatesNotReady", messages.join(", ")))
}

fn is_ready((container, memory, shown): &Row<'_>) -> bool {
    is_started(container, memory, shown)
        && (memory.readiness.is_healthy() || container.readiness_probe.is_none())
}

fn is_started(container: &Container, memory: &ContainerMemory, shown: &Shown) -> bool {
    let running = matches!(shown, Shown::Running { .. });
    running && !memory.hooking && (memory.passed_startup || container.startup_probe.is_none())
}

fn container_status(row: &Row<'_>, runtime: &str) -> Value {
    let (container, memory, shown) = row;
    let id = |id: &str| match id {
        "" => Value::Null,
        id if id.contains("://") => id.into(),
        id => format!("{runtime}://{id}").into(),
    };
    let (state, container_id) = match shown {
        Shown::Waiting { reason, message } => {
            let mut waiting = json!({ "reason": reason });
            if !message.is_empty() {
                waiting["message"] = message.as_str().into();
            }
            (json!({ "waiting": waiting }), last(memory, shown).map(|ended| id(&ended.id)))
        }
        Shown::Running { id: own, started_at } => {
            let state = json!({ "running": { "startedAt": format_time(*started_at) } });
            (state, Some(id(own)))
        }
        Shown::Terminated(ended) => (terminated(ended, &id), Some(id(&ended.id))),
    };
    let last_state = last(memory, shown).map_or_else(|| json!({}), |ended| terminated(ended, &id));
    let started = !matches!(memory.state, crate::state::Attempt::Never);
    let image = if started && !memory.image.is_empty() { Some(&memory.image) } else { None };
    let mut status = json!({
        "name": container.name,
        "state": state,
        "lastState": last_state,
        "ready": is_ready(row),
        "restartCount": memory.attempt,
        "image": image.or(container.image.as_ref()),
        "imageID": memory.image_digest,
    });
    if let Some(id) = container_id.filter(|id| !id.is_null()) {
        status["containerID"] = id;
    }
    status["started"] = is_started(container, memory, shown).into();
    if let (Shown::Running { .. }, Some(given)) = (shown, &memory.given) {
        if let Some(requests) = &given.requests {
            status["allocatedResources"] = json!(requests);
        }
        status["resources"] = json!(given);
    }
    status
}

/// The end that `lastState` tells: of the attempt before the one that `state` tells.
fn last<'a>(memory: &'a ContainerMemory, shown: &Shown) -> Option<&'a Terminated> {
    match (&memory.state, shown) {
        (crate::state::Attempt::Ended(ended), Shown::Waiting { .. }) => Some(ended),
        _ => memory.last.as_ref(),
    }
}

fn terminated(ended: &Terminated, id: &dyn Fn(&str) -> Value) -> Value {
    let mut inner = json!({ "exitCode": ended.exit_code, "reason": ended.reason });
    if !ended.message.is_empty() {
        inner["message"] = ended.message.as_str().into();
    }
    // A node that restarted may not know when the attempt began.
    if ended.reason != NODE_RESTART || ended.started_at != Timestamp::UNIX_EPOCH {
        inner["startedAt"] = format_time(ended.started_at).into();
    }
    inner["finishedAt"] = format_time(ended.finished_at).into();
    let id = id(&ended.id);
    if !id.is_null() {
        inner["containerID"] = id;
    }
    json!({ "terminated": inner })
}

/// Nothing to tell but that containers are being created.
pub(crate) fn only_waits(status: &Value) -> bool {
    let of = |list: &str| status[list].as_array().map_or(&[][..], Vec::as_slice);
    of("initContainerStatuses").iter().chain(of("containerStatuses")).all(|container| {
        let reason = container["state"]["waiting"]["reason"].as_str();
        matches!(reason, Some("ContainerCreating" | "PodInitializing"))
    })
}
