//! What a node offers a component, one trait a capability.

use std::fmt;

use serde::de::DeserializeOwned;

/// Why the node didn't do what it was asked: in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostError(pub String);

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HostError {}

/// `wasi:config`: on Windlass, the variables of the container (`[environment]` of `windlass.toml`).
pub trait Config {
    /// None: it isn't set.
    fn config(&self, name: &str) -> Result<Option<String>, HostError>;
}

/// `wasi:keyvalue`.
pub trait KeyValue {
    type Store: Store;

    /// A store that `windlass.toml` grants; `default` is every pod's.
    fn open(&self, name: &str) -> Result<Self::Store, HostError>;
}

/// One store, shared by all instances and replicas.
pub trait Store {
    /// None: there is no such key.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError>;
    fn set(&self, key: &str, value: &[u8]) -> Result<(), HostError>;
    /// Whether or not it is there.
    fn delete(&self, key: &str) -> Result<(), HostError>;
    /// Adds to a number, at once for whoever else adds; the sum. What isn't there is 0.
    fn increment(&self, key: &str, more: i64) -> Result<i64, HostError>;
}

/// Outgoing `wasi:http`: to hosts that `windlass.toml` allows.
pub trait Fetch {
    fn fetch(&self, call: &Call) -> Result<Answer, HostError>;
}

/// `wasi:logging`: lines of the pod's log.
pub trait Log {
    fn log(&self, level: Level, message: &str);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// A request to another service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Call {
    pub method: String,
    /// `http://` or `https://`.
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Call {
    pub fn get(url: &str) -> Self {
        Self::of("GET", url)
    }

    pub fn of(method: &str, url: &str) -> Self {
        Self { method: method.to_owned(), url: url.to_owned(), ..Self::default() }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// What another service answered, of whatever status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HostError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| HostError(format!("the answer is no JSON as expected: {error}")))
    }
}
