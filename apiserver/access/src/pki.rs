//! The cluster's own certificate authority, and what it signs: serving certificates, client
//! certificates of people and components, and the kubeconfig that carries one.

use std::{io, path::Path, sync::Arc};

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use windlass_sdk_meta::Clock;

/// The cluster's certificate authority: `ca.crt` and `ca.key` (mode 0600) in a folder.
pub struct Authority {
    cert_pem: String,
    cert_der: CertificateDer<'static>,
}

/// A certificate with its private key, in both encodings.
pub struct CertifiedKey {
    pub cert_pem: String,
    pub key_pem: String,
    pub cert_der: CertificateDer<'static>,
    pub key_der: PrivateKeyDer<'static>,
}

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    #[error("{path} is not a usable certificate authority: {why}")]
    Authority { path: String, why: String },
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
    #[error("a certificate could not be made: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Authority {
    /// Opens the authority in `dir`, or makes one there where there is none.
    pub fn open_or_create(_dir: &Path, _clock: Arc<dyn Clock>) -> Result<Self, PkiError> {
        Err(PkiError::Name("not yet".into()))
    }

    pub fn certificate_pem(&self) -> &str {
        &self.cert_pem
    }

    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.cert_der
    }

    /// A serving certificate for DNS names and IP addresses.
    pub fn issue_server(&self, _names: &[String]) -> Result<CertifiedKey, PkiError> {
        Err(PkiError::Name("not yet".into()))
    }

    /// A client certificate: `user` is the CN, each group an O.
    pub fn issue_client(&self, _user: &str, _groups: &[&str]) -> Result<CertifiedKey, PkiError> {
        Err(PkiError::Name("not yet".into()))
    }

    /// TLS for the API server: h2 and http/1.1 by ALPN; client certificates are optional, and any
    /// that its owner can sign with passes: [`crate::Authenticator`] judges it.
    pub fn server_config(&self, _own: &CertifiedKey) -> Result<rustls::ServerConfig, PkiError> {
        Err(PkiError::Name("not yet".into()))
    }

    /// TLS for a listener that only holders of a certificate of this authority may reach (the
    /// kubelet API): the handshake fails for everybody else.
    pub fn private_server_config(
        &self,
        _own: &CertifiedKey,
    ) -> Result<rustls::ServerConfig, PkiError> {
        Err(PkiError::Name("not yet".into()))
    }

    /// TLS towards servers of this authority, with a client certificate of our own.
    pub fn client_config(&self, _own: &CertifiedKey) -> Result<rustls::ClientConfig, PkiError> {
        Err(PkiError::Name("not yet".into()))
    }
}

/// A kubeconfig with the authority's and the client's PEM data in it, as YAML (JSON form).
pub fn kubeconfig(_server_url: &str, _ca_pem: &str, _client: &CertifiedKey) -> String {
    String::new()
}
