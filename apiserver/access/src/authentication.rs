//! Credentials to a user. Certificates are checked here, not in the TLS handshake, so that a wrong
//! one is answered with 401 as any wrong credential is, and the connection stays usable.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{User, pki};

/// Turns credentials into users.
pub struct Authenticator {
    certificates: Result<Arc<dyn ClientCertVerifier>, String>,
}

impl Authenticator {
    /// Trusts client certificates that `ca` signed.
    pub fn new(ca: CertificateDer<'static>) -> Self {
        Self { certificates: verifier(ca) }
    }

    /// The user of a client certificate: CN is the name, each O a group. Err says why the
    /// certificate isn't accepted; answer 401.
    pub fn certificate(&self, der: &[u8]) -> Result<User, String> {
        let certificates = self.certificates.as_ref().map_err(Clone::clone)?;
        // The machine's time: a handshake happens in real time, and never in the simulation.
        certificates
            .verify_client_cert(&CertificateDer::from(der), &[], UnixTime::now())
            .map_err(|error| error.to_string())?;
        subject(der)
    }

    /// The user of a bearer token; None where it is not valid: answer 401. No tokens are issued
    /// yet, so none is valid.
    pub fn bearer(&self, _token: &str) -> Option<User> {
        None
    }
}

/// Checks chain, time and purpose of client certificates that `ca` signed.
pub(crate) fn verifier(ca: CertificateDer<'static>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    roots.add(ca).map_err(|error| error.to_string())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), pki::provider())
        .build()
        .map_err(|error| error.to_string())?;
    Ok(verifier)
}

/// The user that a certificate names, whoever signed it.
pub(crate) fn subject(der: &[u8]) -> Result<User, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok());
    let name = name.filter(|name| !name.is_empty()).ok_or("the certificate names no user (CN)")?;
    let groups: Vec<&str> =
        subject.iter_organization().filter_map(|group| group.as_str().ok()).collect();
    Ok(User::authenticated(name, &groups))
}
