//! Rules of what containers ask for: amounts, and the claims that they share.

use serde_json::Value;

use super::level;
use crate::{
    cause::{Causes, Path},
    names, shown,
    strategies::core::resource_names::{self, is_huge_page, may_overcommit, quantity},
    tree,
};

/// Rules of a container's `resources`. `claims` are the names that the pod knows.
pub fn validate(resources: &Value, claims: &[&str], path: Path<'_>, causes: &mut Causes) {
    amounts(resources, path, resource_names::of_container, causes);
    claimed(resources, claims, path.child("claims"), causes);
}

/// Rules of a pod's own `resources`.
pub fn validate_pod(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let resources = &spec["resources"];
    let here = path.child("resources");
    if resources.is_null() {
        return;
    }
    if spec["os"]["name"] == "windows" {
        return causes.forbidden(here, "may not be set for a windows pod");
    }
    if tree::has(resources, "claims") {
        let why = "claims may not be set for Resources at pod-level";
        causes.forbidden(here.child("claims"), why);
    }
    amounts(resources, here, resource_names::of_pod, causes);
    claimed(resources, &[], here.child("claims"), causes);
    level::validate(spec, here, causes);
}

type NameRule = fn(&str, Path<'_>, &mut Causes);

fn amounts(resources: &Value, path: Path<'_>, name_rule: NameRule, causes: &mut Causes) {
    let (limits, requests) = (path.child("limits"), path.child("requests"));
    let (mut shared, mut huge) = (false, false);
    for (of, list) in [("limits", limits), ("requests", requests)] {
        for (name, amount) in tree::entries(resources, of) {
            let here = list.key(name);
            name_rule(name, here, causes);
            resource_names::amount(name, amount, here, causes);
            shared |= ["cpu", "memory"].contains(&name.as_str());
            huge |= is_huge_page(name);
            if let (Some(size), Some(asked)) = (page_size(name), quantity(amount))
                && (size <= 0 || asked.units() % size != 0)
            {
                let shown = amount.as_str().unwrap_or_default();
                let why = format!("{shown} is not positive integer multiple of {name}");
                causes.invalid(here, amount, why);
            }
        }
    }
    for (name, request) in tree::entries(resources, "requests") {
        let limit = &resources["limits"][name];
        if limit.is_null() {
            if !may_overcommit(name) {
                let why = "Limit must be set for non overcommitable resources";
                causes.required(limits, why);
            }
            continue;
        }
        let (Some(asked), Some(most)) = (quantity(request), quantity(limit)) else { continue };
        let shown = limit.as_str().unwrap_or_default();
        if asked != most && !may_overcommit(name) {
            let why = format!("must be equal to {name} limit of {shown}");
            causes.invalid(requests, request, why);
        } else if asked > most {
            let why = format!("must be less than or equal to {name} limit of {shown}");
            causes.invalid(requests, request, why);
        }
    }
    if huge && !shared {
        causes.forbidden(path, "HugePages require cpu or memory");
    }
}

/// Bytes of a page: `hugepages-2Mi`.
fn page_size(name: &str) -> Option<i64> {
    let size = name.strip_prefix("hugepages-")?;
    Some(quantity(&size.into()).map_or(0, |size| size.units()))
}

fn claimed(resources: &Value, known: &[&str], path: Path<'_>, causes: &mut Causes) {
    let claims = tree::list(resources, "claims");
    let of = |claim: &Value| {
        (tree::text(claim, "name").to_owned(), tree::text(claim, "request").to_owned())
    };
    for (at, claim) in claims.iter().enumerate() {
        let item = path.index(at);
        let (name, request) = of(claim);
        if name.is_empty() {
            causes.required(item, "");
            continue;
        }
        let before: Vec<_> =
            claims[..at].iter().map(of).filter(|(other, _)| *other == name).collect();
        if before.iter().any(|(_, other)| other.is_empty() || request.is_empty()) {
            causes.duplicate(item, &claim["name"]);
        } else if before.iter().any(|(_, other)| *other == request) {
            causes.duplicate(item, &format!("{name}/{request}").into());
        }
        if !request.is_empty() {
            causes.complaints(item.child("request"), &request, names::label(&request));
        }
        if !known.contains(&name.as_str()) {
            let which = match known {
                [] => " which is empty".to_owned(),
                known => {
                    let mut sorted = known.to_vec();
                    sorted.sort_unstable();
                    format!(": {}", sorted.join(", "))
                }
            };
            let why = format!("must be one of the names in pod.spec.resourceClaims{which}");
            causes.not_found_because(item, &claim["name"], &why);
        }
    }
}

/// Rules of `spec.resourceClaims`.
pub fn validate_claims(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let claims = tree::list(spec, "resourceClaims");
    for (at, claim) in claims.iter().enumerate() {
        let item = path.index(at);
        let name = tree::text(claim, "name");
        if name.is_empty() {
            causes.required(item.child("name"), "");
        } else if claims[..at].iter().any(|other| tree::text(other, "name") == name) {
            causes.duplicate(item.child("name"), &claim["name"]);
        } else {
            causes.complaints(item.child("name"), name, names::label(name));
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        match sources.iter().filter(|key| tree::has(claim, key)).count() {
            0 => {
                let why = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                causes.invalid(item, &shown::internal(claim, "core.v1.PodResourceClaim"), why);
            }
            1 => {}
            _ => {
                let why = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                causes.invalid(item, &shown::internal(claim, "core.v1.PodResourceClaim"), why);
            }
        }
        for key in sources.into_iter().filter(|key| tree::has(claim, key)) {
            let name = tree::text(claim, key);
            causes.complaints(item.child(key), name, names::subdomain(name));
        }
    }
}
