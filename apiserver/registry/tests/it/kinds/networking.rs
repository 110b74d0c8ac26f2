//! Ingress, IngressClass, NetworkPolicy.

use expect_test::expect;
use serde_json::{Value, json};

use super::{changed, created, printed, refused};
use crate::stored;

fn of(kind: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: {kind}, metadata: {{name: a}}, spec: {spec}}}"
    )
}

const ONE: &str = "{rules: [{host: x.y, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: s, port: {number: 80}}}}]}}]}";

#[test]
fn ingresses() {
    created(
        &of("Ingress", ONE),
        expect![[r#"
        kind: Ingress
        apiVersion: networking.k8s.io/v1
        metadata:
          name: a
          generation: 1
        spec:
          rules:
          - host: x.y
            http:
              paths:
              - path: /
                pathType: Prefix
                backend:
                  service:
                    name: s
                    port:
                      number: 80
        status:
          loadBalancer: {}
    "#]],
    );
    refused(
        &of("Ingress", "{}"),
        expect![[r#"
        422 Ingress.networking.k8s.io "a" is invalid: spec: Invalid value: null: either `defaultBackend` or `rules` must be specified
          FieldValueInvalid spec
    "#]],
    );
    refused(
        &of(
            "Ingress",
            "{ingressClassName: A, defaultBackend: {}, tls: [{hosts: ['*', A], secretName: B}], rules: [{host: 10.0.0.1, http: {paths: []}}, {host: 'a.*.b', http: {paths: [{backend: {}}, {path: x, pathType: Exact, backend: {resource: {kind: '', name: a/b, apiGroup: C}}}, {path: '/a//b/..', pathType: Prefix, backend: {service: {name: A, port: {}}}}, {path: x, pathType: ImplementationSpecific, backend: {service: {name: '', port: {name: A, number: 1}}}}, {path: /, pathType: Near, backend: {service: {name: a, port: {number: 70000}}, resource: {kind: a, name: b}}}]}}]}",
        ),
        expect![[r#"
            422 Ingress.networking.k8s.io "a" is invalid: [spec.defaultBackend: Invalid value: "": resource or service backend is required, spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address, spec.rules[0].http.paths: Required value, spec.rules[1].host: Invalid value: "a.*.b": a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), spec.rules[1].http.paths[0].pathType: Required value: pathType must be specified, spec.rules[1].http.paths[1].path: Invalid value: "x": must be an absolute path, spec.rules[1].http.paths[1].backend.resource.apiGroup: Invalid value: "C": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), spec.rules[1].http.paths[1].backend.resource.kind: Required value, spec.rules[1].http.paths[1].backend.resource.name: Invalid value: "a/b": may not contain '/', spec.rules[1].http.paths[2].path: Invalid value: "/a//b/..": must not contain '//', spec.rules[1].http.paths[2].path: Invalid value: "/a//b/..": cannot end with '/..', spec.rules[1].http.paths[2].backend.service.name: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), spec.rules[1].http.paths[2].backend: Required value: port name or number is required, spec.rules[1].http.paths[3].path: Invalid value: "x": must be an absolute path, spec.rules[1].http.paths[3].backend.service.name: Required value, spec.rules[1].http.paths[3].backend: Invalid value: "": cannot set both port name & port number, spec.rules[1].http.paths[4].pathType: Unsupported value: "Near": supported values: "Exact", "ImplementationSpecific", "Prefix", spec.rules[1].http.paths[4].backend: Invalid value: "": cannot set both resource and service backends, spec.tls[0].hosts[0]: Invalid value: "*": a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), spec.tls[0].hosts[1]: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), spec.tls[0].secretName: Invalid value: "B": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), spec.ingressClassName: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')]
              FieldValueInvalid spec.defaultBackend
              FieldValueInvalid spec.rules[0].host
              FieldValueRequired spec.rules[0].http.paths
              FieldValueInvalid spec.rules[1].host
              FieldValueRequired spec.rules[1].http.paths[0].pathType
              FieldValueInvalid spec.rules[1].http.paths[1].path
              FieldValueInvalid spec.rules[1].http.paths[1].backend.resource.apiGroup
              FieldValueRequired spec.rules[1].http.paths[1].backend.resource.kind
              FieldValueInvalid spec.rules[1].http.paths[1].backend.resource.name
              FieldValueInvalid spec.rules[1].http.paths[2].path
              FieldValueInvalid spec.rules[1].http.paths[2].path
              FieldValueInvalid spec.rules[1].http.paths[2].backend.service.name
              FieldValueRequired spec.rules[1].http.paths[2].backend
              FieldValueInvalid spec.rules[1].http.paths[3].path
              FieldValueRequired spec.rules[1].http.paths[3].backend.service.name
              FieldValueInvalid spec.rules[1].http.paths[3].backend
              FieldValueNotSupported spec.rules[1].http.paths[4].pathType
              FieldValueInvalid spec.rules[1].http.paths[4].backend
              FieldValueInvalid spec.tls[0].hosts[0]
              FieldValueInvalid spec.tls[0].hosts[1]
              FieldValueInvalid spec.tls[0].secretName
              FieldValueInvalid spec.ingressClassName
        "#]],
    );
    refused(
        "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: a, annotations: {kubernetes.io/ingress.class: b}}, spec: {ingressClassName: c, defaultBackend: {service: {name: s, port: {name: http}}}}}",
        expect![[r#"
            422 Ingress.networking.k8s.io "a" is invalid: annotations.kubernetes.io/ingress.class: Invalid value: "b": must match `ingressClassName` when both are specified
              FieldValueInvalid annotations.kubernetes.io/ingress.class
        "#]],
    );
    let one = stored(&of("Ingress", ONE));
    let both = |one: &mut Value| {
        one["spec"]["ingressClassName"] = "b".into();
        one["status"]["loadBalancer"] = json!({"ingress": [{"ip": "10.0.0.1"}]});
    };
    let picked = ["spec.ingressClassName", "status", "metadata.generation"];
    changed(
        "",
        &one,
        both,
        &picked,
        expect![[r#"
        spec.ingressClassName: "b"
        status: {"loadBalancer":{}}
        metadata.generation: 2
    "#]],
    );
    changed(
        "status",
        &one,
        both,
        &picked,
        expect![[r#"
        spec.ingressClassName: null
        status: {"loadBalancer":{"ingress":[{"ip":"10.0.0.1"}]}}
        metadata.generation: 1
    "#]],
    );
    changed(
        "status",
        &one,
        |one| {
            let points = json!([{"ip": "x"}, {"hostname": "10.0.0.1"}, {"hostname": "A"}]);
            one["status"]["loadBalancer"]["ingress"] = points;
        },
        &[],
        expect![[r#"
            422 Ingress.networking.k8s.io "a" is invalid: [status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff), status.loadBalancer.ingress[1].hostname: Invalid value: "10.0.0.1": must be a DNS name, not an IP address, status.loadBalancer.ingress[2].hostname: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')]
              FieldValueInvalid status.loadBalancer.ingress[0].ip
              FieldValueInvalid status.loadBalancer.ingress[1].hostname
              FieldValueInvalid status.loadBalancer.ingress[2].hostname
        "#]],
    );
}

#[test]
fn ingress_classes() {
    created(
        &of("IngressClass", "{controller: a.b/c, parameters: {kind: K, name: n}}"),
        expect![[r#"
            kind: IngressClass
            apiVersion: networking.k8s.io/v1
            metadata:
              name: a
              generation: 1
            spec:
              controller: a.b/c
              parameters:
                kind: K
                name: n
                scope: Cluster
        "#]],
    );
    refused(
        &of("IngressClass", "{controller: c, parameters: {kind: '', name: a/b, scope: Namespace}}"),
        expect![[r#"
            422 IngressClass.networking.k8s.io "a" is invalid: [spec.controller: Invalid value: "c": must be a domain-prefixed path (such as "acme.io/foo"), spec.parameters.kind: Required value, spec.parameters.name: Invalid value: "a/b": may not contain '/', spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace']
              FieldValueInvalid spec.controller
              FieldValueRequired spec.parameters.kind
              FieldValueInvalid spec.parameters.name
              FieldValueRequired spec.parameters.namespace
        "#]],
    );
    refused(
        &of("IngressClass", "{controller: a/b, parameters: {kind: K, name: n, namespace: x}}"),
        expect![[r#"
            422 IngressClass.networking.k8s.io "a" is invalid: spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'
              FieldValueForbidden spec.parameters.namespace
        "#]],
    );
    refused(
        &of("IngressClass", "{controller: a/b, parameters: {kind: K, name: n, scope: All}}"),
        expect![[r#"
            422 IngressClass.networking.k8s.io "a" is invalid: spec.parameters.scope: Unsupported value: "All": supported values: "Cluster", "Namespace"
              FieldValueNotSupported spec.parameters.scope
        "#]],
    );
    let one = stored(&of("IngressClass", "{controller: a.b/c}"));
    changed(
        "",
        &one,
        |one| one["spec"]["controller"] = "a.b/d".into(),
        &[],
        expect![[r#"
        422 IngressClass.networking.k8s.io "a" is invalid: spec.controller: Invalid value: "a.b/d": field is immutable
          FieldValueInvalid spec.controller
    "#]],
    );
}

#[test]
fn network_policies() {
    created(
        &of(
            "NetworkPolicy",
            "{podSelector: {}, egress: [{ports: [{port: 80}], to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]}]}",
        ),
        expect![[r#"
            kind: NetworkPolicy
            apiVersion: networking.k8s.io/v1
            metadata:
              name: a
              generation: 1
            spec:
              podSelector: {}
              egress:
              - ports:
                - port: 80
                  protocol: TCP
                to:
                - ipBlock:
                    cidr: 10.0.0.0/8
                    except:
                    - 10.1.0.0/16
              policyTypes:
              - Ingress
              - Egress
        "#]],
    );
    refused(
        &of(
            "NetworkPolicy",
            "{podSelector: {matchLabels: {'-': b}}, policyTypes: [Both], ingress: [{ports: [{protocol: ICMP, port: 0}, {port: 80, endPort: 79}, {port: Http, endPort: 1}, {endPort: 1}], from: [{}, {podSelector: {}, ipBlock: {cidr: ''}}, {ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16, 10.0.0.0/8, x]}}, {ipBlock: {cidr: '::/0', except: ['fd00::/8', 10.0.0.0/8]}}, {ipBlock: {cidr: 10.0.0.0/33}}]}]}",
        ),
        expect![[r#"
            422 NetworkPolicy.networking.k8s.io "a" is invalid: [spec.podSelector.matchLabels: Invalid value: "-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), spec.ingress[0].ports[0].protocol: Unsupported value: "ICMP": supported values: "TCP", "UDP", "SCTP", spec.ingress[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive, spec.ingress[0].ports[1].endPort: Invalid value: 79: must be greater than or equal to `port`, spec.ingress[0].ports[2].endPort: Invalid value: 1: may not be specified when `port` is non-numeric, spec.ingress[0].ports[2].port: Invalid value: "Http": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-), spec.ingress[0].ports[3].endPort: Invalid value: 1: may not be specified when `port` is not specified, spec.ingress[0].from[0]: Required value: must specify a peer, spec.ingress[0].from[1].ipBlock.cidr: Required value, spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer, spec.ingress[0].from[2].ipBlock.except[0]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`, spec.ingress[0].from[2].ipBlock.except[1]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`, spec.ingress[0].from[2].ipBlock.except[2]: Invalid value: "x": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64), spec.ingress[0].from[3].ipBlock.except[1]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`, spec.ingress[0].from[4].ipBlock.cidr: Invalid value: "10.0.0.0/33": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64), spec.policyTypes[0]: Unsupported value: "Both": supported values: "Ingress", "Egress"]
              FieldValueInvalid spec.podSelector.matchLabels
              FieldValueNotSupported spec.ingress[0].ports[0].protocol
              FieldValueInvalid spec.ingress[0].ports[0].port
              FieldValueInvalid spec.ingress[0].ports[1].endPort
              FieldValueInvalid spec.ingress[0].ports[2].endPort
              FieldValueInvalid spec.ingress[0].ports[2].port
              FieldValueInvalid spec.ingress[0].ports[3].endPort
              FieldValueRequired spec.ingress[0].from[0]
              FieldValueRequired spec.ingress[0].from[1].ipBlock.cidr
              FieldValueForbidden spec.ingress[0].from[1]
              FieldValueInvalid spec.ingress[0].from[2].ipBlock.except[0]
              FieldValueInvalid spec.ingress[0].from[2].ipBlock.except[1]
              FieldValueInvalid spec.ingress[0].from[2].ipBlock.except[2]
              FieldValueInvalid spec.ingress[0].from[3].ipBlock.except[1]
              FieldValueInvalid spec.ingress[0].from[4].ipBlock.cidr
              FieldValueNotSupported spec.policyTypes[0]
        "#]],
    );
    refused(
        &of("NetworkPolicy", "{podSelector: {}, policyTypes: [Ingress, Egress, Ingress]}"),
        expect![[r#"
            422 NetworkPolicy.networking.k8s.io "a" is invalid: spec.policyTypes: Invalid value: ["Ingress","Egress","Ingress"]: may not specify more than two policyTypes
              FieldValueInvalid spec.policyTypes
        "#]],
    );
    let one = stored(&of("NetworkPolicy", "{podSelector: {}}"));
    changed(
        "",
        &one,
        |one| one["spec"]["podSelector"] = json!({"matchLabels": {"a": "b"}}),
        &["spec.podSelector", "metadata.generation"],
        expect![[r#"
            spec.podSelector: {"matchLabels":{"a":"b"}}
            metadata.generation: 2
        "#]],
    );
}

#[test]
fn rows() {
    printed(&of("Ingress", ONE), "{}", expect!["a | <none> | x.y |  | 80 | 5m"]);
    printed(
        &of(
            "Ingress",
            "{ingressClassName: c, tls: [{}], rules: [{host: a}, {host: b}, {}, {host: c}, {host: d}]}",
        ),
        "{loadBalancer: {ingress: [{hostname: x}, {ip: 10.0.0.1}]}}",
        expect!["a | c | a,b,c + 2 more... | 10.0.0.1,x | 80, 443 | 5m"],
    );
    printed(
        &of("Ingress", "{defaultBackend: {service: {name: s, port: {number: 80}}}}"),
        "",
        expect!["a | <none> | * |  | 80 | 5m"],
    );
    printed(
        "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: a, annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}}, spec: {controller: a/b, parameters: {apiGroup: g, kind: K, name: n}}}",
        "",
        expect!["a (default) | a/b | K.g/n | 5m"],
    );
    printed(&of("IngressClass", "{controller: a/b}"), "", expect!["a | a/b | <none> | 5m"]);
    printed(&of("NetworkPolicy", "{podSelector: {}}"), "", expect!["a | <none> | 5m"]);
    printed(
        &of("NetworkPolicy", "{podSelector: {matchLabels: {a: b}}}"),
        "",
        expect!["a | a=b | 5m"],
    );
}
