//! What a pod may ask for and this node can't give. Such a container is never started without it:
//! it waits with CreateContainerConfigError, and the message names the field. One table, so that a
//! later issue that adds a feature deletes a row.

use windlass_sdk_types::api::core::v1::{
    Container, EnvVar, Pod, PodSpec, SecurityContext, Volume, VolumeProjection,
};

use crate::order;

/// A field that can't be honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// None where it concerns the whole pod.
    pub container: Option<String>,
    pub message: String,
}

/// (field path, why, whether the pod sets it)
type PodRow = (&'static str, &'static str, fn(&PodSpec) -> bool);
/// (field path within the container, why, whether the container sets it)
type ContainerRow = (&'static str, &'static str, fn(&Container) -> bool);

const NOT_YET: &str = "not there yet for WASM containers";
const NO_STORAGE: &str = "this node has no such storage";
const NO_KERNEL: &str = "a WASM container has no kernel interface that could hold it";

const POD_ROWS: &[PodRow] = &[
    ("spec.volumes[].awsElasticBlockStore", NO_STORAGE, |spec| {
        volume(spec, |of| of.aws_elastic_block_store.is_some())
    }),
    ("spec.volumes[].azureDisk", NO_STORAGE, |spec| volume(spec, |of| of.azure_disk.is_some())),
    ("spec.volumes[].azureFile", NO_STORAGE, |spec| volume(spec, |of| of.azure_file.is_some())),
    ("spec.volumes[].cephfs", NO_STORAGE, |spec| volume(spec, |of| of.cephfs.is_some())),
    ("spec.volumes[].cinder", NO_STORAGE, |spec| volume(spec, |of| of.cinder.is_some())),
    ("spec.volumes[].csi", NO_STORAGE, |spec| volume(spec, |of| of.csi.is_some())),
    ("spec.volumes[].ephemeral", NO_STORAGE, |spec| volume(spec, |of| of.ephemeral.is_some())),
    ("spec.volumes[].fc", NO_STORAGE, |spec| volume(spec, |of| of.fc.is_some())),
    ("spec.volumes[].flexVolume", NO_STORAGE, |spec| volume(spec, |of| of.flex_volume.is_some())),
    ("spec.volumes[].flocker", NO_STORAGE, |spec| volume(spec, |of| of.flocker.is_some())),
    ("spec.volumes[].gcePersistentDisk", NO_STORAGE, |spec| {
        volume(spec, |of| of.gce_persistent_disk.is_some())
    }),
    ("spec.volumes[].gitRepo", NO_STORAGE, |spec| volume(spec, |of| of.git_repo.is_some())),
    ("spec.volumes[].glusterfs", NO_STORAGE, |spec| volume(spec, |of| of.glusterfs.is_some())),
    ("spec.volumes[].image", NO_STORAGE, |spec| volume(spec, |of| of.image.is_some())),
    ("spec.volumes[].iscsi", NO_STORAGE, |spec| volume(spec, |of| of.iscsi.is_some())),
    ("spec.volumes[].nfs", NO_STORAGE, |spec| volume(spec, |of| of.nfs.is_some())),
    ("spec.volumes[].persistentVolumeClaim", NO_STORAGE, |spec| {
        volume(spec, |of| of.persistent_volume_claim.is_some())
    }),
    ("spec.volumes[].photonPersistentDisk", NO_STORAGE, |spec| {
        volume(spec, |of| of.photon_persistent_disk.is_some())
    }),
    ("spec.volumes[].portworxVolume", NO_STORAGE, |spec| {
        volume(spec, |of| of.portworx_volume.is_some())
    }),
    ("spec.volumes[].quobyte", NO_STORAGE, |spec| volume(spec, |of| of.quobyte.is_some())),
    ("spec.volumes[].rbd", NO_STORAGE, |spec| volume(spec, |of| of.rbd.is_some())),
    ("spec.volumes[].scaleIO", NO_STORAGE, |spec| volume(spec, |of| of.scale_io.is_some())),
    ("spec.volumes[].storageos", NO_STORAGE, |spec| volume(spec, |of| of.storageos.is_some())),
    ("spec.volumes[].vsphereVolume", NO_STORAGE, |spec| {
        volume(spec, |of| of.vsphere_volume.is_some())
    }),
    ("spec.volumes[].emptyDir.medium", "only the node's disk is there", |spec| {
        volume(spec, |of| {
            let medium = of.empty_dir.as_ref().and_then(|empty| empty.medium.as_deref());
            !matches!(medium, None | Some(""))
        })
    }),
    ("spec.volumes[].projected.sources[].clusterTrustBundle", NOT_YET, |spec| {
        projection(spec, |of| of.cluster_trust_bundle.is_some())
    }),
    ("spec.volumes[].projected.sources[].podCertificate", NOT_YET, |spec| {
        projection(spec, |of| of.pod_certificate.is_some())
    }),
    ("spec.resourceClaims", NOT_YET, |spec| some(&spec.resource_claims)),
    ("spec.resources", NOT_YET, |spec| spec.resources.is_some()),
    ("spec.runtimeClassName", "no RuntimeClass is known here", |spec| {
        spec.runtime_class_name.is_some()
    }),
    ("spec.hostNetwork", "WASM containers have addresses of their own", |spec| {
        spec.host_network == Some(true)
    }),
    ("spec.hostPID", NO_KERNEL, |spec| spec.host_pid == Some(true)),
    ("spec.hostIPC", NO_KERNEL, |spec| spec.host_ipc == Some(true)),
    ("spec.shareProcessNamespace", NO_KERNEL, |spec| spec.share_process_namespace == Some(true)),
    ("spec.hostAliases", NOT_YET, |spec| some(&spec.host_aliases)),
    ("spec.dnsPolicy", "names are answered by the cluster only", |spec| {
        spec.dns_policy.as_deref() == Some("None")
    }),
    ("spec.setHostnameAsFQDN", NOT_YET, |spec| spec.set_hostname_as_fqdn == Some(true)),
    ("spec.os.name", "this node runs linux pods", |spec| {
        spec.os.as_ref().is_some_and(|os| os.name != "linux")
    }),
    ("spec.securityContext.sysctls", NO_KERNEL, |spec| {
        spec.security_context.as_ref().is_some_and(|context| some(&context.sysctls))
    }),
    ("spec.securityContext.seLinuxOptions", NO_KERNEL, |spec| {
        spec.security_context.as_ref().is_some_and(|context| context.se_linux_options.is_some())
    }),
    ("spec.securityContext.windowsOptions", NO_KERNEL, |spec| {
        spec.security_context.as_ref().is_some_and(|context| context.windows_options.is_some())
    }),
];

const CONTAINER_ROWS: &[ContainerRow] = &[
    ("volumeMounts[].mountPropagation", NO_KERNEL, |of| {
        of.volume_mounts
            .iter()
            .flatten()
            .any(|mount| mount.mount_propagation.as_deref() == Some("Bidirectional"))
    }),
    ("volumeDevices", NO_KERNEL, |of| some(&of.volume_devices)),
    ("livenessProbe", NOT_YET, |of| of.liveness_probe.is_some()),
    ("startupProbe", NOT_YET, |of| of.startup_probe.is_some()),
    ("readinessProbe.exec", NOT_YET, |of| {
        of.readiness_probe.as_ref().is_some_and(|probe| probe.exec.is_some())
    }),
    ("readinessProbe.tcpSocket", NOT_YET, |of| {
        of.readiness_probe.as_ref().is_some_and(|probe| probe.tcp_socket.is_some())
    }),
    ("readinessProbe.grpc", NOT_YET, |of| {
        of.readiness_probe.as_ref().is_some_and(|probe| probe.grpc.is_some())
    }),
    ("readinessProbe.httpGet.scheme", "handlers serve plain HTTP", |of| {
        http_get(of).is_some_and(|get| get.scheme.as_deref() == Some("HTTPS"))
    }),
    ("readinessProbe.httpGet.host", "probes go to the pod itself", |of| {
        http_get(of).is_some_and(|get| get.host.as_deref().is_some_and(|host| !host.is_empty()))
    }),
    ("lifecycle", NOT_YET, |of| of.lifecycle.is_some()),
    ("restartPolicyRules[].action", NOT_YET, |of| {
        of.restart_policy_rules.iter().flatten().any(|rule| rule.action != "Restart")
    }),
    ("env[].valueFrom.fileKeyRef", NOT_YET, |of| {
        of.env.iter().flatten().any(|env| source(env, |from| from.file_key_ref.is_some()))
    }),
    ("ports[].hostPort", NOT_YET, |of| {
        of.ports.iter().flatten().any(|port| port.host_port.is_some_and(|port| port != 0))
    }),
    ("ports[].protocol", "only TCP is there yet", |of| {
        of.ports.iter().flatten().any(|port| port.protocol.as_deref().unwrap_or("TCP") != "TCP")
    }),
    ("securityContext.privileged", NO_KERNEL, |of| {
        security(of, |context| context.privileged == Some(true))
    }),
    ("securityContext.capabilities.add", NO_KERNEL, |of| {
        security(of, |context| context.capabilities.as_ref().is_some_and(|known| some(&known.add)))
    }),
    ("securityContext.seLinuxOptions", NO_KERNEL, |of| {
        security(of, |context| context.se_linux_options.is_some())
    }),
    ("securityContext.windowsOptions", NO_KERNEL, |of| {
        security(of, |context| context.windows_options.is_some())
    }),
    ("securityContext.procMount", NO_KERNEL, |of| {
        security(of, |context| context.proc_mount.as_deref() == Some("Unmasked"))
    }),
];

/// Everything of this pod that can't be honoured; empty for a pod that can run.
pub fn unsupported(pod: &Pod) -> Vec<Unsupported> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let of_pod = POD_ROWS.iter().filter(|(_, _, sets)| sets(spec)).map(|(path, why, _)| {
        Unsupported { container: None, message: format!("{path} is not supported: {why}") }
    });
    let init = spec.init_containers.iter().flatten().enumerate();
    let late = order::ephemeral(pod);
    let all = init
        .map(|(at, container)| ("initContainers", at, container))
        .chain(spec.containers.iter().enumerate().map(|(at, of)| ("containers", at, of)))
        .chain(late.iter().enumerate().map(|(at, of)| ("ephemeralContainers", at, of)));
    let of_containers = all.flat_map(|(list, at, container)| {
        CONTAINER_ROWS.iter().filter(|(_, _, sets)| sets(container)).map(move |(path, why, _)| {
            let message = format!("spec.{list}[{at}].{path} is not supported: {why}");
            Unsupported { container: Some(container.name.clone()), message }
        })
    });
    of_pod.chain(of_containers).collect()
}

fn some<T>(list: &Option<Vec<T>>) -> bool {
    list.as_ref().is_some_and(|list| !list.is_empty())
}

fn http_get(container: &Container) -> Option<&windlass_sdk_types::api::core::v1::HTTPGetAction> {
    container.readiness_probe.as_ref()?.http_get.as_ref()
}

fn security(container: &Container, holds: fn(&SecurityContext) -> bool) -> bool {
    container.security_context.as_ref().is_some_and(holds)
}

fn volume(spec: &PodSpec, holds: fn(&Volume) -> bool) -> bool {
    spec.volumes.iter().flatten().any(holds)
}

fn projection(spec: &PodSpec, holds: fn(&VolumeProjection) -> bool) -> bool {
    let projected = spec.volumes.iter().flatten().filter_map(|of| of.projected.as_ref());
    projected.flat_map(|projected| projected.sources.iter().flatten()).any(holds)
}

fn source(
    env: &EnvVar,
    holds: fn(&windlass_sdk_types::api::core::v1::EnvVarSource) -> bool,
) -> bool {
    env.value_from.as_ref().is_some_and(holds)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, expected: Expect) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).expect("pod");
        let lines: Vec<String> = unsupported(&pod)
            .into_iter()
            .map(|row| format!("{}: {}\n", row.container.unwrap_or_default(), row.message))
            .collect();
        expected.assert_eq(&lines.concat());
    }

    #[test]
    fn what_holds_for_wasm_anyway_is_taken() {
        check(
            json!({"volumes": [], "hostNetwork": false, "dnsPolicy": "ClusterFirst",
                "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 2000},
                "containers": [{"name": "a", "image": "a",
                    "terminationMessagePath": "/dev/termination-log",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}},
                    "securityContext": {"readOnlyRootFilesystem": true,
                        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}),
            expect![""],
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        check(
            json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}],
            "initContainers": [{"name": "i", "image": "a",
                "volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]}],
            "containers": [
                {"name": "a", "image": "a"},
                {"name": "b", "image": "a",
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                    "livenessProbe": {"httpGet": {"port": 80}},
                    "ports": [{"containerPort": 53, "protocol": "UDP", "hostPort": 53}],
                    "securityContext": {"privileged": true}},
            ]}),
            expect![[r#"
                : spec.volumes[].persistentVolumeClaim is not supported: this node has no such storage
                i: spec.initContainers[0].volumeDevices is not supported: a WASM container has no kernel interface that could hold it
                b: spec.containers[1].livenessProbe is not supported: not there yet for WASM containers
                b: spec.containers[1].ports[].hostPort is not supported: not there yet for WASM containers
                b: spec.containers[1].ports[].protocol is not supported: only TCP is there yet
                b: spec.containers[1].securityContext.privileged is not supported: a WASM container has no kernel interface that could hold it
            "#]],
        );
    }
}
