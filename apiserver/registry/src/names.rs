//! The forms that names, labels and keys must have, with upstream's words for what is wrong. Checks
//! walk bytes: no regular expression runs when a pod is created.

use std::net::IpAddr;

use crate::cause::{Causes, Path};

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const LABEL_HELP: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const SUBDOMAIN_HELP: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const KEY_HELP: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const LABEL_VALUE_HELP: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";

/// What `metadata.name` of a kind must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// Up to 253 characters of lower-case labels joined by dots.
    Subdomain,
    /// The same as upstream's generated rules have it: counted in bytes, and nothing is asked of
    /// `generateName`.
    SubdomainInBytes,
    /// One lower-case label of up to 63 characters.
    Label,
    /// Anything that can stand in a path (RBAC).
    PathSegment,
    /// An IP address as it is best written.
    Address,
}

impl NameRule {
    /// Complaints about a name, or about a `generateName` where `prefix` is set: what follows it
    /// makes a `-` at its end legal.
    pub fn complaints(self, name: &str, prefix: bool) -> Vec<String> {
        if prefix && self == Self::PathSegment {
            return path_segment_prefix(name);
        }
        // As upstream, which replaces the last two characters by one: what they were is not checked.
        let masked = match name.char_indices().rev().nth(1) {
            Some((at, _)) if prefix && name.ends_with('-') => format!("{}a", &name[..at]),
            _ => name.to_owned(),
        };
        match self {
            Self::Subdomain => subdomain(&masked),
            Self::SubdomainInBytes if prefix => Vec::new(),
            Self::SubdomainInBytes => subdomain_in_bytes(name),
            Self::Label => label(&masked),
            Self::PathSegment => path_segment(&masked),
            Self::Address => address(name).into_iter().collect(),
        }
    }
}

fn address(text: &str) -> Option<String> {
    match text.parse::<IpAddr>() {
        Err(_) => Some("must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()),
        Ok(address) if address.to_string() != text => {
            Some(format!("must be in canonical form (\"{address}\")"))
        }
        Ok(_) => None,
    }
}

/// RFC 1123 label.
pub fn label(text: &str) -> Vec<String> {
    label_in(text, "characters")
}

/// As `label`, in the words of upstream's generated rules.
pub fn label_in_bytes(text: &str) -> Vec<String> {
    label_in(text, "bytes")
}

fn label_in(text: &str, unit: &str) -> Vec<String> {
    let mut found = too_long(text, 63, unit);
    if !is_label(text) {
        // A text that is fine but for its dots gets the shorter words upstream has for that.
        if is_subdomain(text) {
            found.push("must not contain dots".to_owned());
        } else {
            found.push(wrong(LABEL_HELP, LABEL, &["my-name", "123-abc"]));
        }
    }
    found
}

/// RFC 1035 label: as 1123's, but it begins with a letter.
pub fn label_1035(text: &str) -> Vec<String> {
    let mut found = too_long(text, 63, "characters");
    if !is_label(text) || !text.as_bytes().first().is_some_and(u8::is_ascii_lowercase) {
        let help = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character";
        found.push(wrong(help, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    found
}

/// RFC 1123 subdomain.
pub fn subdomain(text: &str) -> Vec<String> {
    subdomain_in(text, "characters")
}

/// As `subdomain`, in the words of upstream's generated rules.
pub fn subdomain_in_bytes(text: &str) -> Vec<String> {
    subdomain_in(text, "bytes")
}

/// Upstream counts the same length in characters or in bytes, depending on who asks.
fn subdomain_in(text: &str, unit: &str) -> Vec<String> {
    let mut found = too_long(text, 253, unit);
    if !is_subdomain(text) {
        found.push(wrong(SUBDOMAIN_HELP, SUBDOMAIN, &["example.com"]));
    }
    found
}

/// A subdomain in letters of either case, counted in bytes.
pub fn subdomain_in_any_case(text: &str) -> Vec<String> {
    let mut found = too_long(text, 253, "bytes");
    if !is_subdomain(&text.to_ascii_lowercase()) {
        let help = "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";
        found.push(wrong(help, SUBDOMAIN, &["Example.com"]));
    }
    found
}

/// A subdomain whose labels may hold `_`, as in DNS search lists.
pub fn subdomain_with_underscore(text: &str) -> Vec<String> {
    let mut found = too_long(text, 253, "characters");
    let part = |text: &str| {
        let bytes = text.strip_prefix('_').unwrap_or(text).as_bytes();
        let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.first().is_some_and(plain)
            && bytes.last().is_some_and(plain)
            && bytes.iter().all(|byte| plain(byte) || b"-_".contains(byte))
    };
    if !text.split('.').all(part) {
        let help = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character";
        let label = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
        let form = format!(r"{label}(\.{label})*");
        found.push(wrong(help, &form, &["example.com"]));
    }
    found
}

/// A subdomain whose first label is `*`.
pub fn wildcard(text: &str) -> Vec<String> {
    if text.strip_prefix("*.").is_some_and(is_subdomain) {
        return Vec::new();
    }
    let help = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
    vec![wrong(help, &format!(r"\*\.{SUBDOMAIN}"), &["*.example.com"])]
}

/// `acme.io/foo`: who looks after something.
pub fn domain_prefixed_path(text: &str, path: Path<'_>, causes: &mut Causes) {
    match text.split_once('/') {
        _ if text.is_empty() => causes.required(path, ""),
        Some((host, rest)) if !host.is_empty() && !rest.is_empty() => {
            causes.complaints(path, host, subdomain(host));
            let legal =
                |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte);
            if !rest.bytes().all(legal) {
                let why = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
                causes.invalid_text(path, rest, why);
            }
        }
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            causes.invalid_text(path, text, why);
        }
    }
}

/// The key of a label or annotation with a domain before it.
pub fn domain_prefixed_key(key: &str, path: Path<'_>, causes: &mut Causes) {
    if key.is_empty() {
        return causes.required(path, "");
    }
    let complaints = qualified(key);
    if complaints.is_empty() && !key.contains('/') {
        causes.invalid_text(path, key, "must be a domain-prefixed key (such as \"acme.io/foo\")");
    }
    causes.complaints(path, key, complaints);
}

/// A name that stands alone between two slashes of a URL.
pub fn path_segment(text: &str) -> Vec<String> {
    if [".", ".."].contains(&text) {
        return vec![format!("may not be '{text}'")];
    }
    path_segment_prefix(text)
}

fn path_segment_prefix(text: &str) -> Vec<String> {
    let illegal = ["/", "%"].into_iter().filter(|illegal| text.contains(illegal));
    illegal.map(|illegal| format!("may not contain '{illegal}'")).collect()
}

/// The key of a label, an annotation, a finalizer: `[prefix/]name`.
pub fn qualified(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let name = match text.split_once('/') {
        None => text,
        Some((prefix, name)) if !name.contains('/') => {
            if prefix.is_empty() {
                found.push("prefix part must be non-empty".to_owned());
            } else {
                let about_prefix = subdomain_in(prefix, "bytes");
                found.extend(about_prefix.into_iter().map(|what| format!("prefix part {what}")));
            }
            name
        }
        Some(_) => {
            let help = wrong(KEY_HELP, KEY, &["MyName", "my.name", "123-abc"]);
            let rest = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {help}{rest}")];
        }
    };
    if name.is_empty() {
        found.push("name part must be non-empty".to_owned());
    } else {
        found.extend(
            too_long(name, 63, "bytes").into_iter().map(|what| format!("name part {what}")),
        );
    }
    if !is_key(name) {
        let help = wrong(KEY_HELP, KEY, &["MyName", "my.name", "123-abc"]);
        found.push(format!("name part {help}"));
    }
    found
}

/// The value of a label.
pub fn label_value(text: &str) -> Vec<String> {
    let mut found = too_long(text, 63, "bytes");
    if !text.is_empty() && !is_key(text) {
        found.push(wrong(LABEL_VALUE_HELP, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    found
}

/// A key of ConfigMap or Secret data.
pub fn config_key(text: &str) -> Vec<String> {
    let mut found = too_long(text, 253, "characters");
    if text.is_empty() || !text.bytes().all(is_key_byte) {
        found.push(wrong(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    } else if text == "." || text == ".." {
        found.push(format!("must not be '{text}'"));
    } else if text.starts_with("..") {
        found.push("must not start with '..'".to_owned());
    }
    found
}

/// The reason of a condition: a word for programs.
pub fn condition_reason(text: &str) -> Vec<String> {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"_,:".contains(byte);
    let fits = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.iter().all(inner)
        && bytes.last().is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    if fits {
        return Vec::new();
    }
    let help = "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
    let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
    vec![wrong(help, "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", &examples)]
}

/// The name of an environment variable: any printable ASCII but `=`.
pub fn env_name(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    if text.is_empty() {
        found.push("environment variable name must be non-empty".to_owned());
    }
    if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=') {
        found.push("a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned());
    }
    found
}

/// The name of a header of HTTP requests.
pub fn http_header(text: &str) -> Vec<String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Vec::new();
    }
    let help = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![wrong(help, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

/// The name of a container's or service's port (IANA service name).
pub fn port_name(text: &str) -> Vec<String> {
    let mut found = too_long(text, 15, "characters");
    let bytes = text.as_bytes();
    let known = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    if bytes.is_empty() || !bytes.iter().all(known) {
        found.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".into());
    }
    if !bytes.iter().any(u8::is_ascii_lowercase) {
        found.push("must contain at least one letter (a-z)".into());
    }
    if text.contains("--") {
        found.push("must not contain consecutive hyphens".into());
    }
    if bytes.first() == Some(&b'-') || bytes.last() == Some(&b'-') {
        found.push("must not begin or end with a hyphen".into());
    }
    found
}

pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|byte| alphanumeric(byte) || *byte == b'-')
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

fn is_key(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().copied().all(is_key_byte)
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)
}

fn too_long(text: &str, most: usize, unit: &str) -> Vec<String> {
    if text.len() > most { vec![format!("must be no more than {most} {unit}")] } else { Vec::new() }
}

fn wrong(help: &str, form: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|one| format!("'{one}'")).collect();
    // Two blanks: clients' tests compare these messages byte by byte.
    let examples = examples.join(",  or ");
    format!("{help} (e.g. {examples}, regex used for validation is '{form}')")
}
