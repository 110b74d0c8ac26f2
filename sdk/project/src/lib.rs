//! A developer's project: a folder with sources and `windlass.toml`. This crate makes one of a
//! template, builds it with its language's own tool, says what the component is and may do, and what
//! objects run it. It talks to no cluster: it says what to ask of one and reads what one answers.
//!
//! ```no_run
//! # fn main() -> Result<(), windlass_sdk_project::ProjectError> {
//! use windlass_sdk_project::{Place, Project, objects};
//! let project = Project::open("cart".as_ref())?;
//! let built = project.build(&mut |line| eprintln!("{line}"))?;
//! let place = Place { namespace: "shop".into(), image: built.image("shop", &project.manifest) };
//! for object in objects(&project.manifest, &built.allowed, &place) {
//!     println!("{object}");
//! }
//! # Ok(())
//! # }
//! ```

mod allowed;
mod bom;
mod build;
mod changes;
mod component;
mod describe;
mod languages;
mod manifest;
mod objects;
mod rollout;
mod template;
mod toolchain;

use std::path::{Path, PathBuf};

pub use allowed::Allowed;
pub use build::Built;
pub use changes::changes;
pub use manifest::{Allow, Backend, Build, Kind, Language, MANIFEST, Manifest, Run};
pub use objects::{CONTAINER, MANAGED_BY, MANAGER, NAME_LABEL, Place, objects};
pub use rollout::{Progress, command_progress, deployment_progress};
pub use template::{TEMPLATES, Template, create};

/// Why a project can't be made, built or described. Each names the way out.
#[derive(Debug, thiserror::Error)]
pub enum ProjectError {
    #[error("{0} has no {MANIFEST}: `windlass new NAME` makes a project")]
    NoManifest(PathBuf),
    #[error("{path}: {why}")]
    Manifest { path: PathBuf, why: String },
    #[error("{name:?} is no name of a component: {why}")]
    Name { name: String, why: &'static str },
    #[error("there is no template {name:?}: there are {known}")]
    NoTemplate { name: String, known: String },
    #[error("{0} is there already: choose another name, or remove it")]
    Exists(PathBuf),
    /// The command that installs it is part of the text.
    #[error("{what} is missing: {way_out}")]
    Toolchain { what: String, way_out: String },
    /// The language's tool failed; what it said is not in this text but in `said`.
    #[error("`{command}` failed ({status})")]
    Tool { command: String, status: String, said: String },
    #[error("`{command}` made no WebAssembly file")]
    Nothing { command: String },
    #[error("{file}: {why}")]
    Component { file: PathBuf, why: String },
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
}

/// A folder that has a manifest.
#[derive(Clone, Debug)]
pub struct Project {
    /// Absolute, without symbolic links: what is remapped in a build is the path that tools see.
    pub folder: PathBuf,
    pub manifest: Manifest,
}

impl Project {
    /// Reads the manifest of a folder.
    pub fn open(folder: &Path) -> Result<Self, ProjectError> {
        let path = folder.join(MANIFEST);
        if !path.is_file() {
            return Err(ProjectError::NoManifest(folder.to_owned()));
        }
        let folder = at(folder.canonicalize(), folder)?;
        let text = at(std::fs::read_to_string(&path), &path)?;
        let manifest =
            Manifest::parse(&text).map_err(|why| ProjectError::Manifest { path, why })?;
        Ok(Self { folder, manifest })
    }
}

/// Names the file of an I/O error.
fn at<T>(result: std::io::Result<T>, path: &Path) -> Result<T, ProjectError> {
    result.map_err(|source| ProjectError::Io { what: path.display().to_string(), source })
}
