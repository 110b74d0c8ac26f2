//! What a pod asks for and this node can't give, by the table of fields. Such a container is never
//! started without it: it waits with CreateContainerConfigError, and the message names the field.

use std::cell::OnceCell;

use serde_json::Value;
use windlass_runtime_api::Nature;
use windlass_sdk_types::api::core::v1::{Container, Pod};

use crate::{
    fields::{self, Verdict},
    order,
};

/// A field that can't be honoured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// None where it concerns the whole pod.
    pub container: Option<String>,
    pub message: String,
}

/// The refusals of a pod, found when somebody asks first: a pod that runs has none.
pub struct Refusals<'a> {
    pod: &'a Pod,
    wasm: OnceCell<Vec<Unsupported>>,
    container: OnceCell<Vec<Unsupported>>,
}

impl<'a> Refusals<'a> {
    pub fn of(pod: &'a Pod) -> Self {
        Self { pod, wasm: OnceCell::new(), container: OnceCell::new() }
    }

    /// Why a container can't be started, whichever of the natures its image has; None where it can.
    pub fn concerning(&self, container: &Container, natures: &[Nature]) -> Option<&str> {
        let concerns =
            |row: &&Unsupported| row.container.as_ref().is_none_or(|name| *name == container.name);
        let mut found = None;
        for nature in natures {
            let all = match nature {
                Nature::Wasm => &self.wasm,
                Nature::Container => &self.container,
            };
            let all = all.get_or_init(|| unsupported(self.pod, *nature));
            found = Some(all.iter().find(concerns)?.message.as_str());
        }
        found
    }
}

/// Everything of this pod that can't be honoured where its containers have this nature; empty for a
/// pod that can run.
pub fn unsupported(pod: &Pod, nature: Nature) -> Vec<Unsupported> {
    // A specification that was decoded can be encoded.
    let mut spec =
        pod.spec.as_ref().and_then(|spec| serde_json::to_value(spec).ok()).unwrap_or_default();
    if !spec["ephemeralContainers"].is_null() {
        // As they are run.
        spec["ephemeralContainers"] =
            serde_json::to_value(order::ephemeral(pod)).unwrap_or_default();
    }
    let mut walk = Walk { nature, container: None, found: Vec::new() };
    walk.value("PodSpec", &spec, "spec");
    walk.found
}

struct Walk {
    nature: Nature,
    /// The container that is being looked at.
    container: Option<String>,
    found: Vec<Unsupported>,
}

impl Walk {
    fn value(&mut self, of: &'static str, value: &Value, path: &str) {
        if let Value::Array(items) = value {
            for (at, item) in items.iter().enumerate() {
                self.value(of, item, &format!("{path}[{at}]"));
            }
            return;
        }
        let (Some(rows), Some(members)) = (fields::fields_of(of), value.as_object()) else {
            return;
        };
        if matches!(of, "Container" | "EphemeralContainer") {
            self.container = value["name"].as_str().map(str::to_owned);
        }
        for (name, value) in members {
            let Some(row) = rows.iter().find(|row| row.name == name) else { continue };
            let path = format!("{path}.{name}");
            match row.verdict_for(self.nature) {
                Verdict::Refused(when, why) if when.holds(value) => {
                    let message = format!("{path} is not supported: {why}");
                    self.found.push(Unsupported { container: self.container.clone(), message });
                }
                Verdict::Without(_) => {}
                _ if row.to.is_empty() => {}
                _ => self.value(row.to, value, &path),
            }
        }
        if matches!(of, "Container" | "EphemeralContainer") {
            self.container = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(spec: Value, expected: Expect) {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": spec});
        let pod: Pod = serde_json::from_value(pod).expect("pod");
        let lines: Vec<String> = unsupported(&pod, Nature::Wasm)
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
                    "ports": [{"containerPort": 80, "protocol": "TCP"},
                        {"containerPort": 53, "protocol": "UDP"}],
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
                "lifecycle": {"preStop": {"tcpSocket": {"port": 1}}}}],
            "containers": [
                {"name": "a", "image": "a"},
                {"name": "b", "image": "a",
                    "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                    "livenessProbe": {"httpGet": {"port": 80, "scheme": "HTTPS"}},
                    "ports": [{"containerPort": 80}, {"containerPort": 53, "hostPort": 53}],
                    "securityContext": {"privileged": true}},
            ]}),
            expect![[r#"
                b: spec.containers[1].livenessProbe.httpGet.scheme is not supported: probes and hooks speak plain HTTP
                b: spec.containers[1].securityContext.privileged is not supported: a WASM container has no kernel interface that could hold it
                i: spec.initContainers[0].lifecycle.preStop.tcpSocket is not supported: a hook has to do something
                : spec.volumes[0].persistentVolumeClaim is not supported: this node has no such storage
            "#]],
        );
    }
}
