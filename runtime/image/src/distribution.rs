//! The cluster's registry is a door to this store: what is pushed there is an image of the node under
//! `windlass.local/NAMESPACE/NAME`, and what has such a name is nowhere else to be had. What is no wasm
//! (images of containers, signatures, anything that OCI carries) is kept and served all the same.

use std::{collections::BTreeSet, io, time::Duration};

use tempfile::NamedTempFile;
use windlass_sdk_distribution::{
    Content, Name, NewManifest, Repository, Storage, StorageError, Target,
};

use crate::{
    container::{self, ContainerArchive},
    error::ImageError,
    pull::Pulled,
    reference::Reference,
    settle::settle,
    store::{Entry, IMAGE_LIMIT_BYTES, ImageStore, Origin, keep_by_digest, parse, set},
};

/// The first part of names that mean the cluster's own registry.
pub const CLUSTER_REGISTRY: &str = "windlass.local";

/// Whether an image of this name is the cluster's registry's.
pub(crate) fn is_of_cluster(wanted: &Reference) -> bool {
    wanted.name.split_once('/').is_some_and(|(host, _)| host == CLUSTER_REGISTRY)
}

fn not_pushed(wanted: &Reference) -> ImageError {
    let why = format!(
        "the cluster's registry doesn't have it; push it by: windlass push {}:TAG FILE",
        wanted.name
    );
    ImageError::Pull { image: wanted.to_string(), why }
}

impl ImageStore {
    /// Returns when something was pushed since it returned last; for one listener.
    pub async fn pushed(&self) {
        self.0.pushed.notified().await;
    }

    /// "Pulls" from the registry whose store this is.
    pub(crate) async fn of_cluster(
        &self,
        wanted: Reference,
        pod_says_wasm: bool,
    ) -> Result<Pulled, ImageError> {
        let store = self.clone();
        let find = move || {
            if store.origin(&wanted.to_string()) == Some(Origin::Left) {
                return Err(not_pushed(&wanted));
            }
            let image = store.find_for(&wanted.to_string(), pod_says_wasm)?;
            let image = image.ok_or_else(|| not_pushed(&wanted))?;
            let size_bytes = image.wasm_path.metadata().map_or(0, |facts| facts.len());
            Ok(Pulled { image, size_bytes })
        };
        self.blocking(find).await
    }

    /// A container's image in the registry whose store this is, as an engine loads it.
    pub(crate) async fn container_of_cluster(
        &self,
        wanted: Reference,
    ) -> Result<ContainerArchive, ImageError> {
        let store = self.clone();
        let made = move || {
            let _held = store.hold();
            let (_, entry) = store.entry(&wanted).ok_or_else(|| not_pushed(&wanted))?;
            container::of_store(&store, &entry.digest, &wanted)
        };
        Ok(container::stream(self.blocking(made).await?))
    }
}

impl Storage for ImageStore {
    fn incoming(&self) -> Result<NamedTempFile, StorageError> {
        Ok(self.part()?)
    }

    fn keep(&self, digest: &str, file: NamedTempFile) -> Result<(), StorageError> {
        let path = self.blob(digest);
        let io = |error| StorageError::io(path.display().to_string(), error);
        file.as_file().sync_all().map_err(io)?;
        file.persist(&path).map_err(|error| io(error.error))?;
        self.0.state.lock().verified.insert(digest.to_owned());
        Ok(())
    }

    fn content(&self, digest: &str) -> Option<Content> {
        let path = self.blob(digest);
        let facts = path.metadata().ok().filter(|facts| facts.is_file())?;
        Some(Content { path, size_bytes: facts.len() })
    }

    fn renew(&self, digest: &str) -> Result<(), StorageError> {
        let (path, now) = (self.blob(digest), self.now()?);
        let renewed = std::fs::File::open(&path).and_then(|file| file.set_modified(now));
        renewed.map_err(|error| StorageError::io(path.display().to_string(), error))
    }

    fn names(&self, at: &Repository) -> Vec<Name> {
        let name = name_of(at);
        let state = self.0.state.lock();
        let from = state.index.range(name.clone()..);
        let below = from.take_while(|(key, _)| key.starts_with(&name));
        let there = below.filter(|(_, entry)| is_here(entry));
        let of_it = there.filter_map(|(key, entry)| {
            let reference = key.parse::<Reference>().ok().filter(|of| of.name == name)?;
            let tag = Some(reference.tag).filter(|tag| !tag.is_empty());
            Some(Name { tag, digest: entry.digest.clone() })
        });
        of_it.collect()
    }

    fn name(
        &self,
        at: &Repository,
        tag: Option<&str>,
        manifest: &NewManifest,
    ) -> Result<(), StorageError> {
        let _held = self.hold();
        let is_there = |digest: &&String| self.blob(digest).is_file();
        if let Some(missing) = manifest.needs.iter().find(|digest| !is_there(digest)) {
            return Err(StorageError::Missing(missing.clone()));
        }
        self.write(&self.blob(&manifest.digest), &manifest.bytes)?;
        let entry = self.entry_of(manifest)?;
        let tag_or_digest = match tag {
            Some(tag) => format!("{}:{tag}", name_of(at)),
            None => format!("{}@{}", name_of(at), manifest.digest),
        };
        let reference = parse(&tag_or_digest)?;
        self.change(|index| match tag {
            Some(_) => set(index, &reference, entry),
            None => keep_by_digest(index, &reference, entry),
        })?;
        self.0.pushed.notify_one();
        Ok(())
    }

    fn remove(&self, at: &Repository, target: &Target) -> Result<bool, StorageError> {
        let name = name_of(at);
        Ok(self.change(|index| match target {
            Target::Tag(tag) => {
                let Ok(reference) = parse(&format!("{name}:{tag}")) else { return false };
                let key = reference.to_string();
                let Some(entry) = index.get(&key).filter(|of| is_here(of)).cloned() else {
                    return false;
                };
                index.remove(&key);
                keep_by_digest(index, &reference, entry);
                true
            }
            Target::Digest(digest) => {
                let before = index.len();
                index.retain(|key, entry| {
                    entry.digest != *digest
                        || !is_here(entry)
                        || parse(key).is_ok_and(|of| of.name != name)
                });
                index.len() < before
            }
        })?)
    }

    fn clear(
        &self,
        namespace: &str,
        unnamed: BTreeSet<String>,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> Result<(), StorageError> {
        Ok(self.clear_namespace(namespace, unnamed, is_wanted)?)
    }

    fn collect(&self, grace: Duration) -> Result<usize, StorageError> {
        Ok(ImageStore::collect(self, grace)?)
    }
}

impl ImageStore {
    /// Decides what a pushed manifest is. What isn't wasm for a node is kept as it is.
    fn entry_of(&self, manifest: &NewManifest) -> Result<Entry, ImageError> {
        let digest = &manifest.digest;
        let staging = self.staging()?;
        let places = |digest: &str| Some(self.blob(digest)).filter(|path| path.is_file());
        let settled = settle(digest, false, &places, &staging, IMAGE_LIMIT_BYTES);
        let (origin, digest) = (Origin::Pushed, digest.clone());
        match settled {
            Ok(settled) => {
                self.place(&staging, &digest, &settled)?;
                // With the files of a Spin application, before the first pod asks for them.
                self.image(&digest, &digest, &settled)?;
                Ok(Entry { digest, size: settled.wasm_size, origin, is_other: false })
            }
            Err(why) => {
                tracing::debug!(digest, %why, "what was pushed is no wasm");
                Ok(Entry { digest, size: manifest.size_bytes, origin, is_other: true })
            }
        }
    }
}

/// Whether the registry has it, and not only the node.
fn is_here(entry: &Entry) -> bool {
    entry.origin != Origin::Left
}

fn name_of(at: &Repository) -> String {
    format!("{CLUSTER_REGISTRY}/{at}")
}

impl From<ImageError> for StorageError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::Io { path, source } => Self::io(path, source),
            other => Self::io("an image", io::Error::other(other.to_string())),
        }
    }
}
