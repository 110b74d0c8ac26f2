//! ResourceQuota: what a write adds to a namespace is charged to the quotas that bound it, and
//! refused where it would be more than they allow. The charge is committed together with the
//! object, so a quota is never behind; what goes is given back in the same way.

use std::sync::{Arc, LazyLock};

use serde_json::Value;
use windlass_sdk_meta::{
    GroupResource, Object, Quantity, Status, Timestamp,
    quota::{self, Amounts},
};

use super::{AdmissionRequest, Operation};
use crate::Lookup;

static QUOTAS: LazyLock<GroupResource> = LazyLock::new(|| GroupResource::new("", "resourcequotas"));
/// Resources of which each container has to say how much, once a quota bounds them.
const TO_BE_SAID: [&str; 6] =
    ["cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory"];

/// A quota as it is to be after the write.
pub struct Charge {
    pub quota: Arc<Object>,
    pub tree: Value,
}

/// What the write of an object does to the quotas of its namespace. `gone`: it is removed. Errors:
/// 403 where a quota doesn't allow it.
pub fn charge(
    request: &AdmissionRequest<'_>,
    gone: bool,
    now: Timestamp,
    lookup: &dyn Lookup,
) -> Result<Vec<Charge>, Status> {
    let counted = !request.namespace.is_empty()
        && request.kind.kind != "Namespace"
        && request.resource.resource != "events"
        && matches!(request.subresource, "" | "status" | "resize");
    if !counted {
        return Ok(Vec::new());
    }
    let quotas = lookup.list(&QUOTAS, request.namespace);
    let mut charges = Vec::new();
    for stored in quotas {
        let object = request.object.as_deref().filter(|_| !gone);
        let case = Case { request, object, tree: stored.tree(), now };
        if let Some(tree) = case.charged()? {
            charges.push(Charge { quota: stored, tree });
        }
    }
    Ok(charges)
}

/// One quota and one write.
struct Case<'a> {
    request: &'a AdmissionRequest<'a>,
    /// None where the object goes.
    object: Option<&'a Value>,
    tree: Value,
    now: Timestamp,
}

impl Case<'_> {
    /// The quota after the write; None where it stays as it is.
    fn charged(&self) -> Result<Option<Value>, Status> {
        let status = &self.tree["status"];
        let hard = quota::amounts(&status["hard"]);
        let used = quota::amounts(&status["used"]);
        let bounded = |object: &Value| -> Amounts {
            if !quota::in_scopes(&self.tree, self.request.resource, object) {
                return Amounts::new();
            }
            let usage = quota::usage(self.request.resource, object, self.now);
            usage.into_iter().filter(|(name, _)| hard.contains_key(name)).collect()
        };
        let after = self.object.map(bounded).unwrap_or_default();
        let before = self.request.old.map(bounded).unwrap_or_default();
        // A quota that bounds itself isn't charged while it is written.
        let itself = *self.request.resource == *QUOTAS && self.request.target_name() == self.name();
        if (after.is_empty() && before.is_empty()) || itself {
            return Ok(None);
        }
        let more = difference(&after, &before);
        let is_new = self.request.operation == Operation::Create;
        if is_new {
            self.all_said(&hard)?;
        }
        let unknown: Vec<&str> =
            after.keys().filter(|name| !used.contains_key(*name)).map(String::as_str).collect();
        if is_new && !unknown.is_empty() {
            return Err(self.request.forbidden(format!(
                "status unknown for quota: {}, resources: {}",
                self.name(),
                unknown.join(",")
            )));
        }
        let mut now = used.clone();
        for (name, amount) in &more {
            let sum = used.get(name).copied().unwrap_or_default().saturating_add(*amount);
            now.insert(name.clone(), if sum.is_negative() { Quantity::ZERO } else { sum });
        }
        self.within(&more, &used, &now, &hard)?;
        if now == used {
            return Ok(None);
        }
        let mut tree = self.tree.clone();
        tree["status"]["used"] = quota::to_json(&now);
        Ok(Some(tree))
    }

    fn name(&self) -> &str {
        self.tree["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// What gets more has to stay within its bound; what gets less, or a status, may not.
    fn within(
        &self,
        more: &Amounts,
        used: &Amounts,
        now: &Amounts,
        hard: &Amounts,
    ) -> Result<(), Status> {
        let grows = |name: &&String| more[*name] > Quantity::ZERO;
        let exceeded: Vec<&String> = more
            .keys()
            .filter(grows)
            .filter(|name| {
                now.get(*name).zip(hard.get(*name)).is_some_and(|(now, hard)| now > hard)
            })
            .collect();
        if exceeded.is_empty() || self.request.subresource == "status" {
            return Ok(());
        }
        let told = |of: &Amounts| {
            let parts =
                exceeded.iter().filter_map(|name| Some(format!("{name}={}", of.get(*name)?)));
            parts.collect::<Vec<_>>().join(",")
        };
        Err(self.request.forbidden(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            self.name(),
            told(more),
            told(used),
            told(hard)
        )))
    }

    /// Containers that leave open what the quota bounds.
    fn all_said(&self, hard: &Amounts) -> Result<(), Status> {
        let Some(pod) = self.object.filter(|_| self.request.is("", "pods")) else { return Ok(()) };
        let spec = &pod["spec"];
        if spec["resources"].is_object() {
            return Ok(());
        }
        let says = |container: &Value, name: &str| {
            let (list, resource) = name.split_once('.').unwrap_or(("requests", name));
            container["resources"][list][resource].is_string()
        };
        let mut parts = Vec::new();
        let mut wanted: Vec<&str> =
            TO_BE_SAID.into_iter().filter(|name| hard.contains_key(*name)).collect();
        wanted.sort_unstable();
        for name in wanted {
            let lists = ["containers", "initContainers"].map(|key| spec[key].as_array());
            let silent = lists.into_iter().flatten().flatten().filter(|one| !says(one, name));
            let mut silent: Vec<&str> =
                silent.filter_map(|container| container["name"].as_str()).collect();
            silent.sort_unstable();
            silent.dedup();
            if !silent.is_empty() {
                parts.push(format!("{name} for: {}", silent.join(",")));
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        let parts = parts.join("; ");
        Err(self.request.forbidden(format!("failed quota: {}: must specify {parts}", self.name())))
    }
}

/// What is in one and not in the other, also below zero; zeros are left out.
fn difference(after: &Amounts, before: &Amounts) -> Amounts {
    let mut names: Vec<&String> = after.keys().chain(before.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let amount = |of: &Amounts, name: &String| of.get(name).copied().unwrap_or_default();
    let each = names.into_iter().map(|name| {
        let (now, then) = (amount(after, name), amount(before, name));
        // The form of what is there decides how the sum is printed.
        let more = if after.contains_key(name) {
            now.saturating_sub(then)
        } else {
            then.saturating_sub(then).saturating_sub(then)
        };
        (name.clone(), more)
    });
    each.filter(|(_, amount)| *amount != Quantity::ZERO).collect()
}
