//! Secret: bytes by key, of a type that may ask for certain keys.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::config_map::{MAX_DATA_BYTES, frozen};
use crate::{
    cause::{Causes, Path},
    names,
    strategies::{certificates::pem, common::bytes_of_base64},
    strategy::Strategy,
    table::{Cells, age, name},
    tree,
};

#[derive(Debug)]
pub struct Secret;

impl Strategy for Secret {
    /// `stringData` is only for writing: it overrides `data` and is never stored.
    fn default(&self, object: &mut Value) {
        let Some(Value::Object(texts)) = tree::remove(object, "stringData") else { return };
        for (key, text) in texts {
            let bytes = STANDARD.encode(text.as_str().unwrap_or_default());
            tree::set(tree::child(object, "data"), &key, bytes);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let path = Path::Root.child("data");
        let mut bytes = 0;
        for (key, value) in tree::entries(object, "data") {
            causes.complaints(path.key(key), key, names::config_key(key));
            bytes += value.as_str().map_or(0, bytes_of_base64);
        }
        if bytes > MAX_DATA_BYTES {
            causes.too_long(path, MAX_DATA_BYTES);
        }
        of_type(object, path, causes);
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if !tree::same(&new["type"], &old["type"]) {
            causes.immutable(Path::Root.child("type"), &new["type"]);
        }
        frozen(new, old, &["data"], causes);
        self.validate(new, causes);
    }

    fn warnings(&self, _sub: &str, new: &Value, _old: Option<&Value>) -> Vec<String> {
        if tree::text(new, "type") != "kubernetes.io/tls" {
            return Vec::new();
        }
        let part = |key: &str| pem::bytes(&new["data"], key);
        pem::check_pair(&part("tls.crt"), &part("tls.key")).err().into_iter().collect()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let keys = tree::entries(object, "data").count();
        vec![name(object), object["type"].clone(), Value::from(keys), age(object, now)]
    }
}

/// What a type asks for.
fn of_type(object: &Value, path: Path<'_>, causes: &mut Causes) {
    let data = &object["data"];
    let mut needs = |keys: &[&str]| {
        let missing = keys.iter().filter(|key| data.get(**key).is_none());
        missing.for_each(|key| causes.required(path.key(key), ""));
    };
    match tree::text(object, "type") {
        "kubernetes.io/service-account-token" => {
            let account = "kubernetes.io/service-account.name";
            if tree::text(&object["metadata"]["annotations"], account).is_empty() {
                let metadata = Path::Root.child("metadata");
                causes.required(metadata.child("annotations").key(account), "");
            }
        }
        "kubernetes.io/dockercfg" => json_at(data, ".dockercfg", path, causes),
        "kubernetes.io/dockerconfigjson" => json_at(data, ".dockerconfigjson", path, causes),
        // One of the two is enough.
        "kubernetes.io/basic-auth"
            if ["username", "password"].iter().all(|key| data.get(*key).is_none()) =>
        {
            needs(&["username", "password"]);
        }
        "kubernetes.io/ssh-auth" if tree::text(data, "ssh-privatekey").is_empty() => {
            causes.required(path.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => needs(&["tls.crt", "tls.key"]),
        _ => {}
    }
}

/// The key must be there and hold a JSON object.
fn json_at(data: &Value, key: &str, path: Path<'_>, causes: &mut Causes) {
    let Some(text) = data.get(key).and_then(Value::as_str) else {
        return causes.required(path.key(key), "");
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    let read = serde_json::from_slice::<serde_json::Map<String, Value>>(&bytes);
    if let Err(error) = read {
        causes.invalid_text(path.key(key), "<secret contents redacted>", error.to_string());
    }
}
