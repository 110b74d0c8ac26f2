//! What a write costs: a lone one is not held back to fill a batch, and many share one flush. The
//! bounds are wide, because other tests use the disk at the same time; the figures are printed.

use std::time::Duration;

use futures::future::join_all;
use tokio::time::Instant;
use windlass_apiserver_store::SledStore;

use crate::common::{commit, put};

#[tokio::test]
async fn a_lone_write_waits_for_nothing_and_many_share_a_flush() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SledStore::open(folder.path()).expect("open");
    let value = vec![b'x'; 1500];

    let mut alone: Vec<Duration> = Vec::new();
    for n in 0..300 {
        let start = Instant::now();
        commit(&store, put(&format!("/alone/{n}"), &value)).await.expect("commit");
        alone.push(start.elapsed());
    }
    alone.sort();
    let median = alone[alone.len() / 2];

    const WRITERS: u32 = 64;
    const EACH: u32 = 40;
    let start = Instant::now();
    let (store, value) = (&store, &value);
    join_all((0..WRITERS).map(|writer| async move {
        for n in 0..EACH {
            commit(store, put(&format!("/many/{writer}/{n}"), value)).await.expect("commit");
        }
    }))
    .await;
    let each = start.elapsed() / (WRITERS * EACH);
    println!("alone: median {median:?}; {WRITERS} writers: {each:?} a write");
    assert!(median < Duration::from_millis(20), "a lone write takes {median:?}");
    assert!(each * 3 < median.max(Duration::from_micros(150)), "{each:?} against {median:?} alone");
}
