//! Guests in other languages than Rust, each by its language's own compiler, deployed with kubectl.

use anyhow::Context;
use serde_json::{Value, json};
use tempfile::TempDir;
use windlass_tests_e2e::{Kubectl, guest, http_get, http_post, wait_for};

use crate::shared;

/// A pod that runs a guest; `rest` are more members of its container.
fn deploy(kubectl: &Kubectl, guest_name: &str, rest: &str) -> anyhow::Result<()> {
    let image = format!("windlass.dev/test/{guest_name}:1");
    let file = guest(guest_name)?;
    let file = file.to_str().context("a path in UTF-8")?;
    shared().windlass(&["image", "import", &image, file])?;
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: app}}
spec:
  volumes: [{{name: data, emptyDir: {{}}}}]
  containers:
  - name: app
    image: {image}
    env: [{{name: GREETING, value: good day}}]
    volumeMounts: [{{name: data, mountPath: /data}}]
    {rest}
"
    ))?;
    // An engine for a whole language is compiled by this node, once.
    kubectl.sh("wait pod/app --for=condition=Ready --timeout=300s")?;
    Ok(())
}

fn until_logged(kubectl: &Kubectl, text: &str) {
    let logged = || kubectl.sh("logs app").ok().filter(|log| log == text);
    wait_for(&format!("{text:?} is logged"), 30, logged);
}

/// What a handler answers over HTTP, on its own address.
fn ask(kubectl: &Kubectl, path: &str, body: Option<&[u8]>) -> anyhow::Result<Value> {
    let address = kubectl.jsonpath("pod app", "{.status.podIP}")?;
    let url = format!("http://{address}:8080{path}");
    let (code, text) = match body {
        None => http_get(&url)?,
        Some(body) => http_post(&url, body)?,
    };
    anyhow::ensure!(code == 200, "{url}: {code} {text}");
    Ok(serde_json::from_str(&text)?)
}

#[test]
fn a_handler_in_python() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("python")?;
    deploy(&kubectl, "python-http", "")?;
    let told = ask(&kubectl, "/some/path?a=b", None)?;
    // The digest of nothing.
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let expected = json!({"language": "python", "path": "/some/path?a=b", "greeting": "good day",
        "bytes": 0, "sha256": nothing});
    assert_eq!(told, expected);
    let told = ask(&kubectl, "/", Some(&vec![b'x'; 300_000]))?;
    assert_eq!(told["bytes"], 300_000);
    Ok(())
}

#[test]
fn a_handler_in_javascript() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("javascript")?;
    deploy(&kubectl, "javascript-http", "")?;
    let told = ask(&kubectl, "/some/path?a=b", None)?;
    let expected =
        json!({"language": "javascript", "path": "/some/path?a=b", "bytes": 0, "reversed": ""});
    assert_eq!(told, expected);
    let told = ask(&kubectl, "/", Some(b"stressed"))?;
    assert_eq!((&told["reversed"], &told["bytes"]), (&json!("desserts"), &json!(8)));
    Ok(())
}

#[test]
fn a_command_in_c_works_on_files_that_were_copied_in() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("c")?;
    deploy(&kubectl, "c-command", "")?;
    until_logged(&kubectl, "waiting in C\n");
    let here = TempDir::new()?;
    let path = |name: &str| here.path().join(name).to_str().map(str::to_owned).context("UTF-8");
    std::fs::write(path("text")?, "one\ntwo\nthree\n")?;
    kubectl.run(&["cp", &path("text")?, "app:/data/text"])?;
    kubectl.sh("exec app -- count /data/text")?;
    kubectl.run(&["cp", "app:/data/text.count", &path("count")?])?;
    assert_eq!(std::fs::read_to_string(path("count")?)?, "3\n");
    let upper = kubectl.output(&["exec", "-i", "app", "--", "upper"], "quiet")?;
    assert_eq!(upper.stdout, "QUIET", "{upper:?}");
    let env = kubectl.sh("exec app -- env a b")?;
    assert!(env.contains("env a b\n") && env.contains("GREETING=good day"), "{env}");
    let mut failing = kubectl.spawn(&["exec", "app", "--", "exit", "4"])?;
    assert_eq!(failing.wait()?.code(), Some(4));
    let absent = kubectl.output(&["exec", "app", "--", "count", "/data/absent"], "")?;
    assert!(!absent.success && absent.stderr.contains("No such file"), "{absent:?}");
    Ok(())
}

#[test]
fn a_command_in_go() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("go")?;
    deploy(&kubectl, "go-preview1", "args: [wait]")?;
    until_logged(&kubectl, "waiting in Go\n");
    let files = kubectl.sh("exec app -- files /data")?;
    assert!(files.contains("entry by-go.txt.moved") && files.contains("outside: true"), "{files}");
    let copied = kubectl.output(&["exec", "-i", "app", "--", "cat"], "through go")?;
    assert_eq!(copied.stdout, "through go", "{copied:?}");
    let env = kubectl.sh("exec app -- env")?;
    assert!(env.contains("GREETING=good day"), "{env}");
    Ok(())
}
