//! Which containers of a pod are which, and what their order asks for: init containers one after
//! the other, sidecars (restartable init containers, KEP-753) from their turn on until all others
//! have ended. Pure.

use std::borrow::Cow;

use windlass_sdk_types::api::core::v1::{
    Container, EphemeralContainer, Pod, SecurityContext, VolumeMount,
};

use crate::state::{Attempt, ContainerMemory, PodState, Terminated};

/// What a container is in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Runs once, before those after it.
    Init,
    /// Started in the order of the init containers; goes on until the main ones have ended.
    Sidecar,
    Main,
    /// Added while the pod runs (KEP-277): waits for nobody, and nobody waits for it.
    Ephemeral,
}

/// Added by `kubectl debug` without being asked, for tools that trace processes; a WASM pod has none.
const TRACING: &str = "SYS_PTRACE";

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

/// The pod's ephemeral containers, as containers. One that names no mounts of its own sees the pod's
/// volumes where its target, else the first container, has them.
pub fn ephemeral(pod: &Pod) -> Vec<Container> {
    let spec = pod.spec.iter();
    let all = spec.flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    all.map(|of| as_container(pod, of)).collect()
}

/// Every container of the pod, ephemeral ones too.
pub fn every(pod: &Pod) -> impl Iterator<Item = Cow<'_, Container>> {
    containers(pod).map(Cow::Borrowed).chain(ephemeral(pod).into_iter().map(Cow::Owned))
}

/// The list of the specification that holds a container of this name.
pub fn list_of(pod: &Pod, name: &str) -> &'static str {
    let Some(spec) = &pod.spec else { return "containers" };
    if spec.init_containers.iter().flatten().any(|of| of.name == name) {
        "initContainers"
    } else if spec.ephemeral_containers.iter().flatten().any(|of| of.name == name) {
        "ephemeralContainers"
    } else {
        "containers"
    }
}

fn as_container(pod: &Pod, of: &EphemeralContainer) -> Container {
    let own = of.volume_mounts.clone().filter(|mounts| !mounts.is_empty());
    Container {
        name: of.name.clone(),
        image: of.image.clone(),
        image_pull_policy: of.image_pull_policy.clone(),
        command: of.command.clone(),
        args: of.args.clone(),
        working_dir: of.working_dir.clone(),
        env: of.env.clone(),
        env_from: of.env_from.clone(),
        volume_mounts: Some(own.unwrap_or_else(|| mounts_of_others(pod, of))),
        volume_devices: of.volume_devices.clone(),
        termination_message_path: of.termination_message_path.clone(),
        termination_message_policy: of.termination_message_policy.clone(),
        security_context: of.security_context.clone().map(without_tracing),
        stdin: of.stdin,
        stdin_once: of.stdin_once,
        tty: of.tty,
        // Validation lets nothing else through.
        ..Container::default()
    }
}

/// The mounts of the target, and of the other containers those of volumes that it lacks.
fn mounts_of_others(pod: &Pod, of: &EphemeralContainer) -> Vec<VolumeMount> {
    let mains = || pod.spec.iter().flat_map(|spec| &spec.containers);
    let named = of.target_container_name.as_ref();
    let target = containers(pod).find(|one| Some(&one.name) == named).or(mains().next());
    let mut mounts = target.and_then(|of| of.volume_mounts.clone()).unwrap_or_default();
    for mount in mains().flat_map(|of| of.volume_mounts.iter().flatten()) {
        let is_there =
            |known: &VolumeMount| known.name == mount.name || known.mount_path == mount.mount_path;
        if !mounts.iter().any(is_there) {
            mounts.push(mount.clone());
        }
    }
    mounts
}

fn without_tracing(mut context: SecurityContext) -> SecurityContext {
    if let Some(capabilities) = &mut context.capabilities
        && let Some(added) = &mut capabilities.add
    {
        added.retain(|name| name != TRACING);
    }
    context
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
        (Role::Ephemeral, _, _) => "Never",
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
    let runs = |name: &str| {
        let memory = state.containers.get(name);
        memory.is_some_and(|memory| {
            memory.starting.is_some() || matches!(memory.state, Attempt::Running { .. })
        })
    };
    let running: Vec<(Role, &Container)> =
        roles(pod).filter(|(_, container)| runs(&container.name)).collect();
    let late = pod.spec.iter().flat_map(|spec| spec.ephemeral_containers.iter().flatten());
    let late = late.map(|container| container.name.as_str()).filter(|name| runs(name));
    let first: Vec<&str> = running
        .iter()
        .filter(|(role, _)| *role != Role::Sidecar)
        .map(|(_, container)| container.name.as_str())
        .chain(late)
        .collect();
    match (first.is_empty(), running.last()) {
        (true, Some((_, sidecar))) => vec![sidecar.name.as_str()],
        _ => first,
    }
}
