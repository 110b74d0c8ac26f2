use expect_test::{Expect, expect};
use serde_json::{Value, json};
use windlass_sdk_meta::{Reason, Status};

mod plugins;

use super::*;
use crate::testing::{Stored, resource_of};

/// A write as a test tells it.
struct Case<'a> {
    operation: Operation,
    user: User,
    subresource: &'a str,
    object: Option<Value>,
    old: Option<Value>,
}

fn create(user: &User, object: Value) -> Case<'static> {
    Case {
        operation: Operation::Create,
        user: user.clone(),
        subresource: "",
        object: Some(object),
        old: None,
    }
}

fn update(user: &User, old: &Value, object: Value) -> Case<'static> {
    Case { operation: Operation::Update, old: Some(old.clone()), ..create(user, object) }
}

fn delete(user: &User, old: Value) -> Case<'static> {
    Case { operation: Operation::Delete, object: None, old: Some(old), ..create(user, json!({})) }
}

/// Runs both phases; the object as it would be stored.
async fn admit(stored: &Stored, case: Case<'_>) -> Result<Value, Status> {
    admit_with(stored, case, AdmissionOptions::default()).await
}

async fn admit_with(
    stored: &Stored,
    case: Case<'_>,
    options: AdmissionOptions,
) -> Result<Value, Status> {
    let admission = Admission::new(options);
    let mut object = case.object;
    let shown = object.clone().or_else(|| case.old.clone()).expect("an object");
    let resource = resource_of(&shown);
    let kind = GroupVersionKind::from_api_version(
        shown["apiVersion"].as_str().expect("apiVersion"),
        shown["kind"].as_str().expect("kind"),
    );
    let text = |key: &str| shown["metadata"][key].as_str().unwrap_or_default();
    let namespace = if kind.kind == "Namespace" { text("name") } else { text("namespace") };
    let name = if case.operation == Operation::Create { "" } else { text("name") };
    let mut request = AdmissionRequest {
        operation: case.operation,
        kind: &kind,
        resource: &resource,
        subresource: case.subresource,
        namespace,
        name,
        object: object.as_mut(),
        old: case.old.as_ref(),
        user: &case.user,
        dry_run: false,
    };
    admission.mutate(&mut request, stored).await?;
    admission.validate(&request, stored).await?;
    Ok(object.unwrap_or_default())
}

async fn check(stored: &Stored, case: Case<'_>, expected: Expect) {
    match admit(stored, case).await {
        Ok(_) => expected.assert_eq("ok"),
        Err(status) => expected.assert_eq(&format!("{} {}", status.code, status.message)),
    }
}

fn object(kind: &str, namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"namespace": namespace, "name": name}})
}

fn cluster() -> Stored {
    let mut leaving = object("Namespace", "", "leaving");
    leaving["metadata"]["deletionTimestamp"] = "2026-11-23T00:00:00Z".into();
    Stored::new([
        object("Namespace", "", "default"),
        object("Namespace", "", "n"),
        object("Namespace", "", "kube-node-lease"),
        leaving,
        object("ServiceAccount", "n", "default"),
        object("ServiceAccount", "n", "robot"),
        object("ServiceAccount", "leaving", "default"),
    ])
}

fn admin() -> User {
    User::authenticated("admin", &["system:masters"])
}

#[tokio::test(start_paused = true)]
async fn namespaces_must_be_there_and_stay() {
    let (cluster, admin) = (cluster(), admin());
    let map = |namespace| object("ConfigMap", namespace, "c");
    check(&cluster, create(&admin, map("n")), expect!["ok"]).await;
    check(&cluster, create(&admin, map("none")), expect![[r#"404 namespaces "none" not found"#]])
        .await;
    check(&cluster, update(&admin, &map("leaving"), map("leaving")), expect!["ok"]).await;
    check(&cluster, delete(&admin, map("none")), expect!["ok"]).await;
    check(&cluster, create(&admin, object("Namespace", "", "new")), expect!["ok"]).await;
    check(&cluster, delete(&admin, object("Namespace", "", "n")), expect!["ok"]).await;
    check(
        &cluster,
        delete(&admin, object("Namespace", "", "kube-system")),
        expect![[
            r#"403 namespaces "kube-system" is forbidden: this namespace may not be deleted"#
        ]],
    )
    .await;
    check(
        &cluster,
        create(&admin, map("leaving")),
        expect![[
            r#"403 configmaps "c" is forbidden: unable to create new content in namespace leaving because it is being terminated"#
        ]],
    )
    .await;

    let status = admit(&cluster, create(&admin, map("leaving"))).await.expect_err("terminating");
    let cause = &status.details.expect("details").causes[0];
    assert_eq!((status.reason, cause.reason.as_str()), (Reason::Forbidden, "NamespaceTerminating"));
    assert_eq!(cause.field, "metadata.namespace");
}

#[tokio::test(start_paused = true)]
async fn pods_get_an_account_and_tolerations() {
    let (cluster, admin) = (cluster(), admin());
    let mut pod = object("Pod", "n", "p");
    pod["spec"] = json!({"containers": []});
    let admitted = admit(&cluster, create(&admin, pod.clone())).await.expect("admitted");
    expect![[r#"{"containers":[],"serviceAccountName":"default","serviceAccount":"default","priority":0,"preemptionPolicy":"PreemptLowerPriority","tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":0},{"key":"node.kubernetes.io/unreachable","operator":"Exists","effect":"NoExecute","tolerationSeconds":0}]}"#]]
    .assert_eq(&admitted["spec"].to_string());

    pod["spec"] = json!({"serviceAccountName": "robot", "tolerations": [
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "tolerationSeconds": 60}]});
    let admitted = admit(&cluster, create(&admin, pod.clone())).await.expect("admitted");
    assert_eq!(admitted["spec"]["serviceAccountName"], "robot");
    assert_eq!(admitted["spec"]["tolerations"][0]["tolerationSeconds"], 60);
    assert_eq!(admitted["spec"]["tolerations"].as_array().expect("list").len(), 2);

    pod["spec"] = json!({"tolerations": [{"operator": "Exists"}]});
    let admitted = admit(&cluster, create(&admin, pod.clone())).await.expect("admitted");
    assert_eq!(admitted["spec"]["tolerations"].as_array().expect("list").len(), 1);

    pod["spec"] = json!({"serviceAccountName": "missing"});
    check(
        &cluster,
        create(&admin, pod),
        expect![[
            r#"403 pods "p" is forbidden: error looking up service account n/missing: serviceaccount "missing" not found"#
        ]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn pods_get_the_pull_secrets_of_their_account() {
    let (stored, admin) = (cluster(), admin());
    let mut account = object("ServiceAccount", "n", "puller");
    account["imagePullSecrets"] = json!([{"name": "registry"}]);
    stored.put(account);
    let mut pod = object("Pod", "n", "p");
    pod["spec"] = json!({"serviceAccountName": "puller"});
    let admitted = admit(&stored, create(&admin, pod.clone())).await.expect("admitted");
    assert_eq!(admitted["spec"]["imagePullSecrets"], json!([{"name": "registry"}]));
    pod["spec"]["imagePullSecrets"] = json!([{"name": "own"}]);
    let admitted = admit(&stored, create(&admin, pod)).await.expect("admitted");
    assert_eq!(admitted["spec"]["imagePullSecrets"], json!([{"name": "own"}]));
}

#[tokio::test(start_paused = true)]
async fn pods_get_a_token_unless_they_or_their_account_say_no() {
    let (stored, admin) = (cluster(), admin());
    let mut shy = object("ServiceAccount", "n", "shy");
    shy["automountServiceAccountToken"] = false.into();
    stored.put(shy);
    let mut out = String::new();
    for spec in [
        json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}),
        json!({"containers": [{"name": "a"}], "automountServiceAccountToken": false}),
        json!({"containers": [{"name": "a"}], "serviceAccountName": "shy"}),
        json!({"containers": [{"name": "a"}], "serviceAccountName": "shy",
            "automountServiceAccountToken": true}),
        json!({"containers": [{"name": "a", "volumeMounts": [{"name": "mine",
            "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]}]}),
        json!({"containers": [{"name": "a"}], "volumes": [{"name": "kube-api-access-x"}]}),
    ] {
        let mut pod = object("Pod", "n", "p");
        pod["spec"] = spec;
        let mount_tokens = Some(Rng::seeded(1));
        let options = AdmissionOptions { mount_tokens, ..AdmissionOptions::default() };
        let pod = admit_with(&stored, create(&admin, pod), options).await.expect("admitted");
        let spec = &pod["spec"];
        let names = |containers: &str| -> Vec<String> {
            let all = spec[containers].as_array().into_iter().flatten();
            let mounts = all.flat_map(|of| of["volumeMounts"].as_array().into_iter().flatten());
            mounts.map(|mount| mount["name"].to_string()).collect()
        };
        out += &format!("{:?} {:?}", names("initContainers"), names("containers"));
        out += &format!(" {}\n", spec["volumes"]);
    }
    expect![[r#"
        ["\"kube-api-access-42d2g\""] ["\"kube-api-access-42d2g\""] [{"name":"kube-api-access-42d2g","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}]}}]
        [] [] null
        [] [] null
        [] ["\"kube-api-access-42d2g\""] [{"name":"kube-api-access-42d2g","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}},{"downwardAPI":{"items":[{"path":"namespace","fieldRef":{"apiVersion":"v1","fieldPath":"metadata.namespace"}}]}}]}}]
        [] ["\"mine\""] null
        [] ["\"kube-api-access-x\""] [{"name":"kube-api-access-x"}]
    "#]].assert_eq(&out);
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_the_account_of_its_new_namespace() {
    let stored = Stored::new([object("Namespace", "", "new")]);
    let mut pod = object("Pod", "new", "p");
    pod["spec"] = json!({});
    let admin = admin();
    let (admitted, ()) = futures::join!(admit(&stored, create(&admin, pod)), async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        stored.put(object("ServiceAccount", "new", "default"));
    });
    assert!(admitted.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_agent_writes_its_own() {
    let cluster = cluster();
    let agent = User::node("a");
    let node = |name: &str, labels: Value, taints: Value| {
        json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": labels}, "spec": {"taints": taints}})
    };
    let plain = node("a", json!({"kubernetes.io/hostname": "a", "mine": "x"}), json!([]));
    check(&cluster, create(&agent, plain.clone()), expect!["ok"]).await;
    check(
        &cluster,
        create(&agent, node("b", json!({}), json!([]))),
        expect![[r#"403 nodes "b" is forbidden: node "a" is not allowed to modify node "b""#]],
    )
    .await;
    check(
        &cluster,
        create(&agent, node("a", json!({"x.node-restriction.kubernetes.io/y": "z", "node-role.kubernetes.io/control-plane": ""}), json!([]))),
        expect![[r#"403 nodes "a" is forbidden: node "a" is not allowed to set the following labels: node-role.kubernetes.io/control-plane, x.node-restriction.kubernetes.io/y"#]],
    )
    .await;
    let tainted = node("a", plain["metadata"]["labels"].clone(), json!([{"key": "k"}]));
    check(
        &cluster,
        update(&agent, &plain, tainted),
        expect![[r#"403 nodes "a" is forbidden: node "a" is not allowed to modify taints"#]],
    )
    .await;
    check(
        &cluster,
        update(&agent, &plain, node("a", json!({"k8s.io/x": "y"}), Value::Null)),
        expect![[r#"403 nodes "a" is forbidden: is not allowed to modify labels: k8s.io/x"#]],
    )
    .await;

    let lease = |name: &str| {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"}})
    };
    check(&cluster, create(&agent, lease("a")), expect!["ok"]).await;
    check(
        &cluster,
        create(&agent, lease("b")),
        expect![[
            r#"403 leases.coordination.k8s.io "b" is forbidden: can only access node lease with the same name as the requesting node"#
        ]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_tells_the_status_of_its_pods_only() {
    let cluster = cluster();
    let agent = User::node("a");
    let pod = |node: &str| {
        let mut pod = object("Pod", "n", "p");
        pod["spec"] = json!({"nodeName": node});
        pod
    };
    let status =
        |old: &Value, new: Value| Case { subresource: "status", ..update(&agent, old, new) };
    check(&cluster, status(&pod("a"), pod("a")), expect!["ok"]).await;
    check(
        &cluster,
        status(&pod("b"), pod("b")),
        expect![[
            r#"403 pods "p" is forbidden: node "a" can only update pod status for pods with spec.nodeName set to itself"#
        ]],
    )
    .await;
    let mut labelled = pod("a");
    labelled["metadata"]["labels"] = json!({"x": "y"});
    check(
        &cluster,
        status(&pod("a"), labelled),
        expect![[r#"403 pods "p" is forbidden: node "a" cannot update labels through pod status"#]],
    )
    .await;
    check(&cluster, delete(&agent, pod("a")), expect!["ok"]).await;
    check(
        &cluster,
        delete(&agent, pod("b")),
        expect![[
            r#"403 pods "p" is forbidden: node "a" can only delete pods with spec.nodeName set to itself"#
        ]],
    )
    .await;
    check(
        &cluster,
        create(&agent, pod("a")),
        expect![[
            r#"403 pods "p" is forbidden: pod does not have "kubernetes.io/config.mirror" annotation, node "a" can only create mirror pods"#
        ]],
    )
    .await;
}

fn rbac(kind: &str, name: &str, content: Value) -> Value {
    let namespace = if kind.starts_with("Cluster") { "" } else { "n" };
    let mut object = object(kind, namespace, name);
    object["apiVersion"] = "rbac.authorization.k8s.io/v1".into();
    object
        .as_object_mut()
        .expect("an object")
        .extend(content.as_object().cloned().unwrap_or_default());
    object
}

#[tokio::test(start_paused = true)]
async fn nobody_grants_more_than_they_have() {
    let cluster = cluster();
    let jane = User::authenticated("jane", &[]);
    let rule = |verb: &str| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]});
    let role = |verb: &str| rbac("Role", "r", json!({"rules": [rule(verb)]}));
    let bind = |role: &str| {
        rbac(
            "RoleBinding",
            "b",
            json!({"roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": "joe"}]}),
        )
    };
    cluster.put(rbac("ClusterRole", "strong", json!({"rules": [rule("*")]})));
    cluster.put(rbac("ClusterRole", "weak", json!({"rules": [rule("get")]})));
    cluster.put(rbac(
        "Role",
        "own",
        json!({"rules": [
            rule("get"),
            {"verbs": ["bind"], "apiGroups": ["rbac.authorization.k8s.io"],
                "resources": ["clusterroles"], "resourceNames": ["special"]},
        ]}),
    ));
    cluster.put(rbac("ClusterRole", "special", json!({"rules": [rule("delete")]})));
    cluster.put(rbac(
        "RoleBinding",
        "own",
        json!({"roleRef": {"kind": "Role", "name": "own"},
        "subjects": [{"kind": "User", "name": "jane"}]}),
    ));

    check(&cluster, create(&jane, role("get")), expect!["ok"]).await;
    check(
        &cluster,
        create(&jane, role("list")),
        expect![[r#"
            403 roles.rbac.authorization.k8s.io "r" is forbidden: user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:
            {APIGroups:[""], Resources:["pods"], Verbs:["list"]}"#]],
    )
    .await;
    check(&cluster, create(&admin(), role("list")), expect!["ok"]).await;
    // What is there already is nobody's new grant.
    let mut relabelled = role("list");
    relabelled["metadata"]["labels"] = json!({"x": "y"});
    check(&cluster, update(&jane, &role("list"), relabelled), expect!["ok"]).await;

    check(&cluster, create(&jane, bind("weak")), expect!["ok"]).await;
    check(&cluster, create(&jane, bind("special")), expect!["ok"]).await;
    check(
        &cluster,
        create(&jane, bind("strong")),
        expect![[r#"
            403 rolebindings.rbac.authorization.k8s.io "b" is forbidden: user "jane" (groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently held:
            {APIGroups:[""], Resources:["pods"], Verbs:["*"]}"#]],
    )
    .await;
    check(
        &cluster,
        create(&jane, bind("none")),
        expect![[r#"404 clusterroles.rbac.authorization.k8s.io "none" not found"#]],
    )
    .await;
    let gathering =
        json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}});
    let refused = admit(&cluster, create(&jane, rbac("ClusterRole", "g", gathering))).await;
    assert_eq!(refused.expect_err("it could gather anything").code, 403);
}

#[tokio::test(start_paused = true)]
async fn key_value_entries_are_bounded() {
    let (cluster, admin) = (cluster(), admin());
    let entry = |name: String, bytes: usize| {
        json!({"apiVersion": "windlass.dev/v1", "kind": "KeyValue",
            "metadata": {"namespace": "n", "name": name},
            "spec": {"store": "default", "key": "k", "value": "A".repeat(bytes)}})
    };
    for n in 0..9_999 {
        cluster.put(entry(format!("e{n}"), 4));
    }
    check(&cluster, create(&admin, entry("last".into(), 4)), expect!["ok"]).await;
    cluster.put(entry("last".into(), 4));
    let more = create(&admin, entry("more".into(), 4));
    check(
        &cluster,
        more,
        expect![[r#"403 keyvalues.windlass.dev "more" is forbidden: namespace n has 10000 key-value entries, which is the bound: delete some, or keep them elsewhere by the pods' annotation windlass.dev/keyvalue"#]],
    )
    .await;
    // What is there may be changed, and another namespace has a bound of its own.
    let (old, new) = (entry("last".into(), 4), entry("last".into(), 8));
    check(&cluster, update(&admin, &old, new), expect!["ok"]).await;
    let mut elsewhere = entry("more".into(), 4);
    elsewhere["metadata"]["namespace"] = "default".into();
    check(&cluster, create(&admin, elsewhere), expect!["ok"]).await;

    for n in 0..63 {
        cluster.put(entry(format!("e{n}"), 1 << 20));
    }
    let (small, large) = (entry("last".into(), 4), entry("last".into(), 1 << 20));
    check(
        &cluster,
        update(&admin, &small, large.clone()),
        expect![[r#"403 keyvalues.windlass.dev "last" is forbidden: namespace n has 64 MiB of key-value entries, which is the bound: delete some, or keep them elsewhere by the pods' annotation windlass.dev/keyvalue"#]],
    )
    .await;
    check(&cluster, update(&admin, &large, small), expect!["ok"]).await;
}

#[tokio::test(start_paused = true)]
async fn pods_get_what_their_runtime_class_says() {
    let (cluster, admin) = (cluster(), admin());
    cluster.put(json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass",
        "metadata": {"name": "docker"}, "handler": "docker",
        "overhead": {"podFixed": {"memory": "1Mi"}},
        "scheduling": {"nodeSelector": {"runtime": "docker"},
            "tolerations": [{"key": "docker", "operator": "Exists"}]}}));
    let pod = |class: &str, spec: Value| {
        let mut pod = object("Pod", "n", "p");
        pod["spec"] = json!({"serviceAccountName": "default", "runtimeClassName": class});
        let more = spec.as_object().cloned().unwrap_or_default();
        pod["spec"].as_object_mut().expect("an object").extend(more);
        pod
    };
    let selector = json!({"nodeSelector": {"disk": "ssd", "runtime": "docker"}});
    let made = admit(&cluster, create(&admin, pod("docker", selector))).await.expect("taken");
    let spec = &made["spec"];
    assert_eq!(spec["nodeSelector"], json!({"disk": "ssd", "runtime": "docker"}));
    assert_eq!(spec["tolerations"][2], json!({"key": "docker", "operator": "Exists"}));
    assert_eq!(spec["overhead"], json!({"memory": "1Mi"}));
    for (class, spec, expected) in [
        (
            "none",
            json!({}),
            expect![[r#"403 pods "p" is forbidden: pod rejected: RuntimeClass "none" not found"#]],
        ),
        (
            "docker",
            json!({"nodeSelector": {"runtime": "other"}}),
            expect![[
                r#"403 pods "p" is forbidden: conflict: cannot merge the nodeSelector runtime of RuntimeClass "docker" with the pod's"#
            ]],
        ),
        (
            "docker",
            json!({"overhead": {"memory": "2Mi"}}),
            expect![[
                r#"403 pods "p" is forbidden: pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"#
            ]],
        ),
    ] {
        check(&cluster, create(&admin, pod(class, spec)), expected).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_resized_pod_fits_its_node() {
    let (cluster, admin) = (cluster(), admin());
    let mut node = object("Node", "", "n1");
    node["metadata"]["labels"] = json!({"kubernetes.io/os": "linux"});
    node["status"] = json!({"allocatable": {"cpu": "2", "memory": "1Gi"}});
    cluster.put(node);
    let pod = |node: &str, generation: i64, cpu: &str| {
        let mut pod = object("Pod", "n", "p");
        pod["metadata"]["generation"] = generation.into();
        pod["spec"] = json!({"nodeName": node, "serviceAccountName": "default",
            "containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
        pod
    };
    let resize = |node: &str, generation: i64, cpu: &str| Case {
        subresource: "resize",
        ..update(&admin, &pod(node, 1, "1"), pod(node, generation, cpu))
    };
    check(&cluster, resize("n1", 2, "2"), expect!["ok"]).await;
    check(&cluster, resize("n1", 2, "2500m"), expect![[r#"403 pods "p" is forbidden: node didn't have enough allocatable resources: cpu, requested: 2500, allocatable: 2000"#]]).await;
    check(&cluster, resize("n1", 1, "2500m"), expect!["ok"]).await;
    check(
        &cluster,
        resize("gone", 2, "1"),
        expect![[r#"403 pods "p" is forbidden: node "gone" not found"#]],
    )
    .await;
    check(&cluster, resize("", 2, "9"), expect!["ok"]).await;
    let refused = admit(&cluster, resize("n1", 2, "9")).await.expect_err("too much");
    assert_eq!(refused.details.expect("details").causes[0].reason, "NodeCapacity");
}

#[tokio::test(start_paused = true)]
async fn admin_access_to_devices_takes_the_namespaces_label() {
    let (cluster, admin) = (cluster(), admin());
    let mut open = object("Namespace", "", "open");
    open["metadata"]["labels"] = json!({"resource.kubernetes.io/admin-access": "true"});
    cluster.put(open);
    let claim = |namespace: &str, admin_access: bool| {
        let request = json!({"name": "r", "exactly": {"adminAccess": admin_access}});
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
            "metadata": {"namespace": namespace, "name": "c"},
            "spec": {"devices": {"requests": [{"name": "a"}, request]}}})
    };
    check(&cluster, create(&admin, claim("n", false)), expect!["ok"]).await;
    check(&cluster, create(&admin, claim("open", true)), expect!["ok"]).await;
    check(&cluster, create(&admin, claim("n", true)), expect![[r#"422 ResourceClaim.resource.k8s.io "c" is invalid: spec.devices.requests[1].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"#]]).await;
    let result = |admin_access: bool| {
        let mut claim = claim("n", false);
        claim["status"] = json!({"allocation": {"devices": {"results": [
            {"request": "a", "adminAccess": admin_access}]}}});
        claim
    };
    let tell = |before: bool, after: bool| Case {
        subresource: "status",
        ..update(&admin, &result(before), result(after))
    };
    check(&cluster, tell(false, true), expect![[r#"422 ResourceClaim.resource.k8s.io "c" is invalid: status.allocation.devices.results[0].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace"#]]).await;
    check(&cluster, tell(true, true), expect!["ok"]).await;
}
