//! Rules of an update of a pod's status: what its node says of it.

use std::net::IpAddr;

use serde_json::Value;

use super::{restart::should_restart, status_resources, update::annotations_kept};
use crate::{
    addresses,
    cause::{Causes, Path},
    names, shown, tree,
};

/// Conditions that are not a controller's own, so their names have no domain.
const SYSTEM_CONDITIONS: [&str; 3] = ["PodScheduled", "Ready", "Initialized"];
const NOT_NEGATIVE: &str = "must be a non-negative integer";
/// The last uid that Linux knows; a specification may only ask for half of them.
const MOST_UID: i64 = u32::MAX as i64;
const MOST_ID: i64 = i32::MAX as i64;
/// The lists of container statuses, and the lists of containers that they are about.
const LISTS: [(&str, &str); 3] = [
    ("containerStatuses", "containers"),
    ("initContainerStatuses", "initContainers"),
    ("ephemeralContainerStatuses", "ephemeralContainers"),
];

pub fn validate(new: &Value, old: &Value, causes: &mut Causes) {
    let (after, before) = (&new["status"], &old["status"]);
    let path = Path::Root.child("status");
    annotations_kept(new, old, causes);
    conditions(after, path, causes);
    let nominated = tree::text(after, "nominatedNodeName");
    if !nominated.is_empty() && nominated != tree::text(before, "nominatedNodeName") {
        let here = path.child("nominatedNodeName");
        causes.complaints(here, nominated, names::subdomain(nominated));
        if !tree::text(&old["spec"], "nodeName").is_empty() {
            causes.forbidden(here, "may not be set on pods that are already bound to a node");
        }
    }
    let key = "observedGeneration";
    if tree::number(after, key).is_some_and(|generation| generation < 0) {
        causes.invalid(path.child(key), &after[key], NOT_NEGATIVE);
    }
    if !tree::same(&after["qosClass"], &before["qosClass"]) {
        causes.immutable(path.child("qosClass"), &after["qosClass"]);
    }
    let spec = &new["spec"];
    for (list, of) in LISTS {
        stays_terminated(after, old, list, of, path.child(list), causes);
    }
    claims(after, spec, path.child("resourceClaimStatuses"), causes);
    status_resources::extended(after, spec, path, causes);
    pod_addresses(after, path, causes);
    host_addresses(after, path, causes);
    for (list, of) in LISTS {
        let here = path.child(list);
        users(after, spec, list, here, causes);
        status_resources::allocated(after, spec, (list, of), here, causes);
        status_resources::images(after, list, here, causes);
    }
}

fn conditions(status: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = path.child("conditions");
    for (at, condition) in tree::list(status, "conditions").iter().enumerate() {
        let (kind, item) = (tree::text(condition, "type"), all.index(at));
        let key = "observedGeneration";
        if tree::number(condition, key).is_some_and(|generation| generation < 0) {
            causes.invalid(item.child(key), &condition[key], NOT_NEGATIVE);
        }
        if !SYSTEM_CONDITIONS.contains(&kind) {
            causes.complaints(item.child("Type"), kind, names::qualified(kind));
        }
    }
}

/// Where nothing restarts a container, what has ended stays ended.
fn stays_terminated(
    after: &Value,
    old: &Value,
    list: &str,
    of: &str,
    path: Path<'_>,
    causes: &mut Causes,
) {
    let spec = &old["spec"];
    let restarts_all = ["initContainers", "containers"].iter().any(|list| {
        let rules =
            tree::list(spec, list).iter().flat_map(|one| tree::list(one, "restartPolicyRules"));
        rules.into_iter().any(|rule| rule["action"] == "RestartAllContainers")
    });
    if restarts_all && of != "ephemeralContainers" {
        return;
    }
    for (at, before) in tree::list(&old["status"], list).iter().enumerate() {
        let ended = &before["state"]["terminated"];
        if ended.is_null() {
            continue;
        }
        let code = tree::number(ended, "exitCode").unwrap_or(0);
        let container = tree::list(spec, of).iter().find(|one| one["name"] == before["name"]);
        let may = of != "ephemeralContainers"
            && container.is_some_and(|container| should_restart(container, spec, code));
        let lives = tree::list(after, list)
            .iter()
            .any(|one| one["name"] == before["name"] && one["state"]["terminated"].is_null());
        if lives && !may {
            let why = "may not be transitioned to non-terminated state";
            causes.forbidden(path.index(at).child("state"), why);
        }
    }
}

fn users(status: &Value, spec: &Value, list: &str, path: Path<'_>, causes: &mut Causes) {
    let windows = spec["os"]["name"] == "windows";
    for (at, container) in tree::list(status, list).iter().enumerate() {
        let user = &container["user"]["linux"];
        if user.is_null() {
            continue;
        }
        let item = path.index(at);
        let here = item.child("user");
        let here = here.child("linux");
        if windows {
            causes.forbidden(here, "cannot be set for a windows pod");
            continue;
        }
        let mut in_range = |value: &Value, most: i64, path: Path<'_>| {
            if value.as_i64().is_some_and(|id| !(0..=most).contains(&id)) {
                causes.invalid(path, value, format!("must be between 0 and {most}, inclusive"));
            }
        };
        in_range(&user["uid"], MOST_UID, here.child("uid"));
        in_range(&user["gid"], MOST_ID, here.child("gid"));
        let groups = here.child("supplementalGroups");
        for (at, group) in tree::list(user, "supplementalGroups").iter().enumerate() {
            in_range(group, MOST_ID, groups.index(at));
        }
    }
}

fn claims(status: &Value, spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = tree::list(status, "resourceClaimStatuses");
    for (at, claim) in all.iter().enumerate() {
        let (item, name) = (path.index(at), &claim["name"]);
        if !tree::list(spec, "resourceClaims").iter().any(|one| one["name"] == *name) {
            let why = "must match the name of an entry in `spec.resourceClaims`";
            causes.invalid(item.child("name"), name, why);
        }
        if all[..at].iter().any(|other| other["name"] == *name) {
            causes.duplicate(item.child("name"), name);
        }
        if let Some(name) = claim["resourceClaimName"].as_str() {
            causes.complaints(item.child("resourceClaimName"), name, names::subdomain(name));
        }
    }
}

fn pod_addresses(status: &Value, path: Path<'_>, causes: &mut Causes) {
    let (one, all, here) =
        (tree::text(status, "podIP"), tree::list(status, "podIPs"), path.child("podIPs"));
    let shown: Value = all.iter().map(|one| shown::internal(one, "core.v1.PodIP")).collect();
    each_address(all, &shown, here, causes);
    match all.first() {
        None if !one.is_empty() => {
            let why = "podIP and podIPs must either both be set or both be unset";
            causes.invalid_null(here, why);
        }
        Some(_) if one.is_empty() => {
            let why = "podIP and podIPs must either both be set or both be unset";
            causes.invalid(here, &shown, why);
        }
        Some(first) if tree::text(first, "ip") != one => {
            let why = "must be equal to `podIP`";
            causes.invalid(here.index(0).child("ip"), &first["ip"], why);
        }
        _ => {}
    }
}

fn host_addresses(status: &Value, path: Path<'_>, causes: &mut Causes) {
    let (all, here) = (tree::list(status, "hostIPs"), path.child("hostIPs"));
    let Some(first) = all.first() else { return };
    if tree::text(first, "ip") != tree::text(status, "hostIP") {
        causes.invalid(here.index(0).child("ip"), &first["ip"], "must be equal to `hostIP`");
    }
    let shown: Value = all.iter().map(|one| shown::internal(one, "core.v1.HostIP")).collect();
    each_address(all, &shown, here, causes);
}

/// Each is an address, and there is at most one of a family.
fn each_address(all: &[Value], shown: &Value, path: Path<'_>, causes: &mut Causes) {
    for (at, one) in all.iter().enumerate() {
        addresses::validate(&one["ip"], path.index(at), causes);
    }
    let of = |is_v4: bool| {
        let parsed = all.iter().filter_map(|one| tree::text(one, "ip").parse::<IpAddr>().ok());
        parsed.filter(|address| address.is_ipv4() == is_v4).count()
    };
    if all.len() > 1 && (of(true), of(false)) != (1, 1) {
        let why = "may specify no more than one IP for each IP family";
        causes.invalid(path, shown, why);
    }
}
