//! What is refused, and in which words.

use expect_test::{Expect, expect};

use crate::{create, refusal};

fn check(body: &str, expected: Expect) {
    expected.assert_eq(&refusal(create(body)));
}

#[test]
fn metadata() {
    check(
        "{apiVersion: v1, kind: ConfigMap, metadata: {}}",
        expect![[r#"
        422 ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required
          FieldValueRequired metadata.name
    "#]],
    );
    check(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: A_b, labels: {'-a': 'b c'}, annotations: {'/x': y}}}",
        expect![[r#"
            422 ConfigMap "A_b" is invalid: [metadata.name: Invalid value: "A_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), metadata.labels: Invalid value: "-a": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), metadata.labels: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?'), metadata.annotations: Invalid value: "/x": prefix part must be non-empty]
              FieldValueInvalid metadata.name
              FieldValueInvalid metadata.labels
              FieldValueInvalid metadata.labels
              FieldValueInvalid metadata.annotations
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Namespace, metadata: {name: a.b}}",
        expect![[r#"
        422 Namespace "a.b" is invalid: metadata.name: Invalid value: "a.b": must not contain dots
          FieldValueInvalid metadata.name
    "#]],
    );
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: 1a}, spec: {ports: [{port: 80}]}}",
        expect![[r#"
            accepted
        "#]],
    );
    check(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, finalizers: [x], ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: ''}]}}",
        expect![[r#"
            422 ConfigMap "a" is invalid: [metadata.ownerReferences[0].uid: Required value: must not be empty, metadata.finalizers[0]: Invalid value: "x": name is neither a standard finalizer name nor is it fully qualified]
              FieldValueRequired metadata.ownerReferences[0].uid
              FieldValueInvalid metadata.finalizers[0]
        "#]],
    );
    check(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, resourceVersion: '3'}}",
        expect![[r#"
            400 resourceVersion should not be set on objects to be created
        "#]],
    );
}

#[test]
fn names_of_pods() {
    let pod = |spec: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{{spec}, \
             containers: [{{name: c, image: i}}]}}}}"
        )
    };
    check(
        &pod("hostAliases: [{ip: 10.0.0.1, hostnames: [a.b]}, {ip: x, hostnames: [A]}]"),
        expect![[r#"
            422 Pod "p" is invalid: [spec.hostAliases[1].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff), spec.hostAliases[1].hostnames[0]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')]
              FieldValueInvalid spec.hostAliases[1].ip
              FieldValueInvalid spec.hostAliases[1].hostnames[0]
        "#]],
    );
    check(
        &pod("dnsConfig: {nameservers: [a], searches: [a.b., ., -], options: [{value: x}]}"),
        expect![[r#"
            422 Pod "p" is invalid: [spec.dnsConfig.nameservers[0]: Invalid value: "a": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff), spec.dnsConfig.searches[2]: Invalid value: "-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*'), spec.dnsConfig.options[0]: Required value: must not be empty]
              FieldValueInvalid spec.dnsConfig.nameservers[0]
              FieldValueInvalid spec.dnsConfig.searches[2]
              FieldValueRequired spec.dnsConfig.options[0]
        "#]],
    );
    check(
        &pod("dnsPolicy: None"),
        expect![[r#"
        422 Pod "p" is invalid: spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None
          FieldValueRequired spec.dnsConfig
    "#]],
    );
    check(
        &pod("dnsPolicy: None, dnsConfig: {nameservers: [1.1.1.1]}"),
        expect![[r#"
        accepted
    "#]],
    );
}

#[test]
fn pods() {
    check(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {}}",
        expect![[r#"
        422 Pod "a" is invalid: spec.containers: Required value
          FieldValueRequired spec.containers
    "#]],
    );
    check(
        "
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  restartPolicy: Sometimes
  containers:
  - {name: A, image: a}
  - name: b
    ports: [{containerPort: 70000, name: UP}, {containerPort: 80, name: p}, {containerPort: 80, name: p, protocol: ICMP}]
    env: [{value: x}, {name: a=b}, {name: c, valueFrom: {}}, {name: d, value: x, valueFrom: {fieldRef: {fieldPath: spec.nope}}}]
    volumeMounts: [{name: nope, mountPath: /a}]
    resources: {requests: {cpu: 2}, limits: {cpu: 1}}
    livenessProbe: {periodSeconds: -1, successThreshold: 2}
  - {name: b, image: a}
",
        expect![[r#"
            422 Pod "a" is invalid: [spec.containers[0].name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), spec.containers[1].image: Required value, spec.containers[1].ports[0].name: Invalid value: "UP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), spec.containers[1].ports[0].name: Invalid value: "UP": must contain at least one letter (a-z), spec.containers[1].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive, spec.containers[1].ports[2].name: Duplicate value: "p", spec.containers[1].ports[2].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP", spec.containers[1].env[0].name: Required value, spec.containers[1].env[1].name: Invalid value: "a=b": a valid environment variable name must consist only of printable ASCII characters other than '=', spec.containers[1].env[2].valueFrom: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`, spec.containers[1].env[3].valueFrom.fieldRef.fieldPath: Invalid value: "spec.nope": error converting fieldPath: field label not supported: spec.nope, spec.containers[1].env[3].valueFrom: Invalid value: "": may not be specified when `value` is not empty, spec.containers[1].volumeMounts[0].name: Not found: "nope", spec.containers[1].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1, spec.containers[1].livenessProbe: Required value: must specify a handler type, spec.containers[1].livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0, spec.containers[1].livenessProbe.successThreshold: Invalid value: 2: must be 1, spec.containers[2].name: Duplicate value: "b", spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "OnFailure", "Never"]
              FieldValueInvalid spec.containers[0].name
              FieldValueRequired spec.containers[1].image
              FieldValueInvalid spec.containers[1].ports[0].name
              FieldValueInvalid spec.containers[1].ports[0].name
              FieldValueInvalid spec.containers[1].ports[0].containerPort
              FieldValueDuplicate spec.containers[1].ports[2].name
              FieldValueNotSupported spec.containers[1].ports[2].protocol
              FieldValueRequired spec.containers[1].env[0].name
              FieldValueInvalid spec.containers[1].env[1].name
              FieldValueInvalid spec.containers[1].env[2].valueFrom
              FieldValueInvalid spec.containers[1].env[3].valueFrom.fieldRef.fieldPath
              FieldValueInvalid spec.containers[1].env[3].valueFrom
              FieldValueNotFound spec.containers[1].volumeMounts[0].name
              FieldValueInvalid spec.containers[1].resources.requests
              FieldValueRequired spec.containers[1].livenessProbe
              FieldValueInvalid spec.containers[1].livenessProbe.periodSeconds
              FieldValueInvalid spec.containers[1].livenessProbe.successThreshold
              FieldValueDuplicate spec.containers[2].name
              FieldValueNotSupported spec.restartPolicy
        "#]],
    );
    check(
        "
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers: [{name: a, image: a}]
  initContainers: [{name: a, image: a, readinessProbe: {exec: {command: [x]}}}]
  volumes: [{name: v, emptyDir: {}, secret: {}}, {name: v}]
  tolerations: [{operator: Equal, value: x}, {key: a, operator: Exists, value: b, tolerationSeconds: 3}]
  affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In}]}]}}}
  nodeSelector: {a: 'b c'}
  activeDeadlineSeconds: 0
",
        expect![[r#"
            422 Pod "a" is invalid: [spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type, spec.initContainers[0].name: Duplicate value: "a", spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always, spec.nodeSelector: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?'), spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn', spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive, spec.tolerations[0].operator: Invalid value: "Equal": operator must be Exists when `key` is empty, which means "match all values and all keys", spec.tolerations[1].effect: Invalid value: "": effect must be 'NoExecute' when `tolerationSeconds` is set, spec.tolerations[1].operator: Invalid value: "b": value must be empty when `operator` is 'Exists']
              FieldValueForbidden spec.volumes[0].secret
              FieldValueDuplicate spec.initContainers[0].name
              FieldValueForbidden spec.initContainers[0].readinessProbe
              FieldValueInvalid spec.nodeSelector
              FieldValueRequired spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].values
              FieldValueInvalid spec.activeDeadlineSeconds
              FieldValueInvalid spec.tolerations[0].operator
              FieldValueInvalid spec.tolerations[1].effect
              FieldValueInvalid spec.tolerations[1].operator
        "#]],
    );
}

#[test]
fn workloads() {
    check(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: -1, template: {spec: {containers: []}}}}",
        expect![[r#"
            422 Deployment.apps "d" is invalid: [spec.replicas: Invalid value: -1: must be greater than or equal to 0, spec.selector: Required value, spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`, spec.template.spec.containers: Required value]
              FieldValueInvalid spec.replicas
              FieldValueRequired spec.selector
              FieldValueInvalid spec.template.metadata.labels
              FieldValueRequired spec.template.spec.containers
        "#]],
    );
    check(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  selector: {matchLabels: {a: b}}
  strategy: {rollingUpdate: {maxSurge: 0, maxUnavailable: 0}}
  progressDeadlineSeconds: 5
  minReadySeconds: 5
  template:
    metadata: {labels: {a: c}}
    spec: {restartPolicy: Never, containers: [{name: a, image: a}]}
",
        expect![[r#"
            422 Deployment.apps "d" is invalid: [spec.template.metadata.labels: Invalid value: {"a":"c"}: `selector` does not match template `labels`, spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always", spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0, spec.progressDeadlineSeconds: Invalid value: 5: must be greater than minReadySeconds]
              FieldValueInvalid spec.template.metadata.labels
              FieldValueNotSupported spec.template.spec.restartPolicy
              FieldValueInvalid spec.strategy.rollingUpdate.maxUnavailable
              FieldValueInvalid spec.progressDeadlineSeconds
        "#]],
    );
    check(
        "
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: d}
spec:
  selector: {matchExpressions: [{key: a, operator: Is, values: [b]}]}
  template: {metadata: {labels: {a: c}}, spec: {containers: [{name: a, image: a}]}}
",
        expect![[r#"
            422 ReplicaSet.apps "d" is invalid: [spec.selector.matchExpressions[0].operator: Invalid value: "Is": not a valid selector operator, spec.selector: Invalid value: {"matchExpressions":[{"key":"a","operator":"Is","values":["b"]}]}: invalid label selector]
              FieldValueInvalid spec.selector.matchExpressions[0].operator
              FieldValueInvalid spec.selector
        "#]],
    );
}

#[test]
fn services() {
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {}}",
        expect![[r#"
        422 Service "a" is invalid: spec.ports: Required value
          FieldValueRequired spec.ports
    "#]],
    );
    check(
        "
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  sessionAffinity: Sticky
  clusterIP: 10.0.0.1
  ports: [{port: 80}, {port: 80, targetPort: UP, nodePort: 30000}]
",
        expect![[r#"
            422 Service "a" is invalid: spec.clusterIPs: Invalid value: ["10.0.0.1"]: failed to allocate IP 10.0.0.1: the provided IP (10.0.0.1) is not in the valid range. The range of valid IPs is 127.96.0.0/20
              FieldValueInvalid spec.clusterIPs
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: Nope, sessionAffinity: Sticky, ports: [{port: 80}, {port: 80, targetPort: UP, nodePort: 30000, protocol: ICMP}]}}",
        expect![[r#"
            422 Service "a" is invalid: [spec.ports[0].name: Required value, spec.ports[1].name: Required value, spec.ports[1].protocol: Unsupported value: "ICMP": supported values: "SCTP", "TCP", "UDP", spec.ports[1].targetPort: Invalid value: "UP": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), spec.ports[1].targetPort: Invalid value: "UP": must contain at least one letter (a-z), spec.sessionAffinity: Unsupported value: "Sticky": supported values: "ClientIP", "None", spec.type: Unsupported value: "Nope": supported values: "ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]
              FieldValueRequired spec.ports[0].name
              FieldValueRequired spec.ports[1].name
              FieldValueNotSupported spec.ports[1].protocol
              FieldValueInvalid spec.ports[1].targetPort
              FieldValueInvalid spec.ports[1].targetPort
              FieldValueNotSupported spec.sessionAffinity
              FieldValueNotSupported spec.type
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: Nope, clusterIP: x}}",
        expect![[r#"
            422 Service "a" is invalid: spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
              FieldValueInvalid spec.clusterIPs[0]
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: ExternalName}}",
        expect![[r#"
            422 Service "a" is invalid: spec.externalName: Required value
              FieldValueRequired spec.externalName
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ipFamilyPolicy: RequireDualStack, ports: [{port: 80}]}}",
        expect![[r#"
            422 Service "a" is invalid: spec.ipFamilyPolicy: Invalid value: "RequireDualStack": this cluster is not configured for dual-stack services
              FieldValueInvalid spec.ipFamilyPolicy
        "#]],
    );
}

#[test]
fn small_kinds() {
    check(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {'a b': x, c: y}, binaryData: {c: eQ==}}",
        expect![[r#"
            422 ConfigMap "a" is invalid: [data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+'), data[c]: Invalid value: "c": duplicate of key present in binaryData]
              FieldValueInvalid data[a b]
              FieldValueInvalid data[c]
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Secret, metadata: {name: a}, type: kubernetes.io/tls}",
        expect![[r#"
            422 Secret "a" is invalid: [data[tls.crt]: Required value, data[tls.key]: Required value]
              FieldValueRequired data[tls.crt]
              FieldValueRequired data[tls.key]
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Secret, metadata: {name: a}, type: kubernetes.io/dockerconfigjson, stringData: {.dockerconfigjson: x}}",
        expect![[r#"
            422 Secret "a" is invalid: data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": expected value at line 1 column 1
              FieldValueInvalid data[.dockerconfigjson]
        "#]],
    );
    check(
        "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: a}, spec: {leaseDurationSeconds: 0}}",
        expect![[r#"
            422 Lease.coordination.k8s.io "a" is invalid: spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0
              FieldValueInvalid spec.leaseDurationSeconds
        "#]],
    );
    check(
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv5, endpoints: [{addresses: []}, {addresses: [x]}]}",
        expect![[r#"
            422 EndpointSlice.discovery.k8s.io "a" is invalid: [addressType: Unsupported value: "IPv5": supported values: "FQDN", "IPv4", "IPv6", endpoints[0].addresses: Required value]
              FieldValueNotSupported addressType
              FieldValueRequired endpoints[0].addresses
        "#]],
    );
    check(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: 'a:b'}, rules: [{}, {verbs: [get], nonResourceURLs: [/x]}]}",
        expect![[r#"
            422 Role.rbac.authorization.k8s.io "a:b" is invalid: [rules[0].verbs: Required value, rules[0].apiGroups: Required value: resource rules must supply at least one api group, rules[0].resources: Required value: resource rules must supply at least one resource, rules[1].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs]
              FieldValueRequired rules[0].verbs
              FieldValueRequired rules[0].apiGroups
              FieldValueRequired rules[0].resources
              FieldValueInvalid rules[1].nonResourceURLs
        "#]],
    );
    check(
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: a}, roleRef: {kind: X}, subjects: [{kind: Robot, name: a}, {kind: ServiceAccount, name: B}]}",
        expect![[r#"
            422 RoleBinding.rbac.authorization.k8s.io "a" is invalid: [roleRef.kind: Unsupported value: "X": supported values: "Role", "ClusterRole", roleRef.name: Required value, subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group", subjects[1].name: Invalid value: "B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')]
              FieldValueNotSupported roleRef.kind
              FieldValueRequired roleRef.name
              FieldValueNotSupported subjects[0].kind
              FieldValueInvalid subjects[1].name
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Event, metadata: {name: a}, involvedObject: {namespace: other}}",
        expect![[r#"
            422 Event "a" is invalid: involvedObject.namespace: Invalid value: "other": does not match event.namespace
              FieldValueInvalid involvedObject.namespace
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Node, metadata: {name: n}, spec: {taints: [{key: a, effect: Nope}, {key: b, effect: NoSchedule}, {key: b, effect: NoSchedule}]}}",
        expect![[r#"
            422 Node "n" is invalid: [metadata.taints[0].effect: Unsupported value: "Nope": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute", metadata.taints[2]: Duplicate value: {"Key":"b","Value":"","Effect":"NoSchedule","TimeAdded":null}: taints must be unique by key and effect pair]
              FieldValueNotSupported metadata.taints[0].effect
              FieldValueDuplicate metadata.taints[2]
        "#]],
    );
}

/// Node ports that are given out (by a range of two), and that may not be asked for.
#[test]
fn node_ports() {
    let given = |kind: &str, ports: &str| -> String {
        let service = format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: a}}, spec: {{type: {kind}, ports: [{ports}]}}}}"
        );
        match crate::create(&service) {
            Ok(object) => {
                let ports = object["spec"]["ports"].as_array().into_iter().flatten();
                ports.map(|port| port["nodePort"].to_string()).collect::<Vec<_>>().join(" ")
            }
            Err(status) => status.message,
        }
    };
    let two = "{name: t, port: 53}, {name: u, port: 53, protocol: UDP}";
    let three = "{name: a, port: 1}, {name: b, port: 2}, {name: c, port: 3}";
    let same = "{name: t, port: 53, nodePort: 30053}, {name: u, port: 53, protocol: UDP}";
    let twice = "{name: t, port: 1, nodePort: 30053}, {name: u, port: 2, nodePort: 30053}";
    let shown = [
        given("NodePort", two),
        given("NodePort", same),
        given("NodePort", three),
        given("NodePort", twice),
        given("LoadBalancer", "{port: 80}"),
        given("LoadBalancer, allocateLoadBalancerNodePorts: false", "{port: 80}"),
        given("NodePort", "{port: 80, nodePort: 29999}"),
        given("ClusterIP", "{port: 80}"),
    ];
    expect![[r#"
        30086 30086
        30053 30053
        Service "a" is invalid: spec.ports[2].nodePort: Invalid value: 0: failed to allocate a nodePort: range is full
        Service "a" is invalid: spec.ports[1].nodePort: Duplicate value: 30053
        30086
        null
        Service "a" is invalid: spec.ports[0].nodePort: Invalid value: 29999: provided port is not in the valid range. The range of valid ports is 30000-32767
        null
    "#]].assert_eq(&(shown.join("\n") + "\n"));
}

#[test]
fn runtime_classes() {
    check(
        "{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: a}, handler: docker, scheduling: {nodeSelector: {a.b/c: d}}}",
        expect![[r#"
            accepted
        "#]],
    );
    check(
        "{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: a}, handler: docker, overhead: {podFixed: {cpu: '-1'}}}",
        expect![[r#"
            422 RuntimeClass.node.k8s.io "a" is invalid: overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0
              FieldValueInvalid overhead.limits[cpu]
        "#]],
    );
}
