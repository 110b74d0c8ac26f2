//! Why a reconcile failed, with the questions that controllers ask of a failure.

use kube::core::Status;
use windlass_sdk_meta::SelectorError;
use windlass_sdk_types::DecodeError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{}", refusal(.0))]
    Request(#[from] kube::Error),
    #[error("cannot encode: {0}")]
    Encode(#[from] DecodeError),
    #[error("unexpected JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Selector(#[from] SelectorError),
    /// Nothing failed, but the work isn't done: it is tried again with back-off.
    #[error("{0}")]
    Unfinished(String),
}

impl Error {
    /// The server's refusal, where it was the server that refused.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Error::Request(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }

    pub fn is_conflict(&self) -> bool {
        self.status().is_some_and(|status| status.code == 409 && status.reason == "Conflict")
    }

    pub fn is_already_exists(&self) -> bool {
        self.status().is_some_and(|status| status.reason == "AlreadyExists")
    }

    /// Nothing can be created in a namespace that goes: not an error worth telling.
    pub fn is_namespace_terminating(&self) -> bool {
        let causes = self.status().and_then(|status| status.details.as_ref());
        causes.into_iter().flat_map(|details| &details.causes).any(|cause| {
            cause.reason == "NamespaceTerminating"
        })
    }
}

/// The server's own words where it said any; kube's wrapping repeats them.
fn refusal(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
