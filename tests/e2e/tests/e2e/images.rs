//! Images as people have them: files, layouts, and a registry (Debian's docker-registry) with a
//! password.

use anyhow::Context;
use serde_json::{Value, json};
use windlass_tests_e2e::{
    Kubectl, guest,
    registry::{Access, Registry, digest},
    wait_for,
};

use crate::shared;

pub fn pod(name: &str, image: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {more}\n  containers:\n  \
         - {{name: main, image: \"{image}\"}}\n"
    )
}

pub fn ready(kubectl: &Kubectl, name: &str) {
    wait_for(&format!("pod {name} Ready"), 60, || {
        let ready = kubectl
            .jsonpath(&format!("pod {name}"), "{.status.containerStatuses[0].ready}")
            .ok()?;
        (ready == "true").then_some(())
    });
}

/// The Events of a pod, as "Reason: message" lines.
pub fn events(kubectl: &Kubectl, pod: &str) -> String {
    let query = format!("get events --field-selector involvedObject.name={pod} -o json");
    let text = kubectl.sh(&query).unwrap_or_default();
    let tree: Value = serde_json::from_str(&text).unwrap_or_default();
    let lines = tree["items"].as_array().into_iter().flatten().map(|event| {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        format!("{}: {}\n", text("reason"), text("message"))
    });
    lines.collect()
}

#[test]
fn a_registry_with_a_password() -> anyhow::Result<()> {
    let registry = Registry::start(Access::Password, false)?;
    let image = registry.push("acme/echo", &guest("http-echo")?)?;
    let kubectl = shared().kubectl(37)?.in_new_namespace("registry")?;
    // Nobody may pull.
    kubectl.apply(&pod("nobody", &image, ""))?;
    wait_for("ImagePullBackOff", 40, || {
        let reason = "{.status.containerStatuses[0].state.waiting.reason}";
        let reason = kubectl.jsonpath("pod nobody", reason).ok()?;
        (reason == "ImagePullBackOff").then_some(())
    });
    let said = events(&kubectl, "nobody");
    assert!(said.contains(&format!("Pulling: Pulling image {image:?}")), "{said}");
    assert!(said.contains(&format!("Failed: Failed to pull image {image:?}")), "{said}");
    assert!(said.contains("pull access denied"), "{said}");
    // The pod's own secret.
    kubectl.sh(&format!(
        "create secret docker-registry login --docker-server={} --docker-username=user \
         --docker-password=secret",
        registry.address
    ))?;
    kubectl.apply(&pod("own", &image, "imagePullSecrets: [{name: login}]"))?;
    ready(&kubectl, "own");
    let said = events(&kubectl, "own");
    assert!(said.contains(&format!("Pulled: Successfully pulled image {image:?} in ")), "{said}");
    assert!(said.contains("Image size: ") && said.contains("CNCF wasm artifact"), "{said}");
    // The account's secret, for an image that isn't here yet; a secret that is missing is told.
    let other = registry.push("acme/other", &guest("http-echo")?)?;
    kubectl.apply(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: puller}\n\
         imagePullSecrets: [{name: login}, {name: gone}]\n",
    )?;
    kubectl.apply(&pod("account", &other, "serviceAccountName: puller"))?;
    ready(&kubectl, "account");
    let said = events(&kubectl, "account");
    assert!(said.contains("FailedToRetrieveImagePullSecret"), "{said}");
    // It is on the node now, and stays with `IfNotPresent` when the registry is gone.
    drop(registry);
    kubectl.apply(&pod("later", &image, ""))?;
    ready(&kubectl, "later");
    let said = events(&kubectl, "later");
    assert!(said.contains("already present on machine"), "{said}");
    Ok(())
}

#[test]
fn a_layout_folder_is_imported_and_inspected() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("layout")?;
    let folder = tempfile::tempdir()?;
    let blobs = folder.path().join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let put = |bytes: &[u8], media_type: &str| -> anyhow::Result<Value> {
        let digest = digest(bytes)?;
        std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
    };
    let config = br#"{"architecture":"wasm","os":"wasip1","config":{"Env":["GREETING=hi"]}}"#;
    let runwasi = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
    let manifest = json!({"schemaVersion": 2,
        "config": put(config, "application/vnd.oci.image.config.v1+json")?,
        "layers": [put(&std::fs::read(guest("http-echo")?)?, runwasi)?]});
    let entry = put(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json")?;
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(folder.path().join("index.json"), index.to_string())?;
    std::fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let image = "windlass.dev/test/layout:1";
    let path = folder.path().to_str().context("UTF-8")?;
    cluster.windlass(&["image", "import", image, path])?;
    let said = cluster.windlass(&["image", "inspect", image])?;
    for expected in [
        "imported",
        "OCI image with a wasm layer",
        runwasi,
        "a component of WASI 0.2",
        "wasi:http/",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    let told: Value =
        serde_json::from_str(&cluster.windlass(&["image", "inspect", image, "--json"])?)?;
    assert_eq!(told["decision"]["form"], "wasm-layer");
    assert_eq!(told["decision"]["env"], json!([["GREETING", "hi"]]));
    let listed = cluster.windlass(&["image", "list"])?;
    let line = listed.lines().find(|line| line.contains(image)).context("it is listed")?;
    assert!(line.contains(told["digest"].as_str().context("its digest")?), "{listed}");
    assert!(listed.starts_with("NODE "), "{listed}");
    let listed = cluster.windlass(&["image", "list", "--json"])?;
    let lines: Result<Vec<Value>, _> = listed.lines().map(serde_json::from_str).collect();
    assert!(lines?.iter().any(|line| line["names"] == json!([image])), "{listed}");
    let said = cluster.windlass(&["image", "inspect", "windlass.dev/test/none:1"]);
    assert!(said.expect_err("refused").to_string().contains("is not on this node"));
    kubectl.apply(&pod("layout", image, ""))?;
    ready(&kubectl, "layout");
    let said = events(&kubectl, "layout");
    assert!(said.contains("It is an OCI image with a wasm layer"), "{said}");
    Ok(())
}
