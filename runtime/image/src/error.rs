//! Why an image can't be had, in words that a person finds in an Event.

use std::{io, path::Path};

use windlass_sdk_package::PackageError;

use crate::reference::ReferenceError;

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error("image name {name:?}: {source}")]
    Reference { name: String, source: ReferenceError },
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error("the image is larger than {bound_bytes} bytes")]
    TooLarge { bound_bytes: u64 },
    /// The sender went away, or the stream broke.
    #[error("the upload was interrupted: {0}")]
    Interrupted(io::Error),
    #[error("{path} is damaged ({why}); import the image again")]
    Damaged { path: String, why: String },
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
    /// It would be back at the next start.
    #[error("image {name:?} comes with windlass and can't be removed")]
    Builtin { name: String },
    /// An archive, or an image in it, that can't be taken in.
    #[error("the archive {0}")]
    Archive(String),
    #[error("failed to pull and unpack image {image:?}: {why}")]
    Pull { image: String, why: String },
    #[error("failed to push {image:?}: {why}")]
    Push { image: String, why: String },
}

impl ImageError {
    /// The image is one of the ordinary sort, for a container engine.
    pub fn is_container(&self) -> bool {
        matches!(self, Self::Package(PackageError::Container(_)))
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.display().to_string(), source }
    }

    pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.display().to_string(), why: why.into() }
    }
}
