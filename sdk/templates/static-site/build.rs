//! Puts the files of `site` into the component: a table of path and content.

use std::{env, fs, io, path::Path};

fn main() -> io::Result<()> {
    let site = Path::new(&env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("site");
    println!("cargo::rerun-if-changed={}", site.display());
    let mut files = Vec::new();
    collect(&site, "", &mut files)?;
    files.sort();
    let rows = files.iter().map(|path| {
        let file = format!("{}{path}", site.display());
        format!("    ({path:?}, include_bytes!({file:?}).as_slice()),\n")
    });
    let table = format!("&[\n{}]\n", rows.collect::<String>());
    let out = env::var("OUT_DIR").map_err(io::Error::other)?;
    fs::write(Path::new(&out).join("files.rs"), table)
}

/// Adds the paths of all files below a folder, from the site's root on.
fn collect(folder: &Path, below: &str, files: &mut Vec<String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = format!("{below}/{}", entry.file_name().to_string_lossy());
        match entry.file_type()?.is_dir() {
            true => collect(&entry.path(), &path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}
