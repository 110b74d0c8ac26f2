//! What a node does for a pod, where there is no cluster to ask: on a developer's machine. The same
//! rules as in a cluster, for pods that name no other object.

use std::{collections::BTreeMap, io, net::IpAddr, path::PathBuf, sync::Arc};

use bytes::Bytes;
use futures::Stream;
use windlass_runtime_api::{ContainerSpec, Image, LinuxSandbox, RuntimeError};
use windlass_runtime_volume::Facts;
use windlass_sdk_meta::Timestamp;
use windlass_sdk_types::Pod;

use crate::{
    act::{config_error, limits, on_trap, ports, sandbox},
    env::{self, Inputs},
    log_watch::LogWatch,
    logs::{self, Filter, LogOptions},
    reach::reach,
    unsupported::Refusals,
};

/// The first attempt of a pod's only container, as a node that runs WASM starts it.
///
/// # Errors
/// The pod has something that a node refuses, or that only a cluster knows.
pub fn container_alone(
    pod: &Pod,
    image: Image,
    address: IpAddr,
    log_path: PathBuf,
) -> Result<ContainerSpec, RuntimeError> {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let container = container.ok_or_else(|| config_error("the pod has no container".into()))?;
    if let Some(why) = Refusals::of(pod).concerning(container, &[image.nature]) {
        return Err(config_error(why.to_owned()));
    }
    let sandbox = sandbox(pod, address, LinuxSandbox::default());
    let resolved = env::resolve(&Inputs {
        pod,
        container,
        config_maps: &BTreeMap::new(),
        secrets: &BTreeMap::new(),
        files: &BTreeMap::new(),
        services: &[],
        hostname: &sandbox.hostname,
        facts: Facts {
            pod,
            pod_ip: &address.to_string(),
            host_ip: "",
            node_cpu_millis: 0,
            node_memory_bytes: 0,
        },
    })
    .map_err(config_error)?;
    Ok(ContainerSpec {
        name: container.name.clone(),
        attempt: 0,
        image,
        command: resolved.command,
        args: resolved.args,
        env: resolved.env,
        working_dir: container.working_dir.clone().filter(|dir| !dir.is_empty()),
        mounts: Vec::new(),
        late_mounts: None,
        ports: ports(container),
        limits: limits(pod, container).map_err(config_error)?,
        log_path,
        on_trap: on_trap(pod).map_err(config_error)?,
        reach: reach(pod, None).map_err(config_error)?,
        console: Default::default(),
        linux: Default::default(),
        pod: Arc::new(sandbox),
    })
}

/// Follows logs of containers. To be used on a tokio runtime.
pub struct Logs(LogWatch);

impl Default for Logs {
    fn default() -> Self {
        Self(LogWatch::new())
    }
}

impl Logs {
    /// What the container writes to `stream` (`stdout` or `stderr`), from its beginning until
    /// `ended` says that no more comes. `ended` is asked when the log changes, and by [`look`].
    ///
    /// [`look`]: Self::look
    pub fn follow<E: Fn() -> bool + Send + 'static>(
        &self,
        log_path: PathBuf,
        stream: &str,
        ended: E,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + use<E>, String> {
        let options =
            LogOptions { follow: true, stream: Some(stream.to_owned()), ..LogOptions::default() };
        let filter = Filter::new(&options, Timestamp::UNIX_EPOCH)?;
        let watched = log_path.parent().map(|folder| self.0.watch(folder));
        Ok(logs::read(log_path, options, filter, ended, watched))
    }

    /// Has those who follow look whether their container has ended.
    pub fn look(&self) {
        self.0.container_changed();
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(container: Value, expected: Expect) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "cart", "namespace": "default", "uid": "1",
                "annotations": {"windlass.dev/allowed-hosts": "example.com"}},
            "spec": {"containers": [container]},
        }))
        .expect("a pod");
        let image = Image {
            nature: Default::default(),
            reference: "cart".into(),
            digest: String::new(),
            wasm_digest: String::new(),
            wasm_path: Path::new("cart.wasm").into(),
            config: Default::default(),
        };
        let address = "127.64.0.1".parse().expect("an address");
        let shown = match container_alone(&pod, image, address, "0.log".into()) {
            Ok(spec) => format!(
                "{} {:?} {:?} {:?} allowed {}",
                spec.pod.hostname,
                spec.env,
                spec.ports.iter().map(|port| port.port).collect::<Vec<_>>(),
                spec.limits.memory_bytes,
                spec.reach.lists.len()
            ),
            Err(error) => format!("{}: {}", error.reason, error.message),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_container_is_what_a_node_makes_of_it() {
        check(
            json!({"name": "c", "image": "cart", "env": [{"name": "MODE", "value": "fast"}],
                "ports": [{"containerPort": 80}], "resources": {"limits": {"memory": "1Mi"}}}),
            expect![[
                r#"cart [("HOSTNAME", "cart"), ("MODE", "fast")] [80] Some(1048576) allowed 1"#
            ]],
        );
        check(
            json!({"name": "c", "image": "cart", "resources": {"limits": {"memory": "much"}}}),
            expect![[
                r#"CreateContainerConfigError: limits.memory "much": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#
            ]],
        );
        check(
            json!({"name": "c", "image": "cart", "env": [{"name": "MODE", "valueFrom":
                {"configMapKeyRef": {"name": "modes", "key": "mode"}}}]}),
            expect![[r#"CreateContainerConfigError: configmap "modes" not found"#]],
        );
    }
}
