//! PEM blocks in fields of objects.

use base64::Engine as _;
use serde_json::Value;
use x509_parser::{
    certification_request::X509CertificationRequest,
    pem::Pem,
    prelude::{FromDer as _, X509Certificate},
};

pub const CERTIFICATE: &str = "CERTIFICATE";
const REQUEST: &str = "CERTIFICATE REQUEST";
const KEY: &str = "PRIVATE KEY";

/// The bytes of a field that JSON writes in base64.
pub fn bytes(of: &Value, key: &str) -> Vec<u8> {
    let text = of[key].as_str().unwrap_or_default();
    base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default()
}

/// All blocks, as far as they can be read.
pub fn blocks(text: &[u8]) -> Vec<Pem> {
    Pem::iter_from_buffer(text).map_while(Result::ok).collect()
}

/// A block has lines of its own before its content.
pub fn has_headers(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.lines().any(|line| !line.starts_with("-----") && line.contains(':'))
}

/// Whether a block is a request for a certificate; what is wrong otherwise.
pub fn check_request(text: &[u8]) -> Result<(), String> {
    let block = blocks(text).into_iter().next().filter(|block| block.label == REQUEST);
    let block = block.ok_or("PEM block type must be CERTIFICATE REQUEST")?;
    match X509CertificationRequest::from_der(&block.contents) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("x509: malformed certificate request: {error}")),
    }
}

/// Whether a certificate and a private key are there, in the words of Go's TLS. Whether they belong
/// together isn't looked at.
pub fn check_pair(certificate: &[u8], key: &[u8]) -> Result<(), String> {
    let certificate = blocks(certificate);
    let Some(leaf) = certificate.iter().find(|block| block.label == CERTIFICATE) else {
        return Err(match labels(&certificate).as_slice() {
            [] => "tls: failed to find any PEM data in certificate input".to_owned(),
            [one] if one.ends_with(KEY) => "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched".to_owned(),
            all => format!("tls: failed to find {CERTIFICATE:?} PEM block in certificate input after skipping PEM blocks of the following types: [{}]", all.join(" ")),
        });
    };
    let key = blocks(key);
    if !key.iter().any(|block| block.label == KEY || block.label.ends_with(&format!(" {KEY}"))) {
        return Err(match labels(&key).as_slice() {
            [] => "tls: failed to find any PEM data in key input".to_owned(),
            [CERTIFICATE] => {
                "tls: found a certificate rather than a key in the PEM for the private key"
                    .to_owned()
            }
            all => format!(
                "tls: failed to find PEM block with type ending in {KEY:?} in key input after skipping PEM blocks of the following types: [{}]",
                all.join(" ")
            ),
        });
    }
    match X509Certificate::from_der(&leaf.contents) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("x509: malformed certificate: {error}")),
    }
}

fn labels(blocks: &[Pem]) -> Vec<&str> {
    blocks.iter().map(|block| block.label.as_str()).collect()
}

/// Whether a text is nothing but certificates, one at least; what is wrong otherwise.
pub fn check_certificates(text: &[u8]) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let blocks = blocks(text);
    if blocks.is_empty() {
        return Err("must contain at least one CERTIFICATE PEM block".to_owned());
    }
    for block in &blocks {
        if block.label != CERTIFICATE {
            return Err(format!(
                "only CERTIFICATE PEM blocks are allowed, found {:?}",
                block.label
            ));
        }
        if has_headers(text) {
            return Err("no PEM block headers are permitted".to_owned());
        }
        if X509Certificate::from_der(&block.contents).is_err() {
            return Err("x509: malformed certificate".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn pairs() {
        let block = |label: &str| {
            format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n").into_bytes()
        };
        let (certificate, key) = (block(CERTIFICATE), block("EC PRIVATE KEY"));
        let cases = [
            (Vec::new(), key.clone()),
            (key.clone(), certificate.clone()),
            (block(REQUEST), key),
            (certificate.clone(), Vec::new()),
            (certificate.clone(), certificate.clone()),
            (certificate, block(REQUEST)),
        ];
        let told = cases.map(|(certificate, key)| check_pair(&certificate, &key).err());
        let told: Vec<String> = told.into_iter().flatten().collect();
        expect![[r#"
            tls: failed to find any PEM data in certificate input
            tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched
            tls: failed to find "CERTIFICATE" PEM block in certificate input after skipping PEM blocks of the following types: [CERTIFICATE REQUEST]
            tls: failed to find any PEM data in key input
            tls: found a certificate rather than a key in the PEM for the private key
            tls: failed to find PEM block with type ending in "PRIVATE KEY" in key input after skipping PEM blocks of the following types: [CERTIFICATE REQUEST]"#]]
        .assert_eq(&told.join("\n"));
    }
}
