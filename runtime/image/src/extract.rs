//! One file out of a container image's layers, without unpacking the rest: the newest layer that
//! has it wins, and a layer's whiteouts hide what is below (OCI image specification, layer.md).

use std::{
    fs,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Component, Path, PathBuf},
};

use windlass_sdk_package::PackageError;

use crate::{error::ImageError, staging::Staging, zstd};

/// Symbolic links that are followed.
const LINKS: usize = 8;
/// A layer that unpacks to more is not read to its end.
const UNPACKED_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// Takes the file at `path` into `out` and returns its digest. `layers` are in the image's order.
pub(crate) fn file(
    layers: &[PathBuf],
    path: &str,
    out: &Staging,
    bound_bytes: u64,
) -> Result<String, ImageError> {
    let mut wanted = inside(Path::new(path));
    for _ in 0..LINKS {
        let mut followed = None;
        for layer in layers.iter().rev() {
            match look(layer, &wanted, out, bound_bytes)? {
                Found::File(digest) => return Ok(digest),
                Found::Link(target) => {
                    followed = Some(target);
                    break;
                }
                Found::Hidden => break,
                Found::Nothing => {}
            }
        }
        match followed {
            Some(target) => wanted = target,
            None => {
                let why = format!("its entrypoint /{} is in none of its layers", wanted.display());
                return Err(PackageError::Refused(why).into());
            }
        }
    }
    Err(PackageError::Refused(format!("its entrypoint {path} is behind too many links")).into())
}

enum Found {
    File(String),
    Link(PathBuf),
    /// The layer removes what lower layers have there.
    Hidden,
    Nothing,
}

fn look(layer: &Path, wanted: &Path, out: &Staging, bound: u64) -> Result<Found, ImageError> {
    let broken = |error: io::Error| ImageError::damaged(layer, format!("it is no tar: {error}"));
    let mut archive = tar::Archive::new(unpacked(layer)?);
    let mut found = Found::Nothing;
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = inside(&entry.path().map_err(broken)?);
        if path != wanted {
            if hides(&path, wanted) {
                found = Found::Hidden;
            }
            continue;
        }
        let kind = entry.header().entry_type();
        if kind.is_file() {
            return out.copy(&mut entry, bound).map(|(digest, _)| Found::File(digest));
        }
        let Some(target) = entry.link_name().map_err(broken)?.map(|target| target.into_owned())
        else {
            return Ok(Found::Hidden);
        };
        // A hard link names a path of the tree, a symbolic one a place seen from its own folder.
        let from = if kind.is_symlink() && target.is_relative() { path.parent() } else { None };
        return Ok(Found::Link(inside(&from.unwrap_or(Path::new("")).join(target))));
    }
    Ok(found)
}

/// Is this entry a whiteout of `wanted` or of a folder above it?
fn hides(entry: &Path, wanted: &Path) -> bool {
    let Some(name) = entry.file_name().and_then(|name| name.to_str()) else { return false };
    let folder = entry.parent().unwrap_or(Path::new(""));
    match name.strip_prefix(".wh.") {
        None => false,
        Some(".wh..opq") => wanted.starts_with(folder),
        Some(removed) => wanted.starts_with(folder.join(removed)),
    }
}

/// A path without `.`, `..` and root: nothing leads out of the tree.
fn inside(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// The bytes of a tar that may be compressed, told by its first bytes.
pub(crate) fn unpacked(path: &Path) -> Result<Box<dyn Read>, ImageError> {
    let io = |error| ImageError::io(path, error);
    let mut file = fs::File::open(path).map_err(io)?;
    let mut magic = Vec::new();
    (&mut file).take(4).read_to_end(&mut magic).map_err(io)?;
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    let file = BufReader::new(file);
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => {
            Box::new(flate2::bufread::MultiGzDecoder::new(file).take(UNPACKED_BYTES))
        }
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Frames::new(file).take(UNPACKED_BYTES)),
        _ => Box::new(file),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(dir: &Path, name: &str, entries: &[(&str, &str)]) -> PathBuf {
        let path = dir.join(name);
        let mut builder = tar::Builder::new(fs::File::create(&path).expect("file"));
        for (entry, content) in entries {
            let mut header = tar::Header::new_gnu();
            match content.strip_prefix("-> ") {
                Some(target) => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_size(0);
                    builder.append_link(&mut header, entry, target).expect("link");
                }
                None => {
                    header.set_size(content.len() as u64);
                    header.set_cksum();
                    builder.append_data(&mut header, entry, content.as_bytes()).expect("entry");
                }
            }
        }
        builder.finish().expect("whole");
        path
    }

    fn check(layers: &[&[(&str, &str)]], path: &str, expected: &str) {
        let dir = tempfile::tempdir().expect("dir");
        let paths: Vec<PathBuf> = layers
            .iter()
            .enumerate()
            .map(|(at, entries)| layer(dir.path(), &at.to_string(), entries))
            .collect();
        let out = Staging::new(dir.path()).expect("staging");
        let text = match file(&paths, path, &out, 100) {
            Ok(digest) => fs::read_to_string(out.path(&digest)).expect("text"),
            Err(error) => error.to_string(),
        };
        assert!(text.contains(expected), "{layers:?} {path}: {text}");
    }

    #[test]
    fn the_newest_layer_wins() {
        check(&[&[("a.wasm", "old")], &[("./a.wasm", "new")]], "/a.wasm", "new");
        check(&[&[("x/a.wasm", "deep")], &[("b", "")]], "x/../x/a.wasm", "deep");
        check(&[&[("a.wasm", "old")], &[(".wh.a.wasm", "")]], "/a.wasm", "in none of its layers");
        check(&[&[("x/a.wasm", "old")], &[(".wh.x", "")]], "/x/a.wasm", "in none of its layers");
        check(
            &[&[("x/a.wasm", "old")], &[("x/.wh..wh..opq", ""), ("x/a.wasm", "new")]],
            "/x/a.wasm",
            "new",
        );
        check(&[&[("x/a.wasm", "old")], &[("x/.wh..wh..opq", "")]], "/x/a.wasm", "in none");
    }

    #[test]
    fn links_are_followed_within_the_tree() {
        check(&[&[("x/a.wasm", "it")], &[("b", "-> x/a.wasm")]], "/b", "it");
        check(&[&[("x/a.wasm", "it"), ("x/b", "-> /x/a.wasm")]], "/x/b", "it");
        check(&[&[("a.wasm", "it"), ("x/b", "-> ../../../a.wasm")]], "/x/b", "it");
        check(&[&[("a", "-> b"), ("b", "-> a")]], "/a", "too many links");
    }

    #[test]
    fn bounds_and_damage_are_told() {
        let long = "x".repeat(101);
        check(&[&[("a.wasm", &long)]], "/a.wasm", "larger than 100 bytes");
        let dir = tempfile::tempdir().expect("dir");
        let out = Staging::new(dir.path()).expect("staging");
        for (bytes, expected) in [
            (&b"this is no tar, and long enough to look like a header"[..], "no tar"),
            (b"\x28\xb5\x2f\xfd....", "no tar"),
        ] {
            let path = dir.path().join("layer");
            fs::write(&path, bytes.repeat(20)).expect("write");
            let error = file(&[path], "/a", &out, 100).expect_err("refused").to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
