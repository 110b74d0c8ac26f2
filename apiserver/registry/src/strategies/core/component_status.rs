//! ComponentStatus: whether a component of the control plane does its work. Made when somebody asks;
//! old clients and people still do.

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use crate::{
    strategy::Strategy,
    table::{Cells, name},
    tree,
};

const HEALTHY: &str = "Healthy";

#[derive(Debug)]
pub struct ComponentStatus;

impl Strategy for ComponentStatus {
    fn deprecation(&self) -> Option<&'static str> {
        Some("v1 ComponentStatus is deprecated in v1.19+")
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        let conditions = tree::list(object, "conditions");
        let health = conditions.iter().find(|one| one["type"] == HEALTHY).unwrap_or(&Value::Null);
        let status = match tree::text(health, "status") {
            "" => "Unknown",
            "True" => HEALTHY,
            _ => "Unhealthy",
        };
        let text = |key: &str| Value::from(tree::text(health, key));
        vec![name(object), Value::from(status), text("message"), text("error")]
    }
}

/// The object without its metadata; the text says what is wrong.
pub fn report(health: Result<(), &str>) -> Value {
    let (status, message) = match health {
        Ok(()) => ("True", "ok"),
        Err(why) => ("False", why),
    };
    json!({"conditions": [{"type": HEALTHY, "status": status, "message": message}]})
}
