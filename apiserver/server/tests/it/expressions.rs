//! Expressions in CEL are compiled when an object that holds them is written.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::Cluster;

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies";
const CLASSES: &str = "/apis/resource.k8s.io/v1/deviceclasses";

/// What is said to a new object, without the words that all refusals have; a cause a line.
async fn refusal(cluster: &Cluster, path: &str, body: &Value) -> String {
    let answer = cluster.run(&format!("POST {path}?dryRun=All {body}")).await;
    if answer.code == 201 {
        return "fine\n".to_owned();
    }
    let causes = answer.json()["details"]["causes"].as_array().cloned().unwrap_or_default();
    let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
    let lines = causes.iter().map(|c| format!("{}: {}\n", text(&c["field"]), text(&c["message"])));
    let lines: String = lines.collect();
    if lines.is_empty() { format!("{}\n", answer.summary()) } else { lines }
}

fn policy(spec: Value) -> Value {
    let mut whole = json!({"matchConstraints": {"resourceRules": [{"apiGroups": [""],
        "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}]},
        "validations": [{"expression": "true"}]});
    whole.as_object_mut().expect("a map").extend(spec.as_object().expect("a map").clone());
    json!({"metadata": {"name": "a"}, "spec": whole})
}

async fn check(path: &str, bodies: Vec<Value>, expected: Expect) {
    let cluster = Cluster::new().await;
    let mut out = String::new();
    for body in &bodies {
        out += &refusal(&cluster, path, body).await;
    }
    expected.assert_eq(&out);
}

#[tokio::test(start_paused = true)]
async fn validations_see_the_request_and_yield_a_bool() {
    let rules = [
        "object.spec.replicas <= 5",
        "has(object.metadata.labels) && object.metadata.labels.exists(k, k == 'a')",
        "oldObject == null || request.operation == 'UPDATE'",
        "request.userInfo.groups.exists(g, g == 'admins') && request.kind.kind == 'Pod'",
        "namespaceObject.metadata.labels['env'] == 'prod'",
        "authorizer.group('').resource('pods').namespace('a').check('get').allowed()",
        "authorizer.requestResource.check('delete').allowed()",
        "authorizer.path('/healthz').check('get').errored()",
        "params.max > 1",
        "variables.x > 1",
        "object.spec.replicas",
        "'text'",
        "size([1])",
        "[1, 'a']",
        "timestamp('2026-01-01T00:00:00Z')",
        "foo == 1",
        "request.bogus == 1",
        "request.name > 5",
        "object.x ==",
        "object.items.all(i, i.x == 1",
        "authorizer.check('get')",
        "jsonpatch.escapeKey('a') == 'a'",
        "Object{} == null",
    ];
    let bodies = rules.map(|rule| policy(json!({"validations": [{"expression": rule}]})));
    check(POLICIES, bodies.into(), expect![[r#"
        fine
        fine
        fine
        fine
        fine
        fine
        fine
        fine
        spec.validations[0].expression: Invalid value: "params.max > 1": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')
         | params.max > 1
         | ^
        spec.validations[0].expression: Invalid value: "variables.x > 1": compilation failed: ERROR: <input>:1:1: undeclared reference to 'variables' (in container '')
         | variables.x > 1
         | ^
        spec.validations[0].expression: Invalid value: "object.spec.replicas": must evaluate to bool but got dyn
        spec.validations[0].expression: Invalid value: "'text'": must evaluate to bool but got string
        spec.validations[0].expression: Invalid value: "size([1])": must evaluate to bool but got int
        spec.validations[0].expression: Invalid value: "[1, 'a']": compilation failed: ERROR: <input>:1:5: expected type 'int' but found 'string'
         | [1, 'a']
         | ....^
        spec.validations[0].expression: Invalid value: "timestamp('2026-01-01T00:00:00Z')": must evaluate to bool but got google.protobuf.Timestamp
        spec.validations[0].expression: Invalid value: "foo == 1": compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')
         | foo == 1
         | ^
        spec.validations[0].expression: Invalid value: "request.bogus == 1": compilation failed: ERROR: <input>:1:8: undefined field 'bogus'
         | request.bogus == 1
         | .......^
        spec.validations[0].expression: Invalid value: "request.name > 5": compilation failed: ERROR: <input>:1:14: found no matching overload for '_>_' applied to '(string, int)'
         | request.name > 5
         | .............^
        spec.validations[0].expression: Invalid value: "object.x ==": compilation failed: ERROR: <input>:1:12: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
         | object.x ==
         | ...........^
        spec.validations[0].expression: Invalid value: "object.items.all(i, i.x == 1": compilation failed: ERROR: <input>:1:29: Syntax error: missing ')' at '<EOF>'
         | object.items.all(i, i.x == 1
         | ............................^
        spec.validations[0].expression: Invalid value: "authorizer.check('get')": compilation failed: ERROR: <input>:1:17: found no matching overload for 'check' applied to 'kubernetes.authorization.Authorizer.(string)'
         | authorizer.check('get')
         | ................^
        spec.validations[0].expression: Invalid value: "jsonpatch.escapeKey('a') == 'a'": compilation failed: ERROR: <input>:1:1: undeclared reference to 'jsonpatch' (in container '')
         | jsonpatch.escapeKey('a') == 'a'
         | ^
        ERROR: <input>:1:20: undeclared reference to 'escapeKey' (in container '')
         | jsonpatch.escapeKey('a') == 'a'
         | ...................^
        spec.validations[0].expression: Invalid value: "Object{} == null": compilation failed: ERROR: <input>:1:7: undeclared reference to 'Object' (in container '')
         | Object{} == null
         | ......^
    "#]]).await;
}

#[tokio::test(start_paused = true)]
async fn all_parts_of_a_policy_are_compiled() {
    let bodies = vec![
        policy(json!({
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "matchConditions": [{"name": "c", "expression": "params.data.a == 'b' && request.dryRun"}],
            "variables": [
                {"name": "n", "expression": "object.spec.replicas"},
                {"name": "list", "expression": "['a', string(params.data.b)]"},
                {"name": "first", "expression": "variables.list[0]"},
                {"name": "yes", "expression": "variables.n > 1"},
            ],
            "validations": [{
                "expression": "variables.yes && variables.first == 'a'",
                "messageExpression": "'too many: ' + string(variables.n)",
            }],
            "auditAnnotations": [{"key": "k", "valueExpression": " variables.yes ? 'a' : 'b' "}],
        })),
        policy(json!({
            "matchConditions": [
                {"name": "c", "expression": " params.a == 1 "},
                {"name": "d", "expression": "variables.n"},
            ],
            "variables": [
                {"name": "a", "expression": "variables.b"},
                {"name": "b", "expression": "bogus"},
                {"name": "c", "expression": "'text'"},
            ],
            "validations": [
                {"expression": "variables.c", "messageExpression": "1 + 2"},
                {"expression": "variables.b == 1", "messageExpression": "authorizer.path('/').check('get').reason()"},
            ],
            "auditAnnotations": [{"key": "k", "valueExpression": " 1 "}, {"key": "l", "valueExpression": "variables.d"}],
        })),
    ];
    check(POLICIES, bodies, expect![[r#"
        fine
        spec.matchConditions[0].expression: Invalid value: "params.a == 1": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')
         | params.a == 1
         | ^
        spec.matchConditions[1].expression: Invalid value: "variables.n": compilation failed: ERROR: <input>:1:1: undeclared reference to 'variables' (in container '')
         | variables.n
         | ^
        spec.variables[0].expression: Invalid value: "variables.b": compilation failed: ERROR: <input>:1:10: undefined field 'b'
         | variables.b
         | .........^
        spec.variables[1].expression: Invalid value: "bogus": compilation failed: ERROR: <input>:1:1: undeclared reference to 'bogus' (in container '')
         | bogus
         | ^
        spec.validations[0].expression: Invalid value: "variables.c": must evaluate to bool but got string
        spec.validations[0].messageExpression: Invalid value: "1 + 2": must evaluate to string but got int
        spec.validations[1].messageExpression: Invalid value: "authorizer.path('/').check('get').reason()": compilation failed: ERROR: <input>:1:1: undeclared reference to 'authorizer' (in container '')
         | authorizer.path('/').check('get').reason()
         | ^
        spec.auditAnnotations[0].valueExpression: Invalid value: " 1 ": must evaluate to one of [string null_type] but got int
        spec.auditAnnotations[1].valueExpression: Invalid value: "variables.d": compilation failed: ERROR: <input>:1:10: undefined field 'd'
         | variables.d
         | .........^
    "#]]).await;
    let mutation = |kind: &str, key: &str, expression: &str| {
        let mut spec = json!({"mutations": [{"patchType": kind}], "reinvocationPolicy": "Never"});
        spec["mutations"][0][key] = json!({"expression": expression});
        let mut policy = policy(spec);
        policy["spec"].as_object_mut().expect("a map").remove("validations");
        policy
    };
    let apply = |text: &str| mutation("ApplyConfiguration", "applyConfiguration", text);
    let patch = |text: &str| mutation("JSONPatch", "jsonPatch", text);
    let bodies = vec![
        apply("Object{spec: Object.spec{replicas: object.spec.replicas + 1}}"),
        apply("Object{metadata: Object.metadata{labels: {'a': 'b'}}}"),
        apply("{'spec': 1}"),
        apply("Objekt{}"),
        patch(
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 1}]",
        ),
        patch("[JSONPatch{op: 1}]"),
        patch("[JSONPatch{bogus: 1}]"),
        patch("JSONPatch{op: 'add'}"),
        patch("variables.x"),
    ];
    check(MUTATING, bodies, expect![[r#"
        fine
        fine
        spec.mutations[0].applyConfiguration.expression: Invalid value: "{'spec': 1}": must evaluate to Object but got map(string, int)
        spec.mutations[0].applyConfiguration.expression: Invalid value: "Objekt{}": compilation failed: ERROR: <input>:1:7: undeclared reference to 'Objekt' (in container '')
         | Objekt{}
         | ......^
        fine
        spec.mutations[0].jsonPatch.expression: Invalid value: "[JSONPatch{op: 1}]": compilation failed: ERROR: <input>:1:14: expected type of field 'op' is 'string' but provided type is 'int'
         | [JSONPatch{op: 1}]
         | .............^
        spec.mutations[0].jsonPatch.expression: Invalid value: "[JSONPatch{bogus: 1}]": compilation failed: ERROR: <input>:1:17: expected type of field 'bogus' is '' but provided type is 'int'
         | [JSONPatch{bogus: 1}]
         | ................^
        spec.mutations[0].jsonPatch.expression: Invalid value: "JSONPatch{op: 'add'}": must evaluate to list(JSONPatch) but got JSONPatch
        spec.mutations[0].jsonPatch.expression: Invalid value: "variables.x": compilation failed: ERROR: <input>:1:10: undefined field 'x'
         | variables.x
         | .........^
    "#]]).await;
}

#[tokio::test(start_paused = true)]
async fn conditions_of_webhooks() {
    let hook = |conditions: Value| {
        json!({"metadata": {"name": "a"}, "webhooks": [{"name": "a.b.c",
            "clientConfig": {"url": "https://a.b"}, "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "matchConditions": conditions}]})
    };
    let bodies = vec![
        hook(
            json!([{"name": "a", "expression": "request.operation == 'CREATE' && authorizer.path('/').check('get').allowed()"}]),
        ),
        hook(
            json!([{"name": "a", "expression": "object.spec"}, {"name": "b", "expression": "params == 1\n|| x"}]),
        ),
    ];
    check(
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations",
        bodies,
        expect![[r#"
            fine
            webhooks[0].matchConditions[0].expression: Invalid value: "object.spec": must evaluate to bool but got dyn
            webhooks[0].matchConditions[1].expression: Invalid value: "params == 1\n|| x": compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')
             | params == 1
             | ^
            ERROR: <input>:2:4: undeclared reference to 'x' (in container '')
             | || x
             | ...^
        "#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn selectors_of_devices() {
    let class = |expression: &str| json!({"metadata": {"name": "a"}, "spec": {"selectors": [{"cel": {"expression": expression}}]}});
    let long = "x".repeat(11_000);
    let bodies = vec![
        class("device.driver == 'gpu.example.com'"),
        class(
            "device.attributes['gpu.example.com'].model == 'a' && device.allowMultipleAllocations",
        ),
        class("device.capacity['gpu.example.com'].memory.isGreaterThan(quantity('1Gi'))"),
        class("device.attributes['d'].flag"),
        class("cel.bind(a, device.attributes['d'], a.x && a.y)"),
        class("device.driver"),
        class("device.model == 'a'"),
        class("object.x"),
        class(
            "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, device.attributes.all(d, a + b + c == d))))",
        ),
        class(&long),
    ];
    check(CLASSES, bodies, expect![[r#"
        fine
        fine
        fine
        fine
        fine
        spec.selectors[0].cel.expression: Invalid value: "device.driver": must evaluate to bool or the unknown type, not string
        spec.selectors[0].cel.expression: Invalid value: "device.model == 'a'": compilation failed: ERROR: <input>:1:7: undefined field 'model'
         | device.model == 'a'
         | ......^
        spec.selectors[0].cel.expression: Invalid value: "object.x": compilation failed: ERROR: <input>:1:1: undeclared reference to 'object' (in container '')
         | object.x
         | ^
        spec.selectors[0].cel.expression: Forbidden: too complex, exceeds cost limit
        spec.selectors[0].cel.expression: Too long: may not be more than 10240 bytes
    "#]]).await;
    let claim = json!({"metadata": {"name": "a"}, "spec": {"devices": {"requests": [
        {"name": "r", "exactly": {"deviceClassName": "c", "selectors": [{"cel": {"expression": "bogus"}}]}},
        {"name": "s", "firstAvailable": [{"name": "x", "deviceClassName": "c", "selectors": [{"cel": {"expression": "1"}}]}]},
    ]}}});
    let template = json!({"metadata": {"name": "a"}, "spec": {"spec": claim["spec"]}});
    let path = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaim";
    check(&format!("{path}s"), vec![claim], expect![[r#"
        spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: "bogus": compilation failed: ERROR: <input>:1:1: undeclared reference to 'bogus' (in container '')
         | bogus
         | ^
        spec.devices.requests[1].firstAvailable[0].selectors[0].cel.expression: Invalid value: "1": must evaluate to bool or the unknown type, not int
    "#]]).await;
    check(&format!("{path}templates"), vec![template], expect![[r#"
        spec.spec.devices.requests[0].exactly.selectors[0].cel.expression: Invalid value: "bogus": compilation failed: ERROR: <input>:1:1: undeclared reference to 'bogus' (in container '')
         | bogus
         | ^
        spec.spec.devices.requests[1].firstAvailable[0].selectors[0].cel.expression: Invalid value: "1": must evaluate to bool or the unknown type, not int
    "#]]).await;
}

/// What was stored isn't looked at again.
#[tokio::test(start_paused = true)]
async fn only_what_changes_is_compiled() {
    let cluster = Cluster::new().await;
    cluster.run(&format!("POST {POLICIES} {}", policy(json!({})))).await;
    let patch = |spec: Value| {
        format!(
            "PATCH {POLICIES}/a merge {}",
            json!({"metadata": {"labels": {"a": "b"}}, "spec": spec})
        )
    };
    cluster
        .session(
            &[
                &patch(json!({})),
                &patch(json!({"validations": [{"expression": "bogus"}]})),
                &patch(json!({"validations": [{"expression": "false"}]})),
            ],
            expect![[r#"
                PATCH /apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/a merge {"metadata
                    200 ValidatingAdmissionPolicy a +2 | 299 - "no controller acts on ValidatingAdmissionPolicy objects in this version of Windlass: they are only stored"
                PATCH /apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/a merge {"metadata
                    422 Invalid: ValidatingAdmissionPolicy.admissionregistration.k8s.io "a" is invalid: spec.validations[0].expression: Invalid value: "bogus": compilation failed: ERROR: <input>:1:1: undeclared reference to 'bogus' (in container '')
                 | bogus
                 | ^
                PATCH /apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies/a merge {"metadata
                    200 ValidatingAdmissionPolicy a +3 | 299 - "no controller acts on ValidatingAdmissionPolicy objects in this version of Windlass: they are only stored"
            "#]],
        )
        .await;
}
