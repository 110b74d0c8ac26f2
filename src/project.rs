//! `windlass new` and `windlass build`: what a person sees of `sdk/project`.

use std::{io::IsTerminal, path::Path};

use serde_json::{Value, json};
use windlass_sdk_project::{Built, Kind, Project, ProjectError, TEMPLATES, Template, create};

use crate::cli::{BuildArgs, NewArgs, UsageError};

/// Names of the templates and what they are; the first is the default.
pub fn templates() -> Vec<(&'static str, &'static str)> {
    TEMPLATES.iter().map(|template| (template.name, template.about)).collect()
}

/// Makes the folder of the name, and says how to go on.
pub fn new(args: &NewArgs) -> anyhow::Result<()> {
    let template = Template::find(&args.template).map_err(told)?;
    let folder = Path::new(&args.name);
    create(template, &args.name, folder).map_err(told)?;
    let manifest = Project::open(folder).map_err(told)?.manifest;
    let steps = template.steps_of(&args.name).join("\n  ");
    let run = match manifest.kind {
        Kind::Http => "windlass run --watch",
        Kind::Command => "windlass run",
    };
    println!(
        "{0} is {1}. Go on with:\n\n  cd {0}\n  {steps}\n  {run}\n  windlass deploy",
        args.name, template.about
    );
    Ok(())
}

/// Builds, and prints what came out.
pub fn build(args: &BuildArgs) -> anyhow::Result<()> {
    let project = Project::open(&args.folder).map_err(told)?;
    let built = built(&project)?;
    if args.json {
        println!("{}", machine_readable(&project, &built));
    } else {
        print!("{}", shown(&project, &built));
    }
    Ok(())
}

/// Builds; people are shown what the tool says as it says it, others only where it failed.
pub fn built(project: &Project) -> anyhow::Result<Built> {
    let is_terminal = std::io::stderr().is_terminal();
    begin(&format!("building {}", project.manifest.name));
    let built = project.build(&mut |line| {
        if is_terminal {
            eprintln!("{line}");
        }
    });
    built.map_err(|error| {
        if let (ProjectError::Tool { said, .. }, false) = (&error, is_terminal) {
            eprintln!("{said}");
        }
        told(error)
    })
}

/// What people see while something goes on: a line a step.
pub fn begin(doing: &str) {
    eprintln!("{doing}");
}

/// What the person can change at once (a name, a manifest) ends with 2, as wrong flags do.
pub fn told(error: ProjectError) -> anyhow::Error {
    use ProjectError::{Exists, Manifest, Name, NoManifest, NoTemplate};
    match error {
        Exists(_) | Manifest { .. } | Name { .. } | NoManifest(_) | NoTemplate { .. } => {
            UsageError(error.to_string()).into()
        }
        error => error.into(),
    }
}

fn shown(project: &Project, built: &Built) -> String {
    let list = |names: &[String], none: &str| {
        if names.is_empty() { none.to_owned() } else { names.join(", ") }
    };
    let mut text = format!(
        "Component: {}\nDigest:    {}\nSize:      {} bytes\nWASI:      {}\nCalls:     {}\n\
         Stores:    {}\n",
        built.file.display(),
        built.digest,
        built.size_bytes,
        built.inspection.wasi().unwrap_or("none"),
        list(&built.allowed.hosts, "nobody"),
        list(&built.allowed.keyvalue, "none"),
    );
    for key in &built.allowed.unused {
        text += &format!(
            "Note:      allow.{key} of {} is not granted: the component imports nothing that uses it\n",
            project.manifest.name
        );
    }
    text
}

pub fn machine_readable(project: &Project, built: &Built) -> Value {
    json!({
        "name": project.manifest.name,
        "version": project.manifest.version,
        "file": built.file,
        "digest": built.digest,
        "size": built.size_bytes,
        "wasi": built.inspection.wasi(),
        "imports": built.inspection.imports,
        "exports": built.inspection.exports,
        "allowed": {"hosts": built.allowed.hosts, "keyvalue": built.allowed.keyvalue},
        "unused": built.allowed.unused,
    })
}
