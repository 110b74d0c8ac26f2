//! The cluster's own certificate authority, and what it signs: serving certificates, client
//! certificates of people and components, and the kubeconfig that carries one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use rustls::{
    DigitallySignedStruct, DistinguishedName as SubjectDer, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject};
use windlass_sdk_meta::{Clock, Timestamp};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::authentication;

/// The user that the API server is towards kubelets (upstream's name).
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

const CA_DAYS: i64 = 3650;
const LEAF_DAYS: i64 = 365;
/// Certificates are valid from a day before they are made, for machines whose clocks differ.
const BACKDATED_DAYS: i64 = 1;

/// The cluster's certificate authority: `ca.crt` and `ca.key` (mode 0600) in a folder.
pub struct Authority {
    cert_pem: String,
    cert_der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    clock: Arc<dyn Clock>,
}

/// A certificate with its private key, in both encodings.
#[derive(Debug)]
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
    #[error("{path} is not a usable signing key: {why}")]
    SigningKey { path: String, why: String },
    #[error("{path} can't be used: {why}")]
    File { path: String, why: String },
    #[error("{0:?} is neither a DNS name nor an IP address")]
    Name(String),
    /// A limit of rcgen: a subject holds each attribute once.
    #[error("a certificate of {user:?} can name one group, not {groups}")]
    Groups { user: String, groups: usize },
    #[error("a certificate could not be made: {0}")]
    Sign(#[from] rcgen::Error),
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Authority {
    /// Opens the authority in `dir`, or makes one there where there is none. The certificate is
    /// written last: a key alone was never used, and is made anew.
    pub fn open_or_create(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, PkiError> {
        let (cert_path, key_path) = (dir.join("ca.crt"), dir.join("ca.key"));
        if !cert_path.exists() {
            let (cert_pem, key_pem) = new_authority(clock.now())?;
            let failed = |source| PkiError::Io { path: dir.display().to_string(), source };
            fs::create_dir_all(dir).map_err(failed)?;
            write_private(&key_path, &key_pem)?;
            write_private(&cert_path, &cert_pem)?;
        }
        let cert_pem = read(&cert_path)?;
        let key_pem = read(&key_path)?;
        let unusable = |path: &Path, why: String| PkiError::Authority {
            path: path.display().to_string(),
            why,
        };
        let cert_der = CertificateDer::from_pem_slice(cert_pem.as_bytes())
            .map_err(|error| unusable(&cert_path, error.to_string()))?;
        let key =
            KeyPair::from_pem(&key_pem).map_err(|error| unusable(&key_path, error.to_string()))?;
        match X509Certificate::from_der(&cert_der) {
            Ok((_, cert)) if cert.public_key().subject_public_key.data == key.public_key_raw() => {}
            Ok(_) => return Err(unusable(&key_path, "it is not the key of ca.crt".into())),
            Err(error) => return Err(unusable(&cert_path, error.to_string())),
        }
        let issuer = Issuer::from_ca_cert_der(&cert_der, key)?;
        Ok(Self { cert_pem, cert_der, issuer, clock })
    }

    pub fn certificate_pem(&self) -> &str {
        &self.cert_pem
    }

    pub fn certificate_der(&self) -> &CertificateDer<'static> {
        &self.cert_der
    }

    /// A serving certificate for DNS names and IP addresses.
    pub fn issue_server(&self, names: &[String]) -> Result<CertifiedKey, PkiError> {
        for name in names {
            // Checked one by one, so that the error names the wrong one.
            let is_usable = name.parse::<IpAddr>().is_ok()
                || (CertificateParams::new([name.clone()]).is_ok() && is_dns_name(name));
            if !is_usable {
                return Err(PkiError::Name(name.clone()));
            }
        }
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = subject("kube-apiserver", None);
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client certificate: `user` is the CN, the group (at most one) the O.
    pub fn issue_client(&self, user: &str, groups: &[&str]) -> Result<CertifiedKey, PkiError> {
        if groups.len() > 1 {
            return Err(PkiError::Groups { user: user.into(), groups: groups.len() });
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(user, groups.first().copied());
        self.issue(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// TLS for the API server: h2 and http/1.1 by ALPN; client certificates are optional, and any
    /// that its owner can sign with passes: [`crate::Authenticator`] judges it.
    pub fn server_config(&self, own: &CertifiedKey) -> Result<rustls::ServerConfig, PkiError> {
        self.server_tls(own, Arc::new(AnyCertificate { hints: vec![self.subject_der()] }))
    }

    /// TLS for a listener that only `caller` with a certificate of this authority may reach (the
    /// kubelet API: [`KUBELET_CLIENT`]): the handshake fails for everybody else.
    pub fn private_server_config(
        &self,
        own: &CertifiedKey,
        caller: &str,
    ) -> Result<rustls::ServerConfig, PkiError> {
        let chain = authentication::verifier(self.cert_der.clone())
            .map_err(|why| PkiError::Authority { path: "ca.crt".into(), why })?;
        self.server_tls(own, Arc::new(OneCaller { chain, caller: caller.into() }))
    }

    /// TLS towards servers of this authority, with a client certificate of our own.
    pub fn client_config(&self, own: &CertifiedKey) -> Result<rustls::ClientConfig, PkiError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.cert_der.clone())?;
        let config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![own.cert_der.clone()], own.key_der.clone_key())?;
        Ok(config)
    }

    fn server_tls(
        &self,
        own: &CertifiedKey,
        clients: Arc<dyn ClientCertVerifier>,
    ) -> Result<rustls::ServerConfig, PkiError> {
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![own.cert_der.clone()], own.key_der.clone_key())?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Result<CertifiedKey, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        set_validity(&mut params, self.clock.now(), LEAF_DAYS);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(CertifiedKey {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            cert_der: certificate.into(),
            key_der: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        })
    }

    /// Told to clients, so that one with several certificates picks ours.
    fn subject_der(&self) -> SubjectDer {
        let parsed = X509Certificate::from_der(&self.cert_der);
        let subject = parsed.map(|(_, cert)| cert.subject().as_raw().to_vec());
        SubjectDer::from(subject.unwrap_or_default())
    }
}

/// A kubeconfig (mode it 0600) with the authority's and the client's PEM data in it.
pub fn kubeconfig(server_url: &str, ca_pem: &str, client: &CertifiedKey) -> String {
    let data = |pem: &str| BASE64_STANDARD.encode(pem);
    let (ca, cert, key) = (data(ca_pem), data(&client.cert_pem), data(&client.key_pem));
    // A JSON string is a YAML string.
    let server = serde_json::Value::from(server_url);
    format!(
        "apiVersion: v1\n\
         kind: Config\n\
         clusters:\n\
         - name: windlass\n  \
           cluster:\n    \
             server: {server}\n    \
             certificate-authority-data: {ca}\n\
         users:\n\
         - name: admin\n  \
           user:\n    \
             client-certificate-data: {cert}\n    \
             client-key-data: {key}\n\
         contexts:\n\
         - name: windlass\n  \
           context:\n    \
             cluster: windlass\n    \
             user: admin\n\
         current-context: windlass\n\
         preferences: {{}}\n"
    )
}

/// How to call a server outside the cluster: the file of its authority, and those of our certificate
/// and its key where it asks who we are.
///
/// # Errors
/// When a file can't be read or is no PEM of its kind; it is named.
pub fn client_config_of_files(
    authority: &Path,
    files: Option<(&Path, &Path)>,
) -> Result<rustls::ClientConfig, PkiError> {
    let unreadable = |path: &Path| {
        let path = path.display().to_string();
        move |error: rustls_pki_types::pem::Error| PkiError::File { path, why: error.to_string() }
    };
    let certificates = |path: &Path| -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let found = CertificateDer::pem_file_iter(path).map_err(unreadable(path))?;
        found.collect::<Result<_, _>>().map_err(unreadable(path))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(authority)? {
        roots.add(certificate)?;
    }
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some((certificate, key)) = files else { return Ok(config.with_no_client_auth()) };
    let key = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
    Ok(config.with_client_auth_cert(certificates(certificate)?, key)?)
}

/// The one provider of cryptography in the process, named wherever TLS is set up.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Lets every certificate through whose key the client holds: who it is and whether we trust it
/// is found out per request, and answered with 401.
#[derive(Debug)]
struct AnyCertificate {
    hints: Vec<SubjectDer>,
}

/// Lets one user of our authority through.
#[derive(Debug)]
struct OneCaller {
    chain: Arc<dyn ClientCertVerifier>,
    caller: String,
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[SubjectDer] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for OneCaller {
    fn root_hint_subjects(&self) -> &[SubjectDer] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        match authentication::subject(end_entity) {
            Ok(user) if user.name == self.caller => Ok(verified),
            _ => Err(rustls::Error::General(format!("only {} may connect", self.caller))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

fn new_authority(now: Timestamp) -> Result<(String, String), PkiError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = subject("windlass-ca", None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    set_validity(&mut params, now, CA_DAYS);
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn subject(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, common_name);
    subject
}

/// From yesterday on, to whole days, which is all that rcgen's own helper can say.
fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let day = |days: i64| {
        let seconds = now.as_second() + days * 24 * 60 * 60;
        let at = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
        let text = windlass_sdk_meta::format_time(at);
        let mut parts = text.split(['-', 'T']).map(|part| part.parse::<u16>().unwrap_or(1));
        let mut part = || parts.next().unwrap_or(1);
        let (year, month, day) = (part(), part(), part());
        rcgen::date_time_ymd(i32::from(year), month as u8, day as u8)
    };
    params.not_before = day(-BACKDATED_DAYS);
    params.not_after = day(days);
}

fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (1..64).contains(&label.len())
            && label.chars().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = name.strip_prefix("*.").unwrap_or(name);
    name.len() < 254 && name.split('.').all(is_label)
}

pub(crate) fn read(path: &Path) -> Result<String, PkiError> {
    fs::read_to_string(path)
        .map_err(|source| PkiError::Io { path: path.display().to_string(), source })
}

/// Writes beside and renames, so that a file is whole or not there.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<(), PkiError> {
    let beside = path.with_extension("new");
    let write = || {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    };
    write().map_err(|source| PkiError::Io { path: path.display().to_string(), source })
}
