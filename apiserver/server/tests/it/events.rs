//! Events: one store, two groups, of which the newer one is the stricter.

use axum::body::Body;
use expect_test::expect;
use http::{Request, header};
use serde_json::{Value, json};

use crate::Cluster;

const NEW: &str = "/apis/events.k8s.io/v1/namespaces/default/events";
const OLD: &str = "/api/v1/namespaces/default/events";

fn event(name: &str, change: impl Fn(&mut Value)) -> Value {
    let mut event = json!({"metadata": {"name": name}, "eventTime": "2026-01-01T00:00:00.000000Z",
        "reportingController": "example.com/c", "reportingInstance": "c-0", "action": "Act",
        "reason": "Because", "type": "Normal", "note": "hello",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"}});
    change(&mut event);
    event
}

#[tokio::test(start_paused = true)]
async fn writers_of_the_new_group_are_held_to_all_rules() {
    let cluster = Cluster::new().await;
    let long = "x".repeat(1025);
    let creates = [
        event("a", |_| {}),
        event("A_b", |_| {}),
        event("b", |event| event["eventTime"] = Value::Null),
        event("b", |event| {
            for key in ["reportingController", "reportingInstance", "action", "reason", "type"] {
                event[key] = json!("");
            }
        }),
        event("b", |event| {
            event["reportingController"] = json!("not valid");
            for key in ["reportingInstance", "action", "reason", "note"] {
                event[key] = json!(long);
            }
        }),
        event("b", |event| {
            event["deprecatedFirstTimestamp"] = json!("2026-01-01T00:00:00Z");
            event["deprecatedLastTimestamp"] = json!("2026-01-01T00:00:00Z");
            event["deprecatedCount"] = json!(3);
            event["deprecatedSource"] = json!({"component": "c"});
        }),
        event("b", |event| event["series"] = json!({"count": 1})),
        event("b", |event| event["regarding"] = json!({"kind": "Node", "name": "n"})),
    ];
    let mut out = String::new();
    for body in creates {
        out += &format!("{}\n", cluster.run(&format!("POST {NEW} {body}")).await.summary());
    }
    let old = json!({"metadata": {"name": "A_b"}, "reason": "r", "involvedObject": {}});
    out += &format!("{}\n", cluster.run(&format!("POST {OLD} {old}")).await.summary());
    let old = json!({"metadata": {"name": "c"}, "eventTime": "2026-01-01T00:00:00.000000Z", "involvedObject": {}});
    out += &format!("{}\n", cluster.run(&format!("POST {OLD} {old}")).await.summary());
    expect![[r#"
        201 Event a
        422 Invalid: Event "A_b" is invalid: metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
        422 Invalid: Event "b" is invalid: eventTime: Required value
        422 Invalid: Event "b" is invalid: [reportingController: Required value, reportingController: Invalid value: "": name part must be non-empty, reportingController: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), reportingInstance: Required value, action: Required value, reason: Required value, type: Invalid value: "": has invalid value: ]
        422 Invalid: Event "b" is invalid: [reportingController: Invalid value: "not valid": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), reportingInstance: Invalid value: "": can have at most 128 characters, action: Invalid value: "": can have at most 128 characters, reason: Invalid value: "": can have at most 128 characters, message: Invalid value: "": can have at most 1024 characters]
        422 Invalid: Event "b" is invalid: [firstTimestamp: Invalid value: "": needs to be unset, lastTimestamp: Invalid value: "": needs to be unset, count: Invalid value: "": needs to be unset, source: Invalid value: "": needs to be unset]
        422 Invalid: Event "b" is invalid: [series.count: Invalid value: "": should be at least 2, series.lastObservedTime: Required value]
        201 Event b
        201 Event A_b
        422 Invalid: Event "c" is invalid: [reportingComponent: Required value, reportingComponent: Invalid value: "": name part must be non-empty, reportingComponent: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), reportingInstance: Required value, action: Required value, reason: Required value]
    "#]].assert_eq(&out);
}

#[tokio::test(start_paused = true)]
async fn what_an_event_tells_stays() {
    let cluster = Cluster::new().await;
    cluster.run(&format!("POST {NEW} {}", event("a", |_| {}))).await;
    let change = |group: &str, patch: Value| format!("PATCH {group}/a merge {patch}");
    let all = json!({"regarding": {"name": "q"}, "note": "other", "reason": "Other",
        "type": "Warning", "action": "Other", "related": {"kind": "Node", "name": "n"},
        "reportingController": "example.com/d", "reportingInstance": "d",
        "deprecatedCount": 2, "deprecatedSource": {"component": "x", "host": "y"},
        "deprecatedFirstTimestamp": "2026-01-01T00:00:00Z", "eventTime": "2026-01-01T00:00:01.000000Z"});
    let series = |count: i64| json!({"series": {"count": count, "lastObservedTime": "2026-01-01T00:00:09.000000Z"}});
    let mut out = String::new();
    for step in [
        change(NEW, all),
        change(NEW, series(1)),
        change(NEW, series(2)),
        change(NEW, json!({"series": {"lastObservedTime": null}})),
        change(NEW, json!({"related": {}})),
        change(OLD, json!({"message": "other", "series": {"count": 1}})),
    ] {
        out += &format!("{}\n", cluster.run(&step).await.summary());
    }
    // What was written in either group is owned in its words.
    let owned = cluster.get(&format!("{NEW}/a")).await;
    for entry in owned["metadata"]["managedFields"].as_array().into_iter().flatten() {
        out += &format!("{} {} {}\n", entry["manager"], entry["apiVersion"], entry["fieldsV1"]);
    }
    expect![[r#"
        422 Invalid: Event "a" is invalid: [involvedObject: Invalid value: {"Kind":"Pod","Namespace":"default","Name":"q","UID":"","APIVersion":"","ResourceVersion":"","FieldPath":""}: field is immutable, reason: Invalid value: "Other": field is immutable, message: Invalid value: "other": field is immutable, source: Invalid value: {"Component":"x","Host":"y"}: field is immutable, firstTimestamp: Invalid value: "2026-01-01T00:00:00Z": field is immutable, count: Invalid value: 2: field is immutable, type: Invalid value: "Warning": field is immutable, action: Invalid value: "Other": field is immutable, related: Invalid value: {"Kind":"Node","Namespace":"","Name":"n","UID":"","APIVersion":"","ResourceVersion":"","FieldPath":""}: field is immutable, reportingController: Invalid value: "example.com/d": field is immutable, reportingInstance: Invalid value: "d": field is immutable, eventTime: Invalid value: "2026-01-01T00:00:01.000000Z": field is immutable]
        422 Invalid: Event "a" is invalid: series.count: Invalid value: "": should be at least 2
        200 Event a
        422 Invalid: Event "a" is invalid: series.lastObservedTime: Required value
        422 Invalid: Event "a" is invalid: related: Invalid value: {"Kind":"","Namespace":"","Name":"","UID":"","APIVersion":"","ResourceVersion":"","FieldPath":""}: field is immutable
        200 Event a
        "tester" "events.k8s.io/v1" {"f:action":{},"f:eventTime":{},"f:reason":{},"f:regarding":{},"f:reportingController":{},"f:reportingInstance":{},"f:series":{".":{},"f:lastObservedTime":{}},"f:type":{}}
        "tester" "v1" {"f:message":{},"f:series":{"f:count":{}}}
    "#]].assert_eq(&out);
}

#[tokio::test(start_paused = true)]
async fn rows_are_the_same_in_both_groups() {
    let cluster = Cluster::new().await;
    cluster.run(&format!("POST {NEW} {}", event("a", |_| {}))).await;
    let mut shown = Vec::new();
    for group in [NEW, OLD] {
        let request = Request::builder()
            .uri(format!("{group}?includeObject=Object"))
            .header(header::ACCEPT, "application/json;as=Table;v=v1;g=meta.k8s.io");
        let table = cluster.read(request.body(Body::empty()).expect("a request")).await.json();
        shown.push(table["rows"][0].clone());
    }
    assert_eq!(shown[0]["cells"], shown[1]["cells"]);
    assert_eq!((&shown[0]["cells"][3], &shown[0]["cells"][6]), (&json!("pod/p"), &json!("hello")));
    assert_eq!(
        (&shown[0]["object"]["note"], &shown[1]["object"]["message"]),
        (&json!("hello"), &json!("hello"))
    );
}
