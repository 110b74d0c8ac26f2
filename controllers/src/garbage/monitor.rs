//! Keeps the graph true: lists and watches the metadata of every kind that the server has, each in
//! a task of its own, started and ended as kinds come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use http::{Request, header};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::task::{AbortHandle, JoinSet};
use windlass_sdk_client::{Api, Body, Key, Lines, Queue};
use windlass_sdk_meta::{Backoff, Rng};

use super::graph::{Graph, Node, Owner};
use crate::kit::{
    Error,
    discovery::{Discovery, REFRESH, Resource},
};

const AS_METADATA: &str =
    "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
const AS_METADATA_LIST: &str =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
/// Objects a page of a list.
const PAGE: usize = 500;
/// A page of metadata is far below this.
const MAX_PAGE_BYTES: usize = 64 << 20;
/// Events are the most frequent objects and are owned by nothing.
const IGNORED: [&str; 1] = ["events"];

/// The graph, and who is told of what changes in it.
#[derive(Clone)]
pub struct Monitors {
    pub api: Api,
    pub rng: Rng,
    pub graph: Arc<Mutex<Graph>>,
    pub discovery: Arc<Discovery>,
    pub queue: Queue<Key>,
}

impl Monitors {
    /// Runs until dropped. `ready` is told when all kinds that there were at the start are listed.
    pub async fn run(self, ready: impl FnOnce()) {
        let mut tasks = JoinSet::new();
        let mut running: BTreeMap<Resource, AbortHandle> = BTreeMap::new();
        let mut listed = Vec::new();
        let mut ready = Some(ready);
        loop {
            let found = self.discovery.resources(&self.api).await;
            let wanted: BTreeSet<Resource> =
                found.resources.into_iter().filter(is_watched).collect();
            for resource in &wanted {
                if running.contains_key(resource) {
                    continue;
                }
                let (sender, receiver) = tokio::sync::oneshot::channel();
                let monitor = Monitor {
                    all: self.clone(),
                    resource: Arc::new(resource.clone()),
                    known: BTreeSet::new(),
                    listed: Some(sender),
                };
                running.insert(resource.clone(), tasks.spawn(monitor.run()));
                listed.push(receiver);
            }
            if found.error.is_none() {
                self.end_others(&wanted, &mut running);
            }
            if let Some(ready) = ready.take() {
                for receiver in listed.drain(..) {
                    let _ = receiver.await;
                }
                ready();
            }
            listed.clear();
            while tasks.try_join_next().is_some() {}
            tokio::time::sleep(REFRESH).await;
        }
    }

    /// Kinds that the server no longer has: their objects are gone with them.
    fn end_others(
        &self,
        wanted: &BTreeSet<Resource>,
        running: &mut BTreeMap<Resource, AbortHandle>,
    ) {
        running.retain(|resource, task| {
            let stays = wanted.contains(resource);
            if !stays {
                task.abort();
                let gone = self.graph.lock().uids_of(resource);
                gone.iter().for_each(|uid| self.remove(uid));
            }
            stays
        });
    }

    fn remove(&self, uid: &str) {
        let touched = self.graph.lock().remove(uid);
        self.visit(touched);
    }

    fn apply(&self, node: Node) {
        let touched = self.graph.lock().apply(node);
        self.visit(touched);
    }

    fn visit(&self, uids: Vec<String>) {
        uids.iter().for_each(|uid| self.queue.add(Key::new("", uid)));
    }
}

fn is_watched(resource: &Resource) -> bool {
    ["delete", "list", "watch"].iter().all(|verb| resource.has_verb(verb))
        && !IGNORED.contains(&resource.gvr.resource.as_str())
}

/// One kind.
struct Monitor {
    all: Monitors,
    resource: Arc<Resource>,
    /// Uids of this kind that are in the graph.
    known: BTreeSet<String>,
    listed: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Monitor {
    async fn run(mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(30));
        let mut position = None;
        loop {
            let started = tokio::time::Instant::now();
            if let Err(error) = self.once(&mut position).await {
                let resource = &self.resource.gvr.resource;
                tracing::debug!(resource, %error, "watch of metadata ended; listing again");
                position = None;
            }
            if started.elapsed() >= Duration::from_secs(1) {
                backoff.reset();
            }
            let jitter = 0.5 + self.all.rng.fraction();
            tokio::time::sleep(backoff.next_delay().mul_f64(jitter)).await;
        }
    }

    /// A list, where there is no position to go on from, and one watch until it ends.
    async fn once(&mut self, position: &mut Option<String>) -> Result<(), Error> {
        let from = match position.take() {
            Some(from) => from,
            None => self.list().await?,
        };
        if let Some(listed) = self.listed.take() {
            let _ = listed.send(());
        }
        let path = self.resource.path("", "");
        let seconds = 300 + self.all.rng.below(300);
        let target = format!(
            "{path}?watch=true&allowWatchBookmarks=true&resourceVersion={from}&timeoutSeconds={seconds}"
        );
        *position = Some(from);
        let body = self.open(&target, AS_METADATA).await?;
        let mut lines = Lines::new(body);
        while let Some(line) = lines.next().await? {
            *position = Some(self.take(&line)?);
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<String, Error> {
        let (mut token, mut version) = (String::new(), String::new());
        let mut seen = BTreeSet::new();
        loop {
            let path = self.resource.path("", "");
            let target = format!("{path}?limit={PAGE}&continue={token}");
            let body = self.open(&target, AS_METADATA_LIST).await?;
            let body = http_body_util::Limited::new(body, MAX_PAGE_BYTES).collect().await;
            let body = body.map_err(|error| Error::Unfinished(error.to_string()))?.to_bytes();
            let page: Page = serde_json::from_slice(&body)?;
            for item in page.items {
                seen.insert(item.metadata.uid.clone());
                self.all.apply(self.node(item.metadata));
            }
            if version.is_empty() {
                version = page.metadata.resource_version;
            }
            token = page.metadata.token;
            if token.is_empty() {
                break;
            }
        }
        for gone in self.known.difference(&seen) {
            self.all.remove(gone);
        }
        self.known = seen;
        Ok(version)
    }

    /// Takes one line of a watch; answers with the position after it.
    fn take(&mut self, line: &[u8]) -> Result<String, Error> {
        let event: Event = serde_json::from_slice(line)?;
        let Some(metadata) = event.object.metadata.filter(|_| event.sort != "ERROR") else {
            let message = event.object.message.unwrap_or_default();
            return Err(Error::Unfinished(format!("the watch failed: {message}")));
        };
        let position = metadata.resource_version.clone();
        match event.sort.as_str() {
            "DELETED" => {
                self.known.remove(&metadata.uid);
                self.all.remove(&metadata.uid);
            }
            "BOOKMARK" => {}
            _ => {
                self.known.insert(metadata.uid.clone());
                self.all.apply(self.node(metadata));
            }
        }
        Ok(position)
    }

    fn node(&self, metadata: Metadata) -> Node {
        Node {
            resource: self.resource.clone(),
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            owners: metadata.owner_references,
            finalizers: metadata.finalizers,
            deleting: metadata.deletion_timestamp.is_some(),
        }
    }

    /// Starts a request that asks for metadata, and returns its body.
    async fn open(&self, target: &str, accept: &str) -> Result<Body, Error> {
        let request = Request::get(target)
            .header(header::ACCEPT, accept)
            .header(header::USER_AGENT, "generic-garbage-collector")
            .body(Body::empty());
        let request = request.map_err(|error| Error::Unfinished(error.to_string()))?;
        let answer = self.all.api.client().send(request).await;
        let answer = answer.map_err(|error| Error::Unfinished(error.to_string()))?;
        if !answer.status().is_success() {
            return Err(Error::Unfinished(format!("{target}: {}", answer.status())));
        }
        Ok(answer.into_body())
    }
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(default, rename = "continue")]
    token: String,
}

#[derive(Deserialize)]
struct Item {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    sort: String,
    object: EventObject,
}

/// An object, or a `Status`.
#[derive(Deserialize)]
struct EventObject {
    metadata: Option<Metadata>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    owner_references: Vec<Owner>,
    finalizers: Vec<String>,
    deletion_timestamp: Option<String>,
}
