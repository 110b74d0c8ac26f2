//! What every store must do, whoever wrote it: one suite, run on each implementation from its
//! tests. It is a test that lives beside the contract, so it panics where the contract is broken.
//! Revisions are compared with the one found at the start, so a store may be shared.

use std::{collections::BTreeSet, sync::Arc};

use futures::{FutureExt, StreamExt};

use crate::{
    Batch, Compare, Event, Op, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn,
    TxnOutcome, WatchStream, watch::WATCH_BUFFER_BATCHES,
};

/// Runs the whole suite; `make` gives an empty store each time.
pub async fn run_all(make: impl AsyncFn() -> Arc<dyn Store>) {
    puts_count_versions(&*make().await).await;
    comparisons_decide(&*make().await).await;
    transactions_are_whole(&*make().await).await;
    bad_transactions_are_refused(&*make().await).await;
    nothing_changed_is_no_revision(&*make().await).await;
    ranges_are_ordered_and_bounded(&*make().await).await;
    ranges_look_back(&*make().await).await;
    compaction_forgets(&*make().await).await;
    watch_sees_each_change_once(&*make().await).await;
    watch_resumes_from_a_revision(&*make().await).await;
    watch_tells_progress(&*make().await).await;
    lagging_watcher_is_cut(&*make().await).await;
    values_of_all_sizes(&*make().await).await;
    concurrent_writers_lose_nothing(make().await).await;
    closing_ends_watches(make().await).await;
}

async fn puts_count_versions(store: &dyn Store) {
    let start = store.current_revision().await.expect("revision");
    assert!(start >= 1, "revision 0 means \"any\" to clients");
    let first = put(store, "/a", "1").await;
    let second = put(store, "/a", "2").await;
    assert!(start < first && first < second);
    assert_eq!(store.current_revision().await.expect("revision"), second);
    let item = &range(store, "/a", 0).await.items[0];
    assert_eq!((item.create_revision, item.mod_revision, item.version), (first, second, 2));
    assert_eq!(&*item.value, b"2");

    let deleted = delete(store, "/a").await;
    assert!(deleted > second);
    assert_eq!(range(store, "/a", 0).await.items, []);
    let again = put(store, "/a", "3").await;
    let item = &range(store, "/a", 0).await.items[0];
    assert_eq!((item.create_revision, item.mod_revision, item.version), (again, again, 1));
}

async fn comparisons_decide(store: &dyn Store) {
    let create = |value: &str| Txn { compare: vec![compare("/a", 0)], ops: vec![op("/a", value)] };
    let first = committed(store.txn(create("1")).await);
    let TxnOutcome::Failed { revision, current } = store.txn(create("2")).await.expect("answer")
    else {
        panic!("the key exists")
    };
    assert_eq!(revision, first);
    let current = current[0].as_ref().expect("the key as it is");
    assert_eq!((current.mod_revision, &*current.value), (first, &b"1"[..]));

    let update = |at| Txn { compare: vec![compare("/a", at)], ops: vec![op("/a", "3")] };
    let second = committed(store.txn(update(first)).await);
    assert!(matches!(store.txn(update(first)).await, Ok(TxnOutcome::Failed { .. })));
    let two = Txn {
        compare: vec![compare("/none", 0), compare("/a", second)],
        ops: vec![Op::Delete { key: "/a".into() }],
    };
    committed(store.txn(two.clone()).await);
    let Ok(TxnOutcome::Failed { current, .. }) = store.txn(two).await else {
        panic!("the key is gone")
    };
    assert_eq!(current, [None, None]);
}

async fn transactions_are_whole(store: &dyn Store) {
    put(store, "/a", "old").await;
    put(store, "/b", "old").await;
    let ops = vec![op("/a", "new"), Op::Delete { key: "/b".into() }, op("/c", "new")];
    let revision = committed(store.txn(Txn { compare: vec![], ops: ops.clone() }).await);
    let after = range(store, "/", 0).await;
    let names: Vec<_> = after.items.iter().map(|item| (&*item.key, item.mod_revision)).collect();
    assert_eq!(names, [("/a", revision), ("/c", revision)]);

    let refused = Txn { compare: vec![compare("/a", 1)], ops: vec![op("/d", "new")] };
    assert!(matches!(store.txn(refused).await, Ok(TxnOutcome::Failed { .. })));
    assert_eq!(range(store, "/", 0).await, after);
}

async fn bad_transactions_are_refused(store: &dyn Store) {
    let twice = Txn { compare: vec![], ops: vec![op("/a", "1"), op("/a", "2")] };
    assert!(matches!(store.txn(twice).await, Err(StoreError::Invalid(_))));
    let unnamed = Txn { compare: vec![], ops: vec![op("", "1")] };
    assert!(matches!(store.txn(unnamed).await, Err(StoreError::Invalid(_))));
    assert_eq!(range(store, "", 0).await.items, []);
}

async fn nothing_changed_is_no_revision(store: &dyn Store) {
    let before = put(store, "/a", "1").await;
    assert_eq!(committed(store.txn(Txn::default()).await), before);
    assert_eq!(delete(store, "/none").await, before);
    assert_eq!(store.current_revision().await.expect("revision"), before);
}

async fn ranges_are_ordered_and_bounded(store: &dyn Store) {
    for key in ["/b/2", "/a/1", "/b/10", "/b", "/c", "/b/1"] {
        put(store, key, key).await;
    }
    let page = async |start: &str, limit| {
        let request =
            RangeRequest { prefix: "/b/".into(), start: start.into(), revision: 0, limit };
        let answer = store.range(request).await.expect("range");
        let keys: Vec<String> = answer.items.iter().map(|item| item.key.to_string()).collect();
        (keys.join(" "), answer.more)
    };
    assert_eq!(page("", 0).await, ("/b/1 /b/10 /b/2".into(), false));
    assert_eq!(page("", 2).await, ("/b/1 /b/10".into(), true));
    assert_eq!(page("/b/10\0", 2).await, ("/b/2".into(), false));
    assert_eq!(page("/b/10", 2).await, ("/b/10 /b/2".into(), false));
    assert_eq!(page("/a", 1).await, ("/b/1".into(), true));
    assert_eq!(page("/c", 0).await, (String::new(), false));
}

async fn ranges_look_back(store: &dyn Store) {
    let before = store.current_revision().await.expect("revision");
    let first = put(store, "/a", "1").await;
    let second = put(store, "/b", "1").await;
    let third = put(store, "/a", "2").await;
    let gone = delete(store, "/b").await;
    for (revision, expected) in
        [(before, ""), (first, "/a=1"), (second, "/a=1 /b=1"), (third, "/a=2 /b=1"), (gone, "/a=2")]
    {
        let answer = range(store, "/", revision).await;
        assert_eq!(text(&answer), expected, "at {revision}");
        assert_eq!(answer.revision, gone);
    }
    let request = RangeRequest { revision: gone + 1, ..RangeRequest::default() };
    assert!(matches!(store.range(request).await, Err(StoreError::Future { .. })));
}

async fn compaction_forgets(store: &dyn Store) {
    let first = put(store, "/a", "1").await;
    put(store, "/b", "1").await;
    put(store, "/a", "2").await;
    let at = delete(store, "/b").await;
    put(store, "/a", "3").await;
    store.compact(at).await.expect("compact");

    assert_eq!(text(&range(store, "/", at).await), "/a=2");
    assert_eq!(text(&range(store, "/", 0).await), "/a=3");
    let request = RangeRequest { revision: first, ..RangeRequest::default() };
    assert!(matches!(store.range(request).await, Err(StoreError::Compacted { .. })));
    assert!(matches!(store.watch("/", at - 1).await, Err(StoreError::Compacted { .. })));
    let events = take(&mut store.watch("/", at).await.expect("watch"), 1).await;
    assert_eq!(events.iter().map(show).collect::<Vec<_>>(), ["put /a=3 before 2"]);

    store.compact(first).await.expect("an older compaction changes nothing");
    assert_eq!(text(&range(store, "/", at).await), "/a=2");
    let newest = store.current_revision().await.expect("revision");
    assert!(matches!(store.compact(newest + 1).await, Err(StoreError::Future { .. })));
    store.compact(newest).await.expect("compact to now");
    assert_eq!(text(&range(store, "/", 0).await), "/a=3");
}

async fn watch_sees_each_change_once(store: &dyn Store) {
    let start = store.current_revision().await.expect("revision");
    let mut watch = store.watch("/a/", start).await.expect("watch");
    let created = put(store, "/a/x", "1").await;
    put(store, "/b", "other").await;
    let ops = vec![op("/a/x", "2"), op("/a/y", "1"), op("/b", "other")];
    let both = committed(store.txn(Txn { compare: vec![], ops }).await);
    let gone = delete(store, "/a/x").await;

    let events = take(&mut watch, 4).await;
    let seen: Vec<_> = events.iter().map(|event| (show(event), event.revision())).collect();
    let expected = [
        ("put /a/x=1", created),
        ("put /a/x=2 before 1", both),
        ("put /a/y=1", both),
        ("delete /a/x before 2", gone),
    ];
    assert_eq!(seen, expected.map(|(text, revision)| (text.to_owned(), revision)));
    assert_no_more(&mut watch);
}

async fn watch_resumes_from_a_revision(store: &dyn Store) {
    let first = put(store, "/a", "1").await;
    let second = put(store, "/a", "2").await;
    delete(store, "/a").await;
    let seen = async |after| {
        let mut watch = store.watch("/", after).await.expect("watch");
        put(store, "/live", "x").await;
        let mut events = Vec::new();
        while events.last().is_none_or(|last: &String| !last.contains("/live")) {
            events.extend(take(&mut watch, 1).await.iter().map(show));
        }
        delete(store, "/live").await;
        events.into_iter().filter(|event| !event.contains("/live")).collect::<Vec<_>>().join(", ")
    };
    assert_eq!(seen(first).await, "put /a=2 before 1, delete /a before 2");
    assert_eq!(seen(second).await, "delete /a before 2");
    assert_eq!(seen(store.current_revision().await.expect("revision")).await, "");
    let future = store.current_revision().await.expect("revision") + 1;
    assert!(matches!(store.watch("/", future).await, Err(StoreError::Future { .. })));
}

async fn watch_tells_progress(store: &dyn Store) {
    let start = store.current_revision().await.expect("revision");
    let mut watch = store.watch("/a/", start).await.expect("watch");
    for n in 0..10 {
        put(store, "/b", &n.to_string()).await;
    }
    let newest = store.current_revision().await.expect("revision");
    let mut reached = start;
    while reached < newest {
        let batch = watch.next().await.expect("open").expect("no error");
        assert!(batch.events.is_empty() && batch.revision > reached);
        reached = batch.revision;
    }
    assert_eq!(reached, newest);
}

async fn lagging_watcher_is_cut(store: &dyn Store) {
    let start = store.current_revision().await.expect("revision");
    let mut lagging = store.watch("/", start).await.expect("watch");
    let mut lively = store.watch("/", start).await.expect("watch");
    let writes = WATCH_BUFFER_BATCHES + 100;
    for n in 0..writes {
        put(store, &format!("/{n}"), "x").await;
        assert_eq!(take(&mut lively, 1).await.len(), 1);
    }
    let (mut reached, mut seen) = (start, 0);
    let error = loop {
        match lagging.next().await.expect("it ends with an error") {
            Ok(Batch { revision, events }) => (reached, seen) = (revision, seen + events.len()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Lagged { .. }));
    assert!(lagging.next().await.is_none());
    let mut resumed = store.watch("/", reached).await.expect("watch");
    assert_eq!(take(&mut resumed, writes - seen).await.len(), writes - seen);
}

async fn values_of_all_sizes(store: &dyn Store) {
    for size in [0, 1, 5 << 10, (5 << 10) + 1, 6 << 10, (6 << 10) + 1, 12 << 10, 200_001, 3 << 20] {
        let value: Arc<[u8]> = (0..size).map(|n| (n % 251) as u8).collect();
        let ops = vec![Op::Put { key: format!("/{size}").into(), value: value.clone() }];
        committed(store.txn(Txn { compare: vec![], ops }).await);
        let item = range(store, &format!("/{size}"), 0).await.items.remove(0);
        assert!(item.value == value, "{size} bytes");
    }
}

/// Each writer counts one shared key up by comparison: every success is one step, none is lost.
async fn concurrent_writers_lose_nothing(store: Arc<dyn Store>) {
    const WRITERS: usize = 8;
    const STEPS: u64 = 25;
    put(&*store, "/n", "0").await;
    let start = store.current_revision().await.expect("revision");
    let mut watch = store.watch("/", start).await.expect("watch");
    let writer = async |id: usize| {
        for _ in 0..STEPS {
            loop {
                let item = range(&*store, "/n", 0).await.items.remove(0);
                let n: u64 = String::from_utf8_lossy(&item.value).parse().expect("a number");
                let txn = Txn {
                    compare: vec![compare("/n", item.mod_revision)],
                    ops: vec![op("/n", &(n + 1).to_string()), op(&format!("/w/{id}/{n}"), "x")],
                };
                if let TxnOutcome::Committed(_) = store.txn(txn).await.expect("answer") {
                    break;
                }
            }
        }
    };
    futures::future::join_all((0..WRITERS).map(writer)).await;
    let total = WRITERS as u64 * STEPS;
    assert_eq!(text(&range(&*store, "/n", 0).await), format!("/n={total}"));
    assert_eq!(range(&*store, "/w/", 0).await.items.len() as u64, total);
    let events = take(&mut watch, 2 * total as usize).await;
    let revisions: BTreeSet<_> = events.iter().map(Event::revision).collect();
    assert_eq!(revisions.len() as u64, total);
    assert!(events.is_sorted_by_key(Event::revision));
    assert_no_more(&mut watch);
}

async fn closing_ends_watches(store: Arc<dyn Store>) {
    let start = store.current_revision().await.expect("revision");
    let mut watch = store.watch("/", start).await.expect("watch");
    put(&*store, "/last", "x").await;
    drop(store);
    assert_eq!(take(&mut watch, 1).await.len(), 1);
    assert!(watch.next().await.is_none());
}

/// Reads `count` events, passing over progress; revisions of batches must grow.
pub async fn take(watch: &mut WatchStream, count: usize) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    let mut reached = 0;
    while events.len() < count {
        let batch = watch.next().await.expect("the watch goes on").expect("no error");
        assert!(batch.revision > reached, "{} after {reached}", batch.revision);
        assert!(
            batch.events.iter().all(|e| e.revision() > reached && e.revision() <= batch.revision)
        );
        reached = batch.revision;
        events.extend(batch.events);
    }
    events
}

fn assert_no_more(watch: &mut WatchStream) {
    if let Some(Some(next)) = watch.next().now_or_never() {
        assert_eq!(next.expect("no error").events, []);
    }
}

async fn range(store: &dyn Store, prefix: &str, revision: Revision) -> RangeResponse {
    let request = RangeRequest { prefix: prefix.into(), revision, ..RangeRequest::default() };
    store.range(request).await.expect("range")
}

async fn put(store: &dyn Store, key: &str, value: &str) -> Revision {
    committed(store.txn(Txn { compare: vec![], ops: vec![op(key, value)] }).await)
}

async fn delete(store: &dyn Store, key: &str) -> Revision {
    let ops = vec![Op::Delete { key: key.into() }];
    committed(store.txn(Txn { compare: vec![], ops }).await)
}

fn committed(outcome: Result<TxnOutcome, StoreError>) -> Revision {
    match outcome {
        Ok(TxnOutcome::Committed(revision)) => revision,
        other => panic!("not committed: {other:?}"),
    }
}

fn compare(key: &str, mod_revision: Revision) -> Compare {
    Compare { key: key.into(), mod_revision }
}

fn op(key: &str, value: &str) -> Op {
    Op::Put { key: key.into(), value: value.as_bytes().into() }
}

fn text(answer: &RangeResponse) -> String {
    let show = |key: &str, value: &[u8]| format!("{key}={}", String::from_utf8_lossy(value));
    let items: Vec<_> = answer.items.iter().map(|item| show(&item.key, &item.value)).collect();
    items.join(" ")
}

fn show(event: &Event) -> String {
    let value = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let before = event.before().map_or(String::new(), |b| format!(" before {}", value(&b.value)));
    match event.now() {
        Some(now) => format!("put {}={}{before}", now.key, value(&now.value)),
        None => format!("delete {}{before}", event.key()),
    }
}
