//! Empties a namespace that is being deleted: pods first, with their grace, then everything else
//! that the server has; then takes the finalizer off.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use windlass_sdk_client::{Api, Change, Cluster, Informer, Key};
use windlass_sdk_meta::Clock;
use windlass_sdk_types::{Kind, Namespace, Pod};

use super::plan::{self, Conclusion, FINALIZER, Next, Remaining, Round};
use crate::kit::{
    Controller, Error, Requeue, Watch,
    discovery::{Discovery, Resource},
    watch, write,
};

/// How many of what is left are looked at one by one; of more only the number is told.
const PAGE: usize = 500;

/// Where the cluster's registry has all of a namespace.
const IMAGES: &str = "/v2/_windlass/namespaces/";

/// Deletes what is in namespaces that are being deleted.
pub struct Namespaces {
    api: Api,
    clock: Arc<dyn Clock>,
    discovery: Discovery,
    namespaces: Informer<Namespace>,
    pods: Informer<Pod>,
}

impl Namespaces {
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            api: cluster.api("namespace-controller"),
            clock: cluster.clock.clone(),
            discovery: Discovery::default(),
            namespaces: cluster.informers.of(),
            pods: cluster.informers.of(),
        }
    }

    async fn empty(&self, namespace: &str) -> Round {
        // What is left out here stays behind for good.
        let found = self.discovery.now(&self.api).await;
        let mut round = Round { discovery_error: found.error, ..Round::default() };
        let deletable = |resource: &&Resource| resource.namespaced && resource.has_verb("delete");
        let (pods, others): (Vec<&Resource>, Vec<&Resource>) =
            found.resources.iter().filter(deletable).partition(|resource| is_pods(resource));
        for resource in pods {
            self.clear(resource, namespace, &mut round).await;
        }
        // What pods use stays until they are gone.
        if round.remaining.values().any(|left| left.count > 0) {
            return round;
        }
        for resource in others {
            self.clear(resource, namespace, &mut round).await;
        }
        if let Err(error) = self.clear_images(namespace).await {
            round.errors.push(format!("images: {error}"));
        }
        round
    }

    /// Has the cluster's registry drop what it holds of the namespace, while the namespace is there
    /// and takes nothing new: one of the same name begins empty. An API server without a registry
    /// has no such path, or says that it isn't for us.
    async fn clear_images(&self, namespace: &str) -> Result<(), Error> {
        let path = format!("{IMAGES}{namespace}");
        match self.api.request(Method::DELETE, &path, "", Vec::new()).await {
            Err(error) if !error.is_not_found() && !is_of_a_path(&error) => Err(error.into()),
            _ => Ok(()),
        }
    }

    async fn clear(&self, resource: &Resource, namespace: &str, round: &mut Round) {
        let key = (&resource.gvr.group_resource()).into();
        match self.delete_all(resource, namespace).await {
            Ok(left) => drop(round.remaining.insert(key, left)),
            Err(error) => round.errors.push(format!("{}: {error}", resource.gvr.resource)),
        }
    }

    async fn delete_all(&self, resource: &Resource, namespace: &str) -> Result<Remaining, Error> {
        let before = self.list(resource, namespace).await?;
        if before.items.is_empty() {
            return Ok(Remaining::default());
        }
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background",
        });
        let body = || options.to_string().into_bytes();
        if resource.has_verb("deletecollection") {
            let path = resource.path(namespace, "");
            self.api.request(Method::DELETE, &path, "application/json", body()).await?;
        } else {
            for item in &before.items {
                let path = resource.path(namespace, &item.metadata.name);
                match self.api.request(Method::DELETE, &path, "application/json", body()).await {
                    Err(error) if !error.is_not_found() => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(self.list(resource, namespace).await?.remaining())
    }

    async fn list(&self, resource: &Resource, namespace: &str) -> Result<Listed, Error> {
        let path = format!("{}?limit={PAGE}", resource.path(namespace, ""));
        let answer = self.api.request(Method::GET, &path, "", Vec::new()).await?;
        Ok(serde_json::from_slice(&answer)?)
    }

    async fn conclude(
        &self,
        namespace: &Namespace,
        conclusion: Conclusion,
    ) -> Result<Requeue, Error> {
        let mut next = namespace.clone();
        if let Some(status) = conclusion.status {
            next.status = Some(status);
            let written = write::update(&self.api, &next, "status").await?;
            next.metadata.resource_version = Some(written.metadata.resource_version);
        }
        match conclusion.next {
            Next::After(delay) => Ok(Requeue::After(delay)),
            Next::Finalize => {
                let finalizers =
                    next.spec.get_or_insert_default().finalizers.get_or_insert_default();
                finalizers.retain(|finalizer| finalizer != FINALIZER);
                write::update(&self.api, &next, "finalize").await?;
                Ok(Requeue::No)
            }
        }
    }
}

#[async_trait]
impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        let (namespaces, pods) = (self.namespaces.clone(), self.pods.clone());
        // The last pod is gone: what comes after the pods needn't wait for the next look.
        let emptied = watch::mapped(&self.pods, move |change: &Change<Pod>| {
            let key = Key::new("", &change.key.namespace);
            let gone = change.now.is_none()
                && namespaces.find(&key).is_some_and(|namespace| namespace.is_deleting())
                && pods.in_namespace(&key.name).is_empty();
            Vec::from_iter(gone.then_some(key))
        });
        vec![watch::own(&self.namespaces), emptied]
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let seen = self.namespaces.find(key).filter(|namespace| plan::is_concerned(namespace));
        if seen.is_none() {
            return Ok(Requeue::No);
        }
        // By now it may be gone, and another of its name be there: that one's content must stay.
        let namespace = match self.api.get::<Namespace>("", &key.name).await {
            Ok(namespace) if plan::is_concerned(&namespace) => namespace,
            Ok(_) => return Ok(Requeue::No),
            Err(error) if error.is_not_found() => return Ok(Requeue::No),
            Err(error) => return Err(error.into()),
        };
        let round = self.empty(namespace.name()).await;
        let conclusion = plan::conclude(&namespace, &round, self.clock.now());
        tracing::debug!(next = ?conclusion.next, errors = round.errors.len(), "concluded");
        match self.conclude(&namespace, conclusion).await {
            Err(error) if error.is_not_found() => Ok(Requeue::No),
            other => other,
        }
    }
}

fn is_pods(resource: &Resource) -> bool {
    resource.gvr.group.is_empty() && resource.gvr.resource == "pods"
}

/// How API servers forbid what is none of their resources.
fn is_of_a_path(error: &windlass_sdk_client::Error) -> bool {
    error.is_forbidden() && error.to_string().contains("cannot delete path")
}

/// What a list of any kind has in common, and a pod's grace.
#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    remaining_item_count: usize,
}

#[derive(Deserialize)]
struct Item {
    metadata: ItemMeta,
    #[serde(default)]
    spec: Option<ItemSpec>,
}

#[derive(Deserialize)]
struct ItemMeta {
    name: String,
    #[serde(default)]
    finalizers: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ItemSpec {
    termination_grace_period_seconds: Option<u64>,
}

impl Listed {
    fn remaining(&self) -> Remaining {
        let count = self.items.len() + self.metadata.remaining_item_count;
        let mut left = Remaining { count, ..Remaining::default() };
        for item in &self.items {
            for finalizer in &item.metadata.finalizers {
                *left.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
            let grace = item.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
            left.estimate = left.estimate.max(Duration::from_secs(grace.unwrap_or_default()));
        }
        left
    }
}
