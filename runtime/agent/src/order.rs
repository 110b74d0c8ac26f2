//! Which containers of a pod are which, and what their order asks for: init containers one after
//! the other, sidecars (restartable init containers, KEP-753) from their turn on until all others
//! have ended. Pure.

use windlass_sdk_types::api::core::v1::{Container, Pod};

use crate::state::{Attempt, ContainerMemory, PodState, Terminated};

/// What a container is in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs once, before those after it.
    Init,
    /// Started in the order of the init containers; goes on until the main ones have ended.
    Sidecar,
    Main,
}

/// All containers of a pod with their roles, in the order in which they start.
pub fn roles(pod: &Pod) -> impl Iterator<Item = (Role, &Container)> + Clone {
    let spec = pod.spec.iter();
    let init = spec.clone().flat_map(|spec| spec.init_containers.iter().flatten());
    let main = spec.flat_map(|spec| &spec.containers);
    let role = |container: &Container| match container.restart_policy.as_deref() {
        Some("Always") => Role::Sidecar,
        _ => Role::Init,
    };
    init.map(move |container| (role(container), container))
        .chain(main.map(|container| (Role::Main, container)))
}

/// All containers of a pod, in the order in which they start.
pub fn containers(pod: &Pod) -> impl Iterator<Item = &Container> + Clone {
    roles(pod).map(|(_, container)| container)
}

/// A main container has been started: the pod is initialised, whatever its init containers do.
pub fn has_begun(pod: &Pod, state: &PodState) -> bool {
    let mains = roles(pod).filter(|(role, _)| *role == Role::Main);
    mains
        .filter_map(|(_, container)| state.containers.get(&container.name))
        .any(|memory| memory.starting.is_some() || !matches!(memory.state, Attempt::Never))
}

/// An init container that has done what those after it wait for.
pub fn is_done(role: Role, container: &Container, memory: &ContainerMemory) -> bool {
    match (&memory.state, role) {
        (Attempt::Ended(ended), Role::Init) => ended.exit_code == 0,
        (Attempt::Running { .. }, Role::Sidecar) => {
            !memory.hooking && (memory.passed_startup || container.startup_probe.is_none())
        }
        _ => false,
    }
}

/// Whether an ended container is started again by its own policy or the pod's.
pub fn restarts(
    pod: &Pod,
    role: Role,
    container: &Container,
    memory: &ContainerMemory,
    ended: &Terminated,
) -> bool {
    let listed = container.restart_policy_rules.iter().flatten().any(|rule| {
        let Some(codes) = &rule.exit_codes else { return false };
        let is_in = codes.values.iter().flatten().any(|code| *code == ended.exit_code);
        rule.action == "Restart" && is_in == (codes.operator == "In")
    });
    listed
        || match policy(pod, role, container) {
            "Never" => false,
            "OnFailure" => ended.exit_code != 0 || memory.doom.is_some(),
            _ => true,
        }
}

/// The restart policy that holds for a container.
pub fn policy<'a>(pod: &'a Pod, role: Role, container: &'a Container) -> &'a str {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    match (role, container.restart_policy.as_deref(), of_pod) {
        (Role::Sidecar, _, _) => "Always",
        (_, Some(own), _) => own,
        (Role::Init, None, Some("Never")) => "Never",
        (Role::Init, None, _) => "OnFailure",
        (Role::Main, None, of_pod) => of_pod.unwrap_or("Always"),
    }
}

/// What may be stopped now when all is to end: everything but the sidecars first, then these one
/// by one, the last first.
pub fn next_to_stop<'a>(pod: &'a Pod, state: &PodState) -> Vec<&'a str> {
    let runs = |container: &Container| {
        let memory = state.containers.get(&container.name);
        memory.is_some_and(|memory| {
            memory.starting.is_some() || matches!(memory.state, Attempt::Running { .. })
        })
    };
    let running: Vec<(Role, &Container)> =
        roles(pod).filter(|(_, container)| runs(container)).collect();
    let first: Vec<&str> = running
        .iter()
        .filter(|(role, _)| *role != Role::Sidecar)
        .map(|(_, container)| container.name.as_str())
        .collect();
    match (first.is_empty(), running.last()) {
        (true, Some((_, sidecar))) => vec![sidecar.name.as_str()],
        _ => first,
    }
}
