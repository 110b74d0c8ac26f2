//! Role and ClusterRole: what may be done.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    names::NameRule,
    strategies::apps::workload::validate_selector,
    strategy::Strategy,
    table::{Cells, name},
    tree,
};

#[derive(Debug)]
pub struct Role {
    /// A Role; else a ClusterRole.
    pub namespaced: bool,
}

impl Strategy for Role {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let path = Path::Root.child("rules");
        for (at, rule) in tree::list(object, "rules").iter().enumerate() {
            self.rule(rule, path.index(at), causes);
        }
        let aggregation = &object["aggregationRule"];
        if !aggregation.is_null() {
            aggregated(aggregation, Path::Root.child("aggregationRule"), causes);
        }
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        vec![name(object), object["metadata"]["creationTimestamp"].clone()]
    }
}

fn aggregated(aggregation: &Value, path: Path<'_>, causes: &mut Causes) {
    let (selectors, all) =
        (tree::list(aggregation, "clusterRoleSelectors"), path.child("clusterRoleSelectors"));
    if selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        causes.required(all, why);
    }
    for (at, selector) in selectors.iter().enumerate() {
        let mut complaints = Causes::default();
        validate_selector(selector, all.index(at), &mut complaints);
        let is_fine = complaints.is_empty();
        causes.extend(complaints);
        if !is_fine {
            causes.invalid_null(all.index(at), "invalid label selector.");
        }
    }
}

impl Role {
    fn rule(&self, rule: &Value, path: Path<'_>, causes: &mut Causes) {
        let empty = |key: &str| tree::list(rule, key).is_empty();
        if empty("verbs") {
            causes.required(path.child("verbs"), "");
        }
        if !empty("nonResourceURLs") {
            let (field, urls) = (path.child("nonResourceURLs"), &rule["nonResourceURLs"]);
            if self.namespaced {
                causes.invalid(field, urls, "namespaced rules cannot apply to non-resource URLs");
            }
            if !(empty("apiGroups") && empty("resources") && empty("resourceNames")) {
                let why = "rules cannot apply to both regular resources and non-resource URLs";
                causes.invalid(field, urls, why);
            }
            return;
        }
        if empty("apiGroups") {
            causes.required(
                path.child("apiGroups"),
                "resource rules must supply at least one api group",
            );
        }
        if empty("resources") {
            causes.required(
                path.child("resources"),
                "resource rules must supply at least one resource",
            );
        }
    }
}
