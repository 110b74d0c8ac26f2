//! StorageVersionMigration: all objects of a resource shall be written anew in their stored form.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    conditions, names,
    strategies::common::keep_metadata,
    strategy::{Context, Separation, Strategy},
    table::{Cells, name},
    tree,
};

const ENDS: [&str; 3] = ["Running", "Failed", "Succeeded"];

#[derive(Debug)]
pub struct VersionMigration;

impl Strategy for VersionMigration {
    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub == "status" {
            keep_metadata(new, old);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let of = &object["spec"]["resource"];
        let spec = Path::Root.child("spec");
        let path = spec.child("resource");
        let (resource, group) = (tree::text(of, "resource"), tree::text(of, "group"));
        let wrong = names::label_1035(resource);
        if resource.is_empty() {
            causes.required(path.child("resource"), "resource is required to be set");
        } else if !wrong.is_empty() {
            causes.invalid_text(path.child("resource"), resource, wrong.join(","));
        }
        let wrong = names::subdomain(group);
        if !group.is_empty() && !wrong.is_empty() {
            causes.invalid_text(path.child("group"), group, wrong.join(","));
        }
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub != "status" {
            self.validate(new, causes);
            if !tree::same(&new["spec"], &old["spec"]) {
                causes.immutable(Path::Root.child("spec"), &new["spec"]);
            }
            return;
        }
        let path = Path::Root.child("status");
        let (status, before) = (&new["status"], &old["status"]);
        conditions::validate(tree::list(status, "conditions"), path.child("conditions"), causes);
        let key = "resourceVersion";
        if !tree::text(before, key).is_empty() && before[key] != status[key] {
            causes.immutable(path.child(key), &status[key]);
        }
        let mut complain = |holds: bool, why: &str| {
            if holds {
                causes.invalid(path.child("conditions"), &status["conditions"], why);
            }
        };
        complain(
            is(new, "Succeeded") && is(new, "Failed"),
            "Both success and failed conditions cannot be true at the same time",
        );
        complain(
            is(old, "Succeeded") && !is(new, "Succeeded"),
            "Success condition cannot be set to false once it is true",
        );
        complain(
            is(old, "Failed") && !is(new, "Failed"),
            "Failed condition cannot be set to false once it is true",
        );
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        let of = &object["spec"]["resource"];
        let resource = match (tree::text(of, "resource"), tree::text(of, "group")) {
            (resource, "") => resource.to_owned(),
            (resource, group) => format!("{resource}.{group}"),
        };
        let mut all = tree::list(&object["status"], "conditions").iter();
        let reached =
            all.rfind(|one| one["status"] == "True" && ENDS.contains(&tree::text(one, "type")));
        let state = reached.map_or("Unknown", |one| tree::text(one, "type"));
        vec![name(object), resource.into(), state.into()]
    }
}

fn is(object: &Value, sort: &str) -> bool {
    let all = tree::list(&object["status"], "conditions");
    all.iter().any(|one| one["type"] == sort && one["status"] == "True")
}
