//! What a pod's specification leaves open, beyond the values that are data.

use serde_json::{Value, json};

use crate::tree;

const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];
/// Members of a volume that are not its source.
const NO_VOLUME_SOURCE: &str = "name";

/// Defaults of a pod, beyond those it shares with templates.
pub fn default_pod(object: &mut Value) {
    let spec = tree::child(object, "spec");
    default_spec(spec);
    tree::default(spec, "enableServiceLinks", true);
    if tree::number(spec, "terminationGracePeriodSeconds").is_some_and(|seconds| seconds < 0) {
        tree::set(spec, "terminationGracePeriodSeconds", 1);
    }
    let host_network = tree::flag(spec, "hostNetwork");
    for list in &CONTAINER_LISTS[..2] {
        for container in tree::list_mut(spec, list) {
            requests_from_limits(container);
            if host_network {
                for port in tree::list_mut(container, "ports") {
                    if tree::number(port, "hostPort").unwrap_or(0) == 0 {
                        let number = port["containerPort"].clone();
                        tree::set(port, "hostPort", number);
                    }
                }
            }
        }
    }
    if object.get("status").is_some() {
        addresses(tree::child(object, "status"));
    }
}

/// Defaults of any pod specification, also in a template.
pub fn default_spec(spec: &mut Value) {
    let account = match tree::text(spec, "serviceAccountName") {
        "" => tree::text(spec, "serviceAccount").to_owned(),
        name => name.to_owned(),
    };
    if !account.is_empty() {
        tree::set(spec, "serviceAccountName", account.as_str());
        tree::set(spec, "serviceAccount", account);
    }
    for list in CONTAINER_LISTS {
        for container in tree::list_mut(spec, list) {
            let policy = pull_policy(tree::text(container, "image"));
            tree::default_text(container, "imagePullPolicy", policy);
        }
    }
    for volume in tree::list_mut(spec, "volumes") {
        let sources = volume.as_object().into_iter().flatten();
        if !sources.into_iter().any(|(key, value)| key != NO_VOLUME_SOURCE && !value.is_null()) {
            tree::set(volume, "emptyDir", json!({}));
        }
        if let Some(image) = volume.get_mut("image").filter(|image| image.is_object()) {
            let policy = pull_policy(tree::text(image, "reference"));
            tree::default_text(image, "pullPolicy", policy);
        }
    }
}

/// A moving tag is pulled always. What is no image name has no tag.
fn pull_policy(image: &str) -> &'static str {
    if image.is_empty() || image.contains(char::is_whitespace) {
        return "IfNotPresent";
    }
    let (name, digest) = image.split_once('@').map_or((image, ""), |(name, digest)| (name, digest));
    let last = name.rsplit('/').next().unwrap_or(name);
    let legal =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if !last.bytes().take_while(|byte| *byte != b':').all(legal) {
        return "IfNotPresent";
    }
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if digest.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

fn requests_from_limits(container: &mut Value) {
    let limits: Vec<(String, Value)> = tree::entries(&container["resources"], "limits")
        .map(|(name, amount)| (name.clone(), amount.clone()))
        .collect();
    if limits.is_empty() {
        return;
    }
    let requests = tree::child(tree::child(container, "resources"), "requests");
    for (name, amount) in limits {
        tree::default(requests, &name, amount);
    }
}

/// The one address and the list of addresses say the same; the one wins.
fn addresses(status: &mut Value) {
    let (one, all) = ("podIP", "podIPs");
    let first = tree::list(status, all).first().map(|first| tree::text(first, "ip").to_owned());
    match (tree::text(status, one).to_owned(), first) {
        (address, Some(first)) if address.is_empty() => tree::set(status, one, first),
        (address, first) if !address.is_empty() && first.as_ref() != Some(&address) => {
            tree::set(status, all, json!([{"ip": address}]));
        }
        _ => {}
    }
}
