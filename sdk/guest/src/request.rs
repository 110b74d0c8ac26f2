//! A request, and typed access to its parts: what can't be read is the client's fault, and says
//! which part it is.

use std::{any::type_name, str::FromStr};

use serde::de::DeserializeOwned;

use crate::Fault;

/// A request of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// As it was sent, with the query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Parts of the path by the names that the route gives them.
    pub(crate) parts: Vec<(String, String)>,
}

impl Request {
    pub fn get(target: &str) -> Self {
        Self::of("GET", target, "")
    }

    pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::of("POST", target, body)
    }

    pub fn of(method: &str, target: &str, body: impl Into<Vec<u8>>) -> Self {
        let (method, target) = (method.to_owned(), target.to_owned());
        Self { method, target, body: body.into(), ..Self::default() }
    }

    /// A part of the path, by the name that the route gives it.
    pub fn path<T: FromStr>(&self, name: &str) -> Result<T, Fault> {
        let part = self.parts.iter().find(|(known, _)| known == name);
        let text = part.map(|(_, text)| text.as_str()).unwrap_or_default();
        read(&format!("{{{name}}} of the path"), text)
    }

    /// A parameter of the query; the first of those with this name. None: there is none.
    pub fn query<T: FromStr>(&self, name: &str) -> Result<Option<T>, Fault> {
        let (_, query) = self.target.split_once('?').unwrap_or_default();
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let spaced = |text: &str| decoded(&text.replace('+', " "));
        let found = pairs.into_iter().find(|(known, _)| spaced(known) == name);
        found.map(|(_, text)| read(&format!("{name} of the query"), &spaced(text))).transpose()
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Fault::new(400, format!("the body is no JSON as expected: {error}")))
    }

    /// The first header with this name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The path as it was sent, without the query.
    pub(crate) fn raw_path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

fn read<T: FromStr>(what: &str, text: &str) -> Result<T, Fault> {
    let kind = type_name::<T>().rsplit("::").next().unwrap_or_default();
    text.parse().map_err(|_| Fault::new(400, format!("{what}: {text:?} is no {kind}")))
}

/// Percent-encoding undone; what isn't one is left as it is, and what is no UTF-8 then is replaced.
pub(crate) fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let hex = hex.filter(|hex| hex.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
