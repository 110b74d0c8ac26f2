//! Pulls from a real registry (Debian's docker-registry) in a process of its own.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use oci_client::{
    Client, Reference,
    client::{ClientConfig, ClientProtocol},
    secrets::RegistryAuth,
};
use serde_json::json;
use tempfile::TempDir;
use windlass_runtime_image::{Credentials, ImageStore, Origin};
use windlass_sdk_package::digest;

use crate::forms::{COMPONENT, MODULE, OCI, Parts, TAR, tree};

/// bcrypt of "secret", in `htpasswd`'s format.
const HTPASSWD: &str = "user:$2b$05$HaoRVqMm4pbaoEH5TRWH7OZKBAf1LjzIfbcx3frVN/nFlpholB50C\n";

struct Registry {
    child: Child,
    folder: TempDir,
    address: String,
    auth: RegistryAuth,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    async fn start(with_password: bool) -> Self {
        let folder = tempfile::tempdir().expect("dir");
        let port =
            TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("port").port();
        let address = format!("127.0.0.1:{port}");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut config = json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": path("data")}},
            "http": {"addr": address},
        });
        if with_password {
            fs::write(path("htpasswd"), HTPASSWD).expect("write");
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": path("htpasswd")}});
        }
        fs::write(path("config.yml"), config.to_string()).expect("write");
        let child = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry (a Debian package): run the tests by `cargo xtask test`");
        let auth = match with_password {
            true => RegistryAuth::Basic("user".into(), "secret".into()),
            false => RegistryAuth::Anonymous,
        };
        let registry = Self { child, folder, address, auth };
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(&registry.address).await.is_ok() {
                return registry;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("docker-registry doesn't listen");
    }

    fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }

    async fn push(&self, tag: &str, parts: &Parts) {
        let blobs = parts.blobs.iter();
        let blobs = blobs.map(|(digest, bytes)| (digest.as_str(), bytes.as_slice()));
        self.put(
            tag,
            blobs.collect(),
            &parts.manifest,
            "application/vnd.oci.image.manifest.v1+json",
        )
        .await;
    }

    async fn put(&self, tag: &str, blobs: Vec<(&str, &[u8])>, manifest: &[u8], media_type: &str) {
        let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
        let client = Client::new(config);
        let name: Reference = self.name(tag).parse().expect("a name");
        let operation = oci_client::RegistryOperation::Push;
        client.auth(&name, &self.auth, operation).await.expect("let in");
        for (digest, bytes) in blobs {
            client.push_blob(&name, bytes.to_vec(), digest).await.expect("blob");
        }
        let media_type = media_type.parse().expect("a header");
        client.push_manifest_raw(&name, manifest.to_vec(), media_type).await.expect("manifest");
    }

    /// The file in which the registry keeps a blob.
    fn blob(&self, digest: &str) -> std::path::PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        let blobs = self.folder.path().join("data/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    fn credentials(&self, password: &str) -> Credentials {
        let auth = json!({"username": "user", "password": password});
        let config = json!({"auths": {(self.address.as_str()): auth}});
        Credentials::parse(config.to_string().as_bytes()).expect("a configuration")
    }
}

fn files(dir: &Path, name: &str) -> usize {
    fs::read_dir(dir.join(name)).expect("dir").count()
}

async fn refusal(store: &ImageStore, name: &str, credentials: &Credentials) -> String {
    store.pull(name, credentials).await.expect_err("refused").to_string()
}

#[tokio::test]
async fn by_tag_and_digest_and_index() {
    let (registry, dir) = (Registry::start(false).await, tempfile::tempdir().expect("dir"));
    let store = ImageStore::open(dir.path(), &[]).expect("open");
    let (component, module) = (Parts::artifact(COMPONENT), Parts::artifact(MODULE));
    registry.push("acme/web:v1", &component).await;
    registry.push("acme/web:v2", &module).await;
    let nobody = Credentials::default();
    let pulled = store.pull(&registry.name("acme/web:v1"), &nobody).await.expect("pull");
    assert_eq!(fs::read(&pulled.image.wasm_path).expect("wasm"), COMPONENT);
    assert_eq!(pulled.image.digest, digest(&component.manifest));
    assert_eq!(store.origin(&registry.name("acme/web:v1")), Some(Origin::Pulled));
    // By digest, then a tag that moves.
    let by_digest = registry.name(&format!("acme/web@{}", digest(&module.manifest)));
    let pulled = store.pull(&by_digest, &nobody).await.expect("pull by digest");
    assert_eq!(fs::read(&pulled.image.wasm_path).expect("wasm"), MODULE);
    assert!(store.find(&by_digest).expect("find").is_some());
    registry.push("acme/web:v1", &module).await;
    let pulled = store.pull(&registry.name("acme/web:v1"), &nobody).await.expect("pull again");
    assert_eq!(pulled.image.digest, digest(&module.manifest));
    // An index: the entry for wasm, told as the index's digest.
    let entry = |parts: &Parts, os: &str, architecture: &str| {
        let mut entry = parts.descriptor();
        entry["platform"] = json!({"os": os, "architecture": architecture});
        entry
    };
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [
        entry(&module, "linux", "amd64"), entry(&component, "wasip2", "wasm"),
    ]});
    let index = index.to_string().into_bytes();
    registry.put("acme/web:many", vec![], &index, media_type).await;
    let pulled = store.pull(&registry.name("acme/web:many"), &nobody).await.expect("pull an index");
    assert_eq!(pulled.image.digest, digest(&index));
    assert_eq!(fs::read(&pulled.image.wasm_path).expect("wasm"), COMPONENT);
    assert!(pulled.image.config.why.contains("an entry for wasip2/wasm"), "{:?}", pulled.image);
    // All of it is found without the registry.
    drop((registry, store));
    let store = ImageStore::open(dir.path(), &[]).expect("open again");
    assert_eq!(store.list().iter().map(|image| image.names.len()).sum::<usize>(), 3);
    assert!(store.find(&by_digest).expect("find").is_some());
}

#[tokio::test]
async fn with_and_without_a_password() {
    let (registry, dir) = (Registry::start(true).await, tempfile::tempdir().expect("dir"));
    let store = ImageStore::open(dir.path(), &[]).expect("open");
    registry.push("acme/web:v1", &Parts::artifact(COMPONENT)).await;
    let name = registry.name("acme/web:v1");
    for credentials in [Credentials::default(), registry.credentials("wrong")] {
        let said = refusal(&store, &name, &credentials).await;
        assert!(said.contains("pull access denied"), "{said}");
        assert!(said.contains(&name) && !said.contains("wrong"), "{said}");
    }
    let mut both = registry.credentials("wrong");
    both.extend(registry.credentials("secret"));
    store.pull(&name, &both).await.expect("one of both lets in");
}

#[tokio::test]
async fn what_goes_wrong_is_told_and_leaves_nothing() {
    let (registry, dir) = (Registry::start(false).await, tempfile::tempdir().expect("dir"));
    let store = ImageStore::open(dir.path(), &[]).expect("open");
    let nobody = Credentials::default();
    let parts = Parts::artifact(COMPONENT);
    registry.push("acme/web:v1", &parts).await;
    for missing in ["acme/web:v9", "acme/none:v1"] {
        let name = registry.name(missing);
        let said = refusal(&store, &name, &nobody).await;
        assert!(said.contains(&format!("{name}: not found")), "{said}");
    }
    // Other bytes of the same length.
    fs::write(registry.blob(&digest(COMPONENT)), MODULE).expect("write");
    let said = refusal(&store, &registry.name("acme/web:v1"), &nobody).await;
    assert!(said.contains(&digest(COMPONENT)) && said.contains("failed commit"), "{said}");
    // A container is refused before its layers are asked for.
    let config = json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]}});
    let container = Parts::image((OCI, config), &[(TAR, b"files")], json!({}));
    registry.push("acme/sh:v1", &container).await;
    fs::remove_file(registry.blob(&digest(b"files"))).expect("remove");
    let said = refusal(&store, &registry.name("acme/sh:v1"), &nobody).await;
    assert!(said.contains("it is a container image for linux/amd64"), "{said}");
    let name = registry.name("acme/web:v1");
    drop(registry);
    let said = refusal(&store, &name, &nobody).await;
    assert!(said.contains("failed to resolve reference"), "{said}");
    assert_eq!((files(dir.path(), "ingest"), files(dir.path(), "blobs/sha256")), (0, 0));
    assert!(store.list().is_empty());
}

#[tokio::test]
async fn one_pull_at_a_time_for_a_digest() {
    let (registry, dir) = (Registry::start(false).await, tempfile::tempdir().expect("dir"));
    let store = ImageStore::open(dir.path(), &[]).expect("open");
    registry.push("acme/web:v1", &Parts::artifact(COMPONENT)).await;
    registry.push("acme/web:same", &Parts::artifact(COMPONENT)).await;
    let pulls = (0..20).map(|at| {
        let (store, tag) = (store.clone(), ["v1", "same"][at % 2]);
        let name = registry.name(&format!("acme/web:{tag}"));
        async move { store.pull(&name, &Credentials::default()).await }
    });
    for pulled in futures::future::join_all(pulls).await {
        pulled.expect("pull");
    }
    assert_eq!(store.list().len(), 1);
    assert_eq!(store.list()[0].names.len(), 2);
    assert_eq!(files(dir.path(), "blobs/sha256"), 3);
}

#[tokio::test]
async fn a_pods_word_that_it_is_wasm_is_held_against_the_bytes() {
    let (registry, dir) = (Registry::start(false).await, tempfile::tempdir().expect("dir"));
    let store = ImageStore::open(dir.path(), &[]).expect("open");
    let nobody = Credentials::default();
    let config = |entrypoint: &str| json!({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": [entrypoint]}});
    let files = tree("app", MODULE);
    let holds = Parts::image((OCI, config("/app")), &[(TAR, &files)], json!({}));
    registry.push("acme/app:v1", &holds).await;
    let name = registry.name("acme/app:v1");
    let said = refusal(&store, &name, &nobody).await;
    assert!(said.contains("it is a container image for linux/amd64"), "{said}");
    let pulled = store.pull_for(&name, &nobody, true).await.expect("pull");
    assert_eq!(fs::read(&pulled.image.wasm_path).expect("wasm"), MODULE);
    let why = &pulled.image.config.why;
    assert!(why.contains("its pod's annotation says so; by its bytes a module"), "{why}");
    // It stays a container for who doesn't say so, after a restart too.
    drop(store);
    let store = ImageStore::open(dir.path(), &[]).expect("open again");
    assert!(store.find(&name).is_err());
    let found = store.find_for(&name, true).expect("find").expect("is there");
    assert_eq!(found.wasm_digest, digest(MODULE));
    assert!(store.inspect(&name).expect("inspect").is_some());

    let native = tree("app", b"\x7fELF\x02\x01\x01\0");
    for (tag, entrypoint) in [("native", "/app"), ("none", "sh")] {
        let parts = Parts::image((OCI, config(entrypoint)), &[(TAR, &native)], json!({}));
        registry.push(&format!("acme/app:{tag}"), &parts).await;
        let name = registry.name(&format!("acme/app:{tag}"));
        let error = store.pull_for(&name, &nobody, true).await.expect_err("a container");
        let said = error.to_string();
        assert!(said.contains("what it starts is no wasm"), "{said}");
    }
}
