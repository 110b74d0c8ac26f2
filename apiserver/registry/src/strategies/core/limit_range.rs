//! LimitRange: what one pod, container or claim of a namespace may ask for.

use std::collections::BTreeSet;

use serde_json::Value;
use windlass_sdk_meta::{Quantity, Timestamp};

use super::resource_names::{self, quantity};
use crate::{
    cause::{Causes, Path},
    names,
    strategy::{Context, Strategy},
    table::{Cells, name},
    tree,
};

const TYPES: [&str; 3] = ["Pod", "Container", "PersistentVolumeClaim"];
/// Above this, ratios are taken of whole units.
const MAX_MILLI_VALUE: i64 = i64::MAX / 1000;

#[derive(Debug)]
pub struct LimitRange;

impl Strategy for LimitRange {
    fn default(&self, object: &mut Value) {
        for item in tree::list_mut(tree::child(object, "spec"), "limits") {
            if tree::text(item, "type") != "Container" {
                continue;
            }
            // A limit is the most there may be; a request is the limit, or else the least.
            for (to, from) in
                [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")]
            {
                let known: Vec<(String, Value)> =
                    tree::entries(item, from).map(|(k, v)| (k.clone(), v.clone())).collect();
                for (resource, amount) in known {
                    tree::default(tree::child(item, to), &resource, amount);
                }
            }
        }
    }

    /// It may come without a name.
    fn prepare_for_create(&self, object: &mut Value, cx: &Context<'_>) {
        let metadata = tree::child(object, "metadata");
        if tree::text(metadata, "name").is_empty() {
            tree::set(metadata, "name", cx.rng.uid());
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let spec = Path::Root.child("spec");
        let path = spec.child("limits");
        let items = tree::list(&object["spec"], "limits");
        for (at, item) in items.iter().enumerate() {
            let here = path.index(at);
            let kind = tree::text(item, "type");
            type_name(kind, here.child("type"), causes);
            if items[..at].iter().any(|other| tree::text(other, "type") == kind) {
                causes.duplicate(here.child("type"), &item["type"]);
            }
            limits(item, kind, here, causes);
        }
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        vec![name(object), object["metadata"]["creationTimestamp"].clone()]
    }
}

fn type_name(kind: &str, path: Path<'_>, causes: &mut Causes) {
    let complaints = names::qualified(kind);
    if complaints.is_empty() && !kind.contains('/') && !TYPES.contains(&kind) {
        causes.invalid_text(path, kind, "must be a standard limit type or fully qualified");
    }
    causes.complaints(path, kind, complaints);
}

fn limits(item: &Value, kind: &str, path: Path<'_>, causes: &mut Causes) {
    let mut resources = BTreeSet::new();
    let mut names_of = |key: &str, causes: &mut Causes| {
        let field = path.child(key);
        for (resource, _) in tree::entries(item, key) {
            match kind {
                "Pod" | "Container" => {
                    resource_names::of_container(resource, field.key(resource), causes);
                }
                _ => resource_names::any(resource, field.key(resource), causes),
            }
            resources.insert(resource.as_str());
        }
    };
    names_of("max", causes);
    names_of("min", causes);
    for key in ["default", "defaultRequest"] {
        if kind != "Pod" {
            names_of(key, causes);
        } else if !tree::is_empty(&item[key]) {
            causes.forbidden(path.child(key), "may not be specified when `type` is 'Pod'");
        }
    }
    let has_storage = |key: &str| tree::has(&item[key], "storage");
    if kind == "PersistentVolumeClaim" && !has_storage("min") && !has_storage("max") {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        causes.required(path.child("limits"), why);
    }
    names_of("maxLimitRequestRatio", causes);
    for resource in resources {
        Amounts::of(item, kind, resource).check(resource, path, causes);
    }
}

/// What an item says of one resource.
struct Amounts<'a> {
    item: &'a Value,
    min: Option<Quantity>,
    max: Option<Quantity>,
    limit: Option<Quantity>,
    request: Option<Quantity>,
    ratio: Option<Quantity>,
}

impl<'a> Amounts<'a> {
    fn of(item: &'a Value, kind: &str, resource: &str) -> Self {
        let get = |key: &str| quantity(&item[key][resource]);
        let of_parts = |key: &str| get(key).filter(|_| kind != "Pod");
        Self {
            item,
            min: get("min"),
            max: get("max"),
            limit: of_parts("default"),
            request: of_parts("defaultRequest"),
            ratio: get("maxLimitRequestRatio"),
        }
    }

    /// The smaller of two is in fact the greater.
    fn check(&self, resource: &str, path: Path<'_>, causes: &mut Causes) {
        let mut ordered = |low: (&str, &str, Option<Quantity>),
                           high: (&str, Option<Quantity>),
                           at: &str,
                           shown: &str| {
            if let (Some(small), Some(great)) = (low.2, high.1)
                && small > great
            {
                let why =
                    format!("{} value {small} is greater than {} value {great}", low.0, high.0);
                let field = path.child(at);
                causes.invalid(field.key(resource), &self.item[shown][resource], why);
            }
        };
        let min = ("min", "min", self.min);
        let request = ("default request", "defaultRequest", self.request);
        let limit = ("default", "default", self.limit);
        ordered(min, ("max", self.max), "min", "min");
        ordered(min, ("default request", self.request), "defaultRequest", "defaultRequest");
        ordered(request, ("max", self.max), "defaultRequest", "defaultRequest");
        ordered(request, ("default limit", self.limit), "defaultRequest", "defaultRequest");
        ordered(min, ("default", self.limit), "default", "min");
        ordered(limit, ("max", self.max), "default", "max");
        self.check_ratio(resource, path.child("maxLimitRequestRatio"), causes);
        if let (Some(limit), Some(request)) = (self.limit, self.request)
            && !resource_names::may_overcommit(resource)
            && limit != request
        {
            let why = format!(
                "default value {limit} must equal to defaultRequest value {request} in {resource}"
            );
            let field = path.child("defaultRequest");
            causes.invalid(field.key(resource), &self.item["defaultRequest"][resource], why);
        }
    }

    fn check_ratio(&self, resource: &str, path: Path<'_>, causes: &mut Causes) {
        let Some(ratio) = self.ratio else { return };
        let shown = &self.item["maxLimitRequestRatio"][resource];
        if ratio < Quantity::from_units(1) {
            causes.invalid(path.key(resource), shown, format!("ratio {ratio} is less than 1"));
        }
        let (Some(min), Some(max)) = (self.min, self.max) else { return };
        let fine = [ratio, min, max].iter().all(|one| one.units() < MAX_MILLI_VALUE);
        let value = |of: Quantity| if fine { of.millis() } else { of.units() } as f64;
        let asked = if fine { ratio.millis() as f64 / 1000.0 } else { ratio.units() as f64 };
        let most = value(max) / value(min);
        if asked > most {
            let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
            causes.invalid(path.key(resource), shown, why);
        }
    }
}
