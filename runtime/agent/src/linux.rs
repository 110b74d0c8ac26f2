//! What a pod says about the kernel's side of its containers: users, privileges, namespaces,
//! `/etc/resolv.conf`. Pure; what of it a runtime can't give is refused by the table of fields.

use std::net::Ipv4Addr;

use windlass_runtime_api::{LinuxContainer, LinuxSandbox, Reach};
use windlass_runtime_net::resolv_conf;
use windlass_sdk_meta::Quantity;
use windlass_sdk_types::{
    Pod,
    api::core::v1::{Container, PodSecurityContext, SeccompProfile, SecurityContext},
};

use crate::plan::NodeView;

/// As upstream's kubelet: the more of its memory a pod asked for, the later it is killed.
const GUARANTEED_OOM_SCORE: i64 = -997;
const BEST_EFFORT_OOM_SCORE: i64 = 1000;
const BURSTABLE_OOM_SCORES: (i64, i64) = (3, 999);

/// What the pod's sandbox gets. `host` is the machine's `/etc/resolv.conf`.
pub fn sandbox(pod: &Pod, dns: Option<Ipv4Addr>, host: &str, reach: Reach) -> LinuxSandbox {
    let Some(spec) = &pod.spec else { return LinuxSandbox::default() };
    let context = spec.security_context.as_ref();
    let sysctls = context.and_then(|context| context.sysctls.as_ref()).into_iter().flatten();
    LinuxSandbox {
        host_network: spec.host_network == Some(true),
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        shared_pid: spec.share_process_namespace == Some(true),
        sysctls: sysctls.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
        resolv_conf: dns.map_or(host.to_owned(), |dns| resolv_conf(pod, dns, host)),
        host_resolv_conf: host.to_owned(),
        reach,
    }
}

pub fn container(pod: &Pod, container: &Container, node: &NodeView) -> LinuxContainer {
    let none = (PodSecurityContext::default(), SecurityContext::default());
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let (of_pod, own) =
        (of_pod.unwrap_or(&none.0), container.security_context.as_ref().unwrap_or(&none.1));
    let capabilities = own.capabilities.as_ref();
    let named = |list: Option<&Vec<String>>| list.cloned().unwrap_or_default();
    let mut groups = of_pod.supplemental_groups.clone().unwrap_or_default();
    groups.extend(of_pod.fs_group);
    let seccomp = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    let unconfined = |profile: &SeccompProfile| profile.type_ == "Unconfined";
    let apparmor = own.app_armor_profile.as_ref().or(of_pod.app_armor_profile.as_ref());
    LinuxContainer {
        user: own.run_as_user.or(of_pod.run_as_user),
        group: own.run_as_group.or(of_pod.run_as_group),
        non_root: own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true),
        groups,
        privileged: own.privileged == Some(true),
        read_only_root: own.read_only_root_filesystem == Some(true),
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        add_capabilities: named(capabilities.and_then(|all| all.add.as_ref())),
        drop_capabilities: named(capabilities.and_then(|all| all.drop.as_ref())),
        seccomp_unconfined: seccomp.is_some_and(unconfined),
        apparmor: apparmor.and_then(|profile| match profile.type_.as_str() {
            "Unconfined" => Some("unconfined".to_owned()),
            "Localhost" => profile.localhost_profile.clone(),
            _ => None,
        }),
        stop_signal: container.lifecycle.as_ref().and_then(|of| of.stop_signal.clone()),
        oom_score_adj: oom_score(pod, container, node),
        target: target(pod, &container.name),
    }
}

/// Of an ephemeral container.
fn target(pod: &Pod, name: &str) -> Option<String> {
    let all = pod.spec.as_ref()?.ephemeral_containers.as_ref()?;
    let target = all.iter().find(|of| of.name == name)?.target_container_name.clone();
    target.filter(|name| !name.is_empty())
}

fn oom_score(pod: &Pod, container: &Container, node: &NodeView) -> i64 {
    let class = pod.status.as_ref().and_then(|status| status.qos_class.as_deref());
    match class {
        Some("Guaranteed") => GUARANTEED_OOM_SCORE,
        Some("BestEffort") => BEST_EFFORT_OOM_SCORE,
        _ => {
            let requests = container.resources.as_ref().and_then(|all| all.requests.as_ref());
            let memory = requests.and_then(|all| all.get("memory"));
            let asked = memory.and_then(|text| text.0.parse::<Quantity>().ok());
            let asked = asked.map_or(0, |quantity| quantity.units().max(0));
            let all = i64::try_from(node.memory_bytes).unwrap_or(i64::MAX).max(1);
            let (least, most) = BURSTABLE_OOM_SCORES;
            (1000 - asked.saturating_mul(1000) / all).clamp(least, most)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Pod {
        let pod = json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec});
        serde_json::from_value(pod).expect("a pod")
    }

    #[test]
    fn a_container_s_own_word_is_the_stronger() {
        let pod = pod(json!({
            "securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3,
                "supplementalGroups": [4], "seccompProfile": {"type": "Unconfined"}},
            "containers": [{"name": "a", "securityContext": {"runAsUser": 0,
                "allowPrivilegeEscalation": false, "seccompProfile": {"type": "RuntimeDefault"},
                "capabilities": {"add": ["NET_RAW"], "drop": ["ALL"]}}}, {"name": "b"}],
        }));
        let node = NodeView {
            host_ip: String::new(),
            runtime: "wasm",
            containers: true,
            cpu_millis: 1000,
            memory_bytes: 1 << 30,
        };
        let containers = &pod.spec.as_ref().expect("a spec").containers;
        let [a, b] = [0, 1].map(|at| container(&pod, &containers[at], &node));
        assert_eq!((a.user, a.group, a.groups.as_slice()), (Some(0), Some(2), &[4, 3][..]));
        assert!(a.no_new_privileges && !a.seccomp_unconfined);
        assert_eq!((a.add_capabilities.len(), a.drop_capabilities.len()), (1, 1));
        assert_eq!(b.user, Some(1));
        assert!(b.seccomp_unconfined && !b.no_new_privileges);
    }

    #[test]
    fn scores() {
        let node = NodeView {
            host_ip: String::new(),
            runtime: "wasm",
            containers: true,
            cpu_millis: 1000,
            memory_bytes: 1000 << 20,
        };
        let score = |class: Value, memory: &str| {
            let container = json!({"name": "c", "resources": {"requests": {"memory": memory}}});
            let pod = json!({"metadata": {}, "spec": {"containers": [container]},
                "status": {"qosClass": class}});
            let pod: Pod = serde_json::from_value(pod).expect("a pod");
            oom_score(&pod, &pod.spec.as_ref().expect("a spec").containers[0], &node)
        };
        assert_eq!(score(json!("Guaranteed"), "1Mi"), -997);
        assert_eq!(score(json!("BestEffort"), "0"), 1000);
        let burstable = ["0", "100Mi", "999Mi"].map(|memory| score(json!("Burstable"), memory));
        assert_eq!(burstable, [999, 900, 3]);
    }
}
