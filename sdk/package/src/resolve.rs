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
};

const SPIN_APPLICATION: &str = "application/vnd.fermyon.spin.application.v1+config";
const SPIN_DATA: [&str; 2] = [
    "application/vnd.wasm.content.layer.v1+data",
    "application/vnd.wasm.content.bundle.v1.tar+gzip",
];
const LEGACY: [&str; 2] = [
    "application/vnd.module.wasm.config.v1+json",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
/// crun's ways to say that a file tree holds wasm, whatever its entrypoint is called.
const CRUN: [(&str, &[&str]); 2] =
    [("module.wasm.image/variant", &["compat", "compat-smart"]), ("run.oci.handler", &["wasm"])];
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

/// What of this image runs. The error says what the image is instead.
pub fn resolve(manifest: &Manifest, config: &[u8]) -> Result<Decision, PackageError> {
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
    file_tree(manifest, &image)
}

/// The application of a Spin image: what its `...spin.application.v1+config` document adds to the
/// decision. Only the plainest kind runs so far; the rest is refused by name.
pub fn spin_application(mut decision: Decision, locked: &[u8]) -> Result<Decision, PackageError> {
    let app: LockedApp = serde_json::from_slice(locked).map_err(|error| {
        PackageError::Refused(format!("its Spin application can't be read: {error}"))
    })?;
    let no = |what: String| {
        refused(format!("it is a Spin application {what}, which doesn't run here yet"))
    };
    let [component] = app.components.as_slice() else {
        return no(format!("of {} components", app.components.len()));
    };
    let [trigger] = app.triggers.as_slice() else {
        return no(format!("of {} triggers", app.triggers.len()));
    };
    let route = &trigger.trigger_config["route"];
    let executor = trigger.trigger_config["executor"]["type"].as_str();
    if trigger.trigger_type != "http" {
        return no(format!("with the trigger {:?}", trigger.trigger_type));
    }
    if route != "/..." {
        return no(format!("with the route {route}"));
    }
    if executor.is_some_and(|executor| !matches!(executor, "http" | "spin" | "wasi")) {
        return no(format!("with the executor {:?}", executor.unwrap_or_default()));
    }
    for (what, there) in [
        ("with variables", !app.variables.is_empty() || !component.config.is_empty()),
        ("with static files", !component.files.is_empty()),
        ("with component dependencies", !component.dependencies.is_empty()),
    ] {
        if there {
            return no(what.to_owned());
        }
    }
    decision.env = component.env.iter().map(|(key, value)| (key.clone(), text(value))).collect();
    decision.why += " (its allowed_outbound_hosts are not applied)";
    Ok(decision)
}

/// Judges the wasm bytes: one sentence that says what they are.
pub fn accept(decision: &Decision, wasm: &Inspection) -> Result<String, PackageError> {
    let fermyon: Vec<&str> = wasm
        .imports
        .iter()
        .map(String::as_str)
        .filter(|name| name.starts_with("fermyon:"))
        .collect();
    if decision.form == Form::SpinApplication && !fermyon.is_empty() {
        return refused(format!(
            "it is a Spin application that imports {}, which this node does not provide",
            fermyon.join(", ")
        ));
    }
    let function = decision.function.as_str();
    if !matches!(function, "" | START) {
        return refused(match wasm.sort {
            Sort::Component => {
                format!("its entrypoint names the function {function:?}, but it is a component")
            }
            Sort::Module => {
                format!("its entrypoint names the function {function:?}; only {START} runs here")
            }
        });
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

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct LockedApp {
    variables: serde_json::Map<String, serde_json::Value>,
    triggers: Vec<LockedTrigger>,
    components: Vec<LockedComponent>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LockedTrigger {
    trigger_type: String,
    trigger_config: serde_json::Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LockedComponent {
    env: serde_json::Map<String, serde_json::Value>,
    files: Vec<serde_json::Value>,
    config: serde_json::Map<String, serde_json::Value>,
    dependencies: serde_json::Map<String, serde_json::Value>,
}

fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn spin(manifest: &Manifest) -> Result<Decision, PackageError> {
    let data = manifest.layers.iter().find(|layer| SPIN_DATA.contains(&layer.media_type.as_str()));
    if let Some(layer) = data {
        return refused(format!(
            "it is a Spin application with static files ({}), which doesn't run here yet",
            layer.media_type
        ));
    }
    let at = only_wasm_layer(&manifest.layers)?;
    Ok(plain(Form::SpinApplication, at, format!("it holds {SPIN_APPLICATION}")))
}

fn file_tree(manifest: &Manifest, image: &ImageConfig) -> Result<Decision, PackageError> {
    let run = &image.config;
    let first = run.entrypoint.first().or(run.cmd.first()).map(String::as_str).unwrap_or_default();
    let path = first.split_once('#').map_or(first, |(path, _)| path);
    let crun = CRUN.iter().find_map(|(key, values)| {
        let value = manifest.annotations.get(*key).or(run.labels.get(*key))?;
        values.contains(&value.as_str()).then(|| format!("its annotation {key} is {value}"))
    });
    let why = if path.ends_with(".cwasm") {
        return refused(format!(
            "its entrypoint {path} is precompiled native code, which is never loaded"
        ));
    } else if path.ends_with(".wasm") {
        format!("its entrypoint is {path}")
    } else if let Some(why) = crun {
        why
    } else if is_wasm_architecture(&image.architecture) {
        format!("its platform is {}/{}", image.os, image.architecture)
    } else {
        let tree = manifest.layers.iter().find(|layer| !is_tree(layer));
        return refused(match tree {
            Some(layer) => format!("its layer {:?} holds neither wasm nor files", layer.media_type),
            None => format!(
                "it is a container image for {}/{} (entrypoint {path:?}); containers need a container engine, and this node has none",
                image.os, image.architecture
            ),
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
