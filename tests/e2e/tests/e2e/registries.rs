//! Images of containers and of WASM from registries of every sort, by the engine and by the node
//! itself where a file says how registries are reached; and WASM that is in the engine's store.

use std::{fs, process::Command};

use anyhow::{Context, ensure};
use windlass_tests_e2e::{
    Cluster, Kubectl, Options,
    docker::{BUSYBOX, busybox, docker, host},
    guest,
    registry::{Access, Registry},
    tool, wait_for,
};

use crate::{
    images::{events, pod, ready},
    shared,
};

/// A pod of a container from a registry, with the Secret of this name.
fn container(name: &str, image: &str, secret: &str) -> String {
    let secret = match secret {
        "" => String::new(),
        secret => format!("imagePullSecrets: [{{name: {secret}}}], "),
    };
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{{secret}\
         terminationGracePeriodSeconds: 0, containers: [{{name: main, image: \"{image}\", \
         imagePullPolicy: Always, command: [sleep, '1000']}}]}}}}"
    )
}

fn secret(kubectl: &Kubectl, name: &str, registry: &Registry) -> anyhow::Result<()> {
    let secret = registry.secret();
    let mut words = vec!["create", "secret", "docker-registry", name];
    words.extend(secret.iter().map(String::as_str));
    kubectl.run(&words)?;
    Ok(())
}

/// Pushes the tests' image, of which the engine then has it under no name of this registry.
fn push(registry: &Registry, repository: &str) -> anyhow::Result<String> {
    busybox()?;
    registry.push_from(&host()?, BUSYBOX, repository)
}

#[test]
fn docker_pulls_containers_from_registries_of_every_sort() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("registries")?;
    let sorts = [
        ("open", Access::Everybody, false),
        ("password", Access::Password, false),
        ("password-tls", Access::Password, true),
        ("token", Access::Token, false),
        ("token-tls", Access::Token, true),
    ];
    for (name, access, tls) in sorts {
        let registry = Registry::start(access, tls)?;
        let image = push(&registry, &format!("shop/{name}:v1"))?;
        let is_open = access == Access::Everybody;
        if !is_open {
            kubectl.apply(&container(&format!("{name}-nobody"), &image, ""))?;
            secret(&kubectl, name, &registry)?;
        }
        // Where no TLS is said of a registry on the machine itself, the node asks without; what it
        // can't tell about an image there Docker finds out.
        let class = if tls { "runtimeClassName: docker, " } else { "" };
        let manifest = container(name, &image, if is_open { "" } else { name });
        kubectl.apply(&manifest.replace("spec: {", &format!("spec: {{{class}")))?;
        ready(&kubectl, name);
        let said = events(&kubectl, name);
        ensure!(said.contains("Successfully pulled image"), "{said}");
        let id = kubectl
            .jsonpath(&format!("pod {name}"), "{.status.containerStatuses[0].containerID}")?;
        ensure!(id.starts_with("docker://"), "{name}: {id}");
        if !is_open {
            wait_for("who has no password is told so", 40, || {
                let said = events(&kubectl, &format!("{name}-nobody"));
                said.contains("Failed to pull image").then_some(())
            });
        }
        kubectl.sh(&format!("delete pod {name} --wait=false"))?;
        docker(&host()?, &["rmi", "-f", &image])?;
    }
    Ok(())
}

#[test]
fn a_node_that_is_told_of_its_registries_reaches_them_for_every_image() -> anyhow::Result<()> {
    let (mirror, tokens) =
        (Registry::start(Access::Password, false)?, Registry::start(Access::Token, true)?);
    let echo = guest("http-echo")?;
    mirror.push("shop/echo", &echo)?;
    push(&mirror, "shop/cart:v1")?;
    let in_tokens = push(&tokens, "shop/cart:v1")?;
    let digest = mirror.digest("shop/cart", "v1")?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registries.yaml");
    fs::write(
        &file,
        format!(
            "mirrors:
  registry.windlass.test:
    endpoint: ['http://127.0.0.1:1', 'http://{mirror}']
configs:
  '{mirror}':
    auth: {{username: user, password: secret}}
  '{tokens}':
    tls: {{ca_file: {authority}}}
",
            mirror = mirror.address,
            tokens = tokens.address,
            authority = tokens.authority().display()
        ),
    )?;
    let arguments = vec!["--registries".to_owned(), file.display().to_string()];
    let cluster = Cluster::start_with(Options { arguments, ..Options::default() })?;
    let kubectl = cluster.kubectl(37)?;
    secret(&kubectl, "login", &tokens)?;
    let named = "registry.windlass.test/shop";
    kubectl.apply(&pod("wasm", &format!("{named}/echo:v1"), ""))?;
    kubectl.apply(&container("mirrored", &format!("{named}/cart:v1"), ""))?;
    kubectl.apply(&container("by-digest", &format!("{named}/cart@{digest}"), ""))?;
    // With the authority's certificate it is trusted, and asked with TLS.
    kubectl.apply(&container("tokens", &in_tokens, "login"))?;
    kubectl.apply(&container("absent", &format!("{named}/none:v1"), ""))?;
    for name in ["wasm", "mirrored", "by-digest", "tokens"] {
        ready(&kubectl, name);
        let said = events(&kubectl, name);
        ensure!(said.contains("Successfully pulled image"), "{said}");
    }
    // It is asked again where the pod says so, and taken as it is where not.
    kubectl.apply(&container("again", &format!("{named}/cart:v1"), ""))?;
    let present = container("present", &format!("{named}/cart:v1"), "");
    kubectl.apply(&present.replace("Always", "IfNotPresent"))?;
    for (name, said) in [("again", "Successfully pulled"), ("present", "already present")] {
        ready(&kubectl, name);
        ensure!(events(&kubectl, name).contains(said), "{}", events(&kubectl, name));
    }
    // Each place that was asked is told.
    let told = wait_for("the failure", 40, || {
        let said = events(&kubectl, "absent");
        said.contains("Failed to pull image").then_some(said)
    });
    ensure!(told.contains("mirrors: 127.0.0.1:1: ") && told.contains("not found"), "{told}");
    // No engine keeps what the tests left there.
    kubectl.sh("delete pods --all --wait=true")?;
    for image in [
        format!("{named}/cart:v1"),
        format!("{named}/cart:{}", digest.replace(':', "-")),
        in_tokens,
    ] {
        docker(&host()?, &["rmi", "-f", &image])?;
    }
    Ok(())
}

#[test]
fn a_file_of_registries_that_can_t_be_honoured_is_named() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("registries.yaml");
    fs::write(&file, "mirrors: {a.example: {endpoint: ['ftp://b.example']}}")?;
    let output = Command::new(std::env::var("WINDLASS_BIN")?)
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .arg("--registries")
        .arg(&file)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "{said}");
    ensure!(said.contains("--registries: ") && said.contains("registries.yaml: "), "{said}");
    ensure!(said.contains("mirrors of a.example: \"ftp://b.example\" is no endpoint"), "{said}");
    Ok(())
}

/// An image of Docker's with a wasm file as its entrypoint.
const WASM_IMAGE: &str = r#"
set -e
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cp "$1" "$root/app.wasm"
tar -C "$root" -c . | docker import -c 'ENTRYPOINT ["/app.wasm"]' - "$2"
"#;

#[test]
fn wasm_in_docker_s_store_runs_as_wasm() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("taken-over")?;
    let (host, image) = (host()?, "windlass.test/echo:built");
    let built = Command::new("sh")
        .args(["-c", WASM_IMAGE, "build"])
        .arg(guest("http-echo")?)
        .arg(image)
        .env("DOCKER_HOST", &host)
        .output()?;
    ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    kubectl.apply(&pod("echo", image, ""))?;
    ready(&kubectl, "echo");
    let id = kubectl.jsonpath("pod echo", "{.status.containerStatuses[0].containerID}")?;
    ensure!(id.starts_with("wasm://"), "{id}");
    let said = events(&kubectl, "echo");
    ensure!(said.contains("already present on machine"), "{said}");
    // Once it is taken over it needs no engine.
    docker(&host, &["rmi", image])?;
    kubectl.apply(&pod("later", image, ""))?;
    ready(&kubectl, "later");
    Ok(())
}

/// A developer's folder, from where `windlass` works with one registry.
struct Desk {
    folder: tempfile::TempDir,
    registry: Registry,
    name: String,
}

impl Desk {
    fn new(access: Access, tls: bool) -> anyhow::Result<Self> {
        let registry = Registry::start(access, tls)?;
        let name = format!("{}/shop/echo:v1", registry.address);
        let folder = tempfile::tempdir()?;
        let file = match tls {
            true => format!(
                "configs: {{'{}': {{tls: {{ca_file: {}}}}}}}",
                registry.address,
                registry.authority().display()
            ),
            false => String::new(),
        };
        fs::write(folder.path().join("registries.yaml"), file)?;
        Ok(Self { folder, registry, name })
    }

    /// Its exit code, and what it says on stdout, or on stderr where it fails.
    fn windlass(&self, arguments: &[&str]) -> anyhow::Result<(i32, String)> {
        let output = Command::new(tool("WINDLASS_BIN")?)
            .args(arguments)
            .args(["--registries", "registries.yaml"])
            .current_dir(self.folder.path())
            .env("DOCKER_CONFIG", self.folder.path())
            .output()?;
        let said = if output.status.success() { output.stdout } else { output.stderr };
        let code = output.status.code().context("it ends by itself")?;
        Ok((code, String::from_utf8(said)?))
    }

    fn works(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let (code, said) = self.windlass(arguments)?;
        ensure!(code == 0, "windlass {arguments:?}: {said}");
        Ok(said)
    }

    fn fails(&self, arguments: &[&str], wanted: i32, why: &str) -> anyhow::Result<()> {
        let (code, said) = self.windlass(arguments)?;
        ensure!(code == wanted && said.contains(why), "windlass {arguments:?}: {code} {said}");
        Ok(())
    }
}

#[test]
fn wasm_goes_to_registries_of_every_sort_and_comes_back() -> anyhow::Result<()> {
    let echo = guest("http-echo")?;
    let file = echo.to_string_lossy();
    for (access, tls) in
        [(Access::Everybody, false), (Access::Password, false), (Access::Token, true)]
    {
        let open = access == Access::Everybody;
        let desk = Desk::new(access, tls)?;
        if !open {
            desk.fails(&["push", &desk.name, &file], 1, "push access denied")?;
            desk.fails(&["pull", &desk.name], 1, "denied")?;
            desk.registry.login(desk.folder.path())?;
        }
        let pushed = desk.works(&["push", &desk.name, &file])?;
        let digest = pushed.trim().rsplit_once('@').context("its digest")?.1.to_owned();
        ensure!(desk.works(&["push", &desk.name, &file])? == pushed, "the same bytes again");

        let inspected = desk.works(&["inspect", &desk.name])?;
        for told in [&*digest, "a CNCF wasm artifact", "wasi:http/incoming-handler@0.2"] {
            ensure!(inspected.contains(told), "{told}: {inspected}");
        }
        desk.works(&["pull", &desk.name])?;
        ensure!(fs::read(desk.folder.path().join("echo.wasm"))? == fs::read(&echo)?);
        desk.fails(&["pull", &desk.name], 2, "--force")?;
        desk.works(&["pull", pushed.trim(), "--force", "--output", "echo.wasm"])?;
        desk.fails(&["pull", &desk.name.replace("v1", "v2"), "-o", "x"], 1, "not found")?;
        desk.fails(&["push", pushed.trim(), &file], 1, "named by a tag")?;
        desk.fails(&["push", &desk.name, "registries.yaml"], 1, "not a WebAssembly binary")?;
        if open {
            let kubectl = shared().kubectl(37)?.in_new_namespace("pushed")?;
            kubectl.apply(&pod("pushed", pushed.trim(), ""))?;
            ready(&kubectl, "pushed");

            // The form for other runtimes runs here as well, and holds the same bytes.
            let name = desk.name.replace("v1", "compat");
            let compat = desk.works(&["push", "--compat", &name, &file])?;
            ensure!(desk.works(&["push", "--compat", &name, &file])? == compat, "the same image");
            let inspected = desk.works(&["inspect", &name])?;
            ensure!(inspected.contains("/echo.wasm"), "{inspected}");
            desk.works(&["pull", &name, "--output", "compat.wasm"])?;
            ensure!(fs::read(desk.folder.path().join("compat.wasm"))? == fs::read(&echo)?);
            kubectl.apply(&pod("compat", compat.trim(), ""))?;
            ready(&kubectl, "compat");
        }
    }
    Ok(())
}

#[test]
fn a_file_is_inspected_without_a_cluster() -> anyhow::Result<()> {
    let desk = Desk::new(Access::Everybody, false)?;
    let echo = guest("http-echo")?;
    let told = desk.works(&["inspect", &echo.to_string_lossy(), "--json"])?;
    let told: serde_json::Value = serde_json::from_str(&told)?;
    ensure!(told["sort"] == "component", "{told}");
    ensure!(told["wasmSize"] == fs::metadata(&echo)?.len(), "{told}");
    desk.fails(&["inspect", "registries.yaml"], 2, "no WebAssembly")
}
