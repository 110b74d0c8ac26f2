//! Who owns which field after which write.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use windlass_apiserver_registry::{Manager, manager_name, record_manager};

use crate::{at, kind_of, stored};

fn check(object: &Value, expected: Expect) {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let lines: Vec<String> = entries
        .map(|entry| {
            let sub = entry["subresource"].as_str().unwrap_or("-");
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            format!(
                "{} {} {} {sub} {}\n  {}\n",
                text("manager"),
                text("operation"),
                text("apiVersion"),
                text("time"),
                entry["fieldsV1"]
            )
        })
        .collect();
    expected.assert_eq(&lines.concat());
}

fn write(old: &Value, by: &str, sub: &str, time: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut new = old.clone();
    change(&mut new);
    let by = Manager { name: by, subresource: sub, applies: false };
    record_manager(&kind_of(old), &mut new, Some(old), by, at(time));
    new
}

#[test]
fn a_create_owns_what_it_sets() {
    check(
        &stored(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}, finalizers: [example.com/x], ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: q}]}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {a: b}
      containers: [{name: web, image: a, args: [x], ports: [{containerPort: 80}], resources: {limits: {cpu: 1}}}]
",
        ),
        expect![[r#"
            test Update apps/v1 - 2026-11-23T17:00:00Z
              {"f:metadata":{"f:finalizers":{".":{},"v:\"example.com/x\"":{}},"f:labels":{".":{},"f:app":{}},"f:ownerReferences":{".":{},"k:{\"uid\":\"q\"}":{}}},"f:spec":{"f:progressDeadlineSeconds":{},"f:replicas":{},"f:revisionHistoryLimit":{},"f:selector":{},"f:strategy":{"f:rollingUpdate":{".":{},"f:maxSurge":{},"f:maxUnavailable":{}},"f:type":{}},"f:template":{"f:metadata":{"f:labels":{".":{},"f:app":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"web\"}":{".":{},"f:args":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":80,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:protocol":{}}},"f:resources":{".":{},"f:limits":{".":{},"f:cpu":{}}},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:nodeSelector":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}}}
        "#]],
    );
    check(
        &stored(
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}], selector: {a: b}}}",
        ),
        expect![[r#"
            test Update v1 - 2026-11-23T17:00:00Z
              {"f:spec":{"f:internalTrafficPolicy":{},"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:protocol":{},"f:targetPort":{}}},"f:selector":{},"f:sessionAffinity":{},"f:type":{}}}
        "#]],
    );
}

#[test]
fn what_go_writes_as_null_is_owned_too() {
    let event = "{apiVersion: v1, kind: Event, metadata: {name: a, namespace: default}, involvedObject: {namespace: default}, series: {count: 2}}";
    check(
        &stored(event),
        expect![[r#"
            test Update v1 - 2026-11-23T17:00:00Z
              {"f:involvedObject":{},"f:series":{".":{},"f:count":{},"f:lastObservedTime":{}}}
        "#]],
    );
    // A field may be owned in parts where its type is owned as a whole elsewhere.
    let volume = "{apiVersion: v1, kind: PersistentVolume, metadata: {name: a}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /a}, claimRef: {name: c, namespace: n}}}";
    check(
        &stored(volume),
        expect![[r#"
        test Update v1 - 2026-11-23T17:00:00Z
          {"f:spec":{"f:accessModes":{},"f:capacity":{".":{},"f:storage":{}},"f:claimRef":{".":{},"f:name":{},"f:namespace":{}},"f:hostPath":{".":{},"f:path":{},"f:type":{}},"f:persistentVolumeReclaimPolicy":{},"f:volumeMode":{}}}
    "#]],
    );
}

#[test]
fn items_without_their_key_leave_ownership_as_it_was() {
    let account = "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}, secrets: [{}]}";
    check(&stored(account), expect![[""]]);
    let named =
        stored("{apiVersion: v1, kind: ServiceAccount, metadata: {name: a, labels: {a: b}}}");
    let changed = write(&named, "other", "", "2026-11-23T18:00:00Z", |account| {
        account["secrets"] = json!([{}]);
    });
    check(
        &changed,
        expect![[r#"
        test Update v1 - 2026-11-23T17:00:00Z
          {"f:metadata":{"f:labels":{".":{},"f:a":{}}}}
    "#]],
    );
}

#[test]
fn changes_move_to_their_writer() {
    let map = stored(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {x: '1', y: '2', z: '3'}}",
    );
    let map = write(&map, "other", "", "2026-11-23T18:00:00Z", |map| {
        map["data"]["x"] = "9".into();
        map["data"].as_object_mut().expect("data").shift_remove("y");
        map["metadata"]["labels"] = json!({"a": "b"});
    });
    check(
        &map,
        expect![[r#"
        test Update v1 - 2026-11-23T17:00:00Z
          {"f:data":{".":{},"f:z":{}}}
        other Update v1 - 2026-11-23T18:00:00Z
          {"f:data":{"f:x":{}},"f:metadata":{"f:labels":{".":{},"f:a":{}}}}
    "#]],
    );
    // The same values again: nothing moves, no time does.
    let same = write(&map, "third", "", "2026-11-23T19:00:00Z", |_| {});
    assert_eq!(same, map);
    // A value that the writer owns already: its set stays, so its time does.
    let own = write(&map, "other", "", "2026-11-23T19:00:00Z", |map| map["data"]["x"] = "8".into());
    check(
        &own,
        expect![[r#"
        test Update v1 - 2026-11-23T17:00:00Z
          {"f:data":{".":{},"f:z":{}}}
        other Update v1 - 2026-11-23T18:00:00Z
          {"f:data":{"f:x":{}},"f:metadata":{"f:labels":{".":{},"f:a":{}}}}
    "#]],
    );
    // A client that sends no managedFields at all doesn't lose them; one empty entry resets them.
    let absent = write(&map, "other", "", "2026-11-23T19:00:00Z", |map| {
        map["metadata"].as_object_mut().expect("metadata").shift_remove("managedFields");
    });
    assert_eq!(absent["metadata"]["managedFields"], map["metadata"]["managedFields"]);
    let reset = write(&map, "other", "", "2026-11-23T19:00:00Z", |map| {
        map["metadata"]["managedFields"] = json!([{}]);
        map["data"]["x"] = "7".into();
    });
    check(&reset, expect![""]);
}

#[test]
fn subresources_are_apart() {
    let pod = stored(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: a}]}}",
    );
    let pod = write(&pod, "windlass", "status", "2026-11-23T18:00:00Z", |pod| {
        pod["status"]["phase"] = "Running".into();
        pod["status"]["podIPs"] = json!([{"ip": "127.64.0.1"}]);
        pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True", "lastTransitionTime": "2026-11-23T18:00:00Z"}]);
        pod["status"]["containerStatuses"] = json!([{"name": "a", "ready": true}]);
    });
    check(
        &pod,
        expect![[r#"
            test Update v1 - 2026-11-23T17:00:00Z
              {"f:spec":{"f:containers":{"k:{\"name\":\"a\"}":{".":{},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"f:resources":{},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"f:terminationGracePeriodSeconds":{}}}
            windlass Update v1 status 2026-11-23T18:00:00Z
              {"f:status":{"f:conditions":{".":{},"k:{\"type\":\"Ready\"}":{".":{},"f:lastTransitionTime":{},"f:status":{},"f:type":{}}},"f:containerStatuses":{},"f:phase":{},"f:podIPs":{".":{},"k:{\"ip\":\"127.64.0.1\"}":{".":{},"f:ip":{}}}}}
        "#]],
    );
}

#[test]
fn old_managers_are_merged() {
    let mut map = stored("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {a: b}}");
    for number in 0..12 {
        let time = format!("2026-11-23T18:00:{number:02}Z");
        map = write(&map, &format!("m{number}"), "", &time, |map| {
            map["data"][format!("k{number}")] = "v".into();
        });
    }
    check(
        &map,
        expect![[r#"
            ancient-changes Update v1 - 2026-11-23T18:00:02Z
              {"f:data":{".":{},"f:a":{},"f:k0":{},"f:k1":{},"f:k2":{}}}
            m3 Update v1 - 2026-11-23T18:00:03Z
              {"f:data":{"f:k3":{}}}
            m4 Update v1 - 2026-11-23T18:00:04Z
              {"f:data":{"f:k4":{}}}
            m5 Update v1 - 2026-11-23T18:00:05Z
              {"f:data":{"f:k5":{}}}
            m6 Update v1 - 2026-11-23T18:00:06Z
              {"f:data":{"f:k6":{}}}
            m7 Update v1 - 2026-11-23T18:00:07Z
              {"f:data":{"f:k7":{}}}
            m8 Update v1 - 2026-11-23T18:00:08Z
              {"f:data":{"f:k8":{}}}
            m9 Update v1 - 2026-11-23T18:00:09Z
              {"f:data":{"f:k9":{}}}
            m10 Update v1 - 2026-11-23T18:00:10Z
              {"f:data":{"f:k10":{}}}
            m11 Update v1 - 2026-11-23T18:00:11Z
              {"f:data":{"f:k11":{}}}
        "#]],
    );
}

#[test]
fn managers_are_named_after_their_client() {
    assert_eq!(manager_name("mine", "kubectl/v1.37"), "mine");
    assert_eq!(manager_name("", "kubectl/v1.37 (linux)"), "kubectl");
    assert_eq!(manager_name("", &"x".repeat(200)).len(), 128);
}
