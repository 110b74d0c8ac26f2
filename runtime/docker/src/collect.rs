//! Images that this node had the engine pull go again when the engine's disk is short, those unused
//! for longest first, by upstream's thresholds. What people built or loaded there is theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::PathBuf,
    time::Duration,
};

use bollard::{
    Docker,
    query_parameters::{
        ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
    },
};
use parking_lot::Mutex;
use windlass_runtime_api::RuntimeError;
use windlass_sdk_meta::Timestamp;

use crate::{engine::said, runtime::Inner};

/// Upstream's `imageGCHighThresholdPercent` and `imageGCLowThresholdPercent`.
const HIGH_PERCENT: u64 = 85;
const LOW_PERCENT: u64 = 80;
/// How an engine's errors tell that its disk is full.
const DISK_FULL: &str = "no space left on device";
/// As often as upstream looks.
const EVERY: Duration = Duration::from_secs(300);

/// When each image that was pulled for a pod was used last, in seconds since 1970; kept in a file.
pub struct Pulled {
    path: PathBuf,
    used_at: Mutex<BTreeMap<String, i64>>,
}

impl Pulled {
    /// A file that can't be read means that nothing is collected which was pulled before.
    pub fn open(path: PathBuf) -> Self {
        let known = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path, used_at: Mutex::new(known.unwrap_or_default()) }
    }

    pub fn add(&self, id: &str, now: Timestamp) {
        self.change(|known| known.insert(id.to_owned(), now.as_second()) != Some(now.as_second()));
    }

    /// Remembers a use of an image, if it is one that was pulled.
    pub fn touch(&self, id: &str, now: Timestamp) {
        self.change(|known| match known.get_mut(id) {
            Some(at) => std::mem::replace(at, now.as_second()) != now.as_second(),
            None => false,
        });
    }

    /// Whether this node brought the image here.
    pub fn knows(&self, id: &str) -> bool {
        self.used_at.lock().contains_key(id)
    }

    fn forget(&self, id: &str) {
        self.change(|known| known.remove(id).is_some());
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, i64>) -> bool) {
        let mut known = self.used_at.lock();
        if !change(&mut known) {
            return;
        }
        let write = || -> io::Result<()> {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let part = self.path.with_extension("part");
            fs::write(&part, serde_json::to_vec(&*known)?)?;
            fs::rename(part, &self.path)
        };
        if let Err(error) = write() {
            tracing::warn!(path = %self.path.display(), %error, "uses of images are not kept");
        }
    }
}

/// One image that may go.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    id: String,
    size_bytes: u64,
    used_at: i64,
}

/// Which images go, so that no more than the low threshold is used: none below the high one.
fn plan(mut candidates: Vec<Candidate>, used_bytes: u64, disk_bytes: u64) -> Vec<String> {
    let part = |percent: u64| disk_bytes / 100 * percent;
    if disk_bytes == 0 || used_bytes < part(HIGH_PERCENT) {
        return Vec::new();
    }
    candidates.sort_by(|a, b| (a.used_at, &a.id).cmp(&(b.used_at, &b.id)));
    let mut left = used_bytes.saturating_sub(part(LOW_PERCENT));
    let mut going = Vec::new();
    for candidate in candidates {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(candidate.size_bytes);
        going.push(candidate.id);
    }
    going
}

impl Inner {
    /// Looks at the engine's disk for as long as it is polled.
    pub async fn collect_images(&self) {
        loop {
            tokio::time::sleep(EVERY).await;
            self.make_room().await;
        }
    }

    /// Whether something failed for want of room, which is there now: it may be tried again.
    pub async fn made_room<T>(&self, done: &Result<T, RuntimeError>) -> bool {
        let is_full = |error: &RuntimeError| error.message.contains(DISK_FULL);
        done.as_ref().err().is_some_and(is_full) && self.make_room().await
    }

    /// Removes images if the disk is short; true where some went.
    async fn make_room(&self) -> bool {
        let Ok(docker) = self.engine.docker() else { return false };
        match self.collect(&docker).await {
            Ok(removed) => removed > 0,
            Err(why) => {
                tracing::warn!(why, "images are not collected");
                false
            }
        }
    }

    async fn collect(&self, docker: &Docker) -> Result<usize, String> {
        let info = docker.info().await.map_err(|error| said(&error))?;
        let root = info.docker_root_dir.unwrap_or_default();
        let disk =
            rustix::fs::statvfs(root.as_str()).map_err(|error| format!("{root}: {error}"))?;
        let disk_bytes = disk.f_blocks.saturating_mul(disk.f_frsize);
        let used_bytes = disk_bytes.saturating_sub(disk.f_bavail.saturating_mul(disk.f_frsize));
        let candidates = self.candidates(docker).await?;
        let mut removed = 0;
        for id in plan(candidates, used_bytes, disk_bytes) {
            let options = RemoveImageOptionsBuilder::default().force(true).build();
            match docker.remove_image(&id, Some(options), None).await {
                Ok(_) => {
                    removed += 1;
                    tracing::info!(id, "image removed, because the engine's disk is short");
                }
                Err(error) => tracing::warn!(id, error = said(&error), "image stays"),
            }
            self.pulled.forget(&id);
        }
        Ok(removed)
    }

    /// Images that were pulled here and of which no container is made, not even a foreign one.
    async fn candidates(&self, docker: &Docker) -> Result<Vec<Candidate>, String> {
        let all = ListContainersOptionsBuilder::default().all(true).build();
        let containers = docker.list_containers(Some(all)).await.map_err(|error| said(&error))?;
        let in_use: BTreeSet<String> =
            containers.into_iter().filter_map(|container| container.image_id).collect();
        let options = ListImagesOptionsBuilder::default().build();
        let images = docker.list_images(Some(options)).await.map_err(|error| said(&error))?;
        let known = self.pulled.used_at.lock();
        let candidate = |image: bollard::models::ImageSummary| {
            let used_at = *known.get(&image.id)?;
            let size_bytes = image.size.try_into().unwrap_or_default();
            (!in_use.contains(&image.id)).then_some(Candidate { id: image.id, size_bytes, used_at })
        };
        Ok(images.into_iter().filter_map(candidate).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn going(used_bytes: u64) -> String {
        let image =
            |id: &str, size_bytes, used_at| Candidate { id: id.into(), size_bytes, used_at };
        let all = vec![image("new", 30, 30), image("old", 40, 10), image("middle", 30, 20)];
        plan(all, used_bytes, 1000).join(" ")
    }

    #[test]
    fn the_oldest_go_until_there_is_room() {
        assert_eq!(going(849), "");
        assert_eq!(going(850), "old middle");
        assert_eq!(going(840 + 30), "old middle");
        assert_eq!(going(890), "old middle new");
        assert_eq!(plan(Vec::new(), 1000, 1000), Vec::<String>::new());
        assert_eq!(plan(Vec::new(), 0, 0), Vec::<String>::new());
    }

    #[test]
    fn uses_are_kept_of_what_was_pulled_only() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("docker/pulled.json");
        let at = |seconds| Timestamp::from_second(seconds).expect("in range");
        let pulled = Pulled::open(path.clone());
        pulled.add("a", at(1));
        pulled.touch("a", at(5));
        pulled.touch("built", at(5));
        let again = Pulled::open(path);
        assert_eq!(*again.used_at.lock(), BTreeMap::from([("a".to_owned(), 5)]));
        again.forget("a");
        assert!(again.used_at.lock().is_empty());
    }
}
