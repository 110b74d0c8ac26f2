//! What a request can end with other than its answer.

use serde_json::Value;
use windlass_sdk_meta::{Details, Reason, Status};
use windlass_sdk_types::DecodeError;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server said no.
    #[error("{0}")]
    Status(Box<Status>),
    /// No answer came, or not all of it.
    #[error("the API server can't be reached: {0}")]
    Unreachable(String),
    /// The answer (or the object that should be sent) isn't what it should be.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

impl Error {
    /// From the body of an answer that isn't a success. Bodies that aren't a `Status`, and reasons
    /// this program doesn't know, are told by the code alone.
    pub(crate) fn from_answer(code: u16, body: &[u8]) -> Self {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        Self::from_status(code, &json, body)
    }

    pub(crate) fn from_status(code: u16, json: &Value, body: &[u8]) -> Self {
        let reason = serde_json::from_value(json["reason"].clone());
        let message = match json["message"].as_str() {
            Some(message) => message.to_owned(),
            None => format!("{code}: {}", String::from_utf8_lossy(&body[..body.len().min(512)])),
        };
        let details: Option<Details> = serde_json::from_value(json["details"].clone()).ok();
        let mut status = Status::new(reason.unwrap_or_else(|_| reason_of(code)), message);
        status.code = code;
        status.details = details.map(Box::new);
        Self::Status(Box::new(status))
    }

    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Status(status) => Some(status),
            Self::Unreachable(_) | Self::Malformed(_) => None,
        }
    }

    /// Another writer was first, or a precondition doesn't hold. Look again and decide anew.
    pub fn is_conflict(&self) -> bool {
        self.is(Reason::Conflict)
    }

    pub fn is_not_found(&self) -> bool {
        self.is(Reason::NotFound)
    }

    pub fn is_already_exists(&self) -> bool {
        self.is(Reason::AlreadyExists)
    }

    pub fn is_forbidden(&self) -> bool {
        self.is(Reason::Forbidden)
    }

    pub fn is_invalid(&self) -> bool {
        self.is(Reason::Invalid)
    }

    /// The history that was asked for is gone: list again.
    pub fn is_expired(&self) -> bool {
        self.is(Reason::Expired) || self.is(Reason::Gone)
    }

    /// A create was refused because its namespace is being deleted.
    pub fn is_namespace_terminating(&self) -> bool {
        self.has_cause("NamespaceTerminating")
    }

    /// The API server named this cause, more precise than a reason.
    pub fn has_cause(&self, reason: &str) -> bool {
        let details = self.status().and_then(|status| status.details.as_deref());
        details.is_some_and(|details| details.causes.iter().any(|cause| cause.reason == reason))
    }

    /// Trying the same again later may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Status(status) => status.code >= 500 || status.code == 429,
            Self::Unreachable(_) => true,
            Self::Malformed(_) => false,
        }
    }

    fn is(&self, reason: Reason) -> bool {
        self.status().is_some_and(|status| status.reason == reason)
    }
}

fn reason_of(code: u16) -> Reason {
    match code {
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        405 => Reason::MethodNotAllowed,
        406 => Reason::NotAcceptable,
        409 => Reason::Conflict,
        410 => Reason::Expired,
        413 => Reason::RequestEntityTooLarge,
        415 => Reason::UnsupportedMediaType,
        422 => Reason::Invalid,
        429 => Reason::TooManyRequests,
        400..=499 => Reason::BadRequest,
        503 => Reason::ServiceUnavailable,
        504 => Reason::Timeout,
        _ => Reason::InternalError,
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(code: u16, body: &str, expected: Expect) {
        let error = Error::from_answer(code, body.as_bytes());
        let status = error.status().map(|status| (status.reason, status.code));
        expected.assert_eq(&format!("{error} {status:?} transient={}", error.is_transient()));
    }

    #[test]
    fn answers() {
        check(
            409,
            r#"{"kind":"Status","reason":"AlreadyExists","message":"pods \"a\" already exists","code":409}"#,
            expect![[r#"pods "a" already exists Some((AlreadyExists, 409)) transient=false"#]],
        );
        check(
            503,
            "upstream is down",
            expect!["503: upstream is down Some((ServiceUnavailable, 503)) transient=true"],
        );
        check(
            422,
            r#"{"reason":"SomethingNew","message":"no"}"#,
            expect!["no Some((Invalid, 422)) transient=false"],
        );
        check(418, "", expect!["418:  Some((BadRequest, 418)) transient=false"]);
    }
}
