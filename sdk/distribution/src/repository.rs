//! What is in a repository: what its manifests lead to, and what was brought for the next one.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    Registry, Target,
    error::{Code, Refused},
    manifest::Facts,
};

/// Bytes of a whole name, as of a host name.
const NAME_BYTES: usize = 255;
/// Of the first part: a namespace is a DNS label.
const NAMESPACE_BYTES: usize = 63;
/// Content that was brought and isn't named yet, in all repositories.
const LINKS: usize = 20_000;
/// Manifests that are kept read.
const READ: usize = 10_000;

/// `NAMESPACE/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Repository {
    namespace: String,
    name: String,
}

impl Repository {
    pub(crate) fn parse(text: &str) -> Result<Self, Refused> {
        let fits = |(namespace, name): &(&str, &str)| {
            Self::is_namespace(namespace)
                && is_word(name, b"-_.")
                && !name.contains("..")
                && text.len() <= NAME_BYTES
        };
        let Some((namespace, name)) = text.split_once('/').filter(fits) else {
            let why = format!(
                "{text:?} is no repository of this registry: they are called NAMESPACE/NAME, in \
                 lower case"
            );
            return Err(Refused::bad(Code::NameInvalid, why));
        };
        Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Whether a repository's first part can be this.
    pub(crate) fn is_namespace(text: &str) -> bool {
        is_word(text, b"-") && text.len() <= NAMESPACE_BYTES
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Small letters and digits at both ends, and `also` between them.
fn is_word(text: &str, also: &[u8]) -> bool {
    let label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().last()];
    ends.iter().all(|end| end.is_some_and(label))
        && text.bytes().all(|byte| label(byte) || also.contains(&byte))
}

/// Content that was uploaded or mounted to a repository, by repository and digest, and when.
#[derive(Default)]
pub(crate) struct Links(Mutex<BTreeMap<(Repository, String), Instant>>);

impl Links {
    /// False: there are too many.
    pub fn add(&self, at: &Repository, digest: &str) -> bool {
        let mut links = self.0.lock();
        let key = (at.clone(), digest.to_owned());
        if links.len() >= LINKS && !links.contains_key(&key) {
            return false;
        }
        links.insert(key, Instant::now());
        true
    }

    pub fn has(&self, at: &Repository, digest: &str) -> bool {
        self.0.lock().contains_key(&(at.clone(), digest.to_owned()))
    }

    pub fn remove(&self, at: &Repository, digest: &str) -> bool {
        self.0.lock().remove(&(at.clone(), digest.to_owned())).is_some()
    }

    /// Whether any repository has it so.
    pub fn has_any(&self, digest: &str) -> bool {
        self.0.lock().keys().any(|(_, linked)| linked == digest)
    }

    /// Forgets those of a namespace; returns what they were.
    pub fn clear(&self, namespace: &str) -> BTreeSet<String> {
        let mut links = self.0.lock();
        let all = std::mem::take(&mut *links).into_iter();
        let (gone, left) = all.partition(|((at, _), _)| at.namespace == namespace);
        *links = left;
        let gone: BTreeMap<(Repository, String), Instant> = gone;
        gone.into_keys().map(|(_, digest)| digest).collect()
    }

    /// Forgets those of before `age`; returns how many are left.
    pub fn expire(&self, age: Duration) -> usize {
        let mut links = self.0.lock();
        links.retain(|_, since| since.elapsed() < age);
        links.len()
    }
}

/// What manifests say, by their digest, so that none is read twice.
#[derive(Default)]
pub(crate) struct Manifests(Mutex<HashMap<String, Arc<Facts>>>);

impl Registry {
    /// The digest that a target leads to.
    pub(crate) fn resolve(&self, at: &Repository, target: &Target) -> Option<String> {
        let names = self.storage.names(at).into_iter();
        match target {
            Target::Tag(tag) => {
                let mut meant = names.filter(|name| name.tag.as_ref() == Some(tag));
                meant.next().map(|name| name.digest)
            }
            Target::Digest(digest) => {
                let mut all = names.map(|name| name.digest);
                let is_there =
                    all.any(|known| known == *digest) || self.manifests_of(at).contains_key(digest);
                is_there.then(|| digest.clone())
            }
        }
    }

    /// The manifests of a repository, with those that its indexes name, and what they say. One that is
    /// damaged or not here leads to nothing.
    pub(crate) fn manifests_of(&self, at: &Repository) -> BTreeMap<String, Arc<Facts>> {
        let mut all = BTreeMap::new();
        let mut next: Vec<String> =
            self.storage.names(at).into_iter().map(|name| name.digest).collect();
        while let Some(digest) = next.pop() {
            if all.contains_key(&digest) {
                continue;
            }
            match self.facts(&digest) {
                Ok(facts) => {
                    next.extend(facts.manifests.iter().map(|of| of.digest.clone()));
                    all.insert(digest, facts);
                }
                Err(refused) => tracing::debug!(repository = %at, digest, %refused),
            }
        }
        all
    }

    /// What the manifest with this digest says.
    fn facts(&self, digest: &str) -> Result<Arc<Facts>, Refused> {
        if let Some(facts) = self.manifests.0.lock().get(digest) {
            return Ok(facts.clone());
        }
        let facts = Arc::new(Facts::read(&self.document(digest)?)?);
        let mut kept = self.manifests.0.lock();
        if kept.len() >= READ {
            kept.clear();
        }
        kept.insert(digest.to_owned(), facts.clone());
        Ok(facts)
    }

    /// A manifest as it was pushed, compared with its digest.
    pub(crate) fn document(&self, digest: &str) -> Result<Vec<u8>, Refused> {
        let found = self.storage.content(digest);
        let found = found.filter(|found| found.size_bytes <= self.limits.manifest_bytes as u64);
        let found = found.ok_or_else(|| {
            Refused::not_found(Code::ManifestUnknown, format!("{digest} is not here any more"))
        })?;
        let bytes = std::fs::read(&found.path).map_err(Refused::failed)?;
        match windlass_sdk_package::digest(&bytes) == digest {
            true => Ok(bytes),
            false => Err(Refused::failed(format!("{} is damaged", found.path.display()))),
        }
    }

    /// Whether content belongs to a repository, and so to those who may read it.
    pub(crate) fn has_blob(&self, at: &Repository, digest: &str) -> bool {
        self.links.has(at, digest) || self.named_by(at, digest).is_some()
    }

    /// A manifest of the repository that can't do without this content.
    pub(crate) fn named_by(&self, at: &Repository, digest: &str) -> Option<String> {
        let all = self.manifests_of(at);
        let needs = |facts: &Facts| facts.blobs.iter().any(|blob| blob.digest == digest);
        all.into_iter().find(|(_, facts)| needs(facts)).map(|(of, _)| of)
    }
}
