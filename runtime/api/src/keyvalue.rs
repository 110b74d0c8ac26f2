//! Key-value stores as guests see them, whatever keeps the entries: a runtime opens a store for a pod
//! and never learns whether entries are objects, files or somebody's Redis.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};

use crate::{Reach, Sandbox};

pub use windlass_sdk_meta::keyvalue::{KEY_LIMIT_BYTES, VALUE_LIMIT_BYTES};

/// The store that every pod has.
pub const DEFAULT_STORE: &str = "default";
/// Keys of one batch.
pub const BATCH_LIMIT: usize = 1000;
/// Bytes of the values of one batch.
pub const BATCH_LIMIT_BYTES: usize = 32 << 20;
/// Operations of one batch that are under way at a time.
const BATCH_AT_ONCE: usize = 16;

/// Opens stores.
pub trait KeyValues: Send + Sync {
    /// Whether the pod says something about stores that can't be. The error names it.
    fn check(&self, pod: &Sandbox) -> Result<(), String>;

    /// A store of this name for a pod; whether the pod may have it was asked before. `reach` narrows
    /// what is called on the pod's behalf.
    fn open(
        &self,
        pod: &Sandbox,
        reach: &Reach,
        store: &str,
    ) -> Result<Arc<dyn KeyValueStore>, KeyValueError>;
}

/// One store. Keys and values are checked by [`check_key`] and [`check_value`] before.
#[async_trait]
pub trait KeyValueStore: Send + Sync {
    async fn get(&self, key: &str) -> Result<Option<Entry>, KeyValueError>;

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), KeyValueError>;

    /// Ok also where there is none.
    async fn delete(&self, key: &str) -> Result<(), KeyValueError>;

    /// Some keys, and how to go on.
    async fn keys(&self, cursor: Option<&str>) -> Result<Keys, KeyValueError>;

    /// Sets the value if the entry is still as it was seen (None: there was none). False where
    /// somebody else was first.
    async fn swap(
        &self,
        key: &str,
        seen: Option<&Entry>,
        value: Vec<u8>,
    ) -> Result<bool, KeyValueError>;

    /// Adds to a number, which is kept as decimal text; one that isn't there is 0. Returns the sum.
    async fn increment(&self, key: &str, delta: i64) -> Result<i64, KeyValueError>;

    async fn exists(&self, key: &str) -> Result<bool, KeyValueError> {
        Ok(self.get(key).await?.is_some())
    }

    /// In the order of the keys.
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Entry>>, KeyValueError> {
        let gets: Vec<_> = keys.iter().map(|key| self.get(key)).collect();
        let mut found = stream::iter(gets).buffered(BATCH_AT_ONCE);
        let (mut all, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = found.try_next().await? {
            bytes += entry.as_ref().map_or(0, |entry| entry.value.len());
            if bytes > BATCH_LIMIT_BYTES {
                return Err(KeyValueError::too_much());
            }
            all.push(entry);
        }
        Ok(all)
    }

    /// In any order; what was set before an error stays.
    async fn set_many(&self, entries: Vec<(String, Vec<u8>)>) -> Result<(), KeyValueError> {
        let sets: Vec<_> = entries
            .into_iter()
            .map(|(key, value)| async move { self.set(&key, value).await })
            .collect();
        stream::iter(sets).buffer_unordered(BATCH_AT_ONCE).try_collect().await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), KeyValueError> {
        let deletions: Vec<_> = keys.iter().map(|key| self.delete(key)).collect();
        stream::iter(deletions).buffer_unordered(BATCH_AT_ONCE).try_collect().await
    }
}

/// A value, and the version by which a later write knows that nobody else wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub value: Vec<u8>,
    pub version: String,
}

/// A page of keys; without a cursor it was the last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pub keys: Vec<String>,
    pub cursor: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    #[error("there is no such store")]
    NoSuchStore,
    #[error("the store may not be accessed")]
    AccessDenied,
    #[error("{0}")]
    Other(String),
}

impl KeyValueError {
    pub fn other(why: impl std::fmt::Display) -> Self {
        Self::Other(why.to_string())
    }

    pub fn too_much() -> Self {
        Self::Other(format!("a batch has at most {BATCH_LIMIT} keys and {BATCH_LIMIT_BYTES} bytes"))
    }
}

pub fn check_key(key: &str) -> Result<(), KeyValueError> {
    match key.len() > KEY_LIMIT_BYTES {
        true => Err(KeyValueError::Other(format!("a key has at most {KEY_LIMIT_BYTES} bytes"))),
        false => Ok(()),
    }
}

pub fn check_value(value: &[u8]) -> Result<(), KeyValueError> {
    match value.len() > VALUE_LIMIT_BYTES {
        true => Err(KeyValueError::Other(format!("a value has at most {VALUE_LIMIT_BYTES} bytes"))),
        false => Ok(()),
    }
}

/// What an entry is after an increment: the sum, and the text that is kept.
pub fn add(value: Option<&[u8]>, delta: i64) -> Result<(i64, Vec<u8>), KeyValueError> {
    let number = match value {
        None => Some(0),
        Some(bytes) => std::str::from_utf8(bytes).ok().and_then(|text| text.trim().parse().ok()),
    };
    let not = || KeyValueError::Other("the value is not a whole number in decimal digits".into());
    let sum = i64::checked_add(number.ok_or_else(not)?, delta);
    let sum = sum.ok_or_else(|| KeyValueError::Other("the sum is too large".into()))?;
    Ok((sum, sum.to_string().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_added() {
        for (value, delta, expected) in [
            (None, 5, Some(5)),
            (Some("41"), 1, Some(42)),
            (Some("-1\n"), 1, Some(0)),
            (Some("x"), 1, None),
            (Some(""), 1, None),
            (Some("9223372036854775807"), 1, None),
        ] {
            let sum = add(value.map(str::as_bytes), delta);
            assert_eq!(sum.as_ref().ok().map(|(sum, _)| *sum), expected, "{value:?} {sum:?}");
        }
    }
}
