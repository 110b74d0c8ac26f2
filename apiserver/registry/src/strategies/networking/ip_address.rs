//! IPAddress: an address of the service range, and who has it.

use std::net::IpAddr;

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    names::{self, NameRule},
    strategies::common::path_segments,
    strategy::{Separation, Strategy},
    table::{Cells, name},
    tree,
};

#[derive(Debug)]
pub struct IpAddress;

impl Strategy for IpAddress {
    /// `validate` holds it to be an address.
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn separation(&self) -> Separation {
        Separation::None
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let own = tree::text(&object["metadata"], "name");
        let metadata = Path::Root.child("metadata");
        match own.parse::<IpAddr>() {
            Err(_) => {
                let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                causes.invalid_text(metadata.child("name"), own, why);
            }
            Ok(address) if address.to_string() != own => {
                let why = format!("must be in canonical form (\"{address}\")");
                causes.invalid_text(metadata.child("name"), own, why);
            }
            Ok(_) => {}
        }
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
        if !tree::same(&new["spec"]["parentRef"], &old["spec"]["parentRef"]) {
            let spec = Path::Root.child("spec");
            causes.invalid_null(spec.child("parentRef"), "field is immutable");
        }
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        let parent = &object["spec"]["parentRef"];
        let text = |key: &str| tree::text(parent, key);
        let mut shown = match (text("resource"), text("group")) {
            _ if parent.is_null() => return vec![name(object), "<none>".into()],
            (resource, "") => resource.to_lowercase(),
            (resource, group) => format!("{resource}.{group}").to_lowercase(),
        };
        for part in [text("namespace"), text("name")] {
            if !part.is_empty() {
                shown.push('/');
                shown.push_str(part);
            }
        }
        vec![name(object), shown.into()]
    }
}
