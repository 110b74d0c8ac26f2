//! Each form of image, written as the tools that make them do, imported as an archive.

use std::{collections::BTreeMap, fs};

use serde_json::{Value, json};
use windlass_runtime_image::ImageStore;
use windlass_sdk_package::digest;

pub const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
pub const MODULE: &[u8] = b"\0asm\x01\0\0\0";
pub const OCI: &str = "application/vnd.oci.image.config.v1+json";
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const BOUND_BYTES: u64 = 1024 * 1024;

/// An image as its parts: what is stored by digest, and the manifest's.
#[derive(Default)]
pub struct Parts {
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub manifest: Vec<u8>,
}

impl Parts {
    pub fn image(config: (&str, Value), layers: &[(&str, &[u8])], annotations: Value) -> Self {
        let mut parts = Self::default();
        let config = parts.put(config.0, config.1.to_string().as_bytes());
        let layers: Vec<Value> =
            layers.iter().map(|(media_type, bytes)| parts.put(media_type, bytes)).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers, "annotations": annotations,
        });
        parts.manifest = manifest.to_string().into_bytes();
        parts.put("m", &parts.manifest.clone());
        parts
    }

    /// A plain artifact.
    pub fn artifact(wasm: &[u8]) -> Self {
        Self::image(
            ("application/vnd.wasm.config.v0+json", json!({"architecture": "wasm"})),
            &[("application/wasm", wasm)],
            json!({}),
        )
    }

    fn put(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.blobs.insert(digest, bytes.to_vec());
        descriptor
    }

    pub fn descriptor(&self) -> Value {
        json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(&self.manifest), "size": self.manifest.len(),
        })
    }

    /// An OCI layout as a tar; `entries` are those of `index.json`.
    fn layout(&self, entries: &[Value]) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": entries}).to_string();
        let mut files = vec![("index.json".to_owned(), index.into_bytes())];
        for (digest, bytes) in &self.blobs {
            let path = format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
            files.push((path, bytes.clone()));
        }
        archive(&files)
    }
}

pub fn archive(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, path, bytes.as_slice()).expect("entry");
    }
    builder.into_inner().expect("whole")
}

pub fn tree(path: &str, bytes: &[u8]) -> Vec<u8> {
    archive(&[(path.to_owned(), bytes.to_vec())])
}

/// Imports an archive as `acme/web:v1` and shows what came of it.
async fn import(archive: &[u8]) -> String {
    let dir = tempfile::tempdir().expect("dir");
    let store = ImageStore::open(dir.path(), &[]).expect("open");
    let text = match store.import("acme/web:v1", archive, BOUND_BYTES).await {
        Ok(image) => {
            let wasm = fs::read(&image.wasm_path).expect("the wasm");
            assert!(wasm == COMPONENT || wasm == MODULE, "{wasm:?}");
            // It is the same after a restart, and from the content alone.
            drop(store);
            fs::remove_dir_all(dir.path().join("settled")).expect("remove");
            let store = ImageStore::open(dir.path(), &[]).expect("open again");
            let again = store.find("acme/web:v1").expect("find").expect("there");
            assert_eq!((&again.config, &again.digest), (&image.config, &image.digest));
            let config = image.config;
            format!("{} | {:?} {:?} {:?}", config.why, config.entrypoint, config.args, config.env)
        }
        Err(error) => {
            let left = fs::read_dir(dir.path().join("blobs/sha256")).expect("dir").count();
            assert_eq!(left, 0, "{error}");
            error.to_string()
        }
    };
    assert_eq!(fs::read_dir(dir.path().join("ingest")).expect("dir").count(), 0);
    text
}

async fn check(parts: &Parts, expected: &str) {
    let said = import(&parts.layout(&[parts.descriptor()])).await;
    assert!(said.contains(expected), "expected {expected:?}, got: {said}");
}

#[tokio::test]
async fn wasm_layers_of_every_kind() {
    check(&Parts::artifact(COMPONENT), "It is a CNCF wasm artifact: ").await;
    let config = json!({"architecture": "wasm", "os": "wasip1", "config": {"Env": ["A=b"]}});
    let runwasi = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
    let image = Parts::image((OCI, config.clone()), &[(runwasi, COMPONENT)], json!({}));
    check(&image, r#"component without WASI | [] [] [("A", "b")]"#).await;
    let image = Parts::image((OCI, config), &[("application/wasm", MODULE)], json!({}));
    check(&image, "its layer is application/wasm; by its bytes a module").await;
    let (config, layer) = (
        "application/vnd.module.wasm.config.v1+json",
        "application/vnd.module.wasm.content.layer.v1+wasm",
    );
    let image = Parts::image((config, json!({})), &[(layer, MODULE)], json!({}));
    check(&image, "It is a legacy wasm image").await;
    check(&Parts::artifact(b"\x7fELF\x02\x01\x01\0"), "native code (ELF)").await;
}

#[tokio::test]
async fn container_images_that_hold_wasm() {
    let config = |entrypoint: &str| json!({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": [entrypoint, "-v"]}});
    let layer = tree("srv/app.wasm", MODULE);
    let image = Parts::image((OCI, config("/srv/app.wasm")), &[(TAR, &layer)], json!({}));
    check(&image, r#"by its bytes a module without WASI | ["/srv/app.wasm", "-v"]"#).await;
    let image = Parts::image((OCI, config("/srv/app.wasm#_start")), &[(TAR, &layer)], json!({}));
    check(&image, "its entrypoint is /srv/app.wasm").await;
    let image = Parts::image((OCI, config("/srv/app.wasm#go")), &[(TAR, &layer)], json!({}));
    check(&image, "which the module doesn't export").await;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &tree("app", COMPONENT)).expect("gzip");
    let layer = gzip.finish().expect("gzip");
    let crun = json!({"module.wasm.image/variant": "compat"});
    let image = Parts::image((OCI, config("/app")), &[(TAR, &layer)], crun.clone());
    check(&image, "its annotation module.wasm.image/variant is compat").await;
    let image = Parts::image((OCI, config("/none")), &[(TAR, &layer)], crun.clone());
    check(&image, "its entrypoint /none is in none of its layers").await;
    let native = tree("app", b"\x7fELF\x02\x01\x01\0");
    let image = Parts::image((OCI, config("/app")), &[(TAR, &native)], crun);
    check(&image, "native code (ELF)").await;
    let image = Parts::image((OCI, config("/bin/sh")), &[(TAR, &native)], json!({}));
    check(&image, "it is a container image for").await;
}

const SPIN_WASM: &str = "application/vnd.wasm.content.layer.v1+wasm";
const SPIN_DATA: &str = "application/vnd.wasm.content.layer.v1+data";
const SPIN_ARCHIVE: &str = "application/vnd.wasm.content.bundle.v1.tar+gzip";
const SPIN: &str = "application/vnd.fermyon.spin.application.v1+config";

fn spin_document(files: Value) -> String {
    json!({
        "metadata": {"name": "shop"},
        "triggers": [{"trigger_type": "http", "trigger_config": {"component": "web", "route": "/..."}}],
        "components": [{"id": "web", "source": {"digest": digest(COMPONENT)}, "env": {"A": "b"}, "files": files}],
    })
    .to_string()
}

#[tokio::test]
async fn spin_applications() {
    let document = spin_document(json!([]));
    let layers: [(&str, &[u8]); 2] = [(SPIN_WASM, COMPONENT), (SPIN, document.as_bytes())];
    let image = Parts::image((OCI, json!({"architecture": "wasm"})), &layers, json!({}));
    check(&image, "It is a Spin application: ").await;
    check(&image, "with the components web").await;
}

/// What a component sees as `/`, from an image whose files are layers or in an archive.
async fn spin_files(layers: &[(&str, &[u8])]) -> Result<BTreeMap<String, String>, String> {
    let folder = tempfile::tempdir().expect("folder");
    let store = ImageStore::open(folder.path(), &[]).expect("store");
    let image = Parts::image((OCI, json!({"architecture": "wasm"})), layers, json!({}));
    let archive = image.layout(&[image.descriptor()]);
    let imported = store.import("shop:v1", archive.as_slice(), BOUND_BYTES).await;
    let imported = imported.map_err(|error| error.to_string())?;
    let found = store.find("shop:v1").expect("found").expect("there");
    assert_eq!(imported.config.spin, found.config.spin);
    let app = found.config.spin.expect("a Spin application");
    let root = app.components[0].files.clone().expect("files");
    let read = |path: &str| {
        let text = fs::read_to_string(root.join(path)).ok()?;
        Some((path.to_owned(), text))
    };
    Ok(["a.txt", "static/b.txt", "small"].into_iter().filter_map(read).collect())
}

#[tokio::test]
async fn spin_components_have_files() {
    let (a, b) = ("the first".repeat(20), "the second".repeat(20));
    let files = json!([
        {"path": "a.txt", "digest": digest(a.as_bytes())},
        {"path": "static/b.txt", "digest": digest(b.as_bytes())},
        {"path": "small", "inline": "eWVz"},
    ]);
    let document = spin_document(files);
    let expected: BTreeMap<String, String> =
        [("a.txt", &*a), ("static/b.txt", &*b), ("small", "yes")]
            .map(|(path, text)| (path.to_owned(), text.to_owned()))
            .into();
    let spin: [(&str, &[u8]); 2] = [(SPIN_WASM, COMPONENT), (SPIN, document.as_bytes())];
    let layers = [&spin[..], &[(SPIN_DATA, a.as_bytes()), (SPIN_DATA, b.as_bytes())]].concat();
    assert_eq!(spin_files(&layers).await.as_ref(), Ok(&expected));

    let mut archive =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, text) in [("x/b.txt", &b), ("x/a.txt", &a)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_cksum();
        archive.append_data(&mut header, name, text.as_bytes()).expect("entry");
    }
    let archive = archive.into_inner().expect("tar").finish().expect("gzip");
    let layers = [&spin[..], &[(SPIN_ARCHIVE, archive.as_slice())]].concat();
    assert_eq!(spin_files(&layers).await.as_ref(), Ok(&expected));

    let lacking = spin_files(&spin).await.expect_err("refused");
    assert!(lacking.contains("lacks the content"), "{lacking}");
}

#[tokio::test]
async fn layouts_of_several_images() {
    let (one, two) = (Parts::artifact(COMPONENT), Parts::artifact(MODULE));
    let both = Parts {
        blobs: one.blobs.iter().chain(&two.blobs).map(|(k, v)| (k.clone(), v.clone())).collect(),
        manifest: Vec::new(),
    };
    let with = |parts: &Parts, key: &str, value: Value| {
        let mut entry = parts.descriptor();
        entry[key] = value;
        entry
    };
    let named = |parts: &Parts, name: &str| {
        with(parts, "annotations", json!({"org.opencontainers.image.ref.name": name}))
    };
    let said = import(&both.layout(&[named(&one, "other"), named(&two, "v1")])).await;
    assert!(said.contains("a module"), "{said}");
    let said = import(&both.layout(&[named(&one, "acme/web:v1"), named(&two, "b")])).await;
    assert!(said.contains("a component"), "{said}");
    let said = import(&both.layout(&[named(&one, "a"), named(&two, "b")])).await;
    assert!(said.contains("several images") && said.contains("a, b"), "{said}");
    let platform = |parts: &Parts, os: &str, architecture: &str| {
        with(parts, "platform", json!({"os": os, "architecture": architecture}))
    };
    let entries = [platform(&one, "linux", "amd64"), platform(&two, "wasip1", "wasm")];
    let said = import(&both.layout(&entries)).await;
    assert!(said.contains("an entry for wasip1/wasm") && said.contains("a module"), "{said}");
    assert!(import(&both.layout(&[])).await.contains("holds no image"));
}

#[tokio::test]
async fn what_docker_saves() {
    let config = json!({"architecture": "wasm", "os": "wasi", "config": {"Cmd": ["/app.wasm"]}});
    let manifest =
        json!([{"Config": "c.json", "RepoTags": ["acme/web:v1"], "Layers": ["l/layer.tar"]}]);
    let mut files = vec![
        ("c.json".to_owned(), config.to_string().into_bytes()),
        ("l/layer.tar".to_owned(), tree("app.wasm", MODULE)),
        ("manifest.json".to_owned(), manifest.to_string().into_bytes()),
    ];
    let said = import(&archive(&files)).await;
    assert!(said.contains("its entrypoint is /app.wasm"), "{said}");
    files.remove(1);
    let said = import(&archive(&files)).await;
    assert!(said.contains("lacks l/layer.tar"), "{said}");
}

#[tokio::test]
async fn archives_that_are_none() {
    let files = [("a.txt".to_owned(), b"x".to_vec())];
    assert!(import(&archive(&files)).await.contains("is no image"));
    let parts = Parts::artifact(MODULE);
    let mut lacking = Parts::artifact(MODULE);
    lacking.blobs.remove(&digest(MODULE));
    check(&lacking, &format!("lacks {}", digest(MODULE))).await;
    let whole = parts.layout(&[parts.descriptor()]);
    let said = import(&whole[..1024]).await;
    assert!(said.contains("archive"), "{said}");
    let mut files = vec![("blobs/sha256/abc".to_owned(), b"x".to_vec())];
    files.push(("index.json".to_owned(), b"{}".to_vec()));
    assert!(import(&archive(&files)).await.contains("another digest"));
}
