//! Who may pull: Docker's configuration file, on the node and in Secrets
//! (`kubernetes.io/dockerconfigjson`, and the older `kubernetes.io/dockercfg`).

use std::{collections::BTreeMap, fmt, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::Value;

/// Docker Hub, as Docker's file calls it, and as images do.
const HUB: [&str; 3] = ["index.docker.io", "docker.io", "registry-1.docker.io"];

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
        let auths = tree.get("auths").unwrap_or(&tree);
        let auths: BTreeMap<String, Value> = serde_json::from_value(auths.clone())?;
        let known = auths.into_iter().filter_map(|(place, auth)| {
            let auth: Auth = serde_json::from_value(auth).ok()?;
            Some((place, credential(auth)?))
        });
        Ok(Self(known.collect()))
    }

    /// The node's own: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
    pub fn of_node() -> Self {
        let folder = std::env::var_os("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")));
        let Some(path) = folder.map(|folder| folder.join("config.json")) else {
            return Self::default();
        };
        let Ok(bytes) = std::fs::read(&path) else { return Self::default() };
        Self::parse(&bytes).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the Docker credential file is of no use");
            Self::default()
        })
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
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
}
