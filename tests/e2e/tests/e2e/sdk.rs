//! The developer's way: from no folder to a URL that answers, with the compilers of this machine.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, ensure};
use serde_json::Value;
use tempfile::TempDir;
use windlass_tests_e2e::{
    Cluster, http_get, padded_guest,
    registry::{Access, Registry},
    root, tool,
};

use crate::shared;

mod guest;
mod library;
mod local;
mod templates;

/// A developer's folder, and the namespace they deploy to.
struct Desk {
    folder: TempDir,
    namespace: &'static str,
    /// Beside that of the test.
    environment: Vec<(String, PathBuf)>,
}

impl Desk {
    fn new(namespace: &'static str) -> anyhow::Result<Self> {
        shared().kubectl(37)?.in_new_namespace(namespace)?;
        let folder = TempDir::with_prefix("windlass-sdk-")?;
        Ok(Self { folder, namespace, environment: Vec::new() })
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn windlass(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(&tool("WINDLASS_BIN")?, arguments).output()?)
    }

    /// A program in this folder.
    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = command(program, arguments, self.folder.path(), shared());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What it printed on stdout.
    fn works(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.windlass(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "windlass {arguments:?}: {said}");
        ensure!(!said.contains('\u{1b}'), "colours in a pipe: {said:?}");
        Ok(String::from_utf8(output.stdout)?)
    }

    fn deploy(&self, project: &str) -> anyhow::Result<String> {
        self.works(&["deploy", project, "--namespace", self.namespace])
    }

    /// The last line of a deployment: the URL, asked at once.
    fn deploy_and_ask(&self, project: &str) -> anyhow::Result<String> {
        let printed = self.deploy(project)?;
        let url = printed.lines().last().context("it prints a URL")?.to_owned();
        let (status, body) = http_get(&url)?;
        ensure!(status == 200, "{url}: {status} {body}");
        Ok(body)
    }

    fn build(&self, project: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.works(&["build", project, "--json"])?)?)
    }

    /// Replaces text in a file of a project.
    fn edit(&self, file: &str, from: &str, to: &str) -> anyhow::Result<()> {
        let path = self.path(file);
        let text = fs::read_to_string(&path)?;
        ensure!(text.contains(from), "{file} holds no {from:?}");
        Ok(fs::write(path, text.replace(from, to))?)
    }
}

/// A program as a developer's shell starts it.
fn command(program: &Path, arguments: &[&str], folder: &Path, cluster: &Cluster) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("KUBECONFIG", cluster.kubeconfig());
    // What cargo tells the tests is nothing that a developer's shell has.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("CARGO") && name != "CARGO_HOME" {
            command.env_remove(name);
        }
    }
    command
}

fn run(
    program: &Path,
    arguments: &[&str],
    folder: &Path,
    cluster: &Cluster,
) -> anyhow::Result<Output> {
    Ok(command(program, arguments, folder, cluster).output()?)
}

fn own_tests(project: &Path, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = run(Path::new(program), arguments, project, shared())?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

#[test]
fn a_microservice_in_rust_from_no_folder_to_its_url() -> anyhow::Result<()> {
    let desk = Desk::new("sdk-rust")?;
    assert!(desk.works(&["new", "cart"])?.contains("windlass deploy"));
    own_tests(&desk.path("cart"), "cargo", &["test", "--quiet"])?;

    // The same bytes again, and in another folder.
    let built = desk.build("cart")?;
    assert_eq!(desk.build("cart")?["digest"], built["digest"]);
    fs::create_dir(desk.path("elsewhere"))?;
    let copied =
        Command::new("cp").arg("-r").arg(desk.path("cart")).arg(desk.path("elsewhere")).status()?;
    ensure!(copied.success(), "the project is copied");
    fs::remove_dir_all(desk.path("elsewhere/cart/target"))?;
    assert_eq!(desk.build("elsewhere/cart")?["digest"], built["digest"]);

    // Its folder is what is pushed where no file is named.
    let registry = Registry::start(Access::Everybody, false)?;
    let pushed = desk.works(&["push", &format!("{}/shop/cart:v1", registry.address), "cart"])?;
    let told = desk.works(&["inspect", pushed.trim(), "--json"])?;
    assert_eq!(serde_json::from_str::<Value>(&told)?["wasmDigest"], built["digest"]);
    assert_eq!(built["wasi"], "0.2");
    assert_eq!(built["allowed"], serde_json::json!({"hosts": [], "keyvalue": []}));

    // What it says of itself is in the manifest; what is under cosign's tag is told as what it is.
    let manifest = registry.manifest("shop/cart", "v1")?;
    let said = &manifest["annotations"];
    assert_eq!(said["org.opencontainers.image.title"], "cart");
    assert_eq!(said["org.opencontainers.image.version"], "0.1.0");
    assert_eq!(said["dev.windlass.language"], "Rust");
    assert!(said["dev.windlass.toolchain"].as_str().is_some_and(|tool| tool.contains("rustc 1.")));
    let told = desk.works(&["inspect", pushed.trim()])?;
    assert!(told.contains("Says:     version 0.1.0") && !told.contains("Signed:"), "{told}");
    let (_, hex) = pushed.trim().rsplit_once("sha256:").context("a digest")?;
    let signature = format!("{}/shop/cart:sha256-{hex}.sig", registry.address);
    desk.works(&["push", &signature, "cart"])?;
    let told = desk.works(&["inspect", pushed.trim()])?;
    assert!(told.contains("Signed:") && told.contains("not verified"), "{told}");
    // The cluster's registry lists what is about an image: the bill of materials.
    let pushed = desk.works(&["push", "windlass.local/sdk-rust/cart:v1", "cart"])?;
    let told = desk.works(&["inspect", pushed.trim(), "--json"])?;
    let told: Value = serde_json::from_str(&told)?;
    assert_eq!(told["attached"][0]["kind"], "application/vnd.cyclonedx+json", "{told}");
    let bom: Value = serde_json::from_str(&desk.works(&["inspect", "--sbom", pushed.trim()])?)?;
    let mut parts = bom["components"].as_array().into_iter().flatten();
    assert!(parts.any(|part| part["name"] == "wasip2"), "{bom}");

    // A dry run changes nothing; manifests are printed without a cluster.
    desk.works(&["deploy", "cart", "--namespace", desk.namespace, "--dry-run"])?;
    let kubectl = shared().kubectl(37)?.in_namespace(desk.namespace);
    assert!(!kubectl.sh("get deployments,services -o name")?.contains("cart"));
    let manifests =
        desk.works(&["deploy", "cart", "--namespace", desk.namespace, "--dry-run", "-o", "yaml"])?;
    assert!(manifests.contains("windlass.dev/allowed-hosts: ''"), "{manifests}");

    assert_eq!(desk.deploy_and_ask("cart")?, "Hello from cart\n");
    let of = |path: &str| kubectl.jsonpath("deployment cart", path);
    assert_eq!(of("{.metadata.managedFields[0].manager}")?, "windlass");
    let digest = built["digest"].as_str().context("a digest")?;
    let image = of("{.spec.template.spec.containers[0].image}")?;
    assert!(image.starts_with("windlass.local/sdk-rust/cart@sha256:"), "{image}");
    assert!(manifests.contains(&image), "{image}: {manifests}");
    let told = desk.works(&["inspect", &image, "--json"])?;
    assert_eq!(serde_json::from_str::<Value>(&told)?["wasmDigest"], digest);

    // Another answer is another image, and told as a change.
    desk.edit("cart/src/lib.rs", "Hello from", "Good day from")?;
    let shown = desk.windlass(&["deploy", "cart", "--namespace", desk.namespace, "--dry-run"])?;
    let shown = String::from_utf8(shown.stderr)?;
    assert!(
        shown.contains("containers[component].image: \"windlass.local/sdk-rust/cart@"),
        "{shown}"
    );
    assert!(shown.contains("Service sdk-rust/cart: unchanged"), "{shown}");
    assert_eq!(desk.deploy_and_ask("cart")?, "Good day from cart\n");
    Ok(())
}

#[test]
fn a_rollout_that_fails_says_why() -> anyhow::Result<()> {
    let desk = Desk::new("sdk-fails")?;
    desk.works(&["new", "cart"])?;
    let kubectl = shared().kubectl(37)?.in_namespace(desk.namespace);
    kubectl.sh("create quota none --hard=pods=0")?;
    let output = desk.windlass(&["deploy", "cart", "--namespace", desk.namespace])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("cart does not run: FailedCreate") && said.contains("exceeded quota"),
        "{said}"
    );
    assert!(output.stdout.is_empty());

    // What the compiler says is passed on; what the manifest says wrong is named.
    desk.edit("cart/src/lib.rs", "pub fn handle(", "pub fn handel(")?;
    let output = desk.windlass(&["build", "cart"])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("crate::handle"), "{said}");
    desk.edit("cart/windlass.toml", "hosts = []", "host = []")?;
    let output = desk.windlass(&["build", "cart"])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("unknown field `host`"), "{said}");
    Ok(())
}

#[test]
fn a_command_runs_to_completion() -> anyhow::Result<()> {
    let desk = Desk::new("sdk-command")?;
    desk.works(&["new", "greet", "--template", "command-rust"])?;
    own_tests(&desk.path("greet"), "cargo", &["test", "--quiet"])?;
    assert_eq!(desk.deploy("greet")?, "Hello from greet\n");
    // Again, with another environment.
    desk.edit("greet/windlass.toml", "GREETING = \"Hello\"", "GREETING = \"Welcome\"")?;
    assert_eq!(desk.deploy("greet")?, "Welcome from greet\n");

    desk.edit("greet/windlass.toml", "arguments = []", "arguments = [\"Ada\", \"Grace\"]")?;
    let output = desk.windlass(&["deploy", "greet", "--namespace", desk.namespace])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("it takes one name, not 2") && said.contains("exit code 1"), "{said}");

    // Without a cluster, too.
    let output = desk.windlass(&["run", "greet"])?;
    let said = String::from_utf8(output.stderr)?;
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("it takes one name, not 2") && said.contains("exit code 1"), "{said}");
    desk.edit("greet/windlass.toml", "arguments = [\"Ada\", \"Grace\"]", "arguments = [\"Ada\"]")?;
    assert_eq!(desk.works(&["run", "greet"])?, "Welcome Ada, from greet\n");
    let told = desk.works(&["run", "greet", "--json"])?;
    let told: Vec<Value> = told.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    assert_eq!(told[0]["event"], "log");
    assert_eq!(told[0]["line"], "Welcome Ada, from greet");
    assert_eq!((&told[1]["event"], &told[1]["exitCode"]), (&"ended".into(), &0.into()));

    // What is pushed is what another engine runs.
    let registry = Registry::start(Access::Everybody, false)?;
    let pushed = desk.works(&["push", &format!("{}/shop/greet:v1", registry.address), "greet"])?;
    desk.works(&["pull", pushed.trim(), "--output", "pulled.wasm"])?;
    let run = root().join("tests/clients/python/run.py").display().to_string();
    let mut wasmtime = desk.command(Path::new("python3"), &[&run, "pulled.wasm", "Ada"]);
    let output = wasmtime.env("PYTHONPATH", tool("WINDLASS_PYTHON_WASMTIME")?).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Hello Ada, from greet\n", "{said}");
    assert!(output.status.success(), "{said}");
    Ok(())
}

#[test]
fn builds_that_no_revision_names_leave_the_registry() -> anyhow::Result<()> {
    let desk = Desk::new("sdk-builds")?;
    let kubectl = shared().kubectl(37)?.in_namespace(desk.namespace);
    fs::create_dir(desk.path("till"))?;
    fs::write(
        desk.path("till/windlass.toml"),
        "name = 'till'\nversion = '1.0.0'\nkind = 'http'\n\
         build = {command = ['true'], file = 'till.wasm'}\n",
    )?;
    let tags = || -> anyhow::Result<Vec<String>> {
        let listed = kubectl.sh("get --raw /v2/sdk-builds/till/tags/list")?;
        let listed: Value = serde_json::from_str(&listed)?;
        let tags = listed["tags"].as_array().context("tags")?;
        Ok(tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect())
    };
    let deploy = |seed: u64| -> anyhow::Result<String> {
        let file = padded_guest("http-echo", &desk.path("till"), seed, 1 << 10)?;
        fs::rename(file, desk.path("till/till.wasm"))?;
        desk.deploy("till")?;
        kubectl.jsonpath("deployment till", "{.spec.template.spec.containers[0].image}")
    };
    let first = deploy(1)?;
    // This one a person names, too.
    desk.works(&["push", "windlass.local/sdk-builds/till:kept", "till"])?;
    kubectl.sh("patch deployment till --type=merge -p {\"spec\":{\"revisionHistoryLimit\":1}}")?;
    deploy(2)?;
    let third = deploy(3)?;
    deploy(4)?;
    let fifth = deploy(5)?;
    // The ReplicaSet of a revision goes at some time after the next but one is there: with the
    // deployment that then comes its image does.
    deploy(6)?;
    let left = tags()?;
    ensure!(left.contains(&"kept".to_owned()) && left.len() <= 4, "{left:?}");
    desk.works(&["inspect", &first])?;
    let said = String::from_utf8(desk.windlass(&["inspect", &third])?.stderr)?;
    ensure!(said.contains("not found in the cluster's registry"), "{said}");
    // What a Deployment may go back to is there.
    kubectl.sh("rollout undo deployment/till")?;
    kubectl.sh("rollout status deployment/till --timeout=60s")?;
    let image = "{.spec.template.spec.containers[0].image}";
    assert_eq!(kubectl.jsonpath("deployment till", image)?, fifth);
    Ok(())
}
