//! What a handler answers, or why it doesn't.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::json;

use crate::HostError;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// Without a body.
    pub fn empty(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub fn plain(status: u16, text: impl Into<String>) -> Self {
        Self::bytes(status, TEXT, text.into())
    }

    pub fn bytes(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }.header("content-type", content_type)
    }

    /// # Errors
    /// A value that JSON has no form for, such as a map whose keys are no text: the service's own
    /// fault.
    pub fn json(status: u16, value: &impl Serialize) -> Result<Self, Fault> {
        let body = serde_json::to_vec(value)
            .map_err(|error| Fault::new(500, format!("the answer has no form: {error}")))?;
        Ok(Self::bytes(status, JSON, body))
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body, for tests.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }
}

/// Why there is no answer; the client reads it as `{"error": MESSAGE}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: u16,
    pub message: String,
}

impl Fault {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }
}

impl From<HostError> for Fault {
    fn from(HostError(why): HostError) -> Self {
        Self::new(500, why)
    }
}

impl From<Fault> for Response {
    fn from(Fault { status, message }: Fault) -> Self {
        Self::bytes(status, JSON, json!({"error": message}).to_string())
    }
}
