//! `wasi:keyvalue` from inside a guest, over a store in memory.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::Mutex;
use windlass_runtime_api::{
    Entry, KeyValueError, KeyValueStore, KeyValues, Keys, Reach, Sandbox, add,
};
use windlass_runtime_wasm::Data;

use crate::node::{Node, guest};

/// Namespace, store and key.
type Place = (String, String, String);
/// With the number of the write that made it.
type Written = (usize, Vec<u8>);

#[derive(Clone, Default)]
pub struct Memory {
    entries: Arc<Mutex<BTreeMap<Place, Written>>>,
    writes: Arc<AtomicUsize>,
}

struct Store(Memory, String, String);

impl Memory {
    pub fn data(&self) -> Data {
        Data { key_values: Some(Arc::new(self.clone())), databases: None }
    }
}

impl KeyValues for Memory {
    fn check(&self, pod: &Sandbox) -> Result<(), String> {
        match pod.annotations.get("windlass.dev/keyvalue").map(String::as_str) {
            Some("nowhere") => Err("annotation windlass.dev/keyvalue \"nowhere\": no".into()),
            _ => Ok(()),
        }
    }

    fn open(
        &self,
        pod: &Sandbox,
        _reach: &Reach,
        store: &str,
    ) -> Result<Arc<dyn KeyValueStore>, KeyValueError> {
        Ok(Arc::new(Store(self.clone(), pod.namespace.clone(), store.to_owned())))
    }
}

impl Store {
    fn key(&self, key: &str) -> Place {
        (self.1.clone(), self.2.clone(), key.to_owned())
    }

    fn put(&self, key: &str, value: Vec<u8>) {
        let version = self.0.writes.fetch_add(1, Relaxed);
        self.0.entries.lock().insert(self.key(key), (version, value));
    }
}

#[async_trait]
impl KeyValueStore for Store {
    async fn get(&self, key: &str) -> Result<Option<Entry>, KeyValueError> {
        let found = self.0.entries.lock().get(&self.key(key)).cloned();
        Ok(found.map(|(version, value)| Entry { value, version: version.to_string() }))
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), KeyValueError> {
        self.put(key, value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.0.entries.lock().remove(&self.key(key));
        Ok(())
    }

    async fn keys(&self, cursor: Option<&str>) -> Result<Keys, KeyValueError> {
        let entries = self.0.entries.lock();
        let ours = entries.keys().filter(|(ns, store, _)| (ns, store) == (&self.1, &self.2));
        let mut keys =
            ours.map(|(_, _, key)| key).filter(|key| cursor.is_none_or(|at| key.as_str() > at));
        let page: Vec<String> = keys.by_ref().take(100).cloned().collect();
        let more = keys.next().is_some();
        Ok(Keys { cursor: page.last().filter(|_| more).cloned(), keys: page })
    }

    async fn swap(
        &self,
        key: &str,
        seen: Option<&Entry>,
        value: Vec<u8>,
    ) -> Result<bool, KeyValueError> {
        let same = self.get(key).await?.as_ref() == seen;
        if same {
            self.put(key, value);
        }
        Ok(same)
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64, KeyValueError> {
        let mut entries = self.0.entries.lock();
        let (version, value) = entries.get(&self.key(key)).cloned().unwrap_or((0, b"0".to_vec()));
        let (sum, text) = add(Some(&value), delta)?;
        entries.insert(self.key(key), (version + 1, text));
        Ok(sum)
    }
}

#[tokio::test]
async fn a_guest_has_stores() {
    let memory = Memory::default();
    let node = Node::with_data(memory.data());
    let mut spec = node.pod("entries", &guest("http-keyvalue"));
    let pod = Arc::make_mut(&mut spec.pod);
    pod.annotations.insert("windlass.dev/keyvalue-stores".into(), "cache, other".into());
    let spec = node.started(spec).await;
    for (path, body) in [
        ("/get?key=a", "nothing"),
        ("/exists?key=a", "false"),
        ("/set?key=a&value=one", "()"),
        ("/get?key=a", "one"),
        ("/get?key=a&store=", "one"),
        ("/get?key=a&store=cache", "nothing"),
        ("/set?key=b&value=two&store=cache", "()"),
        ("/keys", "[\"a\"]"),
        ("/keys?store=cache", "[\"b\"]"),
        ("/increment?key=n&by=5", "5"),
        ("/increment?key=n&by=-7", "-2"),
        ("/swap?key=a&value=last", "one, meanwhile, last"),
        ("/delete?key=a", "()"),
        ("/exists?key=a", "false"),
        ("/swap?key=a&value=last", "nothing, meanwhile, last"),
        ("/fill?count=250", "n00000=v n00001=v none=nothing"),
        ("/keys?count=1", "250 in 3"),
        ("/large?key=big&bytes=1048576", "()"),
        ("/get?key=big", "1048576 bytes"),
    ] {
        let answer = node.get(&spec, path).await.expect("answers");
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, body), "{path}");
    }
    let long = "k".repeat(1025);
    for (path, error) in [
        ("/get?key=a&store=none", "Error::NoSuchStore"),
        ("/increment?key=a&by=1", "not a whole number"),
        ("/large?key=big&bytes=1048577", "a value has at most 1048576 bytes"),
        (&format!("/get?key={long}"), "a key has at most 1024 bytes"),
        ("/fill?count=1001", "a batch has at most 1000 keys"),
    ] {
        let answer = node.get(&spec, path).await.expect("answers");
        assert!(answer.status == 500 && answer.body.contains(error), "{path}: {answer:?}");
    }
    let log = node.log(&spec, 1).await;
    assert!(log[0].contains("the key-value store \"none\" was refused"), "{log:?}");
}

#[tokio::test]
async fn increments_of_many_requests_count() {
    let memory = Memory::default();
    let node = Node::with_data(memory.data());
    let spec = node.started(node.pod("counter", &guest("http-keyvalue"))).await;
    let asks = (0..50).map(|_| node.get(&spec, "/increment?key=n&by=1"));
    let answers = join_all(asks).await;
    let mut sums: Vec<u32> = answers
        .into_iter()
        .map(|answer| answer.expect("answers").body.parse().expect("a number"))
        .collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_pod_that_asks_for_a_wrong_store_is_told() {
    let node = Node::with_data(Memory::default().data());
    let mut spec = node.pod("wrong", &guest("http-keyvalue"));
    let pod = Arc::make_mut(&mut spec.pod);
    pod.annotations.insert("windlass.dev/keyvalue".into(), "nowhere".into());
    let error = node.start(&spec).await.expect_err("refused");
    assert_eq!(error.reason, "CreateContainerConfigError");
    assert!(error.message.contains("nowhere"), "{error}");
}
