//! What `pods/resize` changes, keeps and refuses.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::{refusal, stored, update};

fn refused(old: &Value, change: impl FnOnce(&mut Value), expected: Expect) {
    expected.assert_eq(&refusal(update("resize", old, change)));
}

const SIZED: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
  - {name: a, image: 'a:1', resources: {requests: {cpu: 100m, memory: 1Mi}, limits: {cpu: 200m}}}
  - {name: b, image: 'b:1'}
";

#[test]
fn pods_are_resized() {
    let pod = stored(SIZED);
    let resized = update("resize", &pod, |pod| {
        pod["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "150m".into();
        // Whatever else comes along is passed over.
        pod["spec"]["containers"][0]["image"] = "a:2".into();
        pod["metadata"]["labels"] = json!({"c": "d"});
        pod["status"]["phase"] = "Failed".into();
    });
    let resized = resized.expect("valid");
    expect![[r#"["150m","a:1",null,"Pending",2]"#]].assert_eq(
        &json!([
            resized["spec"]["containers"][0]["resources"]["requests"]["cpu"],
            resized["spec"]["containers"][0]["image"],
            resized["metadata"]["labels"],
            resized["status"]["phase"],
            resized["metadata"]["generation"]
        ])
        .to_string(),
    );
    let first = |pod: &mut Value, key: &str, value: Value| {
        pod["spec"]["containers"][0]["resources"][key] = value;
    };
    let gone = |pod: &mut Value| first(pod, "limits", json!({}));
    refused(
        &pod,
        gone,
        expect![[r#"
        422 Pod "a" is invalid: spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed
          FieldValueForbidden spec.containers[0].resources.limits
    "#]],
    );
    let guaranteed = |pod: &mut Value| {
        let same = json!({"cpu": "1", "memory": "1Mi"});
        pod["spec"]["containers"].as_array_mut().expect("a list").truncate(1);
        (pod["spec"]["containers"][0]["resources"]) = json!({"requests": same, "limits": same});
    };
    refused(
        &pod,
        guaranteed,
        expect![[r#"
        422 Pod "a" is invalid: [spec: Invalid value: "Burstable": Pod QOS Class may not change as a result of resizing, spec.containers: Forbidden: containers may not be added or removed on resize]
          FieldValueInvalid spec
          FieldValueForbidden spec.containers
    "#]],
    );
    let renamed = |pod: &mut Value| pod["spec"]["containers"][1]["name"] = "c".into();
    refused(
        &pod,
        renamed,
        expect![[r#"
        422 Pod "a" is invalid: spec.containers[1].name: Forbidden: containers may not be renamed or reordered on resize
          FieldValueForbidden spec.containers[1].name
    "#]],
    );
    let disk = |pod: &mut Value| {
        first(pod, "requests", json!({"cpu": "1m", "memory": "1Mi", "ephemeral-storage": "1Mi"}));
    };
    refused(
        &pod,
        disk,
        expect![[r#"
        422 Pod "a" is invalid: spec: Forbidden: only cpu and memory resources are mutable
          FieldValueForbidden spec
    "#]],
    );
    let mut elsewhere = pod.clone();
    elsewhere["status"]["containerStatuses"] =
        json!([{"name": "a", "state": {"running": {}}, "ready": true, "restartCount": 0}]);
    refused(
        &elsewhere,
        |_| {},
        expect![[r#"
        422 Pod "a" is invalid: spec: Forbidden: Pod running on node without support for resize
          FieldValueForbidden spec
    "#]],
    );
}
