//! Carries out what the plan of a ReplicaSet says: creates and deletes pods in batches, and writes
//! the status when it differs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use futures::future::join_all;
use parking_lot::Mutex;
use windlass_sdk_client::{Api, Change, Cluster, Delete, EventType, Informer, Key, Recorder};
use windlass_sdk_meta::Clock;
use windlass_sdk_types::{Kind, ObjectMeta, Pod, ReplicaSet};

use super::plan::{self, Action, Failure, Observed, Plan};
use crate::kit::{
    Controller, Error, Index, RECHECK, Requeue, Watch, Writes,
    claim::{self, Slot},
    object, watch, write,
};

/// A batch that succeeded lets the next be twice as large, so that a create that is refused is
/// refused once and not five hundred times.
const FIRST_BATCH: usize = 1;

/// Keeps as many pods as each ReplicaSet wants.
pub struct ReplicaSets {
    api: Api,
    recorder: Recorder,
    clock: Arc<dyn Clock>,
    sets: Informer<ReplicaSet>,
    pods: Arc<Index<Pod, Slot>>,
    /// Revisions of statuses written, and of pods created, by set.
    statuses: Writes,
    created: Writes,
    /// Uids of pods deleted and not yet seen to go, by set. Deletion has no way back, so this
    /// can't be wrong, only superfluous: it is pruned by every pass.
    deleted: Mutex<BTreeMap<Key, BTreeSet<String>>>,
}

impl ReplicaSets {
    pub fn new(cluster: &Cluster) -> Self {
        let component = "replicaset-controller";
        Self {
            api: cluster.api(component),
            recorder: cluster.recorder(component),
            clock: cluster.clock.clone(),
            sets: cluster.informers.of(),
            pods: Index::new(cluster.informers.of(), claim::slots),
            statuses: Writes::default(),
            created: Writes::default(),
            deleted: Mutex::default(),
        }
    }

    fn observed_pods(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let mut pods = self.pods.select(&Slot::Of(set.uid().to_owned()));
        pods.extend(self.pods.select(&Slot::Orphans(set.namespace().to_owned())));
        pods
    }

    /// Forgets deletions that show by now.
    fn still_unseen(&self, key: &Key, pods: &[Arc<Pod>]) -> BTreeSet<String> {
        let mut all = self.deleted.lock();
        let Some(deleted) = all.get_mut(key) else { return BTreeSet::new() };
        let active: BTreeSet<&str> =
            pods.iter().filter(|pod| object::is_active(pod)).map(|pod| pod.uid()).collect();
        deleted.retain(|uid| active.contains(uid.as_str()));
        let left = deleted.clone();
        if left.is_empty() {
            all.remove(key);
        }
        left
    }

    /// Active pods by node, of this set and its siblings (the other revisions of a Deployment):
    /// only needed to rank pods for deletion.
    fn neighbours(&self, set: &ReplicaSet, pods: &[Arc<Pod>]) -> BTreeMap<String, usize> {
        let mut by_node = BTreeMap::new();
        if pods.len() <= plan::desired(set) {
            return by_node;
        }
        let owner = object::controller_of(&set.metadata).map(|owner| &owner.uid);
        let siblings = self.sets.in_namespace(set.namespace());
        let related = siblings.iter().filter(|other| {
            let theirs = object::controller_of(&other.metadata).map(|owner| &owner.uid);
            other.uid() == set.uid() || (owner.is_some() && owner == theirs)
        });
        for pod in related.flat_map(|other| self.pods.select(&Slot::Of(other.uid().to_owned()))) {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            if let Some(node) = node.filter(|_| object::is_active(&pod)) {
                *by_node.entry(node).or_default() += 1;
            }
        }
        by_node
    }

    async fn act(&self, key: &Key, set: &ReplicaSet, plan: &Plan) -> Result<(), Stopped> {
        let mut doomed = Vec::new();
        for action in &plan.actions {
            match action {
                Action::Adopt(pod) => self.adopt(key, set, pod).await?,
                Action::Release(pod) => {
                    let patch = write::release(&**pod, set.uid());
                    self.note_created(key, write::patch(&self.api, &**pod, &patch).await)?;
                }
                Action::Create { count } => self.create(key, set, *count).await?,
                Action::Delete(pod) => doomed.push(pod.clone()),
            }
        }
        self.delete(key, set, &doomed).await
    }

    /// The set must still be there, and itself: it may be gone while the cache shows it.
    async fn adopt(&self, key: &Key, set: &ReplicaSet, pod: &Arc<Pod>) -> Result<(), Stopped> {
        let live: ReplicaSet =
            self.api.get(set.namespace(), set.name()).await.map_err(Error::from)?;
        if live.uid() != set.uid() || live.is_deleting() {
            return Err(Error::Unfinished(format!("{key} is gone or going")).into());
        }
        let patch = write::adoption(&**pod, set);
        self.note_created(key, write::patch(&self.api, &**pod, &patch).await)
    }

    fn note_created(&self, key: &Key, sent: Result<write::Written, Error>) -> Result<(), Stopped> {
        match sent {
            Ok(written) => self.created.note(key, written.revision()),
            // Gone: nothing to adopt or release any more.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn create(&self, key: &Key, set: &ReplicaSet, count: usize) -> Result<(), Stopped> {
        let body = new_pod(set).encode().map_err(Error::from)?;
        let about = set.object_reference();
        let (mut left, mut batch) = (count, FIRST_BATCH);
        while left > 0 {
            let size = batch.min(left);
            let create = || write::create::<Pod>(&self.api, set.namespace(), body.clone());
            let answers = join_all((0..size).map(|_| create())).await;
            let mut failed = None;
            for answer in answers {
                match answer {
                    Ok(pod) => {
                        self.created.note(key, pod.revision());
                        let message = format!("Created pod: {}", pod.metadata.name);
                        self.recorder.record(
                            &about,
                            EventType::Normal,
                            "SuccessfulCreate",
                            message,
                        );
                    }
                    Err(error) if error.is_namespace_terminating() => return Ok(()),
                    Err(error) => {
                        let message = format!("Error creating: {error}");
                        self.recorder.record(&about, EventType::Warning, "FailedCreate", message);
                        failed = failed.or(Some(error));
                    }
                }
            }
            if let Some(error) = failed {
                return Err(Stopped { reason: Some("FailedCreate"), error });
            }
            left -= size;
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(&self, key: &Key, set: &ReplicaSet, pods: &[Arc<Pod>]) -> Result<(), Stopped> {
        let about = set.object_reference();
        let delete = |pod: &Arc<Pod>| {
            let (pod, how) = (pod.clone(), Delete::only(pod.uid()));
            async move { self.api.delete::<Pod>(pod.namespace(), pod.name(), &how).await }
        };
        let answers = join_all(pods.iter().map(delete)).await;
        let mut failed = None;
        for (pod, answer) in pods.iter().zip(answers) {
            match answer {
                Ok(()) => {
                    let message = format!("Deleted pod: {}", pod.name());
                    self.recorder.record(&about, EventType::Normal, "SuccessfulDelete", message);
                }
                // Gone already, or another pod has its name by now.
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => {
                    let message = format!("Error deleting: {error}");
                    self.recorder.record(&about, EventType::Warning, "FailedDelete", message);
                    failed = failed.or(Some(error));
                    continue;
                }
            }
            let mut deleted = self.deleted.lock();
            deleted.entry(key.clone()).or_default().insert(pod.uid().to_owned());
        }
        match failed {
            None => Ok(()),
            Some(error) => Err(Stopped { reason: Some("FailedDelete"), error: error.into() }),
        }
    }

    async fn write_status(
        &self,
        key: &Key,
        set: &ReplicaSet,
        plan: &Plan,
        failure: Option<&Failure>,
    ) -> Result<(), Error> {
        let status = plan::status(set, plan, failure, self.clock.now());
        if set.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let next = ReplicaSet { status: Some(status), ..set.clone() };
        match write::update(&self.api, &next, "status").await {
            Ok(written) => self.statuses.note(key, written.revision()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Why a pass ended early, and what the status is to call it.
struct Stopped {
    reason: Option<&'static str>,
    error: Error,
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Self { reason: None, error }
    }
}

#[async_trait]
impl Controller for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        let sets = self.sets.clone();
        let by_pod = watch::indexed(&self.pods, move |change: &Change<Pod>| {
            let same = change.before.as_ref().zip(change.now.as_ref());
            if same.is_some_and(|(before, now)| is_same_replica(before, now)) {
                return Vec::new();
            }
            claim::owners(change, &sets, |set: &ReplicaSet| &set.spec.selector)
        });
        vec![watch::own(&self.sets), by_pod]
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        if !self.statuses.are_within(key, self.sets.resource_version()) {
            return Ok(Requeue::After(RECHECK));
        }
        let Some(set) = self.sets.find(key) else {
            self.deleted.lock().remove(key);
            self.created.forget(key);
            return Ok(Requeue::No);
        };
        let is_current = self.created.are_within(key, self.pods.revision());
        let pods = self.observed_pods(&set);
        let deleted = self.still_unseen(key, &pods);
        let neighbours = self.neighbours(&set, &pods);
        let observed = Observed {
            set: &set,
            pods: &pods,
            deleted: &deleted,
            neighbours: &neighbours,
            is_current,
        };
        let now = self.clock.now();
        let plan = plan::plan(&observed, now);
        tracing::debug!(why = %plan.why, actions = plan.actions.len(), "planned");
        let acted = self.act(key, &set, &plan).await;
        let failure = acted.as_ref().err().and_then(|stopped| {
            Some(Failure { reason: stopped.reason?, message: stopped.error.to_string() })
        });
        self.write_status(key, &set, &plan, failure.as_ref()).await?;
        acted.map_err(|stopped| stopped.error)?;
        if !is_current {
            return Ok(Requeue::After(RECHECK));
        }
        Ok(plan::next_check(&set, &plan.claimed, now).into())
    }
}

/// The pod that the template describes. The server completes its name.
fn new_pod(set: &ReplicaSet) -> Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    let own = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name())),
            labels: own.labels,
            annotations: own.annotations,
            finalizers: own.finalizers,
            owner_references: Some(vec![set.as_controller()]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// Whether a change of a pod changes nothing that a ReplicaSet counts or ranks by.
fn is_same_replica(before: &Pod, now: &Pod) -> bool {
    let of = |pod: &Pod| {
        (
            object::is_ready(pod),
            object::is_terminal(pod),
            pod.is_deleting(),
            object::ready_since(pod),
        )
    };
    before.uid() == now.uid()
        && of(before) == of(now)
        && before.metadata.labels == now.metadata.labels
        && before.metadata.owner_references == now.metadata.owner_references
}
