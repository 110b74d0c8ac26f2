//! Where content and names are kept. A registry is one of the users of a store: others read the
//! same content by the same digests.

use std::{collections::BTreeSet, io, path::PathBuf, time::Duration};

use tempfile::NamedTempFile;

use crate::Repository;

/// What a path means after `manifests/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Tag(String),
    Digest(String),
}

/// A manifest of a repository. One that several tags lead to is there several times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// None: no tag leads to it.
    pub tag: Option<String>,
    pub digest: String,
}

/// Content in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub path: PathBuf,
    pub size_bytes: u64,
}

/// A manifest that is to get a name.
#[derive(Clone, Debug)]
pub struct NewManifest {
    pub digest: String,
    pub bytes: Vec<u8>,
    /// The content that it can't be used without.
    pub needs: Vec<String>,
    /// Bytes of all that it describes.
    pub size_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// A digest.
    #[error("{0} is not in this repository")]
    Missing(String),
    #[error("the registry's disk is full")]
    Full { source: io::Error },
    #[error("the registry's store: {what}: {source}")]
    Io { what: String, source: io::Error },
}

impl StorageError {
    pub fn io(what: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { source },
            _ => Self::Io { what: what.into(), source },
        }
    }
}

/// Called on threads that may block. Digests were checked to be some.
pub trait Storage: Send + Sync + 'static {
    /// A file for content on its way, on the disk that it will stay on. Dropped, it is gone; so is
    /// what a process left that was killed.
    fn incoming(&self) -> Result<NamedTempFile, StorageError>;

    /// Moves in content that has this digest; it is there whole, or not at all.
    fn keep(&self, digest: &str, file: NamedTempFile) -> Result<(), StorageError>;

    /// Where content is, whoever brought it.
    fn content(&self, digest: &str) -> Option<Content>;

    /// Content without a name counts as new from now.
    fn renew(&self, digest: &str) -> Result<(), StorageError>;

    /// All manifests of a repository.
    fn names(&self, at: &Repository) -> Vec<Name>;

    /// Takes in a manifest and gives it a name: a tag, or none. The one that a tag led to before stays,
    /// by its digest. Fails with `Missing` where something that it needs is not in the store.
    fn name(
        &self,
        at: &Repository,
        tag: Option<&str>,
        manifest: &NewManifest,
    ) -> Result<(), StorageError>;

    /// Takes a name away: a tag, or a manifest with all of its tags. False: there was none.
    fn remove(&self, at: &Repository, target: &Target) -> Result<bool, StorageError>;

    /// Takes all names of a namespace away, and drops what they led to and what is `unnamed`, however
    /// new it is, unless another name leads to it or it `is_wanted`.
    fn clear(
        &self,
        namespace: &str,
        unnamed: BTreeSet<String>,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> Result<(), StorageError>;

    /// Drops content that no name leads to, and that isn't newer than `grace`; returns how much is
    /// left because it is.
    fn collect(&self, grace: Duration) -> Result<usize, StorageError>;
}
