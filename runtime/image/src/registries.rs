//! How this node reaches registries, where that isn't by their names: mirrors, registries without
//! TLS or with an authority of their own, and credentials. A file in the form of k3s'
//! `registries.yaml`, which people have already.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use oci_client::Reference as Remote;
use serde::Deserialize;

use crate::{
    credentials::{Credential, HUB},
    meter::Meter,
};

/// The mirror of every registry that has none of its own.
const EVERY: &str = "*";
/// Mirrors of one registry.
const MIRRORS: usize = 16;

/// What the file says; nothing by default. And who is told how far transfers are.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    mirrors: BTreeMap<String, Vec<Place>>,
    configs: BTreeMap<String, Config>,
    meter: Meter,
}

#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct RegistriesError {
    path: String,
    why: String,
}

/// One place that is asked for an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub place: Place,
    /// It isn't the registry that the image names.
    pub is_mirror: bool,
    pub config: Config,
}

/// A registry's host (and port).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub host: String,
    /// Without TLS.
    pub plain: bool,
}

#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub credential: Option<Credential>,
    /// Whom its certificate is trusted from, beside the system's, in PEM.
    pub authority: Option<Vec<u8>>,
    /// Any certificate will do.
    pub any_certificate: bool,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { credential, authority, any_certificate } = self;
        let authority = authority.as_ref().map(Vec::len);
        write!(f, "{credential:?} authority {authority:?} any certificate {any_certificate}")
    }
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    mirrors: BTreeMap<String, Option<FileMirror>>,
    configs: BTreeMap<String, FileConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileMirror {
    endpoint: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileConfig {
    auth: Option<FileAuth>,
    tls: Option<FileTls>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileAuth {
    username: String,
    password: String,
    auth: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct FileTls {
    ca_file: Option<PathBuf>,
    insecure_skip_verify: bool,
}

impl Registries {
    /// Reads the file, and those that it names.
    ///
    /// # Errors
    /// What in the file can't be honoured.
    pub fn read(path: &Path) -> Result<Self, RegistriesError> {
        let wrong = |why: String| RegistriesError { path: path.display().to_string(), why };
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

    /// The same, with somebody who is told of bytes that come from registries and go to them.
    pub fn with_meter(self, meter: Meter) -> Self {
        Self { meter, ..self }
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.meter
    }

    fn parse(text: &str) -> Result<Self, String> {
        let File { mirrors, configs } = match text.trim() {
            "" => File::default(),
            text => serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?,
        };
        let mut read = Self::default();
        for (registry, mirror) in mirrors {
            let endpoints = mirror.unwrap_or_default().endpoint;
            if endpoints.len() > MIRRORS {
                return Err(format!("mirrors of {registry}: more than {MIRRORS} endpoints"));
            }
            let places: Result<_, _> = endpoints.iter().map(|text| place(text)).collect();
            let places = places.map_err(|why| format!("mirrors of {registry}: {why}"))?;
            read.mirrors.insert(canonical(&registry), places);
        }
        for (host, config) in configs {
            let config = config.read().map_err(|why| format!("configs of {host}: {why}"))?;
            read.configs.insert(canonical(&host), config);
        }
        Ok(read)
    }

    /// Whether the file says anything of the registry that an image names.
    pub(crate) fn names(&self, image: &Remote) -> bool {
        let registry = canonical(image.registry());
        let known = |key: &str| self.mirrors.contains_key(key);
        known(&registry) || known(EVERY) || self.configs.contains_key(&registry)
    }

    /// Whom to ask for an image, in this order: its registry's mirrors, and the registry itself.
    pub(crate) fn endpoints(&self, image: &Remote) -> Vec<Endpoint> {
        let registry = canonical(image.registry());
        let mirrors = self.mirrors.get(&registry).or_else(|| self.mirrors.get(EVERY));
        let own = Place {
            host: image.resolve_registry().to_owned(),
            plain: is_loopback(image.resolve_registry()),
        };
        let mut seen = BTreeSet::new();
        let places = mirrors.into_iter().flatten().chain(std::iter::once(&own));
        let places = places.filter(|place| seen.insert(canonical(&place.host)));
        let endpoint = |place: &Place| {
            let known = self.configs.get(&canonical(&place.host));
            let config = known.cloned().unwrap_or_default();
            let is_mirror = canonical(&place.host) != registry;
            // Docker's rule for the machine itself holds where nothing else is said.
            let plain = place.plain && !(*place == own && config.wants_tls());
            Endpoint { place: Place { plain, ..place.clone() }, is_mirror, config }
        };
        places.map(endpoint).collect()
    }
}

impl Config {
    fn wants_tls(&self) -> bool {
        self.authority.is_some() || self.any_certificate
    }
}

impl FileConfig {
    fn read(self) -> Result<Config, String> {
        let FileTls { ca_file, insecure_skip_verify } = self.tls.unwrap_or_default();
        let authority = ca_file.map(|path| {
            fs::read(&path).map_err(|error| format!("ca_file {}: {error}", path.display()))
        });
        Ok(Config {
            credential: self.auth.map(FileAuth::read).transpose()?,
            authority: authority.transpose()?,
            any_certificate: insecure_skip_verify,
        })
    }
}

impl FileAuth {
    fn read(self) -> Result<Credential, String> {
        let Self { username, password, auth } = self;
        if auth.is_empty() {
            return match username.is_empty() {
                true => Err("auth has neither username and password nor auth".to_owned()),
                false => Ok(Credential::Basic { username, password }),
            };
        }
        let decoded =
            STANDARD.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let decoded = decoded.and_then(|text| {
            let (username, password) = text.split_once(':')?;
            Some(Credential::Basic { username: username.into(), password: password.into() })
        });
        decoded.ok_or_else(|| "auth is no USERNAME:PASSWORD in base64".to_owned())
    }
}

/// `https://HOST[:PORT]`, `http://...`, or the host alone.
fn place(text: &str) -> Result<Place, String> {
    let wrong = || format!("{text:?} is no endpoint such as https://registry.example.com:5000");
    let (plain, rest) = match text.split_once("://") {
        Some(("http", rest)) => (true, rest),
        Some(("https", rest)) => (false, rest),
        Some(_) => return Err(wrong()),
        None => (is_loopback(text), text),
    };
    let host = rest.trim_end_matches('/').trim_end_matches("/v2");
    match host.is_empty() || host.contains(['/', '@', ' ']) {
        true => Err(wrong()),
        false => Ok(Place { host: host.to_owned(), plain }),
    }
}

/// Docker Hub has several names.
fn canonical(registry: &str) -> String {
    match HUB.contains(&registry) {
        true => "docker.io".to_owned(),
        false => registry.to_lowercase(),
    }
}

/// Registries on the machine itself are spoken to without TLS, as Docker does.
fn is_loopback(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    host == "localhost"
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    const FILE: &str = r#"
mirrors:
  docker.io:
    endpoint: ["https://mirror.example.com", "http://10.0.0.5:5000/v2/"]
  plain.example.com:5000:
    endpoint: ["http://plain.example.com:5000"]
configs:
  mirror.example.com:
    auth: {username: me, password: pw}
  "127.0.0.1:5000":
    tls: {insecure_skip_verify: true}
"#;

    fn check(file: &str, image: &str, expected: Expect) {
        let said = match Registries::parse(file) {
            Err(why) => why,
            Ok(read) => {
                let image: Remote = image.parse().expect(image);
                let line = |of: Endpoint| {
                    let scheme = if of.place.plain { "http" } else { "https" };
                    let mirror = if of.is_mirror { " mirror" } else { "" };
                    let login = if of.config.credential.is_some() { " login" } else { "" };
                    let any = if of.config.any_certificate { " any" } else { "" };
                    format!("{scheme}://{}{mirror}{login}{any}", of.place.host)
                };
                let all: Vec<String> = read.endpoints(&image).into_iter().map(line).collect();
                format!("{} {}", read.names(&image), all.join(", "))
            }
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn whom_a_node_asks() {
        check("", "busybox", expect!["false https://index.docker.io"]);
        check("", "localhost:5000/a", expect!["false http://localhost:5000"]);
        check(
            FILE,
            "busybox",
            expect![
                "true https://mirror.example.com mirror login, http://10.0.0.5:5000 mirror, https://index.docker.io"
            ],
        );
        check(FILE, "plain.example.com:5000/a", expect!["true http://plain.example.com:5000"]);
        check(FILE, "127.0.0.1:5000/a", expect!["true https://127.0.0.1:5000 any"]);
        check(FILE, "other.example.com/a", expect!["false https://other.example.com"]);
        let every = r#"mirrors: {"*": {endpoint: ["https://all.example.com"]}}"#;
        check(
            every,
            "quay.io/a/b",
            expect!["true https://all.example.com mirror, https://quay.io"],
        );
    }

    #[test]
    fn what_can_t_be_honoured_is_refused() {
        check(
            r#"mirrors: {a: {endpoint: ["ftp://x"]}}"#,
            "a",
            expect![[
                r#"mirrors of a: "ftp://x" is no endpoint such as https://registry.example.com:5000"#
            ]],
        );
        check(
            "mirrors: {a: {rewrite: {x: y}}}",
            "a",
            expect!["mirrors.a: unknown field `rewrite`, expected `endpoint` at line 1 column 15"],
        );
        check(
            "configs: {a: {auth: {password: x}}}",
            "a",
            expect!["configs of a: auth has neither username and password nor auth"],
        );
        check(
            "configs: {a: {tls: {ca_file: /no/such}}}",
            "a",
            expect!["configs of a: ca_file /no/such: No such file or directory (os error 2)"],
        );
    }
}
