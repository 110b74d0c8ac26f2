//! The stores against their contract: the shared suite, random sequences with memory as the
//! oracle, killed processes, damaged files, full disks, and what a write costs.

mod common;
mod crash;
mod damage;
mod disk_full;
mod etcd;
mod latency;
mod property;

use std::sync::{Arc, Mutex};

use windlass_apiserver_store::{MemoryStore, SledStore, Store, StoreError, conformance};

#[tokio::test]
async fn memory_conforms() {
    conformance::run_all(async || Arc::new(MemoryStore::new()) as Arc<dyn Store>).await;
}

/// The simulation's runtime: time stands still, so a store that waited for time would hang.
#[tokio::test(start_paused = true)]
async fn memory_conforms_under_paused_time() {
    conformance::run_all(async || Arc::new(MemoryStore::new()) as Arc<dyn Store>).await;
}

#[tokio::test]
async fn sled_conforms() {
    let folders = Mutex::new(Vec::new());
    conformance::run_all(async || {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SledStore::open(folder.path()).expect("open");
        folders.lock().expect("not poisoned").push(folder);
        Arc::new(store) as Arc<dyn Store>
    })
    .await;
}

#[test]
fn one_process_at_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = SledStore::open(folder.path()).expect("open");
    let Err(StoreError::Unavailable(why)) = SledStore::open(folder.path()) else {
        panic!("opened twice")
    };
    assert!(why.ends_with(&format!("is in use by process {}", std::process::id())), "{why}");
    drop(first);
    SledStore::open(folder.path()).expect("free again");
}
