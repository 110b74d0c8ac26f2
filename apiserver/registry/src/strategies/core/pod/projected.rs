//! Rules of projected volumes and of the downward API: files that are made from objects.

use serde_json::Value;

use super::{
    containers::{field_ref, resource_ref},
    volumes::{file_mode, items, local_path, user_id},
};
use crate::{
    cause::{Causes, Path},
    metadata::annotations_size,
    names, shown,
    strategies::apps::workload::validate_selector,
    tree,
};

const DUPLICATE: &str = "conflicting duplicate paths";
const LEAST_TOKEN_SECONDS: i64 = 600;
const MOST_TOKEN_SECONDS: i64 = 1 << 32;
const LEAST_CERTIFICATE_SECONDS: i64 = 3600;
const MOST_CERTIFICATE_SECONDS: i64 = 91 * 86_400;
const FIELD_PATHS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const KEY_TYPES: [&str; 6] =
    ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];

/// Paths that a file was made at.
#[derive(Default)]
struct Taken<'a>(Vec<&'a str>);

impl<'a> Taken<'a> {
    /// `shown` is what the complaint shows.
    fn take(&mut self, file: &'a str, shown: &str, path: Path<'_>, causes: &mut Causes) {
        if self.0.contains(&file) {
            causes.invalid_text(path, shown, DUPLICATE);
        } else {
            self.0.push(file);
        }
    }
}

/// Rules of a projected volume.
pub fn validate(of: &Value, path: Path<'_>, causes: &mut Causes) {
    let mut taken = Taken::default();
    let all = path.child("sources");
    for (at, source) in tree::list(of, "sources").iter().enumerate() {
        let item = all.index(at);
        let mut count = 0;
        for (key, value) in source.as_object().into_iter().flatten() {
            if value.is_null() {
                continue;
            }
            count += 1;
            let here = item.child(key);
            match key.as_str() {
                "secret" | "configMap" => object(value, &mut taken, here, path, causes),
                "downwardAPI" => {
                    for file in tree::list(value, "items") {
                        downward_file(file, here, causes);
                        let name = tree::text(file, "path");
                        if !name.is_empty() {
                            taken.take(name, name, path, causes);
                        }
                    }
                }
                "serviceAccountToken" => token(value, here, path, causes),
                "clusterTrustBundle" => bundle(value, &mut taken, here, path, causes),
                "podCertificate" => certificate(value, &mut taken, here, path, causes),
                _ => {}
            }
        }
        if count > 1 {
            causes.forbidden(item, "may not specify more than 1 volume type per source");
        }
    }
}

fn object<'a>(
    of: &'a Value,
    taken: &mut Taken<'a>,
    here: Path<'_>,
    volume: Path<'_>,
    causes: &mut Causes,
) {
    let name = tree::text(of, "name");
    if name.is_empty() {
        causes.required(here.child("name"), "");
    }
    items(of, here, causes);
    for item in tree::list(of, "items") {
        let file = tree::text(item, "path");
        if !file.is_empty() {
            taken.take(file, name, volume, causes);
        }
    }
}

fn token(of: &Value, here: Path<'_>, volume: Path<'_>, causes: &mut Causes) {
    let (seconds, field) = (&of["expirationSeconds"], here.child("expirationSeconds"));
    match seconds.as_i64() {
        None => causes.required(field, ""),
        Some(asked) if asked < LEAST_TOKEN_SECONDS => {
            causes.invalid(field, seconds, "may not specify a duration less than 10 minutes");
        }
        Some(asked) if asked > MOST_TOKEN_SECONDS => {
            causes.invalid(field, seconds, "may not specify a duration larger than 2^32 seconds");
        }
        Some(_) => {}
    }
    // Upstream's path is that of the volume, not of the source.
    match tree::text(of, "path") {
        "" => causes.required(volume.child("path"), ""),
        file => local_path(file, volume.child("path"), causes),
    }
    user_id(of, "user", here, causes);
}

fn bundle<'a>(
    of: &'a Value,
    taken: &mut Taken<'a>,
    here: Path<'_>,
    volume: Path<'_>,
    causes: &mut Causes,
) {
    let name = tree::text(of, "name");
    match (tree::has(of, "name"), tree::has(of, "signerName")) {
        (true, true) => {
            let shown = shown::internal(of, "core.v1.ClusterTrustBundleProjection");
            causes.invalid(here, &shown, "only one of name and signerName may be used");
        }
        (true, false) => {
            if name.is_empty() {
                causes.required(here.child("name"), "must be a valid object name");
            }
            if !name.contains(':') {
                for complaint in names::subdomain(name) {
                    let why = format!("not a valid clustertrustbundlename: {complaint}");
                    causes.invalid_text(here.child("name"), name, why);
                }
            }
            if tree::has(of, "labelSelector") {
                let why = "labelSelector must be unset if name is specified";
                causes.invalid(here.child("labelSelector"), &of["labelSelector"], why);
            }
        }
        (false, true) => {
            if tree::text(of, "signerName").is_empty() {
                causes.required(here.child("signerName"), "must be a valid signer name");
            }
            signer_name(tree::text(of, "signerName"), here.child("signerName"), causes);
            validate_selector(&of["labelSelector"], here.child("labelSelector"), causes);
        }
        (false, false) => causes.required(here, "either name or signerName must be specified"),
    }
    let file = tree::text(of, "path");
    if file.is_empty() {
        causes.required(here.child("path"), "");
    }
    user_id(of, "user", here, causes);
    local_path(file, here.child("path"), causes);
    taken.take(file, file, volume, causes);
}

fn certificate<'a>(
    of: &'a Value,
    taken: &mut Taken<'a>,
    here: Path<'_>,
    volume: Path<'_>,
    causes: &mut Causes,
) {
    signer_name(tree::text(of, "signerName"), here.child("signerName"), causes);
    for (key, _) in tree::entries(of, "userAnnotations") {
        let key = key.to_ascii_lowercase();
        names::domain_prefixed_key(&key, here.child("userAnnotations"), causes);
    }
    annotations_size(&of["userAnnotations"], here.child("userAnnotations"), causes);
    user_id(of, "user", here, causes);
    if !KEY_TYPES.contains(&tree::text(of, "keyType")) {
        causes.not_supported(here.child("keyType"), &of["keyType"], &KEY_TYPES);
    }
    let (key, seconds) = ("maxExpirationSeconds", &of["maxExpirationSeconds"]);
    if let Some(asked) = seconds.as_i64() {
        if asked < LEAST_CERTIFICATE_SECONDS {
            let why = format!("if provided, {key} must be >= {LEAST_CERTIFICATE_SECONDS}");
            causes.invalid(here.child(key), seconds, why);
        } else if asked > MOST_CERTIFICATE_SECONDS {
            let why = format!("if provided, {key} must be <= {MOST_CERTIFICATE_SECONDS}");
            causes.invalid(here.child(key), seconds, why);
        }
    }
    let mut files = 0;
    for key in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
        let file = tree::text(of, key);
        if !file.is_empty() {
            files += 1;
            local_path(file, here.child(key), causes);
            taken.take(file, file, volume, causes);
        }
    }
    if files == 0 {
        let why = "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
        causes.required(here, why);
    }
}

/// `example.com/signer`.
fn signer_name(name: &str, path: Path<'_>, causes: &mut Causes) {
    match name.split_once('/') {
        _ if name.is_empty() => causes.required(path, ""),
        Some((domain, rest)) if !rest.contains('/') => {
            causes.complaints(path, name, names::subdomain(domain));
            causes.complaints(path, name, names::subdomain(rest));
            if !domain.contains('.') {
                causes.invalid_text(
                    path,
                    name,
                    "should be a domain with at least two segments separated by dots",
                );
            }
        }
        _ => {
            let why =
                "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            causes.invalid_text(path, name, why);
        }
    }
}

/// Rules of one file of the downward API.
pub fn downward_file(file: &Value, path: Path<'_>, causes: &mut Causes) {
    let name = tree::text(file, "path");
    if name.is_empty() {
        causes.required(path.child("path"), "");
    }
    local_path(name, path.child("path"), causes);
    match (tree::has(file, "fieldRef"), tree::has(file, "resourceFieldRef")) {
        (true, both) => {
            field_ref(&file["fieldRef"], &FIELD_PATHS, path.child("fieldRef"), causes);
            if both {
                let why = "fieldRef and resourceFieldRef can not be specified simultaneously";
                causes.invalid_text(path, "resource", why);
            }
        }
        (false, true) => {
            resource_ref(&file["resourceFieldRef"], true, path.child("resourceFieldRef"), causes);
        }
        (false, false) => {
            causes.required(path, "one of fieldRef and resourceFieldRef is required");
        }
    }
    file_mode(file, path, causes);
    user_id(file, "user", path, causes);
}
