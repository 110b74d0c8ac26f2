//! Who may pull: Docker's configuration file, on the node and in Secrets
//! (`kubernetes.io/dockerconfigjson`, and the older `kubernetes.io/dockercfg`). The node's own may
//! name credential helpers, programs that are asked; those in a Secret are never run.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use oci_client::Reference as Remote;
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::Command,
};
use windlass_runtime_api::RegistryAuth;

/// Docker Hub, as Docker's file calls it, and as images do.
pub(crate) const HUB: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];

/// How Docker's helpers know Docker Hub.
const HUB_SERVER: &str = "https://index.docker.io/v1/";
/// A helper may ask a keychain or a cloud; a person it must not ask.
const HELPER_TIME: Duration = Duration::from_secs(10);
const HELPER_BYTES: u64 = 64 << 10;

/// One way to be let in.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    Basic { username: String, password: String },
    Token(String),
}

/// Never shows a secret.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}

/// Credentials by registry (and path) as a configuration lists them.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Vec<(String, Credential)>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    registrytoken: String,
}

impl Credentials {
    /// Reads Docker's `config.json`, or the older form without `auths`. Entries without a usable
    /// credential are left out.
    pub fn parse(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let tree: Value = serde_json::from_slice(bytes)?;
        let auths = match tree.get("auths") {
            Some(auths) => auths.clone(),
            None if tree.get("credsStore").or(tree.get("credHelpers")).is_some() => {
                Value::Object(Default::default())
            }
            None => tree,
        };
        let auths: BTreeMap<String, Value> = serde_json::from_value(auths)?;
        let known = auths.into_iter().filter_map(|(place, auth)| {
            let auth: Auth = serde_json::from_value(auth).ok()?;
            Some((place, credential(auth)?))
        });
        Ok(Self(known.collect()))
    }

    /// The node's own for an image: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`, and
    /// what the helper says that it names for the image's registry.
    pub async fn of_node(image: &str) -> Self {
        let folder = std::env::var_os("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
        let Some(path) = folder.map(|folder| folder.join("config.json")) else {
            return Self::default();
        };
        let Ok(bytes) = std::fs::read(&path) else { return Self::default() };
        let mut known = Self::parse(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the Docker credential file is of no use");
            Self::default()
        });
        if let Ok(remote) = image.parse::<Remote>()
            && let Some((helper, server)) = helper(&bytes, remote.resolve_registry())
        {
            match ask(Path::new(&helper), &server).await {
                Ok(credential) => known.0.extend(credential.map(|found| (server, found))),
                Err(why) => tracing::warn!(helper, server, why, "no credential from the helper"),
            }
        }
        known
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Those for an image by its name, as a runtime takes them.
    pub fn for_image(&self, image: &str) -> Vec<RegistryAuth> {
        let Ok(remote) = image.parse::<Remote>() else { return Vec::new() };
        let own = self.matching(remote.resolve_registry(), remote.repository()).into_iter();
        own.map(|credential| match credential {
            Credential::Basic { username, password } => RegistryAuth::Basic { username, password },
            Credential::Token(token) => RegistryAuth::Token(token),
        })
        .collect()
    }

    /// Those for an image (`registry/repository`), the most specific place first.
    pub fn matching(&self, registry: &str, repository: &str) -> Vec<Credential> {
        let mut found: Vec<(usize, &Credential)> = self
            .0
            .iter()
            .filter(|(place, _)| applies(place, registry, repository))
            .map(|(place, credential)| (place.len(), credential))
            .collect();
        found.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        let mut list: Vec<Credential> = Vec::new();
        for (_, credential) in found {
            if !list.contains(credential) {
                list.push(credential.clone());
            }
        }
        list
    }
}

/// The program that has the credential for a registry, and the server it is to be asked about.
fn helper(config: &[u8], registry: &str) -> Option<(String, String)> {
    let config: Value = serde_json::from_slice(config).ok()?;
    let hub = HUB.contains(&registry);
    let server = if hub { HUB_SERVER.to_owned() } else { registry.to_owned() };
    let own = config["credHelpers"].as_object().and_then(|helpers| {
        let of = |(place, _): &(&String, &Value)| {
            let host = place.trim_start_matches("https://").trim_start_matches("http://");
            let host = host.split('/').next().unwrap_or(host);
            host == registry || (hub && HUB.contains(&host))
        };
        helpers.iter().find(of).and_then(|(_, name)| name.as_str())
    });
    let name = own.or(config["credsStore"].as_str())?;
    // It becomes part of a program's name: nothing that could make it a path.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (!name.is_empty() && name.bytes().all(plain))
        .then(|| (format!("docker-credential-{name}"), server))
}

/// What a helper answers to `get` (docker-credential-helpers' protocol). None: it knows none.
async fn ask(program: &Path, server: &str) -> Result<Option<Credential>, String> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Said {
        username: String,
        secret: String,
    }
    let mut helper = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it can't be started: {error}"))?;
    let (stdin, stdout) = (helper.stdin.take(), helper.stdout.take());
    let exchange = async {
        if let Some(mut stdin) = stdin {
            // One that doesn't read its input may answer all the same.
            let _ = stdin.write_all(server.as_bytes()).await;
        }
        let mut said = Vec::new();
        if let Some(stdout) = stdout {
            let read = stdout.take(HELPER_BYTES).read_to_end(&mut said).await;
            read.map_err(|error| error.to_string())?;
        }
        let status = helper.wait().await.map_err(|error| error.to_string())?;
        Ok::<_, String>((status.success(), said))
    };
    let ended = tokio::time::timeout(HELPER_TIME, exchange).await;
    let (well, said) =
        ended.map_err(|_| format!("it said nothing within {} s", HELPER_TIME.as_secs()))??;
    let text = String::from_utf8_lossy(&said);
    if !well {
        return match text.contains("not found") {
            true => Ok(None),
            false => Err(text.lines().next().unwrap_or("it failed").to_owned()),
        };
    }
    let said: Said = serde_json::from_slice(&said).map_err(|error| error.to_string())?;
    match said.username.as_str() {
        "<token>" => Err("it has an identity token, which can't be used here".to_owned()),
        _ => Ok(Some(Credential::Basic { username: said.username, password: said.secret })),
    }
}

fn credential(auth: Auth) -> Option<Credential> {
    if !auth.registrytoken.is_empty() {
        return Some(Credential::Token(auth.registrytoken));
    }
    if auth.auth.is_empty() {
        let Auth { username, password, .. } = auth;
        return (!username.is_empty()).then_some(Credential::Basic { username, password });
    }
    let decoded = String::from_utf8(STANDARD.decode(auth.auth.trim()).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    let password = password.trim_end_matches('\0').to_owned();
    Some(Credential::Basic { username: username.to_owned(), password })
}

/// Kubernetes' rules: scheme and API version are ignored, a path is a prefix, `*` stands for one
/// part of the host's name.
fn applies(place: &str, registry: &str, repository: &str) -> bool {
    let place = place.trim_start_matches("https://").trim_start_matches("http://");
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let path = path.trim_end_matches('/');
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    let path = path.trim_start_matches("v1/").trim_start_matches("v2/");
    let below = path.is_empty()
        || repository == path
        || repository.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
    let same = host == registry || (HUB.contains(&host) && HUB.contains(&registry));
    below && (same || matches_parts(host, registry))
}

fn matches_parts(pattern: &str, host: &str) -> bool {
    let (parts, of): (Vec<&str>, Vec<&str>) =
        (pattern.split('.').collect(), host.split('.').collect());
    pattern.contains('*')
        && parts.len() == of.len()
        && parts.iter().zip(of).all(|(part, of)| match part.split_once('*') {
            Some((before, after)) => {
                of.len() >= before.len() + after.len()
                    && of.starts_with(before)
                    && of.ends_with(after)
            }
            None => *part == of,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(place: &str, image: (&str, &str), expected: bool) {
        assert_eq!(applies(place, image.0, image.1), expected, "{place} for {image:?}");
    }

    #[test]
    fn places_are_matched_as_kubernetes_does() {
        let shop = ("registry.example", "shop/cart");
        for (place, expected) in [
            ("registry.example", true),
            ("https://registry.example/v2/", true),
            ("http://registry.example/v1", true),
            ("registry.example/shop", true),
            ("registry.example/shop/cart", true),
            ("registry.example/sho", false),
            ("*.example", true),
            ("reg*.example", true),
            ("*.registry.example", false),
            ("other.example", false),
            ("registry.example:5000", false),
        ] {
            check(place, shop, expected);
        }
        check("https://index.docker.io/v1/", ("index.docker.io", "library/hello"), true);
        check("docker.io", ("index.docker.io", "library/hello"), true);
        check("127.0.0.1:5000", ("127.0.0.1:5000", "a"), true);
    }

    #[test]
    fn files_are_read() {
        let auth = STANDARD.encode("me:pass:word");
        let json = format!(
            r#"{{"auths": {{"a.example": {{"auth": "{auth}"}}, "a.example/x": {{"username": "you", "password": "p"}},
                "b.example": {{}}, "c.example": {{"registrytoken": "t"}}}}, "credsStore": "x"}}"#
        );
        let found = Credentials::parse(json.as_bytes()).expect("a configuration");
        let basic = |username: &str, password: &str| Credential::Basic {
            username: username.to_owned(),
            password: password.to_owned(),
        };
        let both = vec![basic("you", "p"), basic("me", "pass:word")];
        assert_eq!(found.matching("a.example", "x/y"), both);
        assert_eq!(found.matching("a.example", "y"), vec![basic("me", "pass:word")]);
        assert_eq!(found.matching("b.example", "y"), vec![]);
        assert_eq!(found.matching("c.example", "y"), vec![Credential::Token("t".into())]);
        assert!(!format!("{found:?}").contains("pass"));
        let old = format!(r#"{{"a.example": {{"auth": "{auth}"}}}}"#);
        let found = Credentials::parse(old.as_bytes()).expect("the older form");
        assert_eq!(found.matching("a.example", "y").len(), 1);
        assert!(Credentials::parse(b"[").is_err());
    }

    #[test]
    fn a_registry_has_its_helper() {
        let config = br#"{"credsStore": "desktop", "credHelpers":
            {"a.example": "a", "https://index.docker.io/v1/": "hub", "b.example": "../b"}}"#;
        let of = |registry: &str| helper(config, registry).map(|(name, at)| format!("{name} {at}"));
        for (registry, expected) in [
            ("a.example", Some("docker-credential-a a.example")),
            ("index.docker.io", Some("docker-credential-hub https://index.docker.io/v1/")),
            ("c.example", Some("docker-credential-desktop c.example")),
            ("b.example", None),
        ] {
            assert_eq!(of(registry).as_deref(), expected, "{registry}");
        }
        assert_eq!(helper(b"{}", "a.example"), None);
        assert!(Credentials::parse(config).is_ok_and(|known| known.0.is_empty()));
    }

    #[tokio::test]
    async fn helpers_are_asked() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("folder");
        let check = async |script: &str, expected: &str| {
            let program = folder.path().join("docker-credential-test");
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("script");
            let mode = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(&program, mode).expect("mode");
            let said = match ask(&program, "a.example").await {
                Ok(Some(Credential::Basic { username, password })) => {
                    format!("{username}:{password}")
                }
                Ok(other) => format!("{other:?}"),
                Err(why) => why,
            };
            assert!(said.contains(expected), "{script}: {said}");
        };
        let answer =
            r#"read s; printf '{"ServerURL":"%s","Username":"me","Secret":"%s"}' "$s" "$1""#;
        check(answer, "me:get").await;
        check("echo credentials not found in native keychain; exit 1", "None").await;
        check("echo locked; exit 1", "locked").await;
        check(r#"echo '{"Username":"<token>","Secret":"t"}'"#, "identity token").await;
        check("echo nonsense", "expected").await;
    }
}
