//! The quality-of-service class of a pod, from its requests and limits of CPU and memory.

use serde_json::Value;
use windlass_sdk_meta::Quantity;

use crate::tree;

const COUNTED: [&str; 2] = ["cpu", "memory"];

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn class(spec: &Value) -> &'static str {
    let lists = ["containers", "initContainers"];
    let containers = || lists.into_iter().flat_map(|list| tree::list(spec, list));
    let amount = |container: &Value, of: &str, resource: &str| -> Option<Quantity> {
        let amount = container["resources"][of][resource].as_str()?.parse().ok()?;
        (amount > Quantity::ZERO).then_some(amount)
    };
    let mut any = false;
    let mut all_equal = true;
    for container in containers() {
        for resource in COUNTED {
            let request = amount(container, "requests", resource);
            let limit = amount(container, "limits", resource);
            any |= request.is_some() || limit.is_some();
            // Without a limit the container may take more than it asked for.
            all_equal &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, all_equal) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
