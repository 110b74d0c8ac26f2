//! The roles and bindings that a cluster starts with. Upstream's are a text (`bootstrap/roles.txt`),
//! so that a new release is a new text; what is ours is another (`bootstrap/own.txt`): more rules of
//! a role that upstream has too, or a role under the name by which people know it, such as
//! metrics-server's, whose place the API server takes. Rules may name resources that are not served;
//! they then allow nothing.
//!
//! A line without a blank at its beginning is a role: its sort, its name, the aggregating role that
//! takes its rules over (`part-of`), the one whose parts it gathers (`gathers`). The lines below it are
//! its rules: verbs; groups (`core` is the one without a name); resources; names. Of a rule about
//! paths: verbs; paths.

use serde_json::{Value, json};

use crate::authorization::rbac::{self, Rule};

const TEXTS: [&str; 2] = [include_str!("bootstrap/roles.txt"), include_str!("bootstrap/own.txt")];
const SYSTEM: &str = "kube-system";
const CONTROLLER: &str = "system:controller:";

/// One role of the texts.
#[derive(Default)]
struct Role {
    /// `clusterrole`, `controller` (a cluster role for the service account of that name) or `role`
    /// (`namespace/name`).
    sort: &'static str,
    name: &'static str,
    part_of: &'static str,
    gathers: &'static str,
    rules: Vec<&'static str>,
}

/// Cluster role, and who has it; `User`, `Group` or `ServiceAccount` before the name.
const BINDINGS: &[(&str, &[(&str, &str)])] = &[
    ("cluster-admin", &[("Group", "system:masters")]),
    ("system:basic-user", &[("Group", "system:authenticated")]),
    ("system:cluster-trust-bundle-discovery", &[("Group", "system:serviceaccounts")]),
    ("system:discovery", &[("Group", "system:authenticated")]),
    (
        "system:public-info-viewer",
        &[("Group", "system:authenticated"), ("Group", "system:unauthenticated")],
    ),
    ("system:monitoring", &[("Group", "system:monitoring")]),
    ("system:service-account-issuer-discovery", &[("Group", "system:serviceaccounts")]),
    ("system:kube-scheduler", &[("User", "system:kube-scheduler")]),
    ("system:volume-scheduler", &[("User", "system:kube-scheduler")]),
    ("system:kube-controller-manager", &[("User", "system:kube-controller-manager")]),
    ("system:kube-dns", &[("ServiceAccount", "kube-dns")]),
    ("system:node-proxier", &[("User", "system:kube-proxy")]),
    // Held by nobody through RBAC: agents have it through the Node authoriser.
    ("system:node", &[]),
];

/// Namespace, binding, role of that namespace, and who has it.
type NamespaceBinding =
    (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const NAMESPACE_BINDINGS: &[NamespaceBinding] = &[
    (
        SYSTEM,
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &[("User", "system:kube-controller-manager"), ("User", "system:kube-scheduler")],
    ),
    (
        SYSTEM,
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &[
            ("User", "system:kube-controller-manager"),
            ("ServiceAccount", "kube-controller-manager"),
            ("ServiceAccount", "leader-election-controller"),
        ],
    ),
    (
        SYSTEM,
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &[("User", "system:kube-scheduler"), ("ServiceAccount", "kube-scheduler")],
    ),
    (
        SYSTEM,
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[("ServiceAccount", "bootstrap-signer")],
    ),
    (
        SYSTEM,
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        &[("ServiceAccount", "cloud-provider")],
    ),
    (
        SYSTEM,
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        &[("ServiceAccount", "token-cleaner")],
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &[("ServiceAccount", "bootstrap-signer")],
    ),
];

/// Roles and their bindings that the server creates at start where they are missing.
pub fn bootstrap_objects() -> Vec<Value> {
    let roles = roles();
    let mut objects: Vec<Value> = roles.iter().map(Role::object).collect();
    for (role, subjects) in BINDINGS {
        objects.push(binding("", role, role, subjects));
    }
    for role in roles.iter().filter(|role| role.sort == "controller") {
        let name = format!("{CONTROLLER}{}", role.name);
        objects.push(binding("", &name, &name, &[("ServiceAccount", role.name)]));
    }
    for (namespace, name, role, subjects) in NAMESPACE_BINDINGS {
        objects.push(binding(namespace, name, role, subjects));
    }
    objects
}

/// The rules of `system:node`.
pub(crate) fn node_rules() -> Vec<Rule> {
    let roles = roles();
    let node = roles.iter().find(|role| role.name == "system:node");
    node.map(|role| rbac::rules_in(&role.object())).unwrap_or_default()
}

/// All roles of the texts; what is said of a role twice is added up.
fn roles() -> Vec<Role> {
    let mut roles: Vec<Role> = Vec::new();
    let mut at = 0;
    for line in TEXTS.iter().flat_map(|text| text.lines()) {
        if let Some(rule) = line.strip_prefix("  ") {
            if let Some(role) = roles.get_mut(at) {
                role.rules.push(rule);
            }
            continue;
        }
        let mut words = line.split(' ');
        let mut role = Role {
            sort: words.next().unwrap_or_default(),
            name: words.next().unwrap_or_default(),
            ..Role::default()
        };
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            match key {
                "part-of" => role.part_of = value,
                _ => role.gathers = value,
            }
        }
        let same = |known: &Role| (known.sort, known.name) == (role.sort, role.name);
        at = roles.iter().position(same).unwrap_or(roles.len());
        if at == roles.len() {
            roles.push(role);
        }
    }
    roles
}

impl Role {
    fn object(&self) -> Value {
        let rules: Vec<Value> = self.rules.iter().map(|text| rule(text)).collect();
        let mut content = json!({"rules": rules});
        if !self.gathers.is_empty() {
            let label = aggregation_label(self.gathers);
            content["aggregationRule"] =
                json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        }
        match self.sort {
            "role" => {
                let (namespace, name) = self.name.split_once('/').unwrap_or((SYSTEM, self.name));
                object("Role", namespace, name, "", content)
            }
            "controller" => {
                object("ClusterRole", "", &format!("{CONTROLLER}{}", self.name), "", content)
            }
            _ => object("ClusterRole", "", self.name, self.part_of, content),
        }
    }
}

fn rule(text: &str) -> Value {
    let words = |text: &str| -> Vec<String> {
        let word = |word: &str| if word == "core" { String::new() } else { word.to_owned() };
        let mut words: Vec<String> = text.split_whitespace().map(word).collect();
        // As upstream stores them.
        words.sort_unstable();
        words
    };
    let parts: Vec<Vec<String>> = text.split(';').map(words).collect();
    match parts.as_slice() {
        [verbs, groups, resources] => {
            json!({"verbs": verbs, "apiGroups": groups, "resources": resources})
        }
        [verbs, groups, resources, names] => json!({"verbs": verbs, "apiGroups": groups,
            "resources": resources, "resourceNames": names}),
        [verbs, paths] => json!({"verbs": verbs, "nonResourceURLs": paths}),
        _ => Value::Null,
    }
}

fn binding(namespace: &str, name: &str, role: &str, subjects: &[(&str, &str)]) -> Value {
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|(kind, name)| match *kind {
            "ServiceAccount" => json!({"kind": kind, "name": name, "namespace": SYSTEM}),
            _ => json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}),
        })
        .collect();
    let (kind, of) = match namespace {
        "" => ("ClusterRoleBinding", "ClusterRole"),
        _ => ("RoleBinding", "Role"),
    };
    let role_ref = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": of, "name": role});
    object(kind, namespace, name, "", json!({"subjects": subjects, "roleRef": role_ref}))
}

fn object(kind: &str, namespace: &str, name: &str, part_of: &str, content: Value) -> Value {
    let mut object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
        },
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_are_read_whole() {
        let roles = roles();
        let of = |name: &str| roles.iter().find(|role| role.name == name).expect("a role");
        for role in &roles {
            assert!(["clusterrole", "controller", "role"].contains(&role.sort), "{}", role.name);
            assert_eq!(role.rules.is_empty(), !role.gathers.is_empty(), "{}", role.name);
            assert!(role.rules.iter().all(|text| !rule(text).is_null()), "{}", role.name);
        }
        assert_eq!(roles.iter().filter(|role| role.sort == "controller").count(), 41);
        assert!(of("system:aggregate-to-edit").rules.iter().any(|rule| rule.contains("keyvalues")));
        let view = of("view").object();
        assert_eq!(view["metadata"]["labels"][aggregation_label("edit")], "true");
        let role = of("kube-system/extension-apiserver-authentication-reader").object();
        assert_eq!(
            (&role["kind"], &role["metadata"]["namespace"]),
            (&json!("Role"), &json!("kube-system"))
        );
        assert_eq!(
            role["rules"],
            json!([{"verbs": ["get", "list", "watch"], "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": ["extension-apiserver-authentication"]}])
        );
    }

    #[test]
    fn every_binding_has_its_role() {
        let objects = bootstrap_objects();
        let named = |object: &Value| {
            (object["metadata"]["namespace"].clone(), object["metadata"]["name"].clone())
        };
        let roles: Vec<_> = objects.iter().filter(|o| o["rules"].is_array()).map(named).collect();
        for bound in objects.iter().filter(|object| object["roleRef"].is_object()) {
            let role = (named(bound).0, bound["roleRef"]["name"].clone());
            assert!(roles.contains(&role), "{role:?}");
        }
    }
}
