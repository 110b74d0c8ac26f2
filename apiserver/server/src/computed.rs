//! Objects that nobody stores: how the control plane's components are, and (metrics.k8s.io) what nodes
//! measure, when somebody asks. All nodes that are concerned are asked at once, within a time; one that doesn't answer is left out,
//! as it is by upstream's metrics-server. An answer serves everybody for some seconds.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use futures::{FutureExt as _, StreamExt as _, stream};
use http::{Method, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;
use windlass_apiserver_registry::{Computed, Source, Summary};
use windlass_sdk_meta::{Encoded, GroupResource, Object, Status, format_time};

use crate::{
    ApiServer,
    cache::{Filter, PageRequest},
    options::ListOptions,
    read,
    render::ListMeta,
    verbs::{Call, Target},
};

/// How long what a node said is taken for what it would say now.
const FRESH: Duration = Duration::from_secs(5);
/// How long a node may take; one that nobody has asked for a while measures for a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nodes that are asked at once.
const AT_ONCE: usize = 32;
/// What one node may answer: 10,000 pods take about 8 MiB.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// CPU and memory are all that is looked at; kubelets that have more leave it out then.
const PATH: &str = "/stats/summary";
const QUERY: &str = "only_cpu_and_memory=true";

/// What nodes said last.
#[derive(Default)]
pub(crate) struct Measurements(Mutex<Slots>);

#[derive(Default)]
struct Slots {
    by_node: BTreeMap<String, Arc<Slot>>,
    /// Nodes that are gone are forgotten when there are so many.
    clean_at: usize,
}

/// Fewer than that are never looked through.
const FEW: usize = 64;

/// One node's; locked while it is asked, so that it is asked once for all who wait.
type Slot = tokio::sync::Mutex<Option<(Instant, Option<Arc<Summary>>)>>;

/// One object; 404 where its subject is gone or isn't measured.
pub(crate) async fn get(call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let name = call.info.name.as_str();
    let renderer = target.renderer(call, true)?;
    let mut filter = read::filter(&target.kind, &target.at, &target.namespace, &empty())?;
    filter.name = Some(name.into());
    filter.namespace = Some(target.namespace.as_str().into());
    let found = objects(call, target, &filter).await?;
    match found.first() {
        Some(object) => Ok(renderer.one(StatusCode::OK, object)),
        None => Err(Status::not_found(&missing(target), name)),
    }
}

/// What is not found: upstream speaks of a component in the singular.
fn missing(target: &Target) -> GroupResource {
    let kind = &target.kind;
    match kind.computed {
        Some(Source::Components(_)) => GroupResource::new(&kind.storage().group, &kind.singular),
        _ => kind.group_resource(),
    }
}

/// All objects whose subjects fit, whole: these lists have no chunks.
pub(crate) async fn list(call: &Call, target: &Target) -> Result<Response<Body>, Status> {
    let renderer = target.renderer(call, true)?;
    let options = ListOptions::parse(&call.info.query)?;
    let filter = read::filter(&target.kind, &target.at, &target.namespace, &options)?;
    let found = objects(call, target, &filter).await?;
    Ok(renderer.list(found, &ListMeta::default()))
}

fn empty() -> ListOptions {
    ListOptions::default()
}

async fn objects(
    call: &Call,
    target: &Target,
    filter: &Filter,
) -> Result<Vec<Arc<Object>>, Status> {
    match target.kind.computed.clone().ok_or_else(Status::method_not_allowed)? {
        Source::Nodes(computed) => measured(call, target, &*computed, filter).await,
        Source::Components(report) => {
            let components = call.server.components().all(&call.server).into_iter();
            let objects = components.map(|(name, health)| {
                let body = report(health.as_ref().copied().map_err(String::as_str));
                Arc::new(with_metadata(target, json!({"name": name}), body))
            });
            Ok(objects.filter(|object| filter.matches(object)).collect())
        }
    }
}

async fn measured(
    call: &Call,
    target: &Target,
    computed: &dyn Computed,
    filter: &Filter,
) -> Result<Vec<Arc<Object>>, Status> {
    let server = &call.server;
    let resource = server.cache().resource(&computed.subject()).ok_or_else(Status::unknown_path)?;
    let request = PageRequest { filter, after: None, limit: 0 };
    let subjects = resource.page_of_newest(&request).0.objects;
    let told = ask(server, computed.node_field(), &subjects).await;
    let measured = subjects.iter().filter_map(|subject| {
        let node = subject.field(computed.node_field())?;
        let body = computed.measure(subject, told.get(node)?)?;
        Some(Arc::new(object(server, target, subject, body)))
    });
    Ok(measured.collect())
}

/// What the nodes of these subjects say, by node.
async fn ask(
    server: &Arc<ApiServer>,
    node_field: &str,
    subjects: &[Arc<Object>],
) -> BTreeMap<String, Arc<Summary>> {
    let named: BTreeSet<&str> =
        subjects.iter().filter_map(|subject| subject.field(node_field)).collect();
    let named = named.into_iter().filter(|node| !node.is_empty());
    let asked: Vec<_> =
        named.map(|node| ask_one(server.clone(), node.to_owned()).boxed()).collect();
    stream::iter(asked).buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}

async fn ask_one(server: Arc<ApiServer>, node: String) -> Option<(String, Arc<Summary>)> {
    let told = server.measurements().of(&server, &node).await?;
    Some((node, told))
}

impl Measurements {
    /// What a node says; None where it doesn't answer.
    async fn of(&self, server: &ApiServer, node: &str) -> Option<Arc<Summary>> {
        let slot = self.slot(server, node);
        let mut slot = slot.lock().await;
        if let Some((at, told)) = &*slot
            && at.elapsed() < FRESH
        {
            return told.clone();
        }
        let asked = tokio::time::timeout(PATIENCE, summary(server, node)).await;
        let asked = asked.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")));
        let told = asked.inspect_err(|why| tracing::debug!(node, why, "no measurements")).ok();
        let told = told.map(Arc::new);
        *slot = Some((Instant::now(), told.clone()));
        told
    }

    fn slot(&self, server: &ApiServer, node: &str) -> Arc<Slot> {
        let mut slots = self.0.lock();
        if slots.by_node.len() > slots.clean_at.max(FEW) {
            slots.by_node.retain(|known, _| server.kubelets().knows(server, known));
            slots.clean_at = slots.by_node.len() * 2;
        }
        slots.by_node.entry(node.to_owned()).or_default().clone()
    }
}

async fn summary(server: &ApiServer, node: &str) -> Result<Summary, String> {
    let response = server.kubelets().ask(server, node, &Method::GET, PATH, QUERY).await?;
    if response.status() != StatusCode::OK {
        return Err(format!("{PATH} is answered with {}", response.status()));
    }
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await;
    let bytes = body.map_err(|error| error.to_string())?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

fn object(
    server: &ApiServer,
    target: &Target,
    subject: &Object,
    body: serde_json::Value,
) -> Object {
    let now = format_time(server.clock().now());
    let mut metadata = json!({"name": &*subject.name, "creationTimestamp": now});
    if !subject.namespace.is_empty() {
        metadata["namespace"] = json!(&*subject.namespace);
    }
    let mut labels = serde_json::Map::new();
    labels.extend(subject.labels.iter().map(|(key, value)| (key.into(), json!(value))));
    if !labels.is_empty() {
        metadata["labels"] = labels.into();
    }
    with_metadata(target, metadata, body)
}

fn with_metadata(target: &Target, metadata: serde_json::Value, body: serde_json::Value) -> Object {
    let kind = &target.kind;
    let mut tree = json!({"kind": kind.kind, "apiVersion": kind.storage().api_version(),
        "metadata": metadata});
    for (key, value) in body.as_object().into_iter().flatten() {
        tree[key] = value.clone();
    }
    kind.object(Encoded::from_tree(&tree), &tree, 0)
}
