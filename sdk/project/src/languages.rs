//! A build in each language that is known: how its tool is called, and which file that makes. What
//! the tool leaves below a project's folder is below `target`, but for what it insists on.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    Kind, Project, ProjectError, at,
    bom::Tool,
    build::{read_wasm, run, shown},
    component::{self, Growth},
    toolchain::{C, Go, JavaScript, Python, Rust},
};

/// What componentize-js is asked for; node resolves its packages from the project's folder.
const COMPONENTIZE: &str = "import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';
const [sourcePath, witPath, out] = process.argv.slice(1);
await writeFile(out, (await componentize({ sourcePath, witPath })).component);
";

/// What a tool made.
pub struct Made {
    pub file: PathBuf,
    /// What made it, where that is known.
    pub tool: Option<Tool>,
}

impl Project {
    pub(crate) fn build_rust(&self, tell: &mut dyn FnMut(&str)) -> Result<Made, ProjectError> {
        let rust = Rust::find(&self.folder)?;
        let mut remap = vec![(self.folder.clone(), "/src".to_owned())];
        remap.extend(cargo_home().map(|home| (home, "/cargo".to_owned())));
        let mut cargo = rust.build(&self.folder, &remap)?;
        cargo.arg("--message-format=json-render-diagnostics");
        if self.folder.join("Cargo.lock").is_file() {
            cargo.arg("--locked");
        }
        let printed = run(&mut cargo, tell)?;
        let file = wasm_of_cargo(&printed, &self.folder.join("Cargo.toml"))
            .ok_or_else(|| ProjectError::Nothing { command: shown(&cargo) })?;
        let version = rust.version(&self.folder);
        Ok(Made { file, tool: version.map(|version| Tool::new("rustc", version)) })
    }

    pub(crate) fn build_go(
        &self,
        out: &Path,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Made, ProjectError> {
        let go = Go::find(&self.folder)?;
        let module = self.intermediate(out, "module");
        let mut build = Command::new("go");
        build.args(["build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid="]);
        if self.manifest.kind == Kind::Http {
            build.arg("-buildmode=c-shared").arg("-overlay").arg(overlay(&go, out)?);
        }
        build.arg("-o").arg(&module).arg(".").current_dir(&self.folder);
        build.env("GOOS", "wasip1").env("GOARCH", "wasm").env("GOTOOLCHAIN", "local");
        build.env_remove("GOEXPERIMENT").env_remove("GOWASM");
        tell(&format!("building with {}", go.version));
        run(&mut build, tell)?;
        let version = go.version.strip_prefix("go").unwrap_or(&go.version);
        self.handler(module, out, Growth::ByMemory, Tool::new("go", version))
    }

    /// Compiles all of `src/*.c`.
    pub(crate) fn build_c(
        &self,
        out: &Path,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Made, ProjectError> {
        let c = C::find()?;
        let module = self.intermediate(out, "module");
        let mut clang = Command::new(&c.clang);
        clang.args(["--target=wasm32-wasi", "-O2", "-Wall", "-Wextra", "-Wl,--strip-all"]);
        let mut remap = std::ffi::OsString::from("-ffile-prefix-map=");
        remap.push(&self.folder);
        remap.push("=/src");
        clang.arg(remap);
        if self.manifest.kind == Kind::Http {
            clang.arg("-mexec-model=reactor");
        }
        clang.arg("-o").arg(&module).args(c_sources(&self.folder.join("src"))?);
        tell(&format!("building with clang {}", c.version));
        run(clang.current_dir(&self.folder), tell)?;
        self.handler(module, out, Growth::ByAllocator, Tool::new("clang", &c.version))
    }

    /// Puts `src/app.py`, what it imports and the interpreter into a component of the world in `wit`.
    pub(crate) fn build_python(
        &self,
        out: &Path,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Made, ProjectError> {
        let python = Python::find(&self.folder)?;
        let file = self.intermediate(out, "component");
        let mut componentize = Command::new(&python.componentize);
        componentize.args(["--quiet", "--wit-path", "wit", "componentize", "app"]);
        componentize.args(["--python-path", "src", "--output"]).arg(&file);
        componentize.env("VIRTUAL_ENV", self.folder.join(Python::FOLDER));
        tell(&format!("building with componentize-py {}", python.version));
        run(componentize.current_dir(&self.folder), tell)?;
        Ok(Made { file, tool: Some(Tool::new("componentize-py", python.version)) })
    }

    /// Puts `src/main.js`, what it imports and the engine into a component of the world in `wit`.
    pub(crate) fn build_javascript(
        &self,
        out: &Path,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Made, ProjectError> {
        let javascript = JavaScript::find(&self.folder)?;
        let file = self.intermediate(out, "component");
        let mut node = Command::new("node");
        node.args(["--input-type=module", "--eval", COMPONENTIZE, "src/main.js", "wit"]);
        tell(&format!("building with componentize-js {}", javascript.version));
        run(node.arg(&file).current_dir(&self.folder), tell)?;
        Ok(Made { file, tool: Some(Tool::new("componentize-js", javascript.version)) })
    }

    /// A file of which the component is made.
    fn intermediate(&self, out: &Path, what: &str) -> PathBuf {
        out.join(format!("{}.{what}.wasm", self.manifest.name))
    }

    /// A module that answers HTTP becomes a component; a command is one as it is.
    fn handler(
        &self,
        module: PathBuf,
        out: &Path,
        growth: Growth,
        tool: Tool,
    ) -> Result<Made, ProjectError> {
        let tool = Some(tool);
        if self.manifest.kind == Kind::Command {
            return Ok(Made { file: module, tool });
        }
        let file = self.intermediate(out, "component");
        let bytes = component::of_handler(&read_wasm(&module)?, growth)
            .map_err(|why| ProjectError::Component { file: module, why })?;
        at(fs::write(&file, bytes), &file)?;
        Ok(Made { file, tool })
    }
}

/// In the order of their names, which the linker's output follows.
fn c_sources(folder: &Path) -> Result<Vec<PathBuf>, ProjectError> {
    let mut found = Vec::new();
    for entry in at(fs::read_dir(folder), folder)? {
        let name = PathBuf::from(at(entry, folder)?.file_name());
        if name.extension().is_some_and(|kind| kind == "c") {
            found.push(Path::new("src").join(name));
        }
    }
    found.sort();
    Ok(found)
}

/// Writes the overlay by which Go compiles its runtime so that it shares its memory.
fn overlay(go: &Go, out: &Path) -> Result<PathBuf, ProjectError> {
    let original = go.root.join("src/runtime/mem_wasm.go");
    let source = at(fs::read_to_string(&original), &original)?;
    let patched = component::shared_memory(&source).ok_or_else(|| ProjectError::Component {
        file: original.clone(),
        why: format!(
            "{} manages its memory in a way that this Windlass doesn't know: use Go 1.24 to 1.26",
            go.version
        ),
    })?;
    let (replacement, overlay) = (out.join("mem_wasm.go"), out.join("overlay.json"));
    at(fs::write(&replacement, patched), &replacement)?;
    let replace = serde_json::json!({"Replace": {original.display().to_string(): replacement}});
    at(fs::write(&overlay, replace.to_string()), &overlay)?;
    Ok(overlay)
}

fn cargo_home() -> Option<PathBuf> {
    let named = env::var_os("CARGO_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    named.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
}

/// The WebAssembly file among what cargo says it made of this package.
fn wasm_of_cargo(printed: &str, manifest: &Path) -> Option<PathBuf> {
    let messages = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_package = messages.filter(|message| {
        let of = message["manifest_path"].as_str();
        message["reason"] == "compiler-artifact" && of.is_some_and(|of| Path::new(of) == manifest)
    });
    let mut files = of_package.flat_map(|message| {
        let files = message["filenames"].as_array().cloned().unwrap_or_default();
        files.into_iter().filter_map(|file| file.as_str().map(PathBuf::from))
    });
    files.rfind(|file| file.extension().is_some_and(|kind| kind == "wasm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_which_file_it_made() {
        let printed = r#"{"reason":"compiler-artifact","manifest_path":"/cargo/wasip2/Cargo.toml","filenames":["/t/libwasip2.rlib"]}
not json
{"reason":"compiler-artifact","manifest_path":"/p/Cargo.toml","filenames":["/t/service.wasm","/t/service.d"]}
{"reason":"build-finished","success":true}"#;
        let found = wasm_of_cargo(printed, Path::new("/p/Cargo.toml"));
        assert_eq!(found, Some("/t/service.wasm".into()));
        assert_eq!(wasm_of_cargo(printed, Path::new("/q/Cargo.toml")), None);
    }
}
