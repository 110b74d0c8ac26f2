//! The review kinds of authorization.k8s.io and authentication.k8s.io: created, evaluated and
//! answered, never stored. Here is what a review may say and how its selectors read; the server
//! answers it.

mod selectors;

use serde_json::Value;
use windlass_apiserver_schema::Schema;
use windlass_sdk_meta::Timestamp;

pub use selectors::{AskedSelectors, asked_selectors};

use crate::{
    cause::{Causes, Path},
    shown,
    strategy::Strategy,
    table::Cells,
    tree,
};

/// What a review asks the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Who its sender is.
    Identity,
    /// Whether somebody may do something: its sender, or whom it names; `local`: in the namespace
    /// that it is sent to.
    Access { named: bool, local: bool },
    /// Whose a token is.
    Token,
    /// What its sender may do in a namespace.
    Rules,
}

/// A question about users and what they may do; None: nothing is to be asked here.
#[derive(Debug)]
pub struct Review(pub Option<Question>);

impl Strategy for Review {
    fn question(&self) -> Option<Question> {
        self.0
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let Some(Question::Access { named, local }) = self.0 else { return };
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        let (on_resource, on_path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
        let shown = match on_path.is_null() {
            true => Value::Null,
            false => shown::internal(on_path, "authorization.v1.NonResourceAttributes"),
        };
        if on_resource.is_object() == on_path.is_object() {
            let why =
                "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            causes.invalid_or_null(path, &shown, why);
        }
        let someone =
            !tree::text(spec, "user").is_empty() || !tree::list(spec, "groups").is_empty();
        if named && !someone {
            let why = "at least one of user or group must be specified";
            causes.invalid_text(path.child("user"), "", why);
        }
        let of_resource = path.child("resourceAttributes");
        selectors::validate(on_resource, of_resource, causes);
        without_metadata(object, local, causes);
        if !local {
            return;
        }
        let namespace = tree::text(on_resource, "namespace");
        if on_resource.is_object() && namespace != tree::text(&object["metadata"], "namespace") {
            let why = "must match metadata.namespace";
            causes.invalid_text(of_resource.child("namespace"), namespace, why);
        }
        if on_path.is_object() {
            let why = "disallowed on this kind of request";
            causes.invalid(path.child("nonResourceAttributes"), &shown, why);
        }
    }

    fn cells(&self, _object: &Value, _now: Timestamp) -> Cells {
        Cells::new()
    }
}

/// A review is no object: it has nothing but the namespace that it is sent to.
fn without_metadata(object: &Value, local: bool, causes: &mut Causes) {
    let metadata = &object["metadata"];
    let by_server = |key: &str| key == "managedFields" || (local && key == "namespace");
    let parts = metadata.as_object().into_iter().flatten();
    if parts.filter(|(key, _)| !by_server(key)).all(|(_, part)| tree::is_empty(part)) {
        return;
    }
    let why = if local { "must be empty except for namespace" } else { "must be empty" };
    causes.invalid(Path::Root.child("metadata"), &as_written(metadata), why);
}

/// Metadata as Go writes it: in its order, without what is empty.
fn as_written(metadata: &Value) -> Value {
    let of = Schema::builtin().type_named("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
    let fields = of.map_or(&[][..], |of| of.fields.as_slice());
    let parts = fields.iter().filter_map(|field| {
        let part = metadata.get(field.json).filter(|part| !tree::is_empty(part))?;
        Some((field.json.to_owned(), part.clone()))
    });
    parts.collect::<serde_json::Map<_, _>>().into()
}
