//! Bad input gets one clear error that names the thing; the server goes on.

use anyhow::Context;
use windlass_tests_e2e::{guest, wait_for};

use crate::shared;

/// What `kubectl apply` says of a manifest that must be refused.
fn refusal(manifest: &str) -> anyhow::Result<String> {
    let kubectl = shared().kubectl(37)?;
    let output = kubectl.output(&["apply", "-f", "-"], manifest)?;
    assert!(!output.success, "accepted: {}", output.stdout);
    assert_eq!(kubectl.sh("get --raw /readyz")?, "ok");
    Ok(output.stderr)
}

#[test]
fn a_misspelt_field_is_named() -> anyhow::Result<()> {
    let said = refusal("{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, dta: {a: b}}")?;
    assert!(said.contains("unknown field \"dta\""), "{said}");
    Ok(())
}

#[test]
fn a_wrong_type_is_named() -> anyhow::Result<()> {
    let said = refusal(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {replicas: many, selector: {}, template: {}}}",
    )?;
    assert!(said.contains("replicas"), "{said}");
    Ok(())
}

#[test]
fn an_unknown_kind_is_named() -> anyhow::Result<()> {
    let said = refusal("{apiVersion: example.com/v1, kind: Sprocket, metadata: {name: x}}")?;
    assert!(said.contains("Sprocket"), "{said}");
    Ok(())
}

#[test]
fn a_missing_required_field_is_named() -> anyhow::Result<()> {
    let said = refusal(
        "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: main}]}}",
    )?;
    assert!(said.contains("spec.containers[0].image") && said.contains("Required value"), "{said}");
    Ok(())
}

#[test]
fn a_field_that_is_not_honoured_yet_is_refused_by_name() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("refused")?;
    kubectl.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: volumes}
spec:
  containers: [{name: main, image: \"windlass.dev/hello:v1\"}]
  volumes: [{name: scratch, persistentVolumeClaim: {claimName: c}}]
",
    )?;
    wait_for("the container waits with the reason", 20, || {
        let reason = kubectl
            .jsonpath("pod volumes", "{.status.containerStatuses[0].state.waiting.reason}")
            .ok()?;
        (reason == "CreateContainerConfigError").then_some(())
    });
    let events = wait_for("an event names the field", 20, || {
        kubectl.sh("get events -o wide").ok().filter(|events| events.contains("spec.volumes"))
    });
    assert!(events.contains("pod/volumes"), "{events}");
    Ok(())
}

#[test]
fn an_image_that_is_not_there_is_named() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("no-image")?;
    kubectl.sh("run absent --image=windlass.dev/test/absent:9")?;
    let mut seen = std::collections::BTreeSet::new();
    wait_for("ErrImagePull, then ImagePullBackOff", 40, || {
        let reason = kubectl
            .jsonpath("pod absent", "{.status.containerStatuses[0].state.waiting.reason}")
            .ok()?;
        seen.insert(reason);
        (seen.contains("ErrImagePull") && seen.contains("ImagePullBackOff")).then_some(())
    });
    let described = kubectl.sh("describe pod absent")?;
    assert!(described.contains("windlass.dev/test/absent:9"), "{described}");
    Ok(())
}

#[test]
fn an_import_that_the_host_lacks_is_named() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("no-import")?;
    let file = guest("http-unknown-import")?;
    cluster.windlass(&[
        "image",
        "import",
        "windlass.dev/test/unknown:1",
        file.to_str().context("UTF-8")?,
    ])?;
    kubectl.sh("run unknown --image=windlass.dev/test/unknown:1")?;
    let message = wait_for("the container waits with the interface's name", 30, || {
        let path = "{.status.containerStatuses[0].state.waiting.message}";
        kubectl.jsonpath("pod unknown", path).ok().filter(|message| !message.is_empty())
    });
    assert!(message.contains("acme:gadgets/lathe"), "{message}");
    Ok(())
}

#[test]
fn a_file_that_is_no_wasm_is_refused_at_import() -> anyhow::Result<()> {
    let cluster = shared();
    let file = cluster.data_dir().join("no.wasm");
    std::fs::write(&file, b"this is no wasm")?;
    let path = file.to_str().context("UTF-8")?;
    let said = cluster
        .windlass(&["image", "import", "windlass.dev/test/no:1", path])
        .expect_err("refused")
        .to_string();
    assert!(
        said.contains("no.wasm") || said.contains("WebAssembly") || said.contains("wasm"),
        "{said}"
    );
    Ok(())
}

#[test]
fn wrong_flags_and_files_exit_2_and_name_themselves() -> anyhow::Result<()> {
    let binary = std::env::var_os("WINDLASS_BIN").context("run the tests by `cargo xtask test`")?;
    for (arguments, named) in [
        (&["up", "--listn", "x"][..], "--listn"),
        (&["up", "--listen", "nowhere"][..], "nowhere"),
        (&["image", "import", "a:b", "/does/not/exist.wasm"][..], "/does/not/exist.wasm"),
    ] {
        let output = std::process::Command::new(&binary).args(arguments).output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
    Ok(())
}
