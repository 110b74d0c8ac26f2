//! StorageVersionMigration: all objects of a resource shall be written anew in their stored form.

use serde_json::{Value, json};
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
                // Upstream shows the Go value, whose field has no JSON name.
                let shown = json!({"Resource": new["spec"]["resource"]});
                causes.immutable(Path::Root.child("spec"), &shown);
            }
            return;
        }
        let path = Path::Root.child("status");
        let (status, before) = (&new["status"], &old["status"]);
        let key = "resourceVersion";
        let version = tree::text(status, key);
        if !version.is_empty() && !is_version(version) {
            let why = format!("resource version is not well formed: {version}");
            causes.invalid_text(path.child(key), version, why);
        }
        let all = tree::list(status, "conditions");
        conditions::validate(all, path.child("conditions"), causes);
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

fn is_version(text: &str) -> bool {
    !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is(object: &Value, sort: &str) -> bool {
    let all = tree::list(&object["status"], "conditions");
    all.iter().any(|one| one["type"] == sort && one["status"] == "True")
}
