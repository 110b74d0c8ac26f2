//! A person with kubectl: asks for things, asks again until the server agrees, and remembers what
//! is wanted in the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use windlass_sdk_client::{Api, Error};
use windlass_sdk_meta::Rng;

use crate::script::Step;

/// A person gives up after this long.
const PATIENCE: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_millis(200);

/// What should exist when all has come to rest. Names are `namespace/name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub namespaces: BTreeSet<String>,
    pub deployments: BTreeMap<String, Deployed>,
    pub services: BTreeSet<String>,
    /// Pods without an owner, with their image.
    pub pods: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    pub replicas: i64,
    pub image: String,
}

/// See the module.
pub struct User {
    pub api: Api,
    pub rng: Rng,
    pub wanted: Wanted,
}

/// One request of a user.
struct Ask<'a> {
    method: Method,
    path: String,
    media: &'a str,
    body: Value,
}

impl User {
    /// Does a step that is the user's; false where it isn't. Errors: the server never agreed.
    pub async fn carry_out(&mut self, step: &Step) -> Result<bool, String> {
        match step {
            Step::Namespace(name) => {
                self.wanted.namespaces.insert(name.clone());
                let body =
                    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
                self.create("namespaces", name, body).await?;
            }
            Step::Deploy { name, replicas, image } => {
                let wanted = Deployed { replicas: *replicas, image: image.clone() };
                self.wanted.deployments.insert(name.clone(), wanted);
                self.create("deployments", name, deployment(name, *replicas, image)).await?;
            }
            Step::Scale { name, replicas } => {
                let Some(wanted) = self.wanted.deployments.get_mut(name) else { return Ok(true) };
                wanted.replicas = *replicas;
                self.scale(name, *replicas).await?;
            }
            Step::Image { name, image } => {
                let Some(wanted) = self.wanted.deployments.get_mut(name) else { return Ok(true) };
                wanted.image.clone_from(image);
                self.set_image(name, image).await?;
            }
            Step::Expose(name) => {
                self.wanted.services.insert(name.clone());
                self.create("services", name, service(name)).await?;
            }
            Step::Pod { name, image } => {
                if self.wanted.pods.contains_key(name) {
                    return Ok(true);
                }
                self.wanted.pods.insert(name.clone(), image.clone());
                self.create("pods", name, bare_pod(name, image)).await?;
            }
            Step::Delete { kind, name, policy } => self.delete(kind, name, policy).await?,
            Step::Cordon { node, on } => {
                let body = json!({"spec": {"unschedulable": on.then_some(true)}});
                self.patch(format!("/api/v1/nodes/{node}"), body).await?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    async fn delete(&mut self, kind: &str, name: &str, policy: &str) -> Result<(), String> {
        let wanted = &mut self.wanted;
        match kind {
            "deployment" => drop(wanted.deployments.remove(name)),
            "service" => drop(wanted.services.remove(name)),
            "pod" => drop(wanted.pods.remove(name)),
            "namespace" => {
                let inside = format!("{name}/");
                let kept = |other: &String| !other.starts_with(&inside);
                wanted.namespaces.remove(name);
                wanted.deployments.retain(|name, _| kept(name));
                wanted.services.retain(kept);
                wanted.pods.retain(|name, _| kept(name));
            }
            other => return Err(format!("the simulation deletes no {other}")),
        }
        let path = path(&format!("{kind}s"), name);
        let body = json!({"propagationPolicy": policy});
        self.insist(Ask { method: Method::DELETE, path, media: "application/json", body }).await
    }

    /// Goes on until the object exists and isn't one that is being deleted.
    async fn create(&self, plural: &str, name: &str, body: Value) -> Result<(), String> {
        let own = path(plural, name);
        let collection = own.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let begun = Instant::now();
        loop {
            let created = self.send(Method::POST, &collection, "application/json", &body).await;
            let why = match created {
                Ok(_) => return Ok(()),
                Err(error) if error.is_already_exists() => match self.get(&own).await {
                    Ok(found) if found["metadata"]["deletionTimestamp"].is_null() => return Ok(()),
                    Ok(_) => "it is still being deleted".to_owned(),
                    Err(error) => error.to_string(),
                },
                Err(error) => error.to_string(),
            };
            self.again(begun, &own, why).await?;
        }
    }

    /// Scales as `kubectl scale` does or as `kubectl apply` would.
    async fn scale(&self, name: &str, replicas: i64) -> Result<(), String> {
        let mut path = path("deployments", name);
        if self.rng.below(2) == 0 {
            path.push_str("/scale");
        }
        self.patch(path, json!({"spec": {"replicas": replicas}})).await
    }

    /// Changes the image by a patch, or as `kubectl edit` does: read, change, write if unchanged.
    async fn set_image(&self, name: &str, image: &str) -> Result<(), String> {
        let path = path("deployments", name);
        if self.rng.below(2) == 0 {
            let containers = json!([{"name": "c", "image": reference(image)}]);
            let body = json!({"spec": {"template": {"spec": {"containers": containers}}}});
            let media = "application/strategic-merge-patch+json";
            return self.insist(Ask { method: Method::PATCH, path, media, body }).await;
        }
        let begun = Instant::now();
        loop {
            let edited = async {
                let mut found = self.get(&path).await?;
                let template = &mut found["spec"]["template"]["spec"];
                template["containers"][0]["image"] = reference(image).into();
                self.send(Method::PUT, &path, "application/json", &found).await
            };
            match edited.await {
                Ok(_) => return Ok(()),
                Err(error) => self.again(begun, &path, error.to_string()).await?,
            }
        }
    }

    /// Returns when it is there.
    pub async fn sees(&self, path: &str) -> Result<(), String> {
        let begun = Instant::now();
        while let Err(error) = self.get(path).await {
            self.again(begun, path, error.to_string()).await?;
        }
        Ok(())
    }

    async fn patch(&self, path: String, body: Value) -> Result<(), String> {
        let media = "application/merge-patch+json";
        self.insist(Ask { method: Method::PATCH, path, media, body }).await
    }

    /// Asks until it is so. Deleting what isn't there is so.
    async fn insist(&self, ask: Ask<'_>) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            match self.send(ask.method.clone(), &ask.path, ask.media, &ask.body).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_not_found() && ask.method == Method::DELETE => return Ok(()),
                Err(error) => self.again(begun, &ask.path, error.to_string()).await?,
            }
        }
    }

    async fn again(&self, begun: Instant, path: &str, why: String) -> Result<(), String> {
        if begun.elapsed() > PATIENCE {
            return Err(format!("the user gave up on {path}: {why}"));
        }
        tokio::time::sleep(RETRY).await;
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<Value, Error> {
        self.send(Method::GET, path, "", &Value::Null).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        media: &str,
        body: &Value,
    ) -> Result<Value, Error> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let answer = self.api.request(method, path, media, body).await?;
        Ok(serde_json::from_slice(&answer).unwrap_or_default())
    }
}

/// The path of an object; `name` is `namespace/name`, or a name alone.
pub fn path(plural: &str, name: &str) -> String {
    let root = match plural {
        "deployments" | "replicasets" => "/apis/apps/v1",
        "endpointslices" => "/apis/discovery.k8s.io/v1",
        _ => "/api/v1",
    };
    match name.split_once('/') {
        Some((namespace, name)) => format!("{root}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("{root}/{plural}/{name}"),
    }
}

/// The image of a tag.
pub fn reference(tag: &str) -> String {
    format!("windlass.dev/sim:{tag}")
}

fn last(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Pods that are asked whether they are ready every second.
fn deployment(name: &str, replicas: i64, image: &str) -> Value {
    let app = last(name);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": app},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": app}},
            "template": {
                "metadata": {"labels": {"app": app}},
                "spec": {
                    "terminationGracePeriodSeconds": 5,
                    "containers": [{
                        "name": "c", "image": reference(image), "imagePullPolicy": "IfNotPresent",
                        "ports": [{"name": "http", "containerPort": 8080}],
                        "readinessProbe": {"periodSeconds": 1, "httpGet": {"port": "http"}},
                        "resources": {"requests": {"cpu": "50m", "memory": "16Mi"}},
                    }],
                },
            },
        },
    })
}

fn service(name: &str) -> Value {
    let app = last(name);
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": app},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80, "targetPort": "http"}]}})
}

fn bare_pod(name: &str, image: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": last(name)},
        "spec": {"restartPolicy": "OnFailure", "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "c", "image": reference(image)}]}})
}
