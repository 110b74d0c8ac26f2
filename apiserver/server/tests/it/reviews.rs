//! Reviews: questions to the server about who may do what.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::Cluster;

/// One line a review of `plural` with that spec: its status, or why it is refused.
async fn check(cluster: &Cluster, plural: &str, reviews: &[Value], expected: Expect) {
    let place = match plural {
        "localsubjectaccessreviews" => "namespaces/default/",
        _ => "",
    };
    let mut out = String::new();
    for review in reviews {
        let path = format!("/apis/authorization.k8s.io/v1/{place}{plural}");
        let answer = cluster.run(&format!("POST {path} {review}")).await;
        let json = answer.json();
        match json["status"].as_object() {
            Some(status) => {
                let parts: Vec<String> = status.iter().map(|(k, v)| format!("{k}={v}")).collect();
                out += &format!("{}\n", parts.join(" "));
            }
            None => out += &format!("{} {}\n", answer.code, json["message"].as_str().unwrap_or("")),
        }
    }
    expected.assert_eq(&out);
}

/// What a node is asked about: listing pods, narrowed so.
fn of_node(selectors: Value) -> Value {
    let mut asked = json!({"verb": "list", "resource": "pods"});
    asked.as_object_mut().expect("a map").extend(selectors.as_object().expect("a map").clone());
    json!({"spec": {"user": "system:node:a", "groups": ["system:nodes"], "resourceAttributes": asked}})
}

#[tokio::test(start_paused = true)]
async fn selectors_of_reviews_narrow_what_is_asked() {
    let cluster = Cluster::new().await;
    let fields = |term: Value| of_node(json!({"fieldSelector": {"requirements": [term]}}));
    let on_node = |operator: &str, values: Value| {
        fields(json!({"key": "spec.nodeName", "operator": operator, "values": values}))
    };
    let reviews = [
        of_node(json!({})),
        of_node(json!({"fieldSelector": {"rawSelector": "spec.nodeName=a"}})),
        of_node(json!({"fieldSelector": {"rawSelector": "spec.nodeName=b"}})),
        of_node(json!({"fieldSelector": {"rawSelector": "spec.nodeName"}})),
        on_node("In", json!(["a"])),
        on_node("In", json!(["a", "b"])),
        on_node("NotIn", json!(["a"])),
        on_node("Exists", json!([])),
        on_node("Newer", json!(["a"])),
        of_node(json!({"fieldSelector": {"requirements": [
            {"key": "x", "operator": "Newer"},
            {"key": "spec.nodeName", "operator": "In", "values": ["a"]}]}})),
        of_node(json!({"fieldSelector": {"rawSelector": "spec.nodeName=a"},
            "labelSelector": {"rawSelector": "a in (b"}})),
        of_node(json!({"labelSelector": {"requirements": [
            {"key": "a", "operator": "Newer"}, {"key": "a", "operator": "Exists"}]}})),
    ];
    check(&cluster, "subjectaccessreviews", &reviews, expect![[r#"
        allowed=false reason="can only list/watch pods with spec.nodeName field selector"
        allowed=true
        allowed=false reason="can only list/watch pods with spec.nodeName field selector"
        allowed=false reason="can only list/watch pods with spec.nodeName field selector" evaluationError="spec.resourceAttributes.fieldSelector ignored due to parse error"
        allowed=true
        allowed=false reason="can only list/watch pods with spec.nodeName field selector" evaluationError="spec.resourceAttributes.fieldSelector ignored due to parse error"
        allowed=false reason="can only list/watch pods with spec.nodeName field selector"
        allowed=false reason="can only list/watch pods with spec.nodeName field selector" evaluationError="spec.resourceAttributes.fieldSelector ignored due to parse error"
        allowed=false reason="can only list/watch pods with spec.nodeName field selector" evaluationError="spec.resourceAttributes.fieldSelector ignored due to parse error"
        allowed=true evaluationError="spec.resourceAttributes.fieldSelector partially ignored due to parse error"
        allowed=true evaluationError="spec.resourceAttributes.labelSelector ignored due to parse error"
        allowed=false reason="can only list/watch pods with spec.nodeName field selector" evaluationError="spec.resourceAttributes.labelSelector partially ignored due to parse error"
    "#]]).await;
}

#[tokio::test(start_paused = true)]
async fn reviews_are_held_to_their_form() {
    let cluster = Cluster::new().await;
    let both = json!({"rawSelector": "a=b", "requirements": [{"key": "a", "operator": "Exists"}]});
    let wrong = json!([
        {"operator": "In"},
        {"key": "-a", "operator": "Exists", "values": ["b"]},
        {"key": "a", "operator": "In", "values": ["_"]},
    ]);
    let path = json!({"path": "/x", "verb": "get"});
    let reviews = [
        of_node(json!({"fieldSelector": both, "labelSelector": both})),
        of_node(json!({"fieldSelector": {}, "labelSelector": {}})),
        of_node(json!({"fieldSelector": {"requirements": wrong}})),
        of_node(json!({"labelSelector": {"requirements": wrong}})),
        json!({"spec": {}}),
        json!({"metadata": {"name": "a"}, "spec": {"user": "u", "nonResourceAttributes": path}}),
        json!({"kind": "Pod", "apiVersion": "v1"}),
    ];
    check(&cluster, "subjectaccessreviews", &reviews, expect![[r#"
        422 .authorization.k8s.io "" is invalid: [spec.resourceAttributes.fieldSelector.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements, spec.resourceAttributes.labelSelector.rawSelector: Invalid value: "a=b": may not specified at the same time as requirements]
        422 .authorization.k8s.io "" is invalid: [spec.resourceAttributes.fieldSelector.requirements: Required value: when spec.resourceAttributes.fieldSelector is specified, requirements or rawSelector is required, spec.resourceAttributes.labelSelector.requirements: Required value: when spec.resourceAttributes.labelSelector is specified, requirements or rawSelector is required]
        422 .authorization.k8s.io "" is invalid: [spec.resourceAttributes.fieldSelector.requirements[0].key: Required value: must be specified, spec.resourceAttributes.fieldSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn', spec.resourceAttributes.fieldSelector.requirements[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist']
        422 .authorization.k8s.io "" is invalid: [spec.resourceAttributes.labelSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn', spec.resourceAttributes.labelSelector.requirements[0].key: Invalid value: "": name part must be non-empty, spec.resourceAttributes.labelSelector.requirements[0].key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), spec.resourceAttributes.labelSelector.requirements[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist', spec.resourceAttributes.labelSelector.requirements[1].key: Invalid value: "-a": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), spec.resourceAttributes.labelSelector.requirements[2].values[0]: Invalid value: "_": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')]
        422 .authorization.k8s.io "" is invalid: [spec: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified, spec.user: Invalid value: "": at least one of user or group must be specified]
        422 .authorization.k8s.io "" is invalid: metadata: Invalid value: {"name":"a","managedFields":[{"manager":"tester","operation":"Update","apiVersion":"authorization.k8s.io/v1","time":"2026-11-23T17:20:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:nonResourceAttributes":{".":{},"f:path":{},"f:verb":{}},"f:user":{}}}}]}: must be empty
        400 Pod in version "v1" cannot be handled as a SubjectAccessReview: converting (v1.Pod) to (v1.SubjectAccessReview): unknown conversion
    "#]]).await;
    let local = |namespace: &str| json!({"spec": {"user": "u", "resourceAttributes": {"namespace": namespace}}});
    let reviews = [
        local("default"),
        local("other"),
        json!({"metadata": {"name": "a"}, "spec": {"user": "u", "nonResourceAttributes": path}}),
        json!({"metadata": {"namespace": "other"}, "spec": {"user": "u"}}),
    ];
    check(&cluster, "localsubjectaccessreviews", &reviews, expect![[r#"
        allowed=false
        422 .authorization.k8s.io "" is invalid: spec.resourceAttributes.namespace: Invalid value: "other": must match metadata.namespace
        422 .authorization.k8s.io "" is invalid: [metadata: Invalid value: {"name":"a","namespace":"default","managedFields":[{"manager":"tester","operation":"Update","apiVersion":"authorization.k8s.io/v1","time":"2026-11-23T17:20:00Z","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{"f:nonResourceAttributes":{".":{},"f:path":{},"f:verb":{}},"f:user":{}}}}]}: must be empty except for namespace, spec.nonResourceAttributes: Invalid value: {"Path":"/x","Verb":"get"}: disallowed on this kind of request]
        400 the namespace of the provided object does not match the namespace sent on the request
    "#]]).await;
    check(
        &cluster,
        "selfsubjectrulesreviews",
        &[json!({"spec": {}})],
        expect![[r#"
        400 no namespace on request
    "#]],
    )
    .await;
    let node = cluster.as_user(windlass_apiserver_access::User::node("a"));
    let review =
        r#"POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews {"spec":{"namespace":"n"}}"#;
    let status = node.run(review).await.json()["status"].clone();
    expect![[r#"true "node authorizer does not support user rule resolution""#]]
        .assert_eq(&format!("{} {}", status["incomplete"], status["evaluationError"]));
    let reviews = [
        json!({"spec": {"nonResourceAttributes": path}}),
        json!({"spec": {"resourceAttributes": {}, "nonResourceAttributes": path}}),
    ];
    check(&cluster, "selfsubjectaccessreviews", &reviews, expect![[r#"
        allowed=true
        422 .authorization.k8s.io "" is invalid: spec: Invalid value: {"Path":"/x","Verb":"get"}: exactly one of nonResourceAttributes or resourceAttributes must be specified
    "#]]).await;
}
