//! The folders that components of a Spin application see as `/`: made from the image's layers, in
//! which each file is content of its own, or from archives of many. A folder is named by what is in
//! it, so components and images that have the same files share one, and it is there whole or not at
//! all. Files are links to the store's content where that is possible: they are only ever read.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use windlass_sdk_package::{SpinContent, SpinFile, digest};

use crate::{error::ImageError, extract::unpacked, settle::Places, staging::Staging};

/// Files in all archives of an image.
const ARCHIVED: usize = 50_000;

/// The name of the folder that holds these files.
pub(crate) fn name(files: &[SpinFile]) -> String {
    // Plain data with string keys has no way to fail.
    let text = serde_json::to_vec(files).unwrap_or_default();
    digest(&text).trim_start_matches("sha256:").to_owned()
}

/// Makes the folder at `to`; `archives` are the image's archive layers.
pub(crate) fn build(
    files: &[SpinFile],
    archives: &[PathBuf],
    places: Places<'_>,
    staging: &Staging,
    to: &Path,
    bound_bytes: u64,
) -> Result<(), ImageError> {
    let wanted: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| match &file.content {
            SpinContent::Digest(digest) if places(digest).is_none() => Some(digest.as_str()),
            _ => None,
        })
        .collect();
    if !wanted.is_empty() {
        unpack(archives, staging, bound_bytes)?;
    }
    let folder = staging.folder()?;
    for file in files {
        let path = folder.path().join(&file.path);
        let io = |error| ImageError::io(&path, error);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        match &file.content {
            SpinContent::Inline(text) => {
                let bytes = STANDARD.decode(text).map_err(|error| {
                    ImageError::Archive(format!("has a damaged file {:?}: {error}", file.path))
                })?;
                fs::write(&path, bytes).map_err(io)?;
            }
            SpinContent::Digest(digest) => match places(digest) {
                Some(content) => {
                    fs::hard_link(&content, &path)
                        .or_else(|_| fs::copy(&content, &path).map(drop))
                        .map_err(io)?;
                }
                None => {
                    let content = staging.path(digest);
                    fs::copy(&content, &path).map_err(|_| {
                        ImageError::Archive(format!(
                            "lacks the content {digest} of the file {:?}",
                            file.path
                        ))
                    })?;
                }
            },
        }
    }
    match fs::rename(folder.path(), to) {
        // Another one made it meanwhile.
        Err(_) if to.is_dir() => Ok(()),
        done => done.map_err(|error| ImageError::io(to, error)),
    }
}

/// Each file of the archives as content of its own.
fn unpack(archives: &[PathBuf], staging: &Staging, bound_bytes: u64) -> Result<(), ImageError> {
    let (mut count, mut left) = (0, bound_bytes);
    for archive in archives {
        let broken =
            |error: io::Error| ImageError::damaged(archive, format!("it is no tar: {error}"));
        for entry in tar::Archive::new(unpacked(archive)?).entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            count += 1;
            if count > ARCHIVED {
                let why = format!("has archives of more than {ARCHIVED} files");
                return Err(ImageError::Archive(why));
            }
            if entry.header().entry_type().is_file() {
                let (_, size) = staging.copy(&mut entry, left)?;
                left -= size;
            }
        }
    }
    Ok(())
}
