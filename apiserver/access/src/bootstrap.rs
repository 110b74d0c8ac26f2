//! The roles and bindings that a cluster starts with, as data.

use serde_json::Value;

/// ClusterRoles, Roles and their bindings that the server creates at start where they are missing.
pub fn bootstrap_objects() -> Vec<Value> {
    Vec::new()
}
