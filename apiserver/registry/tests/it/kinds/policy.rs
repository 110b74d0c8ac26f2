//! PodDisruptionBudget and PriorityClass.

use expect_test::expect;
use serde_json::{Value, json};
use windlass_apiserver_registry::system_classes;

use super::{changed, created, printed, refused};
use crate::{stored, text};

fn budget(spec: &str) -> String {
    format!(
        "{{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {{name: a}}, spec: {spec}}}"
    )
}

#[test]
fn budgets() {
    created(
        &budget("{minAvailable: 1, selector: {matchLabels: {a: b}}}"),
        expect![[r#"
        kind: PodDisruptionBudget
        apiVersion: policy/v1
        metadata:
          name: a
          generation: 1
        spec:
          minAvailable: 1
          selector:
            matchLabels:
              a: b
        status:
          disruptionsAllowed: 0
          currentHealthy: 0
          desiredHealthy: 0
          expectedPods: 0
    "#]],
    );
    refused(
        &budget(
            "{minAvailable: -1, maxUnavailable: 101%, selector: {matchLabels: {'-': b}}, unhealthyPodEvictionPolicy: Never}",
        ),
        expect![[r#"
            422 PodDisruptionBudget.policy "a" is invalid: [spec: Invalid value: {"MinAvailable":-1,"Selector":{"matchLabels":{"-":"b"}},"MaxUnavailable":"101%","UnhealthyPodEvictionPolicy":"Never"}: minAvailable and maxUnavailable cannot be both set, spec.minAvailable: Invalid value: -1: must be greater than or equal to 0, spec.maxUnavailable: Invalid value: "101%": must not be greater than 100%, spec.selector.matchLabels: Invalid value: "-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), spec.unhealthyPodEvictionPolicy: Unsupported value: "Never": supported values: "AlwaysAllow", "IfHealthyBudget"]
              FieldValueInvalid spec
              FieldValueInvalid spec.minAvailable
              FieldValueInvalid spec.maxUnavailable
              FieldValueInvalid spec.selector.matchLabels
              FieldValueNotSupported spec.unhealthyPodEvictionPolicy
        "#]],
    );
    refused(
        &budget("{minAvailable: many}"),
        expect![[r#"
        422 PodDisruptionBudget.policy "a" is invalid: spec.minAvailable: Invalid value: "many": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')
          FieldValueInvalid spec.minAvailable
    "#]],
    );
    let one = stored(&budget("{maxUnavailable: 50%}"));
    let both = |one: &mut Value| {
        one["spec"]["maxUnavailable"] = json!(1);
        one["status"]["disruptionsAllowed"] = json!(1);
    };
    let picked = ["spec.maxUnavailable", "status.disruptionsAllowed", "metadata.generation"];
    changed(
        "",
        &one,
        both,
        &picked,
        expect![[r#"
        spec.maxUnavailable: 1
        status.disruptionsAllowed: 0
        metadata.generation: 2
    "#]],
    );
    changed(
        "status",
        &one,
        both,
        &picked,
        expect![[r#"
        spec.maxUnavailable: "50%"
        status.disruptionsAllowed: 1
        metadata.generation: 1
    "#]],
    );
    changed(
        "status",
        &one,
        |one| {
            one["status"]["expectedPods"] = json!(-1);
            one["status"]["conditions"] = json!([
                {"type": "A", "status": "True", "reason": "R", "lastTransitionTime": "2026-11-23T17:00:00Z"},
                {"type": "A", "status": "Maybe", "reason": "1", "observedGeneration": -1},
                {"type": "", "status": "True"}]);
        },
        &[],
        expect![[r#"
            422 PodDisruptionBudget.policy "a" is invalid: [status.conditions[1]: Duplicate value: "A", status.conditions[1].status: Unsupported value: "Maybe": supported values: "False", "True", "Unknown", status.conditions[1].observedGeneration: Invalid value: -1: must be greater than or equal to zero, status.conditions[1].lastTransitionTime: Required value, status.conditions[1].reason: Invalid value: "1": a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?'), status.conditions[2].type: Required value: is required, status.conditions[2].lastTransitionTime: Required value, status.conditions[2].reason: Required value, status.expectedPods: Invalid value: -1: must be greater than or equal to 0]
              FieldValueDuplicate status.conditions[1]
              FieldValueNotSupported status.conditions[1].status
              FieldValueInvalid status.conditions[1].observedGeneration
              FieldValueRequired status.conditions[1].lastTransitionTime
              FieldValueInvalid status.conditions[1].reason
              FieldValueRequired status.conditions[2].type
              FieldValueRequired status.conditions[2].lastTransitionTime
              FieldValueRequired status.conditions[2].reason
              FieldValueInvalid status.expectedPods
        "#]],
    );
}

#[test]
fn priority_classes() {
    let [node, cluster] = system_classes();
    created(
        &text(&node),
        expect![[r#"
        kind: PriorityClass
        apiVersion: scheduling.k8s.io/v1
        metadata:
          name: system-node-critical
          generation: 1
        value: 2000001000
        description: Used for system critical pods that must not be moved from their current node.
        preemptionPolicy: PreemptLowerPriority
    "#]],
    );
    created(
        &text(&cluster),
        expect![[r#"
        kind: PriorityClass
        apiVersion: scheduling.k8s.io/v1
        metadata:
          name: system-cluster-critical
          generation: 1
        value: 2000000000
        description: Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.
        preemptionPolicy: PreemptLowerPriority
    "#]],
    );
    let class = |name: &str, rest: &str| {
        format!(
            "{{apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {{name: {name}}}, {rest}}}"
        )
    };
    refused(
        &class("a", "value: 1000000001, preemptionPolicy: Now"),
        expect![[r#"
        422 PriorityClass.scheduling.k8s.io "a" is invalid: [value: Forbidden: maximum allowed value of a user defined priority is 1000000000, preemptionPolicy: Unsupported value: "Now": supported values: "PreemptLowerPriority", "Never"]
          FieldValueForbidden value
          FieldValueNotSupported preemptionPolicy
    "#]],
    );
    refused(
        &class("system-mine", "value: 1"),
        expect![[r#"
        422 PriorityClass.scheduling.k8s.io "system-mine" is invalid: metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: system-mine is not a known system priority class
          FieldValueForbidden metadata.name
    "#]],
    );
    refused(
        &class("system-node-critical", "value: 1"),
        expect![[r#"
        422 PriorityClass.scheduling.k8s.io "system-node-critical" is invalid: metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: value of system-node-critical PriorityClass must be 2000001000
          FieldValueForbidden metadata.name
    "#]],
    );
    let one = stored(&class("a", "value: 5"));
    changed(
        "",
        &one,
        |one| {
            one["description"] = "d".into();
            one["globalDefault"] = json!(true);
        },
        &["description", "globalDefault", "metadata.generation"],
        expect![[r#"
            description: "d"
            globalDefault: true
            metadata.generation: 1
        "#]],
    );
    changed(
        "",
        &one,
        |one| {
            one["value"] = json!(6);
            one["preemptionPolicy"] = "Never".into();
        },
        &[],
        expect![[r#"
            422 PriorityClass.scheduling.k8s.io "a" is invalid: [value: Forbidden: may not be changed in an update., preemptionPolicy: Invalid value: "Never": field is immutable]
              FieldValueForbidden value
              FieldValueInvalid preemptionPolicy
        "#]],
    );
    printed(&class("a", "value: 5"), "", expect!["a | 5 | false | 5m | PreemptLowerPriority"]);
}

#[test]
fn rows() {
    printed(
        &budget("{minAvailable: 1}"),
        "{disruptionsAllowed: 2}",
        expect!["a | 1 | N/A | 2 | 5m"],
    );
    printed(&budget("{maxUnavailable: 10%}"), "", expect!["a | N/A | 10% | 0 | 5m"]);
}
