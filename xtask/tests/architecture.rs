//! The rules of ARCHITECTURE.md that a machine can hold: who may use whom, where the heavy
//! dependencies may appear, how long a file may be, and that no test is switched off.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// Lines; a file above it tells more than one story.
const MOST_LINES: usize = 600;

/// A crate and the crates of this workspace that it may use besides itself (not for tests).
const MAY_USE: [(&str, &[&str]); 26] = [
    ("sdk-meta", &[]),
    ("sdk-types", &["sdk-meta"]),
    ("sdk-client", &["sdk-meta", "sdk-types"]),
    ("sdk-package", &["sdk-meta"]),
    ("sdk-distribution", &["sdk-meta", "sdk-package"]),
    ("sdk-project", &["sdk-meta", "sdk-package"]),
    ("apiserver-store", &["sdk-meta"]),
    ("apiserver-schema", &["sdk-meta"]),
    ("apiserver-registry", &["sdk-meta", "apiserver-schema"]),
    ("apiserver-access", &["sdk-meta", "apiserver-schema", "apiserver-registry"]),
    ("apiserver-cel", &[]),
    ("apiserver-custom", &["sdk-meta", "apiserver-schema", "apiserver-registry", "apiserver-cel"]),
    (
        "apiserver-server",
        &[
            "sdk-meta",
            "apiserver-store",
            "apiserver-schema",
            "apiserver-registry",
            "apiserver-cel",
            "apiserver-custom",
            "apiserver-access",
        ],
    ),
    ("scheduler-core", &["sdk-meta", "sdk-types"]),
    ("scheduler-driver", &["sdk-meta", "sdk-types", "sdk-client", "scheduler-core"]),
    ("controllers", &["sdk-meta", "sdk-types", "sdk-client"]),
    ("runtime-api", &["sdk-meta"]),
    ("runtime-streams", &[]),
    ("runtime-net", &["sdk-meta", "sdk-types", "sdk-client", "runtime-api"]),
    ("runtime-data", &["sdk-meta", "sdk-types", "sdk-client", "runtime-api", "runtime-net"]),
    ("runtime-image", &["sdk-meta", "sdk-package", "sdk-distribution", "runtime-api"]),
    ("runtime-volume", &["sdk-meta", "sdk-types"]),
    ("runtime-logs", &["sdk-meta"]),
    ("runtime-docker", &["sdk-meta", "runtime-api", "runtime-logs", "runtime-net"]),
    ("runtime-wasm", &["sdk-meta", "runtime-api", "runtime-logs", "runtime-net"]),
    (
        "runtime-agent",
        &[
            "sdk-meta",
            "sdk-types",
            "sdk-client",
            "runtime-api",
            "runtime-image",
            "runtime-net",
            "runtime-streams",
            "runtime-volume",
        ],
    ),
];

/// A dependency and the only crates that may name it.
const ONLY_IN: [(&str, &[&str]); 11] = [
    ("wasmtime", &["runtime-wasm"]),
    ("wasmtime-wasi", &["runtime-wasm"]),
    ("wasmtime-wasi-http", &["runtime-wasm"]),
    ("wasmtime-wasi-tls", &["runtime-wasm"]),
    ("bollard", &["runtime-docker"]),
    ("axum", &["apiserver-server", "runtime-agent", "sdk-distribution"]),
    ("sled", &["apiserver-store"]),
    ("etcd-client", &["apiserver-store"]),
    ("rusqlite", &["runtime-data"]),
    ("k8s-openapi", &["sdk-types"]),
    ("kube-cel", &["apiserver-cel"]),
];

const WITHOUT_TOKIO: [&str; 6] = [
    "sdk-meta",
    "apiserver-schema",
    "apiserver-registry",
    "apiserver-cel",
    "apiserver-custom",
    "scheduler-core",
];

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let crates = crates();
    let mut wrong = Vec::new();
    for (name, dependencies) in &crates {
        let allowed = MAY_USE.iter().find(|(known, _)| known == name).map(|(_, allowed)| *allowed);
        for dependency in dependencies {
            let own = dependency.strip_prefix("windlass-");
            if let (Some(own), Some(allowed)) = (own, allowed)
                && !allowed.contains(&own)
            {
                wrong.push(format!("{name} may not use {own}"));
            }
            if let Some((_, only)) = ONLY_IN.iter().find(|(known, _)| known == dependency)
                && !only.contains(&name.as_str())
            {
                wrong.push(format!("{name} may not use {dependency}: only {only:?}"));
            }
            if dependency == "tokio" && WITHOUT_TOKIO.contains(&name.as_str()) {
                wrong.push(format!("{name} may not use tokio"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(name, _)| *name).collect();
    let free = ["windlass", "xtask", "tests-e2e", "tests-sim", "tests-bench", "tests-oracle"];
    for name in crates.keys() {
        assert!(
            known.contains(name.as_str()) || free.contains(&name.as_str()),
            "no rule for {name}"
        );
    }
}

#[test]
fn files_are_short_and_no_test_is_switched_off() {
    let mut wrong = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).expect("readable source");
        let shown = path.strip_prefix(root()).expect("below the root").display();
        if text.lines().count() > MOST_LINES {
            wrong.push(format!(
                "{shown} has {} lines of at most {MOST_LINES}",
                text.lines().count()
            ));
        }
        // Spelt in two parts, so that this file doesn't find itself.
        for mark in [concat!("#[ign", "ore"), concat!("to", "do!("), concat!("unimple", "mented!(")]
        {
            if text.contains(mark) {
                wrong.push(format!("{shown} holds {mark}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn one_integration_test_binary_a_crate() {
    for (name, folder) in folders() {
        let Ok(entries) = fs::read_dir(folder.join("tests")) else { continue };
        if name == "windlass" {
            continue;
        }
        let binaries = entries.flatten().filter(|entry| {
            let path = entry.path();
            path.extension().is_some_and(|kind| kind == "rs") || path.join("main.rs").is_file()
        });
        assert!(binaries.count() <= 1, "{name} has more than one integration test binary");
    }
}

/// Direct dependencies of each crate, those of tests left out; names without the common prefix.
fn crates() -> BTreeMap<String, Vec<String>> {
    let normal = |dependency: &&Value| dependency["kind"].is_null();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let dependencies = |package: &Value| {
        package["dependencies"].as_array().into_iter().flatten().filter(normal).map(name).collect()
    };
    packages().iter().map(|package| (short(package), dependencies(package))).collect()
}

fn folders() -> BTreeMap<String, PathBuf> {
    let folder = |package: &Value| {
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        manifest.parent().map(Path::to_owned).unwrap_or_default()
    };
    packages().iter().map(|package| (short(package), folder(package))).collect()
}

fn short(package: &Value) -> String {
    let name = package["name"].as_str().unwrap_or_default();
    name.strip_prefix("windlass-").unwrap_or(name).to_owned()
}

fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    metadata["packages"].as_array().cloned().unwrap_or_default()
}

fn sources() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "*.rs"])
        .current_dir(root())
        .output()
        .expect("git lists the sources");
    let list = String::from_utf8(output.stdout).expect("names are text");
    list.lines().map(|line| root().join(line)).filter(|path| path.is_file()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the root")
}
