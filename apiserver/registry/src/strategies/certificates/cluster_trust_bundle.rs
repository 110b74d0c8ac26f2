//! ClusterTrustBundle: certificates of authorities that pods may trust.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::pem;
use crate::{
    cause::{Causes, Path},
    names::{self, NameRule},
    strategies::common::signer_name,
    strategy::Strategy,
    table::{Cells, name},
    tree,
};

const MOST_BYTES: usize = 1024 * 1024;
const OMITTED: &str = "<value omitted>";

#[derive(Debug)]
pub struct ClusterTrustBundle;

impl Strategy for ClusterTrustBundle {
    /// What it must be depends on the signer: `validate` looks.
    fn name_rule(&self) -> NameRule {
        NameRule::PathSegment
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        named_after_signer(object, causes);
        let path = Path::Root.child("spec");
        let bundle = tree::text(&object["spec"], "trustBundle");
        anchors(bundle, path.child("trustBundle"), causes);
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        match tree::same(&new["spec"]["trustBundle"], &old["spec"]["trustBundle"]) {
            true => named_after_signer(new, causes),
            false => self.validate(new, causes),
        }
        if !tree::same(&new["spec"]["signerName"], &old["spec"]["signerName"]) {
            let path = Path::Root.child("spec");
            causes.immutable(path.child("signerName"), &new["spec"]["signerName"]);
        }
    }

    fn cells(&self, object: &Value, _now: Timestamp) -> Cells {
        let signer = match tree::text(&object["spec"], "signerName") {
            "" => "<none>",
            signer => signer,
        };
        vec![name(object), signer.into()]
    }
}

fn named_after_signer(object: &Value, causes: &mut Causes) {
    let own = tree::text(&object["metadata"], "name");
    let signer = tree::text(&object["spec"], "signerName");
    let (metadata, spec) = (Path::Root.child("metadata"), Path::Root.child("spec"));
    let complaints = if signer.is_empty() && own.contains(':') {
        vec!["ClusterTrustBundle without signer name must not have \":\" in its name".to_owned()]
    } else {
        let prefix = match signer {
            "" => String::new(),
            signer => format!("{}:", signer.replace('/', ":")),
        };
        match own.strip_prefix(&prefix) {
            Some(rest) => names::subdomain(rest),
            None => vec![format!(
                "ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}"
            )],
        }
    };
    if !own.is_empty() {
        causes.complaints(metadata.child("name"), own, complaints);
    }
    if !signer.is_empty() {
        signer_name(signer, spec.child("signerName"), causes);
    }
}

fn anchors(bundle: &str, path: Path<'_>, causes: &mut Causes) {
    if bundle.len() > MOST_BYTES {
        return causes.too_long(path, MOST_BYTES);
    }
    let blocks = pem::blocks(bundle.as_bytes());
    let mut wrong = false;
    for (at, block) in blocks.iter().enumerate() {
        let parsed = X509Certificate::from_der(&block.contents);
        let why = match &parsed {
            _ if block.label != pem::CERTIFICATE => {
                format!("entry {at} has bad block type: {}", block.label)
            }
            Err(_) => format!("entry {at} does not parse as X.509"),
            Ok((_, certificate)) if !certificate.is_ca() => {
                format!("entry {at} does not have the CA bit set")
            }
            Ok(_) => continue,
        };
        wrong = true;
        causes.invalid_text(path, OMITTED, why);
    }
    if wrong {
        return;
    }
    if blocks.is_empty() {
        causes.invalid_text(path, OMITTED, "at least one trust anchor must be provided");
    }
    for (at, block) in blocks.iter().enumerate() {
        let same: Vec<String> = blocks
            .iter()
            .enumerate()
            .filter(|(_, other)| other.contents == block.contents)
            .map(|(at, _)| at.to_string())
            .collect();
        if same.len() > 1 && same[0] == at.to_string() {
            let why = format!("duplicate trust anchor (indices [{}])", same.join(" "));
            causes.invalid_text(path, OMITTED, why);
        }
    }
}
