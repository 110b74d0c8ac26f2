//! Guests of the tests in other languages than Rust: C, Go, Python and JavaScript, each by its own
//! compiler from a package registry, pinned. The compilers are kept below `target/xtask/tools`; a
//! guest is built anew only when its source, or the compiler's version, is another.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::shell::{apt, cache, capture, command, has, root, run};

/// PyPI: the C compiler of Zig, with a libc for WASI.
const ZIG: &str = "ziglang==0.17.1";
/// PyPI: an interpreter as a component, and what puts a program into it.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";
/// npm: the same for JavaScript.
const COMPONENTIZE_JS: &str = "@bytecodealliance/componentize-js@0.23.0";
/// npm: what that works with.
const JCO: &str = "@bytecodealliance/jco@1.35.0";
/// The version of the WASI packages that the engine of `COMPONENTIZE_JS` is made for.
const JS_WASI: &str = "0.2.10";
/// The crate that carries the WIT of `wasi:http`, and its world.
const WIT_CRATE: &str = "wasmtime-wasi-http";
const WORLD: &str = "bindings";

/// Folders of `tests/guests/go`: commands of WASI preview 1, found as `go-NAME.wasm`.
const GO_GUESTS: [&str; 1] = ["preview1"];

/// Builds all of them into `out`.
pub fn build(out: &Path) -> Result<()> {
    let guests = root().join("tests/guests");
    for guest in GO_GUESTS {
        build_go(&guests.join("go").join(guest), &out.join(format!("go-{guest}.wasm")))?;
    }
    build_c(&guests.join("c/command.c"), &out.join("c-command.wasm"))?;
    let wit = wit_folder()?;
    build_python(&guests.join("python"), &wit, &out.join("python-http.wasm"))?;
    build_javascript(&guests.join("javascript"), &wit, &out.join("javascript-http.wasm"))
}

/// Go's own cache makes a second build a matter of moments.
fn build_go(folder: &Path, to: &Path) -> Result<()> {
    eprintln!("xtask: building {} with Go", folder.display());
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(to).arg(".");
    go.env("GOOS", "wasip1").env("GOARCH", "wasm").env("GOTOOLCHAIN", "local");
    let status = go.current_dir(folder).status();
    let status = status.context("guests in Go need Go 1.22 or newer; it could not be started")?;
    ensure!(status.success(), "building {} with Go failed", folder.display());
    Ok(())
}

fn build_c(source: &Path, to: &Path) -> Result<()> {
    made_of(to, &[source], ZIG, || {
        let packages = pip(ZIG)?;
        let mut zig = command("python3");
        zig.args(["-m", "ziglang", "cc", "-target", "wasm32-wasi", "-Os", "-s", "-o"]);
        zig.arg(to).arg(source).env("PYTHONPATH", packages);
        // Its libc is compiled at the first use and kept there.
        zig.env("ZIG_GLOBAL_CACHE_DIR", cache("zig")).env("ZIG_LOCAL_CACHE_DIR", cache("zig"));
        run(&mut zig)
    })
}

fn build_python(folder: &Path, wit: &Path, to: &Path) -> Result<()> {
    made_of(to, &[&folder.join("app.py")], COMPONENTIZE_PY, || {
        let packages = pip(COMPONENTIZE_PY)?;
        let mut componentize = command(packages.join("bin/componentize-py"));
        componentize.args(["--quiet", "--wit-path"]).arg(wit).args(["--world", WORLD]);
        componentize.args(["componentize", "app", "--python-path"]).arg(folder);
        componentize.arg("--output").arg(to).env("PYTHONPATH", &packages);
        componentize.env_remove("VIRTUAL_ENV");
        run(&mut componentize)
    })
}

fn build_javascript(folder: &Path, wit: &Path, to: &Path) -> Result<()> {
    let (app, build) = (folder.join("app.js"), folder.join("build.mjs"));
    made_of(to, &[&app, &build], COMPONENTIZE_JS, || {
        let packages = npm(COMPONENTIZE_JS)?;
        // A script finds packages beside itself only.
        let script = packages.join("build.mjs");
        fs::copy(&build, &script)?;
        let wit = wit_of_version(wit, &packages.join("wit"), JS_WASI)?;
        let mut node = command("node");
        run(node.arg(script).arg(&app).arg(wit).arg(WORLD).arg(to))
    })
}

/// Makes `to` unless it was made of the same sources by the same compiler.
fn made_of(
    to: &Path,
    sources: &[&Path],
    compiler: &str,
    make: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mut recipe = format!("{compiler}\n");
    for source in sources {
        let text = fs::read_to_string(source);
        recipe += &text.with_context(|| format!("read {}", source.display()))?;
    }
    let folder = cache("guests");
    fs::create_dir_all(&folder)?;
    let stamp = folder.join(to.file_stem().unwrap_or_default());
    if to.is_file() && fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) {
        return Ok(());
    }
    eprintln!("xtask: building {} with {compiler}", to.display());
    make()?;
    ensure!(to.is_file(), "{compiler} made no {}", to.display());
    fs::write(stamp, recipe)?;
    Ok(())
}

/// The folder with an installed package of PyPI.
pub fn pip(package: &str) -> Result<PathBuf> {
    apt(&["python3", "python3-pip"], has("python3") && has("pip"))?;
    let folder = cache("tools").join(package.replace("==", "-"));
    if !folder.is_dir() {
        eprintln!("xtask: installing {package} from PyPI");
        installed(&folder, |work| {
            let mut pip = command("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]);
            capture(pip.arg(work).arg(package))
        })
        .with_context(|| format!("tests need {package}, which PyPI did not give"))?;
    }
    Ok(folder)
}

/// The folder below which `node_modules` holds an installed package of npm.
fn npm(package: &str) -> Result<PathBuf> {
    apt(&["nodejs", "npm"], has("node") && has("npm"))?;
    let folder = cache("tools").join(package.rsplit('/').next().unwrap_or(package));
    if !folder.is_dir() {
        eprintln!("xtask: installing {package} from npm");
        installed(&folder, |work| {
            fs::create_dir_all(work)?;
            fs::write(work.join("package.json"), r#"{"private": true}"#)?;
            let mut npm = command("npm");
            npm.args(["install", "--no-audit", "--no-fund", "--silent"]).args([package, JCO]);
            capture(npm.current_dir(work))
        })
        .with_context(|| format!("guests need {package}, which npm did not give"))?;
    }
    Ok(folder)
}

/// A folder that exists only once all of it is there.
fn installed(folder: &Path, install: impl FnOnce(&Path) -> Result<String>) -> Result<()> {
    let work = folder.with_extension("work");
    if work.is_dir() {
        fs::remove_dir_all(&work)?;
    }
    install(&work)?;
    fs::rename(&work, folder)?;
    Ok(())
}

/// Where cargo keeps the WIT of `wasi:http`, of the version that the runtime is built with.
fn wit_folder() -> Result<PathBuf> {
    let metadata =
        capture(command("cargo").args(["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let package = packages.find(|package| package["name"] == WIT_CRATE);
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let manifest = manifest.with_context(|| format!("the workspace uses no {WIT_CRATE}"))?;
    Ok(Path::new(manifest).with_file_name("wit"))
}

/// A copy of WIT files that names its packages by another patch version, within which WASI is
/// compatible.
fn wit_of_version(from: &Path, to: &Path, version: &str) -> Result<PathBuf> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if path.is_dir() {
            wit_of_version(&path, &to.join(name), version)?;
        } else {
            fs::write(to.join(name), with_version(&fs::read_to_string(&path)?, version))?;
        }
    }
    Ok(to.to_owned())
}

/// Every `0.2.N` of the text as `version`.
fn with_version(text: &str, version: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("0.2.") {
        out += &rest[..at];
        out += version;
        rest = rest[at + 4..].trim_start_matches(|c: char| c.is_ascii_digit());
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::with_version;

    #[test]
    fn versions_are_replaced_wherever_they_stand() {
        let text = "package wasi:http@0.2.12;\n@since(version = 0.2.0)\nuse a:b/c@0.2.12.{d};";
        let expected = "package wasi:http@0.2.10;\n@since(version = 0.2.10)\nuse a:b/c@0.2.10.{d};";
        assert_eq!(with_version(text, "0.2.10"), expected);
    }
}
