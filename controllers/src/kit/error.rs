//! Why a reconcile failed.

use windlass_sdk_types::DecodeError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Request(#[from] windlass_sdk_client::Error),
    #[error("unexpected JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Nothing failed, but the work isn't done: it is tried again with back-off.
    #[error("{0}")]
    Unfinished(String),
}

impl Error {
    fn request(&self) -> Option<&windlass_sdk_client::Error> {
        match self {
            Error::Request(error) => Some(error),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.request().is_some_and(windlass_sdk_client::Error::is_not_found)
    }

    /// Somebody else wrote first: the next look decides anew.
    pub fn is_conflict(&self) -> bool {
        self.request().is_some_and(windlass_sdk_client::Error::is_conflict)
    }

    pub fn is_already_exists(&self) -> bool {
        self.request().is_some_and(windlass_sdk_client::Error::is_already_exists)
    }

    /// Nothing can be created in a namespace that goes: not an error worth telling.
    pub fn is_namespace_terminating(&self) -> bool {
        self.request().is_some_and(windlass_sdk_client::Error::is_namespace_terminating)
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Request(error.into())
    }
}
