//! A process that writes in a loop is killed, twenty times, on one database: what it was told is
//! committed is there, revisions only grow, and a watch over all of it sees each change once.

use std::{
    collections::BTreeMap,
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use futures::future::join_all;
use windlass_apiserver_store::{
    Compare, Op, Revision, SledStore, Store, Txn, TxnOutcome, conformance,
};

use crate::common::all;

const ROUNDS: usize = 20;
const WRITERS: usize = 6;
const FOLDER: &str = "WINDLASS_TEST_CRASH_FOLDER";

/// What the child says: this key has this number since this revision.
type Acknowledged = BTreeMap<String, (u64, Revision)>;

#[tokio::test]
async fn killed_twenty_times_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut acknowledged = Acknowledged::new();
    let mut newest: Revision = 0;
    let mut compacted: Revision = 1;
    for round in 0..ROUNDS {
        // Different places in the batch and the flush: after 30, 37, 44, ... answers.
        newest = write_and_kill(folder.path(), 30 + 7 * round, &mut acknowledged).max(newest);
        let store = SledStore::open(folder.path()).expect("it opens after a kill");
        newest = check(&store, newest, compacted, &acknowledged).await;
        if round % 4 == 3 {
            compacted = newest - 50;
            store.compact(compacted).await.expect("compact");
        }
    }
    assert!(newest > 20 * 30, "revisions grew to {newest} only");
}

/// Starts the child on the folder, notes its acknowledgements, kills it after so many.
fn write_and_kill(folder: &Path, answers: usize, acknowledged: &mut Acknowledged) -> Revision {
    let mut child = Command::new(env::current_exe().expect("this test"))
        .args(["--exact", "crash::child_that_writes_until_it_is_killed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (mut seen, mut newest) = (0, 0);
    // The rest of the pipe is read after the kill: those lines were acknowledged too.
    for line in lines {
        let line = line.expect("text");
        let Some((key, number, revision)) = parse(&line) else { continue };
        newest = newest.max(revision);
        let before = acknowledged.insert(key.into(), (number, revision));
        assert!(before.is_none_or(|(_, at)| at < revision), "{line} after {before:?}");
        seen += 1;
        if seen == answers {
            child.kill().expect("SIGKILL");
        }
    }
    child.wait().expect("it ends");
    assert!(seen >= answers, "the child stopped by itself after {seen} writes");
    newest
}

async fn check(
    store: &SledStore,
    newest: Revision,
    compacted: Revision,
    acknowledged: &Acknowledged,
) -> Revision {
    let found = all(store).await;
    assert!(found.revision >= newest, "revision {} after {newest}", found.revision);
    let numbers: BTreeMap<&str, u64> =
        found.items.iter().map(|item| (&*item.key, number(&item.value))).collect();
    for (key, (number, revision)) in acknowledged {
        let stored = numbers.get(key.as_str()).copied().unwrap_or(0);
        // A writer has one write under way: at most that one is newer than what was acknowledged.
        assert!((*number..=number + 1).contains(&stored), "{key}={stored}, {number} at {revision}");
    }
    // Each revision wrote a writer's key and its log entry: a torn one would show here.
    for (key, number) in numbers.iter().filter(|(key, _)| key.starts_with("/count/")) {
        let entry = key.replace("/count/", "/entry/");
        assert_eq!(numbers.get(entry.as_str()), Some(number), "{key} and its entry");
    }

    let mut watch = store.watch("/count/", compacted).await.expect("watch");
    let expected = (found.revision - compacted) as usize;
    let events = conformance::take(&mut watch, expected).await;
    let revisions: Vec<_> = events.iter().map(|event| event.revision()).collect();
    assert_eq!(revisions, (compacted + 1..=found.revision).collect::<Vec<_>>());
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for event in &events {
        let now = number(&event.now().expect("nothing is deleted").value);
        let before = last.insert(event.key(), now);
        assert!(before.is_none_or(|before| now == before + 1), "{} {before:?} {now}", event.key());
    }
    found.revision
}

/// Not a test by itself: what the killed process runs. Without a folder there is nothing to do.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Some(folder) = env::var_os(FOLDER).map(PathBuf::from) else { return };
    let store = SledStore::open(&folder).expect("open");
    join_all((0..WRITERS).map(|id| count(&store, id))).await;
}

/// Counts a key up forever, and tells each step that was acknowledged.
async fn count(store: &SledStore, id: usize) {
    let (key, entry) = (format!("/count/{id}"), format!("/entry/{id}"));
    let found = all(store).await;
    let found = found.items.iter().find(|item| *item.key == *key);
    let mut at = found.map_or(0, |item| item.mod_revision);
    let mut n = found.map_or(0, |item| number(&item.value));
    loop {
        n += 1;
        // Long values now and then: chunks are cut off by a kill too.
        let mut value = format!("{n} ").into_bytes();
        value.resize(value.len() + if n.is_multiple_of(5) { 20_000 } else { 500 }, b'x');
        let put = |key: &str| Op::Put { key: key.into(), value: value.clone().into() };
        let txn = Txn {
            compare: vec![Compare { key: key.as_str().into(), mod_revision: at }],
            ops: vec![put(&key), put(&entry)],
        };
        let TxnOutcome::Committed(revision) = store.txn(txn).await.expect("a write") else {
            panic!("somebody else wrote {key}")
        };
        at = revision;
        // One write call a line, so that a kill can't leave half of one.
        let line = format!("\nack {key} {n} {revision}\n");
        std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
    }
}

fn parse(line: &str) -> Option<(&str, u64, Revision)> {
    let (key, rest) = line.strip_prefix("ack ")?.split_once(' ')?;
    let (number, revision) = rest.split_once(' ')?;
    Some((key, number.parse().ok()?, revision.parse().ok()?))
}

fn number(value: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(value);
    text.split(' ').next().and_then(|n| n.parse().ok()).expect("values begin with a number")
}
