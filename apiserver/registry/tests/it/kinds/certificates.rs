//! Kinds of certificates.

use expect_test::expect;
use serde_json::json;

use super::{changed, printed, refused};
use crate::stored;

/// Made with `openssl req -new`: O=dev, CN=jane, an EC key.
const REQUEST: &str = include_str!("request.b64");

fn signing(rest: &str) -> String {
    let request = REQUEST.trim();
    format!(
        "{{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {{name: 'jane:1'}}, spec: {{request: {request}, {rest}}}}}"
    )
}

#[test]
fn signing_requests() {
    let good = signing("signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]");
    let one = stored(&good);
    assert_eq!(one["status"], json!({}));
    // What nobody can change has no owner.
    assert_eq!(one["metadata"]["managedFields"], json!(null));
    let bad = signing("signerName: nodomain/a, usages: [x, x], expirationSeconds: 5");
    refused(
        &bad.replace(REQUEST.trim(), "aGVsbG8="),
        expect![[r#"
        422 CertificateSigningRequest.certificates.k8s.io "jane:1" is invalid: [spec.request: Invalid value: "aGVsbG8=": PEM block type must be CERTIFICATE REQUEST, spec.usages[0]: Unsupported value: "x": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping", spec.usages[1]: Unsupported value: "x": supported values: "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment", "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing", "timestamping", spec.usages[1]: Duplicate value: "x", spec.signerName: Invalid value: "nodomain": should be a domain with at least two segments separated by dots, spec.expirationSeconds: Invalid value: 5: may not specify a duration less than 600 seconds (10 minutes)]
          FieldValueInvalid spec.request
          FieldValueNotSupported spec.usages[0]
          FieldValueNotSupported spec.usages[1]
          FieldValueDuplicate spec.usages[1]
          FieldValueInvalid spec.signerName
          FieldValueInvalid spec.expirationSeconds
    "#]],
    );
    refused(
        &signing("signerName: a/b/c, usages: []"),
        expect![[r#"
        422 CertificateSigningRequest.certificates.k8s.io "jane:1" is invalid: [spec.usages: Required value, spec.signerName: Invalid value: "a/b/c": must be a fully qualified domain and path of the form 'example.com/signer-name']
          FieldValueRequired spec.usages
          FieldValueInvalid spec.signerName
    "#]],
    );
    let approve = |kind: &'static str| {
        move |one: &mut serde_json::Value| {
            one["status"]["conditions"] = json!([{"type": kind, "status": "True", "reason": "r"}]);
            one["spec"]["username"] = json!("eve");
        }
    };
    changed(
        "approval",
        &one,
        approve("Approved"),
        &["status", "spec.username"],
        expect![[r#"
        status: {"conditions":[{"type":"Approved","status":"True","reason":"r","lastUpdateTime":"2026-11-23T18:00:00Z","lastTransitionTime":"2026-11-23T18:00:00Z"}]}
        spec.username: null
    "#]],
    );
    changed(
        "status",
        &one,
        approve("Approved"),
        &[],
        expect![[r#"
        422 CertificateSigningRequest.certificates.k8s.io "jane:1" is invalid: status.conditions: Forbidden: updates may not add a condition of type "Approved"
          FieldValueForbidden status.conditions
    "#]],
    );
    changed(
        "status",
        &one,
        approve("Failed"),
        &["status"],
        expect![[r#"
        status: {"conditions":[{"type":"Failed","status":"True","reason":"r","lastUpdateTime":"2026-11-23T18:00:00Z","lastTransitionTime":"2026-11-23T18:00:00Z"}]}
    "#]],
    );
    changed(
        "",
        &one,
        approve("Approved"),
        &["status"],
        expect![[r#"
        status: {}
    "#]],
    );
    changed(
        "approval",
        &one,
        |one| {
            one["status"]["conditions"] = json!([{"type": "Approved", "status": "False"}, {"type": "Denied", "status": "True"}]);
        },
        &[],
        expect![[r#"
            422 CertificateSigningRequest.certificates.k8s.io "jane:1" is invalid: [status.conditions[0].status: Unsupported value: "False": supported values: "True", status.conditions: Invalid value: "Denied": Approved and Denied conditions are mutually exclusive]
              FieldValueNotSupported status.conditions[0].status
              FieldValueInvalid status.conditions
        "#]],
    );
    changed(
        "status",
        &one,
        |one| one["status"]["certificate"] = json!("aGVsbG8="),
        &[],
        expect![[r#"
            422 CertificateSigningRequest.certificates.k8s.io "jane:1" is invalid: status.certificate: Invalid value: "<certificate data>": must contain at least one CERTIFICATE PEM block
              FieldValueInvalid status.certificate
        "#]],
    );
    printed(
        &good,
        "{conditions: [{type: Approved, status: 'True'}], certificate: eA==}",
        expect!["jane:1 | 5m | kubernetes.io/kube-apiserver-client |  | <none> | Approved,Issued"],
    );
}

#[test]
fn other_certificates() {
    refused(
        "{apiVersion: certificates.k8s.io/v1, kind: ClusterTrustBundle, metadata: {name: a}, spec: {signerName: x.io/y, trustBundle: none}}",
        expect![[r#"
            422 ClusterTrustBundle.certificates.k8s.io "a" is invalid: [metadata.name: Invalid value: "a": ClusterTrustBundle for signerName x.io/y must be named with prefix x.io:y:, spec.trustBundle: Invalid value: "<value omitted>": at least one trust anchor must be provided]
              FieldValueInvalid metadata.name
              FieldValueInvalid spec.trustBundle
        "#]],
    );
    refused(
        "{apiVersion: certificates.k8s.io/v1, kind: PodCertificateRequest, metadata: {name: a}, spec: {signerName: kubernetes.io/x, podName: p, podUID: '', serviceAccountName: s, serviceAccountUID: u, nodeName: n, nodeUID: v, maxExpirationSeconds: 100000}}",
        expect![[r#"
            422 PodCertificateRequest.certificates.k8s.io "a" is invalid: [spec.podUID: Invalid value: "": must not be empty, spec.maxExpirationSeconds: Invalid value: 100000: must be in the range [3600, 86400], spec: Invalid value: exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set]
              FieldValueInvalid spec.podUID
              FieldValueInvalid spec.maxExpirationSeconds
              FieldValueInvalid spec
        "#]],
    );
}
