//! A database that was tampered with, or that a disk gave back wrong: either everything
//! acknowledged is still there, or opening says `Damaged` and names the file; and it says so again
//! the next time.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use futures::executor::block_on;
use windlass_apiserver_store::{RangeResponse, SledStore, StoreError};

use crate::common::{all, commit, put};

/// A database with some history, closed, and what is in it.
fn written() -> (tempfile::TempDir, RangeResponse) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut content = None;
    // Opened twice, so that there is a snapshot besides the log.
    for round in 0..2 {
        let store = SledStore::open(folder.path()).expect("open");
        block_on(async {
            for n in 0..200 {
                let value = [b'a' + round; 1500];
                commit(&store, put(&format!("/{}", n % 120), value)).await.expect("commit");
            }
            content = Some(all(&store).await);
        });
    }
    (folder, content.expect("two rounds"))
}

/// Opens the folder; what it holds, or which file is damaged.
fn open(folder: &Path) -> Result<RangeResponse, PathBuf> {
    match SledStore::open(folder) {
        Ok(store) => Ok(block_on(all(&store))),
        Err(StoreError::Damaged { path, why }) => {
            assert!(!why.is_empty());
            Err(path.into())
        }
        Err(other) => panic!("neither open nor damaged: {other}"),
    }
}

fn assert_damaged(folder: &Path, file: &str) {
    for attempt in 0..2 {
        assert_eq!(open(folder), Err(folder.join(file)), "attempt {attempt}");
    }
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x40], at).expect("write");
}

#[test]
fn a_flipped_byte_loses_nothing_silently() {
    let (folder, content) = written();
    let copy = tempfile::tempdir().expect("a folder");
    let log_bytes = fs::metadata(folder.path().join("db")).expect("db").len();
    let mut damaged = 0;
    // A prime step, so that headers, keys, values and free space are all met.
    for at in (7..log_bytes).step_by((log_bytes / 60) as usize | 1) {
        copy_files(folder.path(), copy.path());
        flip(&copy.path().join("db"), at);
        match open(copy.path()) {
            Ok(found) => assert_eq!(found, content, "flipped at {at}"),
            Err(path) => {
                assert_eq!(path, copy.path().join("db"), "flipped at {at}");
                damaged += 1;
            }
        }
    }
    assert!(damaged > 0, "no flip met anything that counts");
}

#[test]
fn a_truncated_log_is_damaged() {
    let (folder, _) = written();
    let path = folder.path().join("db");
    let log = OpenOptions::new().write(true).open(&path).expect("open");
    let bytes = log.metadata().expect("metadata").len();
    log.set_len(bytes / 3).expect("truncate");
    assert_damaged(folder.path(), "db");
}

#[test]
fn an_emptied_or_removed_log_is_damaged() {
    let (folder, _) = written();
    fs::remove_file(folder.path().join("db")).expect("remove");
    assert_damaged(folder.path(), "db");
    let (folder, _) = written();
    fs::write(folder.path().join("db"), b"").expect("truncate");
    assert_damaged(folder.path(), "db");
}

#[test]
fn a_damaged_snapshot_or_configuration_is_named() {
    let (folder, _) = written();
    let snapshot = fs::read_dir(folder.path())
        .expect("folder")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
        .find(|name| name.starts_with("snap."))
        .expect("a snapshot");
    flip(&folder.path().join(&snapshot), 40);
    assert_damaged(folder.path(), &snapshot);

    let (folder, _) = written();
    flip(&folder.path().join("conf"), 2);
    assert_damaged(folder.path(), "conf");
}

#[test]
fn a_snapshot_left_unfinished_is_no_damage() {
    let (folder, content) = written();
    fs::write(folder.path().join("snap.0000000000ABCDEF.generating"), b"half").expect("write");
    assert_eq!(open(folder.path()), Ok(content));
}

fn copy_files(from: &Path, to: &Path) {
    fs::remove_dir_all(to).expect("empty");
    fs::create_dir_all(to.join("blobs")).expect("folder");
    for entry in fs::read_dir(from).expect("folder").flatten() {
        if entry.file_type().expect("type").is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copy");
        }
    }
}
