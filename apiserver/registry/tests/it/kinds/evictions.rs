//! What evictions may do under a budget.

use expect_test::expect;
use serde_json::{Value, json};
use windlass_apiserver_registry::{
    Context,
    eviction::{Eviction, mark, plan, spend},
};
use windlass_sdk_meta::{Rng, Status};

use crate::{now, yaml};

fn pod(status: &str) -> Value {
    let mut pod = json!({"metadata": {"name": "p", "labels": {"a": "b"}}});
    pod["status"] = yaml(status);
    pod
}

const READY: &str = "{phase: Running, conditions: [{type: Ready, status: 'True'}]}";

fn budget(name: &str, spec: &str, status: &str) -> Value {
    json!({"metadata": {"name": name, "generation": 2}, "spec": yaml(spec),
        "status": yaml(status)})
}

fn planned(pod: &Value, budgets: &[Value]) -> String {
    match plan(pod, budgets) {
        Ok(Eviction::Free { hold_revision, budget }) => {
            format!("free, held {hold_revision}, asked {budget:?}")
        }
        Ok(Eviction::Spend { budget }) => format!("spends {budget}"),
        Err(status) => format!("{} {}", status.code, status.message),
    }
}

#[test]
fn pods_that_count_are_guarded() {
    let mine = "{selector: {matchLabels: {a: b}}}";
    let all = |budgets: &[Value]| {
        let pods = ["{phase: Succeeded}", "{phase: Pending}", "{phase: Running}", READY];
        let lines = pods.iter().map(|status| planned(&pod(status), budgets));
        lines.collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        free, held false, asked None
        free, held true, asked None
        free, held false, asked None
        free, held false, asked None"#]]
    .assert_eq(&all(&[]));
    let other = budget("o", "{selector: {matchLabels: {a: c}}}", "{}");
    let none = budget("n", "{}", "{}");
    expect![[r#"
        free, held false, asked None
        free, held true, asked None
        free, held false, asked None
        free, held false, asked None"#]]
    .assert_eq(&all(&[other, none]));
    expect![[r#"
        free, held false, asked None
        free, held true, asked None
        spends x
        spends x"#]]
    .assert_eq(&all(&[budget("x", mine, "{}")]));
    expect![[r#"
        free, held false, asked None
        free, held true, asked None
        free, held true, asked Some("x")
        spends x"#]]
    .assert_eq(&all(&[budget("x", "{selector: {}}", "{desiredHealthy: 1, currentHealthy: 1}")]));
    let always = "{selector: {}, unhealthyPodEvictionPolicy: AlwaysAllow}";
    expect![[r#"
        free, held false, asked None
        free, held true, asked None
        free, held true, asked Some("x")
        spends x"#]]
    .assert_eq(&all(&[budget("x", always, "{}")]));
    expect![[r#"
        free, held false, asked None
        free, held true, asked None
        500 This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.
        500 This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."#]].assert_eq(&all(&[budget("x", mine, "{}"), budget("y", mine, "{}")]));
}

#[test]
fn a_budget_gives_way_once_for_each_disruption() {
    let rng = Rng::seeded(1);
    let cx = Context { now: now(), rng: &rng, user: "" };
    let show = |status: &str| {
        let mut one = budget("x", "{}", status);
        match spend(&mut one, "p", &cx) {
            Ok(()) => one["status"].to_string(),
            Err(Status { code, message, details, .. }) => {
                let details = details.expect("details");
                let cause = &details.causes[0];
                let retry = details.retry_after_seconds;
                format!("{code} {message} | {} {} | {retry}", cause.reason, cause.message)
            }
        }
    };
    let lines = [
        show("{observedGeneration: 1, disruptionsAllowed: 1}"),
        show("{observedGeneration: 2, disruptionsAllowed: 2}"),
        show("{observedGeneration: 2, disruptionsAllowed: 1}"),
        show("{observedGeneration: 2, disruptionsAllowed: -1}"),
        show(
            "{observedGeneration: 2, disruptionsAllowed: 0, currentHealthy: 1, desiredHealthy: 2}",
        ),
        show(
            "{observedGeneration: 2, disruptionsAllowed: 0, currentHealthy: 2, desiredHealthy: 1}",
        ),
        show(
            "{observedGeneration: 2, currentHealthy: 2, desiredHealthy: 1, conditions: [{type: DisruptionAllowed, status: 'False', reason: SyncFailed, message: m}]}",
        ),
        show(
            "{observedGeneration: 2, currentHealthy: 2, desiredHealthy: 1, conditions: [{type: DisruptionAllowed, status: 'False', reason: Why, message: m}]}",
        ),
    ];
    expect![[r#"
        429 Cannot evict pod as it would violate the pod's disruption budget. | DisruptionBudget The disruption budget x is still being processed by the server. | 10
        {"observedGeneration":2,"disruptionsAllowed":1,"disruptedPods":{"p":"2026-11-23T17:00:00Z"}}
        {"observedGeneration":2,"disruptionsAllowed":0,"conditions":[{"type":"DisruptionAllowed","status":"False","reason":"InsufficientPods","message":"","observedGeneration":2,"lastTransitionTime":"2026-11-23T17:00:00Z"}],"disruptedPods":{"p":"2026-11-23T17:00:00Z"}}
        403 poddisruptionbudget.policy "x" is forbidden: pdb disruptions allowed is negative | DisruptionBudget The disruption budget x does not allow evicting pods currently: pdb disruptions allowed is negative | 0
        429 Cannot evict pod as it would violate the pod's disruption budget. | DisruptionBudget The disruption budget x needs 2 healthy pods and has 1 currently | 0
        429 Cannot evict pod as it would violate the pod's disruption budget. | DisruptionBudget The disruption budget x does not allow evicting pods currently | 0
        429 Cannot evict pod as it would violate the pod's disruption budget. | DisruptionBudget The disruption budget x does not allow evicting pods currently because it failed sync: m | 0
        429 Cannot evict pod as it would violate the pod's disruption budget. | DisruptionBudget The disruption budget x does not allow evicting pods currently (Why): m | 0"#]].assert_eq(&lines.join("\n"));
}

#[test]
fn a_pod_says_that_it_was_evicted() {
    let mut one = pod(READY);
    mark(&mut one, now());
    expect![[r#"{"type":"DisruptionTarget","status":"True","reason":"EvictionByEvictionAPI","message":"Eviction API: evicting","lastTransitionTime":"2026-11-23T17:00:00Z"}"#]].assert_eq(&one["status"]["conditions"][1].to_string());
    let before = one.clone();
    mark(&mut one, now());
    assert_eq!(one, before);
}
