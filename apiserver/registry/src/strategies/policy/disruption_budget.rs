//! PodDisruptionBudget: how many pods must stay while others are moved away. Evictions ask its
//! status (`crate::eviction`).

use serde_json::{Value, json};
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    conditions,
    strategies::apps::workload::{at_most_all, count_or_percent, not_negative, validate_selector},
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const UNHEALTHY: [&str; 2] = ["AlwaysAllow", "IfHealthyBudget"];
const COUNTS: [&str; 4] =
    ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"];

#[derive(Debug)]
pub struct DisruptionBudget;

impl Strategy for DisruptionBudget {
    fn takes_any_finalizer(&self) -> bool {
        true
    }

    fn prepare_for_create(&self, object: &mut Value, _cx: &Context<'_>) {
        let status = tree::child(object, "status");
        for key in COUNTS {
            tree::set(status, key, 0);
        }
    }

    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        let bounds = ["minAvailable", "maxUnavailable"];
        if bounds.iter().all(|key| tree::has(spec, key)) {
            // The form that upstream's messages have it in.
            let shown = json!({"MinAvailable": spec["minAvailable"], "Selector": spec["selector"],
                "MaxUnavailable": spec["maxUnavailable"],
                "UnhealthyPodEvictionPolicy": spec["unhealthyPodEvictionPolicy"]});
            causes.invalid(path, &shown, "minAvailable and maxUnavailable cannot be both set");
        }
        for key in bounds {
            count_or_percent(&spec[key], path.child(key), causes);
            at_most_all(&spec[key], path.child(key), causes);
        }
        validate_selector(&spec["selector"], path.child("selector"), causes);
        let policy = &spec["unhealthyPodEvictionPolicy"];
        if policy.as_str().is_some_and(|policy| !UNHEALTHY.contains(&policy)) {
            causes.not_supported(path.child("unhealthyPodEvictionPolicy"), policy, &UNHEALTHY);
        }
    }

    fn validate_update(&self, sub: &str, new: &Value, _old: &Value, causes: &mut Causes) {
        if sub == "status" {
            let (status, path) = (&new["status"], Path::Root.child("status"));
            let all = tree::list(status, "conditions");
            conditions::validate(all, path.child("conditions"), causes);
            return not_negative(status, path, &COUNTS, causes);
        }
        self.validate(new, causes);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let bound = |key: &str| match &object["spec"][key] {
            Value::Null => Value::from("N/A"),
            Value::String(text) => text.as_str().into(),
            number => number.to_string().into(),
        };
        let allowed = tree::number(&object["status"], "disruptionsAllowed").unwrap_or(0);
        vec![
            name(object),
            bound("minAvailable"),
            bound("maxUnavailable"),
            allowed.into(),
            age(object, now),
        ]
    }
}
