//! From the digest that a name leads to, to the wasm bytes that run: index, manifest, config,
//! layers are read where they are, and `windlass_sdk_package` decides. The result is kept beside the
//! content, and can be made again from it at any time.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use windlass_sdk_package::{
    BY_POD, Decision, Document, Inspection, Manifest, PackageError, Sort, WasmPlace, accept,
    inspect, is_digest, pick, resolve_for, spin_application, spin_archives, spin_layer,
};

use crate::{error::ImageError, extract, staging};

/// An index in an index is what multi-platform builders write into a layout; more is a riddle.
const DEPTH: usize = 3;

/// What is known of an image once its bytes were seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settled {
    pub decision: Decision,
    /// What the image is, what told so, and what its bytes are.
    pub why: String,
    /// `component` or `module`.
    pub sort: String,
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// Of the image's manifest, where the name leads to an index.
    pub manifest_digest: String,
    pub wasm_digest: String,
    /// Bytes.
    pub wasm_size: u64,
    /// Everything that is kept for it.
    pub content: Vec<String>,
    /// Layers of a Spin application that are archives of files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub archives: Vec<String>,
}

/// Where content is; None where it isn't here.
pub(crate) type Places<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// The manifest that a digest leads to, with its own digest, and what was said on the way.
pub(crate) struct Found {
    pub manifest: Manifest,
    pub digest: String,
    pub why: Vec<String>,
    pub passed: Vec<String>,
}

/// Follows a digest through indexes. `read` gives a document by its digest.
pub(crate) fn step(
    digest: &str,
    bytes: &[u8],
    found: &mut Vec<String>,
    why: &mut Vec<String>,
) -> Result<Next, ImageError> {
    if found.len() >= DEPTH {
        return Err(
            PackageError::NotAnArtifact("its index leads to an index and so on".into()).into()
        );
    }
    found.push(digest.to_owned());
    Ok(match Document::read(bytes)? {
        Document::Manifest(manifest) => Next::Manifest(manifest),
        Document::Index(index) => {
            let (entry, said) = pick(&index)?;
            why.push(said);
            Next::Follow(entry.digest.clone())
        }
    })
}

pub(crate) enum Next {
    Manifest(Manifest),
    Follow(String),
}

fn follow(top: &str, places: Places<'_>) -> Result<Found, ImageError> {
    let (mut digest, mut passed, mut why) = (top.to_owned(), Vec::new(), Vec::new());
    loop {
        let bytes = read(&digest, places)?;
        match step(&digest, &bytes, &mut passed, &mut why)? {
            Next::Manifest(manifest) => return Ok(Found { manifest, digest, why, passed }),
            Next::Follow(next) => digest = next,
        }
    }
}

/// Decides what of an image runs. Wasm that is a file in a tree of layers is taken out of it to
/// `out`, and its digest is then among the content. A pod may say that the image holds wasm; the
/// bytes of the file that it starts then decide.
pub(crate) fn settle(
    top: &str,
    pod_says_wasm: bool,
    places: Places<'_>,
    out: &staging::Staging,
    bound_bytes: u64,
) -> Result<Settled, ImageError> {
    let Found { manifest, digest, mut why, passed } = follow(top, places)?;
    let config = read(&manifest.config.digest, places)?;
    let mut decision = resolve_for(&manifest, &config, pod_says_wasm)?;
    if let Some(layer) = spin_layer(&manifest) {
        decision = spin_application(decision, &manifest, &read(&layer.digest, places)?)?;
    }
    let (wasm_digest, wasm_path) = match &decision.wasm {
        WasmPlace::Layer(at) => {
            let digest = manifest.layers[*at].digest.clone();
            let path = place(&digest, places)?;
            (digest, path)
        }
        WasmPlace::File(path) => {
            let layers: Vec<PathBuf> = manifest
                .layers
                .iter()
                .map(|layer| place(&layer.digest, places))
                .collect::<Result<_, _>>()?;
            let found = extract::file(&layers, path, out, bound_bytes);
            let digest = found.map_err(|error| unless_container(error, &decision))?;
            let path = out.path(&digest);
            (digest, path)
        }
    };
    let looked = look(&wasm_path).map_err(|error| unless_container(error, &decision));
    let (inspection, wasm_size) = looked?;
    let what = accept(&decision, &inspection)?;
    for component in decision.spin.iter().flat_map(|app| app.components.iter().skip(1)) {
        let of = |error: ImageError| match error {
            ImageError::Package(error) => ImageError::Package(PackageError::Refused(format!(
                "its component {} is refused: {error}",
                component.id
            ))),
            error => error,
        };
        let (inspection, _) =
            place(&component.digest, places).and_then(|at| look(&at)).map_err(of)?;
        accept(&decision, &inspection)?;
    }
    why.extend([decision.why.clone(), what]);
    let mut content = passed;
    content.push(manifest.config.digest.clone());
    content.extend(manifest.layers.iter().map(|layer| layer.digest.clone()));
    content.push(wasm_digest.clone());
    content.dedup();
    let archives = spin_archives(&manifest).map(|layer| layer.digest.clone()).collect();
    Ok(Settled {
        why: format!("It is {}: {}", decision.form.name(), why.join("; ")),
        sort: match inspection.sort {
            Sort::Component => "component".to_owned(),
            Sort::Module => "module".to_owned(),
        },
        imports: inspection.imports,
        exports: inspection.exports,
        decision,
        manifest_digest: digest,
        wasm_digest,
        wasm_size,
        content,
        archives,
    })
}

/// What only a pod calls wasm, and isn't, is a container.
fn unless_container(error: ImageError, decision: &Decision) -> ImageError {
    match error {
        ImageError::Package(PackageError::NotWasm(why) | PackageError::Refused(why))
            if decision.why == BY_POD =>
        {
            let what = format!("what it starts is no wasm ({why}), though {BY_POD}");
            PackageError::Container(what).into()
        }
        error => error,
    }
}

fn look(wasm: &Path) -> Result<(Inspection, u64), ImageError> {
    let io = |error| ImageError::io(wasm, error);
    let mut file = fs::File::open(wasm).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    Ok((inspect(&mut file)?, size))
}

fn place(digest: &str, places: Places<'_>) -> Result<PathBuf, ImageError> {
    let missing = || ImageError::Archive(format!("lacks {digest}, which the image needs"));
    is_digest(digest).then(|| places(digest)).flatten().ok_or_else(missing)
}

fn read(digest: &str, places: Places<'_>) -> Result<Vec<u8>, ImageError> {
    staging::document(&place(digest, places)?, digest)
}
