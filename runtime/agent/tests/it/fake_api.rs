//! As much of an API server as an agent talks to: objects by path, lists, watches, merge patches
//! with a uid precondition, deletion.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Clones share the objects.
#[derive(Clone, Default)]
pub struct FakeApi(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<String, Value>,
    watches: Vec<(String, mpsc::UnboundedSender<String>)>,
    /// `METHOD path`, writes only.
    writes: Vec<String>,
}

impl FakeApi {
    pub fn client(&self) -> kube::Client {
        let api = self.clone();
        windlass_sdk_client::client(tower::service_fn(move |request| {
            let api = api.clone();
            async move { Ok::<_, std::io::Error>(api.answer(request).await) }
        }))
    }

    /// Puts an object where it is (a path without a leading slash), as another client would.
    pub fn put(&self, path: &str, object: Value) {
        self.0.lock().expect("lock").put(path, object);
    }

    pub fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().expect("lock").objects.get(path).cloned()
    }

    pub fn remove(&self, path: &str) {
        self.0.lock().expect("lock").remove(path);
    }

    pub fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).expect("object");
        change(&mut object);
        self.put(path, object);
    }

    pub fn writes(&self, text: &str) -> usize {
        let state = self.0.lock().expect("lock");
        state.writes.iter().filter(|write| write.contains(text)).count()
    }

    pub fn events(&self) -> Vec<String> {
        let state = self.0.lock().expect("lock");
        let events = state.objects.iter().filter(|(path, _)| path.contains("/events/"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut lines: Vec<String> = events
            .map(|(_, event)| format!("{}: {}", text(&event["reason"]), text(&event["message"])))
            .collect();
        lines.sort();
        lines
    }

    async fn answer(&self, request: Request<windlass_sdk_client::Body>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().trim_start_matches('/').to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let body = body.collect().await.expect("body").to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut state = self.0.lock().expect("lock");
        if parts.method != Method::GET {
            state.writes.push(format!("{} {path}", parts.method));
        }
        match parts.method {
            Method::GET if query.contains("watch=true") => state.watch(&path),
            Method::GET => match state.objects.get(&path) {
                Some(object) => ok(object),
                None => status(404, "NotFound"),
            },
            Method::POST if path.ends_with("/token") => {
                let asked = state.writes.iter().filter(|write| write.ends_with("/token"));
                ok(&json!({"status": {"token": format!("token-{}", asked.count())}}))
            }
            Method::POST => {
                let name = body["metadata"]["name"].as_str().expect("name");
                let path = format!("{path}/{name}");
                if state.objects.contains_key(&path) {
                    return status(409, "AlreadyExists");
                }
                ok(&state.put(&path, body))
            }
            Method::PATCH => {
                let path = path.trim_end_matches("/status").to_owned();
                let Some(mut object) = state.objects.get(&path).cloned() else {
                    return status(404, "NotFound");
                };
                let wanted = &body["metadata"]["uid"];
                if !wanted.is_null() && *wanted != object["metadata"]["uid"] {
                    return status(409, "Conflict");
                }
                merge(&mut object, &body);
                ok(&state.put(&path, object))
            }
            Method::DELETE => match state.remove(&path) {
                Some(object) => ok(&object),
                None => status(404, "NotFound"),
            },
            _ => status(405, "MethodNotAllowed"),
        }
    }
}

impl State {
    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        let is_new = !self.objects.contains_key(path);
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = format!("uid-{}", self.version).into();
        }
        self.objects.insert(path.to_owned(), object.clone());
        self.tell(if is_new { "ADDED" } else { "MODIFIED" }, path, &object);
        object
    }

    fn remove(&mut self, path: &str) -> Option<Value> {
        let mut object = self.objects.remove(path)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.tell("DELETED", path, &object);
        Some(object)
    }

    fn tell(&mut self, sort: &str, path: &str, object: &Value) {
        let line = format!("{}\n", json!({ "type": sort, "object": object }));
        self.watches
            .retain(|(plural, watch)| !is_of(path, plural) || watch.send(line.clone()).is_ok());
    }

    /// A watch that begins with all there is.
    fn watch(&mut self, path: &str) -> Response<Body> {
        let plural = path.rsplit('/').next().unwrap_or_default().to_owned();
        let (sender, receiver) = mpsc::unbounded_channel();
        let initial = self.objects.iter().filter(|(path, _)| is_of(path, &plural));
        for (_, object) in initial {
            let line = format!("{}\n", json!({ "type": "ADDED", "object": object }));
            sender.send(line).expect("open");
        }
        let bookmark = json!({ "type": "BOOKMARK", "object": { "metadata": {
            "resourceVersion": self.version.to_string(),
            "annotations": { "k8s.io/initial-events-end": "true" } } } });
        sender.send(format!("{bookmark}\n")).expect("open");
        self.watches.push((plural, sender));
        let lines = UnboundedReceiverStream::new(receiver);
        let lines = futures::StreamExt::map(lines, Ok::<_, std::io::Error>);
        Response::new(Body::from_stream(lines))
    }
}

/// An object's path is `.../PLURAL/NAME`.
fn is_of(path: &str, plural: &str) -> bool {
    path.rsplit('/').nth(1) == Some(plural)
}

fn ok(object: &Value) -> Response<Body> {
    Response::new(Body::from(object.to_string()))
}

fn status(code: u16, reason: &str) -> Response<Body> {
    let body = json!({ "kind": "Status", "reason": reason, "message": reason, "code": code });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(code).expect("code");
    response
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in members {
        if value.is_null() {
            target.as_object_mut().expect("object").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}
