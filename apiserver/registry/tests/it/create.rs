//! What a create fills in.

use expect_test::{Expect, expect};

use crate::{create, text};

fn check(body: &str, expected: Expect) {
    let mut object = create(body).unwrap_or_else(|status| panic!("{}", status.message));
    object["metadata"].as_object_mut().expect("metadata").shift_remove("managedFields");
    expected.assert_eq(&text(&object));
}

#[test]
fn a_small_pod_gets_upstreams_defaults() {
    check(
        "
apiVersion: v1
kind: Pod
metadata: {name: a}
spec:
  containers:
  - name: web
    image: windlass.dev/hello:v1
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {port: 8080}}
    resources: {limits: {memory: 0.5Gi, cpu: 1000m}}
    env:
    - {name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory}}}
  volumes: [{name: scratch}, {name: conf, configMap: {name: c}}]
",
        expect![[r#"
            kind: Pod
            apiVersion: v1
            metadata:
              name: a
              namespace: default
              uid: u
              creationTimestamp: 2026-11-23T17:00:00Z
              generation: 1
            spec:
              volumes:
              - name: scratch
                emptyDir: {}
              - name: conf
                configMap:
                  name: c
                  defaultMode: 420
              containers:
              - name: web
                image: windlass.dev/hello:v1
                ports:
                - containerPort: 8080
                  protocol: TCP
                env:
                - name: POD
                  valueFrom:
                    fieldRef:
                      fieldPath: metadata.name
                      apiVersion: v1
                - name: MEM
                  valueFrom:
                    resourceFieldRef:
                      resource: limits.memory
                      divisor: '0'
                resources:
                  limits:
                    cpu: '1'
                    memory: 512Mi
                  requests:
                    cpu: '1'
                    memory: 512Mi
                readinessProbe:
                  httpGet:
                    port: 8080
                    path: /
                    scheme: HTTP
                  failureThreshold: 3
                  periodSeconds: 10
                  successThreshold: 1
                  timeoutSeconds: 1
                terminationMessagePath: /dev/termination-log
                terminationMessagePolicy: File
                imagePullPolicy: IfNotPresent
              dnsPolicy: ClusterFirst
              restartPolicy: Always
              schedulerName: default-scheduler
              securityContext: {}
              terminationGracePeriodSeconds: 30
              enableServiceLinks: true
              preemptionPolicy: PreemptLowerPriority
              priority: 0
            status:
              phase: Pending
              qosClass: Guaranteed
        "#]],
    );
}

#[test]
fn the_pull_policy_follows_the_tag() {
    let policy = |image: &str| {
        let body = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{containers: [{{name: a, image: \"{image}\"}}]}}"
        );
        let pod = create(&body).expect("valid");
        pod["spec"]["containers"][0]["imagePullPolicy"].as_str().unwrap_or_default().to_owned()
    };
    let all = ["a", "a:latest", "a:v1", "host:5000/a", "host:5000/a:v1", "a@sha256:00"];
    let found: Vec<String> = all.iter().map(|image| format!("{image} {}", policy(image))).collect();
    expect![[r#"
        a Always
        a:latest Always
        a:v1 IfNotPresent
        host:5000/a Always
        host:5000/a:v1 IfNotPresent
        a@sha256:00 IfNotPresent"#]]
    .assert_eq(&found.join("\n"));
}

#[test]
fn a_deployment_gets_upstreams_defaults() {
    check(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: a}]}
",
        expect![[r#"
            kind: Deployment
            apiVersion: apps/v1
            metadata:
              name: web
              namespace: default
              uid: u
              creationTimestamp: 2026-11-23T17:00:00Z
              generation: 1
            spec:
              selector:
                matchLabels:
                  app: web
              template:
                metadata:
                  labels:
                    app: web
                spec:
                  containers:
                  - name: web
                    image: a
                    resources: {}
                    terminationMessagePath: /dev/termination-log
                    terminationMessagePolicy: File
                    imagePullPolicy: Always
                  dnsPolicy: ClusterFirst
                  restartPolicy: Always
                  schedulerName: default-scheduler
                  securityContext: {}
                  terminationGracePeriodSeconds: 30
              strategy:
                type: RollingUpdate
                rollingUpdate:
                  maxUnavailable: 25%
                  maxSurge: 25%
              progressDeadlineSeconds: 600
              replicas: 1
              revisionHistoryLimit: 10
            status: {}
        "#]],
    );
}

#[test]
fn a_service_gets_an_address() {
    check(
        "
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80}, {name: two, port: 81, targetPort: web}]
"
        .replace("ports: [{port: 80}", "ports: [{name: one, port: 80}")
        .as_str(),
        expect![[r#"
            kind: Service
            apiVersion: v1
            metadata:
              name: web
              namespace: default
              uid: u
              creationTimestamp: 2026-11-23T17:00:00Z
            spec:
              ports:
              - name: one
                port: 80
                targetPort: 80
                protocol: TCP
              - name: two
                port: 81
                targetPort: web
                protocol: TCP
              selector:
                app: web
              sessionAffinity: None
              type: ClusterIP
              internalTrafficPolicy: Cluster
              ipFamilyPolicy: SingleStack
              ipFamilies:
              - IPv4
              clusterIP: 127.96.0.5
              clusterIPs:
              - 127.96.0.5
            status:
              loadBalancer: {}
        "#]],
    );
    check(
        "
apiVersion: v1
kind: Service
metadata: {name: none}
spec: {clusterIP: None, selector: {app: web}}
",
        expect![[r#"
            kind: Service
            apiVersion: v1
            metadata:
              name: none
              namespace: default
              uid: u
              creationTimestamp: 2026-11-23T17:00:00Z
            spec:
              selector:
                app: web
              clusterIP: None
              sessionAffinity: None
              type: ClusterIP
              internalTrafficPolicy: Cluster
              clusterIPs:
              - None
              ipFamilyPolicy: SingleStack
              ipFamilies:
              - IPv4
            status:
              loadBalancer: {}
        "#]],
    );
    check(
        "
apiVersion: v1
kind: Service
metadata: {name: away}
spec: {type: ExternalName, externalName: example.com}
",
        expect![[r#"
            kind: Service
            apiVersion: v1
            metadata:
              name: away
              namespace: default
              uid: u
              creationTimestamp: 2026-11-23T17:00:00Z
            spec:
              type: ExternalName
              externalName: example.com
              sessionAffinity: None
            status:
              loadBalancer: {}
        "#]],
    );
}

#[test]
fn small_kinds_get_upstreams_defaults() {
    check(
        "{apiVersion: v1, kind: Namespace, metadata: {generateName: team-}}",
        expect![[r#"
            kind: Namespace
            apiVersion: v1
            metadata:
              generateName: team-
              name: team-cgzp9
              uid: u
              creationTimestamp: 2026-11-23T17:00:00Z
              labels:
                kubernetes.io/metadata.name: team-cgzp9
            spec:
              finalizers:
              - kubernetes
            status:
              phase: Active
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Secret, metadata: {name: s}, data: {a: YQ==}, stringData: {b: bb}}",
        expect![[r#"
            kind: Secret
            apiVersion: v1
            metadata:
              name: s
              namespace: default
              uid: u
              creationTimestamp: 2026-11-23T17:00:00Z
            data:
              a: YQ==
              b: YmI=
            type: Opaque
        "#]],
    );
    check(
        "
apiVersion: v1
kind: Node
metadata: {name: n}
status: {capacity: {cpu: 2, memory: 24Gi}}
",
        expect![[r#"
            kind: Node
            apiVersion: v1
            metadata:
              name: n
              uid: u
              creationTimestamp: 2026-11-23T17:00:00Z
            spec: {}
            status:
              capacity:
                cpu: '2'
                memory: 24Gi
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
              allocatable:
                cpu: '2'
                memory: 24Gi
        "#]],
    );
    check(
        "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: e}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [127.64.0.1]}]
",
        expect![[r#"
            kind: EndpointSlice
            apiVersion: discovery.k8s.io/v1
            metadata:
              name: e
              namespace: default
              uid: u
              creationTimestamp: 2026-11-23T17:00:00Z
              generation: 1
            addressType: IPv4
            endpoints:
            - addresses:
              - 127.64.0.1
              conditions: {}
            ports:
            - port: 80
              name: ''
              protocol: TCP
        "#]],
    );
    check(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: 'system:b'}
roleRef: {kind: ClusterRole, name: admin}
subjects: [{kind: User, name: ann}, {kind: ServiceAccount, name: s, namespace: n}]
",
        expect![[r#"
            kind: ClusterRoleBinding
            apiVersion: rbac.authorization.k8s.io/v1
            metadata:
              name: system:b
              uid: u
              creationTimestamp: 2026-11-23T17:00:00Z
            subjects:
            - kind: User
              name: ann
              apiGroup: rbac.authorization.k8s.io
            - kind: ServiceAccount
              name: s
              namespace: n
            roleRef:
              apiGroup: rbac.authorization.k8s.io
              kind: ClusterRole
              name: admin
        "#]],
    );
}

#[test]
fn defaults_settle_at_once() {
    let bodies = [
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {hostNetwork: true, containers: [{name: a, image: a, ports: [{containerPort: 80}]}], volumes: [{name: v}]}}",
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: LoadBalancer, sessionAffinity: ClientIP, ports: [{port: 80}]}}",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: a}]}}}}",
        "{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {a: b}}",
        "{apiVersion: v1, kind: Node, metadata: {name: a}, status: {capacity: {cpu: 1}}}",
        "{apiVersion: v1, kind: Namespace, metadata: {name: a}}",
        "{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: a}, spec: {}}",
    ];
    for body in bodies {
        let old = crate::stored(body);
        let same = crate::update("", &old, |_| {}).unwrap_or_else(|why| panic!("{}", why.message));
        assert_eq!(same, old);
    }
}

#[test]
fn bodies_must_fit_their_request() {
    let mut object =
        crate::yaml("{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: x}}");
    let kind = crate::kind_of(&object);
    let served = crate::served("", "v1");
    let say = |result: Result<(), windlass_sdk_meta::Status>| match result {
        Ok(()) => "ok".to_owned(),
        Err(status) => format!("{} {}", status.code, status.message),
    };
    let mut found = vec![
        say(kind.identify(&mut object, &served, "y", None)),
        say(kind.identify(&mut object, &served, "x", Some("b"))),
        say(kind.identify(&mut object, &served, "x", Some("a"))),
    ];
    object["kind"] = "Secret".into();
    found.push(say(kind.identify(&mut object, &served, "x", None)));
    object["kind"] = "ConfigMap".into();
    object["apiVersion"] = "v2".into();
    found.push(say(kind.identify(&mut object, &served, "x", None)));
    expect![[r#"
        400 the namespace of the provided object does not match the namespace sent on the request
        400 the name of the object (a) does not match the name on the URL (b)
        ok
        400 Secret in version "v1" cannot be handled as a ConfigMap: expected v1, Kind=ConfigMap
        400 ConfigMap in version "v2" cannot be handled as a ConfigMap: expected v1, Kind=ConfigMap"#]].assert_eq(&found.join("\n"));
}
