//! What the scheduler and drivers say about a claim: which devices it got, who uses them, and how
//! they are.

use serde_json::{Value, json};

use super::{
    names::{binding_conditions, bounded, is_uid, label, pool_name, raw, toleration, unique},
    requests::{self, reference},
};
use crate::{
    cause::{Causes, Path},
    conditions, shown,
    strategies::{
        common::{driver_name, one_of, required},
        core::pod::validate_node_term,
    },
    tree,
};

const MOST_CONSUMERS: usize = 256;
const MOST_RESULTS: usize = 32;
const MOST_CONFIGS: usize = 64;
const MOST_CONDITIONS: usize = 8;
const MOST_ADDRESSES: usize = 16;
const MOST_TEXT: [(&str, usize); 2] = [("interfaceName", 256), ("hardwareAddress", 128)];

/// Rules of an update through `/status`.
pub fn validate(new: &Value, old: &Value, causes: &mut Causes) {
    let (status, before, path) = (&new["status"], &old["status"], Path::Root.child("status"));
    let devices = &new["spec"]["devices"];
    let reserved = path.child("reservedFor");
    if let Some(consumers) = bounded(status, "reservedFor", MOST_CONSUMERS, path, causes) {
        for (at, one) in consumers.iter().enumerate() {
            required(one, &["resource", "name", "uid"], reserved.index(at), causes);
        }
        let shown = |one| shown::written(one, "resource.v1.ResourceClaimConsumerReference");
        unique(consumers, |one| &one["uid"], shown, reserved, causes);
    }
    let all = path.child("devices");
    let list = tree::list(status, "devices");
    for (at, one) in list.iter().enumerate() {
        device(one, status, all.index(at), causes);
    }
    let shown = |one| shown::written(one, "resource.v1.AllocatedDeviceStatus");
    unique(list, device_id, shown, all, causes);
    let consumers = tree::list(status, "reservedFor");
    let going = tree::has(&new["metadata"], "deletionTimestamp");
    if !consumers.is_empty() && !tree::has(status, "allocation") {
        causes.forbidden(reserved, "may not be specified when `allocated` is not set");
    } else if going && consumers.iter().any(|one| !tree::list(before, "reservedFor").contains(one))
    {
        let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        causes.forbidden(reserved, why);
    }
    let allocation = path.child("allocation");
    match (tree::has(before, "allocation"), tree::has(status, "allocation")) {
        (true, true) if !tree::same(&before["allocation"], &status["allocation"]) => {
            causes.immutable(allocation, &status["allocation"]);
        }
        (false, true) => allocated(&status["allocation"], devices, allocation, causes),
        _ => {}
    }
}

/// What is told about devices that the claim has no more goes.
pub fn drop_deallocated(new: &mut Value, old: &Value) {
    let results = |of: &Value| -> Vec<String> {
        let devices = &of["status"]["allocation"]["devices"];
        tree::list(devices, "results").iter().map(device_id).collect()
    };
    let now = results(new);
    let gone: Vec<String> = results(old).into_iter().filter(|id| !now.contains(id)).collect();
    let Some(status) = new.get_mut("status") else { return };
    if let Some(Value::Array(devices)) = status.get_mut("devices") {
        devices.retain(|device| !gone.contains(&device_id(device)));
        if devices.is_empty() {
            tree::remove(status, "devices");
        }
    }
}

/// `driver/pool/device`, and the share where a device is shared.
fn device_id(of: &Value) -> String {
    let parts = ["driver", "pool", "device", "shareID"].map(|key| tree::text(of, key));
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("/")
}

fn allocated(of: &Value, devices: &Value, path: Path<'_>, causes: &mut Causes) {
    let (result, here) = (&of["devices"], path.child("devices"));
    if let Some(results) = bounded(result, "results", MOST_RESULTS, here, causes) {
        let all = here.child("results");
        for (at, one) in results.iter().enumerate() {
            let item = all.index(at);
            reference(tree::text(one, "request"), devices, item.child("request"), causes);
            identity(one, item, causes);
            binding_conditions(one, item, causes);
            for (at, one) in tree::list(one, "tolerations").iter().enumerate() {
                toleration(one, item.child("tolerations").index(at), causes);
            }
        }
    }
    if let Some(configs) = bounded(result, "config", MOST_CONFIGS, here, causes) {
        let all = here.child("config");
        for (at, one) in configs.iter().enumerate() {
            let item = all.index(at);
            match tree::text(one, "source") {
                "" => causes.required(item.child("source"), ""),
                _ => one_of(one, "source", &["FromClaim", "FromClass"], item, causes),
            }
            requests::references(one, devices, item, causes);
            requests::configuration(one, item, causes);
        }
    }
    let selector = path.child("nodeSelector");
    let all = selector.child("nodeSelectorTerms");
    let terms = tree::list(&of["nodeSelector"], "nodeSelectorTerms");
    if tree::has(of, "nodeSelector") && terms.is_empty() {
        causes.required(all, "must have at least one node selector term");
    }
    for (at, term) in terms.iter().enumerate() {
        validate_node_term(term, true, all.index(at), causes);
    }
}

fn identity(of: &Value, path: Path<'_>, causes: &mut Causes) {
    driver_name(tree::text(of, "driver"), path.child("driver"), causes);
    pool_name(tree::text(of, "pool"), path.child("pool"), causes);
    label(tree::text(of, "device"), path.child("device"), causes);
    if let Some(share) = of["shareID"].as_str().filter(|share| !is_uid(share)) {
        let why = "must be a lowercase UUID in 8-4-4-4-12 format";
        causes.invalid_text(path.child("shareID"), share, why);
    }
}

fn device(of: &Value, status: &Value, path: Path<'_>, causes: &mut Causes) {
    identity(of, path, causes);
    let results = tree::list(&status["allocation"]["devices"], "results");
    if !results.iter().any(|one| device_id(one) == device_id(of)) {
        let why = "must be an allocated device in the claim";
        let text = |key: &str| tree::text(of, key);
        let shown = json!({"Driver": text("driver"), "Pool": text("pool"),
            "Device": text("device"), "ShareID": text("shareID")});
        causes.invalid(path, &shown, why);
    }
    let (all, field) = (tree::list(of, "conditions"), path.child("conditions"));
    if all.len() > MOST_CONDITIONS {
        causes.too_many(field, all.len(), MOST_CONDITIONS);
    }
    conditions::validate(all, field, causes);
    if tree::has(of, "data") {
        raw(&of["data"], requests::MOST_PARAMETER_BYTES, path.child("data"), causes);
    }
    let (network, path) = (&of["networkData"], path.child("networkData"));
    for (key, most) in MOST_TEXT {
        if tree::text(network, key).len() > most {
            causes.too_long(path.child(key), most);
        }
    }
    if let Some(addresses) = bounded(network, "ips", MOST_ADDRESSES, path, causes) {
        unique(addresses, |one| one, Clone::clone, path.child("ips"), causes);
    }
}
