//! The downward API: what a pod may learn of itself, in variables and in files. Pure.

use windlass_sdk_meta::Quantity;
use windlass_sdk_types::{
    Kind,
    api::core::v1::{Container, Pod, ResourceFieldSelector},
};

/// A pod, and what isn't in its object.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    pub pod: &'a Pod,
    pub pod_ip: &'a str,
    pub host_ip: &'a str,
    /// What a container without a limit may use: the node's allocatable.
    pub node_cpu_millis: i64,
    pub node_memory_bytes: u64,
}

/// The value of a `fieldRef`.
pub fn field(facts: &Facts<'_>, path: &str) -> Result<String, String> {
    let pod = facts.pod;
    let spec = pod.spec.as_ref();
    if let Some((map, key)) = subscript(path) {
        return Ok(match map {
            "metadata.labels" => pod.label(key),
            "metadata.annotations" => pod.annotation(key),
            _ => return Err(format!("unsupported fieldPath: {path}")),
        }
        .unwrap_or_default()
        .to_owned());
    }
    Ok(match path {
        "metadata.name" => pod.name().to_owned(),
        "metadata.namespace" => pod.namespace().to_owned(),
        "metadata.uid" => pod.uid().to_owned(),
        "metadata.labels" => lines(pod.metadata.labels.as_ref()),
        "metadata.annotations" => lines(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => {
            spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default()
        }
        "status.podIP" | "status.podIPs" => facts.pod_ip.to_owned(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.to_owned(),
        _ => return Err(format!("unsupported fieldPath: {path}")),
    })
}

/// The value of a `resourceFieldRef`, in units of its divisor, rounded up. `own` is the container
/// whose environment it is; a volume names its container.
pub fn resource(
    facts: &Facts<'_>,
    own: Option<&Container>,
    selector: &ResourceFieldSelector,
) -> Result<String, String> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        Some(name) => find(facts.pod, name).ok_or(format!("container {name} not found"))?,
        None => own.ok_or("containerName is needed in a volume".to_owned())?,
    };
    let (sort, name) = selector
        .resource
        .split_once('.')
        .filter(|(sort, _)| matches!(*sort, "limits" | "requests"))
        .ok_or_else(|| format!("unsupported container resource : {}", selector.resource))?;
    let resources = container.resources.as_ref();
    let of = |list: &str| {
        let list = match list {
            "limits" => resources.and_then(|resources| resources.limits.as_ref()),
            _ => resources.and_then(|resources| resources.requests.as_ref()),
        };
        let quantity = list?.get(name)?;
        quantity.0.parse::<Quantity>().ok()
    };
    let is_cpu = name == "cpu";
    let otherwise = match (sort, name) {
        ("limits", "cpu") => Quantity::from_millis(facts.node_cpu_millis),
        ("limits", "memory") => Quantity::from_bytes(facts.node_memory_bytes),
        (_, "cpu" | "memory" | "ephemeral-storage") => Quantity::from_units(0),
        (_, other) if other.starts_with("hugepages-") => Quantity::from_units(0),
        _ => return Err(format!("unsupported container resource : {}", selector.resource)),
    };
    let value = of(sort).unwrap_or(otherwise);
    let divisor = selector.divisor.as_ref().and_then(|text| text.0.parse::<Quantity>().ok());
    let (value, divisor) = match is_cpu {
        true => (value.millis(), divisor.map_or(1000, |divisor| divisor.millis())),
        false => (value.units(), divisor.map_or(1, |divisor| divisor.units())),
    };
    // "0" stands for the default.
    let divisor = match divisor {
        ..=0 if is_cpu => 1000,
        ..=0 => 1,
        divisor => divisor,
    };
    Ok(((value + divisor - 1) / divisor).to_string())
}

fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    init.chain(&spec.containers).find(|container| container.name == name)
}

/// `key="value"`, a line each, in the keys' order.
fn lines(map: Option<&std::collections::BTreeMap<String, String>>) -> String {
    let lines: Vec<String> =
        map.into_iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// `metadata.labels['app']` -> (`metadata.labels`, `app`).
fn subscript(path: &str) -> Option<(&str, &str)> {
    path.strip_suffix("']")?.split_once("['")
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check(asked: &[&str], expected: Expect) {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u",
                "labels": {"app": "hello", "b": "say \"hi\""}},
            "spec": {"nodeName": "node", "containers": [
                {"name": "a", "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"},
                    "requests": {"cpu": "250m"}}},
                {"name": "b"}]}
        }))
        .expect("pod");
        let facts = Facts {
            pod: &pod,
            pod_ip: "127.64.0.1",
            host_ip: "127.0.0.1",
            node_cpu_millis: 2000,
            node_memory_bytes: 1 << 30,
        };
        let mut out = String::new();
        for ask in asked {
            let answer = match ask.split(' ').collect::<Vec<_>>()[..] {
                [container, name, divisor] => {
                    let selector = serde_json::from_value(json!({"containerName": container,
                        "resource": name, "divisor": divisor}));
                    resource(&facts, None, &selector.expect("selector"))
                }
                _ => field(&facts, ask),
            };
            out += &match answer {
                Ok(value) => format!("{ask}: {value}\n"),
                Err(message) => format!("{ask}: error: {message}\n"),
            };
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn fields() {
        check(
            &["metadata.name", "metadata.labels", "metadata.labels['app']", "status.podIP", "x"],
            expect![[r#"
                metadata.name: p
                metadata.labels: app="hello"
                b="say \"hi\""
                metadata.labels['app']: hello
                status.podIP: 127.64.0.1
                x: error: unsupported fieldPath: x
            "#]],
        );
    }

    #[test]
    fn resources() {
        check(
            &[
                "a limits.cpu 0",
                "a limits.cpu 1m",
                "a requests.cpu 1",
                "a limits.memory 1Mi",
                "a requests.memory 1",
                "b limits.cpu 0",
                "b limits.memory 1Mi",
                "b limits.gpu 1",
                "c limits.cpu 1",
            ],
            expect![[r#"
                a limits.cpu 0: 2
                a limits.cpu 1m: 1500
                a requests.cpu 1: 1
                a limits.memory 1Mi: 64
                a requests.memory 1: 0
                b limits.cpu 0: 2
                b limits.memory 1Mi: 1024
                b limits.gpu 1: error: unsupported container resource : limits.gpu
                c limits.cpu 1: error: container c not found
            "#]],
        );
    }
}
