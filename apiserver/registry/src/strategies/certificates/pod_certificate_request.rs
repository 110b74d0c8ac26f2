//! PodCertificateRequest: a node asks for a certificate in the name of a pod of its own.

use serde_json::{Value, json};
use windlass_sdk_meta::{Timestamp, parse_time};
use x509_parser::{
    certification_request::X509CertificationRequest,
    prelude::{FromDer as _, X509Certificate},
};

use super::pem;
use crate::{
    cause::{Causes, Path},
    conditions, names,
    strategies::{
        apps::workload::labels_cell,
        common::{keep_metadata, signer_name},
    },
    strategy::{Context, Separation, Strategy},
    table::{Cells, name},
    tree,
};

const SHORTEST_SECONDS: i64 = 3600;
const LONGEST_SECONDS: i64 = 91 * 86_400;
/// Of signers below kubernetes.io.
const LONGEST_SECONDS_OF_OURS: i64 = 86_400;
const MOST_UID_BYTES: usize = 128;
const MOST_REQUEST_BYTES: usize = 10 * 1024;
const MOST_CHAIN_BYTES: usize = 100 * 1024;
const REFRESH_MARGIN_SECONDS: i64 = 600;
const FINAL: [&str; 3] = ["Issued", "Denied", "Failed"];

#[derive(Debug)]
pub struct PodCertificateRequest;

impl Strategy for PodCertificateRequest {
    fn separation(&self) -> Separation {
        Separation::Status
    }

    fn default(&self, object: &mut Value) {
        tree::default(tree::child(object, "spec"), "maxExpirationSeconds", 86_400);
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub == "status" {
            keep_metadata(new, old);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        signer_name(tree::text(spec, "signerName"), path.child("signerName"), causes);
        for (name, uid) in [
            ("podName", "podUID"),
            ("serviceAccountName", "serviceAccountUID"),
            ("nodeName", "nodeUID"),
        ] {
            let text = tree::text(spec, name);
            causes.complaints(path.child(name), text, names::subdomain(text));
            let text = tree::text(spec, uid);
            if text.is_empty() {
                causes.invalid_text(path.child(uid), "", "must not be empty");
            }
            if text.len() > MOST_UID_BYTES {
                causes.too_long(path.child(uid), MOST_UID_BYTES);
            }
        }
        lifetime(spec, path, causes);
        key(spec, path, causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        if sub == "status" {
            return status_rules(new, old, causes);
        }
        if !tree::same(&new["spec"], &old["spec"]) {
            causes.immutable(Path::Root.child("spec"), &new["spec"]);
        }
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        let spec = &object["spec"];
        let text = |key: &str| Value::from(tree::text(spec, key));
        let state = FINAL.iter().rev().find(|sort| says(object, sort)).unwrap_or(&"Pending");
        vec![
            name(object),
            text("podName"),
            text("serviceAccountName"),
            text("nodeName"),
            text("signerName"),
            (*state).into(),
            labels_cell(&spec["unverifiedUserAnnotations"]).into(),
        ]
    }
}

fn says(object: &Value, sort: &str) -> bool {
    let all = tree::list(&object["status"], "conditions");
    all.iter().any(|one| one["type"] == sort && one["status"] == "True")
}

fn lifetime(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let field = path.child("maxExpirationSeconds");
    let Some(seconds) = tree::number(spec, "maxExpirationSeconds") else {
        return causes.required(field, "must be set");
    };
    let domain = tree::text(spec, "signerName").split('/').next().unwrap_or_default();
    let ours = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    let longest = if ours { LONGEST_SECONDS_OF_OURS } else { LONGEST_SECONDS };
    if !(SHORTEST_SECONDS..=longest).contains(&seconds) {
        let why = format!("must be in the range [{SHORTEST_SECONDS}, {longest}]");
        causes.invalid(field, &seconds.into(), why);
    }
}

/// The request says which key it is for in one of two forms; the older one is a key and a proof.
fn key(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let has = |key: &str| !tree::text(spec, key).is_empty();
    let stub = has("stubPKCS10Request");
    let (old, proof) = (has("pkixPublicKey"), has("proofOfPossession"));
    match (stub, old, proof) {
        (true, false, false) => {
            let (field, bytes) =
                (path.child("stubPKCS10Request"), pem::bytes(spec, "stubPKCS10Request"));
            if bytes.len() > MOST_REQUEST_BYTES {
                causes.too_long(field, MOST_REQUEST_BYTES);
            } else if X509CertificationRequest::from_der(&bytes).is_err() {
                causes.invalid_whole(field, "must be a valid PKCS#10 CSR");
            }
        }
        (false, true, true) => {
            for key in ["pkixPublicKey", "proofOfPossession"] {
                if pem::bytes(spec, key).len() > MOST_REQUEST_BYTES {
                    causes.too_long(path.child(key), MOST_REQUEST_BYTES);
                }
            }
            let bytes = pem::bytes(spec, "pkixPublicKey");
            if x509_parser::x509::SubjectPublicKeyInfo::from_der(&bytes).is_err() {
                let why = "must be a valid PKIX-serialized public key";
                causes.invalid(path.child("pkixPublicKey"), &spec["pkixPublicKey"], why);
            }
        }
        _ => {
            let why = "exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set";
            causes.invalid_whole(path, why);
        }
    }
}

fn status_rules(new: &Value, old: &Value, causes: &mut Causes) {
    let path = Path::Root.child("status");
    let (status, all) = (&new["status"], path.child("conditions"));
    let list = tree::list(status, "conditions");
    for (at, condition) in list.iter().enumerate() {
        let item = all.index(at);
        if !FINAL.contains(&tree::text(condition, "type")) {
            causes.not_supported(item.child("type"), &condition["type"], &FINAL);
            continue;
        }
        if at > 0 {
            let why = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            causes.invalid(item.child("type"), &condition["type"], why);
        }
        if condition["status"] != "True" {
            causes.not_supported(item.child("status"), &condition["status"], &["True"]);
        }
    }
    conditions::validate(list, all, causes);
    if !causes.is_empty() {
        return;
    }
    if FINAL.iter().any(|sort| says(old, sort)) {
        if !tree::same(status, &old["status"]) {
            let why = "immutable after PodCertificateRequest is issued, denied, or failed";
            causes.invalid_whole(path, why);
        }
    } else if says(new, "Denied") || says(new, "Failed") {
        if !tree::same(status, &json!({"conditions": status["conditions"]})) {
            let why = "non-condition status fields must be empty when denying or failing the PodCertificateRequest";
            causes.invalid_whole(path, why);
        }
    } else if says(new, "Issued") {
        issued(new, path, causes);
    } else if !tree::same(status, &old["status"]) {
        let why =
            "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"";
        causes.invalid_whole(path, why);
    }
}

fn issued(new: &Value, path: Path<'_>, causes: &mut Causes) {
    let (status, field) = (&new["status"], path.child("certificateChain"));
    let chain = tree::text(status, "certificateChain");
    if chain.len() > MOST_CHAIN_BYTES {
        return causes.too_long(field, MOST_CHAIN_BYTES);
    }
    let blocks = pem::blocks(chain.as_bytes());
    let why = match blocks.first() {
        None => "issued certificate chain must contain at least one certificate",
        Some(_) if blocks.iter().any(|block| block.label != pem::CERTIFICATE) => {
            "issued certificate chain must consist entirely of CERTIFICATE PEM blocks"
        }
        Some(first) => match X509Certificate::from_der(&first.contents) {
            Err(_) => "leaf certificate does not parse as valid X.509",
            Ok((_, leaf)) => {
                if !is_for_key(&new["spec"], &leaf) {
                    "leaf certificate was not issued to the requested public key"
                } else {
                    return times(new, &leaf, path, causes);
                }
            }
        },
    };
    causes.invalid_text(field, chain, why);
}

fn is_for_key(spec: &Value, leaf: &X509Certificate<'_>) -> bool {
    let stub = pem::bytes(spec, "stubPKCS10Request");
    let wanted = match X509CertificationRequest::from_der(&stub) {
        Ok((_, request)) => request.certification_request_info.subject_pki.raw.to_vec(),
        Err(_) => pem::bytes(spec, "pkixPublicKey"),
    };
    leaf.public_key().raw == wanted
}

fn times(new: &Value, leaf: &X509Certificate<'_>, path: Path<'_>, causes: &mut Causes) {
    let status = &new["status"];
    let at = |key: &str| status[key].as_str().and_then(parse_time).map(Timestamp::as_second);
    let (before, after, refresh) = (at("notBefore"), at("notAfter"), at("beginRefreshAt"));
    let consistent = "must be present and consistent with the issued certificate";
    let within = "must be present and in the range [notbefore+10min, notafter-10min]";
    for (key, value, why) in [
        ("notBefore", before, consistent),
        ("notAfter", after, consistent),
        ("beginRefreshAt", refresh, within),
    ] {
        if value.is_none() {
            causes.required(path.child(key), why);
        }
    }
    let (Some(before), Some(after), Some(refresh)) = (before, after, refresh) else { return };
    let validity = leaf.validity();
    let (first, last) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let (chain, most) = ("certificateChain", tree::number(&new["spec"], "maxExpirationSeconds"));
    let most = most.unwrap_or(0);
    let too_long =
        format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})");
    let rules: [(bool, &str, &str); 6] = [
        (
            before == first,
            "notBefore",
            "must be set to the NotBefore time encoded in the leaf certificate",
        ),
        (
            after == last,
            "notAfter",
            "must be set to the NotAfter time encoded in the leaf certificate",
        ),
        (last - first >= SHORTEST_SECONDS, chain, "leaf certificate lifetime must be >= 1 hour"),
        (last - first <= most, chain, &too_long),
        (
            refresh >= before + REFRESH_MARGIN_SECONDS,
            "beginRefreshAt",
            "must be at least 10 minutes after status.notBefore",
        ),
        (
            refresh <= after - REFRESH_MARGIN_SECONDS,
            "beginRefreshAt",
            "must be at least 10 minutes before status.notAfter",
        ),
    ];
    if let Some((_, key, why)) = rules.iter().find(|(holds, ..)| !holds) {
        causes.invalid(path.child(key), &status[*key], why);
    }
}
