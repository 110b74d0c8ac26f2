//! What a container sees of the node's files: WASI knows folders that are open from the start, so
//! each mounted folder is one, and files mounted into the same folder share one that is made for
//! them. Folders are opened at the container's first request or command, once, and stay open: that
//! is also what a guest with a handle to a folder would see when its content is swapped.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{DirBuilderExt, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use cap_std::{
    ambient_authority,
    fs::{Dir, MetadataExt as _},
};
use tokio::sync::OnceCell;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder, filesystem::WasiFilesystemCtx};
use windlass_runtime_api::{LateMounts, Mount, RuntimeError};

/// The folders of one container.
pub struct Mounts {
    mounts: Vec<Mount>,
    /// Where folders for single files are made, when they are needed.
    staging: PathBuf,
    late: Option<LateMounts>,
    opened: OnceCell<Opened>,
}

#[derive(Clone)]
struct Opened {
    wasi: WasiFilesystemCtx,
    folders: Arc<[Folder]>,
}

/// One folder of the node as the container sees it.
#[derive(Clone, Debug)]
pub struct Folder {
    pub container_path: String,
    path: PathBuf,
    /// Device and number of what was at the path when the container's folders were opened.
    identity: (u64, u64),
    pub read_only: bool,
    pub limit_bytes: Option<u64>,
}

/// One folder that a guest finds open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Preopen {
    container_path: String,
    read_only: bool,
    limit_bytes: Option<u64>,
    content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    Folder(PathBuf),
    /// Name and file of the node.
    Files(Vec<(String, PathBuf)>),
}

impl Folder {
    pub fn new(
        container_path: &str,
        path: PathBuf,
        read_only: bool,
        limit_bytes: Option<u64>,
    ) -> io::Result<Self> {
        let found = fs::metadata(&path).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        let identity = (found.dev(), found.ino());
        Ok(Self {
            container_path: container_path.to_owned(),
            path,
            identity,
            read_only,
            limit_bytes,
        })
    }

    /// The folder that the container has, and no other: a container that has all of a volume can put
    /// a symlink where another has a subPath of it.
    pub fn open(&self) -> io::Result<Dir> {
        let dir = Dir::open_ambient_dir(&self.path, ambient_authority())?;
        let found = dir.dir_metadata()?;
        match (found.dev(), found.ino()) == self.identity {
            true => Ok(dir),
            false => Err(io::Error::other("what is mounted here was replaced by something else")),
        }
    }
}

impl Mounts {
    /// Refuses what can't be shown to a guest; opens nothing yet.
    pub fn new(
        mounts: Vec<Mount>,
        late: Option<LateMounts>,
        staging: PathBuf,
    ) -> Result<Self, RuntimeError> {
        plan(&mounts, |path| path.is_file())?;
        Ok(Self { mounts, late, staging, opened: OnceCell::new() })
    }

    /// Makes what isn't there yet and opens the folders, the first time; a failure is tried again.
    pub async fn open(&self) -> Result<(), String> {
        if self.mounts.is_empty() {
            return Ok(());
        }
        let opened = self.opened.get_or_try_init(async || {
            if let Some(late) = &self.late {
                late.make().await.map_err(|error| error.message)?;
            }
            self.open_all().map_err(|error| error.to_string())
        });
        opened.await.map(|_| ())
    }

    /// The folders, open. None: the container has none.
    pub fn opened(&self) -> io::Result<Option<WasiFilesystemCtx>> {
        match self.opened.get() {
            None if !self.mounts.is_empty() => Err(io::Error::other("they were not opened before")),
            opened => Ok(opened.map(|opened| opened.wasi.clone())),
        }
    }

    /// The file of the node behind a path of the container. None where no mount has it, or a
    /// symbolic link leads out of the mount.
    pub fn resolve(&self, path: &str) -> Option<PathBuf> {
        let path = clean(path).ok()?;
        let below = |mount: &&Mount| {
            let folder = clean(&mount.container_path).ok()?;
            let rest = path.strip_prefix(folder.trim_end_matches('/'))?;
            (rest.is_empty() || rest.starts_with('/')).then_some(rest.len())
        };
        let mount = self.mounts.iter().filter(|m| below(m).is_some()).min_by_key(below)?;
        let rest = &path[path.len() - below(&mount)?..];
        let file = fs::canonicalize(mount.host_path.join(rest.trim_start_matches('/'))).ok()?;
        let root = fs::canonicalize(&mount.host_path).ok()?;
        if mount.resolved && root != mount.host_path {
            return None;
        }
        file.starts_with(&root).then_some(file)
    }

    /// The same folders, for who looks at them from outside.
    pub async fn folders(&self) -> Result<Arc<[Folder]>, String> {
        self.open().await?;
        Ok(self.opened.get().map(|opened| opened.folders.clone()).unwrap_or_default())
    }

    fn open_all(&self) -> io::Result<Opened> {
        let planned = plan(&self.mounts, |path| path.is_file());
        let planned = planned.map_err(|error| io::Error::other(error.message))?;
        let mut builder = WasiCtxBuilder::new();
        let mut folders = Vec::with_capacity(planned.len());
        for (number, preopen) in planned.iter().enumerate() {
            let held;
            let folder = match &preopen.content {
                Content::Folder(folder) if self.is_resolved(folder) => {
                    held = unmoved(folder)?;
                    by_descriptor(&held)
                }
                Content::Folder(folder) => folder.clone(),
                Content::Files(files) => self.stage(number, files, preopen.read_only)?,
            };
            let named = |error: String| io::Error::other(format!("{}: {error}", folder.display()));
            let perms = if preopen.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            builder
                .preopened_dir(&folder, &preopen.container_path, perms)
                .map_err(|error| named(format!("{error:#}")))?;
            let opened = Folder::new(
                &preopen.container_path,
                folder,
                preopen.read_only,
                preopen.limit_bytes,
            )?;
            // Its descriptor is closed then.
            let path = match &preopen.content {
                Content::Folder(folder) => folder.clone(),
                Content::Files(_) => opened.path.clone(),
            };
            folders.push(Folder { path, ..opened });
        }
        Ok(Opened { wasi: builder.build().filesystem().clone(), folders: folders.into() })
    }

    fn is_resolved(&self, host_path: &Path) -> bool {
        self.mounts.iter().any(|mount| mount.resolved && mount.host_path == host_path)
    }

    /// A folder with just these files. What is only read is copied, because a mounted file doesn't
    /// follow its volume; what is written is the same file.
    fn stage(
        &self,
        number: usize,
        files: &[(String, PathBuf)],
        read_only: bool,
    ) -> io::Result<PathBuf> {
        let folder = self.staging.join(number.to_string());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for (name, file) in files {
            let to = folder.join(name);
            let _ = fs::remove_file(&to);
            let held = match self.is_resolved(file) {
                true => unmoved(file)?,
                false => fs::File::open(file)?,
            };
            let staged = if read_only {
                fs::copy(by_descriptor(&held), &to).map(|_| ())
            } else {
                let (from, follow) = (by_descriptor(&held), rustix::fs::AtFlags::SYMLINK_FOLLOW);
                Ok(rustix::fs::linkat(rustix::fs::CWD, from, rustix::fs::CWD, &to, follow)?)
            };
            staged.map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", file.display()))
            })?;
        }
        Ok(folder)
    }
}

/// A file or folder, open, that is at this path and has no symlink on the way to it.
fn unmoved(path: &Path) -> io::Result<fs::File> {
    // Whoever could put a symlink there could put a pipe there, too.
    let open = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    match fs::read_link(by_descriptor(&open))? == path {
        true => Ok(open),
        false => {
            let why = format!("{}: a symlink took the place of the subPath", path.display());
            Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
        }
    }
}

/// A path that leads to what is open, whatever its name has become.
fn by_descriptor(open: &fs::File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()))
}

impl Drop for Mounts {
    fn drop(&mut self) {
        if self.opened.initialized() {
            // Often there is none; one that stays is removed at the node's next start.
            let _ = fs::remove_dir_all(&self.staging);
        }
    }
}

/// The folders that show all mounts.
fn plan(mounts: &[Mount], is_file: impl Fn(&Path) -> bool) -> Result<Vec<Preopen>, RuntimeError> {
    let refused = |why: String| RuntimeError::new("CreateContainerConfigError", why);
    let mut planned: BTreeMap<String, Preopen> = BTreeMap::new();
    for mount in mounts {
        let path = clean(&mount.container_path).map_err(refused)?;
        let (container_path, content) = if is_file(&mount.host_path) {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
            if name.is_empty() {
                return Err(refused("a single file can't be mounted at /".into()));
            }
            let parent = if parent.is_empty() { "/" } else { parent };
            (parent.to_string(), Content::Files(vec![(name.into(), mount.host_path.clone())]))
        } else {
            (path.clone(), Content::Folder(mount.host_path.clone()))
        };
        let (read_only, limit_bytes) = (mount.read_only, mount.limit_bytes);
        let new = Preopen { container_path, read_only, limit_bytes, content };
        match planned.get_mut(&new.container_path) {
            None => {
                planned.insert(new.container_path.clone(), new);
            }
            Some(present) => present.join(new).map_err(|()| {
                refused(format!(
                    "mount path {path:?}: a WASM guest can't see it beside another mount at {:?}",
                    present.container_path
                ))
            })?,
        }
    }
    Ok(planned.into_values().collect())
}

impl Preopen {
    /// Files of one folder come together, if they may all be written or none.
    fn join(&mut self, other: Self) -> Result<(), ()> {
        match (&mut self.content, other.content) {
            (Content::Files(files), Content::Files(more)) if self.read_only == other.read_only => {
                files.extend(more);
                Ok(())
            }
            _ => Err(()),
        }
    }
}

/// `/a//b/./c/` as `/a/b/c`.
fn clean(path: &str) -> Result<String, String> {
    if path.split('/').any(|part| part == "..") {
        return Err(format!("mount path {path:?} must not contain '..'"));
    }
    let parts: Vec<&str> =
        path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    /// `HOST:PATH[:ro]`; host paths with a dot are files.
    fn check(mounts: &[&str], expected: Expect) {
        let mount = |text: &&str| {
            let parts: Vec<_> = text.split(':').collect();
            Mount {
                host_path: parts[0].into(),
                container_path: parts[1].into(),
                read_only: parts.len() > 2,
                ..Mount::default()
            }
        };
        let mounts: Vec<_> = mounts.iter().map(mount).collect();
        let planned = plan(&mounts, |path| path.to_string_lossy().contains('.'));
        let text = match planned {
            Err(error) => error.message,
            Ok(planned) => planned.iter().map(show).collect::<Vec<_>>().join("\n"),
        };
        expected.assert_eq(&text);
    }

    fn show(preopen: &Preopen) -> String {
        let mode = if preopen.read_only { "ro" } else { "rw" };
        format!("{} {mode} {:?}", preopen.container_path, preopen.content)
    }

    #[test]
    fn mounts_become_folders() {
        check(&[], expect![""]);
        check(
            &["v/data:/data/", "v/conf:/etc//app:ro"],
            expect![[r#"
            /data rw Folder("v/data")
            /etc/app ro Folder("v/conf")"#]],
        );
        check(
            &["v/a.txt:/etc/a.txt:ro", "v/b.txt:/etc/b.txt:ro"],
            expect![[r#"/etc ro Files([("a.txt", "v/a.txt"), ("b.txt", "v/b.txt")])"#]],
        );
        check(
            &["v/a.txt:/etc/a.txt:ro", "v/b.txt:/etc/b.txt"],
            expect![[
                r#"mount path "/etc/b.txt": a WASM guest can't see it beside another mount at "/etc""#
            ]],
        );
        check(
            &["v/data:/data", "v/a.txt:/data/a.txt"],
            expect![[
                r#"mount path "/data/a.txt": a WASM guest can't see it beside another mount at "/data""#
            ]],
        );
        check(
            &["v/data:/data", "v/other:/data"],
            expect![[
                r#"mount path "/data": a WASM guest can't see it beside another mount at "/data""#
            ]],
        );
        check(
            &["v/data:/data/../etc"],
            expect![[r#"mount path "/data/../etc" must not contain '..'"#]],
        );
    }
}
