//! The registry of the cluster: the node's image store, served below `/v2/` on the API server's
//! listeners. Who may do what in it is the cluster's to say: a repository is `NAMESPACE/NAME`, and
//! what is in it are `images` of the group `windlass.dev` in that namespace.

use std::sync::Arc;

use http::Extensions;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use windlass_apiserver_server::{Asker, Mount};
use windlass_runtime_image::{CLUSTER_REGISTRY, IMAGE_LIMIT_BYTES, ImageStore};
use windlass_runtime_wasm::WasmRuntime;
use windlass_sdk_client::Informer;
use windlass_sdk_distribution::{
    Access, Action, Config, Limits, Registry, Repository, Verdict, router,
};
use windlass_sdk_meta::{Rng, Status};
use windlass_sdk_types::{Kind, Pod};

use crate::{cli::UpArgs, node};

const RESOURCE: (&str, &str) = ("windlass.dev", "images");
/// Images that wait to be compiled; the next is compiled when a pod asks for it.
const WAITING: usize = 64;

/// The node's images, and the registry that has them.
pub struct ClusterRegistry {
    images: ImageStore,
    registry: Arc<Registry>,
    pushed: mpsc::Receiver<String>,
}

impl ClusterRegistry {
    pub fn open(args: &UpArgs, rng: &Rng) -> anyhow::Result<Self> {
        let images = node::images(args)?;
        let (tell, pushed) = mpsc::channel(WAITING);
        let registry = Registry::new(Config {
            storage: Arc::new(images.clone()),
            access: Arc::new(ByTheCluster),
            limits: Limits { blob_bytes: IMAGE_LIMIT_BYTES, ..Limits::default() },
            rng: rng.clone(),
            pushed: Box::new(move |at, digest| {
                let image = format!("{CLUSTER_REGISTRY}/{at}@{digest}");
                if let Err(error) = tell.try_send(image) {
                    tracing::debug!(%error, "compiled when a pod asks for it");
                }
            }),
        });
        Ok(Self { images, registry, pushed })
    }

    pub fn images(&self) -> &ImageStore {
        &self.images
    }

    /// What the API server's listeners serve.
    pub fn mount(&self) -> Mount {
        Mount { path: "/v2", service: router(self.registry.clone()) }
    }

    /// Keeps the registry tidy, and has what is pushed compiled before a pod asks for it.
    pub fn run(
        self,
        runtime: Arc<WasmRuntime>,
        pods: Informer<Pod>,
        tasks: &mut JoinSet<()>,
        shutdown: &CancellationToken,
    ) {
        self.images.tell_users(Box::new(move || pods.is_synced().then(|| used(&pods))));
        tasks.spawn(self.registry.keep_tidy(shutdown.clone()));
        let (images, mut pushed, shutdown) = (self.images, self.pushed, shutdown.clone());
        tasks.spawn(async move {
            while let Some(Some(image)) = shutdown.run_until_cancelled(pushed.recv()).await {
                let prepared = shutdown.run_until_cancelled(prepare(&images, &runtime, &image));
                if let Some(Err(why)) = prepared.await {
                    // Who runs it is told; it may be pushed for another node.
                    tracing::debug!(image, %why, "what was pushed is not compiled");
                }
            }
        });
    }
}

/// The images of the registry that pods of other namespaces than their own use.
fn used(pods: &Informer<Pod>) -> Vec<String> {
    let mut images = Vec::new();
    for pod in pods.list() {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let Some(spec) =
            pod.spec.as_ref().filter(|_| !matches!(phase, Some("Succeeded" | "Failed")))
        else {
            continue;
        };
        let own = format!("{CLUSTER_REGISTRY}/{}/", pod.namespace());
        let first = spec.init_containers.iter().flatten();
        let named = first.chain(&spec.containers).filter_map(|of| of.image.as_ref());
        images.extend(named.filter(|image| !image.starts_with(&own)).cloned());
    }
    images
}

/// What is no wasm, such as a signature, needs nothing.
async fn prepare(images: &ImageStore, runtime: &WasmRuntime, name: &str) -> anyhow::Result<()> {
    let (store, wanted) = (images.clone(), name.to_owned());
    let found = tokio::task::spawn_blocking(move || store.find(&wanted)).await?;
    match found {
        Ok(Some(image)) => Ok(runtime.prepare(&image).await?),
        Ok(None) => Ok(()),
        Err(error) if error.is_container() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Asks the API server's authorisers.
struct ByTheCluster;

impl Access for ByTheCluster {
    fn may(&self, request: &Extensions, action: Action, at: &Repository) -> Verdict {
        let Some(asker) = request.get::<Asker>() else { return Verdict::Unknown };
        let verb = match action {
            Action::Pull => "get",
            Action::Create => "create",
            Action::Update => "update",
            Action::Delete => "delete",
        };
        let may = asker.may(verb, RESOURCE, at.namespace(), at.name());
        verdict(
            asker,
            match action {
                Action::Create | Action::Update => {
                    may.and_then(|()| asker.takes_content(at.namespace()))
                }
                Action::Pull | Action::Delete => may,
            },
        )
    }

    fn may_clear(&self, request: &Extensions, namespace: &str) -> Verdict {
        let Some(asker) = request.get::<Asker>() else { return Verdict::Unknown };
        verdict(asker, asker.may("deletecollection", RESOURCE, namespace, ""))
    }

    fn knows(&self, request: &Extensions) -> bool {
        request.get::<Asker>().is_some_and(Asker::is_known)
    }
}

fn verdict(asker: &Asker, answer: Result<(), Status>) -> Verdict {
    match answer {
        Ok(()) => Verdict::Yes,
        Err(_) if !asker.is_known() => Verdict::Unknown,
        Err(status) => Verdict::No(status.message),
    }
}
