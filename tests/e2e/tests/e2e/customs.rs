//! Kinds that come at run time, as people use them. A Helm chart that brings its own is in `helm`.

use windlass_tests_e2e::{Cluster, Kubectl};

use crate::shared;

/// The plural name and the short one of a group's kind: kubectl finds a resource by any of its names,
/// in whatever group.
fn names(group: &str) -> (String, String) {
    let own = group.split('.').next().unwrap_or_default();
    (format!("crontabs{own}"), format!("ct{own}"))
}

/// A definition whose group and names are the test's own.
fn definition(group: &str) -> String {
    let (plural, short) = names(group);
    format!(
        r#"apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: {plural}.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{plural: {plural}, singular: one{plural}, kind: CronTab, shortNames: [{short}], categories: [all]}}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {{}}
      scale: {{specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.labelSelector}}
    additionalPrinterColumns:
    - {{name: Spec, type: string, jsonPath: .spec.cronSpec, description: When it runs}}
    - {{name: Replicas, type: integer, jsonPath: .spec.replicas}}
    - {{name: Age, type: date, jsonPath: .metadata.creationTimestamp}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            description: What to run, and when.
            x-kubernetes-validations:
            - {{rule: "self.replicas <= self.maxReplicas", message: "replicas must not be above maxReplicas"}}
            properties:
              cronSpec: {{type: string, pattern: '^(\d+|\*)(/\d+)?(\s+(\d+|\*)(/\d+)?){{4}}$', description: Five fields.}}
              replicas: {{type: integer, minimum: 1, default: 1}}
              maxReplicas: {{type: integer, default: 10}}
              image: {{type: string}}
          status:
            type: object
            properties: {{replicas: {{type: integer}}, labelSelector: {{type: string}}}}
"#
    )
}

fn object(group: &str, spec: &str) -> String {
    format!("apiVersion: {group}/v1\nkind: CronTab\nmetadata: {{name: one}}\nspec: {spec}\n")
}

fn refused(kubectl: &Kubectl, manifest: &str, words: &[&str]) -> anyhow::Result<()> {
    let output = kubectl.output(&["apply", "-f", "-"], manifest)?;
    let said = output.stdout + &output.stderr;
    assert!(!output.success, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
    Ok(())
}

fn check(minor: u32) -> anyhow::Result<()> {
    let kubectl = shared().kubectl(minor)?.in_new_namespace(&format!("customs-{minor}"))?;
    let group = format!("k{minor}.example.com");
    let (plural, short) = names(&group);
    let name = format!("{plural}.{group}");
    kubectl.apply(&definition(&group))?;
    kubectl.sh(&format!("wait --for=condition=Established --timeout=20s crd/{name}"))?;

    let explained = kubectl.sh(&format!("explain {plural}.spec"))?;
    assert!(
        explained.contains("What to run, and when.") && explained.contains("maxReplicas"),
        "{explained}"
    );
    refused(
        &kubectl,
        &object(&group, "{cronSpec: nonsense, replicas: 0}"),
        &[
            "spec.cronSpec: Invalid value: \"nonsense\": spec.cronSpec in body should match",
            "spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1",
        ],
    )?;
    refused(
        &kubectl,
        &object(&group, "{replicas: 11}"),
        &["replicas must not be above maxReplicas"],
    )?;
    refused(&kubectl, &object(&group, "{replikas: 1}"), &["unknown field \"spec.replikas\""])?;
    kubectl.apply(&object(&group, "{cronSpec: '* * * * */5', image: a}"))?;
    let table = kubectl.sh(&format!("get {short}"))?;
    assert!(
        table.starts_with("NAME   SPEC          REPLICAS   AGE\none    * * * * */5   1"),
        "{table}"
    );
    assert!(kubectl.sh("get all")?.contains("crontab"), "a category");

    kubectl.sh(&format!("scale {short}/one --replicas=3"))?;
    assert_eq!(kubectl.jsonpath(&format!("{short} one"), "{.spec.replicas}")?, "3");
    kubectl.run(&[
        "patch",
        &short,
        "one",
        "--subresource=status",
        "--type=merge",
        "-p",
        r#"{"status":{"replicas":3},"spec":{"image":"b"}}"#,
    ])?;
    assert_eq!(
        kubectl.jsonpath(
            &format!("{short} one"),
            "{.status.replicas} {.spec.image} {.metadata.generation}"
        )?,
        "3 a 2"
    );

    let apply = |manager: &str, spec: &str| {
        let manager = format!("--field-manager={manager}");
        let object = object(&group, spec).replace("name: one", "name: two");
        kubectl.output(&["apply", "--server-side", &manager, "-f", "-"], &object)
    };
    let first = apply("first", "{maxReplicas: 20}")?;
    assert!(first.success, "{first:?}");
    let rival = apply("second", "{maxReplicas: 30}")?;
    assert!(
        !rival.success && rival.stderr.contains("conflict with \"first\": .spec.maxReplicas"),
        "{rival:?}"
    );

    kubectl.sh(&format!("delete crd {name} --timeout=30s"))?;
    let gone = kubectl.output(&["get", &name], "")?;
    assert!(
        !gone.success && gone.stderr.contains("the server doesn't have a resource type"),
        "{gone:?}"
    );
    Ok(())
}

#[test]
fn custom_kinds_with_kubectl_1_30() -> anyhow::Result<()> {
    check(30)
}

#[test]
fn custom_kinds_with_kubectl_1_37() -> anyhow::Result<()> {
    check(37)
}

#[test]
fn custom_kinds_outlive_a_restart_and_go_with_their_namespace() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?.in_new_namespace("customs")?;
    kubectl.apply(&definition("restart.example.com"))?;
    kubectl.sh(
        "wait --for=condition=Established --timeout=20s crd/crontabsrestart.restart.example.com",
    )?;
    kubectl.apply(&object("restart.example.com", "{image: kept}"))?;
    cluster.stop()?;
    cluster.resume()?;
    assert_eq!(kubectl.jsonpath("ctrestart one", "{.spec.image} {.spec.replicas}")?, "kept 1");
    // A kind that has only just come is emptied with its namespace, too.
    kubectl.apply(&definition("late.example.com"))?;
    kubectl
        .sh("wait --for=condition=Established --timeout=20s crd/crontabslate.late.example.com")?;
    kubectl.apply(&object("late.example.com", "{image: late}"))?;
    kubectl.sh("delete namespace customs --timeout=60s")?;
    let left =
        kubectl.sh("get crontabslate.late.example.com,crontabsrestart.restart.example.com -A")?;
    assert!(left.is_empty(), "{left}");
    Ok(())
}
