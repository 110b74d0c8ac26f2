//! The stored form of an object. It is encoded once, when it is written, without its
//! `resourceVersion` (which is not known before the commit); every reader shares those bytes and
//! splices the revision in. Encoding puts `apiVersion`, `kind` and `metadata` first, so the splice
//! point is found again from the bytes alone and nothing but JSON is ever stored.

use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

use crate::selector::Labels;

const METADATA: &[u8] = b"\"metadata\":{";

/// An object as it is kept in memory, once in the process: shared bytes and the few fields that
/// selectors, garbage collection and indexes ask for.
#[derive(Clone, Debug)]
pub struct Object {
    encoded: Encoded,
    pub revision: u64,
    pub name: Arc<str>,
    /// Empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    pub uid: Arc<str>,
    pub labels: Labels,
    pub owners: Vec<OwnerReference>,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// The kind's selectable fields, as (path, value); `metadata.name` and `.namespace` are not repeated.
    pub fields: Vec<(Cow<'static, str>, String)>,
}

/// One entry of `metadata.ownerReferences`, as garbage collection needs it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerReference {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(default)]
    pub controller: bool,
    #[serde(default)]
    pub block_owner_deletion: bool,
}

/// JSON bytes without `resourceVersion`, and where readers put it.
#[derive(Clone, Debug)]
pub struct Encoded {
    bytes: Arc<[u8]>,
    splice: usize,
}

impl Encoded {
    /// Encodes a tree; `metadata.resourceVersion` is left out. A tree without `metadata` gets an
    /// empty one.
    pub fn from_tree(tree: &Value) -> Self {
        let mut out = Vec::with_capacity(1024);
        out.push(b'{');
        for key in ["apiVersion", "kind"] {
            if let Some(value) = tree.get(key) {
                write_member(&mut out, key, value);
                out.push(b',');
            }
        }
        out.extend_from_slice(METADATA);
        let splice = out.len();
        let members = tree.get("metadata").and_then(Value::as_object);
        for (key, value) in members.into_iter().flatten().filter(|(k, _)| *k != "resourceVersion") {
            if out.len() > splice {
                out.push(b',');
            }
            write_member(&mut out, key, value);
        }
        out.push(b'}');
        let head = ["apiVersion", "kind", "metadata"];
        for (key, value) in tree.as_object().into_iter().flatten() {
            if !head.contains(&key.as_str()) {
                out.push(b',');
                write_member(&mut out, key, value);
            }
        }
        out.push(b'}');
        Self { bytes: out.into(), splice }
    }

    /// Takes bytes that `from_tree` made earlier, as they come from the database. None where the
    /// bytes are not of that form.
    pub fn from_bytes(bytes: Arc<[u8]>) -> Option<Self> {
        // apiVersion and kind are short, so the marker stands near the start; a string value
        // before it can't contain it, because its quotes would be escaped.
        let head = &bytes[..bytes.len().min(1024)];
        let at = head.windows(METADATA.len()).position(|window| window == METADATA)?;
        Some(Self { splice: at + METADATA.len(), bytes })
    }

    /// What is stored.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// Appends the JSON with `resourceVersion` in its place.
    pub fn write_with_revision(&self, revision: u64, out: &mut Vec<u8>) {
        let (head, tail) = self.bytes.split_at(self.splice);
        out.reserve(self.bytes.len() + 48);
        out.extend_from_slice(head);
        out.extend_from_slice(b"\"resourceVersion\":\"");
        out.extend_from_slice(revision.to_string().as_bytes());
        out.push(b'"');
        if tail.first() != Some(&b'}') {
            out.push(b',');
        }
        out.extend_from_slice(tail);
    }
}

impl Object {
    /// Extracts what is kept beside the bytes. `selectable` are the row's field paths in dotted
    /// form (`spec.nodeName`); a field that is absent has the value "", as upstream's selectors see it.
    pub fn new(
        encoded: Encoded,
        tree: &Value,
        revision: u64,
        selectable: &[Cow<'static, str>],
    ) -> Self {
        let metadata = &tree["metadata"];
        let text = |key: &str| Arc::from(metadata[key].as_str().unwrap_or_default());
        Self {
            revision,
            name: text("name"),
            namespace: text("namespace"),
            uid: text("uid"),
            labels: Labels::from_json(&metadata["labels"]),
            owners: serde_json::from_value(metadata["ownerReferences"].clone()).unwrap_or_default(),
            deleting: metadata["deletionTimestamp"].is_string(),
            fields: selectable.iter().map(|path| (path.clone(), field_text(tree, path))).collect(),
            encoded,
        }
    }

    /// Reads an object back from the database.
    pub fn from_stored(
        bytes: Arc<[u8]>,
        revision: u64,
        selectable: &[Cow<'static, str>],
    ) -> Option<Self> {
        let tree: Value = serde_json::from_slice(&bytes).ok()?;
        Some(Self::new(Encoded::from_bytes(bytes)?, &tree, revision, selectable))
    }

    pub fn encoded(&self) -> &Encoded {
        &self.encoded
    }

    /// The whole object as JSON bytes, `resourceVersion` included.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encoded.write_with_revision(self.revision, &mut out);
        out
    }

    /// A tree to work on, `resourceVersion` included. Short-lived: a tree is ten times its bytes.
    pub fn tree(&self) -> Value {
        let mut tree: Value = serde_json::from_slice(self.encoded.bytes()).unwrap_or_default();
        tree["metadata"]["resourceVersion"] = Value::String(self.revision.to_string());
        tree
    }

    /// The value of a selectable field; None where the kind doesn't offer it.
    pub fn field(&self, path: &str) -> Option<&str> {
        match path {
            "metadata.name" => Some(&self.name),
            "metadata.namespace" => Some(&self.namespace),
            _ => {
                self.fields.iter().find(|(known, _)| known == path).map(|(_, value)| value.as_str())
            }
        }
    }
}

/// The text of a field for selectors: strings as they are, numbers and booleans in JSON form,
/// anything absent "". A path through a list (`status.podIPs.ip`) takes the first element.
fn field_text(tree: &Value, path: &str) -> String {
    let mut at = tree;
    for part in path.split('.') {
        if let Value::Array(items) = at {
            at = items.first().unwrap_or(&Value::Null);
        }
        at = &at[part];
    }
    match at {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        _ => String::new(),
    }
}

fn write_member(out: &mut Vec<u8>, key: &str, value: &Value) {
    // Writing JSON of a tree into memory has no way to fail.
    let _ = serde_json::to_writer(&mut *out, key);
    out.push(b':');
    let _ = serde_json::to_writer(&mut *out, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn round_trip(tree: Value) -> Value {
        let encoded = Encoded::from_tree(&tree);
        let again = Encoded::from_bytes(encoded.bytes().clone()).expect("own form");
        assert_eq!(encoded.splice, again.splice);
        let mut out = Vec::new();
        again.write_with_revision(7, &mut out);
        serde_json::from_slice(&out).expect("valid JSON")
    }

    #[test]
    fn revision_is_spliced_into_metadata() {
        let tree = json!({"spec": {"a": 1}, "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "a", "resourceVersion": "3"}});
        let expected = json!({"spec": {"a": 1}, "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "a", "resourceVersion": "7"}});
        assert_eq!(round_trip(tree), expected);
        assert_eq!(round_trip(json!({"kind": "X"}))["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn fields_are_extracted_as_text() {
        let tree = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "n", "labels": {"x": "y"}},
            "spec": {"hostNetwork": true}, "status": {"podIPs": [{"ip": "1.2.3.4"}]}});
        let object = Object::new(
            Encoded::from_tree(&tree),
            &tree,
            1,
            &["spec.nodeName", "spec.hostNetwork", "status.podIPs.ip"].map(Cow::Borrowed),
        );
        assert_eq!(object.field("spec.nodeName"), Some(""));
        assert_eq!(object.field("spec.hostNetwork"), Some("true"));
        assert_eq!(object.field("status.podIPs.ip"), Some("1.2.3.4"));
        assert_eq!(object.field("metadata.namespace"), Some("n"));
        assert_eq!(object.field("spec.unknown"), None);
    }
}
