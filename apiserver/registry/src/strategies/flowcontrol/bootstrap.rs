//! The priority levels and flow schemas that a cluster starts with: upstream's, as data. Two of
//! each are mandatory, and their specification can't be changed.

use serde_json::{Value, json};

const API_VERSION: &str = "flowcontrol.apiserver.k8s.io/v1";
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const ALL: &str = "*";
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// Name, shares of concurrency, percent that may be lent, and (queues, hand size); queues of 50.
const LEVELS: [(&str, i64, i64, (i64, i64)); 6] = [
    ("system", 30, 33, (64, 6)),
    ("node-high", 40, 25, (64, 6)),
    ("leader-election", 10, 0, (16, 4)),
    ("workload-high", 40, 50, (128, 6)),
    ("workload-low", 100, 90, (128, 6)),
    ("global-default", 20, 50, (128, 6)),
];

/// What a schema is about.
enum About {
    Everything,
    /// Paths that may be got.
    Paths(&'static [&'static str]),
    /// (verbs, group, resources, also cluster-wide ones), separated by blanks.
    Resources(&'static [(&'static str, &'static str, &'static str, bool)]),
}

use About::{Everything, Paths, Resources};

/// Name, level, precedence, what tells flows apart, `kind:name` of subjects, what it is about.
type Row = (&'static str, &'static str, i64, &'static str, &'static [&'static str], About);

const EVERYBODY: &[&str] = &["Group:system:unauthenticated", "Group:system:authenticated"];
const NODES: &[&str] = &["Group:system:nodes"];
const LEASES: &str = "coordination.k8s.io";
const SCHEMAS: [Row; 11] = [
    ("exempt", "exempt", 1, "", &["Group:system:masters"], Everything),
    ("catch-all", "catch-all", 10_000, "ByUser", EVERYBODY, Everything),
    ("system-nodes", "system", 500, "ByUser", NODES, Everything),
    (
        "system-node-high",
        "node-high",
        400,
        "ByUser",
        NODES,
        Resources(&[(ALL, "", "nodes nodes/status", true), (ALL, LEASES, "leases", false)]),
    ),
    ("probes", "exempt", 2, "", EVERYBODY, Paths(&["/healthz", "/readyz", "/livez"])),
    (
        "system-leader-election",
        "leader-election",
        100,
        "ByUser",
        &["User:system:kube-controller-manager", "User:system:kube-scheduler", "ServiceAccount:*"],
        Resources(&[("get create update", LEASES, "leases", false)]),
    ),
    (
        "kube-controller-manager",
        "workload-high",
        800,
        "ByNamespace",
        &["User:system:kube-controller-manager"],
        Everything,
    ),
    (
        "kube-scheduler",
        "workload-high",
        800,
        "ByNamespace",
        &["User:system:kube-scheduler"],
        Everything,
    ),
    (
        "kube-system-service-accounts",
        "workload-high",
        900,
        "ByNamespace",
        &["ServiceAccount:*"],
        Everything,
    ),
    (
        "service-accounts",
        "workload-low",
        9000,
        "ByUser",
        &["Group:system:serviceaccounts"],
        Everything,
    ),
    ("global-default", "global-default", 9900, "ByUser", EVERYBODY, Everything),
];

/// All of them; levels before the schemas that refer to them.
pub fn objects() -> Vec<Value> {
    let mut all = vec![
        level(
            "exempt",
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        ),
        level(
            "catch-all",
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5,
                "lendablePercent": 0, "limitResponse": {"type": "Reject"}}}),
        ),
    ];
    all.extend(LEVELS.map(|(name, shares, lendable, (queues, hand))| {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": queuing}});
        level(name, json!({"type": "Limited", "limited": limited}))
    }));
    all.extend(SCHEMAS.iter().map(schema));
    all
}

/// The specification that an object of this kind and name must have, where it is mandatory.
pub fn mandatory(kind: &str, name: &str) -> Option<Value> {
    if !MANDATORY.contains(&name) {
        return None;
    }
    let found = objects().into_iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
    found.map(|object| object["spec"].clone())
}

fn level(name: &str, spec: Value) -> Value {
    object("PriorityLevelConfiguration", name, spec)
}

fn schema((name, level, precedence, by, subjects, about): &Row) -> Value {
    let mut rule =
        json!({"subjects": subjects.iter().map(|text| subject(text)).collect::<Value>()});
    match about {
        Everything => {
            rule["resourceRules"] = json!([resources(ALL, ALL, ALL, true)]);
            rule["nonResourceRules"] = json!([{"verbs": [ALL], "nonResourceURLs": [ALL]}]);
        }
        Paths(paths) => {
            rule["nonResourceRules"] = json!([{"verbs": ["get"], "nonResourceURLs": paths}]);
        }
        Resources(rows) => {
            let rows = rows
                .iter()
                .map(|(verbs, group, all, cluster)| resources(verbs, group, all, *cluster));
            rule["resourceRules"] = rows.collect();
        }
    }
    let mut spec = json!({"priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence, "rules": [rule]});
    if !by.is_empty() {
        spec["distinguisherMethod"] = json!({"type": by});
    }
    object("FlowSchema", name, spec)
}

fn subject(text: &str) -> Value {
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    match kind {
        "Group" => json!({"kind": kind, "group": {"name": name}}),
        "User" => json!({"kind": kind, "user": {"name": name}}),
        _ => json!({"kind": kind, "serviceAccount": {"name": name, "namespace": "kube-system"}}),
    }
}

fn resources(verbs: &str, group: &str, resources: &str, cluster: bool) -> Value {
    let list = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut rule = json!({"verbs": list(verbs), "apiGroups": [group], "resources": list(resources),
        "namespaces": [ALL]});
    if cluster {
        rule["clusterScope"] = json!(true);
    }
    rule
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}}, "spec": spec})
}
