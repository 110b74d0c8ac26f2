//! Rules of volumes.

use serde_json::Value;

use super::projected;
use crate::{
    cause::{Causes, Path},
    metadata::validate_of_template,
    names,
    strategies::{
        common::driver_name,
        core::{
            resource_names::quantity,
            volume_claim,
            volume_sources::{flocker, quobyte},
        },
    },
    tree,
};

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";
const PARTITION: &str = "must be between 1 and 255, inclusive";
const ONE_TYPE: &str = "may not specify more than 1 volume type";
const MOST_ID: i64 = i32::MAX as i64;

/// Sources in the order in which upstream looks at them, and the name that a second one is refused
/// under: it isn't always that of the field.
const SOURCES: [(&str, &str); 30] = [
    ("emptyDir", "emptyDir"),
    ("hostPath", "hostPath"),
    ("gitRepo", "gitRepo"),
    ("gcePersistentDisk", "gcePersistentDisk"),
    ("awsElasticBlockStore", "awsElasticBlockStore"),
    ("secret", "secret"),
    ("nfs", "nfs"),
    ("iscsi", "iscsi"),
    ("glusterfs", "glusterfs"),
    ("flocker", "flocker"),
    ("persistentVolumeClaim", "persistentVolumeClaim"),
    ("rbd", "rbd"),
    ("cinder", "cinder"),
    ("cephfs", "cephFS"),
    ("quobyte", "quobyte"),
    ("downwardAPI", "downwarAPI"),
    ("fc", "fc"),
    ("flexVolume", "flexVolume"),
    ("configMap", "configMap"),
    ("azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume"),
    ("photonPersistentDisk", "photonPersistentDisk"),
    ("portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk"),
    ("storageos", "storageos"),
    ("projected", "projected"),
    ("scaleIO", "scaleIO"),
    ("csi", "csi"),
    ("ephemeral", "ephemeral"),
    ("image", "image"),
];

/// What a source must name.
const REQUIRED: [(&str, &[&str]); 21] = [
    ("hostPath", &["path"]),
    ("gitRepo", &["repository"]),
    ("gcePersistentDisk", &["pdName"]),
    ("awsElasticBlockStore", &["volumeID"]),
    ("secret", &["secretName"]),
    ("nfs", &["server", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("glusterfs", &["endpoints", "path"]),
    ("persistentVolumeClaim", &["claimName"]),
    ("rbd", &["monitors", "image"]),
    ("cinder", &["volumeID"]),
    ("cephfs", &["monitors"]),
    ("quobyte", &["volume"]),
    ("flexVolume", &["driver"]),
    ("configMap", &["name"]),
    ("azureFile", &["secretName", "shareName"]),
    ("vsphereVolume", &["volumePath"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
];

/// A whole number and the range it must be in.
const RANGES: [(&str, &str, i64, i64, &str); 8] = [
    ("emptyDir", "mode", 0, 0o1777, "must be a number between 0 and 01777 (octal), both inclusive"),
    ("gcePersistentDisk", "partition", 0, 255, PARTITION),
    ("awsElasticBlockStore", "partition", 0, 255, PARTITION),
    ("secret", "defaultMode", 0, 0o777, FILE_MODE),
    ("configMap", "defaultMode", 0, 0o777, FILE_MODE),
    ("downwardAPI", "defaultMode", 0, 0o777, FILE_MODE),
    ("projected", "defaultMode", 0, 0o777, FILE_MODE),
    ("iscsi", "lun", 0, 255, "must be between 0 and 255, inclusive"),
];

/// Rules of `spec.volumes`. Returns those that are fine: mounts may name only these. `pod` is the
/// pod's name; empty in a template.
pub fn validate<'a>(
    volumes: &'a [Value],
    pod: &str,
    path: Path<'_>,
    causes: &mut Causes,
) -> Vec<&'a Value> {
    let created: Vec<String> = volumes
        .iter()
        .filter(|volume| !pod.is_empty() && tree::has(volume, "ephemeral"))
        .map(|volume| format!("{pod}-{}", tree::text(volume, "name")))
        .collect();
    let mut fine: Vec<&Value> = Vec::new();
    for (at, volume) in volumes.iter().enumerate() {
        let item = path.index(at);
        let mut own = Causes::default();
        one(volume, pod, item, &mut own);
        let name = tree::text(volume, "name");
        match name {
            "" => own.required(item.child("name"), ""),
            name => own.complaints(item.child("name"), name, names::label(name)),
        }
        if fine.iter().any(|other| tree::text(other, "name") == name) {
            own.duplicate(item.child("name"), &volume["name"]);
        }
        if own.is_empty() {
            fine.push(volume);
        }
        causes.extend(own);
        let claim = tree::text(&volume["persistentVolumeClaim"], "claimName");
        if created.iter().any(|name| name == claim) {
            let field = item.child("persistentVolumeClaim");
            let why = "must not reference a PVC that gets created for an ephemeral volume";
            causes.invalid_text(field.child("claimName"), claim, why);
        }
    }
    fine
}

fn one(volume: &Value, pod: &str, path: Path<'_>, causes: &mut Causes) {
    let mut given = SOURCES.iter().filter(|(key, _)| tree::has(volume, key));
    match given.next() {
        None => causes.required(path, "must specify a volume type"),
        Some((first, _)) => source(volume, first, pod, path, causes),
    }
    for (_, extra) in given {
        causes.forbidden(path.child(extra), ONE_TYPE);
    }
}

fn source(volume: &Value, kind: &str, pod: &str, path: Path<'_>, causes: &mut Causes) {
    let of = &volume[kind];
    // The one source whose own rules have another name than its field.
    let here = path.child(if kind == "gcePersistentDisk" { "persistentDisk" } else { kind });
    let required = REQUIRED.iter().filter(|(known, _)| *known == kind);
    for key in required.flat_map(|(_, keys)| keys.iter()) {
        if tree::is_empty(&of[*key]) {
            causes.required(here.child(key), "");
        }
    }
    for (_, key, least, most, why) in RANGES.iter().filter(|(known, ..)| *known == kind) {
        if tree::number(of, key).is_some_and(|number| !(*least..=*most).contains(&number)) {
            causes.invalid(here.child(key), &of[*key], why);
        }
    }
    user_id(of, "defaultUser", here, causes);
    match kind {
        "secret" | "configMap" => items(of, here, causes),
        "downwardAPI" => {
            // Without the item's index, as upstream's.
            for file in tree::list(of, "items") {
                projected::downward_file(file, here, causes);
            }
        }
        "projected" => projected::validate(of, here, causes),
        "ephemeral" => ephemeral(volume, pod, path, causes),
        _ => others(volume, kind, here, path, causes),
    }
}

/// Rules of sources that are neither files of the API nor claims.
fn others(volume: &Value, kind: &str, here: Path<'_>, path: Path<'_>, causes: &mut Causes) {
    let of = &volume[kind];
    match kind {
        "emptyDir" if quantity(&of["sizeLimit"]).is_some_and(|limit| limit.is_negative()) => {
            let why = "SizeLimit field must be a valid resource quantity";
            causes.forbidden(here.child("sizeLimit"), why);
        }
        "hostPath" if !tree::text(of, "path").is_empty() => host_path(of, here, causes),
        "gitRepo" => descending(tree::text(of, "directory"), here.child("directory"), causes),
        "nfs" if !tree::text(of, "path").starts_with('/') => {
            let why = "must be an absolute path";
            causes.invalid_text(here.child("path"), tree::text(of, "path"), why);
        }
        "iscsi" => iscsi(volume, here, path, causes),
        "csi" => csi(of, here, causes),
        "image" => {
            let known = ["Always", "IfNotPresent", "Never"];
            match tree::text(of, "pullPolicy") {
                "" => causes.required(here.child("pullPolicy"), ""),
                policy if !known.contains(&policy) => {
                    causes.not_supported(here.child("pullPolicy"), &of["pullPolicy"], &known);
                }
                _ => {}
            }
            if tree::text(of, "reference").is_empty() {
                causes.required(here.child("reference"), "");
            }
        }
        _ => legacy(of, kind, here, causes),
    }
}

/// Sources of storage that left the tree, and still have their rules.
fn legacy(of: &Value, kind: &str, here: Path<'_>, causes: &mut Causes) {
    match kind {
        "flocker" => flocker(of, here, causes),
        "quobyte" => quobyte(of, here, causes),
        "fc" => fibre_channel(of, here, causes),
        "flexVolume" => {
            let options = here.child("options");
            for (key, _) in tree::entries(of, "options") {
                let domain = key.split_once('/').map_or(key.as_str(), |(domain, _)| domain);
                let domain = format!(".{}", domain.to_ascii_lowercase());
                if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
                    let why = "kubernetes.io and k8s.io namespaces are reserved";
                    causes.invalid_text(options.key(key), key, why);
                }
            }
        }
        "azureDisk" => azure_disk(of, here, causes),
        "storageos" => {
            match tree::text(of, "volumeName") {
                "" => causes.required(here.child("volumeName"), ""),
                name => causes.complaints(here.child("volumeName"), name, names::label(name)),
            }
            let namespace = tree::text(of, "volumeNamespace");
            if !namespace.is_empty() {
                let complaints = names::label(namespace);
                causes.complaints(here.child("volumeNamespace"), namespace, complaints);
            }
            secret_named(of, here, causes);
        }
        "cinder" => secret_named(of, here, causes),
        _ => {}
    }
}

fn secret_named(of: &Value, path: Path<'_>, causes: &mut Causes) {
    if tree::has(of, "secretRef") && tree::text(&of["secretRef"], "name").is_empty() {
        causes.required(path.child("secretRef").child("name"), "");
    }
}

fn fibre_channel(of: &Value, here: Path<'_>, causes: &mut Causes) {
    let names = tree::list(of, "targetWWNs");
    let ids = tree::list(of, "wwids");
    if names.is_empty() && ids.is_empty() {
        let why = "must specify either targetWWNs or wwids, but not both";
        causes.required(here.child("targetWWNs"), why);
    }
    if !names.is_empty() && !ids.is_empty() {
        let why = "targetWWNs and wwids can not be specified simultaneously";
        causes.invalid(here.child("targetWWNs"), &of["targetWWNs"], why);
    }
    match tree::number(of, "lun") {
        _ if names.is_empty() => {}
        None => causes.required(here.child("lun"), "lun is required if targetWWNs is specified"),
        Some(lun) if !(0..=255).contains(&lun) => {
            causes.invalid(here.child("lun"), &of["lun"], "must be between 0 and 255, inclusive");
        }
        Some(_) => {}
    }
}

fn azure_disk(of: &Value, here: Path<'_>, causes: &mut Causes) {
    for (key, known) in [
        ("cachingMode", ["None", "ReadOnly", "ReadWrite"]),
        ("kind", ["Dedicated", "Managed", "Shared"]),
    ] {
        if tree::has(of, key) && !known.contains(&tree::text(of, key)) {
            causes.not_supported(here.child(key), &of[key], &known);
        }
    }
    let (uri, kind) = (tree::text(of, "diskURI"), &of["kind"]);
    if kind == "Managed" && !uri.starts_with("/subscriptions/") {
        let form = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
        causes.not_supported(here.child("diskURI"), &of["diskURI"], &[form]);
    }
    if !kind.is_null() && kind != "Managed" && !uri.starts_with("https://") {
        let form = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
        causes.not_supported(here.child("diskURI"), &of["diskURI"], &[form]);
    }
}

fn host_path(of: &Value, here: Path<'_>, causes: &mut Causes) {
    no_backsteps(tree::text(of, "path"), here.child("path"), causes);
    let known = [
        "",
        "BlockDevice",
        "CharDevice",
        "Directory",
        "DirectoryOrCreate",
        "File",
        "FileOrCreate",
        "Socket",
    ];
    if !known.contains(&tree::text(of, "type")) {
        causes.not_supported(here.child("type"), &of["type"], &known);
    }
}

fn iscsi(volume: &Value, here: Path<'_>, path: Path<'_>, causes: &mut Causes) {
    let of = &volume["iscsi"];
    let iqn = tree::text(of, "iqn");
    if !iqn.is_empty() {
        iscsi_name(iqn, here.child("iqn"), causes);
    }
    let authenticated = tree::flag(of, "chapAuthDiscovery") || tree::flag(of, "chapAuthSession");
    if authenticated && !tree::has(of, "secretRef") {
        causes.required(here.child("secretRef"), "");
    }
    if tree::has(of, "initiatorName") {
        iscsi_name(tree::text(of, "initiatorName"), here.child("initiatorname"), causes);
        let name = tree::text(volume, "name");
        if name.len() + 1 + tree::text(of, "targetPortal").len() > 64 {
            let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
            causes.invalid_text(path.child("name"), name, why);
        }
    }
}

fn iscsi_name(name: &str, path: Path<'_>, causes: &mut Causes) {
    let plain = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let fits = match name.get(..3) {
        Some("iqn") => is_iqn(name),
        Some("eui") => name.get(4..).is_some_and(|rest| plain(rest, 16)),
        Some("naa") => name.get(4..).is_some_and(|rest| plain(rest, 32)),
        _ => {
            let why = "must be valid format starting with iqn, eui, or naa";
            return causes.invalid_text(path, name, why);
        }
    };
    if !fits {
        causes.invalid_text(path, name, "must be valid format");
    }
}

/// `iqn.2001-04.com.example:storage` (RFC 3720).
fn is_iqn(name: &str) -> bool {
    let Some((head, tail)) = name.strip_prefix("iqn.").and_then(|rest| rest.split_once(':')) else {
        return false;
    };
    let Some((date, owner)) = head.split_once('.') else { return false };
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let dated =
        date.split_once('-').is_some_and(|(year, month)| digits(year, 4) && digits(month, 2));
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    let illegal = |byte: u8| b",;*&$|".contains(&byte) || byte.is_ascii_whitespace();
    dated
        && !owner.is_empty()
        && owner.bytes().all(known)
        && !tail.is_empty()
        && !tail.bytes().any(illegal)
}

fn csi(of: &Value, here: Path<'_>, causes: &mut Causes) {
    driver_name(tree::text(of, "driver"), here.child("driver"), causes);
    if tree::has(of, "nodePublishSecretRef") {
        let name = tree::text(&of["nodePublishSecretRef"], "name");
        if name.is_empty() {
            causes.required(here.child("nodePublishSecretRef").child("name"), "");
        } else {
            causes.complaints(here.child("name"), name, names::subdomain(name));
        }
    }
}

fn ephemeral(volume: &Value, pod: &str, path: Path<'_>, causes: &mut Causes) {
    let parent = path.child("ephemeral");
    let here = parent.child("volumeClaimTemplate");
    let of = &volume["ephemeral"];
    if tree::has(of, "volumeClaimTemplate") {
        let template = &of["volumeClaimTemplate"];
        validate_of_template(&template["metadata"], here.child("metadata"), causes);
        volume_claim::validate_spec(&template["spec"], here.child("spec"), causes);
    } else {
        causes.required(here, "");
    }
    let name = tree::text(volume, "name");
    if !pod.is_empty() && !name.is_empty() {
        let claim = format!("{pod}-{name}");
        for complaint in names::subdomain(&claim) {
            let why = format!("PVC name {claim:?}: {complaint}");
            causes.invalid_text(path.child("name"), name, why);
        }
    }
}

/// Rules of `items`: which key becomes which file.
pub fn items(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = path.child("items");
    for (at, item) in tree::list(of, "items").iter().enumerate() {
        let here = all.index(at);
        for key in ["key", "path"] {
            if tree::text(item, key).is_empty() {
                causes.required(here.child(key), "");
            }
        }
        local_path(tree::text(item, "path"), here.child("path"), causes);
        file_mode(item, here, causes);
        user_id(item, "user", here, causes);
    }
}

pub fn file_mode(of: &Value, path: Path<'_>, causes: &mut Causes) {
    if tree::number(of, "mode").is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        causes.invalid(path.child("mode"), &of["mode"], FILE_MODE);
    }
}

pub fn user_id(of: &Value, key: &str, path: Path<'_>, causes: &mut Causes) {
    if tree::number(of, key).is_some_and(|id| !(0..=MOST_ID).contains(&id)) {
        let why = format!("must be between 0 and {MOST_ID}, inclusive");
        causes.invalid(path.child(key), &of[key], why);
    }
}

/// A file below a volume.
pub fn local_path(text: &str, path: Path<'_>, causes: &mut Causes) {
    descending(text, path, causes);
    if text.starts_with("..") && !text.starts_with("../") {
        causes.invalid_text(path, text, "must not start with '..'");
    }
}

pub fn descending(text: &str, path: Path<'_>, causes: &mut Causes) {
    if text.starts_with('/') {
        causes.invalid_text(path, text, "must be a relative path");
    }
    no_backsteps(text, path, causes);
}

pub fn no_backsteps(text: &str, path: Path<'_>, causes: &mut Causes) {
    if text.split('/').any(|part| part == "..") {
        causes.invalid_text(path, text, "must not contain '..'");
    }
}
