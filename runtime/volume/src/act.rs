//! Volumes on disk. Files of one volume change together: they live in a folder of their own, and a
//! link called `..data` is swapped to the next (as upstream's nodes do it, because programs watch
//! for that link). The names that containers open are links through `..data`.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, symlink},
    path::{Component, Path, PathBuf},
};

use windlass_sdk_meta::Timestamp;

use crate::plan::File;

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";
/// Where Linux keeps files in memory, for any user.
const MEMORY: &str = "/dev/shm";
const MEMORY_PREFIX: &str = "windlass-";
/// What upstream keeps of a termination message, in bytes.
const MESSAGE_BYTES: u64 = 4096;

/// Makes the folder hold exactly these files. False: it did so already. Two writers of one folder
/// must not meet.
pub fn write_files(folder: &Path, files: &[File], now: Timestamp) -> io::Result<bool> {
    let old = fs::read_link(folder.join(DATA)).ok().map(|name| folder.join(name));
    if old.as_ref().is_some_and(|old| holds(old, files)) {
        return Ok(false);
    }
    make_folder(folder, 0o755)?;
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S").to_string();
    let names = (0u32..).map(|number| format!("{stamp}.{number}"));
    let mut fresh = names.map(|name| folder.join(name));
    // The numbers don't end before a free one is found.
    let Some(fresh) = fresh.find(|path| !path.exists()) else { return Ok(false) };
    make_folder(&fresh, 0o755)?;
    for file in files {
        let path = fresh.join(&file.path);
        if let Some(parent) = path.parent() {
            make_folder(parent, 0o755)?;
        }
        fs::write(&path, &file.bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
    }
    let next = folder.join(DATA_NEXT);
    let _ = fs::remove_file(&next);
    symlink(fresh.file_name().unwrap_or_default(), &next)?;
    fs::rename(&next, folder.join(DATA))?;
    link_names(folder, files)?;
    if let Some(old) = old {
        // One that stays is only a waste of space.
        let _ = fs::remove_dir_all(old);
    }
    Ok(true)
}

/// Makes the folder of an emptyDir.
pub fn empty_dir(folder: &Path, mode: u32) -> io::Result<()> {
    if !folder.is_dir() {
        make_folder(folder, 0o777)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(mode & 0o1777))?;
    }
    Ok(())
}

/// Makes the folder of an emptyDir in memory: a link to a folder that only this user can enter.
pub fn memory_dir(folder: &Path, uid: &str, name: &str, mode: u32) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if !Path::new(MEMORY).is_dir() {
        return Err(io::Error::other(format!("this node has no {MEMORY}")));
    }
    let home = Path::new(MEMORY).join(format!("{MEMORY_PREFIX}{uid}-{name}"));
    make_folder(&home, 0o700)?;
    let data = home.join("data");
    empty_dir(&data, mode)?;
    if let Some(parent) = folder.parent() {
        make_folder(parent, 0o755)?;
    }
    // What a killed node left may be a link to nowhere.
    let _ = fs::remove_file(folder);
    symlink(data, folder)
}

/// Gives a volume to a group, which may then read it and, unless it is fixed, write it (`fsGroup`).
/// What is made in it later belongs to the group as well.
pub fn give_to_group(folder: &Path, group: u32, read_only: bool) -> io::Result<()> {
    // The folder of an emptyDir in memory is a link.
    let folder = fs::canonicalize(folder)?;
    let mut open = vec![folder];
    while let Some(path) = open.pop() {
        let known = fs::symlink_metadata(&path)?;
        std::os::unix::fs::lchown(&path, None, Some(group))?;
        if known.is_symlink() {
            continue;
        }
        let added = match (known.is_dir(), read_only) {
            (true, true) => 0o2550,
            (true, false) => 0o2770,
            (false, true) => 0o440,
            (false, false) => 0o660,
        };
        let mode = known.mode() & 0o7777 | added;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        if known.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
    }
    Ok(())
}

/// Holds a hostPath volume to its type, and makes what the type says is to be made.
pub fn host_path(path: &Path, sort: &str) -> Result<(), String> {
    let failed = |error: io::Error| format!("hostPath {}: {error}", path.display());
    let found = fs::metadata(path).ok().map(|known| known.file_type());
    let check = |holds: bool, what: &str| match holds {
        true => Ok(()),
        false => Err(format!("hostPath type check failed: {} is not {what}", path.display())),
    };
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(test);
    match sort {
        "" if found.is_some() => Ok(()),
        "" | "DirectoryOrCreate" if found.is_none() => make_folder(path, 0o755).map_err(failed),
        "Directory" | "DirectoryOrCreate" => check(is(fs::FileType::is_dir), "a directory"),
        "FileOrCreate" if found.is_none() => fs::write(path, "").map_err(failed),
        "File" | "FileOrCreate" => check(is(fs::FileType::is_file), "a file"),
        "Socket" => check(is(FileTypeExt::is_socket), "a socket file"),
        "CharDevice" => check(is(FileTypeExt::is_char_device), "a character device"),
        "BlockDevice" => check(is(FileTypeExt::is_block_device), "a block device"),
        other => Err(format!("hostPath type {other:?} is not known")),
    }
}

/// The path to mount of a volume: the volume itself, or a place in it, which is made a folder where
/// it isn't there. Links may not lead out of the volume.
pub fn mount_source(volume: &Path, sub_path: &str) -> Result<PathBuf, String> {
    if sub_path.is_empty() {
        return Ok(volume.to_owned());
    }
    let parts: Vec<Component<'_>> = Path::new(sub_path).components().collect();
    if !parts.iter().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err(format!("subPath {sub_path:?} must be relative and without '..'"));
    }
    let failed = |error: io::Error| format!("failed to prepare subPath {sub_path:?}: {error}");
    let root = fs::canonicalize(volume).map_err(failed)?;
    let mut at = root.clone();
    for part in parts {
        at.push(part);
        match fs::canonicalize(&at) {
            Ok(real) if real.starts_with(&root) => at = real,
            Ok(_) => return Err(format!("subPath {sub_path:?} leads out of its volume")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::DirBuilder::new().mode(0o777).create(&at).map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(at)
}

/// Reads a text file of a volume. Links may not lead out of it, and it may not be longer than
/// `most_bytes`.
pub fn read_inside(volume: &Path, path: &str, most_bytes: u64) -> io::Result<String> {
    use io::Read;
    let root = fs::canonicalize(volume)?;
    let real = fs::canonicalize(root.join(path))?;
    if !real.starts_with(&root) {
        return Err(io::Error::other("it leads out of its volume"));
    }
    let mut text = String::new();
    let file = fs::File::open(real)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    file.take(most_bytes + 1).read_to_string(&mut text)?;
    match text.len() as u64 > most_bytes {
        true => Err(io::Error::other(format!("it is longer than {most_bytes} bytes"))),
        false => Ok(text),
    }
}

/// Copies a file into a folder of its own, where later changes of its volume don't reach it. A
/// folder stays what it is.
pub fn keep(from: &Path, folder: &Path) -> io::Result<PathBuf> {
    if from.is_dir() {
        return Ok(from.to_owned());
    }
    make_folder(folder, 0o755)?;
    let to = folder.join(from.file_name().unwrap_or_default());
    // An older copy may be read-only.
    let _ = fs::remove_file(&to);
    fs::copy(from, &to)?;
    Ok(to)
}

/// Makes the file that a container's termination message goes to, empty.
pub fn termination_file(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        make_folder(parent, 0o755)?;
    }
    fs::write(path, "")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

/// What a container left as its message: its end, where it is too long. Empty where there is none.
pub fn termination_message(path: &Path) -> String {
    let is_file = fs::symlink_metadata(path).is_ok_and(|known| known.is_file());
    let bytes = if is_file { read_end(path, MESSAGE_BYTES) } else { Ok(Vec::new()) };
    String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
}

/// Bytes of all files below a folder.
pub fn used_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(known) if known.is_dir() => used_bytes(&entry.path()),
            Ok(known) => known.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}

/// Removes a pod's folder and what it has in memory; one that isn't there is removed.
pub fn remove(folder: &Path) -> io::Result<()> {
    for volume in fs::read_dir(folder.join("volumes")).into_iter().flatten().flatten() {
        let Ok(data) = fs::read_link(volume.path()) else { continue };
        let home = data.parent().filter(|home| {
            let name = home.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            home.parent() == Some(Path::new(MEMORY)) && name.starts_with(MEMORY_PREFIX)
        });
        if let Some(home) = home
            && let Err(error) = fs::remove_dir_all(home)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn read_end(path: &Path, most_bytes: u64) -> io::Result<Vec<u8>> {
    use io::{Read, Seek};
    let mut file = fs::File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(most_bytes);
    file.seek(io::SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(most_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(mode).create(path)
}

/// Whether a folder holds exactly these files, by content and mode.
fn holds(folder: &Path, files: &[File]) -> bool {
    let same = |file: &File| {
        let path = folder.join(&file.path);
        let mode = fs::metadata(&path).map(|known| known.mode() & 0o777);
        mode.is_ok_and(|mode| mode == file.mode)
            && fs::read(&path).is_ok_and(|bytes| bytes == file.bytes)
    };
    count(folder) == files.len() && files.iter().all(same)
}

fn count(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let each = entries.flatten().map(|entry| match entry.file_type() {
        Ok(sort) if sort.is_dir() => count(&entry.path()),
        _ => 1,
    });
    each.sum()
}

/// The names that containers see: each first part of a path is a link through `..data`.
fn link_names(folder: &Path, files: &[File]) -> io::Result<()> {
    let wanted: BTreeSet<&str> =
        files.iter().filter_map(|file| file.path.split('/').next()).collect();
    for name in &wanted {
        let link = folder.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), link)?;
        }
    }
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if !name.starts_with("..") && !wanted.contains(&*name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(pairs: &[(&str, &str)]) -> Vec<File> {
        let file = |(path, text): &(&str, &str)| File {
            path: path.to_string(),
            bytes: text.as_bytes().to_vec(),
            mode: 0o640,
        };
        pairs.iter().map(file).collect()
    }

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().expect("time")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("folder").flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_change_together() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = dir.path().join("v");
        let read = |path: &str| fs::read_to_string(folder.join(path)).expect("file");
        let first = files(&[("a", "1"), ("deep/er", "2")]);
        assert!(write_files(&folder, &first, now()).expect("written"));
        assert!(!write_files(&folder, &first, now()).expect("written"), "twice changes nothing");
        assert_eq!((read("a").as_str(), read("deep/er").as_str()), ("1", "2"));
        assert_eq!(names(&folder), ["..2026_11_23_10_00_00.0", "..data", "a", "deep"]);
        let mode = fs::metadata(folder.join("a")).expect("file").mode() & 0o777;
        assert_eq!(mode, 0o640);
        assert!(write_files(&folder, &files(&[("a", "3"), ("b", "4")]), now()).expect("written"));
        assert_eq!((read("a").as_str(), read("b").as_str()), ("3", "4"));
        assert_eq!(names(&folder), ["..2026_11_23_10_00_00.1", "..data", "a", "b"]);
        assert_eq!(fs::read_link(folder.join("a")).expect("link"), Path::new("..data/a"));
        assert!(write_files(&folder, &[], now()).expect("written"));
        assert_eq!(names(&folder), ["..2026_11_23_10_00_00.0", "..data"]);
    }

    #[test]
    fn sub_paths_stay_inside() {
        let dir = tempfile::tempdir().expect("dir");
        let volume = dir.path().join("v");
        empty_dir(&volume, 0o777).expect("made");
        assert_eq!(mount_source(&volume, ""), Ok(volume.clone()));
        let made = mount_source(&volume, "a/b").expect("made");
        assert!(made.is_dir() && made.ends_with("v/a/b"));
        assert!(mount_source(&volume, "../x").is_err());
        assert!(mount_source(&volume, "/etc").is_err());
        symlink("/etc", volume.join("out")).expect("link");
        let message = "subPath \"out/passwd\" leads out of its volume";
        assert_eq!(mount_source(&volume, "out/passwd"), Err(message.to_owned()));
        assert!(read_inside(&volume, "out/passwd", 100_000).is_err());
        fs::write(volume.join("f"), "text").expect("written");
        assert_eq!(read_inside(&volume, "f", 4).expect("read"), "text");
        assert!(read_inside(&volume, "f", 3).is_err());
        assert!(read_inside(&volume, "a", 3).is_err());
        // A file of a written volume is the file that is there now.
        let written = dir.path().join("w");
        write_files(&written, &files(&[("key", "1")]), now()).expect("written");
        let file = mount_source(&written, "key").expect("file");
        let kept = keep(&file, &dir.path().join("kept")).expect("kept");
        write_files(&written, &files(&[("key", "2")]), now()).expect("written");
        assert_eq!(fs::read_to_string(kept).expect("read"), "1");
    }

    #[test]
    fn folders_in_memory_go_with_their_pod() {
        let dir = tempfile::tempdir().expect("dir");
        let uid = format!("test-{}", std::process::id());
        let volume = dir.path().join("volumes/v");
        memory_dir(&volume, &uid, "v", 0o750).expect("made");
        memory_dir(&volume, &uid, "v", 0o750).expect("made once");
        fs::write(volume.join("f"), "text").expect("written");
        let data = fs::read_link(&volume).expect("a link");
        assert!(data.starts_with(MEMORY) && data.join("f").is_file(), "{}", data.display());
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o777;
        let home = data.parent().expect("home");
        assert_eq!((mode(&data), mode(home)), (0o750, 0o700));
        assert!(used_bytes(&volume) > 0);
        symlink("/etc", dir.path().join("volumes/other")).expect("link");
        remove(dir.path()).expect("removed");
        assert!(!home.exists() && Path::new("/etc").is_dir());
    }

    #[test]
    fn host_paths_have_types() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("x");
        let missing = host_path(&path, "Directory").expect_err("missing");
        assert!(missing.starts_with("hostPath type check failed: "), "{missing}");
        host_path(&path, "DirectoryOrCreate").expect("made");
        host_path(&path, "").expect("there");
        host_path(&path, "Directory").expect("there");
        assert!(host_path(&path, "File").is_err());
        assert!(host_path(&path, "Socket").is_err());
        host_path(&path.join("f"), "FileOrCreate").expect("made");
        host_path(&path.join("f"), "File").expect("there");
        assert!(host_path(&path, "Nonsense").is_err());
    }

    #[test]
    fn messages_are_cut_at_their_start() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("log");
        assert_eq!(termination_message(&path), "");
        termination_file(&path).expect("made");
        fs::write(&path, "x".repeat(5000) + "end").expect("written");
        let message = termination_message(&path);
        assert_eq!((message.len(), message.ends_with("xend")), (4096, true));
        symlink("/etc/hostname", dir.path().join("link")).expect("link");
        assert_eq!(termination_message(&dir.path().join("link")), "", "no file of the node");
        assert!(used_bytes(dir.path()) >= 4096);
    }
}
