//! ServiceAccount: an identity of pods; a name is all it must have.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    strategy::{Context, Strategy},
    table::{Cells, age, name},
    tree,
};

#[derive(Debug)]
pub struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        bare_secrets(object);
    }

    fn prepare_for_update(&self, _sub: &str, new: &mut Value, _old: &Value, _cx: &Context<'_>) {
        bare_secrets(new);
    }

    fn warnings(&self, _sub: &str, new: &Value, old: Option<&Value>) -> Vec<String> {
        let key = "kubernetes.io/enforce-mountable-secrets";
        let has = |object: &Value| tree::has(&object["metadata"]["annotations"], key);
        if has(new) && !old.is_some_and(has) {
            return vec![format!(
                "metadata.annotations[{key}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
            )];
        }
        Vec::new()
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        vec![name(object), age(object, now)]
    }
}

/// Secrets are of the account's own namespace: of a reference only its name is kept.
fn bare_secrets(object: &mut Value) {
    for secret in tree::list_mut(object, "secrets") {
        let name = tree::remove(secret, "name");
        *secret = Value::Object(name.into_iter().map(|name| ("name".to_owned(), name)).collect());
    }
}
