//! A disk that fills up: writes are refused with the reason, reads go on, and when there is room
//! again so do writes, without a restart.

use std::{fs, path::Path};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use windlass_apiserver_store::{SledStore, Store, StoreError};

use crate::common::{all, commit, put};

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(options: &std::ffi::CStr) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test mounts a tmpfs: run it as root");
        let folder = tempfile::tempdir().expect("a folder");
        mount("tmpfs", folder.path(), "tmpfs", MountFlags::empty(), options)
            .expect("a tmpfs is mounted");
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_room() {
    let disk = SmallDisk::mount(c"size=160m");
    let store = SledStore::open(&disk.path().join("store")).expect("open");
    let before = commit(&store, put("/a", "1")).await.expect("there is room");

    let filler = disk.path().join("filler");
    // To the last byte, as careless neighbours do: the write fails when nothing is left.
    fs::write(&filler, vec![0; 200 << 20]).expect_err("the disk is full");
    for _ in 0..3 {
        let refused = commit(&store, put("/a", "2")).await.expect_err("no room");
        assert!(matches!(refused, StoreError::DiskFull { need_mib: 64, .. }), "{refused}");
    }
    assert!(matches!(store.degraded(), Some(StoreError::DiskFull { .. })));
    assert!(matches!(store.compact(before).await, Err(StoreError::DiskFull { .. })));
    assert_eq!(&*all(&store).await.items[0].value, b"1");
    assert_eq!(store.current_revision().await.expect("revision"), before);

    fs::remove_file(&filler).expect("make room");
    assert!(store.degraded().is_none());
    let after = commit(&store, put("/a", "2")).await.expect("there is room again");
    drop(store);
    let store = SledStore::open(&disk.path().join("store")).expect("open again");
    assert_eq!(all(&store).await.items[0].mod_revision, after);
}
