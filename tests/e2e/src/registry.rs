//! Debian's docker-registry in a process of its own: open, with a password, or with tokens of a
//! server that is here; with and without TLS.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{docker::docker_as, wait_for};

/// bcrypt of "secret", in `htpasswd`'s format.
const HTPASSWD: &str = "user:$2b$05$HaoRVqMm4pbaoEH5TRWH7OZKBAf1LjzIfbcx3frVN/nFlpholB50C\n";
const USER: &str = "user";
const PASSWORD: &str = "secret";
const SERVICE: &str = "registry.windlass.test";

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Everybody,
    Password,
    Token,
}

/// A registry; it ends when dropped.
pub struct Registry {
    child: Child,
    pub address: String,
    access: Access,
    folder: TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    pub fn start(access: Access, tls: bool) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut config = json!({
            "version": 0.1, "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": path("data")}},
            "http": {"addr": address},
        });
        match access {
            Access::Everybody => {}
            Access::Password => {
                fs::write(path("htpasswd"), HTPASSWD)?;
                config["auth"] = json!({"htpasswd": {"realm": "test", "path": path("htpasswd")}});
            }
            Access::Token => {
                let (realm, certificate) = token_server()?;
                fs::write(path("tokens.pem"), certificate)?;
                config["auth"] = json!({"token": {"realm": realm, "service": SERVICE,
                    "issuer": "test", "rootcertbundle": path("tokens.pem")}});
            }
        }
        if tls {
            let [authority, certificate, key] = certificates()?;
            fs::write(path("ca.pem"), authority)?;
            fs::write(path("tls.pem"), certificate)?;
            fs::write(path("tls.key"), key)?;
            config["http"]["tls"] = json!({"certificate": path("tls.pem"), "key": path("tls.key")});
        }
        fs::write(path("config.yml"), config.to_string())?;
        let child = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("docker-registry (a Debian package): run the tests by `cargo xtask test`")?;
        let registry = Self { child, address, access, folder };
        wait_for("the registry", 20, || TcpStream::connect(&registry.address).ok());
        Ok(registry)
    }

    /// Of the authority that its certificate is from.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Has its disk hold something else under a digest.
    pub fn damage(&self, digest: &str, how: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<()> {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = "data/docker/registry/v2/blobs/sha256";
        damage(&self.folder.path().join(blobs).join(&hex[..2]).join(hex).join("data"), how)
    }

    /// `--docker-username` and so on, as `kubectl create secret docker-registry NAME` takes them.
    pub fn secret(&self) -> Vec<String> {
        let server = format!("--docker-server={}", self.address);
        vec![server, format!("--docker-username={USER}"), format!("--docker-password={PASSWORD}")]
    }

    /// Leaves what `docker login` leaves in its folder (`DOCKER_CONFIG`).
    pub fn login(&self, folder: &Path) -> anyhow::Result<()> {
        let auth = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let config = json!({"auths": {(self.address.as_str()): {"auth": auth}}});
        Ok(fs::write(folder.join("config.json"), config.to_string())?)
    }

    /// Has an engine push one of its images here; returns its name here.
    pub fn push_from(&self, host: &str, image: &str, repository: &str) -> anyhow::Result<String> {
        let name = format!("{}/{repository}", self.address);
        let login = tempfile::tempdir()?;
        if self.access != Access::Everybody {
            self.login(login.path())?;
        }
        docker_as(host, login.path(), &["tag", image, &name])?;
        docker_as(host, login.path(), &["push", &name])?;
        docker_as(host, login.path(), &["rmi", &name])?;
        Ok(name)
    }

    /// The digest of a manifest that was pushed to a registry for everybody without TLS.
    pub fn digest(&self, repository: &str, tag: &str) -> anyhow::Result<String> {
        let (_, head, _) =
            self.send("HEAD", &format!("/v2/{repository}/manifests/{tag}"), "", &[])?;
        header(&head, "docker-content-digest").context("a digest")
    }

    /// The manifest of a name, of a registry as for `digest`.
    pub fn manifest(&self, repository: &str, tag: &str) -> anyhow::Result<Value> {
        let (_, _, body) =
            self.send("GET", &format!("/v2/{repository}/manifests/{tag}"), "", &[])?;
        Ok(serde_json::from_str(&body)?)
    }

    /// Pushes a wasm file as an artifact, without TLS; returns the image's name.
    pub fn push(&self, repository: &str, wasm: &Path) -> anyhow::Result<String> {
        let wasm = fs::read(wasm)?;
        let config = br#"{"architecture":"wasm","os":"wasip2"}"#.to_vec();
        let mut parts = Vec::new();
        for bytes in [&config, &wasm] {
            let (_, head, _) =
                self.send("POST", &format!("/v2/{repository}/blobs/uploads/"), "", &[])?;
            let location = header(&head, "location").context("where to upload to")?;
            let path = location.split_once(&self.address).map_or(&*location, |(_, path)| path);
            let digest = digest(bytes)?;
            let sign = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{sign}digest={digest}");
            let (status, _, said) = self.send("PUT", &path, "application/octet-stream", bytes)?;
            ensure!(status == 201, "{said}");
            parts.push(json!({"digest": digest, "size": bytes.len()}));
        }
        parts[0]["mediaType"] = "application/vnd.wasm.config.v0+json".into();
        parts[1]["mediaType"] = "application/wasm".into();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type,
            "config": parts[0], "layers": [parts[1]]});
        let path = format!("/v2/{repository}/manifests/v1");
        let (status, _, said) =
            self.send("PUT", &path, media_type, manifest.to_string().as_bytes())?;
        ensure!(status == 201, "{said}");
        Ok(format!("{}/{repository}:v1", self.address))
    }

    /// Status, head and body of one request with the password.
    fn send(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> anyhow::Result<(u16, String, String)> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let basic = STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let accepted = "application/vnd.docker.distribution.manifest.v2+json, \
                        application/vnd.oci.image.manifest.v1+json";
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nauthorization: Basic {basic}\r\n\
             connection: close\r\naccept: {accepted}\r\ncontent-type: {content_type}\r\n\
             content-length: {}\r\n\r\n",
            self.address,
            body.len()
        )?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok((status, head.to_owned(), body.to_owned()))
    }
}

/// Changes the bytes of a file.
pub fn damage(file: &Path, how: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<()> {
    let mut bytes = fs::read(file).with_context(|| file.display().to_string())?;
    how(&mut bytes);
    Ok(fs::write(file, bytes)?)
}

fn header(head: &str, wanted: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
    })
}

/// By coreutils: the tests' own idea of a digest.
pub fn digest(bytes: &[u8]) -> anyhow::Result<String> {
    let mut child =
        Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    child.stdin.take().context("stdin is piped")?.write_all(bytes)?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(format!("sha256:{}", text.split(' ').next().context("a digest")?))
}

/// An authority, a certificate for 127.0.0.1 of it, and its key, in PEM.
fn certificates() -> anyhow::Result<[String; 3]> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate()?;
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let certificate = params.signed_by(&own, &issuer)?.pem();
    Ok([authority, certificate, own.serialize_pem()])
}

/// Gives tokens to who knows the password, for as long as the process runs: where it listens, and the
/// certificate by which a registry trusts them.
fn token_server() -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![SERVICE.to_owned()])?.self_signed(&key)?;
    let signing = EncodingKey::from_ec_der(&key.serialize_der());
    let chain = vec![STANDARD.encode(certificate.der())];
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let realm = format!("http://{}/token", listener.local_addr()?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Whoever hangs up asks again.
            let _ = give_token(stream, &signing, &chain);
        }
    });
    Ok((realm, certificate.pem()))
}

fn give_token(mut stream: TcpStream, key: &EncodingKey, chain: &[String]) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    let basic = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    let (status, body) = match header(&head, "authorization").is_some_and(|given| given == basic) {
        true => ("200 OK", json!({"token": token(&head, key, chain)?, "expires_in": 300})),
        false => ("401 Unauthorized", json!({"errors": [{"code": "UNAUTHORIZED"}]})),
    };
    let body = body.to_string();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    Ok(())
}

/// For what the request's line asks: `scope=repository:NAME:pull,push`.
fn token(head: &str, key: &EncodingKey, chain: &[String]) -> anyhow::Result<String> {
    let line = head.lines().next().unwrap_or_default();
    let query = line.split(' ').nth(1).and_then(|path| path.split_once('?')).map_or("", |q| q.1);
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
    let access = scopes.filter_map(|scope| {
        let scope = scope.replace("%3A", ":").replace("%2F", "/").replace("%2C", ",");
        let mut parts = scope.split(':');
        let (sort, name, actions) = (parts.next()?, parts.next()?, parts.next()?);
        let actions: Vec<&str> = actions.split(',').collect();
        Some(json!({"type": sort, "name": name, "actions": actions}))
    });
    let access: Vec<_> = access.collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = json!({"iss": "test", "sub": USER, "aud": SERVICE, "iat": now, "nbf": now - 10,
        "exp": now + 300, "jti": now.to_string(), "access": access});
    let header = Header { x5c: Some(chain.to_vec()), ..Header::new(Algorithm::ES256) };
    Ok(jsonwebtoken::encode(&header, &claims, key)?)
}
