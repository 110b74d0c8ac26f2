//! RuntimeClass: a name for one of the runtimes that nodes have, and where pods with it may go.

use serde_json::Value;
use windlass_sdk_meta::{Quantity, Timestamp};

use crate::{
    cause::{Causes, Path},
    names,
    strategies::core::pod::validate_tolerations,
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
            _ => causes.complaints(Path::Root.child("handler"), handler, names::label(handler)),
        }
        let overhead = Path::Root.child("overhead");
        let fixed = overhead.child("podFixed");
        for (resource, amount) in tree::entries(&object["overhead"], "podFixed") {
            let quantity = amount.as_str().and_then(|text| text.parse::<Quantity>().ok());
            match quantity {
                None => causes.invalid(fixed.key(resource), amount, "must be a quantity"),
                Some(quantity) if quantity.units() < 0 => {
                    let why = "must be greater than or equal to 0";
                    causes.invalid(fixed.key(resource), amount, why);
                }
                Some(_) => {}
            }
        }
        let (scheduling, path) = (&object["scheduling"], Path::Root.child("scheduling"));
        let selector = path.child("nodeSelector");
        for (key, value) in tree::entries(scheduling, "nodeSelector") {
            let value = value.as_str().unwrap_or_default();
            causes.complaints(selector.key(key), key, names::qualified(key));
            causes.complaints(selector.key(key), value, names::label_value(value));
        }
        let tolerations = tree::list(scheduling, "tolerations");
        validate_tolerations(tolerations, path.child("tolerations"), causes);
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
