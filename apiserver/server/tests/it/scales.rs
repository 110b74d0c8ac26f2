//! `/scale` and who owns the replicas.

use expect_test::{Expect, expect};
use serde_json::json;

use crate::Cluster;

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/d";

/// Runs the steps one after the other; each shows its answer and whose the replicas are then.
async fn check(steps: &[String], expected: Expect) {
    let cluster = Cluster::new().await;
    let mut out = String::new();
    for step in steps {
        let answer = cluster.run(step).await;
        let said: String = step.replace(DEPLOYMENT, "d").chars().take(60).collect();
        out += &format!("{said}\n    {}\n", answer.summary());
        let deployment = cluster.get(DEPLOYMENT).await;
        let entries = deployment["metadata"]["managedFields"].as_array().cloned();
        for entry in entries.into_iter().flatten() {
            if entry["fieldsV1"]["f:spec"]["f:replicas"].is_object() {
                let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
                let by = ["manager", "operation", "apiVersion", "subresource"].map(text).join(" ");
                let alone = entry["fieldsV1"] == json!({"f:spec": {"f:replicas": {}}});
                out += &format!(
                    "    {} by {by}{}\n",
                    deployment["spec"]["replicas"],
                    if alone { ", nothing else" } else { "" }
                );
            }
        }
    }
    expected.assert_eq(&out);
}

fn scale(how: &str, manager: &str, body: &str) -> String {
    match how {
        "PUT" => format!("PUT {DEPLOYMENT}/scale?fieldManager={manager} {body}"),
        how => format!("PATCH {DEPLOYMENT}/scale?fieldManager={manager} {how} {body}"),
    }
}

fn applied(manager: &str, replicas: Option<i64>) -> String {
    let mut spec = json!({"selector": {"matchLabels": {"app": "d"}},
        "template": {"metadata": {"labels": {"app": "d"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}});
    if let Some(replicas) = replicas {
        spec["replicas"] = json!(replicas);
    }
    let config = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec});
    format!("PATCH {DEPLOYMENT}?fieldManager={manager} apply {config}")
}

fn config(replicas: &str) -> String {
    let spec =
        if replicas.is_empty() { String::new() } else { format!(r#""replicas":{replicas}"#) };
    format!(
        r#"{{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{{"name":"d"}},"spec":{{{spec}}}}}"#
    )
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_takes_over_the_replicas() {
    check(
        &[
            applied("helm", Some(2)),
            scale("apply", "hpa", &config("3")),
            scale("apply", "hpa&force=true", &config("3")),
            // Who applied it before has to leave it out, or takes it back.
            applied("helm", Some(2)),
            applied("helm", None),
            scale("apply", "other", &config("3")),
            scale("apply", "hpa", &config("4")),
            scale("apply", "other&force=true", &config("4")),
            scale("merge", "person", r#"{"spec":{"replicas":5}}"#),
            scale("PUT", "person", r#"{"metadata":{"name":"d"},"spec":{"replicas":5}}"#),
            scale("apply", "hpa&force=true", &config("")),
            scale("apply", "hpa", r#"{"apiVersion":"v1","kind":"Scale"}"#),
            scale("apply", "", &config("1")),
            scale("merge", "person&force=true", "{}"),
            scale("apply", "person&force=true", &config("-1")),
            scale("apply", "hpa&force=true&dryRun=All", &config("9")),
        ],
        expect![[r#"
            PATCH d?fieldManager=helm apply {"apiVersion":"apps/v1","kin
                201 Deployment d
                2 by helm Apply apps/v1 
            PATCH d/scale?fieldManager=hpa apply {"apiVersion":"autoscal
                409 Conflict: Apply failed with 1 conflict: conflict with "helm": .spec.replicas
                2 by helm Apply apps/v1 
            PATCH d/scale?fieldManager=hpa&force=true apply {"apiVersion
                200 Scale d
                3 by hpa Apply apps/v1 scale, nothing else
            PATCH d?fieldManager=helm apply {"apiVersion":"apps/v1","kin
                409 Conflict: Apply failed with 1 conflict: conflict with "hpa" with subresource "scale": .spec.replicas
                3 by hpa Apply apps/v1 scale, nothing else
            PATCH d?fieldManager=helm apply {"apiVersion":"apps/v1","kin
                200 Deployment d
                3 by hpa Apply apps/v1 scale, nothing else
            PATCH d/scale?fieldManager=other apply {"apiVersion":"autosc
                200 Scale d
                3 by hpa Apply apps/v1 scale, nothing else
                3 by other Apply apps/v1 scale, nothing else
            PATCH d/scale?fieldManager=hpa apply {"apiVersion":"autoscal
                409 Conflict: Apply failed with 1 conflict: conflict with "other" with subresource "scale": .spec.replicas
                3 by hpa Apply apps/v1 scale, nothing else
                3 by other Apply apps/v1 scale, nothing else
            PATCH d/scale?fieldManager=other&force=true apply {"apiVersi
                200 Scale d
                4 by other Apply apps/v1 scale, nothing else
            PATCH d/scale?fieldManager=person merge {"spec":{"replicas":
                200 Scale d
                5 by person Update apps/v1 scale, nothing else
            PUT d/scale?fieldManager=person {"metadata":{"name":"d"},"sp
                200 Scale d
                5 by person Update apps/v1 scale, nothing else
            PATCH d/scale?fieldManager=hpa&force=true apply {"apiVersion
                200 Scale d
                5 by hpa Apply apps/v1 scale, nothing else
                5 by person Update apps/v1 scale, nothing else
            PATCH d/scale?fieldManager=hpa apply {"apiVersion":"v1","kin
                400 BadRequest: Scale in version "v1" cannot be handled as a Scale: no kind "Scale" is registered for version "v1" in scheme "pkg/runtime/scheme.go:111"
                5 by hpa Apply apps/v1 scale, nothing else
                5 by person Update apps/v1 scale, nothing else
            PATCH d/scale?fieldManager= apply {"apiVersion":"autoscaling
                422 Invalid: PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for apply patch
                5 by hpa Apply apps/v1 scale, nothing else
                5 by person Update apps/v1 scale, nothing else
            PATCH d/scale?fieldManager=person&force=true merge {}
                422 Invalid: PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for non-apply patch
                5 by hpa Apply apps/v1 scale, nothing else
                5 by person Update apps/v1 scale, nothing else
            PATCH d/scale?fieldManager=person&force=true apply {"apiVers
                422 Invalid: Scale.autoscaling "d" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0
                5 by hpa Apply apps/v1 scale, nothing else
                5 by person Update apps/v1 scale, nothing else
            PATCH d/scale?fieldManager=hpa&force=true&dryRun=All apply {
                200 Scale d
                5 by hpa Apply apps/v1 scale, nothing else
                5 by person Update apps/v1 scale, nothing else
        "#]],
    )
    .await;
}
