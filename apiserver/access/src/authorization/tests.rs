use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::{bootstrap_objects, testing::Stored};

fn refused(asked: Attributes<'_>, reason: &str, expected: Expect) {
    let status = asked.forbidden(reason);
    assert_eq!(status.code, 403);
    expected.assert_eq(&status.message);
}

#[test]
fn refusals_are_worded_as_clients_know_them() {
    let user = User { name: "jane".into(), ..User::default() };
    let pods = Attributes::resource(&user, "list", "", "pods");
    refused(
        Attributes { namespace: "default", ..pods },
        "",
        expect![[
            r#"pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the namespace "default""#
        ]],
    );
    refused(
        Attributes { verb: "get", subresource: "log", name: "a", namespace: "n", ..pods },
        "",
        expect![[
            r#"pods "a" is forbidden: User "jane" cannot get resource "pods/log" in API group "" in the namespace "n""#
        ]],
    );
    refused(
        Attributes { group: "apps", resource: "deployments", ..pods },
        "no luck",
        expect![[
            r#"deployments.apps is forbidden: User "jane" cannot list resource "deployments" in API group "apps" at the cluster scope: no luck"#
        ]],
    );
    refused(
        Attributes::path(&user, "get", "/metrics"),
        "",
        expect![[r#"forbidden: User "jane" cannot get path "/metrics""#]],
    );
}

/// `verb group/resource[/sub] [namespace] [name]`, or `verb /path`; `-` leaves a part empty.
fn ask(lookup: &dyn Lookup, authorizer: &Authorizer, user: &User, asked: &str) -> Decision {
    let mut words = asked.split_whitespace().map(|word| if word == "-" { "" } else { word });
    let mut word = || words.next().unwrap_or_default();
    let (verb, what) = (word(), word());
    if what.starts_with('/') {
        return authorizer.authorize(&Attributes::path(user, verb, what), lookup);
    }
    let (group, resource) = what.split_once(':').unwrap_or(("", what));
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let (namespace, name, selector) = (word(), word(), word());
    let fields = FieldSelector::parse(selector).expect("a field selector");
    let attributes = Attributes {
        subresource,
        namespace,
        name,
        fields: &fields,
        ..Attributes::resource(user, verb, group, resource)
    };
    authorizer.authorize(&attributes, lookup)
}

/// One line a question: `+` allowed, `-` not; for the latter the reason, if there is one.
fn check(lookup: &dyn Lookup, user: &User, questions: &str, expected: Expect) {
    let authorizer = Authorizer::new();
    let mut answers = String::new();
    for asked in questions.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let decision = ask(lookup, &authorizer, user, asked);
        let sign = if decision.allowed() { "+" } else { "-" };
        answers += format!("{sign} {asked} | {}", decision.reason()).trim_end_matches([' ', '|']);
        answers.push('\n');
    }
    expected.assert_eq(&answers);
}

fn role(kind: &str, namespace: &str, name: &str, rules: Value) -> Value {
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace}, "rules": rules})
}

fn binding(namespace: &str, name: &str, role: (&str, &str), subjects: Value) -> Value {
    let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"kind": role.0, "name": role.1}, "subjects": subjects})
}

fn people() -> Stored {
    let jane = json!([{"kind": "User", "name": "jane"}]);
    let mut objects = bootstrap_objects();
    objects.extend([
        role("Role", "n", "reader", json!([
            {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"]},
            {"verbs": ["get"], "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["one"]},
        ])),
        role("ClusterRole", "", "scaler", json!([
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*/scale"]},
            {"verbs": ["get"], "nonResourceURLs": ["/metrics", "/debug/*"]},
        ])),
        binding("n", "jane-reads", ("Role", "reader"), jane.clone()),
        binding("n", "jane-misses", ("ClusterRole", "gone"), jane.clone()),
        binding("", "jane-scales", ("ClusterRole", "scaler"), jane),
        binding("m", "views", ("ClusterRole", "view"), json!([
            {"kind": "Group", "name": "staff"},
            {"kind": "ServiceAccount", "name": "robot"},
            {"kind": "ServiceAccount", "name": "robot", "namespace": "n"},
        ])),
        binding("m", "admins", ("ClusterRole", "admin"), json!([{"kind": "User", "name": "boss"}])),
    ]);
    Stored::new(objects)
}

#[test]
fn rbac_by_namespace_name_subresource_and_path() {
    check(
        &people(),
        &User::authenticated("jane", &[]),
        "get pods n a
         list pods n
         get pods/log n a
         get pods/exec n a
         delete pods n a
         list pods m
         list pods
         get secrets n one
         get secrets n two
         list secrets n
         update apps:deployments/scale m a
         update apps:deployments m a
         get /metrics
         get /debug/pprof/heap
         post /metrics
         get /healthz
         get /api/v1
         create authorization.k8s.io:selfsubjectaccessreviews",
        expect![[r#"
            + get pods n a | RBAC: allowed by RoleBinding "jane-reads/n" of Role "reader" to User "jane"
            + list pods n | RBAC: allowed by RoleBinding "jane-reads/n" of Role "reader" to User "jane"
            + get pods/log n a | RBAC: allowed by RoleBinding "jane-reads/n" of Role "reader" to User "jane"
            - get pods/exec n a | RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found
            - delete pods n a | RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found
            - list pods m
            - list pods
            + get secrets n one | RBAC: allowed by RoleBinding "jane-reads/n" of Role "reader" to User "jane"
            - get secrets n two | RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found
            - list secrets n | RBAC: clusterrole.rbac.authorization.k8s.io "gone" not found
            + update apps:deployments/scale m a | RBAC: allowed by ClusterRoleBinding "jane-scales" of ClusterRole "scaler" to User "jane"
            - update apps:deployments m a
            + get /metrics | RBAC: allowed by ClusterRoleBinding "jane-scales" of ClusterRole "scaler" to User "jane"
            + get /debug/pprof/heap | RBAC: allowed by ClusterRoleBinding "jane-scales" of ClusterRole "scaler" to User "jane"
            - post /metrics
            + get /healthz | RBAC: allowed by ClusterRoleBinding "system:discovery" of ClusterRole "system:discovery" to Group "system:authenticated"
            + get /api/v1 | RBAC: allowed by ClusterRoleBinding "system:discovery" of ClusterRole "system:discovery" to Group "system:authenticated"
            + create authorization.k8s.io:selfsubjectaccessreviews | RBAC: allowed by ClusterRoleBinding "system:basic-user" of ClusterRole "system:basic-user" to Group "system:authenticated"
        "#]],
    );
}

#[test]
fn groups_service_accounts_and_aggregation() {
    let aggregated = "get pods m a\nget secrets m a\ncreate pods m\ncreate rbac.authorization.k8s.io:roles m\nget nodes";
    let through = |subject: &str| {
        format!(
            "+ get pods m a | RBAC: allowed by RoleBinding \"views/m\" of ClusterRole \"view\" to {subject}\n- get secrets m a\n- create pods m\n- create rbac.authorization.k8s.io:roles m\n- get nodes\n"
        )
    };
    for (user, subject) in [
        (User::authenticated("ann", &["staff"]), "Group \"staff\""),
        (User::service_account("m", "robot"), "ServiceAccount \"robot/\""),
        (User::service_account("n", "robot"), "ServiceAccount \"robot/n\""),
    ] {
        let mut answers = String::new();
        for asked in aggregated.lines() {
            let decision = ask(&people(), &Authorizer::new(), &user, asked);
            let sign = if decision.allowed() { "+" } else { "-" };
            answers +=
                format!("{sign} {asked} | {}", decision.reason()).trim_end_matches([' ', '|']);
            answers.push('\n');
        }
        assert_eq!(answers, through(subject));
    }
    check(
        &people(),
        &User::authenticated("boss", &[]),
        aggregated,
        expect![[r#"
            + get pods m a | RBAC: allowed by RoleBinding "admins/m" of ClusterRole "admin" to User "boss"
            + get secrets m a | RBAC: allowed by RoleBinding "admins/m" of ClusterRole "admin" to User "boss"
            + create pods m | RBAC: allowed by RoleBinding "admins/m" of ClusterRole "admin" to User "boss"
            + create rbac.authorization.k8s.io:roles m | RBAC: allowed by RoleBinding "admins/m" of ClusterRole "admin" to User "boss"
            - get nodes
        "#]],
    );
}

#[test]
fn anonymous_and_masters() {
    check(
        &people(),
        &User::anonymous(),
        "get /healthz
         get /version
         get /api
         list pods",
        expect![[r#"
            + get /healthz | RBAC: allowed by ClusterRoleBinding "system:public-info-viewer" of ClusterRole "system:public-info-viewer" to Group "system:unauthenticated"
            + get /version | RBAC: allowed by ClusterRoleBinding "system:public-info-viewer" of ClusterRole "system:public-info-viewer" to Group "system:unauthenticated"
            - get /api
            - list pods
        "#]],
    );
    check(
        &Stored::default(),
        &User::authenticated("root", &["system:masters"]),
        "delete apps:deployments n a
         get /anything",
        expect![[r#"
            + delete apps:deployments n a
            + get /anything
        "#]],
    );
}

#[test]
fn a_change_of_rules_is_seen_at_once() {
    let stored = Stored::new([role("Role", "n", "r", json!([]))]);
    let authorizer = Authorizer::new();
    let jane = User::authenticated("jane", &[]);
    let may = || ask(&stored, &authorizer, &jane, "get pods n a").allowed();
    assert!(!may());
    stored.put(binding("n", "b", ("Role", "r"), json!([{"kind": "User", "name": "jane"}])));
    assert!(!may());
    let rules = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    stored.put(role("Role", "n", "r", rules));
    assert!(may());
    stored.remove(&rbac::ROLES, "n", "r");
    assert!(!may());
}

#[test]
fn components_have_what_they_do_and_no_more() {
    let cluster = Stored::new(bootstrap_objects());
    let controller = |name: &str| User::service_account("kube-system", name);
    let authorizer = Authorizer::new();
    for (user, allowed, denied) in [
        (
            User::authenticated("system:kube-scheduler", &[]),
            &["watch pods", "create pods/binding n a", "watch nodes", "create events n"][..],
            &["create pods n", "update nodes - a", "get secrets n a"][..],
        ),
        (
            controller("deployment-controller"),
            &["create apps:replicasets n", "update apps:deployments/status n a"],
            &["create pods n", "delete apps:deployments n a"],
        ),
        (
            controller("replicaset-controller"),
            &["create pods n", "delete pods n a", "update apps:replicasets/status n a"],
            &["create apps:replicasets n", "update pods/status n a"],
        ),
        (
            controller("namespace-controller"),
            &["deletecollection example.com:things n", "update namespaces/finalize n n"],
            &["create configmaps n"],
        ),
        (
            controller("generic-garbage-collector"),
            &["delete apps:replicasets n a", "patch pods n a"],
            &["create pods n"],
        ),
        (
            controller("endpointslice-controller"),
            &["create discovery.k8s.io:endpointslices n", "list pods"],
            &["update services n a"],
        ),
        (controller("service-account-controller"), &["create serviceaccounts n"], &["list pods"]),
        (
            controller("node-controller"),
            &["patch nodes - a", "delete pods n a", "update nodes/status - a"],
            &["create nodes"],
        ),
        (
            User::authenticated("system:kube-proxy", &[]),
            &["watch services", "watch discovery.k8s.io:endpointslices", "get nodes - a"],
            &["list pods"],
        ),
        (
            User::authenticated("system:kube-controller-manager", &[]),
            &["list example.com:things", "watch pods"],
            &["delete pods n a"],
        ),
    ] {
        for asked in allowed {
            let decision = ask(&cluster, &authorizer, &user, asked);
            assert!(decision.allowed(), "{} may {asked}: {decision:?}", user.name);
        }
        for asked in denied {
            let decision = ask(&cluster, &authorizer, &user, asked);
            assert!(!decision.allowed(), "{} may not {asked}: {decision:?}", user.name);
        }
    }
}

fn pod(name: &str, node: &str, spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "n"}, "spec": spec});
    pod["spec"]["nodeName"] = node.into();
    pod
}

#[test]
fn a_node_reaches_its_own_and_what_its_pods_refer_to() {
    let stored = Stored::new([
        pod(
            "mine",
            "a",
            json!({
                "serviceAccountName": "robot",
                "containers": [{"name": "c",
                    "env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "s-env", "key": "k"}}}],
                    "envFrom": [{"configMapRef": {"name": "c-from"}}]}],
                "imagePullSecrets": [{"name": "s-pull"}],
                "volumes": [{"name": "v", "secret": {"secretName": "s-volume"}},
                    {"name": "w", "configMap": {"name": "c-volume"}},
                    {"name": "p", "projected": {"sources": [{"configMap": {"name": "c-projected"}}]}}],
            }),
        ),
        pod(
            "other",
            "b",
            json!({
                "containers": [{"name": "s-decoy", "envFrom": [{"secretRef": {"name": "s-other"}}]}],
            }),
        ),
    ]);
    check(
        &stored,
        &User::node("a"),
        "get secrets n s-env
         get secrets n s-pull
         watch secrets n s-volume
         list secrets n
         get secrets m s-env
         get secrets n s-other
         get secrets n s-decoy
         get secrets n c-from
         update secrets n s-env
         get configmaps n c-from
         get configmaps n c-volume
         get configmaps n c-projected
         get configmaps n s-env
         create serviceaccounts/token n robot
         get serviceaccounts n robot
         create serviceaccounts/token n default
         delete serviceaccounts n robot
         get pods n mine
         get pods n other
         list pods
         list pods - - spec.nodeName=a
         watch pods - - spec.nodeName=b
         delete pods n mine
         update pods/status n other
         update pods n mine
         create pods/exec n mine
         get nodes - a
         get nodes - b
         list nodes
         create nodes
         patch nodes/status - a
         delete nodes - a
         update coordination.k8s.io:leases kube-node-lease a
         update coordination.k8s.io:leases kube-node-lease b
         create coordination.k8s.io:leases kube-node-lease
         get coordination.k8s.io:leases default a
         list coordination.k8s.io:leases kube-node-lease
         create events n
         watch services
         get namespaces - n
         get namespaces - m
         list namespaces
         update namespaces - n
         create windlass.dev:keyvalues n
         update windlass.dev:keyvalues n default.hits
         list windlass.dev:keyvalues n
         watch windlass.dev:keyvalues n
         patch windlass.dev:keyvalues n default.hits
         create windlass.dev:keyvalues m
         get windlass.dev:keyvalues m default.hits
         update windlass.dev:keyvalues m default.hits
         delete windlass.dev:keyvalues m default.hits
         list windlass.dev:keyvalues m
         list windlass.dev:keyvalues
         list apps:deployments
         get /healthz",
        expect![[r#"
            + get secrets n s-env
            + get secrets n s-pull
            + watch secrets n s-volume
            - list secrets n | can only read objects that it names, of one namespace
            - get secrets m s-env | no relationship found between node 'a' and this object
            - get secrets n s-other | no relationship found between node 'a' and this object
            - get secrets n s-decoy | no relationship found between node 'a' and this object
            - get secrets n c-from | no relationship found between node 'a' and this object
            - update secrets n s-env | can only read resources of this type
            + get configmaps n c-from
            + get configmaps n c-volume
            + get configmaps n c-projected
            - get configmaps n s-env | no relationship found between node 'a' and this object
            + create serviceaccounts/token n robot
            + get serviceaccounts n robot
            - create serviceaccounts/token n default | no relationship found between node 'a' and this object
            - delete serviceaccounts n robot | can only get service accounts of its pods and create their tokens
            + get pods n mine
            - get pods n other | no relationship found between node 'a' and this object
            - list pods | can only list/watch pods with spec.nodeName field selector
            + list pods - - spec.nodeName=a
            - watch pods - - spec.nodeName=b | can only list/watch pods with spec.nodeName field selector
            + delete pods n mine
            + update pods/status n other
            - update pods n mine
            - create pods/exec n mine
            + get nodes - a
            - get nodes - b | node 'a' cannot read 'b', only its own Node object
            - list nodes | node 'a' cannot read all nodes, only its own Node object
            + create nodes
            + patch nodes/status - a
            - delete nodes - a
            + update coordination.k8s.io:leases kube-node-lease a
            - update coordination.k8s.io:leases kube-node-lease b | can only access node lease with the same name as the requesting node
            + create coordination.k8s.io:leases kube-node-lease
            - get coordination.k8s.io:leases default a | can only access leases in the "kube-node-lease" system namespace
            - list coordination.k8s.io:leases kube-node-lease | can only get, create, update, patch, or delete a node lease
            + create events n
            + watch services
            + get namespaces - n
            - get namespaces - m | no relationship found between node 'a' and this object
            - list namespaces
            - update namespaces - n
            + create windlass.dev:keyvalues n
            + update windlass.dev:keyvalues n default.hits
            + list windlass.dev:keyvalues n
            - watch windlass.dev:keyvalues n | can only get, list, create, update and delete key-value entries
            - patch windlass.dev:keyvalues n default.hits | can only get, list, create, update and delete key-value entries
            - create windlass.dev:keyvalues m | no relationship found between node 'a' and this object
            - get windlass.dev:keyvalues m default.hits | no relationship found between node 'a' and this object
            - update windlass.dev:keyvalues m default.hits | no relationship found between node 'a' and this object
            - delete windlass.dev:keyvalues m default.hits | no relationship found between node 'a' and this object
            - list windlass.dev:keyvalues m | no relationship found between node 'a' and this object
            - list windlass.dev:keyvalues | can only read objects that it names, of one namespace
            - list apps:deployments
            - get /healthz
        "#]],
    );
}

#[test]
fn a_node_reaches_what_says_that_it_is_its_own() {
    let of = |api_version: &str, kind: &str, namespace: &str, name: &str, node: &str| {
        json!({"apiVersion": api_version, "kind": kind, "spec": {"nodeName": node},
            "metadata": {"name": name, "namespace": namespace}})
    };
    let slice = |name, node| of("resource.k8s.io/v1", "ResourceSlice", "", name, node);
    let request =
        |name, node| of("certificates.k8s.io/v1", "PodCertificateRequest", "n", name, node);
    let stored = Stored::new([
        slice("mine", "a"),
        slice("other", "b"),
        request("r", "a"),
        request("s", "b"),
    ]);
    check(
        &stored,
        &User::node("a"),
        "create resource.k8s.io:resourceslices
         update resource.k8s.io:resourceslices - mine
         delete resource.k8s.io:resourceslices - other
         get resource.k8s.io:resourceslices - gone
         list resource.k8s.io:resourceslices
         list resource.k8s.io:resourceslices - - spec.nodeName=a
         deletecollection resource.k8s.io:resourceslices - - spec.driver=x,spec.nodeName=a
         watch resource.k8s.io:resourceslices - - spec.nodeName!=a
         list resource.k8s.io:resourceslices - - spec.nodeName=b
         create certificates.k8s.io:podcertificaterequests n
         get certificates.k8s.io:podcertificaterequests n r
         get certificates.k8s.io:podcertificaterequests n s
         get certificates.k8s.io:podcertificaterequests/status n r
         list certificates.k8s.io:podcertificaterequests
         watch certificates.k8s.io:podcertificaterequests - - spec.nodeName=a
         delete certificates.k8s.io:podcertificaterequests n r
         create storage.k8s.io:csinodes
         update storage.k8s.io:csinodes - a
         update storage.k8s.io:csinodes - b
         list storage.k8s.io:csinodes
         get storage.k8s.io:csinodes/status - a",
        expect![[r#"
            + create resource.k8s.io:resourceslices
            + update resource.k8s.io:resourceslices - mine
            - delete resource.k8s.io:resourceslices - other | no relationship found between node 'a' and this object
            - get resource.k8s.io:resourceslices - gone | no relationship found between node 'a' and this object
            - list resource.k8s.io:resourceslices | can only list/watch/deletecollection resourceslices with nodeName field selector
            + list resource.k8s.io:resourceslices - - spec.nodeName=a
            + deletecollection resource.k8s.io:resourceslices - - spec.driver=x,spec.nodeName=a
            - watch resource.k8s.io:resourceslices - - spec.nodeName!=a | can only list/watch/deletecollection resourceslices with nodeName field selector
            - list resource.k8s.io:resourceslices - - spec.nodeName=b | can only list/watch/deletecollection resourceslices with nodeName field selector
            + create certificates.k8s.io:podcertificaterequests n
            + get certificates.k8s.io:podcertificaterequests n r
            - get certificates.k8s.io:podcertificaterequests n s | no relationship found between node 'a' and this object
            - get certificates.k8s.io:podcertificaterequests/status n r | nodes may not access the status subresource of PodCertificateRequests
            - list certificates.k8s.io:podcertificaterequests | can only list/watch podcertificaterequests with nodeName field selector
            + watch certificates.k8s.io:podcertificaterequests - - spec.nodeName=a
            - delete certificates.k8s.io:podcertificaterequests n r | nodes may not delete podcertificaterequests
            + create storage.k8s.io:csinodes
            + update storage.k8s.io:csinodes - a
            - update storage.k8s.io:csinodes - b | can only access CSINode with the same name as the requesting node
            - list storage.k8s.io:csinodes | can only get, create, update, patch, or delete a CSINode
            - get storage.k8s.io:csinodes/status - a | CSINode status access requires CSIVolumeHealth feature
        "#]],
    );
}

#[test]
fn a_relation_ends_with_the_pod_that_made_it() {
    let spec = json!({"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}]});
    let stored = Stored::new([pod("one", "a", spec.clone())]);
    let (authorizer, node) = (Authorizer::new(), User::node("a"));
    let may = || ask(&stored, &authorizer, &node, "get secrets n s").allowed();
    assert!(may() && may());
    stored.put(pod("two", "a", spec.clone()));
    stored.remove(&node::PODS, "n", "one");
    assert!(may());
    stored.put(pod("two", "b", spec));
    assert!(!may());
    // The name alone makes nobody a node.
    let pretender = User::authenticated("system:node:b", &[]);
    assert!(!ask(&stored, &authorizer, &pretender, "get secrets n s").allowed());
}
