//! Every verb that changes something.

use expect_test::expect;
use serde_json::json;

use crate::Cluster;

#[tokio::test(start_paused = true)]
async fn config_map_life() {
    let cluster = Cluster::new().await;
    cluster
        .session(
            &[
                r#"POST /api/v1/namespaces/default/configmaps {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"x":"1"}},"data":{"k":"v"}}"#,
                r#"POST /api/v1/namespaces/default/configmaps {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#,
                "GET /api/v1/namespaces/default/configmaps/a",
                "GET /api/v1/namespaces/default/configmaps/nope",
                r#"PUT /api/v1/namespaces/default/configmaps/a {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","resourceVersion":"1"},"data":{"k":"w"}}"#,
                r#"PUT /api/v1/namespaces/default/configmaps/a {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"x":"1"}},"data":{"k":"w"}}"#,
                r#"PUT /api/v1/namespaces/default/configmaps/nope {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"nope"}}"#,
                r#"PATCH /api/v1/namespaces/default/configmaps/a merge {"data":{"l":"m"}}"#,
                r#"PATCH /api/v1/namespaces/default/configmaps/a merge {"data":{"l":"m"}}"#,
                r#"PATCH /api/v1/namespaces/default/configmaps/a json [{"op":"remove","path":"/data/l"}]"#,
                r#"PATCH /api/v1/namespaces/default/configmaps/a json [{"op":"remove","path":"/data/l"}]"#,
                r#"PATCH /api/v1/namespaces/default/configmaps/a strategic {"metadata":{"labels":{"x":null,"y":""}}}"#,
                r#"PATCH /api/v1/namespaces/default/configmaps/a apply {}"#,
                r#"PATCH /api/v1/namespaces/default/configmaps/a merge {"metadata":{"name":"b"}}"#,
                "DELETE /api/v1/namespaces/default/configmaps/a?dryRun=All",
                r#"DELETE /api/v1/namespaces/default/configmaps/a {"kind":"DeleteOptions","apiVersion":"v1","preconditions":{"uid":"other"}}"#,
                "DELETE /api/v1/namespaces/default/configmaps/a",
                "DELETE /api/v1/namespaces/default/configmaps/a",
            ],
            expect![[r#"
                POST /api/v1/namespaces/default/configmaps {"apiVersion":"v1","kind":"ConfigMap","metadata
                    201 ConfigMap a +1
                POST /api/v1/namespaces/default/configmaps {"apiVersion":"v1","kind":"ConfigMap","metadata
                    409 AlreadyExists: configmaps "a" already exists
                GET /api/v1/namespaces/default/configmaps/a
                    200 ConfigMap a +1
                GET /api/v1/namespaces/default/configmaps/nope
                    404 NotFound: configmaps "nope" not found
                PUT /api/v1/namespaces/default/configmaps/a {"apiVersion":"v1","kind":"ConfigMap","metadat
                    409 Conflict: Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again
                PUT /api/v1/namespaces/default/configmaps/a {"apiVersion":"v1","kind":"ConfigMap","metadat
                    200 ConfigMap a +2
                PUT /api/v1/namespaces/default/configmaps/nope {"apiVersion":"v1","kind":"ConfigMap","meta
                    404 NotFound: configmaps "nope" not found
                PATCH /api/v1/namespaces/default/configmaps/a merge {"data":{"l":"m"}}
                    200 ConfigMap a +3
                PATCH /api/v1/namespaces/default/configmaps/a merge {"data":{"l":"m"}}
                    200 ConfigMap a +3
                PATCH /api/v1/namespaces/default/configmaps/a json [{"op":"remove","path":"/data/l"}]
                    200 ConfigMap a +4
                PATCH /api/v1/namespaces/default/configmaps/a json [{"op":"remove","path":"/data/l"}]
                    422 Invalid: the server rejected our request due to an error in our request
                PATCH /api/v1/namespaces/default/configmaps/a strategic {"metadata":{"labels":{"x":null,"y
                    200 ConfigMap a +5
                PATCH /api/v1/namespaces/default/configmaps/a apply {}
                    422 Invalid: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch
                PATCH /api/v1/namespaces/default/configmaps/a merge {"metadata":{"name":"b"}}
                    400 BadRequest: the name of the object (b) does not match the name on the URL (a)
                DELETE /api/v1/namespaces/default/configmaps/a?dryRun=All
                    200 Success
                DELETE /api/v1/namespaces/default/configmaps/a {"kind":"DeleteOptions","apiVersion":"v1","
                    409 Conflict: Operation cannot be fulfilled on ConfigMap "a": the UID in the precondition (other) does not match the UID in record (UID). The object might have been deleted and then recreated
                DELETE /api/v1/namespaces/default/configmaps/a
                    200 Success
                DELETE /api/v1/namespaces/default/configmaps/a
                    404 NotFound: configmaps "a" not found
            "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn applies() {
    let cluster = Cluster::new().await;
    let map = "/api/v1/namespaces/default/configmaps/a";
    let lines = [
        format!(
            r#"PATCH {map}?fieldManager=m apply {{"apiVersion":"v1","kind":"ConfigMap","data":{{"k":"v"}}}}"#
        ),
        format!(r#"PATCH {map}?fieldManager=m apply {{"data":{{"k":"v"}}}}"#),
        format!(r#"PATCH {map}?fieldManager=n apply {{"data":{{"k":"w"}}}}"#),
        format!(r#"PATCH {map}?fieldManager=n&dryRun=All&force=true apply {{"data":{{"k":"w"}}}}"#),
        format!(r#"PATCH {map}?fieldManager=n&force=true apply {{"data":{{"k":"w"}}}}"#),
        format!(r#"PATCH {map}?fieldManager=n apply {{"metadata":{{"name":"b"}}}}"#),
        format!(r#"PATCH {map}?fieldManager=n apply {{"metadata":{{"resourceVersion":"1"}}}}"#),
        format!(r#"PATCH {map}?fieldManager=n apply {{"metadata":"#),
        format!(r#"PATCH {map} apply {{}}"#),
        format!(r#"PATCH {map}?force=true merge {{}}"#),
        r#"PATCH /api/v1/nodes/n/status?fieldManager=n apply {"status":{}}"#.into(),
        format!("GET {map}"),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    cluster.session(&lines, expect![[r#"
        PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=m apply {"apiVersion":"v1","kin
            201 ConfigMap a +1
        PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=m apply {"data":{"k":"v"}}
            400 BadRequest: invalid object type: /, Kind=
        PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=n apply {"data":{"k":"w"}}
            400 BadRequest: invalid object type: /, Kind=
        PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=n&dryRun=All&force=true apply {
            400 BadRequest: invalid object type: /, Kind=
        PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=n&force=true apply {"data":{"k"
            400 BadRequest: invalid object type: /, Kind=
        PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=n apply {"metadata":{"name":"b"
            400 BadRequest: invalid object type: /, Kind=
        PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=n apply {"metadata":{"resourceV
            400 BadRequest: invalid object type: /, Kind=
        PATCH /api/v1/namespaces/default/configmaps/a?fieldManager=n apply {"metadata":
            400 BadRequest: the object provided is unrecognized (must be of type ConfigMap): error converting YAML to JSON: yaml: did not find expected node content at line 2 column 1, while parsing a flow node ({"metadata":)
        PATCH /api/v1/namespaces/default/configmaps/a apply {}
            422 Invalid: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch
        PATCH /api/v1/namespaces/default/configmaps/a?force=true merge {}
            422 Invalid: PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch
        PATCH /api/v1/nodes/n/status?fieldManager=n apply {"status":{}}
            400 BadRequest: invalid object type: /, Kind=
        GET /api/v1/namespaces/default/configmaps/a
            200 ConfigMap a +1
    "#]]).await;
}

#[tokio::test(start_paused = true)]
async fn bad_bodies() {
    let cluster = Cluster::new().await;
    cluster
        .session(
            &[
                "POST /api/v1/namespaces/default/configmaps {",
                r#"POST /api/v1/namespaces/default/configmaps {"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}"#,
                r#"POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a","namespace":"other"}}"#,
                r#"POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"A_"}}"#,
                r#"POST /api/v1/namespaces/default/configmaps?fieldValidation=Strict {"metadata":{"name":"a"},"dta":{}}"#,
                r#"POST /api/v1/namespaces/default/configmaps?fieldValidation=Warn&dryRun=All {"metadata":{"name":"a"},"dta":{},"data":{"a":"1","a":"2"}}"#,
                r#"POST /api/v1/namespaces/default/configmaps?fieldValidation=Never {"metadata":{"name":"a"}}"#,
                r#"POST /api/v1/namespaces/default/configmaps?dryRun=Some {"metadata":{"name":"a"}}"#,
                r#"POST /api/v1/namespaces/missing/configmaps {"metadata":{"name":"a"}}"#,
                r#"POST /api/v1/configmaps {"metadata":{"name":"a"}}"#,
                r#"PUT /api/v1/namespaces/default/configmaps/a {"metadata":{"name":"b"}}"#,
                r#"POST /api/v1/namespaces/default/gizmos {"metadata":{"name":"b"}}"#,
                "POST /apis/nope/v1/things {}",
                "GET /nowhere",
                "POST /version {}",
            ],
            expect![[r#"
                POST /api/v1/namespaces/default/configmaps {
                    400 BadRequest: the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: EOF while parsing an object at line 1 column 1 ({)
                POST /api/v1/namespaces/default/configmaps {"kind":"Pod","apiVersion":"v1","metadata":{"na
                    400 BadRequest: Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (v1.ConfigMap): unknown conversion
                POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a","namespace":"other"}}
                    400 BadRequest: the namespace of the provided object does not match the namespace sent on the request
                POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"A_"}}
                    422 Invalid: ConfigMap "A_" is invalid: metadata.name: Invalid value: "A_": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                POST /api/v1/namespaces/default/configmaps?fieldValidation=Strict {"metadata":{"name":"a"}
                    400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta"
                POST /api/v1/namespaces/default/configmaps?fieldValidation=Warn&dryRun=All {"metadata":{"n
                    201 ConfigMap a | 299 - "unknown field \"dta\"" | 299 - "duplicate field \"data.a\""
                POST /api/v1/namespaces/default/configmaps?fieldValidation=Never {"metadata":{"name":"a"}}
                    422 Invalid: CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: "Never": supported values: "", "Ignore", "Strict", "Warn"
                POST /api/v1/namespaces/default/configmaps?dryRun=Some {"metadata":{"name":"a"}}
                    422 Invalid: CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: supported values: "All"
                POST /api/v1/namespaces/missing/configmaps {"metadata":{"name":"a"}}
                    404 NotFound: namespaces "missing" not found
                POST /api/v1/configmaps {"metadata":{"name":"a"}}
                    405 MethodNotAllowed: the server does not allow this method on the requested resource
                PUT /api/v1/namespaces/default/configmaps/a {"metadata":{"name":"b"}}
                    400 BadRequest: the name of the object (b) does not match the name on the URL (a)
                POST /api/v1/namespaces/default/gizmos {"metadata":{"name":"b"}}
                    404 NotFound: the server could not find the requested resource
                POST /apis/nope/v1/things {}
                    404 NotFound: the server could not find the requested resource
                GET /nowhere
                    404 NotFound: the server could not find the requested resource
                POST /version {}
                    405 MethodNotAllowed: the server does not allow this method on the requested resource
            "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn generated_names_and_dry_runs() {
    let cluster = Cluster::new().await;
    let body = r#"{"metadata":{"generateName":"gen-"}}"#;
    let create = format!("POST /api/v1/namespaces/default/configmaps {body}");
    let first = cluster.run(&create).await.json();
    let name = first["metadata"]["name"].as_str().unwrap_or_default();
    assert!(name.starts_with("gen-") && name.len() == 9, "{name}");
    assert_ne!(cluster.run(&create).await.json()["metadata"]["name"], first["metadata"]["name"]);

    let dry =
        r#"POST /api/v1/namespaces/default/configmaps?dryRun=All {"metadata":{"name":"dry"}}"#;
    let answer = cluster.run(dry).await;
    assert_eq!((answer.code, &answer.json()["metadata"]["resourceVersion"]), (201, &json!(null)));
    let answer = cluster.run("GET /api/v1/namespaces/default/configmaps/dry").await;
    assert_eq!(answer.code, 404);
}

#[tokio::test(start_paused = true)]
async fn pods_are_bound_run_and_deleted_gracefully() {
    let cluster = Cluster::new().await;
    cluster
        .session(
            &[
                r#"POST /api/v1/nodes {"metadata":{"name":"n1"}}"#,
                r#"POST /api/v1/namespaces/default/serviceaccounts {"metadata":{"name":"default"}}"#,
                r#"POST /api/v1/namespaces/default/pods {"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
                r#"POST /api/v1/namespaces/default/pods/p/binding {"kind":"Binding","apiVersion":"v1","metadata":{"name":"p"},"target":{"kind":"Node","name":"n1"}}"#,
                r#"POST /api/v1/namespaces/default/pods/p/binding {"kind":"Binding","apiVersion":"v1","metadata":{"name":"p"},"target":{"kind":"Node","name":"n2"}}"#,
                r#"PATCH /api/v1/namespaces/default/pods/p/status strategic {"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}"#,
                "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn1",
                "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn2",
                "GET /api/v1/pods?fieldSelector=status.phase%3DRunning",
                "GET /api/v1/pods?fieldSelector=spec.color%3Dred",
                "GET /api/v1/namespaces/default/pods/p/log",
                "DELETE /api/v1/namespaces/default/pods/p",
                "GET /api/v1/namespaces/default/pods/p",
                r#"DELETE /api/v1/namespaces/default/pods/p {"gracePeriodSeconds":0}"#,
                "GET /api/v1/namespaces/default/pods/p",
                r#"POST /api/v1/namespaces/default/pods {"metadata":{"name":"q"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
                r#"POST /api/v1/namespaces/default/bindings {"kind":"Binding","apiVersion":"v1","metadata":{"name":"q"},"target":{"kind":"Node","name":"n1"}}"#,
                "DELETE /api/v1/namespaces/default/pods",
            ],
            expect![[r#"
                POST /api/v1/nodes {"metadata":{"name":"n1"}}
                    201 Node n1 +1
                POST /api/v1/namespaces/default/serviceaccounts {"metadata":{"name":"default"}}
                    201 ServiceAccount default +2
                POST /api/v1/namespaces/default/pods {"metadata":{"name":"p"},"spec":{"containers":[{"name
                    201 Pod p +3
                POST /api/v1/namespaces/default/pods/p/binding {"kind":"Binding","apiVersion":"v1","metada
                    201 Success
                POST /api/v1/namespaces/default/pods/p/binding {"kind":"Binding","apiVersion":"v1","metada
                    409 Conflict: Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "n1"
                PATCH /api/v1/namespaces/default/pods/p/status strategic {"status":{"phase":"Running","con
                    200 Pod p +5
                GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn1
                    200 PodList [p]
                GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn2
                    200 PodList []
                GET /api/v1/pods?fieldSelector=status.phase%3DRunning
                    200 PodList [p]
                GET /api/v1/pods?fieldSelector=spec.color%3Dred
                    400 BadRequest: field label not supported: spec.color
                GET /api/v1/namespaces/default/pods/p/log
                    503 ServiceUnavailable: no preferred addresses found for node "n1"
                DELETE /api/v1/namespaces/default/pods/p
                    200 Pod p +6
                GET /api/v1/namespaces/default/pods/p
                    200 Pod p +6
                DELETE /api/v1/namespaces/default/pods/p {"gracePeriodSeconds":0}
                    200 Pod p +7
                GET /api/v1/namespaces/default/pods/p
                    404 NotFound: pods "p" not found
                POST /api/v1/namespaces/default/pods {"metadata":{"name":"q"},"spec":{"containers":[{"name
                    201 Pod q +8
                POST /api/v1/namespaces/default/bindings {"kind":"Binding","apiVersion":"v1","metadata":{"
                    201 Success
                DELETE /api/v1/namespaces/default/pods
                    200 PodList [q]
            "#]],
        )
        .await;
    let pod = cluster.get("/api/v1/namespaces/default/pods/q").await;
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30);
}

#[tokio::test(start_paused = true)]
async fn finalizers_hold_and_let_go() {
    let cluster = Cluster::new().await;
    cluster
        .session(
            &[
                r#"POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a","finalizers":["example.com/f"]}}"#,
                "DELETE /api/v1/namespaces/default/configmaps/a",
                r#"POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a"}}"#,
                r#"PATCH /api/v1/namespaces/default/configmaps/a merge {"metadata":{"finalizers":null}}"#,
                "GET /api/v1/namespaces/default/configmaps/a",
                r#"POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"b"}}"#,
                "DELETE /api/v1/namespaces/default/configmaps/b?propagationPolicy=Foreground",
                "GET /api/v1/namespaces/default/configmaps/b",
                r#"POST /api/v1/namespaces {"metadata":{"name":"team"}}"#,
                "DELETE /api/v1/namespaces/team",
                r#"POST /api/v1/namespaces/team/configmaps {"metadata":{"name":"late"}}"#,
                r#"PUT /api/v1/namespaces/team/finalize {"metadata":{"name":"team"},"spec":{}}"#,
                "GET /api/v1/namespaces/team",
            ],
            expect![[r#"
                POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a","finalizers":["example.
                    201 ConfigMap a +1
                DELETE /api/v1/namespaces/default/configmaps/a
                    200 ConfigMap a +2
                POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a"}}
                    409 AlreadyExists: object is being deleted: configmaps "a" already exists
                PATCH /api/v1/namespaces/default/configmaps/a merge {"metadata":{"finalizers":null}}
                    200 ConfigMap a +3
                GET /api/v1/namespaces/default/configmaps/a
                    404 NotFound: configmaps "a" not found
                POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"b"}}
                    201 ConfigMap b +4
                DELETE /api/v1/namespaces/default/configmaps/b?propagationPolicy=Foreground
                    200 ConfigMap b +5
                GET /api/v1/namespaces/default/configmaps/b
                    200 ConfigMap b +5
                POST /api/v1/namespaces {"metadata":{"name":"team"}}
                    201 Namespace team +6
                DELETE /api/v1/namespaces/team
                    200 Namespace team +7
                POST /api/v1/namespaces/team/configmaps {"metadata":{"name":"late"}}
                    403 Forbidden: configmaps "late" is forbidden: unable to create new content in namespace team because it is being terminated
                PUT /api/v1/namespaces/team/finalize {"metadata":{"name":"team"},"spec":{}}
                    200 Namespace team +8
                GET /api/v1/namespaces/team
                    404 NotFound: namespaces "team" not found
            "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn scale_and_generation() {
    let cluster = Cluster::new().await;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 2,
        "selector": {"matchLabels": {"app": "d"}},
        "template": {"metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let answer = cluster
        .run(&format!("POST /apis/apps/v1/namespaces/default/deployments {deployment}"))
        .await;
    assert_eq!(answer.code, 201, "{}", answer.summary());
    cluster
        .session(
            &[
                "GET /apis/apps/v1/namespaces/default/deployments/d/scale",
                r#"PATCH /apis/apps/v1/namespaces/default/deployments/d/scale merge {"spec":{"replicas":5}}"#,
                r#"PUT /apis/apps/v1/namespaces/default/deployments/d/scale {"metadata":{"name":"d"},"spec":{"replicas":-1}}"#,
                r#"PUT /apis/apps/v1/namespaces/default/deployments/d/scale {"metadata":{"name":"d"},"spec":{"replicas":6}}"#,
            ],
            expect![[r#"
                GET /apis/apps/v1/namespaces/default/deployments/d/scale
                    200 Scale d +1
                PATCH /apis/apps/v1/namespaces/default/deployments/d/scale merge {"spec":{"replicas":5}}
                    200 Scale d +2
                PUT /apis/apps/v1/namespaces/default/deployments/d/scale {"metadata":{"name":"d"},"spec":{
                    422 Invalid: Scale.autoscaling "d" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0
                PUT /apis/apps/v1/namespaces/default/deployments/d/scale {"metadata":{"name":"d"},"spec":{
                    200 Scale d +3
            "#]],
        )
        .await;
    let deployment = cluster.get("/apis/apps/v1/namespaces/default/deployments/d").await;
    assert_eq!(
        (&deployment["spec"]["replicas"], &deployment["metadata"]["generation"]),
        (&json!(6), &json!(3))
    );
}

#[tokio::test(start_paused = true)]
async fn service_addresses_are_unique() {
    let cluster = Cluster::new().await;
    let service = |name: &str, extra: &str| {
        format!(
            r#"POST /api/v1/namespaces/default/services {{"metadata":{{"name":"{name}"}},"spec":{{{extra}"ports":[{{"port":80}}]}}}}"#
        )
    };
    let mut seen = std::collections::BTreeSet::new();
    // Neither the first and last ones, nor those of the API server, its endpoint and DNS.
    for number in 0..251 {
        let answer = cluster.run(&service(&format!("s{number}"), "")).await;
        assert_eq!(answer.code, 201, "{}", answer.summary());
        seen.insert(answer.json()["spec"]["clusterIP"].to_string());
    }
    assert_eq!(seen.len(), 251);
    assert!(!seen.contains("\"127.96.0.10\""));
    cluster
        .session(
            &[
                &service("full", ""),
                &service("taken", r#""clusterIP":"127.96.0.1","#),
                &service("outside", r#""clusterIP":"10.0.0.1","#),
                "DELETE /api/v1/namespaces/default/services/s7",
                &service("again", ""),
                "GET /api/v1/namespaces/default/services/kubernetes",
                "GET /apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes",
            ],
            expect![[r#"
                POST /api/v1/namespaces/default/services {"metadata":{"name":"full"},"spec":{"ports":[{"po
                    422 Invalid: Service "full" is invalid: spec.clusterIPs: Invalid value: []: failed to allocate a serviceIP: range is full
                POST /api/v1/namespaces/default/services {"metadata":{"name":"taken"},"spec":{"clusterIP":
                    422 Invalid: Service "taken" is invalid: spec.clusterIPs: Invalid value: ["127.96.0.1"]: failed to allocate IP 127.96.0.1: provided IP is already allocated
                POST /api/v1/namespaces/default/services {"metadata":{"name":"outside"},"spec":{"clusterIP
                    422 Invalid: Service "outside" is invalid: spec.clusterIPs: Invalid value: ["10.0.0.1"]: failed to allocate IP 10.0.0.1: the provided IP (10.0.0.1) is not in the valid range. The range of valid IPs is 127.96.0.0/24
                DELETE /api/v1/namespaces/default/services/s7
                    200 Service s7 +252
                POST /api/v1/namespaces/default/services {"metadata":{"name":"again"},"spec":{"ports":[{"p
                    201 Service again +253
                GET /api/v1/namespaces/default/services/kubernetes
                    200 Service kubernetes
                GET /apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes
                    200 EndpointSlice kubernetes
            "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn node_ports_are_given_out_once() {
    let cluster = Cluster::new().await;
    let service = |name: &str, ports: &str| {
        format!(
            r#"POST /api/v1/namespaces/default/services {{"metadata":{{"name":"{name}"}},"spec":{{"type":"NodePort","ports":[{ports}]}}}}"#
        )
    };
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..20 {
        let answer = cluster.run(&service(&format!("s{number}"), r#"{"port":80}"#)).await;
        let given = answer.json()["spec"]["ports"][0]["nodePort"].as_i64().expect("a port");
        // What is given out leaves the numbers that people like to choose to them.
        assert!((30_086..=32_767).contains(&given), "{given}");
        seen.insert(given);
    }
    assert_eq!(seen.len(), 20);
    let kind = |kind: &str| {
        format!(
            r#"PATCH /api/v1/namespaces/default/services/mine merge {{"spec":{{"type":"{kind}"}}}}"#
        )
    };
    cluster
        .session(
            &[
                &service("mine", r#"{"port":80,"nodePort":30080}"#),
                &service("other", r#"{"port":80,"nodePort":30080}"#),
                &service("outside", r#"{"port":80,"nodePort":80}"#),
                &kind("ClusterIP"),
                &service("other", r#"{"port":80,"nodePort":30080}"#),
                &kind("NodePort"),
                r#"PATCH /api/v1/namespaces/default/services/mine merge {"spec":{"ports":[{"port":80,"nodePort":30080}]}}"#,
                "DELETE /api/v1/namespaces/default/services/other",
                r#"PATCH /api/v1/namespaces/default/services/mine merge {"spec":{"ports":[{"port":80,"nodePort":30080}]}}"#,
            ],
            expect![[r#"
                POST /api/v1/namespaces/default/services {"metadata":{"name":"mine"},"spec":{"type":"NodeP
                    201 Service mine +21
                POST /api/v1/namespaces/default/services {"metadata":{"name":"other"},"spec":{"type":"Node
                    422 Invalid: Service "other" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated
                POST /api/v1/namespaces/default/services {"metadata":{"name":"outside"},"spec":{"type":"No
                    422 Invalid: Service "outside" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767
                PATCH /api/v1/namespaces/default/services/mine merge {"spec":{"type":"ClusterIP"}}
                    200 Service mine +22
                POST /api/v1/namespaces/default/services {"metadata":{"name":"other"},"spec":{"type":"Node
                    201 Service other +23
                PATCH /api/v1/namespaces/default/services/mine merge {"spec":{"type":"NodePort"}}
                    200 Service mine +24
                PATCH /api/v1/namespaces/default/services/mine merge {"spec":{"ports":[{"port":80,"nodePor
                    422 Invalid: Service "mine" is invalid: spec.ports[0].nodePort: Invalid value: 30080: provided port is already allocated
                DELETE /api/v1/namespaces/default/services/other
                    200 Service other +25
                PATCH /api/v1/namespaces/default/services/mine merge {"spec":{"ports":[{"port":80,"nodePor
                    200 Service mine +26
            "#]],
        )
        .await;
}

/// Writers that race lose nothing: each retries on what the other wrote.
#[tokio::test(start_paused = true)]
async fn concurrent_patches_all_land() {
    let cluster = Cluster::new().await;
    cluster.run(r#"POST /api/v1/namespaces/default/configmaps {"metadata":{"name":"a"}}"#).await;
    let patches = (0..40).map(|number| {
        let cluster = &cluster;
        async move {
            let line = format!(
                r#"PATCH /api/v1/namespaces/default/configmaps/a merge {{"data":{{"k{number}":"v"}}}}"#
            );
            cluster.run(&line).await.code
        }
    });
    let codes = futures::future::join_all(patches).await;
    assert!(codes.iter().all(|code| *code == 200), "{codes:?}");
    let map = cluster.get("/api/v1/namespaces/default/configmaps/a").await;
    assert_eq!(map["data"].as_object().map(serde_json::Map::len), Some(40));
}
