//! CertificateApproval, CertificateSigning, ClusterTrustBundleAttest and CertificateSubjectRestriction:
//! who approves, signs or attests needs that verb on the signer, and nobody gets `system:masters` by
//! a certificate. A request also says who made it, and has to be signed with its own key.

use base64::Engine as _;
use rcgen::CertificateSigningRequestParams;
use serde_json::{Value, json};
use windlass_sdk_meta::{Cause, Status};
use x509_parser::{certification_request::X509CertificationRequest, pem, prelude::FromDer as _};

use super::{AdmissionRequest, Operation};
use crate::{Attributes, Authorizer, Lookup};

const GROUP: &str = "certificates.k8s.io";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &str = "system:masters";

/// Who asks is not for the client to say.
pub(super) fn mutate(request: &mut AdmissionRequest<'_>) {
    if !is_new_request(request) {
        return;
    }
    let user = request.user;
    let spec = request.object.as_deref_mut().and_then(|object| object.get_mut("spec"));
    let Some(Value::Object(spec)) = spec else { return };
    for key in ["username", "uid", "groups", "extra"] {
        spec.shift_remove(key);
    }
    spec.insert("username".into(), json!(user.name));
    if !user.uid.is_empty() {
        spec.insert("uid".into(), json!(user.uid));
    }
    spec.insert("groups".into(), json!(user.groups));
    if !user.extra.is_empty() {
        spec.insert("extra".into(), json!(user.extra));
    }
}

fn is_new_request(request: &AdmissionRequest<'_>) -> bool {
    request.operation == Operation::Create
        && request.subresource.is_empty()
        && request.is(GROUP, "certificatesigningrequests")
}

pub(super) fn validate(
    authorizer: &Authorizer,
    request: &AdmissionRequest<'_>,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    let Some(object) = request.object.as_deref().filter(|_| request.resource.group == GROUP) else {
        return Ok(());
    };
    if is_new_request(request) {
        signed_by_its_key(request, object)?;
        return no_masters(request, object);
    }
    let resource = request.resource.resource.as_str();
    let before = request.old.unwrap_or(&Value::Null);
    let same = |key: &str| object["status"][key] == before["status"][key];
    let (verb, what, of) = match (resource, request.subresource, request.operation) {
        ("certificatesigningrequests", "approval", Operation::Update) => {
            ("approve", "approve requests with", before)
        }
        ("certificatesigningrequests", "status", Operation::Update)
            if !same("certificate") || !same("conditions") =>
        {
            ("sign", "sign requests with", before)
        }
        ("clustertrustbundles", "", Operation::Create) => ("attest", "attest for", object),
        ("clustertrustbundles", "", Operation::Update) if object["spec"] != before["spec"] => {
            ("attest", "attest for", object)
        }
        _ => return Ok(()),
    };
    let signer = of["spec"]["signerName"].as_str().unwrap_or_default();
    if signer.is_empty() && verb == "attest" || may(authorizer, request, verb, signer, lookup) {
        return Ok(());
    }
    Err(request.forbidden(format!("user not permitted to {what} signerName {signer:?}")))
}

/// By the signer's name, or by `domain/*`.
fn may(
    authorizer: &Authorizer,
    request: &AdmissionRequest<'_>,
    verb: &str,
    signer: &str,
    lookup: &dyn Lookup,
) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    [signer, &format!("{domain}/*")].iter().any(|name| {
        let asked = Attributes {
            version: "*",
            name,
            ..Attributes::resource(request.user, verb, GROUP, "signers")
        };
        authorizer.authorize(&asked, lookup).allowed()
    })
}

/// The request's bytes without their PEM frame.
fn request_der(object: &Value) -> Option<Vec<u8>> {
    let text = object["spec"]["request"].as_str()?;
    let text = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
    let (_, block) = pem::parse_x509_pem(&text).ok()?;
    Some(block.contents)
}

fn signed_by_its_key(request: &AdmissionRequest<'_>, object: &Value) -> Result<(), Status> {
    let checked = request_der(object).map(|der| {
        CertificateSigningRequestParams::from_der(&der.into()).map_err(|error| error.to_string())
    });
    // Extensions that the signer would not know are no fault of the signature's.
    let why = match checked {
        Some(Err(why)) if why.contains("signature") => why,
        _ => return Ok(()),
    };
    let shown = object["spec"]["request"].as_str().unwrap_or_default();
    let cause = Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {shown:?}: {why}"),
        field: "spec.request".into(),
    };
    Err(Status::invalid(request.kind, request.target_name(), vec![cause]))
}

fn no_masters(request: &AdmissionRequest<'_>, object: &Value) -> Result<(), Status> {
    if object["spec"]["signerName"] != CLIENT_SIGNER {
        return Ok(());
    }
    let Some(der) = request_der(object) else { return Ok(()) };
    let Ok((_, parsed)) = X509CertificationRequest::from_der(&der) else { return Ok(()) };
    let subject = &parsed.certification_request_info.subject;
    let mut groups = subject.iter_organization().filter_map(|group| group.as_str().ok());
    match groups.any(|group| group == MASTERS) {
        false => Ok(()),
        true => Err(request.forbidden(format!(
            "use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
        ))),
    }
}
