//! Content on its way into the store: a folder of its own under `ingest/`, files named by their
//! digest. Dropping it removes everything, so whatever fails leaves nothing behind.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use windlass_sdk_package::{Hasher, digest};

use crate::error::ImageError;

/// Bytes that are copied at a time.
const PIECE_BYTES: usize = 256 * 1024;

pub(crate) struct Staging(TempDir);

impl Staging {
    pub fn new(ingest: &Path) -> Result<Self, ImageError> {
        TempDir::new_in(ingest).map(Self).map_err(|error| ImageError::io(ingest, error))
    }

    /// Where content with this digest is, or will be. The digest was checked to be one.
    pub fn path(&self, digest: &str) -> PathBuf {
        self.0.path().join(digest.trim_start_matches("sha256:"))
    }

    /// A place for content whose digest isn't known yet.
    pub fn incoming(&self) -> PathBuf {
        self.0.path().join("incoming")
    }

    /// A folder in this one, which goes with it unless it is moved away.
    pub fn folder(&self) -> Result<TempDir, ImageError> {
        TempDir::new_in(self.0.path()).map_err(|error| ImageError::io(self.0.path(), error))
    }

    /// Takes in what is in memory; returns its digest.
    pub fn put(&self, bytes: &[u8]) -> Result<String, ImageError> {
        self.copy(&mut &*bytes, bytes.len() as u64).map(|(digest, _)| digest)
    }

    /// Takes in at most `bound_bytes`; returns digest and size.
    pub fn copy(&self, from: &mut dyn Read, bound_bytes: u64) -> Result<(String, u64), ImageError> {
        let path = self.incoming();
        let io = |error| ImageError::io(&path, error);
        let mut file = fs::File::create(&path).map_err(io)?;
        let (mut hasher, mut size, mut piece) = (Hasher::default(), 0, vec![0; PIECE_BYTES]);
        loop {
            let read = match from.read(&mut piece).map_err(ImageError::Interrupted)? {
                0 => break,
                read => read,
            };
            size += read as u64;
            if size > bound_bytes {
                return Err(ImageError::TooLarge { bound_bytes });
            }
            hasher.add(&piece[..read]);
            file.write_all(&piece[..read]).map_err(io)?;
        }
        file.sync_all().map_err(io)?;
        let digest = hasher.finish();
        self.keep(&digest)?;
        Ok((digest, size))
    }

    /// What is at `incoming` has this digest.
    pub fn keep(&self, digest: &str) -> Result<(), ImageError> {
        let path = self.path(digest);
        fs::rename(self.incoming(), &path).map_err(|error| ImageError::io(&path, error))
    }
}

/// The digest of a file's content.
pub(crate) fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let (mut hasher, mut piece) = (Hasher::default(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hasher.finish()),
            read => hasher.add(&piece[..read]),
        }
    }
}

/// A small document, read whole and compared with its digest.
pub(crate) fn document(path: &Path, wanted: &str) -> Result<Vec<u8>, ImageError> {
    /// Manifests and configs; registries stop at 4 MiB.
    const LIMIT_BYTES: u64 = 4 * 1024 * 1024;
    let io = |error| ImageError::io(path, error);
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(io)?.take(LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > LIMIT_BYTES {
        return Err(ImageError::TooLarge { bound_bytes: LIMIT_BYTES });
    }
    match digest(&bytes) == wanted {
        true => Ok(bytes),
        false => Err(ImageError::damaged(path, "its content has another digest")),
    }
}
