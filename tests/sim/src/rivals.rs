//! Others who write to the same objects at the same time: they edit what the controllers edit and
//! remove what the controllers have made. Nothing they do changes what is wanted in the end.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use windlass_sdk_client::Api;
use windlass_sdk_meta::Rng;

use crate::{
    history::{History, Objects},
    rules::text,
    user::path,
};

/// The longest that a rival does nothing.
const IDLE_MS: usize = 1300;

/// One of them.
pub struct Rival {
    pub api: Api,
    pub rng: Rng,
    pub history: History,
}

type Deed = (usize, &'static str, &'static str, fn(&Rival, &Value) -> Request);
type Request = (Method, &'static str, Value);

/// How often in a hundred, on which resource (in the store's and in the API's words), what.
const DEEDS: [Deed; 7] = [
    (30, "apps/deployments", "deployments", edit),
    (20, "apps/replicasets", "replicasets", annotate),
    (15, "core/pods", "pods", annotate),
    (10, "core/services", "services", annotate),
    (17, "core/pods", "pods", delete_pod),
    (3, "apps/replicasets", "replicasets", delete),
    (5, "discovery.k8s.io/endpointslices", "endpointslices", delete),
];

impl Rival {
    /// Meddles for as long as it is polled.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.rng.below(IDLE_MS) as u64)).await;
            let Some((path, (method, media, body))) = self.choose() else { continue };
            // Whether the server agrees is all the same to a rival.
            let _ = self.api.request(method, &path, media, body.to_string().into_bytes()).await;
        }
    }

    fn choose(&self) -> Option<(String, Request)> {
        let mut dice = self.rng.below(100);
        let (_, resource, plural, deed) = DEEDS.iter().find(|(share, ..)| {
            let chosen = dice < *share;
            dice = dice.saturating_sub(*share);
            chosen
        })?;
        let victim = self.history.look(|objects| self.victim(objects, resource))?;
        let metadata = &victim["metadata"];
        let name = format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"]));
        Some((path(plural, &name), deed(self, &victim)))
    }

    /// The cluster's own objects are left alone, and pods that nobody would make again.
    fn victim(&self, objects: &Objects, resource: &str) -> Option<Value> {
        let fair = |object: &Value| {
            let owned = !object["metadata"]["ownerReferences"].is_null();
            owned || resource == "apps/deployments" || resource == "core/services"
        };
        let all: Vec<_> = objects.under(resource, "").filter(|(.., object)| fair(object)).collect();
        let (_, revision, object) = all.get(self.rng.below(all.len()))?;
        let mut object = (*object).clone();
        object["metadata"]["resourceVersion"] = revision.to_string().into();
        Some(object)
    }

    fn mark(&self) -> String {
        self.rng.below(1000).to_string()
    }
}

/// Replaces the object as it was last seen: a conflict for whoever wrote meanwhile, or for us.
fn edit(rival: &Rival, object: &Value) -> Request {
    let mut edited = object.clone();
    edited["metadata"]["annotations"]["rival"] = rival.mark().into();
    (Method::PUT, "application/json", edited)
}

fn annotate(rival: &Rival, _: &Value) -> Request {
    let body = json!({"metadata": {"annotations": {"rival": rival.mark()}}});
    (Method::PATCH, "application/merge-patch+json", body)
}

/// As the node would, by force, or with a little time.
fn delete_pod(rival: &Rival, _: &Value) -> Request {
    let body = match rival.rng.below(3) {
        0 => json!({}),
        grace => json!({"gracePeriodSeconds": grace - 1}),
    };
    (Method::DELETE, "application/json", body)
}

fn delete(_: &Rival, _: &Value) -> Request {
    (Method::DELETE, "application/json", json!({"propagationPolicy": "Background"}))
}
