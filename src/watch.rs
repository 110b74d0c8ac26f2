//! Tells when a project's sources change: Linux says so, of each folder that may hold some.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::ModifyKind,
    recommended_watcher,
};
use tokio::sync::mpsc;
use windlass_sdk_project::Project;

/// Folders that tools write to; those whose name begins with a dot are left out too.
const NO_SOURCES: [&str; 3] = ["target", "node_modules", "__pycache__"];
const MOST_FOLDERS: usize = 10_000;
/// An editor that saves many files does so within this.
const SETTLED: Duration = Duration::from_millis(50);

/// The sources of a project, from a moment on.
pub struct Sources {
    changes: mpsc::Receiver<()>,
    /// Something has changed, and nobody was told yet.
    changed: bool,
    _watcher: RecommendedWatcher,
}

impl Sources {
    /// Notices what changes from now on in the folders that are there now.
    pub fn watch(project: &Project) -> anyhow::Result<Self> {
        let (tell, changes) = mpsc::channel(1);
        let built = project.manifest.build.file.as_ref().map(|file| project.folder.join(file));
        let mut watcher = recommended_watcher(move |event: notify::Result<Event>| {
            if event.is_ok_and(|event| is_change(&event, built.as_deref())) {
                // One that waits tells as much as two.
                let _ = tell.try_send(());
            }
        })
        .context("files can't be watched")?;
        for folder in folders(&project.folder)? {
            let watched = watcher.watch(&folder, RecursiveMode::NonRecursive);
            watched.with_context(|| format!("{} can't be watched", folder.display()))?;
        }
        Ok(Self { changes, changed: false, _watcher: watcher })
    }

    /// Returns once something has changed, and nothing more for a moment. Nothing is lost where the
    /// caller stops waiting.
    pub async fn changed(&mut self) {
        if !self.changed && self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        self.changed = true;
        while let Ok(Some(())) = tokio::time::timeout(SETTLED, self.changes.recv()).await {}
        self.changed = false;
    }
}

/// Whether the event is one of sources: reading them is none, nor is what the build makes of them.
fn is_change(event: &Event, built: Option<&Path>) -> bool {
    let writes = match event.kind {
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Metadata(_)) => false,
        EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) => true,
        // Some were lost, perhaps.
        EventKind::Any | EventKind::Other => true,
    };
    writes && !event.paths.iter().any(|path| Some(path.as_path()) == built || !may_hold(path))
}

/// By its name.
fn may_hold(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    !name.starts_with('.') && !NO_SOURCES.contains(&&*name)
}

/// A folder and those below it that may hold sources.
fn folders(top: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = vec![top.to_owned()];
    let mut at = 0;
    while let Some(folder) = found.get(at).filter(|_| found.len() < MOST_FOLDERS).cloned() {
        at += 1;
        let entries = std::fs::read_dir(&folder);
        for entry in entries.with_context(|| format!("can't read {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() && may_hold(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use notify::event::{AccessKind, CreateKind, DataChange, MetadataKind};

    use super::*;

    #[test]
    fn what_tools_write_is_no_source() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let top = folder.path();
        for below in ["src/handlers", "target/debug", ".git/objects", "web/node_modules/x"] {
            fs::create_dir_all(top.join(below))?;
        }
        let mut found = folders(top)?;
        found.sort();
        assert_eq!(found, ["", "src", "src/handlers", "web"].map(|below| top.join(below)));

        let changed = |kind: EventKind, path: &str| {
            let event = Event::new(kind).add_path(top.join(path));
            is_change(&event, Some(&top.join("dist/app.wasm")))
        };
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        assert!(changed(data, "src/lib.rs"));
        assert!(changed(EventKind::Create(CreateKind::Folder), "src/new"));
        assert!(!changed(data, "dist/app.wasm"));
        assert!(!changed(EventKind::Create(CreateKind::Folder), "target"));
        assert!(!changed(EventKind::Access(AccessKind::Any), "src/lib.rs"));
        let metadata = EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any));
        assert!(!changed(metadata, "src/lib.rs"));
        Ok(())
    }

    #[tokio::test]
    async fn many_writes_are_one_change() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        fs::write(
            folder.path().join("windlass.toml"),
            "name = 'a'\nversion = '1'\nkind = 'http'\nbuild.language = 'rust'",
        )?;
        let mut sources = Sources::watch(&Project::open(folder.path())?)?;
        for n in 0..20 {
            fs::write(folder.path().join(format!("{n}.rs")), "")?;
        }
        tokio::time::timeout(Duration::from_secs(10), sources.changed()).await?;
        let again = tokio::time::timeout(SETTLED * 4, sources.changed()).await;
        assert!(again.is_err(), "the same writes are told twice");
        Ok(())
    }
}
