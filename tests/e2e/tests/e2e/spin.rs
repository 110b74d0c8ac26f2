//! A Spin application and key-value stores, as people deploy them.

use std::{path::Path, process::Command, thread};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use windlass_tests_e2e::{Kubectl, first_answer, guest, http_get, registry::digest, wait_for};

use crate::shared;

/// Writes an OCI layout with the parts that `spin registry push` makes, and packs it.
fn spin_archive(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let layout = folder.join("layout");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let put = |bytes: &[u8], media_type: &str| -> anyhow::Result<Value> {
        let digest = digest(bytes)?;
        std::fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes)?;
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
    };
    let wasm = "application/vnd.wasm.content.layer.v1+wasm";
    let web = put(&std::fs::read(guest("http-spin")?)?, wasm)?;
    let hello = put(&std::fs::read(guest("http-config")?)?, wasm)?;
    let page = "a page of more than a few words\n".repeat(8);
    let page = put(page.as_bytes(), "application/vnd.wasm.content.layer.v1+data")?;
    let app = json!({
        "spin_lock_version": 1,
        "metadata": {"name": "shop", "origin": "file:///spin.toml"},
        "variables": {"greeting": {"default": "hi"}, "token": {"secret": true}},
        "triggers": [
            {"id": "web", "trigger_type": "http",
                "trigger_config": {"component": "web", "executor": null, "route": "/shop/:user/..."}},
            {"id": "hello", "trigger_type": "http",
                "trigger_config": {"component": "hello", "route": "/hello"}},
        ],
        "components": [
            {"id": "web", "source": {"content_type": "application/wasm", "digest": web["digest"]},
                "files": [{"path": "static/page.txt", "digest": page["digest"]}],
                "config": {"text": "{{ greeting }}, {{ token }}"},
                "metadata": {"key_value_stores": ["default"], "databases": ["default"],
                    "allowed_outbound_hosts": ["http://self"]}},
            {"id": "hello", "source": {"content_type": "application/wasm", "digest": hello["digest"]}},
        ],
    });
    let app =
        put(app.to_string().as_bytes(), "application/vnd.fermyon.spin.application.v1+config")?;
    let config = br#"{"architecture":"wasm","os":"wasip1"}"#;
    let manifest = json!({"schemaVersion": 2,
        "config": put(config, "application/vnd.oci.image.config.v1+json")?,
        "layers": [web, hello, page, app]});
    let entry = put(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json")?;
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(layout.join("index.json"), index.to_string())?;
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let archive = folder.join("shop.tar");
    let mut tar = Command::new("tar");
    let status = tar.arg("-cf").arg(&archive).arg("-C").arg(&layout).arg(".").status()?;
    ensure!(status.success(), "tar failed");
    Ok(archive)
}

fn deployment(name: &str, image: &str, replicas: u32, more: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  \
         replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
         metadata: {{labels: {{app: {name}}}}}\n    spec:\n      containers:\n      \
         - {{name: main, image: \"{image}\", ports: [{{containerPort: 8080}}]{more}}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, \
         ports: [{{port: 80, targetPort: 8080}}]}}\n"
    )
}

/// The Service's URL, once the Deployment has rolled out.
fn rolled_out(kubectl: &Kubectl, name: &str) -> anyhow::Result<String> {
    kubectl.sh(&format!("rollout status deployment/{name} --timeout=60s"))?;
    let address = kubectl.jsonpath(&format!("service {name}"), "{.spec.clusterIP}")?;
    let url = format!("http://{address}");
    first_answer(&url);
    Ok(url)
}

#[test]
fn a_spin_application_is_deployed() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("spin")?;
    let folder = tempfile::tempdir()?;
    let archive = spin_archive(folder.path())?;
    let image = "windlass.dev/test/shop:1";
    cluster.windlass(&["image", "import", image, archive.to_str().context("UTF-8")?])?;
    let said = cluster.windlass(&["image", "inspect", image])?;
    ensure!(said.contains("a Spin application") && said.contains("web, hello"), "{said}");

    // A variable that is missing is told in the waiting container, by its name.
    kubectl.apply(&deployment("early", image, 1, ""))?;
    wait_for("the missing variable is told", 30, || {
        let message = kubectl.jsonpath(
            "pods -l app=early",
            "{.items[0].status.containerStatuses[0].state.waiting.message}",
        );
        message.ok().filter(|message| message.contains("SPIN_VARIABLE_TOKEN"))
    });
    kubectl.sh("create secret generic shop --from-literal=token=t0p")?;
    let env =
        ", env: [{name: SPIN_VARIABLE_TOKEN, valueFrom: {secretKeyRef: {name: shop, key: token}}}]";
    kubectl.apply(&deployment("shop", image, 2, env))?;
    let url = rolled_out(&kubectl, "shop")?;
    let get = |path: &str| http_get(&format!("{url}{path}"));
    ensure!(get("/hello")?.0 == 200);
    ensure!(get("/none")?.0 == 404);
    let (_, page) = get("/shop/ann?do=file&path=static/page.txt")?;
    ensure!(page.contains("more than a few words"), "{page}");
    let (_, text) = get("/shop/ann?do=variable&name=text")?;
    ensure!(text == "Ok(\"hi, t0p\")", "{text}");
    let (_, called) = get("/shop/ann?do=call&url=http://self/hello")?;
    ensure!(called.starts_with("200 "), "{called}");
    let (_, told) = get("/shop/ann/orders")?;
    ensure!(told.contains("spin-path-match-user: ann"), "{told}");
    let (_, rows) = get("/shop/ann?do=sql&database=default")?;
    ensure!(rows.contains("seven"), "{rows}");
    // The store of both replicas is one, and an object.
    let counted: Vec<String> = (0..4)
        .map(|_| get("/shop/ann?do=count&store=default").map(|(_, text)| text))
        .collect::<Result<_, _>>()?;
    ensure!(counted[3].starts_with("4 true false"), "{counted:?}");
    let listed = kubectl.sh("get keyvalues")?;
    ensure!(listed.lines().count() == 2 && listed.contains("default.count"), "{listed}");
    Ok(())
}

#[test]
fn replicas_share_a_counter() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("counter")?;
    let image = "windlass.dev/test/keyvalue:1";
    let wasm = guest("http-keyvalue")?;
    cluster.windlass(&["image", "import", image, wasm.to_str().context("UTF-8")?])?;
    kubectl.apply(&deployment("counter", image, 2, ""))?;
    rolled_out(&kubectl, "counter")?;
    let addresses = kubectl.jsonpath("pods -l app=counter", "{.items[*].status.podIP}")?;
    let addresses: Vec<&str> = addresses.split_whitespace().collect();
    ensure!(addresses.len() == 2, "{addresses:?}");
    let mut sums: Vec<u32> = thread::scope(|scope| {
        let tasks: Vec<_> = (0..50)
            .map(|n| {
                let url = format!("http://{}:8080/increment?key=hits&by=1", addresses[n % 2]);
                scope.spawn(move || http_get(&url))
            })
            .collect();
        let answers = tasks.into_iter().map(|task| {
            let (_, text) = task.join().map_err(|_| anyhow::anyhow!("a panic"))??;
            text.parse().with_context(|| text.clone())
        });
        answers.collect::<anyhow::Result<_>>()
    })?;
    sums.sort_unstable();
    ensure!(sums == (1..=50).collect::<Vec<_>>(), "{sums:?}");

    let url = format!("http://{}:8080", addresses[0]);
    let get = |path: &str| http_get(&format!("{url}{path}"));
    ensure!(get("/set?key=User:1&value=ann")?.0 == 200);
    ensure!(get("/swap?key=a&value=last")?.1 == "nothing, meanwhile, last");
    ensure!(get("/fill?count=600")?.1 == "n00000=v n00001=v none=nothing");
    ensure!(get("/keys?count=1")?.1 == "601 in 2");
    let (status, refused) = get("/get?key=a&store=none")?;
    ensure!(status == 500 && refused.contains("NoSuchStore"), "{refused}");

    // People see and write what guests do.
    let listed = kubectl.sh("get keyvalues --field-selector spec.key=hits")?;
    let columns: Vec<&str> = listed.lines().next().unwrap_or_default().split_whitespace().collect();
    ensure!(columns == ["NAME", "STORE", "KEY", "SIZE", "AGE"], "{listed}");
    let row: Vec<&str> = listed.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    ensure!(row[..4] == ["default.hits", "default", "hits", "2"], "{listed}");
    let explained = kubectl.sh("explain keyvalue.spec")?;
    ensure!(explained.contains("The store (bucket) that the entry is in"), "{explained}");
    let entry = |name: &str, key: &str| {
        format!(
            "apiVersion: windlass.dev/v1\nkind: KeyValue\nmetadata: {{name: {name}}}\n\
             spec: {{store: default, key: {key}, value: c2V0IGJ5IGhhbmQ=}}\n"
        )
    };
    kubectl.apply(&entry("default.by-hand", "by-hand"))?;
    ensure!(get("/get?key=by-hand")?.1 == "set by hand");
    let refused = kubectl.apply(&entry("other", "by-hand")).expect_err("a wrong name").to_string();
    ensure!(refused.contains("is called \"default.by-hand\""), "{refused}");
    let refused = kubectl.apply(&entry("default.by-hand", "changed")).expect_err("a key is kept");
    ensure!(refused.to_string().contains("field is immutable"), "{refused}");
    kubectl.sh("delete kv default.by-hand")?;
    ensure!(get("/get?key=by-hand")?.1 == "nothing");
    Ok(())
}

#[test]
fn entries_of_the_node_outlive_their_pod() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("nodestore")?;
    let image = "windlass.dev/test/keyvalue-node:1";
    let wasm = guest("http-keyvalue")?;
    cluster.windlass(&["image", "import", image, wasm.to_str().context("UTF-8")?])?;
    let pod = |name: &str, backend: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, annotations: \
             {{windlass.dev/keyvalue: {backend}}}}}\nspec:\n  containers:\n  \
             - {{name: main, image: \"{image}\", ports: [{{containerPort: 8080}}]}}\n"
        )
    };
    let url = |name: &str| -> anyhow::Result<String> {
        kubectl.sh(&format!("wait --for=condition=Ready pod/{name} --timeout=60s"))?;
        let address = kubectl.jsonpath(&format!("pod {name}"), "{.status.podIP}")?;
        Ok(format!("http://{address}:8080"))
    };
    kubectl.apply(&pod("one", "node"))?;
    ensure!(first_answer(&format!("{}/increment?key=n&by=41", url("one")?)).1 == "41");
    kubectl.sh("delete pod one --wait")?;
    kubectl.apply(&pod("two", "node"))?;
    ensure!(first_answer(&format!("{}/increment?key=n&by=1", url("two")?)).1 == "42");
    ensure!(kubectl.sh("get keyvalues -o name")?.is_empty());
    kubectl.apply(&pod("wrong", "somewhere"))?;
    wait_for("the wrong annotation is told", 30, || {
        let message =
            kubectl.jsonpath("pod wrong", "{.status.containerStatuses[0].state.waiting.message}");
        message.ok().filter(|message| message.contains("windlass.dev/keyvalue \"somewhere\""))
    });
    Ok(())
}
