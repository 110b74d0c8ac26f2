//! Volumes, classes of them, and the objects of storage drivers.

use expect_test::expect;
use serde_json::json;

use super::{changed, created, printed, refused};
use crate::stored;

const VOLUME: &str = "{apiVersion: v1, kind: PersistentVolume, metadata: {name: a}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: /data}}}";

#[test]
fn volumes() {
    created(
        VOLUME,
        expect![[r#"
        kind: PersistentVolume
        apiVersion: v1
        metadata:
          name: a
        spec:
          capacity:
            storage: 1Gi
          hostPath:
            path: /data
            type: ''
          accessModes:
          - ReadWriteOnce
          persistentVolumeReclaimPolicy: Retain
          volumeMode: Filesystem
        status:
          phase: Pending
          lastPhaseTransitionTime: 2026-11-23T17:00:00Z
    "#]],
    );
    refused(
        "{apiVersion: v1, kind: PersistentVolume, metadata: {name: a}, spec: {capacity: {cpu: 1}, accessModes: [ReadWriteOncePod, ReadOnlyMany, X], persistentVolumeReclaimPolicy: Keep, nfs: {path: rel}, csi: {driver: ''}, local: {path: a/../b}, storageClassName: -, volumeAttributesClassName: '', nodeAffinity: {}}}",
        expect![[r#"
            422 PersistentVolume "a" is invalid: [spec.accessModes: Unsupported value: "X": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod", spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes, spec.capacity: Unsupported value: {"cpu":"1"}: supported values: "storage", spec.persistentVolumeReclaimPolicy: Unsupported value: "Keep": supported values: "Delete", "Recycle", "Retain", spec.nodeAffinity.required: Required value: must specify required node constraints, spec.nfs.server: Required value, spec.nfs.path: Invalid value: "rel": must be an absolute path, spec.local: Forbidden: may not specify more than 1 volume type, spec.csi: Forbidden: may not specify more than 1 volume type, spec.storageClassName: Invalid value: "-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), spec.volumeAttributesClassName: Required value: an empty string is disallowed]
              FieldValueNotSupported spec.accessModes
              FieldValueForbidden spec.accessModes
              FieldValueNotSupported spec.capacity
              FieldValueNotSupported spec.persistentVolumeReclaimPolicy
              FieldValueRequired spec.nodeAffinity.required
              FieldValueRequired spec.nfs.server
              FieldValueInvalid spec.nfs.path
              FieldValueForbidden spec.local
              FieldValueForbidden spec.csi
              FieldValueInvalid spec.storageClassName
              FieldValueRequired spec.volumeAttributesClassName
        "#]],
    );
    refused(
        "{apiVersion: v1, kind: PersistentVolume, metadata: {name: a}, spec: {capacity: {storage: 0}, accessModes: [ReadWriteOnce], local: {path: /d}}}",
        expect![[r#"
            422 PersistentVolume "a" is invalid: [spec.capacity[storage]: Invalid value: "0": must be greater than zero, spec.nodeAffinity: Required value: Local volume requires node affinity]
              FieldValueInvalid spec.capacity[storage]
              FieldValueRequired spec.nodeAffinity
        "#]],
    );
    let one = stored(VOLUME);
    changed(
        "",
        &one,
        |one| {
            one["spec"]["hostPath"]["path"] = json!("/other");
            one["spec"]["volumeMode"] = json!("Block");
        },
        &[],
        expect![[r#"
            422 PersistentVolume "a" is invalid: [spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation
            - spec.hostPath: {"path":"/data","type":""}
            + spec.hostPath: {"path":"/other","type":""}
            , volumeMode: Invalid value: "Block": field is immutable]
              FieldValueForbidden spec.persistentvolumesource
              FieldValueInvalid volumeMode
        "#]],
    );
    changed(
        "status",
        &one,
        |one| {
            one["status"] = json!({"phase": "Bound"});
            one["spec"]["capacity"]["storage"] = json!("2Gi");
        },
        &["status", "spec.capacity.storage"],
        expect![[r#"
            status: {"phase":"Bound","lastPhaseTransitionTime":"2026-11-23T18:00:00Z"}
            spec.capacity.storage: "1Gi"
        "#]],
    );
    printed(
        VOLUME,
        "{phase: Bound}",
        expect!["a | 1Gi | RWO | Retain | Bound |  |  | <unset> |  | 5m | Filesystem"],
    );
}

#[test]
fn sources() {
    for (source, expected) in [
        (
            "nfs: {server: s, path: /p}",
            expect![[r#"
            accepted
        "#]],
        ),
        (
            "iscsi: {targetPortal: p, iqn: x, lun: 300}",
            expect![[r#"
            422 PersistentVolume "a" is invalid: [spec.iscsi.iqn: Invalid value: "x": must be valid format, spec.iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive]
              FieldValueInvalid spec.iscsi.iqn
              FieldValueInvalid spec.iscsi.lun
        "#]],
        ),
        (
            "iscsi: {targetPortal: p, iqn: 'iqn.2001-04.com.example:a', lun: 1}",
            expect![[r#"
            accepted
        "#]],
        ),
        (
            "fc: {targetWWNs: [a], wwids: [b]}",
            expect![[r#"
            422 PersistentVolume "a" is invalid: [spec.fc.targetWWNs: Invalid value: ["a"]: targetWWNs and wwids can not be specified simultaneously, spec.fc.lun: Required value: lun is required if targetWWNs is specified]
              FieldValueInvalid spec.fc.targetWWNs
              FieldValueRequired spec.fc.lun
        "#]],
        ),
        (
            "csi: {driver: d.example.com, volumeHandle: h, nodeStageSecretRef: {name: a}, nodePublishSecretRef: {name: a}}",
            expect![[r#"
                422 PersistentVolume "a" is invalid: spec.csi.nodePublishSecretRef.namespace: Required value
                  FieldValueRequired spec.csi.nodePublishSecretRef.namespace
            "#]],
        ),
        (
            "flexVolume: {driver: d, options: {kubernetes.io/x: y}}",
            expect![[r#"
            422 PersistentVolume "a" is invalid: spec.flexVolume.options[kubernetes.io/x]: Invalid value: "kubernetes.io/x": kubernetes.io and k8s.io namespaces are reserved
              FieldValueInvalid spec.flexVolume.options[kubernetes.io/x]
        "#]],
        ),
        (
            "azureDisk: {diskName: a, diskURI: b, kind: Managed, cachingMode: All}",
            expect![[r#"
            422 PersistentVolume "a" is invalid: [spec.azureDisk.cachingMode: Unsupported value: "All": supported values: "None", "ReadOnly", "ReadWrite", spec.azureDisk.diskURI: Unsupported value: "b": supported values: "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}"]
              FieldValueNotSupported spec.azureDisk.cachingMode
              FieldValueNotSupported spec.azureDisk.diskURI
        "#]],
        ),
        (
            "glusterfs: {endpoints: e, path: p, endpointsNamespace: ''}",
            expect![[r#"
            422 PersistentVolume "a" is invalid: spec.glusterfs.endpointsNamespace: Invalid value: "": if the endpointnamespace is set, it must be a valid namespace name
              FieldValueInvalid spec.glusterfs.endpointsNamespace
        "#]],
        ),
        (
            "quobyte: {registry: r, volume: v}",
            expect![[r#"
            422 PersistentVolume "a" is invalid: spec.quobyte.registry: Invalid value: "r": must be a host:port pair or multiple pairs separated by commas
              FieldValueInvalid spec.quobyte.registry
        "#]],
        ),
        (
            "gcePersistentDisk: {pdName: a, partition: 256}",
            expect![[r#"
            422 PersistentVolume "a" is invalid: spec.persistentDisk.partition: Invalid value: 256: must be between 1 and 255, inclusive
              FieldValueInvalid spec.persistentDisk.partition
        "#]],
        ),
    ] {
        let body = format!(
            "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: a}}, spec: {{capacity: {{storage: 1}}, accessModes: [ReadWriteMany], {source}}}}}"
        );
        refused(&body, expected);
    }
}

#[test]
fn classes() {
    let class = "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: a, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}, provisioner: x.io/y}";
    created(
        class,
        expect![[r#"
        kind: StorageClass
        apiVersion: storage.k8s.io/v1
        metadata:
          name: a
          annotations:
            storageclass.kubernetes.io/is-default-class: 'true'
        provisioner: x.io/y
        reclaimPolicy: Delete
        volumeBindingMode: Immediate
    "#]],
    );
    printed(class, "", expect!["a (default) | x.io/y | Delete | Immediate | false | 5m"]);
    refused(
        "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: a}, provisioner: '', parameters: {'': x}, reclaimPolicy: Recycle, volumeBindingMode: Later, allowedTopologies: [{matchLabelExpressions: [{key: a, values: [b, b]}, {key: a, values: []}]}]}",
        expect![[r#"
            422 StorageClass.storage.k8s.io "a" is invalid: [provisioner: Required value, parameters: Invalid value: "": field can not be empty., reclaimPolicy: Unsupported value: "Recycle": supported values: "Delete", "Retain", volumeBindingMode: Unsupported value: "Later": supported values: "Immediate", "WaitForFirstConsumer", allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: "b", allowedTopologies[0].matchLabelExpressions[1].values: Required value, allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: "a"]
              FieldValueRequired provisioner
              FieldValueInvalid parameters
              FieldValueNotSupported reclaimPolicy
              FieldValueNotSupported volumeBindingMode
              FieldValueDuplicate allowedTopologies[0].matchLabelExpressions[0].values[1]
              FieldValueRequired allowedTopologies[0].matchLabelExpressions[1].values
              FieldValueDuplicate allowedTopologies[0].matchLabelExpressions[1].key
        "#]],
    );
    let one = stored(class);
    changed(
        "",
        &one,
        |one| one["provisioner"] = json!("z"),
        &[],
        expect![[r#"
            422 StorageClass.storage.k8s.io "a" is invalid: provisioner: Invalid value: null: field is immutable
              FieldValueInvalid provisioner
        "#]],
    );
    let attributes = "{apiVersion: storage.k8s.io/v1, kind: VolumeAttributesClass, metadata: {name: a}, driverName: d.io, parameters: {a: b}}";
    refused(
        &attributes.replace("{a: b}", "{}"),
        expect![[r#"
        422 VolumeAttributesClass.storage.k8s.io "a" is invalid: parameters: Required value: must contain at least one key/value pair
          FieldValueRequired parameters
    "#]],
    );
    changed(
        "",
        &stored(attributes),
        |one| one["parameters"] = json!({"a": "c"}),
        &[],
        expect![[r#"
            422 VolumeAttributesClass.storage.k8s.io "a" is invalid: parameters: Forbidden: updates to parameters are forbidden.
              FieldValueForbidden parameters
        "#]],
    );
}

#[test]
fn drivers() {
    let driver = "{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {name: d}, spec: {}}";
    created(
        driver,
        expect![[r#"
        kind: CSIDriver
        apiVersion: storage.k8s.io/v1
        metadata:
          name: d
        spec:
          attachRequired: true
          fsGroupPolicy: ReadWriteOnceWithFSType
          podInfoOnMount: false
          preventPodSchedulingIfMissing: false
          requiresRepublish: false
          seLinuxMount: false
          storageCapacity: false
          volumeLifecycleModes:
          - Persistent
    "#]],
    );
    printed(driver, "", expect!["d | true | false | false | <unset> | false | Persistent | 5m"]);
    refused(
        "{apiVersion: storage.k8s.io/v1, kind: CSIDriver, metadata: {name: d}, spec: {fsGroupPolicy: X, volumeLifecycleModes: [Y], tokenRequests: [{audience: a, expirationSeconds: 1}, {audience: a}], nodeAllocatableUpdatePeriodSeconds: 1}}",
        expect![[r#"
            422 CSIDriver.storage.k8s.io "d" is invalid: [spec.fsGroupPolicy: Unsupported value: "X": supported values: "File", "None", "ReadWriteOnceWithFSType", spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes, spec.tokenRequests[1].audience: Duplicate value: "a", spec.volumeLifecycleModes: Unsupported value: "Y": supported values: "Persistent", "Ephemeral", spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 1: must be greater than or equal to 10 seconds]
              FieldValueNotSupported spec.fsGroupPolicy
              FieldValueInvalid spec.tokenRequests[0].expirationSeconds
              FieldValueDuplicate spec.tokenRequests[1].audience
              FieldValueNotSupported spec.volumeLifecycleModes
              FieldValueInvalid spec.nodeAllocatableUpdatePeriodSeconds
        "#]],
    );
    changed(
        "",
        &stored(driver),
        |one| one["spec"]["attachRequired"] = json!(false),
        &[],
        expect![[r#"
            422 CSIDriver.storage.k8s.io "d" is invalid: spec.attachedRequired: Invalid value: false: field is immutable
              FieldValueInvalid spec.attachedRequired
        "#]],
    );
    let node = "{apiVersion: storage.k8s.io/v1, kind: CSINode, metadata: {name: n}, spec: {drivers: [{name: d, nodeID: i, topologyKeys: [a]}]}}";
    refused(
        &node.replace(
            "nodeID: i, topologyKeys: [a]",
            "nodeID: '', topologyKeys: [a, a], allocatable: {count: -1}",
        ),
        expect![[r#"
            422 CSINode.storage.k8s.io "n" is invalid: [spec.drivers[0].nodeID: Required value, spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0, spec.drivers[0]: Duplicate value: "a"]
              FieldValueRequired spec.drivers[0].nodeID
              FieldValueInvalid spec.drivers[0].allocatable.count
              FieldValueDuplicate spec.drivers[0]
        "#]],
    );
    changed(
        "",
        &stored(node),
        |one| one["spec"]["drivers"][0]["nodeID"] = json!("j"),
        &[],
        expect![[r#"
            422 CSINode.storage.k8s.io "n" is invalid: spec.drivers: Invalid value: {"Name":"d","NodeID":"j","TopologyKeys":["a"],"Allocatable":null}: field is immutable
              FieldValueInvalid spec.drivers
        "#]],
    );
    let capacity = "{apiVersion: storage.k8s.io/v1, kind: CSIStorageCapacity, metadata: {name: c}, storageClassName: s, capacity: 1Gi}";
    changed(
        "",
        &stored(capacity),
        |one| one["storageClassName"] = json!("t"),
        &[],
        expect![[r#"
        422 CSIStorageCapacity.storage.k8s.io "c" is invalid: storageClassName: Invalid value: "t": field is immutable
          FieldValueInvalid storageClassName
    "#]],
    );
    let attachment = "{apiVersion: storage.k8s.io/v1, kind: VolumeAttachment, metadata: {name: v}, spec: {attacher: d, nodeName: n, source: {persistentVolumeName: p}}}";
    created(
        attachment,
        expect![[r#"
        kind: VolumeAttachment
        apiVersion: storage.k8s.io/v1
        metadata:
          name: v
        spec:
          attacher: d
          source:
            persistentVolumeName: p
          nodeName: n
        status:
          attached: false
    "#]],
    );
    refused(
        &attachment.replace("{persistentVolumeName: p}", "{}"),
        expect![[r#"
        422 VolumeAttachment.storage.k8s.io "v" is invalid: spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName
          FieldValueRequired spec.source
    "#]],
    );
    changed(
        "",
        &stored(attachment),
        |one| one["spec"]["nodeName"] = json!("m"),
        &[],
        expect![[r#"
            422 VolumeAttachment.storage.k8s.io "v" is invalid: spec: Invalid value: null: field is immutable
              FieldValueInvalid spec
        "#]],
    );
    printed(attachment, "{attached: true}", expect!["v | d | p | n | true | 5m"]);
}
