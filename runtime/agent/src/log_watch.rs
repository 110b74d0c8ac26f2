//! Wakes whoever follows a log when there may be more of it: Linux tells of changed files
//! (inotify(7)), whoever writes them, and the agent tells of containers that ended. One descriptor
//! serves all followers of a node, because a user has 128 of them by default.

use std::{
    collections::HashMap,
    io,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::{io::unix::AsyncFd, sync::watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How often a log is looked at where Linux refuses to tell (too many files are watched already).
const LOOK_EVERY: Duration = Duration::from_secs(1);
const EVENTS_BYTES: usize = 4096;

/// The followers of a node's logs.
pub(crate) struct LogWatch {
    /// Made for the first follower: most nodes have none.
    files: OnceLock<Option<Files>>,
    containers: watch::Sender<()>,
}

struct Files {
    shared: Arc<Shared>,
    _stop: DropGuard,
}

struct Shared {
    inotify: AsyncFd<OwnedFd>,
    folders: Mutex<HashMap<i32, Folder>>,
}

struct Folder {
    followers: usize,
    changed: watch::Sender<()>,
}

/// A folder with logs that somebody follows.
pub(crate) struct Watched {
    folder: Option<(Arc<Shared>, i32, watch::Receiver<()>)>,
    containers: watch::Receiver<()>,
}

impl LogWatch {
    pub fn new() -> Self {
        Self { files: OnceLock::new(), containers: watch::channel(()).0 }
    }

    /// A container began or ended.
    pub fn container_changed(&self) {
        self.containers.send_replace(());
    }

    /// From now on changes in the folder are noticed. It is made where it is missing. Must be
    /// called on a tokio runtime.
    pub fn watch(&self, folder: &Path) -> Watched {
        let files = self.files.get_or_init(|| Files::start().inspect_err(warn).ok());
        let watched = files.as_ref().and_then(|files| {
            let made = std::fs::create_dir_all(folder);
            made.and_then(|()| files.shared.add(folder)).inspect_err(warn).ok()
        });
        let folder = files.as_ref().zip(watched);
        let folder = folder.map(|(files, (id, changed))| (files.shared.clone(), id, changed));
        Watched { folder, containers: self.containers.subscribe() }
    }
}

fn warn(error: &io::Error) {
    tracing::warn!(%error, "files can't be watched: followed logs are looked at every second");
}

impl Watched {
    /// Returns once something changed since the last call, or since the watch began.
    pub async fn changed(&mut self) {
        let file = async {
            match &mut self.folder {
                // The sender lives as long as a follower does.
                Some((.., changed)) => drop(changed.changed().await),
                None => tokio::time::sleep(LOOK_EVERY).await,
            }
        };
        tokio::select! {
            () = file => {}
            _ = self.containers.changed() => {}
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some((shared, id, _)) = &self.folder {
            shared.release(*id);
        }
    }
}

impl Files {
    fn start() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[allow(deprecated, reason = "what it warns of needs a descriptor that is not owned")]
        let inotify = AsyncFd::new(inotify)?;
        let shared = Arc::new(Shared { inotify, folders: Mutex::default() });
        let (stop, reading) = (CancellationToken::new(), shared.clone());
        tokio::spawn({
            let stop = stop.clone();
            async move { stop.run_until_cancelled(reading.tell()).await }
        });
        Ok(Self { shared, _stop: stop.drop_guard() })
    }
}

impl Shared {
    fn add(&self, path: &Path) -> io::Result<(i32, watch::Receiver<()>)> {
        let changes = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_FROM;
        // Under the lock: the same folder has the same number, and another follower may go now.
        let mut folders = self.folders.lock();
        let id = inotify::add_watch(self.inotify.get_ref(), path, changes)?;
        let folder = folders
            .entry(id)
            .or_insert_with(|| Folder { followers: 0, changed: watch::channel(()).0 });
        folder.followers += 1;
        Ok((id, folder.changed.subscribe()))
    }

    fn release(&self, id: i32) {
        let mut folders = self.folders.lock();
        let Some(folder) = folders.get_mut(&id) else { return };
        folder.followers -= 1;
        if folder.followers == 0 {
            folders.remove(&id);
            // It is gone already where the folder is.
            let _ = inotify::remove_watch(self.inotify.get_ref(), id);
        }
    }

    /// Passes on what Linux tells.
    async fn tell(&self) {
        loop {
            // An error means that the runtime is being shut down.
            let Ok(mut ready) = self.inotify.readable().await else { return };
            let mut buffer = [MaybeUninit::uninit(); EVENTS_BYTES];
            let mut events = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
            while let Ok(event) = events.next() {
                let folders = self.folders.lock();
                match folders.get(&event.wd()) {
                    Some(folder) => folder.changed.send_replace(()),
                    // Events were lost: anything may have changed.
                    None if event.wd() < 0 => {
                        folders.values().for_each(|folder| folder.changed.send_replace(()));
                    }
                    None => {}
                }
            }
            ready.clear_ready();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn soon(watched: &mut Watched) -> bool {
        tokio::time::timeout(Duration::from_secs(20), watched.changed()).await.is_ok()
    }

    #[tokio::test]
    async fn followers_are_woken_by_writes_and_by_ends() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("pod/c");
        let logs = LogWatch::new();
        let (mut one, mut two) = (logs.watch(&folder), logs.watch(&folder));
        std::fs::write(folder.join("0.log"), "x").expect("write");
        assert!(soon(&mut one).await && soon(&mut two).await);
        drop(one);
        let shared = two.folder.as_ref().expect("Linux tells").0.clone();
        // What was told of the first write is taken in before the second.
        while tokio::time::timeout(Duration::from_millis(50), two.changed()).await.is_ok() {}
        logs.container_changed();
        assert!(soon(&mut two).await);
        std::fs::rename(folder.join("0.log"), folder.join("0.log.1")).expect("rename");
        assert!(soon(&mut two).await);
        drop(two);
        assert!(shared.folders.lock().is_empty());
    }
}
