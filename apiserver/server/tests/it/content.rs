//! Media types, bounds, identities.

use axum::body::Body;
use expect_test::expect;
use http::{Request, header};
use serde_json::json;
use windlass_apiserver_access::User;

use crate::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn post(
    cluster: &Cluster,
    media: &str,
    accept: &str,
    body: impl Into<Body>,
) -> crate::Answer {
    let request = Request::post(MAPS)
        .header(header::CONTENT_TYPE, media)
        .header(header::ACCEPT, accept)
        .body(body.into());
    cluster.read(request.expect("a request")).await
}

#[tokio::test(start_paused = true)]
async fn bodies_in_yaml_and_protobuf() {
    let cluster = Cluster::new().await;
    let yaml = "metadata:\n  name: y\ndata:\n  k: v\n";
    let answer = post(&cluster, "application/yaml", "application/json", yaml).await;
    assert_eq!((answer.code, &answer.json()["data"]["k"]), (201, &json!("v")));

    let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pb"},
        "data": {"k": "v"}});
    let target = windlass_apiserver_schema::Target::new("", "v1", "ConfigMap");
    let bytes = windlass_apiserver_schema::encode_protobuf(&tree, &target).expect("encodes");
    let media = "application/vnd.kubernetes.protobuf";
    let answer =
        post(&cluster, media, "application/vnd.kubernetes.protobuf,application/json", bytes).await;
    assert_eq!(
        (answer.code, &answer.protobuf("ConfigMap")["data"]["k"]),
        (201, &json!("v")),
        "{}",
        answer.summary()
    );
    let answer = post(&cluster, media, "application/json", "rubbish").await;
    assert_eq!(answer.code, 400, "{}", answer.summary());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused() {
    let cluster = Cluster::new().await;
    let small = r#"{"metadata":{"name":"x"}}"#;
    let json = "application/json";
    let mut out = String::new();
    for answer in [
        post(&cluster, "application/cbor", json, small).await,
        post(&cluster, json, "text/html", small).await,
        post(&cluster, json, json, vec![b' '; 3 * 1024 * 1024 + 1]).await,
        post(&cluster, json, json, r#"{"metadata":{"name":7}}"#).await,
        post(&cluster, json, json, "").await,
    ] {
        out += &format!("{}\n", answer.summary());
    }
    expect![[r#"
        415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf
        406 NotAcceptable: 406: Not Acceptable

        Available representations: application/json, application/yaml, application/vnd.kubernetes.protobuf
        413 RequestEntityTooLarge: Request entity too large: limit is 3145728
        400 BadRequest: ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go struct field ObjectMeta.metadata.name of type string
        400 BadRequest: the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: EOF while parsing a value at line 1 column 0 (<empty>)
    "#]].assert_eq(&out);
}

/// Data has its bound in bytes as they are, however they are written; a body has one of its own.
#[tokio::test(start_paused = true)]
async fn what_is_too_large_is_refused_to_the_byte() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    const MOST: usize = 1024 * 1024;
    let cluster = Cluster::new().await;
    let text = |bytes: usize| "x".repeat(bytes);
    let base64 = |bytes: usize| STANDARD.encode(vec![7; bytes]);
    let secrets = MAPS.replace("configmaps", "secrets");
    let mut out = String::new();
    for (url, name, body) in [
        (MAPS, "text", json!({"data": {"k": text(MOST)}})),
        (MAPS, "text1", json!({"data": {"k": text(MOST + 1)}})),
        (MAPS, "keys", json!({"data": {"k": text(MOST / 2), "l": text(MOST / 2)}})),
        (MAPS, "keys1", json!({"data": {"k": text(MOST / 2), "l": text(MOST / 2 + 1)}})),
        // Padding of two, of one, and none: it is no data.
        (MAPS, "bytes", json!({"binaryData": {"k": base64(MOST)}})),
        (MAPS, "bytes1", json!({"binaryData": {"k": base64(MOST + 1)}})),
        (MAPS, "both", json!({"binaryData": {"k": base64(MOST - 2)}, "data": {"l": "xx"}})),
        (MAPS, "both1", json!({"binaryData": {"k": base64(MOST - 1)}, "data": {"l": "xx"}})),
        (&secrets, "secret", json!({"data": {"k": base64(MOST)}})),
        (&secrets, "secret1", json!({"data": {"k": base64(MOST + 1)}})),
        (&secrets, "string1", json!({"stringData": {"k": text(MOST + 1)}})),
        (MAPS, "body", json!({"data": {"k": text(3 * MOST)}})),
    ] {
        let mut body = body;
        body["metadata"]["name"] = name.into();
        out += &format!("{}\n", cluster.run(&format!("POST {url} {body}")).await.summary());
    }
    // What is stored may not grow beyond it either.
    let patch = json!({"data": {"l": "x"}});
    let patched = cluster.run(&format!("PATCH {MAPS}/text merge {patch}")).await;
    let stored = cluster.get(&format!("{MAPS}/bytes")).await;
    assert_eq!(stored["binaryData"]["k"].as_str(), Some(base64(MOST).as_str()));
    expect![[r#"
        201 ConfigMap text
        422 Invalid: ConfigMap "text1" is invalid: []: Too long: may not be more than 1048576 bytes
        201 ConfigMap keys
        422 Invalid: ConfigMap "keys1" is invalid: []: Too long: may not be more than 1048576 bytes
        201 ConfigMap bytes
        422 Invalid: ConfigMap "bytes1" is invalid: []: Too long: may not be more than 1048576 bytes
        201 ConfigMap both
        422 Invalid: ConfigMap "both1" is invalid: []: Too long: may not be more than 1048576 bytes
        201 Secret secret
        422 Invalid: Secret "secret1" is invalid: data: Too long: may not be more than 1048576 bytes
        422 Invalid: Secret "string1" is invalid: data: Too long: may not be more than 1048576 bytes
        413 RequestEntityTooLarge: Request entity too large: limit is 3145728
        422 Invalid: ConfigMap "text" is invalid: []: Too long: may not be more than 1048576 bytes
    "#]]
    .assert_eq(&format!("{out}{}\n", patched.summary()));
}

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf,application/json";

async fn read(cluster: &Cluster, accept: &str, url: &str) -> crate::Answer {
    let request = Request::get(url).header(header::ACCEPT, accept).body(Body::empty());
    cluster.read(request.expect("a request")).await
}

/// Whatever is answered in protobuf is what JSON says.
#[tokio::test(start_paused = true)]
async fn protobuf_for_who_prefers_it() {
    let cluster = Cluster::new().await;
    for number in 0..3 {
        let body = json!({"metadata": {"name": format!("m{number}"), "labels": {"n": "x"}},
            "data": {"k": "v".repeat(40_000)}});
        assert_eq!(cluster.run(&format!("POST {MAPS} {body}")).await.code, 201);
    }
    let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
    for (accept, url, kind) in [
        (PROTOBUF, format!("{MAPS}/m1"), "ConfigMap"),
        (PROTOBUF, MAPS.to_owned(), "ConfigMapList"),
        (PROTOBUF, format!("{MAPS}?limit=1"), "ConfigMapList"),
        (PROTOBUF, "/api/v1/namespaces".to_owned(), "NamespaceList"),
        (PROTOBUF, format!("{MAPS}/none"), "Status"),
        (metadata, MAPS.to_owned(), "PartialObjectMetadataList"),
        (PROTOBUF, "/api/v1".to_owned(), "APIResourceList"),
    ] {
        let json = read(&cluster, &accept.replace("vnd.kubernetes.protobuf", "json"), &url).await;
        let answer = read(&cluster, accept, &url).await;
        assert_eq!(answer.code, json.code, "{url}");
        let media = &answer.headers[header::CONTENT_TYPE];
        assert_eq!(media, "application/vnd.kubernetes.protobuf", "{url}");
        let (mut found, mut json) = (answer.protobuf(kind), json.json());
        for list in [&mut found, &mut json] {
            for item in list["items"].as_array_mut().into_iter().flatten() {
                // Protobuf names the kind of a list, not that of its items.
                item.as_object_mut().map(|item| [item.remove("kind"), item.remove("apiVersion")]);
            }
        }
        for part in ["metadata", "items", "data", "message", "details", "code", "resources"] {
            assert_eq!(found[part], json[part], "{url} {part}");
        }
    }
    // A Table has no form in protobuf: the next that the client lists is taken.
    let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io";
    assert_eq!(read(&cluster, table, MAPS).await.json()["kind"], "Table");
    let request = Request::delete(format!("{MAPS}/m0")).header(header::ACCEPT, PROTOBUF);
    let answer = cluster.read(request.body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.protobuf("Status")["status"], "Success");
}

#[tokio::test(start_paused = true)]
async fn watches_in_protobuf() {
    let cluster = Cluster::new().await;
    for verb in ["POST", "DELETE"] {
        let body = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
        let url = if verb == "POST" { MAPS.to_owned() } else { format!("{MAPS}/a") };
        let body = if verb == "POST" { body.to_string() } else { String::new() };
        assert!(cluster.run(&format!("{verb} {url} {body}")).await.code < 300);
        let from = cluster.get("/api/v1/namespaces").await["metadata"]["resourceVersion"].clone();
        let from: u64 = from.as_str().and_then(|text| text.parse().ok()).expect("a revision");
        let metadata =
            "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
        for (accept, kind) in [(PROTOBUF, "ConfigMap"), (metadata, "PartialObjectMetadata")] {
            let url = format!(
                "{MAPS}?watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={}",
                from - 1
            );
            let answer = read(&cluster, accept, &url).await;
            let media = "application/vnd.kubernetes.protobuf;stream=watch";
            assert_eq!(answer.headers[header::CONTENT_TYPE], media);
            let events = answer.frames(kind);
            let event = if verb == "POST" { "ADDED" } else { "DELETED" };
            assert_eq!(events[0].0, event);
            assert_eq!(events[0].1["metadata"]["name"], "a");
            assert_eq!(events[0].1["metadata"]["resourceVersion"], from.to_string());
            assert_eq!(events.last().map(|(event, _)| event.as_str()), Some("BOOKMARK"));
        }
    }
    let url = format!("{MAPS}?watch=1&resourceVersion=1");
    for _ in 0..10 {
        cluster.clock.advance(600);
        tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    }
    let events = read(&cluster, PROTOBUF, &url).await.frames("Status");
    assert_eq!((events[0].0.as_str(), &events[0].1["code"]), ("ERROR", &json!(410)));
    let yaml = read(&cluster, "application/yaml", &format!("{MAPS}?watch=1")).await;
    expect![[r#"
        406 kind: Status
        apiVersion: v1
        metadata: {}
        status: Failure
        message: 'only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch'
        reason: NotAcceptable
        code: 406"#]].assert_eq(&yaml.summary());
}

#[tokio::test(start_paused = true)]
async fn people_get_line_breaks() {
    let cluster = Cluster::new().await;
    let curl = Request::get("/api/v1/namespaces/default").header(header::USER_AGENT, "curl/8.0");
    let answer = cluster.read(curl.body(Body::empty()).expect("a request")).await;
    assert!(answer.bytes.starts_with(b"{\n  \"apiVersion\": \"v1\",\n"));
    let list = read(&cluster, "application/json", "/api/v1/namespaces?pretty=true").await;
    assert!(list.bytes.starts_with(b"{\n  \"kind\": \"NamespaceList\",\n"));
}

#[tokio::test(start_paused = true)]
async fn tables_and_metadata() {
    let cluster = Cluster::new().await;
    cluster.run(&format!(r#"POST {MAPS} {{"metadata":{{"name":"a"}},"data":{{"k":"v"}}}}"#)).await;
    let read = |accept: &'static str, url: String| {
        let request = Request::builder().uri(url).header(header::ACCEPT, accept);
        cluster.read(request.body(Body::empty()).expect("a request"))
    };
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let answer = read(table, format!("{MAPS}/a")).await.json();
    let (row, columns) = (&answer["rows"][0], &answer["columnDefinitions"]);
    assert_eq!((&answer["kind"], &row["cells"]), (&json!("Table"), &json!(["a", 1, "0s"])));
    assert_eq!(columns[0]["name"], "Name");
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    let answer = read(table, format!("{MAPS}?includeObject=Object")).await.json();
    assert_eq!(answer["rows"][0]["object"]["data"]["k"], "v");
    let answer = read(table, format!("{MAPS}?includeObject=Nothing")).await;
    assert_eq!(answer.code, 400);
    let metadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let answer = read(metadata, MAPS.into()).await.json();
    assert_eq!(
        (&answer["kind"], &answer["items"][0]["data"]),
        (&json!("PartialObjectMetadataList"), &json!(null))
    );
    let answer = read("application/yaml", format!("{MAPS}/a")).await;
    assert!(String::from_utf8_lossy(&answer.bytes).contains("name: a"));
}

#[tokio::test(start_paused = true)]
async fn large_answers_are_compressed_for_who_wants_it() {
    let cluster = Cluster::new().await;
    let filler = "x".repeat(2000);
    for number in 0..700 {
        let body = format!(r#"{{"metadata":{{"name":"m{number}"}},"data":{{"k":"{filler}"}}}}"#);
        assert_eq!(cluster.run(&format!("POST {MAPS} {body}")).await.code, 201);
    }
    for limit in [0, 100] {
        let request = Request::builder()
            .uri(format!("{MAPS}?limit={limit}"))
            .header(header::ACCEPT_ENCODING, "gzip")
            .body(Body::empty());
        let answer = cluster.read(request.expect("a request")).await;
        assert_eq!(answer.headers[header::CONTENT_ENCODING], "gzip");
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*answer.bytes), &mut text)
            .expect("gzip");
        let list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let wanted = if limit == 0 { 700 } else { limit };
        assert_eq!(list["items"].as_array().map(Vec::len), Some(wanted));
    }
    assert_eq!(cluster.get(MAPS).await["items"].as_array().map(Vec::len), Some(700));
}

#[tokio::test(start_paused = true)]
async fn identities() {
    let cluster = Cluster::new().await;
    let anonymous = cluster.as_user(User::anonymous());
    anonymous
        .session(
            &["GET /api/v1/namespaces/default/pods", "GET /version", "GET /livez", "GET /apis"],
            expect![[r#"
                GET /api/v1/namespaces/default/pods
                    403 Forbidden: pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "default"
                GET /version
                    200 {"major":"1","minor":"37","gitVersion":"v1.37.2+windlass.0.1.0","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"rustc","platform":"linux/amd64"}
                GET /livez
                    200 ok
                GET /apis
                    403 Forbidden: forbidden: User "system:anonymous" cannot get path "/apis"
            "#]],
        )
        .await;
    let review = r#"POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews {"spec":{"resourceAttributes":{"verb":"get","resource":"pods","namespace":"default"}}}"#;
    assert_eq!(cluster.run(review).await.json()["status"]["allowed"], true);
    let who = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews {}";
    assert_eq!(cluster.run(who).await.json()["status"]["userInfo"]["username"], "admin");
    let rules = r#"POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews {"spec":{"namespace":"default"}}"#;
    let status = cluster.run(rules).await.json()["status"].clone();
    assert_eq!(status["incomplete"], false);
    assert_eq!(status["resourceRules"][0]["verbs"], json!(["*"]), "{status}");
    let subject = r#"POST /apis/authorization.k8s.io/v1/subjectaccessreviews {"spec":{"user":"eve","resourceAttributes":{"verb":"get","resource":"pods"}}}"#;
    assert_eq!(cluster.run(subject).await.json()["status"]["allowed"], false);
}

#[tokio::test(start_paused = true)]
async fn events_are_one_store_with_two_faces() {
    let cluster = Cluster::new().await;
    let event = json!({"metadata": {"name": "e.1"}, "involvedObject": {"kind": "Pod", "name": "p",
        "namespace": "default"}, "reason": "Started", "message": "hello", "type": "Normal",
        "source": {"component": "kubelet"}});
    let answer = cluster.run(&format!("POST /api/v1/namespaces/default/events {event}")).await;
    assert_eq!(answer.code, 201, "{}", answer.summary());
    let other = cluster.get("/apis/events.k8s.io/v1/namespaces/default/events/e.1").await;
    assert_eq!(
        (&other["apiVersion"], &other["note"]),
        (&json!("events.k8s.io/v1"), &json!("hello"))
    );
    let url = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Dp";
    assert_eq!(cluster.get(url).await["items"].as_array().map(Vec::len), Some(1));
    // They go an hour after they were last written.
    for minute in 0..75 {
        cluster.clock.advance(60);
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        let left = cluster.get(url).await["items"].as_array().map(Vec::len);
        if minute < 58 {
            assert_eq!(left, Some(1), "after {minute} minutes");
        }
    }
    assert_eq!(cluster.get(url).await["items"].as_array().map(Vec::len), Some(0));
}
