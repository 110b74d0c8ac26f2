//! Names of images as pods and people write them.

use std::{fmt, str::FromStr};

/// `name[:tag][@digest]`; without either the tag is `latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    pub name: String,
    /// Empty where only a digest was given.
    pub tag: String,
    pub digest: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name must be lowercase")]
    Uppercase,
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) if is_digest(digest) => (rest, Some(digest.to_owned())),
            Some(_) => return Err(ReferenceError::Format),
            None => (text, None),
        };
        // A colon before the last slash belongs to a registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if !tag.is_none_or(is_tag) || name.len() > 255 {
            return Err(ReferenceError::Format);
        }
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => {
                (Some(host), path)
            }
            _ => (None, name),
        };
        if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase);
        }
        if !path.split('/').all(is_component) || !host.is_none_or(is_host) {
            return Err(ReferenceError::Format);
        }
        let tag = tag.unwrap_or(if digest.is_some() { "" } else { "latest" });
        Ok(Self { name: name.to_owned(), tag: tag.to_owned(), digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.tag.is_empty() {
            write!(f, ":{}", self.tag)?;
        }
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

fn is_tag(text: &str) -> bool {
    let first =
        text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first
        && text.len() <= 128
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn is_component(text: &str) -> bool {
    let edges = [text.bytes().next(), text.bytes().last()];
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    edges.iter().all(|edge| edge.is_some_and(alphanumeric))
        && text.bytes().all(|byte| alphanumeric(byte) || b"_.-".contains(&byte))
        && !text.contains("..")
}

fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').unwrap_or((text, "0"));
    port.parse::<u16>().is_ok()
        && !name.is_empty()
        && name.split('.').all(|part| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised() {
        let hex = "a".repeat(64);
        for (text, expected) in [
            ("hello", "hello:latest"),
            ("hello:v1", "hello:v1"),
            ("windlass.dev/hello:v2", "windlass.dev/hello:v2"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            (&format!("a@sha256:{hex}"), &format!("a@sha256:{hex}")),
            (&format!("a:v1@sha256:{hex}"), &format!("a:v1@sha256:{hex}")),
            ("Registry.example/a", "Registry.example/a:latest"),
            ("a_b/c-d.e:1.0-rc", "a_b/c-d.e:1.0-rc"),
            ("Hello", "invalid reference format: repository name must be lowercase"),
            ("", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("a@sha256:12", "invalid reference format"),
            ("../a", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("/a", "invalid reference format"),
            ("a:-b", "invalid reference format"),
            ("localhost:99999/a", "invalid reference format"),
        ] {
            let shown = match text.parse::<Reference>() {
                Ok(reference) => reference.to_string(),
                Err(error) => error.to_string(),
            };
            assert_eq!(shown, expected, "{text}");
        }
    }
}
