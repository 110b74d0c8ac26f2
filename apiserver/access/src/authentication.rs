//! Credentials to a user. Certificates are checked here, not in the TLS handshake, so that a wrong
//! one is answered with 401 as any wrong credential is, and the connection stays usable.

use std::{sync::Arc, time::Duration};

use rustls::{
    RootCertStore,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};
use windlass_sdk_meta::Clock;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{Lookup, Tokens, User, pki};

/// Turns credentials into users.
pub struct Authenticator {
    certificates: Result<Arc<dyn ClientCertVerifier>, String>,
    clock: Arc<dyn Clock>,
    tokens: Option<Arc<Tokens>>,
}

impl Authenticator {
    /// Trusts client certificates that `ca` signed, and no tokens.
    pub fn new(ca: CertificateDer<'static>, clock: Arc<dyn Clock>) -> Self {
        Self { certificates: verifier(ca), clock, tokens: None }
    }

    /// Trusts tokens of service accounts, too.
    pub fn with_tokens(self, tokens: Arc<Tokens>) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// Who issues tokens of service accounts; None where nobody does.
    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_deref()
    }

    /// The user of a client certificate: CN is the name, each O a group. Err says why the
    /// certificate isn't accepted; answer 401.
    pub fn certificate(&self, der: &[u8]) -> Result<User, String> {
        let certificates = self.certificates.as_ref().map_err(Clone::clone)?;
        let seconds = u64::try_from(self.clock.now().as_second()).unwrap_or_default();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        certificates
            .verify_client_cert(&CertificateDer::from(der), &[], now)
            .map_err(|error| error.to_string())?;
        subject(der)
    }

    /// The user of a bearer token; Err says why it isn't valid: answer 401.
    pub fn bearer(&self, token: &str, lookup: &dyn Lookup) -> Result<Arc<User>, String> {
        let tokens = self.tokens.as_ref().ok_or("no tokens are issued here")?;
        tokens.authenticate(token, &[], lookup).map(|(user, _)| user)
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
