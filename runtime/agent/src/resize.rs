//! In-place resize (KEP-1287): a container that runs gets other amounts of CPU and memory, or is
//! started anew where its `resizePolicy` says so. Pure, but for the call of the runtime.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};
use windlass_sdk_meta::{Quantity, quota};
use windlass_sdk_types::{
    Kind, Pod,
    api::core::v1::{Container, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity as Written,
};

use crate::{
    act::limits,
    agent::{Agent, Entry},
    order,
    plan::NodeView,
    state::{Attempt, ContainerMemory, Doom, DoomedBy, PodState},
};

/// As the API writes them.
type Amounts = BTreeMap<String, Written>;

const RESIZED: [&str; 2] = ["cpu", "memory"];

/// What a pod's containers were given and what keeps them from what they want; for its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resizing {
    /// The node has too little for now.
    pub deferred: Option<String>,
    /// A runtime is being asked.
    pub under_way: bool,
    pub failed: Option<String>,
}

/// CPU and memory as the pod wants them for the container.
pub fn wanted(container: &Container) -> ResourceRequirements {
    let mut wanted = container.resources.clone().unwrap_or_default();
    wanted.claims = None;
    for list in [&mut wanted.requests, &mut wanted.limits] {
        if let Some(amounts) = list {
            amounts.retain(|name, _| RESIZED.contains(&name.as_str()));
        }
        list.take_if(|amounts| amounts.is_empty());
    }
    wanted
}

/// It runs with other amounts than the pod wants.
pub fn is_wanted(container: &Container, memory: &ContainerMemory) -> bool {
    let is_given = || match (&container.resources, &memory.given) {
        // Nearly all containers.
        (None, Some(given)) => *given == ResourceRequirements::default(),
        (_, given) => given.as_ref() == Some(&wanted(container)),
    };
    matches!(memory.state, Attempt::Running { .. }) && !is_given()
}

/// What changes can only change by a new start.
fn takes_restart(container: &Container, memory: &ContainerMemory) -> bool {
    let Some(given) = &memory.given else { return false };
    let wanted = wanted(container);
    container.resize_policy.iter().flatten().any(|policy| {
        let differs = |given: &Option<Amounts>, wanted: &Option<Amounts>| {
            let of = |list: &Option<Amounts>| list.as_ref()?.get(&policy.resource_name).cloned();
            of(given) != of(wanted)
        };
        policy.restart_policy == "RestartContainer"
            && (differs(&given.requests, &wanted.requests)
                || differs(&given.limits, &wanted.limits))
    })
}

/// Why the node can't give the pod what it wants now: what all pods ask for would be more than the
/// node has. A pod that wants no more than before is never held up.
pub fn deferred(pod: &Pod, state: &PodState, node: &NodeView) -> Option<String> {
    let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
    let wanted = quota::pod_total(&spec, "requests");
    let given = quota::pod_total(&as_given(spec, state), "requests");
    let has = [("cpu", node.cpu_millis), ("memory", node.memory_bytes as i64)];
    let units = |name: &str, amounts: &quota::Amounts| -> i64 {
        let amount = amounts.get(name).copied().unwrap_or(Quantity::ZERO);
        if name == "cpu" { amount.millis() } else { amount.units() }
    };
    let mut lacking = has.into_iter().filter(|(name, capacity)| {
        let (wanted, others) = (units(name, &wanted), units(name, &state.others_ask));
        wanted > units(name, &given) && wanted.saturating_add(others) > *capacity
    });
    let (name, capacity) = lacking.next()?;
    Some(format!(
        "Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {capacity}",
        units(name, &wanted),
        units(name, &state.others_ask)
    ))
}

/// The specification with what its containers have, in place of what they want.
fn as_given(mut spec: Value, state: &PodState) -> Value {
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            if let Some(given) = state.containers.get(name).and_then(|of| of.given.as_ref()) {
                container["resources"] = serde_json::to_value(given).unwrap_or_default();
            }
        }
    }
    spec
}

/// Of the specification, what tells what the pod asks for: there may be ten thousand to look at.
fn what_it_asks(pod: &Pod) -> Value {
    let Some(spec) = &pod.spec else { return Value::Null };
    let of = |containers: &[Container]| -> Vec<Value> {
        let of = |one: &Container| json!({"restartPolicy": one.restart_policy, "resources": one.resources});
        containers.iter().map(of).collect()
    };
    json!({"containers": of(&spec.containers), "resources": spec.resources,
        "initContainers": of(spec.init_containers.as_deref().unwrap_or_default())})
}

impl Resizing {
    pub fn of(pod: &Pod, state: &PodState, node: &NodeView) -> Self {
        let mut this = Self::default();
        for container in order::every(pod) {
            let Some(memory) = state.containers.get(&container.name) else { continue };
            this.under_way |= memory.resizing;
            if is_wanted(&container, memory) && memory.given.is_some() && this.deferred.is_none() {
                this.deferred = deferred(pod, state, node);
            }
            this.failed =
                this.failed.or_else(|| Some(memory.resize_trouble.as_ref()?.message.clone()));
        }
        this
    }
}

impl Agent {
    /// What the node's other pods ask for, while this one wants another size.
    pub(crate) fn others_ask(&self, pod: &Pod, state: &PodState) -> quota::Amounts {
        let mut sum = quota::Amounts::new();
        let is_asked = |container: &Container| {
            let memory = state.containers.get(&container.name);
            memory.is_some_and(|memory| memory.given.is_some() && is_wanted(container, memory))
        };
        if !order::every(pod).any(|container| is_asked(&container)) {
            return sum;
        }
        for other in self.pods.list().iter().filter(|other| other.uid() != pod.uid()) {
            let phase = other.status.as_ref().and_then(|status| status.phase.as_deref());
            if !matches!(phase, Some("Succeeded" | "Failed")) {
                quota::add(&mut sum, &quota::pod_total(&what_it_asks(other), "requests"));
            }
        }
        sum
    }

    /// Gives a container what its pod wants now.
    pub(crate) fn resize(self: &Arc<Self>, entry: &mut Entry, pod: &Pod, container: &str) {
        let uid = pod.uid().to_owned();
        let Some(memory) = entry.state.containers.get_mut(container) else { return };
        let Some(spec) = order::every(pod).find(|of| of.name == container) else { return };
        if takes_restart(&spec, memory) {
            memory.doom = Some(Doom { by: DoomedBy::Resize, grace: None });
            return self.queue.add(uid);
        }
        memory.resizing = true;
        let (wanted, attempt) = (wanted(&spec), memory.attempt);
        let runtime = self.runtimes.of_id(memory.state.id()).clone();
        let limits = limits(pod, &spec).map_err(crate::act::config_error);
        let (agent, name) = (self.clone(), container.to_owned());
        tokio::spawn(async move {
            let resized = match limits {
                Ok(limits) => runtime.resize_container(&uid, &name, limits).await,
                Err(error) => Err(error),
            };
            agent.update(&uid, |entry| {
                let now = agent.clock.now();
                if let Some(memory) = entry.state.containers.get_mut(&name) {
                    memory.resized((attempt, wanted), resized.map_err(|error| error.message), now);
                }
            });
        });
    }
}
