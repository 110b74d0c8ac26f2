use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};
use windlass_sdk_types::{EndpointSlice, Kind, Pod, Service};

use super::plan::{Action, MAX_ENDPOINTS, Observed, Plan, is_managed, plan};
use crate::testing::{deleting, merge, owner, pod, service, unready};

fn run(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>]) -> Plan {
    let zones = BTreeMap::from([("n1".to_owned(), "z1".to_owned())]);
    plan(&Observed { service, pods, slices, zones: &zones })
}

fn check(service: &Service, pods: &[Arc<Pod>], slices: &[Arc<EndpointSlice>], expected: Expect) {
    let plan = run(service, pods, slices);
    let mut text = format!("{}\n", plan.why);
    for action in &plan.actions {
        let line = match action {
            Action::Create(slice) => format!("create {}", show(slice)),
            Action::Update(slice) => format!("update {} {}", slice.name(), show(slice)),
            Action::Delete(slice) => format!("delete {}", slice.name()),
        };
        writeln!(text, "{line}").unwrap();
    }
    expected.assert_eq(&text);
}

fn show(slice: &EndpointSlice) -> String {
    let ports = slice.ports.iter().flatten().map(|port| {
        let name = port.name.as_deref().unwrap_or_default();
        format!("{name}:{}/{}", port.port.unwrap(), port.protocol.as_deref().unwrap())
    });
    let endpoints = slice.endpoints.iter().flatten().map(|endpoint| {
        let name = endpoint.target_ref.as_ref().unwrap().name.clone().unwrap();
        let conditions = endpoint.conditions.as_ref().unwrap();
        let flags = [
            (conditions.ready, "ready"),
            (conditions.serving, "serving"),
            (conditions.terminating, "terminating"),
        ];
        let flags: Vec<&str> =
            flags.iter().filter(|(on, _)| *on == Some(true)).map(|(_, name)| *name).collect();
        format!("{name}={}[{}]", endpoint.addresses.join(","), flags.join(" "))
    });
    let ports: Vec<String> = ports.collect();
    let endpoints: Vec<String> = endpoints.collect();
    format!("{} {} {}", slice.address_type, ports.join(","), endpoints.join(" ")).trim_end().into()
}

/// Gives a planned slice what the server would: a name and a revision.
fn stored(name: &str, slice: &EndpointSlice) -> Arc<EndpointSlice> {
    let mut slice = slice.clone();
    slice.metadata.name = Some(name.into());
    slice.metadata.uid = Some(name.into());
    Arc::new(slice)
}

fn apply(slices: &mut Vec<Arc<EndpointSlice>>, actions: &[Action]) {
    for action in actions {
        match action {
            Action::Create(slice) => {
                let name = format!("web-{}", slices.len() + 100);
                slices.push(stored(&name, slice));
            }
            Action::Update(next) => {
                let at = slices.iter().position(|old| old.name() == next.name()).unwrap();
                slices[at] = Arc::new(EndpointSlice::clone(next));
            }
            Action::Delete(gone) => slices.retain(|old| old.name() != gone.name()),
        }
    }
}

fn existing(service: &Service, pods: &[Arc<Pod>]) -> Vec<Arc<EndpointSlice>> {
    let mut slices = Vec::new();
    apply(&mut slices, &run(service, pods, &[]).actions);
    slices
}

fn address(n: usize) -> Value {
    json!({"status": {"podIPs": [{"ip": format!("127.64.{}.{}", n / 200, n % 200 + 1)}]}})
}

fn pods(count: usize) -> Vec<Arc<Pod>> {
    (0..count).map(|n| pod(&format!("p{n:03}"), address(n))).collect()
}

#[test]
fn conditions() {
    let service = service(json!({}));
    let mut going = deleting();
    merge(&mut going, json!({"spec": {"nodeName": "n2"}}));
    let all = [
        pod("a", json!({})),
        pod("b", unready()),
        pod("c", going),
        pod("ended", json!({"status": {"phase": "Succeeded"}})),
        pod("starting", json!({"status": {"podIPs": null, "phase": "Pending"}})),
    ];
    check(
        &service,
        &all,
        &[],
        expect![[r#"
        1 of 3 endpoints ready
        create IPv4 http:8080/TCP a=127.64.0.1[ready serving] b=127.64.0.1[] c=127.64.0.1[serving terminating]
    "#]],
    );
    let publish = crate::testing::service(json!({"spec": {"publishNotReadyAddresses": true}}));
    check(
        &publish,
        &all[1..3],
        &[],
        expect![[r#"
        2 of 2 endpoints ready
        create IPv4 http:8080/TCP b=127.64.0.1[ready] c=127.64.0.1[ready serving terminating]
    "#]],
    );
}

#[test]
fn a_slice_in_full() {
    let slices = existing(&service(json!({"metadata": {"labels": {"team": "a"}}})), &pods(1));
    expect![[r#"
        {"addressType":"IPv4","apiVersion":"discovery.k8s.io/v1","endpoints":[{"addresses":["127.64.0.1"],"conditions":{"ready":true,"serving":true,"terminating":false},"nodeName":"n1","targetRef":{"kind":"Pod","name":"p000","namespace":"ns","uid":"p000"},"zone":"z1"}],"kind":"EndpointSlice","metadata":{"generateName":"web-","labels":{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"web","team":"a"},"name":"web-100","namespace":"ns","ownerReferences":[{"apiVersion":"v1","blockOwnerDeletion":true,"controller":true,"kind":"Service","name":"web","uid":"s"}],"uid":"web-100"},"ports":[{"name":"http","port":8080,"protocol":"TCP"}]}"#]]
    .assert_eq(&sorted(&slices[0]));
}

/// JSON with sorted keys, so that the golden text doesn't depend on the order of fields.
fn sorted(slice: &EndpointSlice) -> String {
    fn sort(value: Value) -> Value {
        match value {
            Value::Object(map) => {
                let sorted: BTreeMap<String, Value> =
                    map.into_iter().map(|(key, value)| (key, sort(value))).collect();
                Value::Object(sorted.into_iter().collect())
            }
            Value::Array(list) => Value::Array(list.into_iter().map(sort).collect()),
            other => other,
        }
    }
    sort(serde_json::from_slice(&slice.encode().unwrap()).unwrap()).to_string()
}

#[test]
fn empty_services_have_one_empty_slice() {
    let service = service(json!({}));
    check(
        &service,
        &[],
        &[],
        expect![[r#"
        0 of 0 endpoints ready
        create IPv4
    "#]],
    );
    let slices = existing(&service, &[]);
    check(
        &service,
        &[],
        &slices,
        expect![[r#"
        0 of 0 endpoints ready
    "#]],
    );
    check(
        &service,
        &pods(1),
        &slices,
        expect![[r#"
        1 of 1 endpoints ready
        update web-100 IPv4 http:8080/TCP p000=127.64.0.1[ready serving]
    "#]],
    );
    let slices = existing(&service, &pods(1));
    check(
        &service,
        &[],
        &slices,
        expect![[r#"
        0 of 0 endpoints ready
        update web-100 IPv4
    "#]],
    );
}

#[test]
fn minimal_changes() {
    let service = service(json!({}));
    let all = pods(MAX_ENDPOINTS + 3);
    let slices = existing(&service, &all);
    let sizes = |slices: &[Arc<EndpointSlice>]| -> Vec<usize> {
        slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect()
    };
    assert_eq!(sizes(&slices), [100, 3]);
    // One pod stops being ready: only its slice is written.
    let mut changed = all.clone();
    let mut over = address(102);
    merge(&mut over, unready());
    changed[102] = pod("p102", over);
    check(
        &service,
        &changed,
        &slices,
        expect![[r#"
        102 of 103 endpoints ready
        update web-101 IPv4 http:8080/TCP p100=127.64.0.101[ready serving] p101=127.64.0.102[ready serving] p102=127.64.0.103[]
    "#]],
    );
    // One more pod goes where there is room.
    let mut more = all.clone();
    more.push(pod("q", address(150)));
    let mut after = slices.clone();
    apply(&mut after, &run(&service, &more, &slices).actions);
    assert_eq!(sizes(&after), [100, 4]);
    // Another label on the Service: every slice gets it.
    let labelled = crate::testing::service(json!({"metadata": {"labels": {"x": "y"}}}));
    assert_eq!(run(&labelled, &all, &slices).actions.len(), 2);
}

#[test]
fn ports_and_families() {
    let named = service(json!({"spec": {"ports": [
        {"name": "web", "port": 80, "targetPort": "http", "protocol": "TCP"}]}}));
    let port = |number: u16| {
        json!({"spec": {"containers": [{"name": "c", "ports": [
            {"name": "http", "containerPort": number, "protocol": "TCP"}]}]}})
    };
    let all = [pod("a", port(8080)), pod("b", port(9090)), pod("c", json!({}))];
    check(
        &named,
        &all,
        &[],
        expect![[r#"
        3 of 3 endpoints ready
        create IPv4  c=127.64.0.1[ready serving]
        create IPv4 web:8080/TCP a=127.64.0.1[ready serving]
        create IPv4 web:9090/TCP b=127.64.0.1[ready serving]
    "#]],
    );
    let dual = service(json!({"spec": {"ipFamilies": ["IPv4", "IPv6"]}}));
    let both = pod("a", json!({"status": {"podIPs": [{"ip": "127.64.0.1"}, {"ip": "fd00::1"}]}}));
    check(
        &dual,
        std::slice::from_ref(&both),
        &[],
        expect![[r#"
        2 of 2 endpoints ready
        create IPv4 http:8080/TCP a=127.64.0.1[ready serving]
        create IPv6 http:8080/TCP a=fd00::1[ready serving]
    "#]],
    );
    let slices = existing(&dual, std::slice::from_ref(&both));
    check(
        &service(json!({})),
        &[both],
        &slices,
        expect![[r#"
        1 of 1 endpoints ready
        delete web-101
    "#]],
    );
}

#[test]
fn foreign_slices_and_deleted_services() {
    let ours = service(json!({}));
    let earlier = service(json!({"metadata": {"uid": "earlier"}}));
    check(
        &ours,
        &pods(1),
        &existing(&earlier, &pods(1)),
        expect![[r#"
        1 of 1 endpoints ready
        create IPv4 http:8080/TCP p000=127.64.0.1[ready serving]
        delete web-100
    "#]],
    );
    check(
        &service(deleting()),
        &pods(1),
        &[],
        expect![[r#"
        1 of 1 endpoints ready
    "#]],
    );
    assert!(!is_managed(&service(json!({"spec": {"selector": null}}))));
    assert!(!is_managed(&service(json!({"spec": {"type": "ExternalName"}}))));
    assert!(is_managed(&ours));
    let headless = service(json!({"spec": {"clusterIP": "None", "ports": null}}));
    let mut governed = json!({"spec": {"hostname": "h", "subdomain": "web"}});
    merge(&mut governed, json!({"metadata": {"ownerReferences": [owner("v1", "X", "x", "x")]}}));
    let slices = existing(&headless, &[pod("a", governed)]);
    let endpoint = &slices[0].endpoints.as_ref().unwrap()[0];
    assert_eq!(endpoint.hostname.as_deref(), Some("h"));
    assert_eq!(slices[0].label("service.kubernetes.io/headless"), Some(""));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// From any slices to any pods in one plan: a second one has nothing to do, no slice is too
    /// long, and every pod is in exactly one.
    #[test]
    fn plans_converge(before in 0usize..250, from in 0usize..150, to in 0usize..250) {
        let service = service(json!({}));
        let all = pods(before.max(to));
        let mut slices = existing(&service, &all[..before]);
        let wanted = &all[from.min(to)..to];
        let first = run(&service, wanted, &slices);
        apply(&mut slices, &first.actions);
        prop_assert_eq!(run(&service, wanted, &slices).actions, vec![]);
        let lengths: Vec<usize> =
            slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect();
        prop_assert!(lengths.iter().all(|length| *length <= MAX_ENDPOINTS));
        prop_assert_eq!(lengths.iter().sum::<usize>(), wanted.len());
    }
}
