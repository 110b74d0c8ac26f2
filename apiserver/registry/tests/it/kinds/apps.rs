//! StatefulSet, DaemonSet, ControllerRevision.

use expect_test::expect;
use serde_json::json;

use super::{changed, created, printed, refused};
use crate::stored;

const TEMPLATE: &str = "selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: one, image: 'i:1'}, {name: two, image: 'j:1'}]}}";

fn with(kind: &str, more: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: {kind}, metadata: {{name: a}}, spec: {{{TEMPLATE}{more}}}}}"
    )
}

#[test]
fn a_stateful_set_gets_upstreams_defaults() {
    created(
        &with(
            "StatefulSet",
            ", serviceName: s, volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]",
        ),
        expect![[r#"
            kind: StatefulSet
            apiVersion: apps/v1
            metadata:
              name: a
              generation: 1
            spec:
              selector:
                matchLabels:
                  a: b
              template:
                metadata:
                  labels:
                    a: b
                spec:
                  containers:
                  - name: one
                    image: i:1
                    resources: {}
                    terminationMessagePath: /dev/termination-log
                    terminationMessagePolicy: File
                    imagePullPolicy: IfNotPresent
                  - name: two
                    image: j:1
                    resources: {}
                    terminationMessagePath: /dev/termination-log
                    terminationMessagePolicy: File
                    imagePullPolicy: IfNotPresent
                  dnsPolicy: ClusterFirst
                  restartPolicy: Always
                  schedulerName: default-scheduler
                  securityContext: {}
                  terminationGracePeriodSeconds: 30
              volumeClaimTemplates:
              - metadata:
                  name: data
                spec:
                  accessModes:
                  - ReadWriteOnce
                  resources:
                    requests:
                      storage: 1Gi
                  volumeMode: Filesystem
                status:
                  phase: Pending
                apiVersion: v1
                kind: PersistentVolumeClaim
              serviceName: s
              updateStrategy:
                type: RollingUpdate
                rollingUpdate:
                  maxUnavailable: 1
                  partition: 0
              persistentVolumeClaimRetentionPolicy:
                whenDeleted: Retain
                whenScaled: Retain
              podManagementPolicy: OrderedReady
              replicas: 1
              revisionHistoryLimit: 10
            status:
              replicas: 0
              availableReplicas: 0
        "#]],
    );
}

#[test]
fn claims_of_a_stateful_set_are_volumes_of_its_pods() {
    created(
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a}, spec: {updateStrategy: {type: OnDelete}, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {hostname: Not_Looked_At, containers: [{name: one, image: 'i:1', volumeMounts: [{name: data, mountPath: /data}]}]}}, volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}}",
        expect![[r#"
            kind: StatefulSet
            apiVersion: apps/v1
            metadata:
              name: a
              generation: 1
            spec:
              selector:
                matchLabels:
                  a: b
              template:
                metadata:
                  labels:
                    a: b
                spec:
                  containers:
                  - name: one
                    image: i:1
                    resources: {}
                    volumeMounts:
                    - name: data
                      mountPath: /data
                    terminationMessagePath: /dev/termination-log
                    terminationMessagePolicy: File
                    imagePullPolicy: IfNotPresent
                  hostname: Not_Looked_At
                  dnsPolicy: ClusterFirst
                  restartPolicy: Always
                  schedulerName: default-scheduler
                  securityContext: {}
                  terminationGracePeriodSeconds: 30
              volumeClaimTemplates:
              - metadata:
                  name: data
                spec:
                  accessModes:
                  - ReadWriteOnce
                  resources:
                    requests:
                      storage: 1Gi
                  volumeMode: Filesystem
                status:
                  phase: Pending
                apiVersion: v1
                kind: PersistentVolumeClaim
              serviceName: ''
              updateStrategy:
                type: OnDelete
              persistentVolumeClaimRetentionPolicy:
                whenDeleted: Retain
                whenScaled: Retain
              podManagementPolicy: OrderedReady
              replicas: 1
              revisionHistoryLimit: 10
            status:
              replicas: 0
              availableReplicas: 0
        "#]],
    );
}

#[test]
fn stateful_sets_that_are_refused() {
    refused(
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a.b}, spec: {selector: {matchLabels: {a: b}}, replicas: -1, serviceName: 'S', podManagementPolicy: Maybe, updateStrategy: {type: Later}, persistentVolumeClaimRetentionPolicy: {whenDeleted: Keep}, ordinals: {start: -1}, template: {metadata: {labels: {a: c}}, spec: {restartPolicy: Never, activeDeadlineSeconds: 5, containers: [{name: a, image: a}]}}, volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOncePod, ReadOnlyMany, Often], resources: {requests: {storage: '0'}}}}]}}",
        expect![[r#"
            422 StatefulSet.apps "a.b" is invalid: [metadata.name: Invalid value: "a.b": must not contain dots, spec.podManagementPolicy: Invalid value: "Maybe": must be 'OrderedReady' or 'Parallel', spec.updateStrategy: Invalid value: {"Type":"Later","RollingUpdate":null}: must be 'RollingUpdate' or 'OnDelete', spec.persistentVolumeClaimRetentionPolicy.whenDeleted: Unsupported value: "Keep": supported values: "Retain", "Delete", spec.volumeClaimTemplates[0].spec.accessModes: Unsupported value: "Often": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod", spec.volumeClaimTemplates[0].spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes, spec.volumeClaimTemplates[0].spec.resources[storage]: Invalid value: "0": must be greater than zero, spec.replicas: Invalid value: -1: must be greater than or equal to 0, spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0, spec.serviceName: Invalid value: "S": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), spec.template.metadata.labels: Invalid value: {"a":"c"}: `selector` does not match template `labels`, spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always", spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported]
              FieldValueInvalid metadata.name
              FieldValueInvalid spec.podManagementPolicy
              FieldValueInvalid spec.updateStrategy
              FieldValueNotSupported spec.persistentVolumeClaimRetentionPolicy.whenDeleted
              FieldValueNotSupported spec.volumeClaimTemplates[0].spec.accessModes
              FieldValueForbidden spec.volumeClaimTemplates[0].spec.accessModes
              FieldValueInvalid spec.volumeClaimTemplates[0].spec.resources[storage]
              FieldValueInvalid spec.replicas
              FieldValueInvalid spec.ordinals.start
              FieldValueInvalid spec.serviceName
              FieldValueInvalid spec.template.metadata.labels
              FieldValueNotSupported spec.template.spec.restartPolicy
              FieldValueForbidden spec.template.spec.activeDeadlineSeconds
        "#]],
    );
    refused(
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a}, spec: {selector: {}, updateStrategy: {rollingUpdate: {partition: -1, maxUnavailable: 0}}, template: {spec: {containers: [{name: a, image: a}]}}}}",
        expect![[r#"
            422 StatefulSet.apps "a" is invalid: [spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0, spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0, spec.selector: Invalid value: {}: empty selector is invalid for statefulset]
              FieldValueInvalid spec.updateStrategy.rollingUpdate.partition
              FieldValueInvalid spec.updateStrategy.rollingUpdate.maxUnavailable
              FieldValueInvalid spec.selector
        "#]],
    );
    refused(
        "{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: a}, spec: {updateStrategy: {type: OnDelete, rollingUpdate: {maxUnavailable: 200%}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}}}",
        expect![[r#"
            422 StatefulSet.apps "a" is invalid: [spec.updateStrategy.rollingUpdate: Invalid value: {"Partition":0,"MaxUnavailable":"200%"}: only allowed for updateStrategy 'RollingUpdate', spec.selector: Required value, spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`]
              FieldValueInvalid spec.updateStrategy.rollingUpdate
              FieldValueRequired spec.selector
              FieldValueInvalid spec.template.metadata.labels
        "#]],
    );
}

#[test]
fn what_an_update_of_a_stateful_set_may_touch() {
    let set = stored(&with("StatefulSet", ", serviceName: s"));
    let picked = ["spec.replicas", "status.replicas", "metadata.generation"];
    let both = |set: &mut serde_json::Value| {
        set["spec"]["replicas"] = json!(3);
        set["status"]["replicas"] = json!(2);
    };
    changed(
        "",
        &set,
        both,
        &picked,
        expect![[r#"
        spec.replicas: 3
        status.replicas: 0
        metadata.generation: 2
    "#]],
    );
    changed(
        "status",
        &set,
        both,
        &picked,
        expect![[r#"
        spec.replicas: 1
        status.replicas: 2
        metadata.generation: 1
    "#]],
    );
    changed(
        "",
        &set,
        |set| {
            set["spec"]["serviceName"] = "T".into();
            set["spec"]["podManagementPolicy"] = "Parallel".into();
            set["spec"]["selector"] = json!({"matchLabels": {"a": "b", "c": "d"}});
            set["spec"]["template"]["metadata"]["labels"]["c"] = "d".into();
            set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "x"}}]);
        },
        &[],
        expect![[r#"
            422 StatefulSet.apps "a" is invalid: [spec.selector: Invalid value: {"matchLabels":{"a":"b","c":"d"}}: field is immutable, spec.volumeClaimTemplates: Invalid value: [{"name":"x","Spec":{"AccessModes":null,"Selector":null,"Resources":{"Limits":null,"Requests":null},"VolumeName":"","StorageClassName":null,"VolumeMode":"Filesystem","DataSource":null,"DataSourceRef":null,"VolumeAttributesClassName":null},"Status":{"Phase":"Pending","AccessModes":null,"Capacity":null,"Conditions":null,"AllocatedResources":null,"AllocatedResourceStatuses":null,"CurrentVolumeAttributesClassName":null,"ModifyVolumeStatus":null,"HealthStatus":null}}]: field is immutable, spec.serviceName: Invalid value: "T": field is immutable, spec.podManagementPolicy: Invalid value: "Parallel": field is immutable]
              FieldValueInvalid spec.selector
              FieldValueInvalid spec.volumeClaimTemplates
              FieldValueInvalid spec.serviceName
              FieldValueInvalid spec.podManagementPolicy
        "#]],
    );
    let mut counted = set.clone();
    counted["status"]["collisionCount"] = json!(2);
    changed(
        "status",
        &counted,
        |set| {
            set["status"] = json!({"replicas": 1, "readyReplicas": 2, "availableReplicas": 3,
                "currentReplicas": -1, "collisionCount": 1});
        },
        &[],
        expect![[r#"
            422 StatefulSet.apps "a" is invalid: [status.currentReplicas: Invalid value: -1: must be greater than or equal to 0, status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas, status.availableReplicas: Invalid value: 3: cannot be greater than status.replicas, status.availableReplicas: Invalid value: 3: cannot be greater than status.readyReplicas, status.collisionCount: Invalid value: 1: cannot be decremented]
              FieldValueInvalid status.currentReplicas
              FieldValueInvalid status.readyReplicas
              FieldValueInvalid status.availableReplicas
              FieldValueInvalid status.availableReplicas
              FieldValueInvalid status.collisionCount
        "#]],
    );
}

#[test]
fn a_daemon_set_gets_upstreams_defaults() {
    created(
        &with("DaemonSet", ""),
        expect![[r#"
            kind: DaemonSet
            apiVersion: apps/v1
            metadata:
              name: a
              annotations:
                deprecated.daemonset.template.generation: '1'
              generation: 1
            spec:
              selector:
                matchLabels:
                  a: b
              template:
                metadata:
                  labels:
                    a: b
                spec:
                  containers:
                  - name: one
                    image: i:1
                    resources: {}
                    terminationMessagePath: /dev/termination-log
                    terminationMessagePolicy: File
                    imagePullPolicy: IfNotPresent
                  - name: two
                    image: j:1
                    resources: {}
                    terminationMessagePath: /dev/termination-log
                    terminationMessagePolicy: File
                    imagePullPolicy: IfNotPresent
                  dnsPolicy: ClusterFirst
                  restartPolicy: Always
                  schedulerName: default-scheduler
                  securityContext: {}
                  terminationGracePeriodSeconds: 30
              updateStrategy:
                type: RollingUpdate
                rollingUpdate:
                  maxUnavailable: 1
                  maxSurge: 0
              revisionHistoryLimit: 10
            status:
              currentNumberScheduled: 0
              numberMisscheduled: 0
              desiredNumberScheduled: 0
              numberReady: 0
        "#]],
    );
}

#[test]
fn daemon_sets_that_are_refused() {
    refused(
        "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: a}, spec: {selector: {}, minReadySeconds: -1, revisionHistoryLimit: -1, updateStrategy: {rollingUpdate: {maxSurge: 101%}}, template: {spec: {restartPolicy: OnFailure, activeDeadlineSeconds: 1, containers: [{name: a, image: a}]}}}}",
        expect![[r#"
            422 DaemonSet.apps "a" is invalid: [spec.selector: Invalid value: {}: empty selector is invalid for daemonset, spec.template.spec.restartPolicy: Unsupported value: "OnFailure": supported values: "Always", spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported, spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0, spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "101%": must not be greater than 100%, spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: "101%": may not be set when maxUnavailable is non-zero, spec.revisionHistoryLimit: Invalid value: -1: must be greater than or equal to 0]
              FieldValueInvalid spec.selector
              FieldValueNotSupported spec.template.spec.restartPolicy
              FieldValueForbidden spec.template.spec.activeDeadlineSeconds
              FieldValueInvalid spec.minReadySeconds
              FieldValueInvalid spec.updateStrategy.rollingUpdate.maxSurge
              FieldValueInvalid spec.updateStrategy.rollingUpdate.maxSurge
              FieldValueInvalid spec.revisionHistoryLimit
        "#]],
    );
    refused(
        "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: a}, spec: {selector: {matchLabels: {a: b}}, updateStrategy: {rollingUpdate: {maxUnavailable: 0}}, template: {spec: {containers: [{name: a, image: a}]}}}}",
        expect![[r#"
            422 DaemonSet.apps "a" is invalid: [spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`, spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0]
              FieldValueInvalid spec.template.metadata.labels
              FieldValueRequired spec.updateStrategy.rollingUpdate.maxUnavailable
        "#]],
    );
    refused(
        &with("DaemonSet", ", updateStrategy: {type: Later}"),
        expect![[r#"
        422 DaemonSet.apps "a" is invalid: spec.updateStrategy: Unsupported value: {"Type":"Later","RollingUpdate":null}: supported values: "RollingUpdate", "OnDelete"
          FieldValueNotSupported spec.updateStrategy
    "#]],
    );
}

#[test]
fn what_an_update_of_a_daemon_set_may_touch() {
    let set = stored(&with("DaemonSet", ""));
    let picked = [
        "metadata.generation",
        "metadata.annotations",
        "spec.minReadySeconds",
        "status.numberReady",
    ];
    changed(
        "",
        &set,
        |set| {
            set["spec"]["minReadySeconds"] = json!(3);
            set["status"]["numberReady"] = json!(1);
            set["metadata"]["annotations"] = json!({});
        },
        &picked,
        expect![[r#"
            metadata.generation: 2
            metadata.annotations: {"deprecated.daemonset.template.generation":"1"}
            spec.minReadySeconds: 3
            status.numberReady: 0
        "#]],
    );
    changed(
        "",
        &set,
        |set| set["spec"]["template"]["spec"]["containers"][0]["image"] = "i:2".into(),
        &picked,
        expect![[r#"
            metadata.generation: 2
            metadata.annotations: {"deprecated.daemonset.template.generation":"2"}
            spec.minReadySeconds: null
            status.numberReady: 0
        "#]],
    );
    changed(
        "status",
        &set,
        |set| {
            set["spec"]["minReadySeconds"] = json!(3);
            set["status"]["numberReady"] = json!(1);
        },
        &picked,
        expect![[r#"
            metadata.generation: 1
            metadata.annotations: {"deprecated.daemonset.template.generation":"1"}
            spec.minReadySeconds: null
            status.numberReady: 1
        "#]],
    );
    changed(
        "",
        &set,
        |set| {
            set["spec"]["selector"] = json!({"matchLabels": {"c": "d"}});
            set["spec"]["template"]["metadata"]["labels"] = json!({"c": "d"});
        },
        &[],
        expect![[r#"
            422 DaemonSet.apps "a" is invalid: spec.selector: Invalid value: {"matchLabels":{"c":"d"}}: field is immutable
              FieldValueInvalid spec.selector
        "#]],
    );
    changed(
        "status",
        &set,
        |set| set["status"]["numberReady"] = json!(-1),
        &[],
        expect![[r#"
        422 DaemonSet.apps "a" is invalid: status.numberReady: Invalid value: -1: must be greater than or equal to 0
          FieldValueInvalid status.numberReady
    "#]],
    );
}

#[test]
fn controller_revisions() {
    refused(
        "{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: a}, revision: -1}",
        expect![[r#"
            422 ControllerRevision.apps "a" is invalid: [revision: Invalid value: -1: must be greater than or equal to 0, data: Required value: data is mandatory]
              FieldValueInvalid revision
              FieldValueRequired data
        "#]],
    );
    refused(
        "{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: a}, revision: 1, data: [1]}",
        expect![[r#"
            422 ControllerRevision.apps "a" is invalid: data: Required value: data must be a valid JSON object
              FieldValueRequired data
        "#]],
    );
    let revision = stored(
        "{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: a}, revision: 1, data: {x: {y: 1}}}",
    );
    changed(
        "",
        &revision,
        |one| {
            one["revision"] = json!(7);
            one["metadata"]["labels"] = json!({"a": "b"});
        },
        &["revision", "metadata.labels", "data"],
        expect![[r#"
            revision: 7
            metadata.labels: {"a":"b"}
            data: {"x":{"y":1}}
        "#]],
    );
    changed(
        "",
        &revision,
        |one| one["data"] = json!({"x": 2}),
        &[],
        expect![[r#"
        422 ControllerRevision.apps "a" is invalid: data: Invalid value: {"x":2}: field is immutable
          FieldValueInvalid data
    "#]],
    );
}

#[test]
fn rows() {
    printed(
        &with("StatefulSet", ", replicas: 3"),
        "{replicas: 2, readyReplicas: 1}",
        expect!["a | 1/3 | 5m | one,two | i:1,j:1"],
    );
    printed(
        &with("DaemonSet", ""),
        "{desiredNumberScheduled: 5, currentNumberScheduled: 4, numberReady: 3, updatedNumberScheduled: 2, numberAvailable: 1}",
        expect!["a | 5 | 4 | 3 | 2 | 1 | <none> | 5m | one,two | i:1,j:1 | a=b"],
    );
    printed(
        "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: a}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {nodeSelector: {y: z, x: ''}, containers: [{name: a, image: 'a:1'}]}}}}",
        "",
        expect!["a | 0 | 0 | 0 | 0 | 0 | x=,y=z | 5m | a | a:1 | a=b"],
    );
    printed(
        "{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: a, ownerReferences: [{apiVersion: apps/v1, kind: DaemonSet, name: d, uid: u, controller: true}]}, revision: 4, data: {}}",
        "",
        expect!["a | daemonset.apps/d | 4 | 5m"],
    );
    printed(
        "{apiVersion: apps/v1, kind: ControllerRevision, metadata: {name: a}, revision: 4, data: {}}",
        "",
        expect!["a | <none> | 4 | 5m"],
    );
}
