//! Rules of what a container mounts of its pod's volumes.

use serde_json::Value;

use super::volumes::descending;
use crate::{
    cause::{Causes, Path},
    tree,
};

/// Rules of a container's mounts and devices. `volumes` are those that are fine.
pub fn validate_mounts(container: &Value, volumes: &[&Value], path: Path<'_>, causes: &mut Causes) {
    let devices = tree::list(container, "volumeDevices");
    let mounts = tree::list(container, "volumeMounts");
    let all = path.child("volumeMounts");
    let is = |one: &Value, key: &str, text: &str| tree::text(one, key) == text;
    for (at, mount) in mounts.iter().enumerate() {
        let item = all.index(at);
        let (name, target) = (tree::text(mount, "name"), tree::text(mount, "mountPath"));
        if name.is_empty() {
            causes.required(item.child("name"), "");
        }
        if !volumes.iter().any(|volume| is(volume, "name", name)) {
            causes.not_found(item.child("name"), &name.into());
        }
        if target.is_empty() {
            causes.required(item.child("mountPath"), "");
        }
        if mounts[..at].iter().any(|other| is(other, "mountPath", target)) {
            causes.invalid_text(item.child("mountPath"), target, "must be unique");
        }
        if devices.iter().any(|device| is(device, "name", name)) {
            let why = "must not already exist in volumeDevices";
            causes.invalid_text(item.child("name"), name, why);
        }
        if devices.iter().any(|device| is(device, "devicePath", target)) {
            let why = "must not already exist as a path in volumeDevices";
            causes.invalid_text(item.child("mountPath"), target, why);
        }
        sub_paths(mount, all, item, causes);
        propagation(container, mount, all, causes);
    }
    validate_devices(container, volumes, path.child("volumeDevices"), causes);
}

/// The paths of these causes lack the mount's index, as upstream's.
fn sub_paths(mount: &Value, all: Path<'_>, item: Path<'_>, causes: &mut Causes) {
    let (plain, expression) = (tree::text(mount, "subPath"), tree::text(mount, "subPathExpr"));
    descending(plain, all.child("subPath"), causes);
    if !expression.is_empty() && !plain.is_empty() {
        let why = "subPathExpr and subPath are mutually exclusive";
        causes.invalid_text(item.child("subPathExpr"), expression, why);
    }
    descending(expression, all.child("subPathExpr"), causes);
}

fn propagation(container: &Value, mount: &Value, all: Path<'_>, causes: &mut Causes) {
    let (key, known) = ("mountPropagation", ["Bidirectional", "HostToContainer", "None"]);
    let value = tree::text(mount, key);
    let here = all.child(key);
    if tree::has(mount, key) && !known.contains(&value) {
        causes.not_supported(here, &mount[key], &known);
    }
    if value == "Bidirectional" && !tree::flag(&container["securityContext"], "privileged") {
        let why = "Bidirectional mount propagation is available only to privileged containers";
        causes.forbidden(here, why);
    }
    let (key, known) = ("recursiveReadOnly", ["Disabled", "Enabled", "IfPossible"]);
    let here = all.child(key);
    match tree::text(mount, key) {
        "Enabled" | "IfPossible" => {
            if !tree::flag(mount, "readOnly") {
                causes.forbidden(here, "may only be specified when readOnly is true");
            }
            if !["", "None"].contains(&value) {
                let why = "may only be specified when mountPropagation is None or not specified";
                causes.forbidden(here, why);
            }
        }
        "Disabled" => {}
        _ if tree::has(mount, key) => causes.not_supported(here, &mount[key], &known),
        _ => {}
    }
}

fn validate_devices(container: &Value, volumes: &[&Value], path: Path<'_>, causes: &mut Causes) {
    let mounts = tree::list(container, "volumeMounts");
    let devices = tree::list(container, "volumeDevices");
    let is = |one: &Value, key: &str, text: &str| tree::text(one, key) == text;
    for (at, device) in devices.iter().enumerate() {
        let item = path.index(at);
        let (name, target) = (tree::text(device, "name"), tree::text(device, "devicePath"));
        let (here, there) = (item.child("name"), item.child("devicePath"));
        if name.is_empty() {
            causes.required(here, "");
        } else if devices[..at].iter().any(|other| is(other, "name", name)) {
            causes.invalid_text(here, name, "must be unique");
        }
        match volumes.iter().find(|volume| is(volume, "name", name)) {
            None => causes.not_found(here, &name.into()),
            Some(volume)
                if !tree::has(volume, "persistentVolumeClaim")
                    && !tree::has(volume, "ephemeral") =>
            {
                let why = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                causes.invalid_text(here, name, why);
            }
            Some(_) => {}
        }
        if target.is_empty() {
            causes.required(there, "");
        }
        if devices[..at].iter().any(|other| is(other, "devicePath", target)) {
            causes.invalid_text(there, target, "must be unique");
        }
        if target.split('/').any(|part| part == "..") {
            causes.invalid_text(there, target, "can not contain backsteps ('..')");
        }
        if mounts.iter().any(|mount| is(mount, "name", name)) {
            causes.invalid_text(here, name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|mount| is(mount, "mountPath", target)) {
            let why = "must not already exist as a path in volumeMounts";
            causes.invalid_text(there, target, why);
        }
    }
}
