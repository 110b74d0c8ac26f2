//! Carries out what the plan of a Deployment says, and tells it in Events and in the status.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::json;
use windlass_sdk_client::{Api, Cluster, EventType, Informer, Key, Recorder};
use windlass_sdk_meta::{Clock, Timestamp};
use windlass_sdk_types::{Deployment, Kind, ReplicaSet, api::apps::v1::DeploymentStatus};

use super::{
    plan::{self, Action, Plan, Set},
    revision, status,
};
use crate::kit::{
    Controller, Error, Index, RECHECK, Requeue, Watch, Writes,
    claim::{self, Slot},
    watch, write,
};

/// Leads each Deployment from the template it has to the one it wants.
pub struct Deployments {
    api: Api,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    deployments: Informer<Deployment>,
    sets: Arc<Index<ReplicaSet, Slot>>,
    /// Revisions of statuses written, and of sets written, by Deployment.
    statuses: Writes,
    scaled: Writes,
}

impl Deployments {
    pub fn new(cluster: &Cluster) -> Self {
        let component = "deployment-controller";
        Self {
            api: cluster.api(component),
            recorder: cluster.recorder(component),
            clock: cluster.clock.clone(),
            deployments: cluster.informers.of(),
            sets: Index::new(cluster.informers.of(), claim::slots),
            statuses: Writes::default(),
            scaled: Writes::default(),
        }
    }

    async fn act(
        &self,
        key: &Key,
        deployment: &Deployment,
        plan: &Plan,
        now: Timestamp,
    ) -> Result<(), Error> {
        for action in &plan.actions {
            let sent = match action {
                Action::Adopt(set) => self.adopt(deployment, set).await,
                Action::Release(set) => {
                    let patch = write::release(&**set, deployment.uid());
                    write::patch(&self.api, &**set, &patch).await
                }
                Action::Create(set) => self.create(key, deployment, set, now).await,
                Action::Update(set) => write::patch(&self.api, &*set.seen, &patch_of(set)).await,
                Action::Delete(set) => {
                    let how = windlass_sdk_client::Delete::only(set.uid());
                    let gone = self.api.delete::<ReplicaSet>(set.namespace(), set.name(), &how);
                    gone.await.map(|()| write::Written::default()).map_err(Error::from)
                }
            };
            match sent {
                Ok(written) => self.scaled.note(key, written.revision()),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        for event in &plan.events {
            let about = deployment.object_reference();
            self.recorder.record(&about, EventType::Normal, "ScalingReplicaSet", event.as_str());
        }
        Ok(())
    }

    /// The Deployment must still be there, and itself: it may be gone while the cache shows it.
    async fn adopt(
        &self,
        deployment: &Deployment,
        set: &ReplicaSet,
    ) -> Result<write::Written, Error> {
        let live: Deployment = self.api.get(deployment.namespace(), deployment.name()).await?;
        if live.uid() != deployment.uid() || live.is_deleting() {
            return Err(Error::Unfinished("the Deployment is gone or going".into()));
        }
        write::patch(&self.api, set, &write::adoption(set, deployment)).await
    }

    /// A name that is taken is either this very set, which the cache doesn't show yet, or another
    /// template with the same hash: then the collision count makes the next hash differ.
    async fn create(
        &self,
        key: &Key,
        deployment: &Deployment,
        set: &ReplicaSet,
        now: Timestamp,
    ) -> Result<write::Written, Error> {
        let created = write::create::<ReplicaSet>(&self.api, set.namespace(), set.encode()?).await;
        let error = match created {
            Ok(written) => return Ok(written),
            Err(error) => error,
        };
        if error.is_already_exists() {
            let taken: ReplicaSet = self.api.get(set.namespace(), set.name()).await?;
            let owner = taken.controller().map(|owner| owner.uid.as_str());
            let template = taken.spec.template.as_ref();
            let same =
                template.is_some_and(|own| revision::same_template(own, &deployment.spec.template));
            if same && owner == Some(deployment.uid()) {
                let resource_version = taken.resource_version().to_owned();
                let name = taken.name().to_owned();
                let metadata = write::WrittenMeta { name, resource_version };
                return Ok(write::Written { metadata });
            }
            let mut status = deployment.status.clone().unwrap_or_default();
            *status.collision_count.get_or_insert_default() += 1;
            self.write_status(key, deployment, status, None).await?;
        } else if !error.is_namespace_terminating() {
            let message = format!("Failed to create new replica set \"{}\": {error}", set.name());
            let status = status::with_failed_creation(deployment, &message, now);
            let about = deployment.object_reference();
            self.recorder.record(&about, EventType::Warning, status::CREATE_FAILED, message);
            self.write_status(key, deployment, status, None).await?;
        }
        Err(error)
    }

    /// Status and revision annotation are one write: the annotation may pass through `status`.
    async fn write_status(
        &self,
        key: &Key,
        deployment: &Deployment,
        status: DeploymentStatus,
        revision: Option<&str>,
    ) -> Result<(), Error> {
        let mut next = Deployment { status: Some(status), ..deployment.clone() };
        if let Some(revision) = revision {
            let annotations = next.metadata.annotations.get_or_insert_default();
            annotations.insert(revision::REVISION.into(), revision.into());
        }
        if next == *deployment {
            return Ok(());
        }
        match write::update(&self.api, &next, "status").await {
            Ok(written) => self.statuses.note(key, written.revision()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[async_trait]
impl Controller for Deployments {
    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        let deployments = self.deployments.clone();
        let by_set = watch::indexed(&self.sets, move |change| {
            claim::owners(change, &deployments, |deployment: &Deployment| &deployment.spec.selector)
        });
        vec![watch::own(&self.deployments), by_set]
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let seen = self.statuses.are_within(key, self.deployments.resource_version())
            && self.scaled.are_within(key, self.sets.revision());
        if !seen {
            return Ok(Requeue::After(RECHECK));
        }
        let Some(deployment) = self.deployments.find(key) else { return Ok(Requeue::No) };
        let mut sets = self.sets.select(&Slot::Of(deployment.uid().to_owned()));
        sets.extend(self.sets.select(&Slot::Orphans(deployment.namespace().to_owned())));
        let now = self.clock.now();
        let plan = plan::plan(&deployment, &sets, now);
        tracing::debug!(why = %plan.why, actions = plan.actions.len(), "planned");
        match self.act(key, &deployment, &plan, now).await {
            Ok(()) => {}
            Err(error) if error.is_namespace_terminating() => return Ok(Requeue::No),
            Err(error) => return Err(error),
        }
        self.write_status(key, &deployment, plan.status, plan.revision.as_deref()).await?;
        Ok(plan.check_after.into())
    }
}

/// Only what this controller decides about a set, so that fields it doesn't know survive.
fn patch_of(set: &Set) -> serde_json::Value {
    let mut patch = write::guarded(&set.seen.metadata);
    patch["metadata"]["annotations"] = json!(set.annotations);
    // null removes the field.
    patch["spec"] = json!({"replicas": set.replicas, "minReadySeconds": set.min_ready_seconds});
    patch
}
