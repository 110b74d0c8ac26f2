//! Evictions: a pod is deleted unless a PodDisruptionBudget says, by its status, that it is needed
//! where it is. Decided here from the pod and the budgets; the server carries it out.

use serde_json::{Value, json};
use windlass_sdk_meta::{
    GroupResource, GroupVersionKind, Labels, Reason, Selector, Status, Timestamp, format_time,
};

use crate::{conditions, strategy::Context, tree};

/// Pods whose deletion a budget's controller has not seen yet; upstream's bound.
const MOST_DISRUPTED: usize = 2000;
const CAUSE: &str = "DisruptionBudget";
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// What clients are told to wait while a budget has yet to be looked at.
const RETRY_SECONDS: u32 = 10;

/// What an eviction may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// Delete the pod. `hold_revision`: only as it is now, since a pod that turned healthy meanwhile
    /// would be counted; `budget` is the one that was asked, if any.
    Free { hold_revision: bool, budget: Option<String> },
    /// Delete it once the budget of this name has given way (`spend`).
    Spend { budget: String },
}

/// The resource of budgets: group, version and plural.
pub fn budgets() -> (&'static str, &'static str, &'static str) {
    ("policy", "v1", "poddisruptionbudgets")
}

/// The kind of what a client sends.
pub fn kind() -> GroupVersionKind {
    GroupVersionKind::new("policy", "v1", "Eviction")
}

/// What may be done about a pod under the budgets of its namespace. Errors: 500 where two of them
/// are about it.
pub fn plan(pod: &Value, budgets: &[Value]) -> Result<Eviction, Status> {
    let phase = tree::text(&pod["status"], "phase");
    let over = ["Succeeded", "Failed"].contains(&phase)
        || tree::has(&pod["metadata"], "deletionTimestamp");
    if over || phase == "Pending" {
        return Ok(Eviction::Free { hold_revision: !over, budget: None });
    }
    let labels = Labels::from_json(&pod["metadata"]["labels"]);
    let about: Vec<&Value> = budgets.iter().filter(|one| is_about(one, &labels)).collect();
    let budget = match *about.as_slice() {
        [] => return Ok(Eviction::Free { hold_revision: false, budget: None }),
        [budget] => budget,
        _ => {
            let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(Status::new(Reason::InternalError, why));
        }
    };
    let name = tree::text(&budget["metadata"], "name").to_owned();
    if !is_ready(pod) {
        let (status, policy) = (&budget["status"], &budget["spec"]["unhealthyPodEvictionPolicy"]);
        let count = |key: &str| tree::number(status, key).unwrap_or(0);
        let whole =
            count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
        if policy == "AlwaysAllow" || whole {
            return Ok(Eviction::Free { hold_revision: true, budget: Some(name) });
        }
    }
    Ok(Eviction::Spend { budget: name })
}

/// Takes one disruption from a budget, for a pod. Errors: 429 where there is none to take or its
/// controller is behind, 403 where its status can't be right.
pub fn spend(budget: &mut Value, pod: &str, cx: &Context<'_>) -> Result<(), Status> {
    let name = tree::text(&budget["metadata"], "name").to_owned();
    let status = &budget["status"];
    let count = |key: &str| tree::number(status, key).unwrap_or(0);
    let generation = tree::number(&budget["metadata"], "generation").unwrap_or(0);
    if count("observedGeneration") < generation {
        return Err(still_processed(&name));
    }
    let allowed = count("disruptionsAllowed");
    let impossible = |why: &str, cause: &str| {
        let resource = GroupResource::new("policy", "poddisruptionbudget");
        let message =
            format!("The disruption budget {name} does not allow evicting pods currently: {cause}");
        Status::forbidden(&resource, &name, why).with_cause(CAUSE, message, "")
    };
    if allowed < 0 {
        let why = "pdb disruptions allowed is negative";
        return Err(impossible(why, why));
    }
    if tree::entries(status, "disruptedPods").count() > MOST_DISRUPTED {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        let cause = "too many pending evictions not confirmed by PDB controller";
        return Err(impossible(why, cause));
    }
    if allowed == 0 {
        let status = Status::new(Reason::TooManyRequests, REFUSED);
        return Err(status.with_cause(CAUSE, exhausted(budget, &name), ""));
    }
    let status = tree::child(budget, "status");
    tree::set(status, "disruptionsAllowed", allowed - 1);
    if allowed == 1 {
        let observed = tree::number(status, "observedGeneration").unwrap_or(0);
        let condition = json!({"type": "DisruptionAllowed", "status": "False",
            "reason": "InsufficientPods", "message": "", "observedGeneration": observed});
        conditions::set(status, condition, cx.now);
    }
    tree::set(tree::child(status, "disruptedPods"), pod, format_time(cx.now));
    Ok(())
}

/// Says in a pod's status why it is about to be deleted.
pub fn mark(pod: &mut Value, now: Timestamp) {
    let condition = json!({"type": "DisruptionTarget", "status": "True",
        "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"});
    conditions::set(tree::child(pod, "status"), condition, now);
}

/// The 429 for a budget that its controller has yet to look at, or a pod that changed meanwhile.
pub fn still_processed(budget: &str) -> Status {
    let message = format!("The disruption budget {budget} is still being processed by the server.");
    let mut status = Status::new(Reason::TooManyRequests, REFUSED).with_cause(CAUSE, message, "");
    status.details.get_or_insert_default().retry_after_seconds = RETRY_SECONDS;
    status
}

fn exhausted(budget: &Value, name: &str) -> String {
    let status = &budget["status"];
    let count = |key: &str| tree::number(status, key).unwrap_or(0);
    let condition = tree::list(status, "conditions")
        .iter()
        .find(|one| one["type"] == "DisruptionAllowed" && one["status"] == "False")
        .filter(|one| !tree::text(one, "message").is_empty());
    let said = condition.map(|one| (tree::text(one, "reason"), tree::text(one, "message")));
    let start = format!("The disruption budget {name}");
    match said {
        Some(("SyncFailed", message)) => {
            format!(
                "{start} does not allow evicting pods currently because it failed sync: {message}"
            )
        }
        _ if count("currentHealthy") <= count("desiredHealthy") => format!(
            "{start} needs {} healthy pods and has {} currently",
            count("desiredHealthy"),
            count("currentHealthy")
        ),
        Some((reason, message)) => {
            format!("{start} does not allow evicting pods currently ({reason}): {message}")
        }
        None => format!("{start} does not allow evicting pods currently"),
    }
}

/// No selector is about nothing, an empty one about every pod.
fn is_about(budget: &Value, labels: &Labels) -> bool {
    tree::has(&budget["spec"], "selector")
        && Selector::from_json(&budget["spec"]["selector"])
            .is_ok_and(|parsed| parsed.matches_labels(labels))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = tree::list(&pod["status"], "conditions");
    conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}
