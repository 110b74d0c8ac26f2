//! Limits of `ephemeral-storage`: what a pod's logs, its volumes on the node's disk and what its
//! containers wrote beside these come to. It is measured from time to time, as the kubelet does, and
//! a pod that has more is evicted. A WASM container writes nowhere but to its volumes.

use windlass_sdk_meta::Quantity;
use windlass_sdk_types::{
    Kind,
    api::core::v1::{Container, Pod, Volume},
};

use crate::{
    agent::Agent,
    order::{self, Role},
};

const RESOURCE: &str = "ephemeral-storage";

/// Bytes on disk.
#[derive(Default)]
struct Used {
    /// Of each container: its logs, and what it wrote to its own file system.
    containers: Vec<(String, u64)>,
    volumes: u64,
}

pub(crate) fn has_limit(pod: &Pod) -> bool {
    order::containers(pod).any(|of| limit_of(of).is_some())
}

fn limit_of(container: &Container) -> Option<Quantity> {
    let limits = container.resources.as_ref()?.limits.as_ref()?;
    limits.get(RESOURCE)?.0.parse().ok()
}

/// Why a pod has to go, in upstream's words; None where it keeps to its limits.
fn exceeded(pod: &Pod, used: &Used) -> Option<String> {
    let together = used.volumes + used.containers.iter().map(|(_, bytes)| bytes).sum::<u64>();
    if let Some(limit) = limit_of_pod(pod)
        && Quantity::from_bytes(together) > limit
    {
        return Some(format!(
            "Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "
        ));
    }
    order::containers(pod).find_map(|of| {
        let limit = limit_of(of)?;
        let (name, bytes) = used.containers.iter().find(|(name, _)| *name == of.name)?;
        (Quantity::from_bytes(*bytes) > limit).then(|| {
            let text = limit.to_string();
            format!("Container {name} exceeded its local ephemeral storage limit {text:?}. ")
        })
    })
}

/// What the containers that run together may use, or an init container before them. None where
/// none has a limit.
fn limit_of_pod(pod: &Pod) -> Option<Quantity> {
    let mut together: Option<Quantity> = None;
    let mut before: Option<Quantity> = None;
    for (role, container) in order::roles(pod) {
        let Some(limit) = limit_of(container) else { continue };
        match role {
            Role::Init => {
                before = before.max(Some(limit));
            }
            Role::Sidecar | Role::Main | Role::Ephemeral => {
                together = Some(match together {
                    Some(sum) => sum.saturating_add(limit),
                    None => limit,
                });
            }
        }
    }
    together.max(before)
}

/// A volume that is a folder on the node's disk and goes with its pod.
fn is_local(source: &Volume) -> bool {
    let on_disk = |medium: Option<&str>| medium != Some("Memory");
    let empty = source.empty_dir.as_ref().is_some_and(|of| on_disk(of.medium.as_deref()));
    empty || source.config_map.is_some() || source.downward_api.is_some()
}

impl Agent {
    /// Whether a pod has more on the disk than its limits allow: what is then told.
    pub(crate) async fn storage_exceeded(&self, pod: &Pod) -> Option<String> {
        let written = self.runtimes.written_bytes(pod.uid()).await;
        let of = |name: &str| {
            let own = written.iter().filter(|(container, _)| container == name);
            own.map(|(_, bytes)| bytes).sum::<u64>()
        };
        let folder = self.log_folder(&windlass_sdk_client::Key::of(pod), pod.uid());
        let used = windlass_runtime_volume::used_bytes;
        let containers = order::containers(pod)
            .map(|one| (one.name.clone(), used(&folder.join(&one.name)) + of(&one.name)))
            .collect();
        let sources = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let volumes = sources
            .filter(|source| is_local(source))
            .filter_map(|source| self.volumes.volume_folder(pod.uid(), &source.name))
            .map(|folder| used(&folder))
            .sum();
        exceeded(pod, &Used { containers, volumes })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    /// Containers with their limits; logs of each and volumes, in KiB.
    fn check(init: &[&str], main: &[&str], logs: &[u64], volumes: u64, expected: Expect) {
        let of = |prefix: &str, limits: &[&str]| -> Vec<Value> {
            let container = |(n, limit): (usize, &&str)| match *limit {
                "" => json!({"name": format!("{prefix}{n}")}),
                limit => json!({"name": format!("{prefix}{n}"),
                    "resources": {"limits": {RESOURCE: limit}}}),
            };
            limits.iter().enumerate().map(container).collect()
        };
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {},
            "spec": {"initContainers": of("i", init), "containers": of("c", main)}});
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        let containers =
            logs.iter().enumerate().map(|(n, kib)| (format!("c{n}"), kib << 10)).collect();
        let said = exceeded(&pod, &Used { containers, volumes: volumes << 10 });
        expected.assert_eq(&said.unwrap_or_default());
    }

    #[test]
    fn who_has_to_go() {
        check(&[], &["", ""], &[9000, 9000], 9000, expect![""]);
        check(&[], &["1Mi"], &[1024], 0, expect![""]);
        check(
            &[],
            &["1Mi", ""],
            &[400, 400],
            400,
            expect![
                "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. "
            ],
        );
        check(
            &[],
            &["1Mi", "3Mi"],
            &[1025, 0],
            0,
            expect![[r#"Container c0 exceeded its local ephemeral storage limit "1Mi". "#]],
        );
        // An init container's limit may be the larger one.
        check(&["8Mi"], &["1Mi"], &[1000], 5000, expect![""]);
    }
}
