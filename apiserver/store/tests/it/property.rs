//! Random sequences of operations on sled, with reopening in between, must be answered exactly as
//! the memory store answers them.

use std::collections::BTreeSet;

use futures::executor::block_on;
use proptest::prelude::*;
use windlass_apiserver_store::{
    Compare, MemoryStore, Op, RangeRequest, Revision, SledStore, Store, StoreError, Txn,
    conformance::take,
};

#[derive(Clone, Debug)]
enum Step {
    /// Comparisons and operations on keys by number; `None` deletes, a number is a value's length.
    Txn {
        compare: Vec<(u8, Guess)>,
        ops: Vec<(u8, Option<usize>)>,
    },
    Range {
        prefix: &'static str,
        start: u8,
        back: u64,
        limit: usize,
    },
    Compact {
        back: u64,
    },
    Reopen,
}

/// What a comparison expects of its key.
#[derive(Clone, Copy, Debug)]
enum Guess {
    Right,
    Absent,
    Back(u64),
}

fn key(n: u8) -> String {
    format!("/{}/{n}", if n.is_multiple_of(2) { "a" } else { "b" })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let guess = prop_oneof![
        4 => Just(Guess::Right),
        1 => Just(Guess::Absent),
        1 => (0..4u64).prop_map(Guess::Back),
    ];
    let size = prop_oneof![8 => 0..64usize, 1 => 5_000..13_000usize];
    let op = (0..10u8, prop::option::weighted(0.7, size));
    let txn = (prop::collection::vec((0..10u8, guess), 0..3), prop::collection::vec(op, 0..4))
        .prop_map(|(compare, ops)| Step::Txn { compare, ops });
    let prefix = prop_oneof![Just(""), Just("/a/"), Just("/b/"), Just("/c")];
    let range = (prefix, 0..10u8, 0..12u64, 0..5usize)
        .prop_map(|(prefix, start, back, limit)| Step::Range { prefix, start, back, limit });
    let compact = (0..12u64).prop_map(|back| Step::Compact { back });
    let step = prop_oneof![10 => txn, 4 => range, 1 => compact, 1 => Just(Step::Reopen)];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn sled_answers_as_memory_does(steps in steps()) {
        block_on(run(steps));
    }
}

async fn run(steps: Vec<Step>) {
    let folder = tempfile::tempdir().expect("a folder");
    let oracle = MemoryStore::new();
    let mut store = SledStore::open(folder.path()).expect("open");
    let mut compacted = 0;
    for step in steps {
        let newest = oracle.current_revision().await.expect("revision");
        match step {
            Step::Txn { compare, ops } => {
                let txn = transaction(&oracle, compare, ops).await;
                same(oracle.txn(txn.clone()).await, store.txn(txn).await);
            }
            Step::Range { prefix, start, back, limit } => {
                let start = if start == 0 { String::new() } else { key(start) };
                let revision = if back == 0 { 0 } else { newest.saturating_sub(back).max(1) };
                let request = RangeRequest { prefix: prefix.into(), start, revision, limit };
                same(oracle.range(request.clone()).await, store.range(request).await);
            }
            Step::Compact { back } => {
                let to = newest.saturating_sub(back);
                same(oracle.compact(to).await, store.compact(to).await);
                compacted = to.max(compacted);
            }
            Step::Reopen => {
                drop(store);
                store = SledStore::open(folder.path()).expect("open again");
            }
        }
        let revision = store.current_revision().await.expect("revision");
        assert_eq!(oracle.current_revision().await.expect("revision"), revision);
    }
    drop(store);
    let store = SledStore::open(folder.path()).expect("open again");
    same_history(&oracle, &store, compacted).await;
}

async fn transaction(
    oracle: &MemoryStore,
    compare: Vec<(u8, Guess)>,
    ops: Vec<(u8, Option<usize>)>,
) -> Txn {
    let mut txn = Txn::default();
    for (n, guess) in compare {
        let request = RangeRequest { prefix: key(n), ..RangeRequest::default() };
        let found = oracle.range(request).await.expect("range").items;
        let at = found.first().map_or(0, |item| item.mod_revision);
        let mod_revision = match guess {
            Guess::Right => at,
            Guess::Absent => 0,
            Guess::Back(by) => at.saturating_sub(by),
        };
        txn.compare.push(Compare { key: key(n).into(), mod_revision });
    }
    let mut named = BTreeSet::new();
    for (n, size) in ops.into_iter().filter(|(n, _)| named.insert(*n)) {
        let key = key(n).into();
        txn.ops.push(match size {
            Some(size) => Op::Put { key, value: vec![n; size].into() },
            None => Op::Delete { key },
        });
    }
    txn
}

/// Every revision that both still know, and the changes between, are the same.
async fn same_history(oracle: &MemoryStore, store: &SledStore, compacted: Revision) {
    let newest = oracle.current_revision().await.expect("revision");
    for revision in compacted.max(1)..=newest {
        let request = RangeRequest { revision, ..RangeRequest::default() };
        same(oracle.range(request.clone()).await, store.range(request).await);
    }
    let mut expected = oracle.watch("/a/", compacted).await.expect("watch");
    let mut found = store.watch("/a/", compacted).await.expect("watch");
    let last = Txn { ops: vec![Op::Put { key: "/a/".into(), value: [].into() }], ..Txn::default() };
    for each in [oracle as &dyn Store, store] {
        each.txn(last.clone()).await.expect("a last change, so that there is one");
    }
    let (mut one, mut other) = (Vec::new(), Vec::new());
    for (watch, events) in [(&mut expected, &mut one), (&mut found, &mut other)] {
        while events.last().is_none_or(|e: &windlass_apiserver_store::Event| &**e.key() != "/a/") {
            events.extend(take(watch, 1).await);
        }
    }
    // What stood before is forgotten at compaction by whoever was opened since.
    let plain = |events: Vec<windlass_apiserver_store::Event>| {
        let parts = events.iter().map(|e| (e.key().clone(), e.revision(), e.now().cloned()));
        parts.collect::<Vec<_>>()
    };
    assert_eq!(plain(one), plain(other));
}

fn same<T: PartialEq + std::fmt::Debug>(
    expected: Result<T, StoreError>,
    found: Result<T, StoreError>,
) {
    match (expected, found) {
        (Ok(expected), Ok(found)) => assert_eq!(expected, found),
        (Err(expected), Err(found)) => assert_eq!(expected.to_string(), found.to_string()),
        (expected, found) => panic!("expected {expected:?}, found {found:?}"),
    }
}
