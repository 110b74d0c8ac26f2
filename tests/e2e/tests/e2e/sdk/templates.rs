//! Every template, from no folder to an answer of its Service, by what `windlass new` says to type.
//! CI goes through those whose tools it has anyway; `cargo xtask test --every-template` names all.

use std::{fs, path::Path, time::Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use windlass_tests_e2e::{
    docker::{busybox, docker, host},
    http_get, http_post,
    registry::{Access, Registry, digest},
    tool,
};

use super::{Desk, local::Local, run};
use crate::shared;

const VARIABLE: &str = "WINDLASS_TEMPLATES";
const USUAL: &str = "http-rust,http-go,static-site,keyvalue-rust,mixed";
/// componentize-py and componentize-js keep their own state in what they make: another build has
/// another digest.
const NOT_THE_SAME_AGAIN: [&str; 2] = ["http-python", "http-js"];

#[test]
fn every_template_from_no_folder_to_its_url() -> anyhow::Result<()> {
    let named = std::env::var(VARIABLE).unwrap_or_else(|_| USUAL.to_owned());
    let mut desk = Desk::new("sdk-templates")?;
    // What is compiled of Rust is compiled once: they are built one after the other.
    desk.environment.push(("CARGO_TARGET_DIR".into(), desk.path("target")));
    let registry = Registry::start(Access::Everybody, false)?;
    for template in named.split(',') {
        let began = Instant::now();
        let done = go_through(&desk, template, &registry);
        done.with_context(|| format!("template {template}"))?;
        println!("{template}: {:.1} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}

fn go_through(desk: &Desk, template: &str, registry: &Registry) -> anyhow::Result<()> {
    let name = &format!("a-{template}");
    let greeting = format!("Hello from {name}");
    let said = desk.works(&["new", name, "--template", template])?;
    for step in said.lines().filter_map(|line| line.strip_prefix("  ")) {
        take(desk, &desk.path(name), step)?;
    }
    if template == "static-site" {
        fs::write(desk.path(name).join("site/news.txt"), "a new file\n")?;
    }
    let built = desk.build(name)?;
    if !NOT_THE_SAME_AGAIN.contains(&template) {
        assert_eq!(desk.build(name)?["digest"], built["digest"]);
    }
    let home = Local::start(desk, &[name])?.get("")?;
    ensure!(home.contains(&greeting), "{home}");
    if template == "keyvalue-rust" {
        // On this machine entries are files of the project's folder, which outlive a run.
        for count in ["1\n", "2\n"] {
            let local = Local::start(desk, &[name])?;
            assert_eq!(http_post(&format!("{}home", local.url), b"")?, (200, count.to_owned()));
        }
    }

    let file = built["file"].as_str().context("a file")?;
    let pushed = desk.works(&["push", &format!("{}/shop/{name}:v1", registry.address), file])?;
    let told: Value = serde_json::from_str(&desk.works(&["inspect", pushed.trim(), "--json"])?)?;
    // What was built last, by `run`.
    assert_eq!(told["wasmDigest"], digest(&fs::read(file)?)?);
    let bom: Value = serde_json::from_str(&desk.works(&["inspect", "--sbom", pushed.trim()])?)?;
    assert_eq!(bom["metadata"]["component"]["name"], name.as_str());

    if template == "http-go" {
        // At a terminal, which `script` is, a bar shows megabytes go.
        let windlass = tool("WINDLASS_BIN")?.display().to_string();
        let push = format!("{windlass} push {}/shop/{name}:v2 {file}", registry.address);
        let script = desk.command(Path::new("script"), &["-qec", &push, "/dev/null"]).output()?;
        let shown = String::from_utf8_lossy(&script.stdout);
        ensure!(shown.contains("##] ") && shown.contains(" MiB\r"), "{shown:?}");
    }

    // An engine for a whole language is compiled by the node, too.
    let deploy = ["deploy", name, "--namespace", desk.namespace, "--timeout", "400"];
    let url = desk.works(&deploy)?.lines().last().context("it prints a URL")?.to_owned();
    let (status, answer) = http_get(&url)?;
    ensure!(status == 200 && answer == home, "{url}: {status} {answer}");
    particulars(desk, template, &url)
}

/// A line that `windlass new` says to type in the project's folder.
fn take(desk: &Desk, project: &Path, step: &str) -> anyhow::Result<()> {
    let words: Vec<&str> = step.split(' ').collect();
    match words[..] {
        ["cd" | "windlass", ..] => Ok(()),
        // On the engine of the tests, whose busybox is the base image that can't be pulled here.
        ["docker", "build", "--tag", tag, folder] => {
            docker(&host()?, &["tag", busybox()?, "busybox:stable"])?;
            let folder = project.join(folder).display().to_string();
            docker(&host()?, &["build", "--quiet", "--tag", tag, &folder]).map(drop)
        }
        _ => {
            let sh = desk.command(Path::new("sh"), &["-c", step]).current_dir(project).output()?;
            let said = [sh.stdout, sh.stderr].concat();
            ensure!(sh.status.success(), "{step}: {}", String::from_utf8_lossy(&said));
            Ok(())
        }
    }
}

/// What a template's service does beside greeting.
fn particulars(desk: &Desk, template: &str, url: &str) -> anyhow::Result<()> {
    let get = |path: &str| http_get(&format!("{url}{path}"));
    let post = |path: &str, body: &[u8]| http_post(&format!("{url}{path}"), body);
    match template {
        "static-site" => assert_eq!(get("news.txt")?, (200, "a new file\n".to_owned())),
        "keyvalue-rust" => {
            // In a cluster they are objects, which outlive what counts.
            assert_eq!(post("home", b"")?, (200, "1\n".to_owned()));
            let kubectl = shared().kubectl(37)?.in_namespace(desk.namespace);
            kubectl.sh("rollout restart deployment a-keyvalue-rust")?;
            kubectl.sh("rollout status deployment a-keyvalue-rust --timeout=60s")?;
            assert_eq!(post("home", b"")?, (200, "2\n".to_owned()));
            assert_eq!(get("home")?, (200, "2\n".to_owned()));
        }
        "mixed" => {
            let expected = (200, "from the back end of a-mixed\n".to_owned());
            assert_eq!(get("backend/")?, expected);
            assert_eq!(get("backend/nothing")?.0, 404);
        }
        _ => {
            // Bodies both ways, and more memory than a module begins with.
            let body = "0123456789abcdef".repeat(40_000);
            let (status, echoed) = post("echo", body.as_bytes())?;
            ensure!(status == 200 && echoed == body, "{status}: {} bytes", echoed.len());
            assert_eq!(get("nowhere")?.0, 404);
        }
    }
    Ok(())
}

#[test]
fn manifests_of_a_back_end_are_printed_too() -> anyhow::Result<()> {
    let desk = Desk::new("sdk-mixed")?;
    desk.works(&["new", "shop", "--template", "mixed"])?;
    // No cluster is asked, and nothing but the front end is built.
    let output = run(
        &tool("WINDLASS_BIN")?,
        &["deploy", "shop", "--dry-run", "-o", "yaml", "--namespace", "elsewhere"],
        &desk.path(""),
        shared(),
    )?;
    let manifests = String::from_utf8(output.stdout)?;
    for expected in [
        "image: shop-backend:0.1.0",
        "name: shop-backend",
        "runAsNonRoot: true",
        "windlass.dev/allowed-hosts: shop-backend:8080",
        "value: http://shop-backend:8080",
    ] {
        ensure!(manifests.contains(expected), "{expected}: {manifests}");
    }
    assert_eq!(manifests.matches("kind: Deployment").count(), 2);
    Ok(())
}
