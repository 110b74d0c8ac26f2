//! What `kubectl get` shows.

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use windlass_apiserver_registry::IncludeObject;

use crate::{at, kind_of, stored, yaml};

fn row(object: &Value) -> String {
    let row = kind_of(object).row(object, IncludeObject::None, at("2026-11-23T17:05:00Z"));
    let cells = row["cells"].as_array().expect("cells").iter();
    let texts = cells.map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned));
    texts.collect::<Vec<_>>().join(" | ")
}

fn check(body: &str, expected: Expect) {
    let object = stored(body);
    let kind = kind_of(&object);
    let cells = row(&object);
    assert_eq!(cells.split(" | ").count(), kind.columns.len(), "{cells}");
    expected.assert_eq(&cells);
}

#[test]
fn rows_of_each_kind() {
    check("{apiVersion: v1, kind: Namespace, metadata: {name: a}}", expect!["a | Active | 5m"]);
    check(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {a: b}, binaryData: {c: ''}}",
        expect!["a | 2 | 5m"],
    );
    check(
        "{apiVersion: v1, kind: Secret, metadata: {name: a}, data: {a: ''}}",
        expect!["a | Opaque | 1 | 5m"],
    );
    check("{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}", expect!["a | 5m"]);
    check(
        "
apiVersion: v1
kind: Node
metadata: {name: n, labels: {node-role.kubernetes.io/worker: '', kubernetes.io/role: agent}}
spec: {unschedulable: true}
status:
  conditions: [{type: Ready, status: 'True'}]
  addresses: [{type: InternalIP, address: 127.0.0.1}]
  nodeInfo: {kubeletVersion: v1.37.0, osImage: Debian, kernelVersion: '6.1', architecture: amd64}
",
        expect![
            "n | Ready,SchedulingDisabled | agent,worker | 5m | v1.37.0 | 127.0.0.1 | <none> | Debian | 6.1 (amd64) | <unknown>"
        ],
    );
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {selector: {b: c, a: b}, ports: [{name: a, port: 80}, {name: b, port: 81, protocol: UDP}]}}",
        expect!["a | ClusterIP | 127.96.0.5 | <none> | 80/TCP,81/UDP | 5m | a=b,b=c"],
    );
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: LoadBalancer, ports: [{port: 80, nodePort: 30000}]}}",
        expect!["a | LoadBalancer | 127.96.0.5 | <pending> | 80:30000/TCP | 5m | <none>"],
    );
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: ExternalName, externalName: x.y}}",
        expect!["a | ExternalName | <none> | x.y | <none> | 5m | <none>"],
    );
    check(
        "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: a}, spec: {holderIdentity: me}}",
        expect!["a | me | 5m"],
    );
    check(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4, ports: [{port: 80}], endpoints: [{addresses: [127.64.0.1]}, {addresses: [127.64.0.2]}, {addresses: [127.64.0.3]}, {addresses: [127.64.0.4]}]}",
        expect!["a | IPv4 | 80 | 127.64.0.1,127.64.0.2,127.64.0.3 + 1 more... | 5m"],
    );
    check(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4}",
        expect!["a | IPv4 | <unset> | <unset> | 5m"],
    );
    check(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: a}}",
        expect!["a | 2026-11-23T17:00:00Z"],
    );
    check(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: a}, roleRef: {kind: Role, name: r}, subjects: [{kind: User, name: u}, {kind: User, name: v}, {kind: Group, name: g}, {kind: ServiceAccount, name: s, namespace: n}]}",
        expect!["a | Role/r | 5m | u, v | g | n/s"],
    );
    check(
        "{apiVersion: v1, kind: Event, metadata: {name: a, namespace: default}, involvedObject: {kind: Pod, name: p, namespace: default, fieldPath: 'spec.x'}, reason: Killing, type: Normal, message: ' stop ', source: {component: c, host: h}, firstTimestamp: '2026-11-23T17:00:00Z', lastTimestamp: '2026-11-23T17:04:00Z', count: 3}",
        expect!["60s | Normal | Killing | pod/p | spec.x | c, h | stop | 5m | 3 | a"],
    );
    check(
        "{apiVersion: v1, kind: Event, metadata: {name: a, namespace: default}, involvedObject: {kind: Pod, name: p, namespace: default}, reason: R, action: A, type: Normal, eventTime: '2026-11-23T17:00:00.000000Z', reportingComponent: example.com/c, reportingInstance: i}",
        expect!["5m | Normal | R | pod/p |  | example.com/c, i |  | 5m | 1 | a"],
    );
    let template = "selector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: In, values: [y, x]}]}, template: {metadata: {labels: {a: b, c: x}}, spec: {containers: [{name: one, image: i}, {name: two, image: j}]}}";
    for kind in ["Deployment", "ReplicaSet"] {
        let body = format!(
            "{{apiVersion: apps/v1, kind: {kind}, metadata: {{name: a}}, spec: {{replicas: 2, {template}}}}}"
        );
        let expected = match kind {
            "Deployment" => expect!["a | 0/2 | 0 | 0 | 5m | one,two | i,j | a=b,c in (x,y)"],
            _ => expect!["a | 2 | 0 | 0 | 5m | one,two | i,j | a=b,c in (x,y)"],
        };
        check(&body, expected);
    }
}

#[test]
fn the_status_of_a_pod_is_one_word() {
    let pod = stored(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {initContainers: [{name: i, image: a}, {name: j, image: a}], containers: [{name: a, image: a}, {name: b, image: a}]}}",
    );
    let show = |status: &str, change: fn(&mut Value)| {
        let mut pod = pod.clone();
        pod["status"] = yaml(status);
        change(&mut pod);
        row(&pod)
    };
    let plain = |status: &str| show(status, |_| {});
    let all = [
        plain("{phase: Pending}"),
        plain(
            "{phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: SchedulingGated}]}",
        ),
        plain(
            "{phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 0}}}, {name: j, state: {running: {}}}]}",
        ),
        plain(
            "{phase: Pending, initContainerStatuses: [{name: i, restartCount: 2, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 1, finishedAt: '2026-11-23T17:04:30Z'}}}]}",
        ),
        plain(
            "{phase: Pending, initContainerStatuses: [{name: i, state: {terminated: {exitCode: 3}}}]}",
        ),
        plain(
            "{phase: Running, podIPs: [{ip: 127.64.0.1}], containerStatuses: [{name: a, ready: true, state: {running: {}}}, {name: b, restartCount: 4, state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {finishedAt: '2026-11-23T17:04:55Z'}}}]}",
        ),
        plain(
            "{phase: Succeeded, containerStatuses: [{name: a, state: {terminated: {exitCode: 0, reason: Completed}}}, {name: b, state: {terminated: {exitCode: 0, reason: Completed}}}]}",
        ),
        plain(
            "{phase: Failed, containerStatuses: [{name: a, state: {terminated: {exitCode: 3, reason: Error}}}, {name: b, state: {terminated: {exitCode: 0, reason: Completed}}}]}",
        ),
        plain(
            "{phase: Running, conditions: [{type: Ready, status: 'True'}], containerStatuses: [{name: a, state: {terminated: {exitCode: 0, reason: Completed}}}, {name: b, ready: true, state: {running: {}}}]}",
        ),
        plain("{phase: Failed, reason: Evicted}"),
        show("{phase: Running}", |pod| {
            pod["metadata"]["deletionTimestamp"] = "2026-11-23T17:00:00Z".into()
        }),
        show("{phase: Running, reason: NodeLost}", |pod| {
            pod["metadata"]["deletionTimestamp"] = "2026-11-23T17:00:00Z".into()
        }),
        show(
            "{phase: Running, nominatedNodeName: m, conditions: [{type: x/y, status: 'True'}]}",
            |pod| {
                pod["spec"]["nodeName"] = "n".into();
                pod["spec"]["readinessGates"] =
                    json!([{"conditionType": "x/y"}, {"conditionType": "x/z"}]);
            },
        ),
    ];
    expect![[r#"
        a | 0/2 | Pending | 0 | 5m | <none> | <none> | <none> | <none>
        a | 0/2 | SchedulingGated | 0 | 5m | <none> | <none> | <none> | <none>
        a | 0/2 | Init:1/2 | 0 | 5m | <none> | <none> | <none> | <none>
        a | 0/2 | Init:CrashLoopBackOff | 2 (30s ago) | 5m | <none> | <none> | <none> | <none>
        a | 0/2 | Init:ExitCode:3 | 0 | 5m | <none> | <none> | <none> | <none>
        a | 1/2 | CrashLoopBackOff | 4 (5s ago) | 5m | 127.64.0.1 | <none> | <none> | <none>
        a | 0/2 | Completed | 0 | 5m | <none> | <none> | <none> | <none>
        a | 0/2 | Error | 0 | 5m | <none> | <none> | <none> | <none>
        a | 1/2 | Running | 0 | 5m | <none> | <none> | <none> | <none>
        a | 0/2 | Evicted | 0 | 5m | <none> | <none> | <none> | <none>
        a | 0/2 | Terminating | 0 | 5m | <none> | <none> | <none> | <none>
        a | 0/2 | Unknown | 0 | 5m | <none> | <none> | <none> | <none>
        a | 0/2 | Running | 0 | 5m | <none> | n | m | 1/2"#]]
    .assert_eq(&all.join("\n"));
}

#[test]
fn a_table_has_columns_and_rows() {
    let map = stored("{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}");
    let kind = kind_of(&map);
    let rows = vec![kind.row(&map, IncludeObject::Metadata, at("2026-11-23T17:05:00Z"))];
    let mut table = kind.table(rows, json!({"resourceVersion": "9"}), true);
    table["rows"][0]["object"]["metadata"]
        .as_object_mut()
        .expect("metadata")
        .shift_remove("managedFields");
    expect![[r#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"9"},"columnDefinitions":[{"name":"Name","type":"string","format":"name","description":"","priority":0},{"name":"Data","type":"string","format":"","description":"","priority":0},{"name":"Age","type":"string","format":"","description":"","priority":0}],"rows":[{"cells":["a",0,"5m"],"object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"a","namespace":"default","uid":"u","creationTimestamp":"2026-11-23T17:00:00Z","resourceVersion":"5"}}}]}"#]].assert_eq(&table.to_string());
}
