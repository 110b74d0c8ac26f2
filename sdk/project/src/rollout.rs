//! How far a deployment has come, told from the objects a cluster shows; why it won't come further,
//! in the cluster's own words.

use serde_json::Value;

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It may still come; what is awaited.
    Waiting(String),
    Done,
    /// It won't come without a change; why.
    Failed(String),
}

/// Reasons to wait that time doesn't heal. A pull is tried again, but what a deployment runs was put
/// on the nodes before.
const FINAL: [&str; 8] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// Of a Deployment whose pods run `image`; pods with another are of before.
pub fn deployment_progress(deployment: &Value, pods: &[Value], image: &str) -> Progress {
    let status = &deployment["status"];
    let count = |key: &str| status[key].as_u64().unwrap_or(0);
    let wanted = deployment["spec"]["replicas"].as_u64().unwrap_or(1);
    let seen =
        status["observedGeneration"].as_i64() >= deployment["metadata"]["generation"].as_i64();
    if seen {
        let (updated, all) = (count("updatedReplicas"), count("replicas"));
        if updated == wanted && all == updated && count("availableReplicas") >= wanted {
            return Progress::Done;
        }
        if let Some(why) = failed_condition(status) {
            return Progress::Failed(why);
        }
    }
    let of_image = |pod: &&Value| {
        let containers = pod["spec"]["containers"].as_array();
        containers.into_iter().flatten().any(|container| container["image"] == image)
    };
    let pods: Vec<&Value> = pods.iter().filter(of_image).collect();
    if let Some(why) = pods.iter().find_map(|pod| stuck(pod)) {
        return Progress::Failed(why);
    }
    let available = count("availableReplicas").min(count("updatedReplicas"));
    let mut waits = format!("{available} of {wanted} pods are available");
    if let Some(why) = pods.iter().find_map(|pod| waiting(pod)) {
        waits += &format!("; {why}");
    }
    Progress::Waiting(waits)
}

/// Of a Pod that runs to completion.
pub fn command_progress(pod: &Value) -> Progress {
    match pod["status"]["phase"].as_str() {
        Some("Succeeded") => Progress::Done,
        Some("Failed") => Progress::Failed(ended(pod)),
        _ => match stuck(pod) {
            Some(why) => Progress::Failed(why),
            None => Progress::Waiting(waiting(pod).unwrap_or_else(|| "it runs".to_owned())),
        },
    }
}

fn failed_condition(status: &Value) -> Option<String> {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    let failed = conditions.find(|condition| {
        condition["type"] == "ReplicaFailure" && condition["status"] == "True"
            || condition["type"] == "Progressing" && condition["status"] == "False"
    })?;
    Some(reason(failed))
}

/// Why a pod won't start, or not stay up.
fn stuck(pod: &Value) -> Option<String> {
    let found = containers(pod).find_map(|container| {
        let waiting = &container["state"]["waiting"];
        let why = waiting["reason"].as_str().filter(|why| FINAL.contains(why))?;
        let last = &container["lastState"]["terminated"];
        match why {
            "CrashLoopBackOff" if last.is_object() => Some(exit(last)),
            _ => Some(reason(waiting)),
        }
    });
    Some(format!("pod {}: {}", name(pod), found?))
}

/// What a pod waits for.
fn waiting(pod: &Value) -> Option<String> {
    let conditions = pod["status"]["conditions"].as_array();
    let unscheduled = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition["type"] == "PodScheduled" && condition["status"] == "False");
    let waits = || containers(pod).map(|container| &container["state"]["waiting"]);
    let found = unscheduled.or_else(|| waits().find(|waiting| waiting.is_object()))?;
    Some(format!("pod {}: {}", name(pod), reason(found)))
}

fn ended(pod: &Value) -> String {
    let terminated = containers(pod).map(|container| &container["state"]["terminated"]);
    let found = terminated.filter(|ended| ended.is_object()).find(|ended| ended["exitCode"] != 0);
    match found {
        Some(ended) => exit(ended),
        None => reason(&pod["status"]),
    }
}

/// How a container ended.
fn exit(ended: &Value) -> String {
    let said = reason(ended);
    format!("it ended with exit code {} ({said})", ended["exitCode"])
}

/// `Reason: message`, as far as there are both.
fn reason(of: &Value) -> String {
    let text = |key: &str| of[key].as_str().unwrap_or_default().trim();
    match (text("reason"), text("message")) {
        ("", "") => "the cluster gave no reason".to_owned(),
        (one, "") | ("", one) => one.to_owned(),
        (reason, message) => format!("{reason}: {message}"),
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["status"]["containerStatuses"].as_array().into_iter().flatten()
}

fn name(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::json;

    use super::*;

    fn check(status: Value, pods: Vec<Value>, expected: Expect) {
        let deployment =
            json!({"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": status});
        let progress = deployment_progress(&deployment, &pods, "cart:2");
        expected.assert_eq(&format!("{progress:?}"));
    }

    fn pod(image: &str, status: Value) -> Value {
        json!({"metadata": {"name": "cart-x"}, "spec": {"containers": [{"image": image}]},
            "status": status})
    }

    fn container(state: Value, last: Value) -> Value {
        json!({"containerStatuses": [{"state": state, "lastState": last}]})
    }

    #[test]
    fn done_is_when_all_pods_are_of_the_new_image() {
        let counts = |seen: u64, updated: u64, available: u64, all: u64| {
            json!({"observedGeneration": seen, "updatedReplicas": updated,
                "availableReplicas": available, "replicas": all})
        };
        check(counts(2, 2, 2, 2), vec![], expect!["Done"]);
        check(counts(1, 2, 2, 2), vec![], expect![[r#"Waiting("2 of 2 pods are available")"#]]);
        check(counts(2, 2, 2, 3), vec![], expect![[r#"Waiting("2 of 2 pods are available")"#]]);
        check(counts(2, 1, 2, 2), vec![], expect![[r#"Waiting("1 of 2 pods are available")"#]]);
        check(json!({}), vec![], expect![[r#"Waiting("0 of 2 pods are available")"#]]);
    }

    #[test]
    fn the_clusters_own_reason() {
        let seen = |conditions: Value| json!({"observedGeneration": 2, "conditions": conditions});
        check(
            seen(json!([{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                "message": "exceeded quota"}])),
            vec![],
            expect![[r#"Failed("FailedCreate: exceeded quota")"#]],
        );
        let refused =
            json!({"waiting": {"reason": "CreateContainerError", "message": "no import"}});
        let refused = container(refused, json!({}));
        check(
            seen(json!([])),
            vec![pod("cart:2", refused.clone())],
            expect![[r#"Failed("pod cart-x: CreateContainerError: no import")"#]],
        );
        check(
            seen(json!([])),
            vec![pod("cart:1", refused)],
            expect![[r#"Waiting("0 of 2 pods are available")"#]],
        );
        let crash = container(
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}),
            json!({"terminated": {"exitCode": 134, "reason": "Error", "message": "unreachable"}}),
        );
        check(
            seen(json!([])),
            vec![pod("cart:2", crash)],
            expect![[r#"Failed("pod cart-x: it ended with exit code 134 (Error: unreachable)")"#]],
        );
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False",
            "reason": "Unschedulable", "message": "0/1 nodes are available"}]});
        check(
            seen(json!([])),
            vec![pod("cart:2", unscheduled)],
            expect![[
                r#"Waiting("0 of 2 pods are available; pod cart-x: Unschedulable: 0/1 nodes are available")"#
            ]],
        );
    }

    fn check_command(status: Value, expected: Expect) {
        expected.assert_eq(&format!("{:?}", command_progress(&pod("sum:1", status))));
    }

    #[test]
    fn a_command_ends() {
        check_command(json!({"phase": "Succeeded"}), expect!["Done"]);
        check_command(json!({"phase": "Running"}), expect![[r#"Waiting("it runs")"#]]);
        let mut failed =
            container(json!({"terminated": {"exitCode": 1, "reason": "Error"}}), json!({}));
        failed["phase"] = "Failed".into();
        check_command(failed, expect![[r#"Failed("it ended with exit code 1 (Error)")"#]]);
        check_command(
            json!({"phase": "Failed", "reason": "Evicted", "message": "memory"}),
            expect![[r#"Failed("Evicted: memory")"#]],
        );
        let never = json!({"waiting": {"reason": "ErrImageNeverPull", "message": "not here"}});
        check_command(
            container(never, json!({})),
            expect![[r#"Failed("pod cart-x: ErrImageNeverPull: not here")"#]],
        );
    }
}
