//! Writes into a component what it is: its name and version, its language and what compiled it, the
//! revision of its sources, and the bill of materials.

use std::{fs, path::Path, process::Command};

use wasm_metadata::{AddMetadata, AddMetadataField};
use windlass_sdk_package::{BOM_SECTION, append_section};

use crate::{
    Language, Project, ProjectError,
    bom::{self, Part},
    languages::Made,
    toolchain::{Python, output},
};

impl Project {
    /// The binary with what is known of it. The same sources, made by the same tool, are described by
    /// the same bytes.
    pub(crate) fn describe(&self, made: &Made, wasm: &[u8]) -> Result<Vec<u8>, ProjectError> {
        let manifest = &self.manifest;
        let mut metadata = AddMetadata::default();
        metadata.name = AddMetadataField::Set(manifest.name.clone());
        let language = manifest.build.language.map(Language::name);
        metadata.language.extend(language.map(|name| (name.to_owned(), String::new())));
        let tool = made.tool.clone();
        metadata.processed_by.extend(tool.map(|tool| (tool.name, tool.version)));
        let described = metadata.to_wasm(wasm).map_err(|error| ProjectError::Component {
            file: made.file.clone(),
            why: format!("metadata can't be added: {error:#}"),
        });
        let mut wasm = described?;
        append_section(&mut wasm, "version", manifest.version.as_bytes());
        if let Some(revision) = revision(&self.folder) {
            append_section(&mut wasm, "revision", revision.as_bytes());
        }
        let bom = bom::document(
            &manifest.name,
            &manifest.version,
            made.tool.as_ref(),
            parts(&self.folder, manifest.build.language),
        );
        append_section(&mut wasm, BOM_SECTION, bom.to_string().as_bytes());
        Ok(wasm)
    }
}

/// What the language's tool wrote down of a project's libraries.
fn parts(folder: &Path, language: Option<Language>) -> Vec<Part> {
    let file = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    match language {
        Some(Language::Rust) => bom::of_cargo(&file("Cargo.lock")),
        Some(Language::Go) => bom::of_go(&file("go.sum")),
        Some(Language::JavaScript) => bom::of_npm(&file("package-lock.json")),
        Some(Language::Python) => {
            let mut pip = Command::new(folder.join(Python::FOLDER).join("bin/python"));
            pip.args(["-m", "pip", "--disable-pip-version-check", "list", "--format", "json"]);
            bom::of_pip(&output(&mut pip).unwrap_or_default())
        }
        Some(Language::C) | None => Vec::new(),
    }
}

/// The last commit that changed the folder; None where there is none, or something differs from it:
/// the name of a commit must lead to these sources.
fn revision(folder: &Path) -> Option<String> {
    let git = |arguments: &[&str]| output(Command::new("git").args(arguments).current_dir(folder));
    let changed = git(&["status", "--porcelain", "--", "."])?;
    if !changed.is_empty() {
        return None;
    }
    git(&["log", "--max-count=1", "--format=%H", "--", "."])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_that_of_the_sources_as_they_are() {
        let folder = tempfile::tempdir().expect("a folder");
        let git = |arguments: &str| {
            let mut git = Command::new("git");
            git.args(["-c", "user.name=A", "-c", "user.email=a@example.com"]);
            let git = git.args(arguments.split(' ')).current_dir(folder.path()).output();
            assert!(git.expect("git runs").status.success(), "{arguments}");
        };
        let write = |text: &str| fs::write(folder.path().join("a"), text).expect("written");
        assert_eq!(revision(folder.path()), None);
        git("init --quiet");
        write("one");
        assert_eq!(revision(folder.path()), None);
        git("add a");
        git("commit --quiet --message one");
        let found = revision(folder.path()).expect("it is committed");
        assert_eq!(found.len(), 40, "{found}");
        write("two");
        assert_eq!(revision(folder.path()), None);
    }
}
