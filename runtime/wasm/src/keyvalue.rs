//! `wasi:keyvalue` (0.2.0-draft2): which stores a container may open, and the interface over the
//! stores that the node hands in. What a guest asks for is bounded here; where entries are kept is
//! not known here.

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use windlass_runtime_api::{
    BATCH_LIMIT, BATCH_LIMIT_BYTES, DEFAULT_STORE, Databases, Entry, KeyValueError, KeyValueStore,
    KeyValues, check_key, check_value,
};

use crate::{container::Container, guest::Guest};

wasmtime::component::bindgen!({
    path: "wit",
    world: "keyvalue",
    imports: { default: async | trappable },
    with: {
        "wasi:keyvalue/store.bucket": Bucket,
        "wasi:keyvalue/atomics.cas": Cas,
    },
});

use wasi::keyvalue::{
    atomics::{self, CasError},
    batch,
    store::{self, Error, KeyResponse},
};

/// Names of further stores of a pod, separated by commas.
const STORES: &str = "windlass.dev/keyvalue-stores";

/// Where what guests keep is kept; None: this node keeps nothing.
#[derive(Clone, Default)]
pub struct Data {
    pub key_values: Option<Arc<dyn KeyValues>>,
    pub databases: Option<Arc<dyn Databases>>,
}

/// An open store.
pub struct Bucket(pub Arc<dyn KeyValueStore>);

/// A value as it was seen, for a write that must come before any other.
pub struct Cas {
    store: Arc<dyn KeyValueStore>,
    key: String,
    seen: Option<Entry>,
}

/// What a call of the interface works on.
pub struct View<'a> {
    pub table: &'a mut ResourceTable,
    pub container: Arc<Container>,
}

pub struct HasView;

impl HasData for HasView {
    type Data<'a> = View<'a>;
}

pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    store::add_to_linker::<Guest, HasView>(linker, Guest::view)?;
    atomics::add_to_linker::<Guest, HasView>(linker, Guest::view)?;
    batch::add_to_linker::<Guest, HasView>(linker, Guest::view)
}

/// Opens a store where the container may: those that its component of a Spin application names; else
/// `default` and those that the pod names.
pub fn open(container: &Container, name: &str) -> Result<Arc<dyn KeyValueStore>, KeyValueError> {
    let Some(stores) = &container.data.key_values else {
        container.log.note("key-value stores are not available on this node");
        return Err(KeyValueError::NoSuchStore);
    };
    let name = if name.is_empty() { DEFAULT_STORE } else { name };
    let pod = &container.spec.pod;
    match &container.part {
        Some(part) if !part.component.key_value_stores.iter().any(|known| known == name) => {
            container.log.note(&format!(
                "the key-value store {name:?} was refused: the component {} has it not among its \
                 key_value_stores",
                part.component.id
            ));
            return Err(KeyValueError::AccessDenied);
        }
        None if !is_named(pod.annotations.get(STORES).map_or("", String::as_str), name) => {
            container.log.note(&format!(
                "the key-value store {name:?} was refused: there is {DEFAULT_STORE:?}, and what the \
                 pod's annotation {STORES} names"
            ));
            return Err(KeyValueError::NoSuchStore);
        }
        _ => {}
    }
    let opened = stores.open(pod, &container.caller.reach, name);
    if let Err(why) = &opened {
        container.log.note(&format!("the key-value store {name:?} can't be opened: {why}"));
    }
    opened
}

fn is_named(list: &str, name: &str) -> bool {
    name == DEFAULT_STORE || list.split(',').any(|known| known.trim() == name)
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl View<'_> {
    fn store(&self, bucket: &Resource<Bucket>) -> wasmtime::Result<Arc<dyn KeyValueStore>> {
        Ok(self.table.get(bucket)?.0.clone())
    }

    /// For people: the guest may swallow its error.
    fn told<T>(&self, result: Result<T, KeyValueError>) -> Result<T, Error> {
        result.map_err(|error| {
            if let KeyValueError::AccessDenied = error {
                self.container
                    .log
                    .note("a key-value operation was refused: the node may not do it");
            }
            error.into()
        })
    }
}

impl From<KeyValueError> for Error {
    fn from(error: KeyValueError) -> Self {
        match error {
            KeyValueError::NoSuchStore => Self::NoSuchStore,
            KeyValueError::AccessDenied => Self::AccessDenied,
            KeyValueError::Other(why) => Self::Other(why),
        }
    }
}

impl store::Host for View<'_> {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        Ok(match open(&self.container, &identifier) {
            Ok(store) => Ok(self.table.push(Bucket(store))?),
            Err(error) => Err(error.into()),
        })
    }
}

impl store::HostBucket for View<'_> {
    async fn get(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        let store = self.store(&bucket)?;
        let got = async {
            check_key(&key)?;
            store.get(&key).await
        };
        let got = got.await;
        Ok(self.told(got).map(|entry| entry.map(|entry| entry.value)))
    }

    async fn set(&mut self, bucket: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        let store = self.store(&bucket)?;
        let set = async {
            check_key(&key)?;
            check_value(&value)?;
            store.set(&key, value).await
        };
        let set = set.await;
        Ok(self.told(set))
    }

    async fn delete(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<()> {
        let store = self.store(&bucket)?;
        let deleted = async {
            check_key(&key)?;
            store.delete(&key).await
        };
        let deleted = deleted.await;
        Ok(self.told(deleted))
    }

    async fn exists(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<bool> {
        let store = self.store(&bucket)?;
        let found = async {
            check_key(&key)?;
            store.exists(&key).await
        };
        let found = found.await;
        Ok(self.told(found))
    }

    async fn list_keys(
        &mut self,
        bucket: Resource<Bucket>,
        cursor: Option<String>,
    ) -> Answer<KeyResponse> {
        let listed = self.store(&bucket)?.keys(cursor.as_deref()).await;
        Ok(self.told(listed).map(|page| KeyResponse { keys: page.keys, cursor: page.cursor }))
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for View<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Bucket>,
        key: String,
        delta: i64,
    ) -> Answer<i64> {
        let store = self.store(&bucket)?;
        let sum = async {
            check_key(&key)?;
            store.increment(&key, delta).await
        };
        let sum = sum.await;
        Ok(self.told(sum))
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), CasError>> {
        let Cas { store, key, seen } = self.table.delete(cas)?;
        let swapped = match check_value(&value) {
            Ok(()) => store.swap(&key, seen.as_ref(), value).await,
            Err(error) => Err(error),
        };
        Ok(match self.told(swapped) {
            Ok(true) => Ok(()),
            Err(error) => Err(CasError::StoreError(error)),
            // The guest tries again with what is there now.
            Ok(false) => {
                let got = store.get(&key).await;
                match self.told(got) {
                    Ok(seen) => {
                        let again = self.table.push(Cas { store, key, seen })?;
                        Err(CasError::CasFailed(again))
                    }
                    Err(error) => Err(CasError::StoreError(error)),
                }
            }
        })
    }
}

impl atomics::HostCas for View<'_> {
    async fn new(&mut self, bucket: Resource<Bucket>, key: String) -> Answer<Resource<Cas>> {
        let store = self.store(&bucket)?;
        let seen = async {
            check_key(&key)?;
            store.get(&key).await
        };
        let seen = seen.await;
        Ok(match self.told(seen) {
            Ok(seen) => Ok(self.table.push(Cas { store, key, seen })?),
            Err(error) => Err(error),
        })
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Answer<Option<Vec<u8>>> {
        let seen = &self.table.get(&cas)?.seen;
        Ok(Ok(seen.as_ref().map(|entry| entry.value.clone())))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}

impl batch::Host for View<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<(String, Option<Vec<u8>>)>> {
        let store = self.store(&bucket)?;
        let got = async {
            all_checked(keys.iter())?;
            store.get_many(&keys).await
        };
        let got = got.await;
        Ok(self.told(got).map(|found| {
            let values = found.into_iter().map(|entry| entry.map(|entry| entry.value));
            keys.into_iter().zip(values).collect()
        }))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Bucket>,
        entries: Vec<(String, Vec<u8>)>,
    ) -> Answer<()> {
        let store = self.store(&bucket)?;
        let set = async {
            all_checked(entries.iter().map(|(key, _)| key))?;
            entries.iter().try_for_each(|(_, value)| check_value(value))?;
            if entries.iter().map(|(_, value)| value.len()).sum::<usize>() > BATCH_LIMIT_BYTES {
                return Err(KeyValueError::too_much());
            }
            store.set_many(entries).await
        };
        let set = set.await;
        Ok(self.told(set))
    }

    async fn delete_many(&mut self, bucket: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        let store = self.store(&bucket)?;
        let deleted = async {
            all_checked(keys.iter())?;
            store.delete_many(&keys).await
        };
        let deleted = deleted.await;
        Ok(self.told(deleted))
    }
}

fn all_checked<'a>(
    mut keys: impl ExactSizeIterator<Item = &'a String>,
) -> Result<(), KeyValueError> {
    if keys.len() > BATCH_LIMIT {
        return Err(KeyValueError::too_much());
    }
    keys.try_for_each(|key| check_key(key))
}

#[cfg(test)]
mod tests {
    use super::is_named;

    #[test]
    fn a_pod_names_its_stores() {
        for (list, name, expected) in [
            ("", "default", true),
            ("", "cache", false),
            ("cache, sessions", "sessions", true),
            ("cache, sessions", "session", false),
            ("cache", "default", true),
        ] {
            assert_eq!(is_named(list, name), expected, "{list:?} {name:?}");
        }
    }
}
