//! Server-side apply: what a series of writes makes of an object, and who owns what of it.

use expect_test::{Expect, expect};
use serde_json::Value;
use windlass_apiserver_registry::{Manager, apply, record_manager};
use windlass_apiserver_schema::{FieldValidation, Target, decode_config};
use windlass_sdk_meta::Status;

use crate::{at, kind_of};

/// Writes one after the other: `who: body` applies, `who!: body` applies by force, `who=: body` is
/// an update of the whole object, `who/status: body` applies to the subresource. What comes out is
/// the object without its identity, then its managers; or the refusal of the last write.
fn check(writes: &[&str], expected: Expect) {
    let mut object: Option<Value> = None;
    let mut said = String::new();
    for (n, write) in writes.iter().enumerate() {
        let (who, body) = write.split_once(": ").expect("who: body");
        let time = at(&format!("2026-11-23T18:00:{n:02}Z"));
        match run(object.as_ref(), who, body, time) {
            Ok(next) => object = Some(next),
            Err(status) => {
                said = format!("{} {}\n", status.code, status.message);
                for cause in status.details.into_iter().flat_map(|details| details.causes) {
                    said += &format!("  {} {} {}\n", cause.reason, cause.field, cause.message);
                }
            }
        }
    }
    let object = object.expect("something was made");
    expected.assert_eq(&format!("{}{said}", shown(&object)));
}

fn run(
    old: Option<&Value>,
    who: &str,
    body: &str,
    time: windlass_sdk_meta::Timestamp,
) -> Result<Value, Status> {
    let body = format!("apiVersion: v1\n{body}");
    let tree: Value = serde_yaml_ng::from_str(&body).expect("yaml");
    let kind = kind_of(&tree);
    let who = who.trim();
    let (who, updates) = who.strip_suffix('=').map_or((who, false), |who| (who, true));
    let (who, force) = who.strip_suffix('!').map_or((who, false), |who| (who, true));
    let (name, subresource) = who.split_once('/').unwrap_or((who, ""));
    let by = Manager { name, subresource, applies: !updates };
    let mut object = if updates {
        tree
    } else {
        let gvk = kind.gvk();
        let target = Target::new(&gvk.group, &gvk.version, &gvk.kind);
        let config = decode_config(body.as_bytes(), &target, FieldValidation::Ignore)?.value;
        apply(&kind, old, &config, by, force, time)?
    };
    kind.default(&mut object);
    record_manager(&kind, &mut object, old, by, time);
    Ok(object)
}

fn shown(object: &Value) -> String {
    let mut rest = object.clone();
    let metadata = rest["metadata"].as_object_mut().expect("metadata");
    metadata.shift_remove("name");
    let entries = metadata.shift_remove("managedFields").unwrap_or_default();
    for key in ["apiVersion", "kind"] {
        rest.as_object_mut().expect("an object").shift_remove(key);
    }
    let mut text = format!("{rest}\n");
    for entry in entries.as_array().into_iter().flatten() {
        let of = |key: &str| entry[key].as_str().unwrap_or_default();
        let second = of("time").get(17..19).unwrap_or_default();
        let sub = entry["subresource"].as_str().map(|sub| format!("/{sub}")).unwrap_or_default();
        let fields = &entry["fieldsV1"];
        text += &format!("{}{sub} {} {second} {fields}\n", of("manager"), of("operation"));
    }
    text
}

#[test]
fn an_applier_owns_what_it_names_and_takes_it_away_again() {
    let map = "kind: ConfigMap\nmetadata: {name: a}\n";
    check(
        &[
            &format!("one: {map}data: {{x: '1', y: '2'}}"),
            &format!("two: {map}data: {{y: '2', z: '3'}}"),
            // x is nobody's any more, y is still two's.
            &format!("one: {map}data: {{}}"),
        ],
        expect![[r#"
            {"metadata":{},"data":{"y":"2","z":"3"}}
            two Apply 01 {"f:data":{"f:y":{},"f:z":{}}}
            one Apply 02 {"f:data":{}}
        "#]],
    );
    // Nothing new: no time moves.
    check(
        &[&format!("one: {map}data: {{x: '1'}}"), &format!("one: {map}data: {{x: '1'}}")],
        expect![[r#"
            {"metadata":{},"data":{"x":"1"}}
            one Apply 00 {"f:data":{"f:x":{}}}
        "#]],
    );
}

#[test]
fn what_others_own_is_a_conflict_unless_forced() {
    let map = "kind: ConfigMap\nmetadata: {name: a}\n";
    let first = format!("one: {map}data: {{x: '1', y: '2'}}");
    let edit = format!("editor=: {map}data: {{x: '9', y: '2'}}");
    check(
        &[&first, &edit, &first],
        expect![[r#"
            {"metadata":{},"data":{"x":"9","y":"2"}}
            one Apply 00 {"f:data":{"f:y":{}}}
            editor Update 01 {"f:data":{"f:x":{}}}
            409 Apply failed with 1 conflict: conflict with "editor" using v1: .data.x
              FieldManagerConflict .data.x conflict with "editor" using v1
        "#]],
    );
    check(
        &[&first, &edit, &format!("one!: {map}data: {{x: '1', y: '2'}}")],
        expect![[r#"
            {"metadata":{},"data":{"x":"1","y":"2"}}
            one Apply 02 {"f:data":{"f:x":{},"f:y":{}}}
        "#]],
    );
    check(
        &[&first, &format!("two: {map}data: {{x: '3', y: '4'}}")],
        expect![[r#"
            {"metadata":{},"data":{"x":"1","y":"2"}}
            one Apply 00 {"f:data":{"f:x":{},"f:y":{}}}
            409 Apply failed with 2 conflicts: conflicts with "one":
            - .data.x
            - .data.y
              FieldManagerConflict .data.x conflict with "one"
              FieldManagerConflict .data.y conflict with "one"
        "#]],
    );
    // The same value is shared.
    check(
        &[&first, &format!("two: {map}data: {{x: '1'}}")],
        expect![[r#"
            {"metadata":{},"data":{"x":"1","y":"2"}}
            two Apply  {"f:data":{"f:x":{}}}
            one Apply 00 {"f:data":{"f:x":{},"f:y":{}}}
        "#]],
    );
}

#[test]
fn lists_are_merged_by_key_and_keep_their_order() {
    let service = "kind: Service\nmetadata: {name: a}\n";
    check(
        &[
            &format!(
                "one: {service}spec: {{ports: [{{port: 80, name: web}}, {{port: 81, name: b}}]}}"
            ),
            &format!(
                "two: {service}spec: {{ports: [{{port: 90, name: c}}, {{port: 81, name: b}}]}}"
            ),
            &format!("one: {service}spec: {{ports: [{{port: 81, name: b}}]}}"),
        ],
        expect![[r#"
            {"metadata":{},"spec":{"ports":[{"port":90,"name":"c","protocol":"TCP","targetPort":90},{"port":81,"name":"b","protocol":"TCP","targetPort":81}],"sessionAffinity":"None","type":"ClusterIP","internalTrafficPolicy":"Cluster"}}
            two Apply 01 {"f:spec":{"f:ports":{"k:{\"port\":81,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{}},"k:{\"port\":90,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{}}}}}
            one Apply 02 {"f:spec":{"f:ports":{"k:{\"port\":81,\"protocol\":\"TCP\"}":{".":{},"f:name":{},"f:port":{}}}}}
        "#]],
    );
    let pod = "kind: Pod\nmetadata: {name: a, finalizers: [example.com/a]}\n";
    check(
        &[
            &format!("one: {pod}spec: {{containers: [{{name: a, image: a}}]}}"),
            "two: kind: Pod\nmetadata: {name: a, finalizers: [example.com/b]}",
            "one: kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: a, resources: {limits: {cpu: 1}}}]}",
        ],
        expect![[r#"
            {"metadata":{"finalizers":["example.com/b"]},"spec":{"containers":[{"name":"a","image":"a","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"Always","resources":{"limits":{"cpu":"1"},"requests":{"cpu":"1"}}}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30,"enableServiceLinks":true}}
            two Apply 01 {"f:metadata":{"f:finalizers":{"v:\"example.com/b\"":{}}}}
            one Apply 02 {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{},"f:resources":{"f:limits":{"f:cpu":{}}}}}}}
        "#]],
    );
}

#[test]
fn what_is_no_config_is_refused() {
    let map = "kind: ConfigMap\nmetadata: {name: a}\n";
    let first = format!("one: {map}data: {{x: '1'}}");
    check(
        &[&first, &format!("one: {map}datum: {{x: '1'}}")],
        expect![[r#"
            {"metadata":{},"data":{"x":"1"}}
            one Apply 00 {"f:data":{"f:x":{}}}
            400 failed to create typed patch object (/a; v1, Kind=ConfigMap): .datum: field not declared in schema
        "#]],
    );
    check(
        &[&first, "one: kind: ConfigMap\nmetadata: {name: a, managedFields: [{manager: me}]}"],
        expect![[r#"
            {"metadata":{},"data":{"x":"1"}}
            one Apply 00 {"f:data":{"f:x":{}}}
            400 metadata.managedFields must be nil
        "#]],
    );
    let pod = "kind: Pod\nmetadata: {name: a}\n";
    let one = format!("one: {pod}spec: {{containers: [{{name: a, image: a}}]}}");
    check(
        &[&one, &format!("one: {pod}spec: {{containers: [{{image: a}}]}}")],
        expect![[r#"
            {"metadata":{},"spec":{"containers":[{"name":"a","image":"a","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"Always"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30,"enableServiceLinks":true}}
            one Apply 00 {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{}}}}}
            400 failed to create typed patch object (/a; v1, Kind=Pod): .spec.containers: element 0: associative list with keys has an element that omits key field "name" (and doesn't have default value)
        "#]],
    );
    check(
        &[&one, &format!("one: {pod}spec: {{containers: [{{name: a}}, {{name: a}}]}}")],
        expect![[r#"
            {"metadata":{},"spec":{"containers":[{"name":"a","image":"a","terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File","imagePullPolicy":"Always"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30,"enableServiceLinks":true}}
            one Apply 00 {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:name":{}}}}}
            400 failed to create typed patch object (/a; v1, Kind=Pod): .spec.containers: duplicate entries for key [name="a"]
        "#]],
    );
}

#[test]
fn kubectl_hands_over_from_its_own_side_to_the_server() {
    let map = "kind: ConfigMap\nmetadata: {name: a, annotations: {kubectl.kubernetes.io/last-applied-configuration: '{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"},\"data\":{\"x\":\"1\"}}'}}\n";
    let client_side = format!("kubectl-client-side-apply=: {map}data: {{x: '1', y: '7'}}");
    let plain = "kind: ConfigMap\nmetadata: {name: a}\n";
    // x was applied before, so changing it is no conflict; y never was.
    check(
        &[&client_side, &format!("kubectl: {plain}data: {{x: '2'}}")],
        expect![[r#"
            {"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"},\"data\":{\"x\":\"2\"}}"}},"data":{"x":"2","y":"7"}}
            kubectl Apply 01 {"f:data":{"f:x":{}}}
            kubectl-client-side-apply Update 00 {"f:data":{".":{},"f:y":{}},"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}}}}
        "#]],
    );
    check(
        &[&client_side, &format!("kubectl: {plain}data: {{y: '2'}}")],
        expect![[r#"
            {"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{\"name\":\"a\"},\"data\":{\"x\":\"1\"}}"}},"data":{"x":"1","y":"7"}}
            kubectl-client-side-apply Update 00 {"f:data":{".":{},"f:x":{},"f:y":{}},"f:metadata":{"f:annotations":{".":{},"f:kubectl.kubernetes.io/last-applied-configuration":{}}}}
            409 Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using v1: .data.y
              FieldManagerConflict .data.y conflict with "kubectl-client-side-apply" using v1
        "#]],
    );
}

#[test]
fn a_first_apply_makes_the_object() {
    check(
        &["one: kind: Service\nmetadata: {name: a, labels: {x: y}}\nspec: {ports: [{port: 80}]}"],
        expect![[r#"
            {"metadata":{"labels":{"x":"y"}},"spec":{"ports":[{"port":80,"protocol":"TCP","targetPort":80}],"sessionAffinity":"None","type":"ClusterIP","internalTrafficPolicy":"Cluster"}}
            one Apply 00 {"f:metadata":{"f:labels":{"f:x":{}}},"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}}}}
        "#]],
    );
}
