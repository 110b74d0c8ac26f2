//! Pods and nodes in memory, with just the requests that a scheduler makes.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{StreamExt, channel::mpsc, stream};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use windlass_sdk_client::Body;

type Chunks = stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<(String, String), Value>,
    watchers: Vec<(String, mpsc::UnboundedSender<String>)>,
    held: Option<Vec<String>>,
    log: Vec<String>,
    refuse: (u16, u32),
}

impl Server {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn node(&self, name: &str, cpu: &str) {
        let allocatable = json!({ "cpu": cpu, "memory": "8Gi", "pods": "110" });
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": { "name": name, "uid": name },
            "status": { "allocatable": allocatable },
        });
        self.state().put("nodes", name, node);
    }

    pub fn pod(&self, name: &str, cpu: &str) {
        let container = json!({ "name": "c", "resources": { "requests": { "cpu": cpu } } });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "name": name, "namespace": "default", "uid": name },
            "spec": { "containers": [container] },
        });
        self.state().put("pods", name, pod);
    }

    pub fn bind(&self, name: &str, node: &str) {
        let mut state = self.state();
        let mut pod = state.objects[&("pods".to_owned(), name.to_owned())].clone();
        pod["spec"]["nodeName"] = node.into();
        state.put("pods", name, pod);
    }

    pub fn bound(&self, name: &str) -> Option<String> {
        let state = self.state();
        let pod = state.objects.get(&("pods".to_owned(), name.to_owned()))?;
        pod["spec"]["nodeName"].as_str().map(str::to_owned)
    }

    /// How many pods each node has.
    pub fn per_node(&self) -> BTreeMap<String, usize> {
        let state = self.state();
        let mut count = BTreeMap::new();
        for pod in state.objects.values() {
            if let Some(node) = pod["spec"]["nodeName"].as_str() {
                *count.entry(node.to_owned()).or_default() += 1;
            }
        }
        count
    }

    /// Answers the next `times` bindings with this code.
    pub fn refuse_bindings(&self, code: u16, times: u32) {
        self.state().refuse = (code, times);
    }

    /// Keeps the changes of pods from watchers until it is called with false.
    pub fn hold_pod_events(&self, hold: bool) {
        let mut state = self.state();
        let held = if hold { state.held.replace(Vec::new()) } else { state.held.take() };
        for line in held.into_iter().flatten() {
            state.send("pods", line);
        }
    }

    /// What was asked since the last call, other than watches.
    pub fn log(&self) -> String {
        std::mem::take(&mut self.state().log).join("\n")
    }
}

impl State {
    fn put(&mut self, plural: &str, name: &str, mut object: Value) {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let line = json!({ "type": "MODIFIED", "object": object }).to_string();
        self.objects.insert((plural.into(), name.into()), object);
        match &mut self.held {
            Some(held) if plural == "pods" => held.push(line),
            _ => self.send(plural, line),
        }
    }

    fn send(&mut self, plural: &str, line: String) {
        let watchers = self.watchers.iter().filter(|(kind, _)| kind == plural);
        watchers.for_each(|(_, watcher)| drop(watcher.unbounded_send(line.clone())));
    }

    fn watch(&mut self, plural: &str) -> Chunks {
        let (sender, receiver) = mpsc::unbounded::<String>();
        for ((kind, _), object) in &self.objects {
            if kind == plural {
                let line = json!({ "type": "ADDED", "object": object }).to_string();
                sender.unbounded_send(line).unwrap();
            }
        }
        let metadata = json!({
            "resourceVersion": self.revision.to_string(),
            "annotations": { "k8s.io/initial-events-end": "true" },
        });
        let end = json!({ "type": "BOOKMARK", "object": { "metadata": metadata } });
        sender.unbounded_send(end.to_string()).unwrap();
        self.watchers.push((plural.into(), sender));
        receiver.map(|line| Ok(Frame::data(Bytes::from(line + "\n")))).boxed()
    }

    fn answer(&mut self, method: &str, path: &str, body: &str) -> (u16, String) {
        let json: Value = serde_json::from_str(body).unwrap_or_default();
        let parts: Vec<&str> = path.split('/').collect();
        if path.contains("/events") {
            self.log.push(event(method, &json));
            return (201, "{}".into());
        }
        let name = parts.get(6).copied().unwrap_or_default().to_owned();
        if path.ends_with("/binding") && self.refuse.1 > 0 {
            self.refuse.1 -= 1;
            self.log.push(format!("{method} {path} refused"));
            return (self.refuse.0, json!({ "message": "refused" }).to_string());
        }
        self.log.push(format!("{method} {path} {body}").trim_end().to_owned());
        let Some(mut pod) = self.objects.get(&("pods".to_owned(), name.clone())).cloned() else {
            return (404, json!({ "reason": "NotFound" }).to_string());
        };
        if path.ends_with("/binding") {
            if pod["spec"]["nodeName"].is_string() {
                return (409, json!({ "reason": "Conflict", "message": "bound" }).to_string());
            }
            pod["spec"]["nodeName"] = json["target"]["name"].clone();
            self.put("pods", &name, pod);
            return (201, "{}".into());
        }
        if method == "PATCH" {
            pod["status"]["conditions"] = json["status"]["conditions"].clone();
            self.put("pods", &name, pod.clone());
        }
        (200, pod.to_string())
    }
}

fn event(method: &str, json: &Value) -> String {
    if method == "PATCH" {
        return format!("PATCH Event count {}", json["count"]);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "Event {} {} {}: {}",
        text(&json["type"]),
        text(&json["reason"]),
        text(&json["involvedObject"]["name"]),
        text(&json["message"])
    )
}

impl tower::Service<Request<Body>> for Server {
    type Response = Response<StreamBody<Chunks>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (parts, body) = request.into_parts();
        let body = futures::executor::block_on(body.collect()).unwrap().to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        let path = parts.uri.path();
        let mut state = self.state();
        let (code, chunks) = if parts.uri.query().is_some_and(|query| query.contains("watch=true"))
        {
            (200, state.watch(path.rsplit('/').next().unwrap_or_default()))
        } else {
            let (code, text) = state.answer(parts.method.as_str(), path, &body);
            (code, stream::iter([Ok(Frame::data(Bytes::from(text)))]).boxed())
        };
        let mut answer = Response::new(StreamBody::new(chunks));
        *answer.status_mut() = code.try_into().unwrap();
        ready(Ok(answer))
    }
}
