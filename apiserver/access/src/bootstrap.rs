//! The roles and bindings that a cluster starts with, as data: upstream's names and rules, for the
//! users everybody expects and for the components of this cluster. Rules may name resources that
//! are not served yet; they then allow nothing.

use serde_json::{Value, json};

use crate::authorization::rbac::{self, Rule};

/// A cluster role: its name, and what it allows.
struct Role {
    name: &'static str,
    /// The aggregating role (`view`, `edit`, `admin`) that takes these rules over, if any.
    part_of: &'static str,
    content: Content,
}

enum Content {
    Rules(&'static [Row]),
    /// Gathers all roles that are part of the named one.
    Gathers(&'static str),
}

/// A rule; lists are separated by blanks, `core` is the group without a name.
enum Row {
    On(&'static str, &'static str, &'static str),
    /// On resources of these names only.
    OnNamed(&'static str, &'static str, &'static str, &'static str),
    Paths(&'static str, &'static str),
}

use Content::{Gathers, Rules};
use Row::{On, OnNamed, Paths};

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const ALL_BUT_ANY: &str = "create delete deletecollection get list patch update watch";
const EVENTS: Row = On("create patch update", "core events.k8s.io", "events");

/// All cluster roles but those of controllers.
const ROLES: &[Role] = &[
    role("cluster-admin", &[On("*", "*", "*"), Paths("*", "*")]),
    gathers("admin", "", "admin"),
    gathers("edit", "admin", "edit"),
    gathers("view", "edit", "view"),
    part(
        "system:aggregate-to-admin",
        "admin",
        &[
            On("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            On(ALL_BUT_ANY, "rbac.authorization.k8s.io", "rolebindings roles"),
        ],
    ),
    part(
        "system:aggregate-to-edit",
        "edit",
        &[
            On(
                READ,
                "core",
                "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy",
            ),
            On("impersonate", "core", "serviceaccounts"),
            On(WRITE, "core", "pods pods/attach pods/exec pods/portforward pods/proxy"),
            On("create", "core", "pods/eviction serviceaccounts/token"),
            On(
                WRITE,
                "core",
                "configmaps events persistentvolumeclaims replicationcontrollers \
                 replicationcontrollers/scale secrets serviceaccounts services services/proxy",
            ),
            On(
                WRITE,
                "apps",
                "daemonsets deployments deployments/rollback deployments/scale replicasets \
                 replicasets/scale statefulsets statefulsets/scale",
            ),
            On(WRITE, "autoscaling", "horizontalpodautoscalers"),
            On(WRITE, "batch", "cronjobs jobs"),
            On(WRITE, "policy", "poddisruptionbudgets"),
            On(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
            On(ALL_BUT_ANY, "coordination.k8s.io", "leases"),
            On(WRITE, "windlass.dev", "keyvalues"),
        ],
    ),
    part(
        "system:aggregate-to-view",
        "view",
        &[
            On(
                READ,
                "core",
                "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods \
                 replicationcontrollers replicationcontrollers/scale serviceaccounts services \
                 services/status",
            ),
            On(
                READ,
                "core",
                "bindings events limitranges namespaces/status pods/log pods/status \
                 replicationcontrollers/status resourcequotas resourcequotas/status",
            ),
            On(READ, "core", "namespaces"),
            On(READ, "discovery.k8s.io", "endpointslices"),
            On(
                READ,
                "apps",
                "controllerrevisions daemonsets daemonsets/status deployments deployments/scale \
                 deployments/status replicasets replicasets/scale replicasets/status statefulsets \
                 statefulsets/scale statefulsets/status",
            ),
            On(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
            On(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
            On(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
            On(READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
            On(READ, "windlass.dev", "keyvalues"),
        ],
    ),
    // Under the name that metrics-server gives it, whose place the API server takes.
    part("system:aggregated-metrics-reader", "view", &[On(READ, "metrics.k8s.io", "nodes pods")]),
    role(
        "system:basic-user",
        &[
            On(
                "create",
                "authorization.k8s.io",
                "selfsubjectaccessreviews selfsubjectrulesreviews",
            ),
            On("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    role(
        "system:discovery",
        &[Paths(
            "get",
            "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
        )],
    ),
    role(
        "system:public-info-viewer",
        &[Paths("get", "/healthz /livez /readyz /version /version/")],
    ),
    // Whoever checks tokens of service accounts without asking the API server.
    role(
        "system:service-account-issuer-discovery",
        &[Paths(
            "get",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ \
             /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    role(
        "system:monitoring",
        &[Paths(
            "get",
            "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*",
        )],
    ),
    role(
        "system:kubelet-api-admin",
        &[
            On("get list watch proxy", "core", "nodes"),
            On("*", "core", "nodes/log nodes/metrics nodes/proxy nodes/stats"),
        ],
    ),
    role(
        "system:auth-delegator",
        &[
            On("create", "authentication.k8s.io", "tokenreviews"),
            On("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    role(
        "system:kube-scheduler",
        &[
            EVENTS,
            On("create", "coordination.k8s.io", "leases"),
            OnNamed("get update", "coordination.k8s.io", "leases", "kube-scheduler"),
            On(READ, "core", "nodes"),
            On("delete get list watch", "core", "pods"),
            On("create", "core", "bindings pods/binding"),
            On("patch update", "core", "pods/status"),
            On(READ, "core", "replicationcontrollers services"),
            On(READ, "apps", "replicasets statefulsets"),
            On(READ, "policy", "poddisruptionbudgets"),
            On(READ, "core", "persistentvolumeclaims persistentvolumes namespaces"),
            On("create", "authentication.k8s.io", "tokenreviews"),
            On("create", "authorization.k8s.io", "subjectaccessreviews"),
            On(READ, "storage.k8s.io", "csinodes csidrivers csistoragecapacities"),
        ],
    ),
    // Also the reader behind the informers that all controllers share.
    role(
        "system:kube-controller-manager",
        &[
            EVENTS,
            On("create", "coordination.k8s.io", "leases"),
            OnNamed("get update", "coordination.k8s.io", "leases", "kube-controller-manager"),
            On("create get update", "core", "secrets serviceaccounts"),
            On("delete", "core", "secrets"),
            On("get", "core", "configmaps namespaces"),
            On("create", "authentication.k8s.io", "tokenreviews"),
            On("create", "authorization.k8s.io", "subjectaccessreviews"),
            On("list watch", "*", "*"),
            On("create", "core", "serviceaccounts/token"),
        ],
    ),
    role("system:kube-dns", &[On("list watch", "core", "endpoints services")]),
    role(
        "system:node-proxier",
        &[
            On("list watch", "core", "endpoints services"),
            On(READ, "core", "nodes"),
            EVENTS,
            On("list watch", "discovery.k8s.io", "endpointslices"),
        ],
    ),
    role("system:node", NODE),
];

/// What the Node authoriser falls back to for resources that it doesn't look at one by one.
const NODE: &[Row] = &[
    On("create", "authentication.k8s.io", "tokenreviews"),
    On("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
    On(READ, "core", "services"),
    On("create get list watch patch update", "core", "nodes"),
    On("patch update", "core", "nodes/status"),
    On("create patch update", "core", "events"),
    On("create delete get list watch", "core", "pods"),
    On("patch update", "core", "pods/status"),
    On("create", "core", "pods/eviction"),
    On(READ, "core", "configmaps secrets"),
    On("get", "core", "persistentvolumeclaims persistentvolumes endpoints"),
    On("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    On("create delete get patch update", "coordination.k8s.io", "leases"),
    On("get", "storage.k8s.io", "volumeattachments"),
    On("create", "core", "serviceaccounts/token"),
    On("get patch update", "core", "persistentvolumeclaims/status"),
    On(READ, "storage.k8s.io", "csidrivers"),
    On("create delete get patch update", "storage.k8s.io", "csinodes"),
    On(READ, "node.k8s.io", "runtimeclasses"),
];

/// `system:controller:NAME`, each bound to the service account NAME in kube-system.
const CONTROLLERS: &[(&str, &[Row])] = &[
    (
        "deployment-controller",
        &[
            On("get list update watch", "apps", "deployments"),
            On("update", "apps", "deployments/status deployments/finalizers"),
            On("create delete get list patch update watch", "apps", "replicasets"),
            On("get list update watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "replicaset-controller",
        &[
            On("get list update watch", "apps", "replicasets"),
            On("update", "apps", "replicasets/status replicasets/finalizers"),
            On("create delete list patch watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "endpointslice-controller",
        &[
            On(READ, "core", "nodes pods services"),
            On("update", "core", "services/finalizers"),
            On("create delete get list update watch", "discovery.k8s.io", "endpointslices"),
            EVENTS,
        ],
    ),
    (
        "namespace-controller",
        &[
            On("delete get list watch", "core", "namespaces"),
            On("update", "core", "namespaces/finalize namespaces/status"),
            On("delete deletecollection get list watch", "*", "*"),
        ],
    ),
    ("generic-garbage-collector", &[On("delete get list patch update watch", "*", "*"), EVENTS]),
    ("service-account-controller", &[On("create", "core", "serviceaccounts"), EVENTS]),
    ("root-ca-cert-publisher", &[On("create update", "core", "configmaps"), EVENTS]),
    (
        "node-controller",
        &[
            On("delete get list patch update watch", "core", "nodes"),
            On("patch update", "core", "nodes/status pods/status"),
            On("delete get list watch", "core", "pods"),
            EVENTS,
        ],
    ),
    (
        "pod-garbage-collector",
        &[
            On("delete list watch", "core", "pods"),
            On(READ, "core", "nodes"),
            On("patch", "core", "pods/status"),
        ],
    ),
];

/// Cluster role, and who has it; `User`, `Group` or `ServiceAccount` before the name.
const BINDINGS: &[(&str, &[(&str, &str)])] = &[
    ("cluster-admin", &[("Group", "system:masters")]),
    ("system:basic-user", &[("Group", "system:authenticated")]),
    ("system:discovery", &[("Group", "system:authenticated")]),
    (
        "system:public-info-viewer",
        &[("Group", "system:authenticated"), ("Group", "system:unauthenticated")],
    ),
    ("system:monitoring", &[("Group", "system:monitoring")]),
    ("system:service-account-issuer-discovery", &[("Group", "system:serviceaccounts")]),
    ("system:kube-scheduler", &[("User", "system:kube-scheduler")]),
    ("system:kube-controller-manager", &[("User", "system:kube-controller-manager")]),
    ("system:kube-dns", &[("ServiceAccount", "kube-dns")]),
    ("system:node-proxier", &[("User", "system:kube-proxy")]),
    // Held by nobody through RBAC: agents have it through the Node authoriser.
    ("system:node", &[]),
];

/// ClusterRoles and their bindings that the server creates at start where they are missing.
pub fn bootstrap_objects() -> Vec<Value> {
    let mut objects: Vec<Value> = ROLES.iter().map(cluster_role).collect();
    for (name, rows) in CONTROLLERS {
        let name = format!("system:controller:{name}");
        objects.push(object("ClusterRole", &name, "", json!({"rules": rules(rows)})));
    }
    for (role, subjects) in BINDINGS {
        objects.push(binding(role, subjects));
    }
    for (name, _) in CONTROLLERS {
        let role = format!("system:controller:{name}");
        objects.push(binding(&role, &[("ServiceAccount", name)]));
    }
    objects
}

/// The rules of `system:node`.
pub(crate) fn node_rules() -> Vec<Rule> {
    rbac::rules_in(&json!({"rules": rules(NODE)}))
}

const fn role(name: &'static str, rows: &'static [Row]) -> Role {
    part(name, "", rows)
}

const fn part(name: &'static str, part_of: &'static str, rows: &'static [Row]) -> Role {
    Role { name, part_of, content: Rules(rows) }
}

const fn gathers(name: &'static str, part_of: &'static str, whole: &'static str) -> Role {
    Role { name, part_of, content: Gathers(whole) }
}

fn cluster_role(role: &Role) -> Value {
    let content = match role.content {
        Rules(rows) => json!({"rules": rules(rows)}),
        Gathers(whole) => {
            let label = aggregation_label(whole);
            json!({
                "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]},
                "rules": [],
            })
        }
    };
    object("ClusterRole", role.name, role.part_of, content)
}

fn binding(role: &str, subjects: &[(&str, &str)]) -> Value {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|(kind, name)| match *kind {
            "ServiceAccount" => json!({"kind": kind, "name": name, "namespace": "kube-system"}),
            _ => json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}),
        })
        .collect();
    let role_ref =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role});
    let content = json!({"subjects": subjects, "roleRef": role_ref});
    object("ClusterRoleBinding", role, "", content)
}

fn object(kind: &str, name: &str, part_of: &str, content: Value) -> Value {
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
    });
    if !part_of.is_empty() {
        object["metadata"]["labels"][aggregation_label(part_of)] = "true".into();
    }
    for (key, value) in content.as_object().into_iter().flatten() {
        object[key] = value.clone();
    }
    object
}

fn aggregation_label(whole: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{whole}")
}

fn rules(rows: &[Row]) -> Vec<Value> {
    let words = |text: &str| -> Vec<String> {
        let word = |word: &str| if word == "core" { String::new() } else { word.to_owned() };
        text.split_whitespace().map(word).collect()
    };
    let on = |verbs: &str, groups: &str, resources: &str| json!({"verbs": words(verbs), "apiGroups": words(groups), "resources": words(resources)});
    let rule = |row: &Row| match row {
        On(verbs, groups, resources) => on(verbs, groups, resources),
        OnNamed(verbs, groups, resources, names) => {
            let mut rule = on(verbs, groups, resources);
            rule["resourceNames"] = words(names).into();
            rule
        }
        Paths(verbs, paths) => json!({"verbs": words(verbs), "nonResourceURLs": words(paths)}),
    };
    rows.iter().map(rule).collect()
}
