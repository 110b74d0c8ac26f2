//! Entries as objects: one `KeyValue` an entry, in the pod's namespace, so that all its pods on all
//! nodes share them, `kubectl get keyvalues` shows them, and a write is durable when it is answered.
//! What must be atomic compares the object's resourceVersion.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Mutex;
use windlass_runtime_api::{Entry, KeyValueError, KeyValueStore, Keys, add};
use windlass_sdk_client::{Api, Delete, Error};
use windlass_sdk_meta::keyvalue::{BOUND_CAUSE, STORE_LABEL, entry_name};
use windlass_sdk_types::{ByteString, KeyValue, KeyValueSpec, Kind, path};

/// How often an increment looks again because another node was first.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);
/// Keys of one page.
const PAGE: usize = 500;
/// Increments of one key wait for each other on their node instead of trying in vain.
const TURNS: usize = 64;
const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";

pub(crate) struct Entries {
    api: Api,
    turns: Arc<[Mutex<()>]>,
}

impl Entries {
    pub fn new(api: Api) -> Self {
        Self { api, turns: (0..TURNS).map(|_| Mutex::default()).collect() }
    }

    pub fn open(&self, namespace: &str, store: &str) -> Arc<dyn KeyValueStore> {
        Arc::new(Store {
            api: self.api.clone(),
            turns: self.turns.clone(),
            namespace: namespace.to_owned(),
            store: store.to_owned(),
        })
    }
}

struct Store {
    api: Api,
    turns: Arc<[Mutex<()>]>,
    namespace: String,
    store: String,
}

impl Store {
    async fn read(&self, key: &str) -> Result<Option<Entry>, KeyValueError> {
        let name = entry_name(&self.store, key);
        match self.api.get::<KeyValue>(&self.namespace, &name).await {
            Ok(found) => Ok(Some(Entry {
                version: found.resource_version().to_owned(),
                value: found.spec.value.0,
            })),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    fn object(&self, key: &str, value: Vec<u8>) -> KeyValue {
        let mut object = KeyValue::default();
        object.metadata.name = Some(entry_name(&self.store, key));
        object.metadata.namespace = Some(self.namespace.clone());
        let (store, key) = (self.store.clone(), key.to_owned());
        object.spec = KeyValueSpec { store, key, value: ByteString(value) };
        object
    }

    /// False where somebody else was first.
    async fn write(
        &self,
        key: &str,
        version: Option<&str>,
        value: Vec<u8>,
    ) -> Result<bool, KeyValueError> {
        let mut object = self.object(key, value);
        let written = match version {
            None => self.api.create(&object).await,
            Some(version) => {
                object.metadata.resource_version = Some(version.to_owned());
                self.api.update(&object).await
            }
        };
        match written {
            Ok(_) => Ok(true),
            Err(error)
                if error.is_conflict() || error.is_already_exists() || error.is_not_found() =>
            {
                Ok(false)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn turn(&self, key: &str) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        (&self.namespace, &self.store, key).hash(&mut hasher);
        // There are TURNS of them, so the remainder is one's index.
        &self.turns[(hasher.finish() % TURNS as u64) as usize]
    }
}

#[async_trait]
impl KeyValueStore for Store {
    async fn get(&self, key: &str) -> Result<Option<Entry>, KeyValueError> {
        self.read(key).await
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), KeyValueError> {
        let object = self.object(key, value);
        for _ in 0..ATTEMPTS {
            // A PUT without a version: it creates where there is none.
            match self.api.update(&object).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() || error.is_already_exists() => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(contended())
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        let name = entry_name(&self.store, key);
        match self.api.delete::<KeyValue>(&self.namespace, &name, &Delete::default()).await {
            Err(error) if !error.is_not_found() => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// From the printed table: a list of the objects would bring every value along.
    async fn keys(&self, cursor: Option<&str>) -> Result<Keys, KeyValueError> {
        let mut of = path::<KeyValue>(&self.namespace, "", "");
        of += &format!(
            "?limit={PAGE}&includeObject=None&labelSelector={STORE_LABEL}%3D{}",
            self.store
        );
        if let Some(cursor) = cursor {
            if !cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~=%".contains(&byte))
            {
                return Err(KeyValueError::Other("the cursor is not one of this store".into()));
            }
            of += &format!("&continue={cursor}");
        }
        let answer = self.api.get_as(&of, TABLE).await.map_err(failed)?;
        let table: Value = serde_json::from_slice(&answer).map_err(KeyValueError::other)?;
        let columns = table["columnDefinitions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let at = columns.iter().position(|column| column["name"] == "Key").unwrap_or(2);
        let rows = table["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
        let keys = rows.iter().filter_map(|row| row["cells"][at].as_str().map(str::to_owned));
        let next = table["metadata"]["continue"].as_str().filter(|token| !token.is_empty());
        Ok(Keys { keys: keys.collect(), cursor: next.map(str::to_owned) })
    }

    async fn swap(
        &self,
        key: &str,
        seen: Option<&Entry>,
        value: Vec<u8>,
    ) -> Result<bool, KeyValueError> {
        self.write(key, seen.map(|entry| entry.version.as_str()), value).await
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64, KeyValueError> {
        let _turn = self.turn(key).lock().await;
        for attempt in 0..ATTEMPTS {
            let seen = self.read(key).await?;
            let (sum, text) = add(seen.as_ref().map(|entry| entry.value.as_slice()), delta)?;
            let version = seen.as_ref().map(|entry| entry.version.as_str());
            if self.write(key, version, text).await? {
                return Ok(sum);
            }
            tokio::time::sleep((PAUSE * attempt).min(LONGEST_PAUSE)).await;
        }
        Err(contended())
    }
}

fn contended() -> KeyValueError {
    KeyValueError::Other(format!("others changed the entry {ATTEMPTS} times in a row"))
}

fn failed(error: Error) -> KeyValueError {
    // Those are no matter of who asks.
    let of_the_namespace = error.is_namespace_terminating() || error.has_cause(BOUND_CAUSE);
    match error.is_forbidden() && !of_the_namespace {
        true => KeyValueError::AccessDenied,
        false => KeyValueError::other(error),
    }
}
