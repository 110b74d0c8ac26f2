//! Priorities, limits, classes, certificates and quotas.

use windlass_sdk_meta::parse_time;

use super::*;

fn with(mut object: Value, more: Value) -> Value {
    let (Value::Object(into), Value::Object(from)) = (&mut object, more) else { panic!("objects") };
    into.extend(from);
    object
}

fn of(api_version: &str, kind: &str, name: &str, more: Value) -> Value {
    let base = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
    with(base, more)
}

fn pod(spec: Value) -> Value {
    let mut pod = object("Pod", "n", "p");
    pod["spec"] = with(json!({"containers": [{"name": "c"}]}), spec);
    pod
}

/// What becomes of an object: some of its parts, or why not.
async fn picked(stored: &Stored, case: Case<'_>, parts: &[&str], expected: Expect) {
    let shown = match admit(stored, case).await {
        Ok(object) => {
            let each = parts.iter().map(|path| {
                let value = path.split('.').fold(&object, |at, key| &at[key]);
                format!("{path}={value}")
            });
            each.collect::<Vec<_>>().join(" ")
        }
        Err(status) => format!("{} {}", status.code, status.message),
    };
    expected.assert_eq(&shown);
}

#[tokio::test(start_paused = true)]
async fn nodes_begin_as_not_ready() {
    let (stored, admin) = (cluster(), admin());
    let node = |spec: Value| with(object("Node", "", "here"), json!({"spec": spec}));
    let parts = ["spec.taints"];
    let taint = json!({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"});
    for new in [object("Node", "", "here"), node(json!({"taints": [taint]}))] {
        let once = expect![[
            r#"spec.taints=[{"key":"node.kubernetes.io/not-ready","effect":"NoSchedule"}]"#
        ]];
        picked(&stored, create(&admin, new), &parts, once).await;
    }
    let own = node(json!({"taints": [{"key": "a", "effect": "NoExecute"}]}));
    let both = expect![[
        r#"spec.taints=[{"key":"a","effect":"NoExecute"},{"key":"node.kubernetes.io/not-ready","effect":"NoSchedule"}]"#
    ]];
    picked(&stored, create(&admin, own.clone()), &parts, both).await;
    let kept = expect![[r#"spec.taints=[{"key":"a","effect":"NoExecute"}]"#]];
    picked(&stored, update(&admin, &own, own.clone()), &parts, kept).await;
}

#[tokio::test(start_paused = true)]
async fn pods_carry_the_topology_of_their_node() {
    let (stored, admin) = (cluster(), admin());
    let mut node = object("Node", "", "here");
    node["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "z", "other": "x"});
    stored.put(node);
    let parts = ["metadata.labels"];
    let zone = expect![[r#"metadata.labels={"topology.kubernetes.io/zone":"z"}"#]];
    let nothing = expect!["metadata.labels=null"];
    picked(&stored, create(&admin, pod(json!({"nodeName": "here"}))), &parts, zone).await;
    picked(&stored, create(&admin, pod(json!({"nodeName": "gone"}))), &parts, nothing).await;
    // A binding is written to a resource of pods: here its kind says which.
    let mut binding = object("Pod", "n", "p");
    binding["target"] = json!({"kind": "Node", "name": "here"});
    let binding = Case { subresource: "binding", ..create(&admin, binding) };
    let zone = expect![[r#"metadata.labels={"topology.kubernetes.io/zone":"z"}"#]];
    picked(&stored, binding, &parts, zone).await;
}

#[tokio::test(start_paused = true)]
async fn classes_of_priority_become_numbers() {
    let (stored, admin) = (cluster(), admin());
    let parts = ["spec.priority", "spec.preemptionPolicy", "spec.priorityClassName"];
    let group = "scheduling.k8s.io/v1";
    picked(&stored, create(&admin, pod(json!({}))), &parts, expect![[r#"spec.priority=0 spec.preemptionPolicy="PreemptLowerPriority" spec.priorityClassName=null"#]]).await;
    let named = |name: &str| pod(json!({"priorityClassName": name}));
    picked(
        &stored,
        create(&admin, named("high")),
        &parts,
        expect![[r#"403 pods "p" is forbidden: no PriorityClass with name high was found"#]],
    )
    .await;
    stored.put(of(
        group,
        "PriorityClass",
        "high",
        json!({"value": 7, "preemptionPolicy": "Never"}),
    ));
    let low =
        json!({"value": 3, "globalDefault": true, "preemptionPolicy": "PreemptLowerPriority"});
    stored.put(of(group, "PriorityClass", "low", low.clone()));
    picked(
        &stored,
        create(&admin, named("high")),
        &parts,
        expect![[r#"spec.priority=7 spec.preemptionPolicy="Never" spec.priorityClassName="high""#]],
    )
    .await;
    picked(&stored, create(&admin, pod(json!({}))), &parts, expect![[r#"spec.priority=3 spec.preemptionPolicy="PreemptLowerPriority" spec.priorityClassName="low""#]]).await;
    picked(&stored, create(&admin, pod(json!({"priority": 5}))), &parts, expect![[r#"403 pods "p" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 3 from the given PriorityClass name"#]]).await;
    let policy =
        pod(json!({"priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority"}));
    picked(&stored, create(&admin, policy), &parts, expect![[r#"403 pods "p" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name"#]]).await;
    let other = of(group, "PriorityClass", "other", low);
    check(&stored, create(&admin, other), expect![[r#"403 priorityclasses.scheduling.k8s.io "other" is forbidden: PriorityClass low is already marked as default. Only one default can exist"#]]).await;
    let old = pod(json!({"priority": 7, "preemptionPolicy": "Never"}));
    picked(
        &stored,
        update(&admin, &old, pod(json!({}))),
        &parts,
        expect![[r#"spec.priority=7 spec.preemptionPolicy="Never" spec.priorityClassName=null"#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn limit_ranges_fill_in_and_bound() {
    let (stored, admin) = (cluster(), admin());
    let mut range = object("LimitRange", "n", "r");
    range["spec"] = json!({"limits": [
        {"type": "Container", "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m", "memory": "64Mi"},
            "min": {"cpu": "50m"}, "max": {"cpu": "1"}, "maxLimitRequestRatio": {"cpu": "5"}},
        {"type": "Pod", "max": {"memory": "1Gi"}},
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}]});
    stored.put(range);
    let parts = ["spec.containers", "metadata.annotations"];
    let limits = json!({"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "400m"}});
    let sized =
        |resources: Value| pod(json!({"containers": [{"name": "c", "resources": resources}]}));
    picked(&stored, create(&admin, sized(limits)), &parts, expect![[r#"spec.containers=[{"name":"c","resources":{"limits":{"cpu":"500m","memory":"1Gi"},"requests":{"cpu":"400m","memory":"64Mi"}}}] metadata.annotations={"kubernetes.io/limit-ranger":"LimitRanger plugin set: memory request for container c"}"#]]).await;
    check(&stored, create(&admin, pod(json!({}))), expect![[r#"403 pods "p" is forbidden: maximum memory usage per Pod is 1Gi.  No limit is specified"#]]).await;
    let large = json!({"limits": {"cpu": "2", "memory": "2Gi"}, "requests": {"cpu": "10m"}});
    check(&stored, create(&admin, sized(large)), expect![[r#"403 pods "p" is forbidden: [minimum cpu usage per Container is 50m, but request is 10m, maximum cpu usage per Container is 1, but limit is 2, cpu max limit to request ratio per Container is 5, but provided ratio is 200.000000, maximum memory usage per Pod is 1Gi, but limit is 2Gi]"#]]).await;
    let claim = |size: &str| {
        let mut claim = object("PersistentVolumeClaim", "n", "c");
        claim["spec"] = json!({"resources": {"requests": {"storage": size}}});
        claim
    };
    check(&stored, create(&admin, claim("3Gi")), expect![[r#"403 persistentvolumeclaims "c" is forbidden: maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"#]]).await;
    check(&stored, create(&admin, claim("1Mi")), expect![[r#"403 persistentvolumeclaims "c" is forbidden: minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"#]]).await;
    check(&stored, create(&admin, claim("1Gi")), expect!["ok"]).await;
}

#[tokio::test(start_paused = true)]
async fn claims_and_ingresses_get_default_classes() {
    let (stored, admin) = (cluster(), admin());
    let marked = |name: &str, made: &str| {
        let mut class = of("storage.k8s.io/v1", "StorageClass", name, json!({}));
        class["metadata"]["annotations"] =
            json!({"storageclass.kubernetes.io/is-default-class": "true"});
        class["metadata"]["creationTimestamp"] = made.into();
        class
    };
    let claim = |spec: Value| {
        let mut claim = object("PersistentVolumeClaim", "n", "c");
        claim["spec"] = spec;
        claim
    };
    let parts = ["spec.storageClassName", "metadata.finalizers"];
    picked(
        &stored,
        create(&admin, claim(json!({}))),
        &parts,
        expect![[
            r#"spec.storageClassName=null metadata.finalizers=["kubernetes.io/pvc-protection"]"#
        ]],
    )
    .await;
    stored.put(marked("old", "2026-01-01T00:00:00Z"));
    stored.put(marked("new", "2026-02-01T00:00:00Z"));
    picked(
        &stored,
        create(&admin, claim(json!({}))),
        &parts,
        expect![[
            r#"spec.storageClassName="new" metadata.finalizers=["kubernetes.io/pvc-protection"]"#
        ]],
    )
    .await;
    let none = claim(json!({"storageClassName": ""}));
    picked(
        &stored,
        create(&admin, none),
        &parts,
        expect![[
            r#"spec.storageClassName="" metadata.finalizers=["kubernetes.io/pvc-protection"]"#
        ]],
    )
    .await;

    let sized = |size: &str| {
        let spec = json!({"storageClassName": "old", "resources": {"requests": {"storage": size}}});
        with(claim(spec), json!({"status": {"phase": "Bound"}}))
    };
    check(&stored, update(&admin, &sized("1Gi"), sized("2Gi")), expect![[r#"403 persistentvolumeclaims "c" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"#]]).await;
    stored.put(with(marked("old", ""), json!({"allowVolumeExpansion": true})));
    check(&stored, update(&admin, &sized("1Gi"), sized("2Gi")), expect!["ok"]).await;

    let mut class = of("networking.k8s.io/v1", "IngressClass", "front", json!({}));
    class["metadata"]["annotations"] =
        json!({"ingressclass.kubernetes.io/is-default-class": "true"});
    stored.put(class);
    let mut ingress = of("networking.k8s.io/v1", "Ingress", "i", json!({"spec": {}}));
    ingress["metadata"]["namespace"] = "n".into();
    picked(
        &stored,
        create(&admin, ingress),
        &["spec.ingressClassName"],
        expect![[r#"spec.ingressClassName="front""#]],
    )
    .await;
}

/// Made with `openssl req -new`: O=system:masters, and one whose signature was changed.
const REQUESTS: [&str; 2] = [include_str!("masters.b64"), include_str!("forged.b64")];

#[tokio::test(start_paused = true)]
async fn certificates_are_approved_and_signed_by_those_who_may() {
    let (stored, admin) = (cluster(), admin());
    let request = |bytes: &str, signer: &str| {
        let spec = json!({"request": bytes.trim(), "signerName": signer, "username": "eve"});
        of("certificates.k8s.io/v1", "CertificateSigningRequest", "r", json!({"spec": spec}))
    };
    let client = "kubernetes.io/kube-apiserver-client";
    let jane = User::authenticated("jane", &["staff"]);
    let parts = ["spec.username", "spec.groups"];
    picked(
        &stored,
        create(&jane, request(REQUESTS[0], "x.io/y")),
        &parts,
        expect![[r#"spec.username="jane" spec.groups=["staff","system:authenticated"]"#]],
    )
    .await;
    picked(&stored, create(&jane, request(REQUESTS[0], client)), &parts, expect![[r#"403 certificatesigningrequests.certificates.k8s.io "r" is forbidden: use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"#]]).await;
    let forged = admit(&stored, create(&jane, request(REQUESTS[1], "x.io/y"))).await;
    let forged = forged.expect_err("not signed by its key");
    assert_eq!((forged.code, forged.message.contains("signature")), (422, true));
    let old = request(REQUESTS[0], "x.io/y");
    let mut signed = old.clone();
    signed["status"] = json!({"certificate": "eA=="});
    for subresource in ["approval", "status"] {
        let case = |user: &User| Case { subresource, ..update(user, &old, signed.clone()) };
        check(&stored, case(&admin), expect!["ok"]).await;
        let refused = admit(&stored, case(&jane)).await.expect_err("may not");
        let verb = if subresource == "status" { "sign" } else { "approve" };
        assert!(refused.message.contains(&format!("not permitted to {verb} requests")));
    }
    let mut bundle = of("certificates.k8s.io/v1", "ClusterTrustBundle", "x.io:y:b", json!({}));
    bundle["spec"] = json!({"signerName": "x.io/y"});
    check(&stored, create(&jane, bundle), expect![[r#"403 clustertrustbundles.certificates.k8s.io "x.io:y:b" is forbidden: user not permitted to attest for signerName "x.io/y""#]]).await;
}

/// The charge of a write: what is used then.
fn charged(stored: &Stored, case: Case<'_>, gone: bool) -> String {
    let mut object = case.object;
    let shown = object.clone().or_else(|| case.old.clone()).expect("an object");
    let resource = resource_of(&shown);
    let kind = GroupVersionKind::from_api_version("v1", shown["kind"].as_str().expect("a kind"));
    let request = AdmissionRequest {
        operation: case.operation,
        kind: &kind,
        resource: &resource,
        subresource: case.subresource,
        namespace: "n",
        name: "p",
        object: object.as_mut(),
        old: case.old.as_ref(),
        user: &case.user,
        dry_run: false,
    };
    let now = parse_time("2026-11-23T17:00:00Z").expect("a time");
    match charge(&request, gone, now, stored) {
        Err(status) => format!("{} {}", status.code, status.message),
        Ok(charges) => {
            let each = charges.iter().map(|charge| charge.tree["status"]["used"].to_string());
            each.collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn quotas_are_charged() {
    let (stored, admin) = (cluster(), admin());
    let quota = |name: &str, hard: Value, used: Value| {
        let mut quota = object("ResourceQuota", "n", name);
        quota["spec"] = json!({"hard": hard});
        quota["status"] = json!({"hard": hard, "used": used});
        quota
    };
    let sized = |cpu: &str| {
        pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}))
    };
    assert_eq!(charged(&stored, create(&admin, sized("1")), false), "");
    let hard = json!({"pods": "2", "requests.cpu": "1"});
    stored.put(quota("q", hard.clone(), json!({"pods": "1", "requests.cpu": "300m"})));
    let shown = |case: Case<'_>, gone: bool| charged(&stored, case, gone);
    expect![[r#"{"pods":"2","requests.cpu":"800m"}"#]]
        .assert_eq(&shown(create(&admin, sized("500m")), false));
    expect![[r#"403 pods "p" is forbidden: exceeded quota: q, requested: requests.cpu=800m, used: requests.cpu=300m, limited: requests.cpu=1"#]].assert_eq(&shown(create(&admin, sized("800m")), false));
    expect![[r#"403 pods "p" is forbidden: failed quota: q: must specify requests.cpu for: c"#]]
        .assert_eq(&shown(create(&admin, pod(json!({}))), false));
    expect![[r#"{"pods":"0","requests.cpu":"200m"}"#]]
        .assert_eq(&shown(delete(&admin, sized("100m")), true));
    let over = with(sized("100m"), json!({"status": {"phase": "Succeeded"}}));
    let ends = Case { subresource: "status", ..update(&admin, &sized("100m"), over) };
    expect![[r#"{"pods":"0","requests.cpu":"200m"}"#]].assert_eq(&shown(ends, false));
    let same = update(&admin, &sized("100m"), sized("100m"));
    expect![[""]].assert_eq(&shown(same, false));
    stored.put(quota("q", hard, json!({})));
    expect![[
        r#"403 pods "p" is forbidden: status unknown for quota: q, resources: pods,requests.cpu"#
    ]]
    .assert_eq(&charged(&stored, create(&admin, sized("1m")), false));
    stored.put(quota(
        "q",
        json!({"count/secrets": "1", "services.nodeports": "1"}),
        json!({"count/secrets": "1", "services.nodeports": "0"}),
    ));
    expect![[r#"403 secrets "p" is forbidden: exceeded quota: q, requested: count/secrets=1, used: count/secrets=1, limited: count/secrets=1"#]].assert_eq(&charged(&stored, create(&admin, object("Secret", "n", "s")), false));
    let mut service = object("Service", "n", "s");
    service["spec"] = json!({"type": "NodePort", "ports": [{}, {}]});
    expect![[r#"403 services "p" is forbidden: exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=0, limited: services.nodeports=1"#]].assert_eq(&charged(&stored, create(&admin, service), false));
}
