//! Fields of which only a part is kept, or which stand in two places.

use expect_test::expect;
use serde_json::{Value, json};

use super::{changed, created};
use crate::stored;

const CLAIM: &str = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: a}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}}";

#[test]
fn what_is_kept_of_references_and_sources() {
    created(
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}, secrets: [{name: s, kind: Secret, uid: u}]}",
        expect![[r#"
            kind: ServiceAccount
            apiVersion: v1
            metadata:
              name: a
            secrets:
            - name: s
        "#]],
    );
    // The older of the two source fields takes claims and snapshots only.
    created(
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: a}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}, dataSource: {kind: Other, name: b}}}",
        expect![[r#"
            kind: PersistentVolumeClaim
            apiVersion: v1
            metadata:
              name: a
            spec:
              accessModes:
              - ReadWriteOnce
              resources:
                requests:
                  storage: 2Gi
              volumeMode: Filesystem
            status:
              phase: Pending
        "#]],
    );
    let old = stored(CLAIM);
    let zero = |pvc: &mut Value| pvc["spec"]["selector"] = json!({});
    changed(
        "",
        &old,
        zero,
        &["spec.selector"],
        expect![[r#"
        422 PersistentVolumeClaim "a" is invalid: spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims

          FieldValueForbidden spec
    "#]],
    );
}

#[test]
fn one_range_of_a_node_stands_in_two_fields() {
    created(
        "{apiVersion: v1, kind: Node, metadata: {name: a}, spec: {podCIDR: 10.0.0.0/24}}",
        expect![[r#"
            kind: Node
            apiVersion: v1
            metadata:
              name: a
            spec:
              podCIDR: 10.0.0.0/24
              podCIDRs:
              - 10.0.0.0/24
            status:
              daemonEndpoints:
                kubeletEndpoint:
                  Port: 0
              nodeInfo:
                machineID: ''
                systemUUID: ''
                bootID: ''
                kernelVersion: ''
                osImage: ''
                containerRuntimeVersion: ''
                kubeletVersion: ''
                kubeProxyVersion: ''
                operatingSystem: ''
                architecture: ''
        "#]],
    );
    let old = stored("{apiVersion: v1, kind: Node, metadata: {name: a}}");
    let wrong = |node: &mut Value| node["spec"]["podCIDR"] = json!("x");
    changed(
        "",
        &old,
        wrong,
        &["spec"],
        expect![[r#"
        422 Node "a" is invalid: spec.podCIDRs[0]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)
          FieldValueInvalid spec.podCIDRs[0]
    "#]],
    );
}
