//! The registry over a node's image store on a real folder, asked as a client asks: each endpoint of
//! distribution-spec 1.1 and each of its errors.

mod access;
mod blobs;
mod lists;
mod manifests;
mod namespaces;
mod tidy;
mod uploads;

use std::{path::Path, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;
use windlass_runtime_image::ImageStore;
use windlass_sdk_distribution::{
    Access, Action, Config, Limits, Registry, Repository, Verdict, router,
};
use windlass_sdk_meta::Rng;
use windlass_sdk_package::{MANIFEST_MEDIA_TYPE, digest};

/// The smallest component.
pub const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
/// Of no sort that anybody knows.
pub const CONFIG: &[u8] = b"{}";

/// Who a request is from; nobody where it has none.
#[derive(Clone)]
pub struct Sender(pub &'static str);

/// `ada` may everything, `eve` may pull from `shop/...`, whoever else is known may nothing.
struct Rules;

impl Access for Rules {
    fn may(&self, request: &Extensions, action: Action, at: &Repository) -> Verdict {
        match request.get::<Sender>() {
            None => Verdict::Unknown,
            Some(Sender("ada")) => Verdict::Yes,
            Some(Sender("eve")) if action == Action::Pull && at.namespace() == "shop" => {
                Verdict::Yes
            }
            Some(Sender(name)) => Verdict::No(format!("{name} may not {action:?} {at}")),
        }
    }

    fn may_clear(&self, request: &Extensions, namespace: &str) -> Verdict {
        match request.get::<Sender>() {
            None => Verdict::Unknown,
            Some(Sender("ada")) => Verdict::Yes,
            Some(Sender(name)) => Verdict::No(format!("{name} may not clear {namespace}")),
        }
    }

    fn knows(&self, request: &Extensions) -> bool {
        request.get::<Sender>().is_some()
    }
}

/// A registry, and what it told of pushes.
pub struct Desk {
    pub folder: Arc<TempDir>,
    pub store: ImageStore,
    pub registry: Arc<Registry>,
    pub pushed: Arc<Mutex<Vec<String>>>,
    router: Router,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Desk {
    pub fn usual() -> Self {
        Self::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Self {
        Self::open(Arc::new(tempfile::tempdir().expect("a folder")), limits)
    }

    pub fn open(folder: Arc<TempDir>, limits: Limits) -> Self {
        let store = ImageStore::open(folder.path(), &[]).expect("a store");
        let pushed = Arc::new(Mutex::new(Vec::new()));
        let tell = pushed.clone();
        let registry = Registry::new(Config {
            storage: Arc::new(store.clone()),
            access: Arc::new(Rules),
            limits,
            rng: Rng::seeded(7),
            pushed: Box::new(move |at, digest| tell.lock().push(format!("{at}@{digest}"))),
        });
        let router = router(registry.clone());
        Self { folder, store, registry, pushed, router }
    }

    /// Asks as `ada`.
    pub async fn ask(&self, line: &str, body: impl Into<Body>) -> Answer {
        self.ask_with(line, &[], body).await
    }

    /// The same with more headers. The line is a method and a path.
    pub async fn ask_with(
        &self,
        line: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        self.ask_as(Some("ada"), line, headers, body).await
    }

    pub async fn ask_as(
        &self,
        sender: Option<&'static str>,
        line: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let mut request =
            Request::builder().method(method.parse::<Method>().expect("a method")).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(sender) = sender {
            request = request.extension(Sender(sender));
        }
        let request = request.body(body.into()).expect("a request");
        let response = self.router.clone().oneshot(request).await.expect("it answers");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Uploads a blob whole.
    pub async fn blob(&self, repository: &str, bytes: &'static [u8]) -> String {
        let digest = digest(bytes);
        let line = format!("POST /v2/{repository}/blobs/uploads/?digest={digest}");
        self.ask(&line, bytes).await.is(201);
        digest
    }

    /// Pushes a manifest of these layers, and what it needs.
    pub async fn image(
        &self,
        repository: &str,
        reference: &str,
        layers: &[&'static [u8]],
    ) -> String {
        let mut parts = vec![self.part(repository, "x/config", CONFIG).await];
        for layer in layers {
            parts.push(self.part(repository, "x/layer", layer).await);
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST_MEDIA_TYPE,
            "config": parts[0], "layers": parts[1..]});
        self.manifest(repository, reference, &manifest).await.is(201);
        digest(manifest.to_string().as_bytes())
    }

    /// Uploads a blob; its descriptor.
    pub async fn part(&self, repository: &str, of: &str, bytes: &'static [u8]) -> Value {
        let digest = self.blob(repository, bytes).await;
        json!({"mediaType": of, "digest": digest, "size": bytes.len()})
    }

    pub async fn manifest(&self, repository: &str, reference: &str, manifest: &Value) -> Answer {
        let line = format!("PUT /v2/{repository}/manifests/{reference}");
        let said = manifest["mediaType"].as_str().unwrap_or(MANIFEST_MEDIA_TYPE);
        self.ask_with(&line, &[("content-type", said)], manifest.to_string()).await
    }

    pub fn files(&self, below: &str) -> usize {
        files(&self.folder.path().join(below))
    }
}

pub fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).expect("a folder").count()
}

impl Answer {
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        let said = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status.as_u16(), status, "{said}");
        self
    }

    /// It is refused with this code of the specification; its message.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> String {
        let tree = self.is(status).json();
        assert_eq!(tree["errors"][0]["code"], code, "{tree}");
        tree["errors"][0]["message"].as_str().expect("a message").to_owned()
    }

    #[track_caller]
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).unwrap_or_else(|| panic!("{name}: {:?}", self.headers));
        value.to_str().expect("text")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Waits for a condition with a deadline.
pub async fn wait_for(what: &str, mut met: impl FnMut() -> bool) {
    let wait = async {
        while !met() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), wait).await.is_ok(), "{what}");
}
