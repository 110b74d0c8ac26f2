//! Requests in the order in which they are sent: one session owns a namespace on both sides, and
//! what its later requests need of earlier answers is filled in for each side from its own.

use bytes::Bytes;
use serde_json::Value;

use crate::ops::{self, Op};

/// Requests of one kind that build on each other.
pub struct Session {
    /// The row of the report that its requests count for.
    pub kind: String,
    pub steps: Vec<Step>,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Step {
    /// What it is about, unique enough to find it again.
    pub label: String,
    pub method: &'static str,
    /// Path and query. `{ns}` is the session's namespace, `{n}` its number.
    pub path: String,
    pub media: &'static str,
    pub accept: String,
    pub body: Body,
    /// Only makes what others need; not counted where both sides succeed.
    pub set_up: bool,
}

#[derive(Clone, Debug)]
pub enum Body {
    None,
    Text(String),
    /// An object as it stands, placeholders filled in.
    Object(Value),
    /// The object last stored on the side, changed.
    Last(Vec<Op>),
    /// An object, with the resourceVersion that the side stored last.
    Conditional(Value),
}

pub const JSON: &str = "application/json";

impl Step {
    pub fn new(label: impl Into<String>, method: &'static str, path: impl Into<String>) -> Self {
        Self {
            label: label.into(),
            method,
            path: path.into(),
            media: JSON,
            accept: JSON.into(),
            body: Body::None,
            set_up: false,
        }
    }

    pub fn object(mut self, body: Value) -> Self {
        self.body = Body::Object(body);
        self
    }

    pub fn last(mut self, ops: Vec<Op>) -> Self {
        self.body = Body::Last(ops);
        self
    }

    pub fn patch(mut self, media: &'static str, body: Value) -> Self {
        self.media = media;
        self.body = Body::Object(body);
        self
    }

    pub fn accept(mut self, accept: &str) -> Self {
        self.accept = accept.into();
        self
    }

    pub fn set_up(mut self) -> Self {
        self.set_up = true;
        self
    }

    /// Whether a success of it is the state that `Body::Last` means.
    pub fn stores(&self) -> bool {
        matches!(self.method, "POST" | "PUT" | "PATCH") && !self.path.contains("dryRun")
    }

    /// The body as one side gets it. `last` is what that side stored last.
    pub fn encode(&self, names: &Names, last: &Value) -> Bytes {
        let value = match &self.body {
            Body::None => return Bytes::new(),
            Body::Text(text) => return names.fill(text).into(),
            Body::Object(value) => value.clone(),
            Body::Last(ops) => {
                let mut value = last.clone();
                if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("managedFields");
                }
                ops.iter().for_each(|op| ops::apply(&mut value, op));
                value
            }
            Body::Conditional(value) => {
                let mut value = value.clone();
                let version = last["metadata"]["resourceVersion"].clone();
                ops::apply(&mut value, &Op::set("metadata.resourceVersion", version));
                value
            }
        };
        names.fill(&value.to_string()).into()
    }
}

/// What stands in for the placeholders of a session.
pub struct Names {
    pub namespace: String,
    pub number: usize,
}

impl Names {
    pub fn new(number: usize) -> Self {
        Self { namespace: format!("oracle-{number}"), number }
    }

    pub fn fill(&self, text: &str) -> String {
        text.replace("{ns}", &self.namespace).replace("{n}", &self.number.to_string())
    }
}
