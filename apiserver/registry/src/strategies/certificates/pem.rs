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
