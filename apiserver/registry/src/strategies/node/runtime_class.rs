//! RuntimeClass: a name for one of the runtimes that nodes have, and where pods with it may go.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    metadata::validate_labels,
    names, shown,
    strategies::core::pod::{validate_resources, validate_tolerations},
    strategy::Strategy,
    table::{Cells, age, name},
    tree,
};

#[derive(Debug)]
pub struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn takes_any_finalizer(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let handler = tree::text(object, "handler");
        match handler {
            "" => causes.required(Path::Root.child("handler"), ""),
            _ => causes.complaints(
                Path::Root.child("handler"),
                handler,
                names::label_in_bytes(handler),
            ),
        }
        // Upstream takes it for limits, in what it says too.
        let overhead = json!({"limits": object["overhead"]["podFixed"]});
        validate_resources(&overhead, &[], Path::Root.child("overhead"), causes);
        let (scheduling, path) = (&object["scheduling"], Path::Root.child("scheduling"));
        let selector = path.child("nodeSelector");
        validate_labels(&scheduling["nodeSelector"], selector, causes);
        let tolerations = tree::list(scheduling, "tolerations");
        let all = path.child("tolerations");
        validate_tolerations(tolerations, all, causes);
        let mut seen = Vec::new();
        for (at, one) in tolerations.iter().enumerate() {
            let key = ["key", "operator", "value", "effect"].map(|part| tree::text(one, part));
            if seen.contains(&key) {
                causes.duplicate(all.index(at), &shown::internal(one, "core.v1.Toleration"));
            }
            seen.push(key);
        }
    }

    fn validate_update(&self, _: &str, new: &Value, old: &Value, causes: &mut Causes) {
        self.validate(new, causes);
        if new["handler"] != old["handler"] {
            causes.invalid_null(Path::Root.child("handler"), "field is immutable");
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        vec![name(object), tree::text(object, "handler").into(), age(object, now)]
    }
}
