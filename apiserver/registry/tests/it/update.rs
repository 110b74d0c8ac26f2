//! What an update keeps, resets, counts and refuses.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use windlass_apiserver_registry::{
    Context, bind, json_patch, merge_patch, read_scale, write_scale,
};
use windlass_sdk_meta::Rng;

use crate::{kind_of, now, refusal, stored, text, update};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {a: b}}
spec:
  containers: [{name: a, image: 'a:1'}]
  tolerations: [{key: a, operator: Exists, effect: NoExecute}]
";
const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: a}]}}
";

fn refused(sub: &str, old: &Value, change: impl FnOnce(&mut Value), expected: Expect) {
    expected.assert_eq(&refusal(update(sub, old, change)));
}

#[test]
fn status_and_spec_are_apart() {
    let pod = stored(POD);
    let both = |pod: &mut Value| {
        pod["spec"]["containers"][0]["image"] = "a:2".into();
        pod["status"]["phase"] = "Running".into();
        pod["status"]["podIP"] = "127.64.0.9".into();
        pod["metadata"]["annotations"] = json!({"x": "y"});
    };
    let show = |pod: Value| {
        format!(
            "{} {} {} {}",
            pod["spec"]["containers"][0]["image"],
            pod["status"],
            pod["metadata"]["generation"],
            pod["metadata"]["annotations"]
        )
    };
    expect![[r#""a:2" {"phase":"Pending","qosClass":"BestEffort"} 2 {"x":"y"}"#]]
        .assert_eq(&show(update("", &pod, both).expect("valid")));
    expect![[r#""a:1" {"phase":"Running","qosClass":"BestEffort","podIP":"127.64.0.9","podIPs":[{"ip":"127.64.0.9"}]} 1 {"x":"y"}"#]].assert_eq(&show(update("status", &pod, both).expect("valid")));
}

#[test]
fn system_metadata_is_the_systems() {
    let pod = stored(POD);
    let changed = update("", &pod, |pod| {
        pod["metadata"]["creationTimestamp"] = Value::Null;
        pod["metadata"]["uid"] = "".into();
        pod["metadata"]["generation"] = json!(9);
        pod["metadata"]["resourceVersion"] = "".into();
        pod["metadata"]["labels"]["c"] = "d".into();
    });
    let mut metadata = changed.expect("valid")["metadata"].clone();
    metadata.as_object_mut().expect("metadata").shift_remove("managedFields");
    expect![[r#"
        name: a
        labels:
          a: b
          c: d
        namespace: default
        uid: u
        creationTimestamp: 2026-11-23T17:00:00Z
        generation: 1
        resourceVersion: '5'
    "#]]
    .assert_eq(&text(&metadata));
    refused(
        "",
        &pod,
        |pod| pod["metadata"]["uid"] = "v".into(),
        expect![[r#"
        409 Operation cannot be fulfilled on pods "a": Precondition failed: UID in precondition: v, UID in object meta: u
    "#]],
    );
    refused(
        "",
        &pod,
        |pod| pod["metadata"]["resourceVersion"] = "4".into(),
        expect![[r#"
        409 Operation cannot be fulfilled on pods "a": the object has been modified; please apply your changes to the latest version and try again
    "#]],
    );
    refused(
        "",
        &pod,
        |pod| pod["metadata"]["deletionTimestamp"] = "2026-11-23T17:00:00Z".into(),
        expect![[r#"
            422 Pod "a" is invalid: metadata.deletionTimestamp: Invalid value: "2026-11-23T17:00:00Z": field is immutable
              FieldValueInvalid metadata.deletionTimestamp
        "#]],
    );
    let lease =
        stored("{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: a}, spec: {}}");
    refused(
        "",
        &lease,
        |lease| lease["metadata"]["resourceVersion"] = "".into(),
        expect![[r#"
            422 leases.coordination.k8s.io "a" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update
              FieldValueInvalid metadata.resourceVersion
        "#]],
    );
}

#[test]
fn most_of_a_pod_is_immutable() {
    let pod = stored(POD);
    refused(
        "",
        &pod,
        |pod| pod["spec"]["nodeName"] = "n".into(),
        expect![[r#"
        422 Pod "a" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
        - spec.nodeName: null
        + spec.nodeName: "n"

          FieldValueForbidden spec
    "#]],
    );
    refused(
        "",
        &pod,
        |pod| pod["spec"]["containers"] = json!([]),
        expect![[r#"
        422 Pod "a" is invalid: [spec.containers: Required value, spec.containers: Forbidden: pod updates may not add or remove containers]
          FieldValueRequired spec.containers
          FieldValueForbidden spec.containers
    "#]],
    );
    refused(
        "",
        &pod,
        |pod| pod["spec"]["tolerations"] = json!([]),
        expect![[r#"
        422 Pod "a" is invalid: spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds
          FieldValueForbidden spec.tolerations
    "#]],
    );
    refused(
        "",
        &pod,
        |pod| {
            pod["spec"]["activeDeadlineSeconds"] = json!(5);
            let more = json!({"key": "b", "operator": "Exists"});
            pod["spec"]["tolerations"].as_array_mut().expect("list").push(more);
        },
        expect![[r#"
            accepted
        "#]],
    );
    refused(
        "status",
        &pod,
        |pod| pod["status"]["qosClass"] = "Guaranteed".into(),
        expect![[r#"
        422 Pod "a" is invalid: status.qosClass: Invalid value: "Guaranteed": field is immutable
          FieldValueInvalid status.qosClass
    "#]],
    );
}

#[test]
fn gated_pods_open_and_nodes_keep_what_they_were_given() {
    let gated = stored(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {schedulingGates: [{name: x.y/a}], nodeSelector: {a: b}, containers: [{name: a, image: a}]}}",
    );
    refused(
        "",
        &gated,
        |pod| {
            pod["spec"]["schedulingGates"] = json!([]);
            pod["spec"]["nodeSelector"]["c"] = "d".into();
        },
        expect![[r#"
            accepted
        "#]],
    );
    refused(
        "",
        &gated,
        |pod| {
            pod["spec"]["schedulingGates"] = json!([{"name": "x.y/b"}]);
            pod["spec"]["nodeSelector"]["a"] = "c".into();
        },
        expect![[r#"
            422 Pod "a" is invalid: [spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'x.y/b', spec.nodeSelector: Invalid value: {"a":"c"}: only additions to spec.nodeSelector are allowed (no mutations or deletions)]
              FieldValueForbidden spec.schedulingGates[0].name
              FieldValueInvalid spec.nodeSelector
        "#]],
    );
    let node = stored(
        "{apiVersion: v1, kind: Node, metadata: {name: n}, spec: {providerID: a, podCIDRs: [10.0.0.0/24]}}",
    );
    refused(
        "",
        &node,
        |node| node["spec"] = json!({"unschedulable": true}),
        expect![[r#"
        422 Node "n" is invalid: [spec.providerID: Invalid value: null: field cannot be cleared once set, spec.podCIDRs: Forbidden: node updates may not change podCIDR except from "" to valid]
          FieldValueInvalid spec.providerID
          FieldValueForbidden spec.podCIDRs
    "#]],
    );
    let ended = {
        let mut pod = stored(
            "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {restartPolicy: Never, containers: [{name: a, image: a}]}}",
        );
        pod["status"]["containerStatuses"] =
            json!([{"name": "a", "state": {"terminated": {"exitCode": 3}}}]);
        pod
    };
    refused(
        "status",
        &ended,
        |pod| pod["status"]["containerStatuses"][0]["state"] = json!({"running": {}}),
        expect![[r#"
            422 Pod "a" is invalid: status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state
              FieldValueForbidden status.containerStatuses[0].state
        "#]],
    );
}

#[test]
fn what_may_not_change() {
    let deployment = stored(DEPLOYMENT);
    refused(
        "",
        &deployment,
        |object| {
            object["spec"]["selector"]["matchLabels"]["app"] = "x".into();
            object["spec"]["template"]["metadata"]["labels"]["app"] = "x".into();
        },
        expect![[r#"
            422 Deployment.apps "web" is invalid: spec.selector: Invalid value: {"matchLabels":{"app":"x"}}: field is immutable
              FieldValueInvalid spec.selector
        "#]],
    );
    refused(
        "status",
        &deployment,
        |object| object["status"]["readyReplicas"] = json!(1),
        expect![[r#"
            422 Deployment.apps "web" is invalid: status.readyReplicas: Invalid value: 1: cannot be greater than status.replicas
              FieldValueInvalid status.readyReplicas
        "#]],
    );
    let service =
        stored("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}");
    refused(
        "",
        &service,
        |object| object["spec"]["clusterIP"] = "127.96.0.9".into(),
        expect![[r#"
            422 Service "a" is invalid: spec.clusterIPs[0]: Invalid value: ["127.96.0.9"]: may not change once set
              FieldValueInvalid spec.clusterIPs[0]
        "#]],
    );
    let left_out = update("", &service, |object| {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            object["spec"].as_object_mut().expect("spec").shift_remove(key);
        }
    });
    assert_eq!(left_out.expect("valid"), service);
    let away = update("", &service, |object| {
        object["spec"]["type"] = "ExternalName".into();
        object["spec"]["externalName"] = "example.com".into();
    });
    expect![[r#"
        ports:
        - port: 80
          targetPort: 80
          protocol: TCP
        sessionAffinity: None
        type: ExternalName
        internalTrafficPolicy: Cluster
        externalName: example.com
    "#]]
    .assert_eq(&text(&away.expect("valid")["spec"]));
    let secret = stored("{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {a: YQ==}}");
    refused(
        "",
        &secret,
        |object| object["type"] = "x".into(),
        expect![[r#"
        422 Secret "a" is invalid: type: Invalid value: "x": field is immutable
          FieldValueInvalid type
    "#]],
    );
    let frozen = stored(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, immutable: true, data: {a: b}}",
    );
    refused(
        "",
        &frozen,
        |object| {
            object["immutable"] = false.into();
            object["data"]["a"] = "c".into();
        },
        expect![[r#"
            422 ConfigMap "a" is invalid: [immutable: Forbidden: field is immutable when `immutable` is set, data: Forbidden: field is immutable when `immutable` is set]
              FieldValueForbidden immutable
              FieldValueForbidden data
        "#]],
    );
    let binding = stored(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: a}, roleRef: {kind: Role, name: a}}",
    );
    refused(
        "",
        &binding,
        |object| object["roleRef"]["name"] = "b".into(),
        expect![[r#"
            422 RoleBinding.rbac.authorization.k8s.io "a" is invalid: roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"b"}: field is immutable
              FieldValueInvalid roleRef
        "#]],
    );
}

#[test]
fn generations_count_changes_of_the_spec() {
    let generation = |object: Value| object["metadata"]["generation"].clone();
    let deployment = stored(DEPLOYMENT);
    let after = |sub: &str, change: fn(&mut Value)| {
        generation(update(sub, &deployment, change).expect("valid"))
    };
    let found = [
        generation(deployment.clone()),
        after("", |object| object["metadata"]["labels"] = json!({"a": "b"})),
        after("", |object| object["metadata"]["annotations"] = json!({"a": "b"})),
        after("", |object| object["spec"]["replicas"] = json!(3)),
        after("status", |object| object["status"]["replicas"] = json!(3)),
        after("scale", |object| object["spec"]["replicas"] = json!(3)),
    ];
    assert_eq!(found.map(|one| one.as_i64()), [1, 1, 2, 2, 1, 2].map(Some));
}

#[test]
fn scale_is_a_view() {
    let mut deployment = stored(DEPLOYMENT);
    deployment["status"]["replicas"] = json!(1);
    let kind = kind_of(&deployment);
    let scale = read_scale(&kind, &deployment).expect("scale");
    expect![[r#"
        kind: Scale
        apiVersion: autoscaling/v1
        metadata:
          name: web
          namespace: default
          uid: u
          resourceVersion: '5'
          creationTimestamp: 2026-11-23T17:00:00Z
        spec:
          replicas: 1
        status:
          replicas: 1
          selector: app=web
    "#]]
    .assert_eq(&text(&scale));
    let write = |change: Value| {
        let (mut object, mut scale) = (deployment.clone(), scale.clone());
        merge_patch(&mut scale, &change).expect("a patch");
        write_scale(&kind, &mut object, &scale)?;
        Ok(object["spec"]["replicas"].clone())
    };
    assert_eq!(write(json!({"spec": {"replicas": 5}})), Ok(json!(5)));
    assert_eq!(write(json!({"spec": null})), Ok(json!(0)));
    expect![[r#"
        422 Scale.autoscaling "web" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0
          FieldValueInvalid spec.replicas
    "#]].assert_eq(&refusal(write(json!({"spec": {"replicas": -1}}))));
    expect![[r#"
        409 Operation cannot be fulfilled on deployments.apps "web": the object has been modified; please apply your changes to the latest version and try again
    "#]].assert_eq(&refusal(write(json!({"metadata": {"resourceVersion": "1"}}))));
}

#[test]
fn binding_gives_a_node_once() {
    let rng = Rng::seeded(1);
    let cx = Context { now: now(), rng: &rng, user: "" };
    let target =
        |name: &str| json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": name}});
    let mut pod = stored(POD);
    bind(&mut pod, &target("n"), &cx).expect("binds");
    expect![[r#"
        - n
        - phase: Pending
          qosClass: BestEffort
          conditions:
          - type: PodScheduled
            status: 'True'
            lastProbeTime: null
            lastTransitionTime: 2026-11-23T17:00:00Z
    "#]]
    .assert_eq(&text(&json!([pod["spec"]["nodeName"], pod["status"]])));
    let mut again = |binding: Value| refusal(bind(&mut pod, &binding, &cx).map(|()| Value::Null));
    expect![[r#"
        409 Operation cannot be fulfilled on pods/binding "a": pod a is already assigned to node "n"
    "#]]
    .assert_eq(&again(target("m")));
    expect![[r#"
        422 Binding "a" is invalid: target.name: Required value
          FieldValueRequired target.name
    "#]]
    .assert_eq(&again(target("")));
    expect![[r#"
        409 Operation cannot be fulfilled on pods "a": Precondition failed: UID in precondition: x, UID in object meta: u
    "#]].assert_eq(&again(json!({"metadata": {"uid": "x"}, "target": {"name": "m"}})));
}

#[test]
fn patches_apply_or_say_why() {
    let json = |patch: Value| {
        let mut target = json!({"a": {"b": 1}, "c": [1]});
        json_patch(&mut target, &patch).map(|()| target)
    };
    assert_eq!(
        json(
            json!([{"op": "replace", "path": "/a/b", "value": 2}, {"op": "add", "path": "/c/-", "value": 2}])
        ),
        Ok(json!({"a": {"b": 2}, "c": [1, 2]}))
    );
    expect![[r#"
        422 the server rejected our request due to an error in our request
    "#]]
    .assert_eq(&refusal(json(json!([{"op": "test", "path": "/a/b", "value": 2}]))));
    expect![[r#"
        400 error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp
    "#]]
    .assert_eq(&refusal(json(json!({"a": 1}))));
    let mut target = json!({"a": {"b": 1, "c": 2}});
    merge_patch(&mut target, &json!({"a": {"b": null, "d": [1]}})).expect("applies");
    assert_eq!(target, json!({"a": {"c": 2, "d": [1]}}));
    expect![[r#"
        400 error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}
    "#]]
    .assert_eq(&refusal(merge_patch(&mut target, &json!([])).map(|()| Value::Null)));
}

#[test]
fn namespaces_are_finalized_through_their_subresource() {
    let namespace = stored("{apiVersion: v1, kind: Namespace, metadata: {name: a}}");
    let without = |object: &mut Value| object["spec"]["finalizers"] = json!([]);
    let left = |sub: &str| update(sub, &namespace, without).expect("valid")["spec"].clone();
    assert_eq!(left(""), json!({"finalizers": ["kubernetes"]}));
    assert_eq!(left("finalize"), json!({"finalizers": []}));
    refused(
        "status",
        &namespace,
        |object| object["status"]["phase"] = "Terminating".into(),
        expect![[r#"
            422 Namespace "a" is invalid: status.Phase: Invalid value: "Terminating": may only be 'Active' if `deletionTimestamp` is empty
              FieldValueInvalid status.Phase
        "#]],
    );
}

#[test]
fn ephemeral_containers_are_only_added() {
    let pod = stored(POD);
    let tool =
        || json!({"name": "tool", "image": "t:1", "stdin": true, "targetContainerName": "a"});
    let add = |pod: &mut Value| {
        pod["spec"]["ephemeralContainers"] = json!([tool()]);
        // Whatever else comes along is passed over.
        pod["spec"]["containers"][0]["image"] = "a:2".into();
        pod["metadata"]["labels"]["c"] = "d".into();
        pod["status"]["phase"] = "Failed".into();
    };
    let added = update("ephemeralcontainers", &pod, add).expect("valid");
    expect![[r#"
        - name: tool
          image: t:1
          stdin: true
          targetContainerName: a
          terminationMessagePath: /dev/termination-log
          terminationMessagePolicy: File
          imagePullPolicy: IfNotPresent
    "#]]
    .assert_eq(&text(&added["spec"]["ephemeralContainers"]));
    expect![[r#"["a:1",{"a":"b"},"Pending",2]"#]].assert_eq(
        &json!([
            added["spec"]["containers"][0]["image"],
            added["metadata"]["labels"],
            added["status"]["phase"],
            added["metadata"]["generation"]
        ])
        .to_string(),
    );
    let sub = "ephemeralcontainers";
    refused(
        sub,
        &added,
        |pod| pod["spec"]["ephemeralContainers"] = json!([]),
        expect![[r#"
        422 Pod "a" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers "tool" may not be removed

          FieldValueForbidden spec.ephemeralContainers
    "#]],
    );
    refused(
        sub,
        &added,
        |pod| pod["spec"]["ephemeralContainers"][0]["image"] = "t:2".into(),
        expect![[r#"
            422 Pod "a" is invalid: spec.ephemeralContainers: Forbidden: existing ephemeral containers "tool" may not be changed
            - {"name":"tool","image":"t:1","stdin":true,"targetContainerName":"a","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}
            + {"name":"tool","image":"t:2","stdin":true,"targetContainerName":"a","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}

              FieldValueForbidden spec.ephemeralContainers
        "#]],
    );
    refused(
        sub,
        &pod,
        |pod| {
            pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
            pod["spec"]["ephemeralContainers"] = json!([
                {"name": "a", "image": "t", "targetContainerName": "b", "restartPolicy": "Always"},
                {"name": "x", "image": "t", "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "1"}}, "livenessProbe": {"exec": {"command": ["a"]}},
                    "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}]},
                {"name": "x", "image": ""},
            ]);
        },
        expect![[r#"
            422 Pod "a" is invalid: [spec.ephemeralContainers[0].name: Duplicate value: "a", spec.ephemeralContainers[0].targetContainerName: Not found: "b", spec.ephemeralContainers[0].restartPolicy: Forbidden: cannot be set for an Ephemeral Container, spec.ephemeralContainers[1].volumeMounts[0].name: Not found: "v", spec.ephemeralContainers[1].ports: Forbidden: cannot be set for an Ephemeral Container, spec.ephemeralContainers[1].resources: Forbidden: cannot be set for an Ephemeral Container, spec.ephemeralContainers[1].livenessProbe: Forbidden: cannot be set for an Ephemeral Container, spec.ephemeralContainers[1].volumeMounts[0].subPath: Forbidden: cannot be set for an Ephemeral Container, spec.ephemeralContainers[2].image: Required value, spec.ephemeralContainers[2].name: Duplicate value: "x"]
              FieldValueDuplicate spec.ephemeralContainers[0].name
              FieldValueNotFound spec.ephemeralContainers[0].targetContainerName
              FieldValueForbidden spec.ephemeralContainers[0].restartPolicy
              FieldValueNotFound spec.ephemeralContainers[1].volumeMounts[0].name
              FieldValueForbidden spec.ephemeralContainers[1].ports
              FieldValueForbidden spec.ephemeralContainers[1].resources
              FieldValueForbidden spec.ephemeralContainers[1].livenessProbe
              FieldValueForbidden spec.ephemeralContainers[1].volumeMounts[0].subPath
              FieldValueRequired spec.ephemeralContainers[2].image
              FieldValueDuplicate spec.ephemeralContainers[2].name
        "#]],
    );
    let mut mirror = pod.clone();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    refused(
        sub,
        &mirror,
        |pod| pod["spec"]["ephemeralContainers"] = json!([tool()]),
        expect![[r#"
            422 Pod "a" is invalid: []: Forbidden: static pods do not support ephemeral containers
              FieldValueForbidden []
        "#]],
    );
    refused(
        "",
        &pod,
        |pod| pod["spec"]["ephemeralContainers"] = json!([tool()]),
        expect![[r#"
        422 Pod "a" is invalid: spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)
        - spec.ephemeralContainers: null
        + spec.ephemeralContainers: [{"name":"tool","image":"t:1","stdin":true,"targetContainerName":"a","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"IfNotPresent"}]

          FieldValueForbidden spec
    "#]],
    );
    // A pod that has some is updated as others are.
    let image = update("", &added, |pod| pod["spec"]["containers"][0]["image"] = "a:2".into());
    assert_eq!(image.expect("valid")["spec"]["containers"][0]["image"], "a:2");
}

#[test]
fn names_are_judged_again_where_upstream_judges_the_whole() {
    let map = stored("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}");
    let based = |object: &mut Value| object["metadata"]["generateName"] = "-a".into();
    refused(
        "",
        &map,
        based,
        expect![[r#"
            422 ConfigMap "a" is invalid: metadata.generateName: Invalid value: "-a": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
              FieldValueInvalid metadata.generateName
        "#]],
    );
    let secret = stored("{apiVersion: v1, kind: Secret, metadata: {name: a}}");
    assert!(update("", &secret, based).is_ok());
}
