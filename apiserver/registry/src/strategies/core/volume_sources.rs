//! Where volumes can lie: which texts each source must have, and the few rules beyond that.

use serde_json::Value;

use super::volume::partition;
use crate::{
    cause::{Causes, Path},
    names,
    strategies::common::{between, driver_name, one_of, required},
    tree,
};

/// A source of a volume.
pub struct Source {
    pub key: &'static str,
    /// How messages call it.
    pub shown: &'static str,
    /// Texts that must be there.
    pub texts: &'static [&'static str],
}

/// In upstream's order.
pub const SOURCES: [Source; 22] = [
    of("hostPath", &["path"]),
    Source { key: "gcePersistentDisk", shown: "persistentDisk", texts: &["pdName"] },
    of("awsElasticBlockStore", &["volumeID"]),
    of("glusterfs", &["endpoints", "path"]),
    of("flocker", &[]),
    of("nfs", &["server", "path"]),
    of("rbd", &["image"]),
    of("quobyte", &["volume"]),
    of("cephfs", &[]),
    of("iscsi", &["targetPortal", "iqn"]),
    of("cinder", &["volumeID"]),
    of("fc", &[]),
    of("flexVolume", &["driver"]),
    of("azureFile", &["secretName", "shareName"]),
    of("vsphereVolume", &["volumePath"]),
    of("photonPersistentDisk", &["pdID"]),
    of("portworxVolume", &["volumeID"]),
    of("azureDisk", &["diskName", "diskURI"]),
    of("scaleIO", &["gateway", "system", "volumeName"]),
    of("local", &["path"]),
    of("storageos", &["volumeName"]),
    of("csi", &[]),
];
const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
const LUN: &str = "must be between 0 and 255, inclusive";
const MANAGED: &str = "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";

const fn of(key: &'static str, texts: &'static [&'static str]) -> Source {
    Source { key, shown: key, texts }
}

impl Source {
    /// How messages call it where it is one too many.
    pub fn key_alone(&self) -> &'static str {
        if self.key == "cephfs" { "cephFS" } else { self.key }
    }
}

/// The rules of a source beyond its required texts.
pub fn rules(key: &str, of: &Value, own_name: &str, path: Path<'_>, causes: &mut Causes) {
    match key {
        "hostPath" | "local" => {
            if tree::text(of, "path").split('/').any(|part| part == "..") {
                causes.invalid(path.child("path"), &of["path"], "must not contain '..'");
            }
            if key == "hostPath" && !tree::text(of, "path").is_empty() {
                one_of(of, "type", &HOST_PATH_TYPES, path, causes);
            }
        }
        "gcePersistentDisk" | "awsElasticBlockStore" => partition(of, path, causes),
        "glusterfs" => endpoints_namespace(of, path.child("endpointsNamespace"), causes),
        "flocker" => flocker(of, path, causes),
        "nfs" => {
            let text = tree::text(of, "path");
            if !text.starts_with('/') {
                causes.invalid_text(path.child("path"), text, "must be an absolute path");
            }
        }
        "rbd" | "cephfs" if tree::list(of, "monitors").is_empty() => {
            causes.required(path.child("monitors"), "");
        }
        "quobyte" => quobyte(of, path, causes),
        "iscsi" => iscsi(of, own_name, path, causes),
        "fc" => fibre_channel(of, path, causes),
        "flexVolume" => flex_options(of, path.child("options"), causes),
        "azureFile" if of["secretNamespace"] == "" => {
            causes.required(path.child("secretNamespace"), "");
        }
        "azureDisk" => azure_disk(of, path, causes),
        "cinder" | "storageos" => named_secret(of, &["name", "namespace"], path, causes),
        "csi" => csi(of, path, causes),
        _ => {}
    }
    if key == "storageos" {
        for key in ["volumeName", "volumeNamespace"] {
            let text = tree::text(of, key);
            if !text.is_empty() {
                causes.complaints(path.child(key), text, names::label(text));
            }
        }
    }
}

fn named_secret(of: &Value, keys: &[&str], path: Path<'_>, causes: &mut Causes) {
    if tree::has(of, "secretRef") {
        required(&of["secretRef"], keys, path.child("secretRef"), causes);
    }
}

fn endpoints_namespace(of: &Value, path: Path<'_>, causes: &mut Causes) {
    match of["endpointsNamespace"].as_str() {
        None => {}
        Some("") => {
            let why = "if the endpointnamespace is set, it must be a valid namespace name";
            causes.invalid_text(path, "", why);
        }
        Some(namespace) => causes.complaints(path, namespace, names::label(namespace)),
    }
}

/// Of a pod's volume or a PersistentVolume.
pub fn flocker(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let (name, uuid) = (tree::text(of, "datasetName"), tree::text(of, "datasetUUID"));
    if name.is_empty() && uuid.is_empty() {
        causes.required(path, "one of datasetName and datasetUUID is required");
    }
    if !name.is_empty() && !uuid.is_empty() {
        let why = "datasetName and datasetUUID can not be specified simultaneously";
        causes.invalid_text(path, "resource", why);
    }
    if name.contains('/') {
        causes.invalid_text(path.child("datasetName"), name, "must not contain '/'");
    }
}

/// Of a pod's volume or a PersistentVolume.
pub fn quobyte(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let why = "must be a host:port pair or multiple pairs separated by commas";
    let registry = tree::text(of, "registry");
    if registry.is_empty() {
        causes.required(path.child("registry"), why);
    } else if tree::text(of, "tenant").len() >= 65 {
        let why = "must be a UUID and may not exceed a length of 64 characters";
        causes.required(path.child("tenant"), why);
    } else {
        for _ in registry.split(',').filter(|pair| !pair.contains(':')) {
            causes.invalid_text(path.child("registry"), registry, why);
        }
    }
}

fn iscsi(of: &Value, own_name: &str, path: Path<'_>, causes: &mut Causes) {
    let portal = tree::text(of, "targetPortal");
    let initiator = of["initiatorName"].as_str();
    if initiator.is_some() && own_name.len() + 1 + portal.len() > 64 {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.";
        causes.invalid_text(path.child("targetportal"), portal, why);
    }
    let qualified = |name: &str| match name.get(..3) {
        Some("iqn") => is_iqn(name),
        Some("eui") => is_hex_name(name, "eui.", &[16]),
        Some("naa") => is_hex_name(name, "naa.", &[16, 32]),
        _ => false,
    };
    let name = tree::text(of, "iqn");
    if !name.is_empty() && !qualified(name) {
        causes.invalid_text(path.child("iqn"), name, "must be valid format");
    }
    between(of, "lun", 0..=255, LUN, path, causes);
    let wants_secret = tree::flag(of, "chapAuthDiscovery") || tree::flag(of, "chapAuthSession");
    if wants_secret && !tree::has(of, "secretRef") {
        causes.required(path.child("secretRef"), "");
    }
    named_secret(of, &["name"], path, causes);
    if let Some(name) = initiator.filter(|name| !qualified(name)) {
        causes.invalid_text(path.child("initiatorname"), name, "must be valid format");
    }
}

/// `iqn.2001-04.com.example:storage`.
fn is_iqn(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("iqn.") else { return false };
    let (date, rest) = rest.split_at_checked(7).unwrap_or(("", ""));
    let digits = |range: std::ops::Range<usize>| {
        date.get(range).is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let dated = digits(0..4) && date.get(4..5) == Some("-") && digits(5..7);
    dated
        && rest.len() > 1
        && rest.starts_with('.')
        && rest[1..].starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
}

fn is_hex_name(name: &str, prefix: &str, lengths: &[usize]) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| {
        lengths.contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn fibre_channel(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let field = path.child("targetWWNs");
    let targets = !tree::list(of, "targetWWNs").is_empty();
    match (targets, !tree::list(of, "wwids").is_empty()) {
        (false, false) => {
            causes.required(field, "must specify either targetWWNs or wwids, but not both");
        }
        (true, true) => {
            let why = "targetWWNs and wwids can not be specified simultaneously";
            causes.invalid(field, &of["targetWWNs"], why);
        }
        _ => {}
    }
    if targets && !tree::has(of, "lun") {
        causes.required(path.child("lun"), "lun is required if targetWWNs is specified");
    } else if targets {
        between(of, "lun", 0..=255, LUN, path, causes);
    }
}

fn flex_options(of: &Value, path: Path<'_>, causes: &mut Causes) {
    for (key, _) in tree::entries(of, "options") {
        let namespace = key.split('/').next().unwrap_or(key).to_ascii_lowercase();
        let dotted = format!(".{namespace}");
        if dotted.ends_with(".kubernetes.io") || dotted.ends_with(".k8s.io") {
            let why = "kubernetes.io and k8s.io namespaces are reserved";
            causes.invalid_text(path.key(key), key, why);
        }
    }
}

fn azure_disk(of: &Value, path: Path<'_>, causes: &mut Causes) {
    one_of(of, "cachingMode", &["None", "ReadOnly", "ReadWrite"], path, causes);
    one_of(of, "kind", &["Dedicated", "Managed", "Shared"], path, causes);
    let uri = tree::text(of, "diskURI");
    let (start, form) = match of["kind"].as_str() {
        None => return,
        Some("Managed") => ("/subscriptions/", MANAGED),
        Some(_) => ("https://", BLOB),
    };
    if !uri.starts_with(start) {
        causes.not_supported(path.child("diskURI"), &uri.into(), &[form]);
    }
}

fn csi(of: &Value, path: Path<'_>, causes: &mut Causes) {
    driver_name(tree::text(of, "driver"), path.child("driver"), causes);
    required(of, &["volumeHandle"], path, causes);
    for key in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if !tree::has(of, key) {
            continue;
        }
        let (secret, here) = (&of[key], path.child(key));
        for (key, rule) in
            [("name", names::subdomain as fn(&str) -> Vec<String>), ("namespace", names::label)]
        {
            match tree::text(secret, key) {
                "" => causes.required(here.child(key), ""),
                text => causes.complaints(here.child(key), text, rule(text)),
            }
        }
    }
}
