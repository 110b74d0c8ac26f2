//! CertificateSigningRequest: somebody wants a certificate, somebody approves, a signer signs. Each
//! of the three writes its own part: `spec` at the creation only, conditions of approval through
//! `/approval`, the certificate through `/status`.

use serde_json::{Value, json};
use windlass_sdk_meta::{Timestamp, format_time};

use super::pem;
use crate::{
    cause::{Causes, Path},
    names::NameRule,
    strategies::common::signer_name,
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, human_duration, name},
    tree,
};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SHORTEST_SECONDS: i64 = 600;
/// Conditions that are only ever true, and stay.
const FINAL: [&str; 3] = ["Approved", "Denied", "Failed"];
/// Those that only `/approval` sets.
const OF_APPROVAL: [&str; 2] = ["Approved", "Denied"];
const STATES: [&str; 3] = ["False", "True", "Unknown"];

#[derive(Debug)]
pub struct SigningRequest;

impl Strategy for SigningRequest {
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn spec_stays(&self) -> bool {
        true
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, cx: &Context<'_>) {
        tree::keep(new, old, "spec");
        match sub {
            "status" => keep_approval(new, old),
            "approval" => {
                let conditions = new["status"]["conditions"].clone();
                tree::keep(new, old, "status");
                tree::set(tree::child(new, "status"), "conditions", conditions);
            }
            _ => return,
        }
        stamp(new, old, cx.now);
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        rules(object, None, causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        rules(new, Some(old), causes);
        let status = Path::Root.child("status");
        let path = status.child("conditions");
        for sort in FINAL {
            let (after, before) = (of_type(new, sort), of_type(old, sort));
            let approves = OF_APPROVAL.contains(&sort);
            if after.len() < before.len() {
                let why = format!("updates may not remove a condition of type {sort:?}");
                causes.forbidden(path, why);
            } else if sub != "approval" && approves && after.len() > before.len() {
                let why = format!("updates may not add a condition of type {sort:?}");
                causes.forbidden(path, why);
            } else if sub != "approval" && approves && after != before {
                let why = format!("updates may not modify a condition of type {sort:?}\n");
                causes.forbidden(path, why);
            }
        }
        let certificate = |of: &Value| pem::bytes(&of["status"], "certificate");
        let (after, before) = (certificate(new), certificate(old));
        if after != before {
            let field = status.child("certificate");
            if sub != "status" {
                causes.forbidden(field, "updates may not set certificate content");
            } else if !before.is_empty() {
                causes.forbidden(field, "updates may not modify existing certificate content");
            }
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let spec = &object["spec"];
        let signer = match tree::text(spec, "signerName") {
            "" => "<none>",
            signer => signer,
        };
        let wanted = tree::number(spec, "expirationSeconds");
        vec![
            name(object),
            age(object, now),
            signer.into(),
            tree::text(spec, "username").into(),
            wanted.map_or_else(|| "<none>".to_owned(), human_duration).into(),
            state(object).into(),
        ]
    }
}

fn state(object: &Value) -> String {
    let has = |sort: &str| !of_type(object, sort).is_empty();
    let mut state = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has("Failed") {
        state.push_str(",Failed");
    }
    if !tree::text(&object["status"], "certificate").is_empty() {
        state.push_str(",Issued");
    }
    state
}

fn of_type<'a>(object: &'a Value, sort: &str) -> Vec<&'a Value> {
    let all = tree::list(&object["status"], "conditions").iter();
    all.filter(|condition| tree::text(condition, "type") == sort).collect()
}

/// A signer that sends an approval along sends it as it is.
fn keep_approval(new: &mut Value, old: &Value) {
    for sort in OF_APPROVAL {
        let before: Vec<Value> = of_type(old, sort).into_iter().cloned().collect();
        if of_type(new, sort).len() != before.len() {
            continue;
        }
        let mut before = before.into_iter();
        let Some(status) = new.get_mut("status") else { continue };
        for condition in tree::list_mut(status, "conditions") {
            if tree::text(condition, "type") == sort
                && let Some(kept) = before.next()
            {
                *condition = kept;
            }
        }
    }
}

/// Times that the client left open.
fn stamp(new: &mut Value, old: &Value, now: Timestamp) {
    let Some(status) = new.get_mut("status") else { return };
    for condition in tree::list_mut(status, "conditions") {
        tree::default(condition, "lastUpdateTime", format_time(now));
        if tree::has(condition, "lastTransitionTime") {
            continue;
        }
        let same = tree::list(&old["status"], "conditions").iter().find(|before| {
            ["type", "status"].iter().all(|key| before[*key] == condition[*key])
                && tree::has(before, "lastTransitionTime")
        });
        let since =
            same.map_or_else(|| format_time(now).into(), |one| one["lastTransitionTime"].clone());
        tree::set(condition, "lastTransitionTime", since);
    }
}

/// What an object already has that is wrong may stay.
fn rules(object: &Value, old: Option<&Value>, causes: &mut Causes) {
    let (spec, path) = (&object["spec"], Path::Root.child("spec"));
    if let Err(why) = pem::check_request(&pem::bytes(spec, "request")) {
        causes.invalid_or_null(path.child("request"), &spec["request"], &why);
    }
    let (usages, field) = (tree::list(spec, "usages"), path.child("usages"));
    if usages.is_empty() {
        causes.required(field, "");
    }
    for (at, usage) in usages.iter().enumerate() {
        if !usage.as_str().is_some_and(|usage| USAGES.contains(&usage)) {
            causes.not_supported(field.index(at), usage, &USAGES);
        }
    }
    for (at, usage) in usages.iter().enumerate() {
        if usages[..at].contains(usage) {
            causes.duplicate(field.index(at), usage);
        }
    }
    let signer = tree::text(spec, "signerName");
    if signer == LEGACY_SIGNER && old.is_none() {
        let why = "the legacy signerName is not allowed via this API version";
        causes.invalid_text(path.child("signerName"), signer, why);
    } else {
        signer_name(signer, path.child("signerName"), causes);
    }
    let key = "expirationSeconds";
    if tree::number(spec, key).is_some_and(|seconds| seconds < SHORTEST_SECONDS) {
        let why = "may not specify a duration less than 600 seconds (10 minutes)";
        causes.invalid(path.child(key), &spec[key], why);
    }
    conditions(object, causes);
    let status = Path::Root.child("status");
    let certificate = pem::bytes(&object["status"], "certificate");
    let known = old.is_some_and(|old| pem::bytes(&old["status"], "certificate") == certificate);
    if !known && let Err(why) = pem::check_certificates(&certificate) {
        causes.invalid_text(status.child("certificate"), "<certificate data>", why);
    }
}

fn conditions(object: &Value, causes: &mut Causes) {
    let status = Path::Root.child("status");
    let path = status.child("conditions");
    let all = tree::list(&object["status"], "conditions");
    for (at, condition) in all.iter().enumerate() {
        let item = path.index(at);
        let sort = tree::text(condition, "type");
        if sort.is_empty() {
            causes.required(item.child("type"), "");
        }
        let known: &[&str] = if FINAL.contains(&sort) { &["True"] } else { &STATES };
        match tree::text(condition, "status") {
            "" => causes.required(item.child("status"), ""),
            is if !known.contains(&is) => {
                causes.not_supported(item.child("status"), &condition["status"], known);
            }
            _ => {}
        }
        if all[..at].iter().any(|other| other["type"] == condition["type"]) {
            causes.duplicate(item.child("type"), &condition["type"]);
        }
    }
    if OF_APPROVAL.iter().all(|sort| !of_type(object, sort).is_empty()) {
        let shown = json!(OF_APPROVAL);
        let last = all.iter().rev().find(|one| OF_APPROVAL.contains(&tree::text(one, "type")));
        let why = "Approved and Denied conditions are mutually exclusive";
        causes.invalid(path, last.map_or(&shown, |last| &last["type"]), why);
    }
}
