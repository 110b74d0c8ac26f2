//! Claims, quotas, limit ranges, ReplicationControllers, PodTemplates, Endpoints.

use expect_test::expect;
use serde_json::{Value, json};
use windlass_apiserver_registry::read_scale;

use super::{changed, created, printed, refused};
use crate::{kind_of, stored};

fn claim(more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {{name: a}}, spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 2Gi}}}}{more}}}}}"
    )
}

#[test]
fn a_claim_gets_upstreams_defaults() {
    created(
        &claim(", dataSource: {kind: PersistentVolumeClaim, name: b}"),
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
              dataSource:
                apiGroup: null
                kind: PersistentVolumeClaim
                name: b
              volumeMode: Filesystem
              dataSourceRef:
                apiGroup: null
                kind: PersistentVolumeClaim
                name: b
            status:
              phase: Pending
        "#]],
    );
    created(
        &claim(", dataSourceRef: {kind: PersistentVolumeClaim, name: b, namespace: c}"),
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
}

#[test]
fn claims_that_are_refused() {
    refused(
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: a}, spec: {}}",
        expect![[r#"
            422 PersistentVolumeClaim "a" is invalid: [spec.accessModes: Required value: at least 1 access mode is required, spec.resources[storage]: Required value]
              FieldValueRequired spec.accessModes
              FieldValueRequired spec.resources[storage]
        "#]],
    );
    refused(
        "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: a}, spec: {accessModes: [Sometimes], selector: {matchLabels: {'-': b}}, resources: {requests: {storage: '-1'}}, storageClassName: A, volumeMode: Tape, volumeAttributesClassName: B, dataSource: {kind: X, name: ''}, dataSourceRef: {kind: Y, name: c, apiGroup: d}}}",
        expect![[r#"
            422 PersistentVolumeClaim "a" is invalid: [spec.selector.matchLabels: Invalid value: "-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), spec.accessModes: Unsupported value: "Sometimes": supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod", spec.resources[storage]: Invalid value: "-1": must be greater than zero, spec.storageClassName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), spec.volumeMode: Unsupported value: "Tape": supported values: "Block", "Filesystem", spec.dataSource.name: Required value, spec.dataSource: Invalid value: "X": must be 'PersistentVolumeClaim' when referencing the default apiGroup, spec: Invalid value: {}: must match dataSourceRef, spec.volumeAttributesClassName: Invalid value: "B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')]
              FieldValueInvalid spec.selector.matchLabels
              FieldValueNotSupported spec.accessModes
              FieldValueInvalid spec.resources[storage]
              FieldValueInvalid spec.storageClassName
              FieldValueNotSupported spec.volumeMode
              FieldValueRequired spec.dataSource.name
              FieldValueInvalid spec.dataSource
              FieldValueInvalid spec
              FieldValueInvalid spec.volumeAttributesClassName
        "#]],
    );
}

#[test]
fn what_an_update_of_a_claim_may_touch() {
    let one = stored(&claim(""));
    let picked = ["spec.volumeName", "status.phase"];
    let bind = |claim: &mut Value| {
        claim["spec"]["volumeName"] = "v".into();
        claim["status"]["phase"] = "Bound".into();
    };
    changed(
        "",
        &one,
        bind,
        &picked,
        expect![[r#"
        spec.volumeName: "v"
        status.phase: "Pending"
    "#]],
    );
    changed(
        "status",
        &one,
        bind,
        &picked,
        expect![[r#"
        spec.volumeName: null
        status.phase: "Bound"
    "#]],
    );
    changed(
        "",
        &one,
        |claim| claim["spec"]["accessModes"] = json!(["ReadWriteMany"]),
        &[],
        expect![[r#"
            422 PersistentVolumeClaim "a" is invalid: spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
            - spec.accessModes: ["ReadWriteOnce"]
            + spec.accessModes: ["ReadWriteMany"]

              FieldValueForbidden spec
        "#]],
    );
    let mut bound = one.clone();
    bound["spec"]["volumeName"] = "v".into();
    bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "2Gi"},
        "currentVolumeAttributesClassName": "c"});
    let size = |claim: &mut Value, size: &str| {
        claim["spec"]["resources"]["requests"]["storage"] = size.into();
    };
    let asked = ["spec.resources.requests.storage"];
    changed(
        "",
        &bound,
        |claim| size(claim, "3Gi"),
        &asked,
        expect![[r#"
        spec.resources.requests.storage: "3Gi"
    "#]],
    );
    changed(
        "",
        &bound,
        |claim| size(claim, "1Gi"),
        &asked,
        expect![[r#"
        422 PersistentVolumeClaim "a" is invalid: spec.resources.requests.storage: Forbidden: field can not be less than status.capacity
          FieldValueForbidden spec.resources.requests.storage
    "#]],
    );
    changed(
        "",
        &one,
        |claim| size(claim, "3Gi"),
        &asked,
        expect![[r#"
        422 PersistentVolumeClaim "a" is invalid: spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
        - spec.resources: {"requests":{"storage":"2Gi"}}
        + spec.resources: {"requests":{"storage":"3Gi"}}

          FieldValueForbidden spec
    "#]],
    );
    changed(
        "",
        &bound,
        |claim| claim["spec"]["volumeName"] = "w".into(),
        &[],
        expect![[r#"
        422 PersistentVolumeClaim "a" is invalid: spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims
        - spec.volumeName: "v"
        + spec.volumeName: "w"

          FieldValueForbidden spec
    "#]],
    );
    let mut classed = bound.clone();
    classed["spec"]["volumeAttributesClassName"] = "c".into();
    changed(
        "",
        &classed,
        |claim| claim["spec"]["volumeAttributesClassName"] = Value::Null,
        &[],
        expect![[r#"
            422 PersistentVolumeClaim "a" is invalid: spec.volumeAttributesClassName: Forbidden: update to nil is forbidden when status.currentVolumeAttributesClassName is not nil
              FieldValueForbidden spec.volumeAttributesClassName
        "#]],
    );
    changed(
        "status",
        &bound,
        |claim| {
            claim["status"]["capacity"]["storage"] = "-1".into();
            claim["status"]["allocatedResourceStatuses"] = json!({"cpu": "Soon"});
            claim["status"]["allocatedResources"] = json!({"cpu": "1"});
        },
        &[],
        expect![[r#"
            422 PersistentVolumeClaim "a" is invalid: [status.capacity[storage]: Invalid value: -1: must be a valid resource quantity, status.allocatedResourceStatuses: Unsupported value: "cpu": supported values: "storage", status.allocatedResourceStatuses: Unsupported value: "cpu": supported values: "ControllerResizeInProgress", "ControllerResizeInfeasible", "NodeResizeInProgress", "NodeResizeInfeasible", "NodeResizePending", status.allocatedResources: Unsupported value: "cpu": supported values: "storage"]
              FieldValueInvalid status.capacity[storage]
              FieldValueNotSupported status.allocatedResourceStatuses
              FieldValueNotSupported status.allocatedResourceStatuses
              FieldValueNotSupported status.allocatedResources
        "#]],
    );
}

#[test]
fn quotas() {
    created(
        "{apiVersion: v1, kind: ResourceQuota, metadata: {name: a}, spec: {hard: {pods: '4', limits.cpu: '2', count/jobs.batch: '1'}}}",
        expect![[r#"
            kind: ResourceQuota
            apiVersion: v1
            metadata:
              name: a
            spec:
              hard:
                count/jobs.batch: '1'
                limits.cpu: '2'
                pods: '4'
            status: {}
        "#]],
    );
    refused(
        "{apiVersion: v1, kind: ResourceQuota, metadata: {name: a}, spec: {hard: {pods: 500m, cpus: '1', memory: '-1', 'a b': '1'}}}",
        expect![[r#"
            422 ResourceQuota "a" is invalid: [spec.hard[a b]: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), spec.hard[a b]: Invalid value: "a b": must be a standard resource for quota, spec.hard[cpus]: Invalid value: "cpus": must be a standard resource type or fully qualified, spec.hard[cpus]: Invalid value: "cpus": must be a standard resource for quota, spec.hard[memory]: Invalid value: "-1": must be greater than or equal to 0, spec.hard[pods]: Invalid value: "500m": must be an integer]
              FieldValueInvalid spec.hard[a b]
              FieldValueInvalid spec.hard[a b]
              FieldValueInvalid spec.hard[cpus]
              FieldValueInvalid spec.hard[cpus]
              FieldValueInvalid spec.hard[memory]
              FieldValueInvalid spec.hard[pods]
        "#]],
    );
    refused(
        "{apiVersion: v1, kind: ResourceQuota, metadata: {name: a}, spec: {hard: {secrets: '1'}, scopes: [BestEffort, NotBestEffort, Whatever], scopeSelector: {matchExpressions: [{scopeName: Terminating, operator: In}, {scopeName: PriorityClass, operator: Exists, values: [a]}, {scopeName: X, operator: Near}]}}}",
        expect![[r#"
            422 ResourceQuota "a" is invalid: [spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Whatever"]: unsupported scope applied to resource, spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Whatever"]: unsupported scope applied to resource, spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Whatever"]: unsupported scope, spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Whatever"]: conflicting scopes, spec.scopeSelector.matchExpressions: Invalid value: {"MatchExpressions":[{"ScopeName":"Terminating","Operator":"In","Values":null},{"ScopeName":"PriorityClass","Operator":"Exists","Values":["a"]},{"ScopeName":"X","Operator":"Near","Values":null}]}: unsupported scope applied to resource, spec.scopeSelector.matchExpressions.operator: Invalid value: "In": must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity, spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector, spec.scopeSelector.matchExpressions: Invalid value: {"MatchExpressions":[{"ScopeName":"Terminating","Operator":"In","Values":null},{"ScopeName":"PriorityClass","Operator":"Exists","Values":["a"]},{"ScopeName":"X","Operator":"Near","Values":null}]}: unsupported scope applied to resource, spec.scopeSelector.matchExpressions.values: Invalid value: ["a"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector, spec.scopeSelector.matchExpressions.scopeName: Invalid value: "X": unsupported scope, spec.scopeSelector.matchExpressions.operator: Invalid value: "Near": not a valid selector operator]
              FieldValueInvalid spec.scopes
              FieldValueInvalid spec.scopes
              FieldValueInvalid spec.scopes
              FieldValueInvalid spec.scopes
              FieldValueInvalid spec.scopeSelector.matchExpressions
              FieldValueInvalid spec.scopeSelector.matchExpressions.operator
              FieldValueRequired spec.scopeSelector.matchExpressions.values
              FieldValueInvalid spec.scopeSelector.matchExpressions
              FieldValueInvalid spec.scopeSelector.matchExpressions.values
              FieldValueInvalid spec.scopeSelector.matchExpressions.scopeName
              FieldValueInvalid spec.scopeSelector.matchExpressions.operator
        "#]],
    );
    let quota = stored(
        "{apiVersion: v1, kind: ResourceQuota, metadata: {name: a}, spec: {hard: {pods: '4'}, scopes: [BestEffort]}}",
    );
    changed(
        "",
        &quota,
        |quota| {
            quota["spec"]["hard"]["pods"] = "5".into();
            quota["status"] = json!({"hard": {"pods": "9"}});
        },
        &["spec.hard", "status"],
        expect![[r#"
            spec.hard: {"pods":"5"}
            status: {}
        "#]],
    );
    changed(
        "",
        &quota,
        |quota| quota["spec"]["scopes"] = json!([]),
        &[],
        expect![[r#"
        422 ResourceQuota "a" is invalid: spec.scopes: Invalid value: []: field is immutable
          FieldValueInvalid spec.scopes
    "#]],
    );
    changed(
        "status",
        &quota,
        |quota| quota["status"] = json!({"hard": {"pods": "-1"}, "used": {"nope": "1"}}),
        &[],
        expect![[r#"
            422 ResourceQuota "a" is invalid: [status.hard[pods]: Invalid value: "-1": must be greater than or equal to 0, status.used[nope]: Invalid value: "nope": must be a standard resource type or fully qualified, status.used[nope]: Invalid value: "nope": must be a standard resource for quota]
              FieldValueInvalid status.hard[pods]
              FieldValueInvalid status.used[nope]
              FieldValueInvalid status.used[nope]
        "#]],
    );
}

#[test]
fn limit_ranges() {
    created(
        "{apiVersion: v1, kind: LimitRange, metadata: {name: a}, spec: {limits: [{type: Container, max: {cpu: '2'}, min: {memory: 1Mi}}, {type: Pod, max: {cpu: '4'}}]}}",
        expect![[r#"
            kind: LimitRange
            apiVersion: v1
            metadata:
              name: a
            spec:
              limits:
              - type: Container
                max:
                  cpu: '2'
                min:
                  memory: 1Mi
                default:
                  cpu: '2'
                defaultRequest:
                  cpu: '2'
                  memory: 1Mi
              - type: Pod
                max:
                  cpu: '4'
        "#]],
    );
    refused(
        "{apiVersion: v1, kind: LimitRange, metadata: {name: a}, spec: {limits: [{type: Pod, default: {cpu: '1'}, defaultRequest: {cpu: '1'}}, {type: Pod, max: {storage: '1'}}, {type: Node}, {type: PersistentVolumeClaim, default: {cpus: '1'}}]}}",
        expect![[r#"
            422 LimitRange "a" is invalid: [spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod', spec.limits[0].defaultRequest: Forbidden: may not be specified when `type` is 'Pod', spec.limits[1].type: Duplicate value: "Pod", spec.limits[1].max[storage]: Invalid value: "storage": must be a standard resource for containers, spec.limits[2].type: Invalid value: "Node": must be a standard limit type or fully qualified, spec.limits[3].default[cpus]: Invalid value: "cpus": must be a standard resource type or fully qualified, spec.limits[3].limits: Required value: either minimum or maximum storage value is required, but neither was provided]
              FieldValueForbidden spec.limits[0].default
              FieldValueForbidden spec.limits[0].defaultRequest
              FieldValueDuplicate spec.limits[1].type
              FieldValueInvalid spec.limits[1].max[storage]
              FieldValueInvalid spec.limits[2].type
              FieldValueInvalid spec.limits[3].default[cpus]
              FieldValueRequired spec.limits[3].limits
        "#]],
    );
    refused(
        "{apiVersion: v1, kind: LimitRange, metadata: {name: a}, spec: {limits: [{type: Container, min: {cpu: '3'}, max: {cpu: '1'}, default: {cpu: '2'}, defaultRequest: {cpu: '5'}, maxLimitRequestRatio: {cpu: 500m}}, {type: x.y/z, min: {memory: '2'}, max: {memory: '4'}, maxLimitRequestRatio: {memory: '3'}, default: {hugepages-2Mi: 4Mi}, defaultRequest: {hugepages-2Mi: 2Mi}}]}}",
        expect![[r#"
            422 LimitRange "a" is invalid: [spec.limits[0].min[cpu]: Invalid value: "3": min value 3 is greater than max value 1, spec.limits[0].defaultRequest[cpu]: Invalid value: "5": default request value 5 is greater than max value 1, spec.limits[0].defaultRequest[cpu]: Invalid value: "5": default request value 5 is greater than default limit value 2, spec.limits[0].default[cpu]: Invalid value: "3": min value 3 is greater than default value 2, spec.limits[0].default[cpu]: Invalid value: "1": default value 2 is greater than max value 1, spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is less than 1, spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: "500m": ratio 500m is greater than max/min = 0.333333, spec.limits[1].defaultRequest[hugepages-2Mi]: Invalid value: "2Mi": default value 4Mi must equal to defaultRequest value 2Mi in hugepages-2Mi, spec.limits[1].maxLimitRequestRatio[memory]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000]
              FieldValueInvalid spec.limits[0].min[cpu]
              FieldValueInvalid spec.limits[0].defaultRequest[cpu]
              FieldValueInvalid spec.limits[0].defaultRequest[cpu]
              FieldValueInvalid spec.limits[0].default[cpu]
              FieldValueInvalid spec.limits[0].default[cpu]
              FieldValueInvalid spec.limits[0].maxLimitRequestRatio[cpu]
              FieldValueInvalid spec.limits[0].maxLimitRequestRatio[cpu]
              FieldValueInvalid spec.limits[1].defaultRequest[hugepages-2Mi]
              FieldValueInvalid spec.limits[1].maxLimitRequestRatio[memory]
        "#]],
    );
}

const CONTROLLER: &str = "{apiVersion: v1, kind: ReplicationController, metadata: {name: a}, spec: {template: {metadata: {labels: {a: b}}, spec: {containers: [{name: one, image: 'i:1'}]}}}}";

#[test]
fn replication_controllers() {
    created(
        CONTROLLER,
        expect![[r#"
        kind: ReplicationController
        apiVersion: v1
        metadata:
          name: a
          labels:
            a: b
          generation: 1
        spec:
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
              dnsPolicy: ClusterFirst
              restartPolicy: Always
              schedulerName: default-scheduler
              securityContext: {}
              terminationGracePeriodSeconds: 30
          replicas: 1
          selector:
            a: b
        status:
          replicas: 0
    "#]],
    );
    refused(
        "{apiVersion: v1, kind: ReplicationController, metadata: {name: a}, spec: {replicas: -1, minReadySeconds: -1}}",
        expect![[r#"
            422 ReplicationController "a" is invalid: [spec.minReadySeconds: Invalid value: -1: must be greater than or equal to 0, spec.selector: Required value, spec.replicas: Invalid value: -1: must be greater than or equal to 0, spec.template: Required value]
              FieldValueInvalid spec.minReadySeconds
              FieldValueRequired spec.selector
              FieldValueInvalid spec.replicas
              FieldValueRequired spec.template
        "#]],
    );
    refused(
        "{apiVersion: v1, kind: ReplicationController, metadata: {name: a}, spec: {selector: {a: c}, template: {metadata: {labels: {a: b}}, spec: {restartPolicy: Never, activeDeadlineSeconds: 1, containers: [{name: one, image: 'i:1'}]}}}}",
        expect![[r#"
            422 ReplicationController "a" is invalid: [spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`, spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always", spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicationController is not Supported]
              FieldValueInvalid spec.template.metadata.labels
              FieldValueNotSupported spec.template.spec.restartPolicy
              FieldValueForbidden spec.template.spec.activeDeadlineSeconds
        "#]],
    );
    let one = stored(CONTROLLER);
    let both = |one: &mut Value| {
        one["spec"]["replicas"] = json!(3);
        one["status"]["replicas"] = json!(2);
    };
    let picked = ["spec.replicas", "status.replicas", "metadata.generation"];
    changed(
        "",
        &one,
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
        &one,
        both,
        &picked,
        expect![[r#"
        spec.replicas: 1
        status.replicas: 2
        metadata.generation: 1
    "#]],
    );
    changed(
        "status",
        &one,
        |one| one["status"]["readyReplicas"] = json!(1),
        &[],
        expect![[r#"
        422 ReplicationController "a" is invalid: status.readyReplicas: Invalid value: 1: cannot be greater than status.replicas
          FieldValueInvalid status.readyReplicas
    "#]],
    );
    let scale = read_scale(&kind_of(&one), &one).expect("a scale");
    expect![[r#"{"replicas":1} {"replicas":0,"selector":"a=b"}"#]]
        .assert_eq(&format!("{} {}", scale["spec"], scale["status"]));
    assert_eq!(kind_of(&one).field_path("", "status.replicas"), Some("status.replicas"));
}

#[test]
fn pod_templates() {
    let body = "{apiVersion: v1, kind: PodTemplate, metadata: {name: a}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: one, image: 'i:1'}]}}}";
    created(
        body,
        expect![[r#"
        kind: PodTemplate
        apiVersion: v1
        metadata:
          name: a
          generation: 1
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
            dnsPolicy: ClusterFirst
            restartPolicy: Always
            schedulerName: default-scheduler
            securityContext: {}
            terminationGracePeriodSeconds: 30
    "#]],
    );
    refused(
        "{apiVersion: v1, kind: PodTemplate, metadata: {name: a}, template: {spec: {containers: []}}}",
        expect![[r#"
            422 PodTemplate "a" is invalid: template.spec.containers: Required value
              FieldValueRequired template.spec.containers
        "#]],
    );
    let one = stored(body);
    changed(
        "",
        &one,
        |one| one["template"]["spec"]["containers"][0]["image"] = "i:2".into(),
        &["metadata.generation"],
        expect![[r#"
            metadata.generation: 2
        "#]],
    );
}

#[test]
fn endpoints() {
    created(
        "{apiVersion: v1, kind: Endpoints, metadata: {name: a}, subsets: [{addresses: [{ip: 10.0.0.1}], ports: [{port: 80}]}]}",
        expect![[r#"
            kind: Endpoints
            apiVersion: v1
            metadata:
              name: a
            subsets:
            - addresses:
              - ip: 10.0.0.1
              ports:
              - port: 80
                protocol: TCP
        "#]],
    );
    refused(
        "{apiVersion: v1, kind: Endpoints, metadata: {name: a}, subsets: [{}, {addresses: [{ip: x, hostname: A, nodeName: B}], notReadyAddresses: [{ip: 127.0.0.1}], ports: [{port: 0, protocol: ICMP}, {name: A, port: 1, appProtocol: 'a b'}]}]}",
        expect![[r#"
            422 Endpoints "a" is invalid: [subsets[0]: Required value: must specify `addresses` or `notReadyAddresses`, subsets[1].addresses[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff), subsets[1].addresses[0].hostname: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), subsets[1].addresses[0].nodeName: Invalid value: "B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), subsets[1].addresses[0].ip: Invalid value: "x": must be a valid IP address, subsets[1].notReadyAddresses[0].ip: Invalid value: "127.0.0.1": may not be in the loopback range (127.0.0.0/8, ::1/128), subsets[1].ports[0].name: Required value, subsets[1].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, subsets[1].ports[0].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP", subsets[1].ports[1].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), subsets[1].ports[1].appProtocol: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')]
              FieldValueRequired subsets[0]
              FieldValueInvalid subsets[1].addresses[0].ip
              FieldValueInvalid subsets[1].addresses[0].hostname
              FieldValueInvalid subsets[1].addresses[0].nodeName
              FieldValueInvalid subsets[1].addresses[0].ip
              FieldValueInvalid subsets[1].notReadyAddresses[0].ip
              FieldValueRequired subsets[1].ports[0].name
              FieldValueInvalid subsets[1].ports[0].port
              FieldValueNotSupported subsets[1].ports[0].protocol
              FieldValueInvalid subsets[1].ports[1].name
              FieldValueInvalid subsets[1].ports[1].appProtocol
        "#]],
    );
}

#[test]
fn rows() {
    printed(&claim(""), "", expect!["a | Pending |  |  |  |  | <unset> | 5m | Filesystem"]);
    printed(
        &claim(", storageClassName: fast, volumeName: v, volumeMode: Block"),
        "{phase: Bound, capacity: {storage: 2Gi}, accessModes: [ReadWriteOncePod, ReadOnlyMany]}",
        expect!["a | Bound | v | 2Gi | ROX,RWOP | fast | <unset> | 5m | Block"],
    );
    printed(
        "{apiVersion: v1, kind: ResourceQuota, metadata: {name: a}, spec: {}}",
        "{hard: {pods: '4', limits.cpu: '2', cpu: '1'}, used: {pods: '1'}}",
        expect!["a | cpu: 0/1, pods: 1/4 | limits.cpu: 0/2 | 5m"],
    );
    printed(
        "{apiVersion: v1, kind: LimitRange, metadata: {name: a}, spec: {limits: []}}",
        "",
        expect!["a | 2026-11-23T17:00:00Z"],
    );
    printed(
        CONTROLLER,
        "{replicas: 1, readyReplicas: 1}",
        expect!["a | 1 | 1 | 1 | 5m | one | i:1 | a=b"],
    );
    printed(
        "{apiVersion: v1, kind: PodTemplate, metadata: {name: a}, template: {spec: {containers: [{name: one, image: 'i:1'}]}}}",
        "",
        expect!["a | one | i:1 | <none>"],
    );
    for (subsets, expected) in [
        ("[]", expect!["a | <none> | 5m"]),
        (
            "[{addresses: [{ip: 10.0.0.1}, {ip: 'fd00::1'}], ports: [{name: a, port: 80}, {name: b, port: 81}]}]",
            expect!["a | 10.0.0.1:80,[fd00::1]:80,10.0.0.1:81 + 1 more... | 5m"],
        ),
        ("[{addresses: [{ip: 10.0.0.1}]}]", expect!["a | 10.0.0.1 | 5m"]),
    ] {
        let body = format!(
            "{{apiVersion: v1, kind: Endpoints, metadata: {{name: a}}, subsets: {subsets}}}"
        );
        printed(&body, "", expected);
    }
}
