//! `kubectl apply --server-side`: two appliers of one object, a conflict and how it ends, what is
//! taken away again, and an object that was applied on kubectl's side before.

use serde_json::Value;
use windlass_tests_e2e::Kubectl;

use crate::shared;

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared}\n";

fn apply(kubectl: &Kubectl, more: &[&str], data: &str) -> anyhow::Result<(bool, String)> {
    let arguments = [&["apply", "--server-side", "-f", "-"], more].concat();
    let output = kubectl.output(&arguments, &format!("{MAP}data: {data}\n"))?;
    Ok((output.success, output.stdout + &output.stderr))
}

fn data(kubectl: &Kubectl) -> anyhow::Result<Value> {
    let object: Value = serde_json::from_str(&kubectl.sh("get configmap shared -o json")?)?;
    Ok(object["data"].clone())
}

fn check(minor: u32) -> anyhow::Result<()> {
    let kubectl = shared().kubectl(minor)?.in_new_namespace(&format!("apply-{minor}"))?;
    let (one, two) = (["--field-manager=one"], ["--field-manager=two"]);
    let (ok, said) = apply(&kubectl, &one, "{a: '1', b: '1'}")?;
    assert!(ok && said.contains("configmap/shared serverside-applied"), "{said}");
    let (ok, said) = apply(&kubectl, &two, "{b: '2', c: '2'}")?;
    assert!(!ok && said.contains("conflict with \"one\": .data.b"), "{said}");
    let (ok, said) =
        apply(&kubectl, &["--field-manager=two", "--force-conflicts"], "{b: '2', c: '2'}")?;
    assert!(ok, "{said}");
    // What one names no more is nobody's, and goes; b is two's.
    assert!(apply(&kubectl, &one, "{}")?.0);
    assert_eq!(data(&kubectl)?, serde_json::json!({"b": "2", "c": "2"}));
    let managers = kubectl.sh("get configmap shared --show-managed-fields -o jsonpath={.metadata.managedFields[*].manager}")?;
    let mut managers: Vec<&str> = managers.split(' ').collect();
    managers.sort_unstable();
    assert_eq!(managers, ["one", "two"]);

    // From kubectl's side to the server's: no conflict with itself, and the other way round.
    kubectl.sh("delete configmap shared")?;
    kubectl.apply(&format!("{MAP}data: {{a: '1', b: '1'}}\n"))?;
    let (ok, said) = apply(&kubectl, &[], "{a: '2'}")?;
    assert!(ok && !said.contains("conflict"), "{said}");
    assert_eq!(data(&kubectl)?, serde_json::json!({"a": "2"}));
    let diff = kubectl
        .output(&["diff", "--server-side", "-f", "-"], &format!("{MAP}data: {{a: '3'}}\n"))?;
    assert!(diff.stdout.contains("+  a: \"3\"") && diff.stdout.contains("-  a: \"2\""), "{diff:?}");
    Ok(())
}

#[test]
fn server_side_with_kubectl_1_30() -> anyhow::Result<()> {
    check(30)
}

#[test]
fn server_side_with_kubectl_1_37() -> anyhow::Result<()> {
    check(37)
}
