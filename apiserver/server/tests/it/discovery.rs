//! What clients ask before they ask for anything else.

use axum::body::Body;
use expect_test::expect;
use http::{Request, header};

use crate::Cluster;

async fn accepting(cluster: &Cluster, url: &str, accept: &str) -> crate::Answer {
    let request = Request::builder().uri(url).header(header::ACCEPT, accept);
    cluster.read(request.body(Body::empty()).expect("a request")).await
}

#[tokio::test(start_paused = true)]
async fn aggregated_discovery_is_negotiated() {
    let cluster = Cluster::new().await;
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
    for (accept, media) in [
        (format!("{v2},{beta},application/json"), v2),
        (format!("{beta},application/json"), beta),
        ("application/json".into(), "application/json"),
    ] {
        let answer = accepting(&cluster, "/apis", &accept).await;
        assert_eq!(
            (answer.code, &answer.headers[header::CONTENT_TYPE]),
            (200, &media.parse().expect("media"))
        );
    }
    let core = accepting(&cluster, "/api", v2).await;
    let pods = core.json()["items"][0]["versions"][0]["resources"]
        .as_array()
        .and_then(|all| all.iter().find(|r| r["resource"] == "pods").cloned())
        .expect("pods");
    expect![[r#"
        {
          "resource": "pods",
          "responseKind": {
            "group": "",
            "version": "",
            "kind": "Pod"
          },
          "scope": "Namespaced",
          "singularResource": "pod",
          "verbs": [
            "create",
            "delete",
            "deletecollection",
            "get",
            "list",
            "patch",
            "update",
            "watch"
          ],
          "shortNames": [
            "po"
          ],
          "categories": [
            "all"
          ],
          "subresources": [
            {
              "subresource": "attach",
              "verbs": [
                "create",
                "get"
              ],
              "responseKind": {
                "group": "",
                "version": "",
                "kind": "PodAttachOptions"
              }
            },
            {
              "subresource": "binding",
              "verbs": [
                "create"
              ],
              "responseKind": {
                "group": "",
                "version": "",
                "kind": "Binding"
              }
            },
            {
              "subresource": "ephemeralcontainers",
              "verbs": [
                "get",
                "patch",
                "update"
              ],
              "responseKind": {
                "group": "",
                "version": "",
                "kind": "Pod"
              }
            },
            {
              "subresource": "eviction",
              "verbs": [
                "create"
              ],
              "responseKind": {
                "group": "policy",
                "version": "v1",
                "kind": "Eviction"
              }
            },
            {
              "subresource": "exec",
              "verbs": [
                "create",
                "get"
              ],
              "responseKind": {
                "group": "",
                "version": "",
                "kind": "PodExecOptions"
              }
            },
            {
              "subresource": "log",
              "verbs": [
                "get"
              ],
              "responseKind": {
                "group": "",
                "version": "",
                "kind": "Pod"
              }
            },
            {
              "subresource": "portforward",
              "verbs": [
                "create",
                "get"
              ],
              "responseKind": {
                "group": "",
                "version": "",
                "kind": "PodPortForwardOptions"
              }
            },
            {
              "subresource": "proxy",
              "verbs": [
                "create",
                "delete",
                "get",
                "patch",
                "update"
              ],
              "responseKind": {
                "group": "",
                "version": "",
                "kind": "PodProxyOptions"
              }
            },
            {
              "subresource": "status",
              "verbs": [
                "get",
                "patch",
                "update"
              ],
              "responseKind": {
                "group": "",
                "version": "",
                "kind": "Pod"
              }
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&pods).expect("JSON"));
    let etag = core.headers[header::ETAG].clone();
    let again = Request::builder()
        .uri("/api")
        .header(header::ACCEPT, v2)
        .header(header::IF_NONE_MATCH, etag)
        .body(Body::empty());
    assert_eq!(cluster.read(again.expect("a request")).await.code, 304);
}

#[tokio::test(start_paused = true)]
async fn plain_discovery() {
    let cluster = Cluster::new().await;
    let names = |list: &serde_json::Value, key: &str, name: &str| {
        let all = list[key].as_array().cloned().unwrap_or_default();
        let names: Vec<String> =
            all.iter().map(|one| one[name].as_str().unwrap_or_default().to_owned()).collect();
        names.join(" ")
    };
    let mut out = String::new();
    out += &names(&cluster.get("/apis").await, "groups", "name");
    for url in ["/api/v1", "/apis/apps/v1", "/apis/events.k8s.io/v1"] {
        out += &format!("\n{url}: {}", names(&cluster.get(url).await, "resources", "name"));
    }
    out += &format!("\n{}", cluster.get("/apis/apps").await);
    out += &format!("\n{}", cluster.get("/api").await);
    expect![[r#"
        apiregistration.k8s.io apps events.k8s.io authentication.k8s.io authorization.k8s.io autoscaling batch certificates.k8s.io networking.k8s.io policy rbac.authorization.k8s.io storage.k8s.io admissionregistration.k8s.io apiextensions.k8s.io scheduling.k8s.io coordination.k8s.io node.k8s.io discovery.k8s.io resource.k8s.io flowcontrol.apiserver.k8s.io storagemigration.k8s.io metrics.k8s.io windlass.dev
        /api/v1: bindings componentstatuses configmaps endpoints events limitranges namespaces namespaces/finalize namespaces/status nodes nodes/proxy nodes/status persistentvolumeclaims persistentvolumeclaims/status persistentvolumes persistentvolumes/status pods pods/attach pods/binding pods/ephemeralcontainers pods/eviction pods/exec pods/log pods/portforward pods/proxy pods/status podtemplates replicationcontrollers replicationcontrollers/scale replicationcontrollers/status resourcequotas resourcequotas/status secrets serviceaccounts serviceaccounts/token services services/proxy services/status
        /apis/apps/v1: controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status
        /apis/events.k8s.io/v1: events
        {"kind":"APIGroup","apiVersion":"v1","name":"apps","versions":[{"groupVersion":"apps/v1","version":"v1"}],"preferredVersion":{"groupVersion":"apps/v1","version":"v1"}}
        {"kind":"APIVersions","versions":["v1"],"serverAddressByClientCIDRs":[]}"#]].assert_eq(&out);
    for missing in ["/apis/nope", "/apis/nope/v1", "/api/v2"] {
        assert_eq!(cluster.run(&format!("GET {missing}")).await.code, 404, "{missing}");
    }
}

#[tokio::test(start_paused = true)]
async fn health_version_and_metrics() {
    let cluster = Cluster::new().await;
    cluster
        .session(
            &["GET /livez", "GET /readyz?verbose", "GET /readyz/store", "GET /healthz/nope"],
            expect![[r#"
                GET /livez
                    200 ok
                GET /readyz?verbose
                    200 [+]ping ok
                [+]store ok
                [+]informer-sync ok
                [+]shutdown ok
                readyz check passed
                GET /readyz/store
                    200 ok
                GET /healthz/nope
                    404 NotFound: the server could not find the requested resource
            "#]],
        )
        .await;
    let version = cluster.get("/version").await;
    assert!(version["gitVersion"].as_str().is_some_and(|v| v.starts_with("v1.37.")), "{version}");
    assert_eq!((&version["major"], &version["minor"]), (&"1".into(), &"37".into()));
    cluster.run("GET /api/v1/pods").await;
    let metrics = String::from_utf8(cluster.run("GET /metrics").await.bytes).expect("text");
    for wanted in [
        r#"apiserver_request_total{verb="LIST",group="",resource="pods",subresource="",code="200"} 1"#,
        r#"apiserver_storage_objects{resource="namespaces"} 4"#,
        "apiserver_request_duration_seconds_bucket",
    ] {
        assert!(metrics.contains(wanted), "{wanted} in {metrics}");
    }
}

#[tokio::test(start_paused = true)]
async fn openapi_has_an_index_and_documents() {
    let cluster = Cluster::new().await;
    let index = cluster.get("/openapi/v3").await;
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().expect("a URL");
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    let document = cluster.get(url).await;
    let path = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    let patch = &document["paths"][path]["patch"]["requestBody"]["content"];
    assert!(patch["application/strategic-merge-patch+json"].is_object(), "{patch}");
    assert_eq!(cluster.run("GET /openapi/v3/apis/nope/v1").await.code, 404);
    let answer = cluster.run(&format!("GET {url}")).await;
    assert_eq!(answer.headers[header::CACHE_CONTROL], "public, immutable");
    assert_eq!(answer.headers[header::EXPIRES], "Tue, 23 Nov 2027 17:20:00 GMT");
    let hash = url.split_once("hash=").expect("a hash").1;
    assert_eq!(answer.headers[header::ETAG], format!("\"{hash}\""));
    let plain = cluster.run("GET /openapi/v3/apis/apps/v1").await;
    assert_eq!(plain.headers[header::CACHE_CONTROL], "no-cache, private");
    let old = cluster.run("GET /openapi/v3/apis/apps/v1?hash=0123").await;
    assert_eq!((old.code, &old.headers[header::LOCATION]), (301, &url.parse().expect("a header")));
    for url in ["/openapi/v3", url, "/openapi/v2"] {
        let etag = cluster.run(&format!("GET {url}")).await.headers[header::ETAG].clone();
        let again = Request::get(url).header(header::IF_NONE_MATCH, etag).body(Body::empty());
        assert_eq!(cluster.read(again.expect("a request")).await.code, 304, "{url}");
    }
    let binary = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";
    assert_eq!(accepting(&cluster, "/openapi/v3", binary).await.code, 406);
}

#[tokio::test(start_paused = true)]
async fn openapi_version_2_describes_everything() {
    let cluster = Cluster::new().await;
    let document = cluster.get("/openapi/v2").await;
    let paths = document["paths"].as_object().expect("paths");
    for list in ["/api/v1", "/apis/apps/v1", "/apis/windlass.dev/v1"] {
        for resource in cluster.get(list).await["resources"].as_array().expect("resources") {
            let name = resource["name"].as_str().expect("a name");
            let scope = match (resource["namespaced"] == true, name.split_once('/')) {
                (false, None) => format!("{list}/{name}"),
                (true, None) => format!("{list}/namespaces/{{namespace}}/{name}"),
                (false, Some((plural, sub))) => format!("{list}/{plural}/{{name}}/{sub}"),
                (true, Some((plural, sub))) => {
                    format!("{list}/namespaces/{{namespace}}/{plural}/{{name}}/{sub}")
                }
            };
            assert!(paths.contains_key(&scope), "{scope}");
        }
    }
    let definitions = document["definitions"].as_object().expect("definitions");
    for to in document.to_string().split("\"#/definitions/").skip(1) {
        let name = to.split('"').next().unwrap_or_default();
        assert!(definitions.contains_key(name), "{name}");
    }
    let asked = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let request = Request::get("/openapi/v2")
        .header(header::ACCEPT, asked)
        .header(header::ACCEPT_ENCODING, "gzip")
        .body(Body::empty());
    let binary = cluster.read(request.expect("a request")).await;
    assert_eq!(binary.headers[header::CONTENT_ENCODING], "gzip");
    assert_eq!(
        binary.headers[header::CONTENT_TYPE],
        "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
    );
    assert_eq!(accepting(&cluster, "/openapi/v2", "text/html").await.code, 406);
}
