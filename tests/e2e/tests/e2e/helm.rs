//! Helm 4, which installs by server-side apply and waits by watching: one chart that brings a kind of
//! its own and hooks that are pods, from install to uninstall.

use serde_json::Value;
use windlass_tests_e2e::{Kubectl, root, wait_for};

use crate::{pods::import, shared};

/// A namespace in which the images of the chart can be run.
fn namespace(name: &str) -> anyhow::Result<Kubectl> {
    let kubectl = shared().kubectl(37)?.in_new_namespace(name)?;
    import(shared(), "windlass.dev/test/command-exit:1", "command-exit")?;
    Ok(kubectl)
}

fn chart() -> String {
    root().join("tests/e2e/tests/e2e/chart").display().to_string()
}

fn json(kubectl: &Kubectl, arguments: &[&str]) -> anyhow::Result<Value> {
    let printed = kubectl.helm(&[arguments, &["-o", "json"]].concat())?;
    Ok(serde_json::from_str(&printed)?)
}

/// What became of each revision.
fn history(kubectl: &Kubectl, release: &str) -> anyhow::Result<Vec<(u64, String)>> {
    let entries = json(kubectl, &["history", release])?;
    let entry = |of: &Value| {
        let status = of["status"].as_str().unwrap_or_default();
        (of["revision"].as_u64().unwrap_or_default(), status.to_owned())
    };
    Ok(entries.as_array().into_iter().flatten().map(entry).collect())
}

/// The image of the Deployment, how many of its pods are ready, and the custom resource's field.
fn state(kubectl: &Kubectl, release: &str) -> anyhow::Result<String> {
    let deployment = kubectl.jsonpath(
        &format!("deployment {release}"),
        "{.spec.template.spec.containers[0].image} {.status.readyReplicas}/{.spec.replicas}",
    )?;
    let sails = kubectl.jsonpath(&format!("boats.helm.example.com {release}"), "{.spec.sails}")?;
    Ok(format!("{deployment} {sails}"))
}

fn phase(kubectl: &Kubectl, pod: &str) -> anyhow::Result<String> {
    kubectl.jsonpath(&format!("pod {pod}"), "{.status.phase}")
}

#[test]
fn a_chart_with_a_kind_and_hooks_from_install_to_uninstall() -> anyhow::Result<()> {
    let kubectl = namespace("helm")?;
    let chart = chart();
    let wait = ["--wait", "--timeout", "90s"];
    let said = kubectl.helm(&[&["install", "fleet", &chart][..], &wait].concat())?;
    assert!(said.contains("STATUS: deployed") && said.contains("REVISION: 1"), "{said}");
    // It waited: for the hook before anything else, and for the pods.
    assert_eq!(state(&kubectl, "fleet")?, "windlass.dev/hello:v1 2/2 2");
    assert_eq!(phase(&kubectl, "fleet-pre-install")?, "Succeeded");
    let made = |what: &str| kubectl.jsonpath(what, "{.metadata.creationTimestamp}");
    assert!(made("pod fleet-pre-install")? <= made("deployment fleet")?);
    // Helm 4 owns what it named, as an applier.
    let owner = "{range .metadata.managedFields[?(@.operation==\"Apply\")]}{.manager}{end}";
    let managed = ["get", "service", "fleet", "--show-managed-fields", "-o"];
    let owner = kubectl.run(&[&managed[..], &[&format!("jsonpath={owner}")]].concat())?;
    assert_eq!(owner, "helm");

    let list = json(&kubectl, &["list"])?;
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    let of = |key: &str| list[0][key].as_str().unwrap_or_default().to_owned();
    assert_eq!([of("name"), of("status"), of("chart")], ["fleet", "deployed", "harbour-0.1.0"]);
    let status = json(&kubectl, &["status", "fleet"])?;
    assert_eq!((&status["info"]["status"], &status["version"]), (&"deployed".into(), &1.into()));

    let newer = ["--set", "image=windlass.dev/hello:v2,sails=5,replicas=1"];
    kubectl.helm(&[&["upgrade", "fleet", &chart][..], &newer, &wait].concat())?;
    assert_eq!(state(&kubectl, "fleet")?, "windlass.dev/hello:v2 1/1 5");
    assert_eq!(phase(&kubectl, "fleet-post-upgrade")?, "Succeeded");
    kubectl.helm(&["test", "fleet", "--timeout", "60s"])?;
    assert_eq!(phase(&kubectl, "fleet-test")?, "Succeeded");

    kubectl.helm(&[&["rollback", "fleet", "1"][..], &wait].concat())?;
    assert_eq!(state(&kubectl, "fleet")?, "windlass.dev/hello:v1 2/2 2");
    let told = |revision: u64, status: &str| (revision, status.to_owned());
    assert_eq!(
        history(&kubectl, "fleet")?,
        [told(1, "superseded"), told(2, "superseded"), told(3, "deployed")]
    );

    kubectl.helm(&["uninstall", "fleet", "--wait", "--timeout", "60s"])?;
    for gone in ["deployment", "service", "boats.helm.example.com"] {
        let left = kubectl.sh(&format!("get {gone} -o name --ignore-not-found"))?;
        assert!(left.trim().is_empty(), "{left}");
    }
    assert_eq!(
        json(&kubectl, &["list", "--all-namespaces", "--filter", "^fleet$"])?,
        Value::Array(vec![])
    );
    // Helm leaves kinds where they are, and a second release finds them.
    kubectl.sh("get crd boats.helm.example.com")?;
    Ok(())
}

#[test]
fn what_fails_in_a_chart_is_told() -> anyhow::Result<()> {
    let kubectl = namespace("helm-failures")?;
    let chart = chart();
    // A rule of the kind's schema.
    let refused = kubectl.helm(&["install", "rigged", &chart, "--set", "sails=10"]);
    let said = refused.expect_err("refused").to_string();
    assert!(said.contains("too many sails"), "{said}");
    kubectl.helm(&["uninstall", "rigged"])?;
    // A hook whose pod fails.
    kubectl.helm(&["install", "hooked", &chart])?;
    let failed = kubectl.helm(&["upgrade", "hooked", &chart, "--set", "hookExit=3"]);
    let said = failed.expect_err("the hook fails").to_string();
    assert!(said.contains("post-upgrade") && said.contains("hooked-post-upgrade"), "{said}");
    assert_eq!(phase(&kubectl, "hooked-post-upgrade")?, "Failed");
    assert_eq!(history(&kubectl, "hooked")?.last(), Some(&(2, "failed".to_owned())));
    // Pods that don't come, with and without a way back.
    let absent = ["--set", "image=windlass.dev/test/absent:1", "--wait", "--timeout", "5s"];
    let late = kubectl.helm(&[&["upgrade", "hooked", &chart][..], &absent].concat());
    let said = late.expect_err("it waited in vain").to_string();
    assert!(said.contains("hooked") && said.contains("deadline"), "{said}");
    kubectl.helm(&["rollback", "hooked", "1", "--wait", "--timeout", "60s"])?;
    wait_for("the first image is back", 20, || {
        let state = state(&kubectl, "hooked").ok()?;
        (state == "windlass.dev/hello:v1 2/2 2").then_some(())
    });
    kubectl.helm(&["uninstall", "hooked"])?;
    Ok(())
}
