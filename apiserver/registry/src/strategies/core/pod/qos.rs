//! The quality-of-service class of a pod, from its requests and limits of CPU and memory.

use serde_json::Value;
use windlass_sdk_meta::Quantity;

use super::level;
use crate::{strategies::core::resource_names::quantity, tree};

const COUNTED: [&str; 2] = ["cpu", "memory"];
const BEST_EFFORT: &str = "BestEffort";
const BURSTABLE: &str = "Burstable";
const GUARANTEED: &str = "Guaranteed";

/// `Guaranteed`, `Burstable` or `BestEffort`: what the pod says of itself decides, else its containers.
pub fn class(spec: &Value) -> &'static str {
    if level::is_set(spec) {
        return class_of(&spec["resources"]);
    }
    let lists = ["initContainers", "containers"];
    let containers = lists.iter().flat_map(|list| tree::list(spec, list));
    agreed(containers.map(|container| class_of(&container["resources"])))
}

fn class_of(resources: &Value) -> &'static str {
    agreed(COUNTED.iter().map(|name| {
        let amount = |of: &str| quantity(&resources[of][*name]).unwrap_or(Quantity::ZERO);
        let (request, limit) = (amount("requests"), amount("limits"));
        if request != limit {
            BURSTABLE
        } else if request == Quantity::ZERO {
            BEST_EFFORT
        } else {
            GUARANTEED
        }
    }))
}

/// The class that all have, or the one in between.
fn agreed(mut classes: impl Iterator<Item = &'static str>) -> &'static str {
    let first = classes.next().unwrap_or(BEST_EFFORT);
    if classes.all(|class| class == first) { first } else { BURSTABLE }
}
