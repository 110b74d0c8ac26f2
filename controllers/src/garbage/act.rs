//! Carries out what the plan says about one object of the graph.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures::future::join_all;
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use windlass_sdk_client::{Api, Cluster, EventType, Key, Queue, Recorder};
use windlass_sdk_meta::Rng;
use windlass_sdk_types::ObjectReference;

use super::{
    graph::{Graph, Node, Owner},
    monitor::Monitors,
    plan::{self, Action, Known, Policy},
};
use crate::kit::{Controller, Error, Requeue, Watch, discovery::Discovery, write};

/// Owners that are known to be gone: a thousand dependents of one are one look-up.
const MAX_ABSENT: usize = 500;
/// Writes under way at a time for one object.
const IN_FLIGHT: usize = 64;
/// An owner that exists but isn't in the graph yet: how long until it surely is.
const GRAPH_DELAY: std::time::Duration = std::time::Duration::from_secs(5);

/// Deletes what nobody owns any more.
pub struct Garbage {
    api: Api,
    recorder: Recorder,
    rng: Rng,
    discovery: Arc<Discovery>,
    graph: Arc<Mutex<Graph>>,
    /// References, each with the namespace it is seen from, whose owner is gone. A uid never comes
    /// back, so an entry stays true.
    absent: Mutex<BTreeMap<(Owner, String), ()>>,
    /// Set when the watch starts.
    queue: Arc<Mutex<Option<Queue<Key>>>>,
}

impl Garbage {
    pub fn new(cluster: &Cluster) -> Self {
        let component = "generic-garbage-collector";
        Self {
            api: cluster.api(component),
            recorder: cluster.recorder(component),
            rng: cluster.rng.clone(),
            discovery: Arc::default(),
            graph: Arc::default(),
            absent: Mutex::default(),
            queue: Arc::default(),
        }
    }

    /// Plans, looking up owners that the graph doesn't hold. Says whether any was found that way.
    async fn plan(&self, uid: &str) -> Result<(plan::Plan, bool), Error> {
        let Some(node) = self.graph.lock().get(uid).cloned() else {
            return Ok((plan::Plan { actions: Vec::new(), why: "it is gone" }, false));
        };
        let mut known: BTreeMap<Owner, Known> = {
            let absent = self.absent.lock();
            let is_absent =
                |owner: &&Owner| absent.contains_key(&((*owner).clone(), node.namespace.clone()));
            let owners = node.owners.iter().filter(is_absent);
            owners.map(|owner| (owner.clone(), Known::Absent)).collect()
        };
        loop {
            let plan = plan::plan(&self.graph.lock(), uid, &known);
            let asked: Vec<&Owner> = plan
                .actions
                .iter()
                .filter_map(|action| match action {
                    Action::LookUp(owner) => Some(owner),
                    _ => None,
                })
                .collect();
            if asked.is_empty() {
                let relied = known.values().any(|known| *known == Known::Present);
                return Ok((plan, relied));
            }
            // Each turn knows more owners, and an object has few; a change of it meanwhile brings
            // it back anyway.
            if asked.iter().any(|owner| known.contains_key(owner)) {
                return Err(Error::Unfinished("owners could not be looked up".into()));
            }
            for owner in asked {
                known.insert(owner.clone(), self.look_up(&node, owner).await?);
            }
        }
    }

    async fn look_up(&self, node: &Node, owner: &Owner) -> Result<Known, Error> {
        let found = self.discovery.resources(&self.api).await;
        let resource = found
            .resources
            .iter()
            .find(|resource| resource.kind == owner.kind && resource.gvr.group == owner.group());
        // A kind that can't be found may be there tomorrow: its dependents are not garbage.
        let Some(resource) = resource else {
            let Owner { api_version, kind, .. } = owner;
            return Err(Error::Unfinished(format!(
                "no resource for owner kind {api_version} {kind}"
            )));
        };
        if resource.namespaced && node.namespace.is_empty() {
            return Ok(Known::Invalid);
        }
        let path = resource.path(&node.namespace, &owner.name);
        let uid = match self.api.request(Method::GET, &path, "", Vec::new()).await {
            Err(error) if error.is_not_found() => None,
            answer => {
                let json: Value = serde_json::from_slice(&answer?)?;
                json["metadata"]["uid"].as_str().map(str::to_owned)
            }
        };
        if uid.as_ref() == Some(&owner.uid) {
            return Ok(Known::Present);
        }
        let mut absent = self.absent.lock();
        if absent.len() >= MAX_ABSENT {
            absent.clear();
        }
        absent.insert((owner.clone(), node.namespace.clone()), ());
        Ok(Known::Absent)
    }

    async fn act(&self, action: &Action) -> Result<(), Error> {
        let sent = match action {
            Action::LookUp(_) => Ok(()),
            Action::Visit(uid) => {
                let queue = self.queue.lock().clone();
                queue.into_iter().for_each(|queue| queue.add(Key::new("", uid)));
                Ok(())
            }
            Action::RemoveOwners { of, uids } => {
                let left = of.owners.iter().filter(|owner| !uids.contains(&owner.uid));
                self.patch(of, "ownerReferences", json!(left.collect::<Vec<_>>())).await
            }
            Action::Unblock(of) => {
                let unblocked = |owner: &Owner| Owner {
                    block_owner_deletion: owner.block_owner_deletion.map(|_| false),
                    ..owner.clone()
                };
                let owners: Vec<Owner> = of.owners.iter().map(unblocked).collect();
                self.patch(of, "ownerReferences", json!(owners)).await
            }
            Action::RemoveFinalizer { of, finalizer } => {
                let left = of.finalizers.iter().filter(|own| own != finalizer);
                self.patch(of, "finalizers", json!(left.collect::<Vec<_>>())).await
            }
            Action::Delete { of, policy } => self.delete(of, *policy).await,
            Action::Warn { of, owner } => {
                self.warn(of, owner);
                Ok(())
            }
        };
        match sent {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// Held to the version that the plan saw: what changed since is planned for anew.
    async fn patch(&self, of: &Node, field: &str, value: Value) -> Result<(), Error> {
        let path = of.resource.path(&of.namespace, &of.name);
        let patch = json!({"metadata": {
            "uid": of.uid, "resourceVersion": of.resource_version, (field): value,
        }});
        write::patch_at(&self.api, &path, &patch).await.map(drop)
    }

    async fn delete(&self, of: &Node, policy: Policy) -> Result<(), Error> {
        let path = of.resource.path(&of.namespace, &of.name);
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "preconditions": {"uid": of.uid, "resourceVersion": of.resource_version},
            "propagationPolicy": format!("{policy:?}"),
        });
        let body = options.to_string().into_bytes();
        self.api.request(Method::DELETE, &path, "application/json", body).await?;
        tracing::debug!(
            kind = of.resource.kind,
            namespace = of.namespace,
            name = of.name,
            "deleted"
        );
        Ok(())
    }

    fn warn(&self, of: &Node, owner: &Owner) {
        let version = match of.resource.gvr.group.as_str() {
            "" => of.resource.gvr.version.clone(),
            group => format!("{group}/{}", of.resource.gvr.version),
        };
        let about = ObjectReference {
            api_version: Some(version),
            kind: Some(of.resource.kind.clone()),
            name: Some(of.name.clone()),
            uid: Some(of.uid.clone()),
            ..ObjectReference::default()
        };
        let message = format!(
            "cluster-scoped object {} refers to the namespaced owner {} {}: it is not collected",
            of.name, owner.kind, owner.name
        );
        self.recorder.record(&about, EventType::Warning, "OwnerRefInvalidNamespace", message);
    }
}

#[async_trait]
impl Controller for Garbage {
    fn name(&self) -> &'static str {
        "generic-garbage-collector"
    }

    fn watches(&self) -> Vec<Watch> {
        let (api, rng, graph, discovery, held) = (
            self.api.clone(),
            self.rng.clone(),
            self.graph.clone(),
            self.discovery.clone(),
            self.queue.clone(),
        );
        vec![Watch::new(move |queue, ready| async move {
            *held.lock() = Some(queue.clone());
            let monitors = Monitors { api, rng, graph, discovery, queue };
            // The receiver is gone only if the controller stops.
            monitors.run(|| ready.send(()).unwrap_or_default()).await;
        })]
    }

    /// The key's name is a uid.
    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let (plan, relied_on_look_up) = self.plan(&key.name).await?;
        tracing::debug!(why = plan.why, actions = plan.actions.len(), "planned");
        // In order, but what goes to different objects may go at once; a finalizer comes off last
        // and only if all before it succeeded.
        let last = plan.actions.len().saturating_sub(1);
        let (before, last) = plan.actions.split_at(last);
        for part in before.chunks(IN_FLIGHT) {
            for done in join_all(part.iter().map(|action| self.act(action))).await {
                done?;
            }
        }
        for action in last {
            self.act(action).await?;
        }
        Ok(relied_on_look_up.then_some(GRAPH_DELAY).into())
    }
}
