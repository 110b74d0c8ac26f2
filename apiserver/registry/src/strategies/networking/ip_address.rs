//! IPAddress: an address of the service range, and who has it.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    names::{self, NameRule},
    strategies::common::path_segments,
    strategy::{Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

#[derive(Debug)]
pub struct IpAddress;

impl Strategy for IpAddress {
    fn name_rule(&self) -> NameRule {
        NameRule::Address
    }

    fn names_on_update(&self) -> bool {
        true
    }

    fn names_by_base(&self) -> bool {
        true
    }

    fn separation(&self) -> Separation {
        Separation::None
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let spec = Path::Root.child("spec");
        let (parent, path) = (&object["spec"]["parentRef"], spec.child("parentRef"));
        if parent.is_null() {
            return causes.required(path, "");
        }
        let group = tree::text(parent, "group");
        if !group.is_empty() {
            causes.complaints(path.child("group"), group, names::subdomain(group));
        }
        path_segments(parent, &["resource", "name"], path, causes);
        let namespace = tree::text(parent, "namespace");
        causes.complaints(path.child("namespace"), namespace, names::path_segment(namespace));
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        self.validate(new, causes);
        if !tree::same(&new["spec"]["parentRef"], &old["spec"]["parentRef"]) {
            let spec = Path::Root.child("spec");
            causes.invalid_null(spec.child("parentRef"), "field is immutable");
        }
    }

    /// One more than there are columns, as upstream's.
    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let parent = &object["spec"]["parentRef"];
        let text = |key: &str| tree::text(parent, key);
        let mut shown = match (text("resource"), text("group")) {
            _ if parent.is_null() => return vec![name(object), "<none>".into(), age(object, now)],
            (resource, "") => resource.to_lowercase(),
            (resource, group) => format!("{resource}.{group}").to_lowercase(),
        };
        for part in [text("namespace"), text("name")] {
            if !part.is_empty() {
                shown.push('/');
                shown.push_str(part);
            }
        }
        vec![name(object), shown.into(), age(object, now)]
    }
}
