//! Which hosts a container may call: lists as the pod's owner, its namespace's owner and its image
//! wrote them. What no pod may reach, whatever a list says, is not here: `runtime/net` decides it
//! and both together, on the address that is dialled.

use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

/// What narrows a container's calls. Each list must name a host; without lists every host that a
/// pod may reach at all is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    pub lists: Vec<AllowedHosts>,
}

/// One list. An empty one allows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHosts {
    /// Who wrote it, in words that a denial can use: `annotation ... of namespace shop`.
    pub by: String,
    pub hosts: Vec<HostRule>,
}

/// Hosts that a list allows. Written `[SCHEME://]HOST[:PORT]`, where HOST is a name, `*.NAME` for
/// all names below it, an address, a range of addresses (CIDR), or `*`, and PORT is a number, a
/// range `1000-2000`, or `*`. Without a port every port is allowed; with scheme http or https and
/// no port, that scheme's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRule {
    /// Only calls of this kind: `http`, `https`, or `tcp` and `udp` for sockets.
    pub scheme: Option<String>,
    pub host: HostPattern,
    pub ports: Option<RangeInclusive<u16>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    Any,
    /// In lower case, without a dot at its end.
    Name(String),
    /// All names that end with a dot and this.
    Below(String),
    /// Addresses whose first `prefix` bits are these.
    Addresses {
        first: IpAddr,
        prefix: u8,
    },
}

/// A rule that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{rule:?} is not a host: {why}; write a name, *.NAME, an address or a range such as \
     10.0.0.0/8, with :PORT where only that one is meant"
)]
pub struct BadHostRule {
    pub rule: String,
    pub why: &'static str,
}

/// The longest name that DNS knows.
const MAX_NAME_BYTES: usize = 253;

impl AllowedHosts {
    /// Reads a list whose entries are separated by commas or white space.
    pub fn parse(by: impl Into<String>, text: &str) -> Result<Self, BadHostRule> {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace());
        let hosts = entries
            .filter(|entry| !entry.is_empty())
            .map(str::parse::<HostRule>)
            .collect::<Result<_, _>>();
        Ok(Self { by: by.into(), hosts: hosts? })
    }
}

impl FromStr for HostRule {
    type Err = BadHostRule;

    fn from_str(text: &str) -> Result<Self, BadHostRule> {
        let bad = |why| BadHostRule { rule: text.to_owned(), why };
        let (scheme, rest) = match text.split_once("://") {
            Some(("*", rest)) => (None, rest),
            Some((scheme, rest)) if is_scheme(scheme) => (Some(scheme.to_ascii_lowercase()), rest),
            Some(_) => return Err(bad("its scheme has other characters than letters and +-.")),
            None => (None, text),
        };
        let rest = if scheme.is_some() { rest.strip_suffix('/').unwrap_or(rest) } else { rest };
        let (host, port) = split_port(rest);
        let host = HostPattern::read(host).map_err(bad)?;
        let ports = match (port, scheme.as_deref()) {
            (Some("*"), _) => None,
            (Some(port), _) => Some(ports(port).ok_or_else(|| bad("its port is not one"))?),
            (None, Some("http")) => Some(80..=80),
            (None, Some("https")) => Some(443..=443),
            (None, _) => None,
        };
        Ok(Self { scheme, host, ports })
    }
}

impl HostPattern {
    fn read(text: &str) -> Result<Self, &'static str> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        let (address, prefix) = match bare.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (bare, None),
        };
        if let Ok(first) = address.parse::<IpAddr>() {
            let most = if first.is_ipv4() { 32 } else { 128 };
            let prefix = match prefix {
                None => most,
                Some(text) => text.parse().ok().filter(|bits| *bits <= most).ok_or(
                    "the number after its slash is not a number of bits that such addresses have",
                )?,
            };
            return Ok(Self::Addresses { first, prefix });
        }
        if prefix.is_some() {
            return Err("a path can't be allowed, only a host");
        }
        let name = bare.trim_end_matches('.').to_ascii_lowercase();
        match name.strip_prefix("*.") {
            Some(parent) => Ok(Self::Below(name_of(parent)?)),
            None => Ok(Self::Name(name_of(&name)?)),
        }
    }
}

/// A name as DNS can have one; underscores are in use.
fn name_of(text: &str) -> Result<String, &'static str> {
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    match text {
        "" => Err("it is empty"),
        _ if text.len() > MAX_NAME_BYTES => Err("it is longer than names can be"),
        _ if text.contains('*') => Err("a * can only stand alone or as *. before a name"),
        _ if !text.split('.').all(fits) => Err("it has characters that names can't have"),
        _ => Ok(text.to_owned()),
    }
}

fn is_scheme(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// Host and port. An IPv6 address with a port is in brackets.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    }
}

fn ports(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (0 < first && first <= last).then_some(first..=last)
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = &self.scheme {
            write!(f, "{scheme}://")?;
        }
        match &self.host {
            HostPattern::Any => write!(f, "*")?,
            HostPattern::Name(name) => write!(f, "{name}")?,
            HostPattern::Below(parent) => write!(f, "*.{parent}")?,
            HostPattern::Addresses { first, prefix } => {
                let whole = *prefix == if first.is_ipv4() { 32 } else { 128 };
                match (first, whole) {
                    (IpAddr::V6(first), true) => write!(f, "[{first}]")?,
                    (first, true) => write!(f, "{first}")?,
                    (IpAddr::V6(first), false) => write!(f, "[{first}/{prefix}]")?,
                    (first, false) => write!(f, "{first}/{prefix}")?,
                }
            }
        }
        match &self.ports {
            None => Ok(()),
            Some(ports) if ports.start() == ports.end() => write!(f, ":{}", ports.start()),
            Some(ports) => write!(f, ":{}-{}", ports.start(), ports.end()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let read = match text.parse::<HostRule>() {
            Ok(rule) => rule.to_string(),
            Err(bad) => bad.why.to_owned(),
        };
        assert_eq!(read, expected, "{text:?}");
    }

    #[test]
    fn rules_are_read() {
        for (text, expected) in [
            ("Example.COM.", "example.com"),
            ("*.example.com:443", "*.example.com:443"),
            ("https://api.example.com", "https://api.example.com:443"),
            ("http://api.example.com:*", "http://api.example.com"),
            ("https://api.example.com/", "https://api.example.com:443"),
            ("redis://cache:6379", "redis://cache:6379"),
            ("*", "*"),
            ("*://*:*", "*"),
            ("h ttp://a", "its scheme has other characters than letters and +-."),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3:5432", "10.1.2.3:5432"),
            ("10.0.0.0/8:1000-2000", "10.0.0.0/8:1000-2000"),
            ("2001:db8::1", "[2001:db8::1]"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("2001:db8::/32", "[2001:db8::/32]"),
            ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
            ("_srv.example.com", "_srv.example.com"),
            ("", "it is empty"),
            ("a..b", "it has characters that names can't have"),
            ("a*.example.com", "a * can only stand alone or as *. before a name"),
            ("example.com/path", "a path can't be allowed, only a host"),
            (
                "10.0.0.0/33",
                "the number after its slash is not a number of bits that such addresses have",
            ),
            ("example.com:0", "its port is not one"),
            ("example.com:9-8", "its port is not one"),
            ("example.com:http", "its port is not one"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn what_is_shown_reads_the_same() {
        for text in ["[2001:db8::/32]:443", "https://*.a.b:1-2", "10.0.0.0/8", "*"] {
            let rule: HostRule = text.parse().expect(text);
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
    }

    #[test]
    fn a_list_names_what_is_wrong_in_it() {
        let list = AllowedHosts::parse("pod", " a.example, 10.0.0.0/8\n*.b ").expect("a list");
        let shown: Vec<String> = list.hosts.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a.example", "10.0.0.0/8", "*.b"]);
        assert_eq!(AllowedHosts::parse("pod", "").expect("a list").hosts, []);
        let error = AllowedHosts::parse("pod", "a.example, b/c").expect_err("no host");
        assert_eq!(error.rule, "b/c");
    }
}
