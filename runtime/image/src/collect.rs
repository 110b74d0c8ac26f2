//! What goes: images that a person removes, and content that no name leads to any more.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use windlass_sdk_package::Document;

use crate::{
    distribution::CLUSTER_REGISTRY,
    error::ImageError,
    settle::Settled,
    store::{ImageStore, Origin, Users, parse},
};

/// Digests that one image can name.
const CONTENT: usize = 10_000;

/// An image that was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Removed {
    pub name: String,
    pub digest: String,
    /// Of its content that nothing else needed.
    pub freed_bytes: u64,
}

impl ImageStore {
    /// Takes a name away, and the content that no other name leads to; a digest takes all names of
    /// its repository that lead to it. None: there is no such image.
    ///
    /// # Errors
    /// An image that comes with the program would be back at the next start.
    pub fn remove_image(&self, reference: &str) -> Result<Option<Removed>, ImageError> {
        let wanted = parse(reference)?;
        let Some((name, entry)) = self.entry(&wanted) else { return Ok(None) };
        if entry.origin == Origin::Builtin {
            return Err(ImageError::Builtin { name });
        }
        let gate = self.0.gate.write();
        let before: BTreeSet<String> = self.content_of(&entry.digest).into_iter().collect();
        self.change(|index| {
            index.retain(|known, of| {
                let goes = match &wanted.digest {
                    None => *known == name,
                    Some(digest) => {
                        of.digest == *digest && parse(known).is_ok_and(|of| of.name == wanted.name)
                    }
                };
                !goes
            });
        })?;
        let used = self.used();
        let mut freed_bytes = 0;
        for digest in before.difference(&used) {
            freed_bytes += self.drop_content(digest);
        }
        drop(gate);
        Ok(Some(Removed { name, digest: entry.digest, freed_bytes }))
    }

    /// Drops content that no name leads to when nothing runs yet.
    pub(crate) fn remove_unused(&self) -> Result<(), ImageError> {
        self.remove_unused_trees();
        self.collect(Duration::ZERO).map(drop)
    }

    /// Drops images that were left for pods which are gone, and content that no name leads to, unless
    /// it is newer than `grace`; returns how much of both is left.
    pub(crate) fn collect(&self, grace: Duration) -> Result<usize, ImageError> {
        let folder = self.0.dir.join("blobs/sha256");
        let _alone = self.0.gate.write();
        let left = self.drop_left()?;
        let (used, now) = (self.used(), self.now()?);
        let blobs = fs::read_dir(&folder).map_err(|error| ImageError::io(&folder, error))?;
        let mut young = left;
        for blob in blobs.flatten() {
            let digest = format!("sha256:{}", blob.file_name().to_string_lossy());
            if used.contains(&digest) {
                continue;
            }
            let since = blob.metadata().and_then(|facts| facts.modified()).ok();
            let age = since.and_then(|since| now.duration_since(since).ok()).unwrap_or_default();
            match age < grace {
                true => young += 1,
                false => drop(self.drop_content(&digest)),
            }
        }
        Ok(young)
    }

    /// Takes the names of a namespace away that the cluster's registry has, and drops what they led to
    /// and what is `unnamed`, unless another name leads to it or it `is_wanted`. What pods use stays
    /// on the node, as it would if it had been pulled from a registry.
    pub(crate) fn clear_namespace(
        &self,
        namespace: &str,
        unnamed: BTreeSet<String>,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> Result<(), ImageError> {
        let _alone = self.0.gate.write();
        let below = format!("{CLUSTER_REGISTRY}/{namespace}/");
        let in_use = self.in_use().unwrap_or_default();
        let mut tops = BTreeSet::new();
        self.change(|index| {
            index.retain(|name, entry| {
                if !name.starts_with(&below) {
                    return true;
                }
                tops.insert(entry.digest.clone());
                entry.origin = Origin::Left;
                !entry.is_other && in_use.contains(name)
            });
        })?;
        let mut content = unnamed;
        content.extend(tops.iter().flat_map(|top| self.content_of(top)));
        let used = self.used();
        let goes = |digest: &&String| !is_wanted(digest) && self.blob(digest).is_file();
        for digest in content.difference(&used).filter(goes) {
            self.drop_content(digest);
        }
        Ok(())
    }

    /// Drops the names of images that were left for pods, and that none uses any more; returns how
    /// many stay.
    fn drop_left(&self) -> Result<usize, ImageError> {
        let left = self.names_left();
        if left.is_empty() {
            return Ok(0);
        }
        let Some(in_use) = self.in_use() else { return Ok(left.len()) };
        let (stay, go): (Vec<String>, Vec<String>) =
            left.into_iter().partition(|name| in_use.contains(name));
        if !go.is_empty() {
            self.change(|index| index.retain(|name, _| !go.contains(name)))?;
        }
        Ok(stay.len())
    }

    fn names_left(&self) -> Vec<String> {
        let state = self.0.state.lock();
        let left = state.index.iter().filter(|(_, entry)| entry.origin == Origin::Left);
        left.map(|(name, _)| name.clone()).collect()
    }

    /// The names that pods' images have here; None while it isn't known what pods use.
    fn in_use(&self) -> Option<BTreeSet<String>> {
        let images = self.0.users.get()?()?;
        let wanted = images.iter().filter_map(|image| parse(image).ok());
        Some(wanted.filter_map(|wanted| self.entry(&wanted)).map(|(name, _)| name).collect())
    }

    /// Tells the store who knows what pods use: a namespace's images that do stay when it goes.
    pub fn tell_users(&self, users: Users) {
        // Whoever told it first knows as much.
        let _ = self.0.users.set(users);
    }

    /// The time of the disk, by which files have theirs.
    pub(crate) fn now(&self) -> Result<SystemTime, ImageError> {
        let part = self.part()?;
        let modified = part.as_file().metadata().and_then(|facts| facts.modified());
        modified.map_err(|error| ImageError::io(part.path(), error))
    }

    fn used(&self) -> BTreeSet<String> {
        self.tops().iter().flat_map(|top| self.content_of(top)).collect()
    }

    /// Removes content, and what was decided about it; returns its bytes.
    fn drop_content(&self, digest: &str) -> u64 {
        let path = self.blob(digest);
        let bytes = fs::metadata(&path).map_or(0, |facts| facts.len());
        self.0.state.lock().verified.remove(digest);
        for by_pod in [false, true] {
            // Most content is no document that something was decided about.
            let _ = fs::remove_file(self.settled_path(digest, by_pod));
        }
        match fs::remove_file(&path) {
            Ok(()) => bytes,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "unused content stays");
                0
            }
        }
    }

    /// Every digest that the image with this one needs.
    fn content_of(&self, top: &str) -> Vec<String> {
        let mut content = vec![top.to_owned()];
        let kept = [false, true].map(|by_pod| fs::read(self.settled_path(top, by_pod)).ok());
        let kept = kept.into_iter().flatten();
        let settled = kept.filter_map(|bytes| serde_json::from_slice::<Settled>(&bytes).ok());
        content.extend(settled.flat_map(|settled| settled.content));
        if content.len() > 1 {
            return content;
        }
        // Where the decision isn't kept: all that the documents name, as deep as is followed.
        let mut at = 0;
        while let Some(digest) = content.get(at).cloned() {
            at += 1;
            let document = crate::staging::document(&self.blob(&digest), &digest);
            match document.ok().and_then(|bytes| Document::read(&bytes).ok()) {
                Some(Document::Index(index)) => {
                    let entries = index.manifests.into_iter().map(|entry| entry.digest);
                    content.extend(entries.filter(|entry| self.blob(entry).is_file()));
                }
                Some(Document::Manifest(manifest)) => {
                    content.push(manifest.config.digest);
                    content.extend(manifest.layers.into_iter().map(|layer| layer.digest));
                }
                None => {}
            }
            if content.len() > CONTENT {
                break;
            }
        }
        content
    }
}
