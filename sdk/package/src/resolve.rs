//! What of an image runs, and how: a pure function of its manifest and config. The order of the
//! rules is the order of how sure they are: an image for several platforms has one for wasm; a
//! config's media type names the form; a layer's media type names wasm; a file tree holds wasm where
//! its entrypoint, its platform or crun's annotation says so. Anything else is a container.
//!
//! What the wasm is (module or component, which WASI) is decided by [`accept`] from its bytes,
//! because the platform's `os` can't be trusted.

use serde::{Deserialize, Serialize};

use crate::{
    Inspection, PackageError, WASM_CONFIG_MEDIA_TYPE, WASM_MEDIA_TYPE,
    binary::Sort,
    oci::{Descriptor, ImageConfig, Index, Manifest},
    spin::SpinApp,
};

const SPIN_APPLICATION: &str = "application/vnd.fermyon.spin.application.v1+config";
const SPIN_ARCHIVE: &str = "application/vnd.wasm.content.bundle.v1.tar+gzip";
const LEGACY: [&str; 2] = [
    "application/vnd.module.wasm.config.v1+json",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
/// crun's ways to say that a file tree holds wasm, whatever its entrypoint is called.
const CRUN: [(&str, &[&str]); 2] =
    [("module.wasm.image/variant", &["compat", "compat-smart"]), ("run.oci.handler", &["wasm"])];
/// Why the file that an image starts is looked at, where the image itself doesn't say that it is wasm.
pub const BY_POD: &str = "its pod's annotation says so";
/// The function that runs where none is named.
const START: &str = "_start";

/// What to run of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    pub form: Form,
    pub wasm: WasmPlace,
    /// Of the entrypoint's `#func`; empty where none is named.
    pub function: String,
    /// The program's name and first arguments; empty where the image doesn't say.
    pub entrypoint: Vec<String>,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub working_dir: Option<String>,
    /// What told so.
    pub why: String,
    /// Of a Spin application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spin: Option<SpinApp>,
}

/// The forms of images that hold wasm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    CncfArtifact,
    SpinApplication,
    WasmLayer,
    Legacy,
    ContainerImage,
}

impl Form {
    /// With its article.
    pub fn name(self) -> &'static str {
        match self {
            Self::CncfArtifact => "a CNCF wasm artifact",
            Self::SpinApplication => "a Spin application",
            Self::WasmLayer => "an OCI image with a wasm layer",
            Self::Legacy => "a legacy wasm image",
            Self::ContainerImage => "a container image that holds wasm",
        }
    }
}

/// Where the wasm bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum WasmPlace {
    /// The layer with this number is the wasm binary.
    Layer(usize),
    /// A file of the tree that the layers make; absolute.
    File(String),
}

/// The entry of an index that this node takes, and why.
pub fn pick(index: &Index) -> Result<(&Descriptor, String), PackageError> {
    let platform = |entry: &Descriptor| entry.platform.clone().unwrap_or_default();
    // Build attestations stand beside images as "unknown/unknown".
    let images: Vec<&Descriptor> =
        index.manifests.iter().filter(|entry| platform(entry).os != "unknown").collect();
    let wasm = images.iter().find(|entry| {
        let platform = platform(entry);
        is_wasm_architecture(&platform.architecture) || platform.os.starts_with("wasi")
    });
    let shown = |entry: &Descriptor| {
        let platform = platform(entry);
        format!("{}/{}", platform.os, platform.architecture)
    };
    if let Some(entry) = wasm {
        return Ok((entry, format!("its index has an entry for {}", shown(entry))));
    }
    let own = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    match images.as_slice() {
        [only] => Ok((only, "its index has one entry".to_owned())),
        several => {
            let native = several.iter().find(|entry| platform(entry).architecture == own);
            match native {
                Some(entry) => {
                    Ok((entry, format!("its index has no entry for wasm; {}", shown(entry))))
                }
                None => refused(format!(
                    "its index has no entry for wasm, but for {}",
                    several.iter().map(|entry| shown(entry)).collect::<Vec<_>>().join(", ")
                )),
            }
        }
    }
}

/// Whether annotations say, as crun reads them, that an image holds wasm: of the image, or of a pod.
pub fn says_wasm<'a>(annotation: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    CRUN.iter().find_map(|(key, values)| {
        let value = annotation(key)?;
        values.contains(&value).then(|| format!("annotation {key} is {value}"))
    })
}

/// What of this image runs. The error says what the image is instead.
pub fn resolve(manifest: &Manifest, config: &[u8]) -> Result<Decision, PackageError> {
    resolve_for(manifest, config, false)
}

/// The same for a pod that says that the image holds wasm.
pub fn resolve_for(
    manifest: &Manifest,
    config: &[u8],
    pod_says_wasm: bool,
) -> Result<Decision, PackageError> {
    let media_type = manifest.config.media_type.as_str();
    let layers = &manifest.layers;
    if media_type == WASM_CONFIG_MEDIA_TYPE {
        return match layers.as_slice() {
            [layer] if layer.media_type == WASM_MEDIA_TYPE => {
                Ok(plain(Form::CncfArtifact, 0, format!("its config is {media_type}")))
            }
            [layer] => {
                refused(format!("its layer is {:?}, not {WASM_MEDIA_TYPE:?}", layer.media_type))
            }
            layers => refused(format!("it has {} layers, not one", layers.len())),
        };
    }
    if media_type == LEGACY[0] {
        let why = format!("its config is {media_type}");
        return Ok(plain(Form::Legacy, only_wasm_layer(layers)?, why));
    }
    let is_spin = |layer: &Descriptor| layer.media_type == SPIN_APPLICATION;
    if media_type == SPIN_APPLICATION || layers.iter().any(is_spin) {
        return spin(manifest);
    }
    // A config that is no image config says nothing; the layers may.
    let image: ImageConfig = serde_json::from_slice(config).unwrap_or_default();
    if layers.iter().any(is_wasm_layer) {
        let at = only_wasm_layer(layers)?;
        let of = layers[at].media_type.as_str();
        let form = if of == LEGACY[1] { Form::Legacy } else { Form::WasmLayer };
        return Ok(with_config(plain(form, at, format!("its layer is {of}")), &image));
    }
    file_tree(manifest, &image, pod_says_wasm)
}

/// The application of a Spin image: what its `...spin.application.v1+config` document adds to the
/// decision. Its first component stands for the image where one has to.
pub fn spin_application(
    mut decision: Decision,
    manifest: &Manifest,
    locked: &[u8],
) -> Result<Decision, PackageError> {
    let app = SpinApp::read(locked)?;
    let layer = |digest: &str| manifest.layers.iter().position(|layer| layer.digest == digest);
    for component in app.components.iter().rev() {
        match layer(&component.digest) {
            Some(at) => decision.wasm = WasmPlace::Layer(at),
            None => {
                return refused(format!(
                    "it is a Spin application whose component {} is in none of its layers",
                    component.id
                ));
            }
        }
    }
    let names: Vec<&str> = app.components.iter().map(|component| component.id.as_str()).collect();
    decision.why += &format!(" with the components {}", names.join(", "));
    decision.spin = Some(app);
    Ok(decision)
}

/// The layers of a Spin image that hold archives of files.
pub fn spin_archives(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    manifest.layers.iter().filter(|layer| layer.media_type == SPIN_ARCHIVE)
}

/// Judges the wasm bytes: one sentence that says what they are.
pub fn accept(decision: &Decision, wasm: &Inspection) -> Result<String, PackageError> {
    let function = decision.function.as_str();
    if !matches!(function, "" | START) {
        let named = format!("its entrypoint names the function {function:?}");
        match wasm.sort {
            Sort::Component => return refused(format!("{named}, but it is a component")),
            Sort::Module if !wasm.exports.iter().any(|export| export == function) => {
                return refused(format!("{named}, which the module doesn't export"));
            }
            Sort::Module => {}
        }
    }
    let sort = match wasm.sort {
        Sort::Component => "component",
        Sort::Module => "module",
    };
    Ok(match wasm.wasi() {
        Some(wasi) => format!("by its bytes a {sort} of WASI {wasi}"),
        None => format!("by its bytes a {sort} without WASI"),
    })
}

/// The layer of a Spin image that holds the application.
pub fn spin_layer(manifest: &Manifest) -> Option<&Descriptor> {
    std::iter::once(&manifest.config)
        .chain(&manifest.layers)
        .find(|layer| layer.media_type == SPIN_APPLICATION)
}

fn spin(manifest: &Manifest) -> Result<Decision, PackageError> {
    let Some(at) = manifest.layers.iter().position(is_wasm_layer) else {
        return refused("it is a Spin application without a wasm layer".to_owned());
    };
    Ok(plain(Form::SpinApplication, at, format!("it holds {SPIN_APPLICATION}")))
}

fn file_tree(
    manifest: &Manifest,
    image: &ImageConfig,
    pod_says_wasm: bool,
) -> Result<Decision, PackageError> {
    let run = &image.config;
    let first = run.entrypoint.first().or(run.cmd.first()).map(String::as_str).unwrap_or_default();
    let path = first.split_once('#').map_or(first, |(path, _)| path);
    let own = |key: &str| manifest.annotations.get(key).or(run.labels.get(key)).map(String::as_str);
    let why = if path.ends_with(".cwasm") {
        return refused(format!(
            "its entrypoint {path} is precompiled native code, which is never loaded"
        ));
    } else if path.ends_with(".wasm") {
        format!("its entrypoint is {path}")
    } else if let Some(why) = says_wasm(own) {
        format!("its {why}")
    } else if pod_says_wasm && manifest.layers.iter().all(is_tree) && !path.is_empty() {
        BY_POD.to_owned()
    } else if is_wasm_architecture(&image.architecture) {
        format!("its platform is {}/{}", image.os, image.architecture)
    } else {
        let tree = manifest.layers.iter().find(|layer| !is_tree(layer));
        return Err(match tree {
            Some(layer) => PackageError::Refused(format!(
                "its layer {:?} holds neither wasm nor files",
                layer.media_type
            )),
            None => PackageError::Container(format!(
                "it is a container image for {}/{} (entrypoint {path:?})",
                image.os, image.architecture
            )),
        });
    };
    if path.is_empty() {
        return refused(format!("{why}, but it has no entrypoint"));
    }
    let file = absolute(&run.working_dir, path);
    let decision = Decision { wasm: WasmPlace::File(file), ..plain(Form::ContainerImage, 0, why) };
    Ok(with_config(decision, image))
}

fn plain(form: Form, layer: usize, why: String) -> Decision {
    Decision {
        form,
        wasm: WasmPlace::Layer(layer),
        function: String::new(),
        entrypoint: Vec::new(),
        args: Vec::new(),
        env: Vec::new(),
        working_dir: None,
        why,
        spin: None,
    }
}

/// Takes over how an image's config wants it to be run.
fn with_config(mut decision: Decision, image: &ImageConfig) -> Decision {
    let run = &image.config;
    (decision.entrypoint, decision.args) = (run.entrypoint.clone(), run.cmd.clone());
    let lists = [&mut decision.entrypoint, &mut decision.args];
    if let Some(first) = lists.into_iter().find_map(|list| list.first_mut())
        && let Some((path, function)) = first.clone().split_once('#')
    {
        decision.function = function.to_owned();
        *first = path.to_owned();
    }
    decision.env = run
        .env
        .iter()
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    decision.working_dir = Some(run.working_dir.clone()).filter(|dir| !dir.is_empty());
    decision
}

fn only_wasm_layer(layers: &[Descriptor]) -> Result<usize, PackageError> {
    let mut wasm = layers.iter().enumerate().filter(|(_, layer)| is_wasm_layer(layer));
    match (wasm.next(), wasm.count()) {
        (Some((at, _)), 0) => Ok(at),
        (None, _) => refused("it has no wasm layer".to_owned()),
        (Some(_), more) => {
            refused(format!("it has {} wasm layers, and nothing says which one runs", more + 1))
        }
    }
}

fn is_wasm_layer(layer: &Descriptor) -> bool {
    layer.media_type == WASM_MEDIA_TYPE || layer.media_type.ends_with("+wasm")
}

fn is_tree(layer: &Descriptor) -> bool {
    layer.media_type.contains(".tar") || layer.media_type.ends_with("+tar")
}

fn is_wasm_architecture(name: &str) -> bool {
    matches!(name, "wasm" | "wasm32" | "wasm64")
}

fn absolute(working_dir: &str, path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{}/{path}", working_dir.trim_matches('/')).replace("//", "/"),
    }
}

fn refused<T>(why: String) -> Result<T, PackageError> {
    Err(PackageError::Refused(why))
}

#[cfg(test)]
mod tests;
