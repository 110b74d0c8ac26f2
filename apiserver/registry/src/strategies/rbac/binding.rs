//! RoleBinding and ClusterRoleBinding: who may do what a role says. The role can't be swapped.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    names::{self, NameRule},
    shown,
    strategy::Strategy,
    table::{Cells, age, name},
    tree,
};

const GROUP: &str = "rbac.authorization.k8s.io";

#[derive(Debug)]
pub struct Binding {
    /// A RoleBinding; else a ClusterRoleBinding.
    pub namespaced: bool,
}

impl Strategy for Binding {
    fn default(&self, object: &mut Value) {
        for subject in tree::list_mut(object, "subjects") {
            if ["User", "Group"].contains(&tree::text(subject, "kind")) {
                tree::default_text(subject, "apiGroup", GROUP);
            }
        }
    }

    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (role, path) = (&object["roleRef"], Path::Root.child("roleRef"));
        if tree::text(role, "apiGroup") != GROUP {
            causes.not_supported(path.child("apiGroup"), &role["apiGroup"], &[GROUP]);
        }
        let kinds: &[&str] =
            if self.namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
        if !kinds.contains(&tree::text(role, "kind")) {
            causes.not_supported(path.child("kind"), &role["kind"], kinds);
        }
        match tree::text(role, "name") {
            "" => causes.required(path.child("name"), ""),
            name => causes.complaints(path.child("name"), name, names::path_segment(name)),
        }
        let path = Path::Root.child("subjects");
        for (at, subject) in tree::list(object, "subjects").iter().enumerate() {
            self.subject(subject, path.index(at), causes);
        }
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        self.validate(new, causes);
        if !tree::same(&new["roleRef"], &old["roleRef"]) {
            let shown = shown::internal(&new["roleRef"], "rbac.v1.RoleRef");
            causes.immutable(Path::Root.child("roleRef"), &shown);
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let role = &object["roleRef"];
        let of = |kind: &str| {
            let subjects = tree::list(object, "subjects").iter().filter(|one| one["kind"] == kind);
            let names: Vec<String> = subjects
                .map(|one| match kind {
                    "ServiceAccount" => {
                        format!("{}/{}", tree::text(one, "namespace"), tree::text(one, "name"))
                    }
                    _ => tree::text(one, "name").to_owned(),
                })
                .collect();
            Value::from(names.join(", "))
        };
        vec![
            name(object),
            Value::from(format!("{}/{}", tree::text(role, "kind"), tree::text(role, "name"))),
            age(object, now),
            of("User"),
            of("Group"),
            of("ServiceAccount"),
        ]
    }
}

impl Binding {
    fn subject(&self, subject: &Value, path: Path<'_>, causes: &mut Causes) {
        let (name, group) = (tree::text(subject, "name"), tree::text(subject, "apiGroup"));
        if name.is_empty() {
            causes.required(path.child("name"), "");
        }
        match tree::text(subject, "kind") {
            "ServiceAccount" => {
                if !name.is_empty() {
                    causes.complaints(path.child("name"), name, names::subdomain(name));
                }
                if !group.is_empty() {
                    causes.not_supported(path.child("apiGroup"), &subject["apiGroup"], &[""]);
                }
                if !self.namespaced && tree::text(subject, "namespace").is_empty() {
                    causes.required(path.child("namespace"), "");
                }
            }
            "User" | "Group" if group == GROUP => {}
            "User" | "Group" => {
                causes.not_supported(path.child("apiGroup"), &subject["apiGroup"], &[GROUP]);
            }
            _ => {
                let known = ["ServiceAccount", "User", "Group"];
                causes.not_supported(path.child("kind"), &subject["kind"], &known);
            }
        }
    }
}
