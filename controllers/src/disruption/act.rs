//! Finds out what a budget is about, and writes its status.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use http::Method;
use serde_json::Value;
use windlass_sdk_client::{Api, Change, Cluster, Informer, Key};
use windlass_sdk_meta::Clock;
use windlass_sdk_types::{
    Deployment, Kind, Pod, PodDisruptionBudget, ReplicaSet, Resource as _,
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};

use super::plan::{Observed, needs_scale, plan};
use crate::kit::{Controller, Error, Requeue, Watch, discovery::Discovery, object, watch, write};

/// Whose service account acts.
pub const NAME: &str = "disruption-controller";

/// Keeps the status of budgets.
pub struct Disruptions {
    api: Api,
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    sets: Informer<ReplicaSet>,
    deployments: Informer<Deployment>,
    discovery: Discovery,
    clock: Arc<dyn Clock>,
}

impl Disruptions {
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            api: cluster.api(NAME),
            budgets: cluster.informers.of(),
            pods: cluster.informers.of(),
            sets: cluster.informers.of(),
            deployments: cluster.informers.of(),
            discovery: Discovery::default(),
            clock: cluster.clock.clone(),
        }
    }

    /// How many pods the controllers of these want, all together; why that can't be told.
    async fn scale(&self, namespace: &str, pods: &[Arc<Pod>]) -> Result<i32, String> {
        let mut known: BTreeMap<String, i32> = BTreeMap::new();
        for pod in pods {
            let Some(owner) = object::controller_of(&pod.metadata) else { continue };
            if known.contains_key(&owner.uid) {
                continue;
            }
            let (uid, scale) = self
                .scale_of(namespace, owner)
                .await
                .ok_or_else(|| format!("found no controllers for pod {:?}", pod.name()))?;
            known.insert(uid, scale);
            // Pods of a set that a Deployment manages count with the Deployment.
            known.entry(owner.uid.clone()).or_insert(0);
        }
        Ok(known.values().sum())
    }

    async fn scale_of(&self, namespace: &str, owner: &OwnerReference) -> Option<(String, i32)> {
        if owner.kind == ReplicaSet::KIND {
            let set = self.sets.get(namespace, &owner.name).filter(|set| set.uid() == owner.uid)?;
            let replicas = set.spec.replicas.unwrap_or(1);
            let Some(above) = object::controller_of(&set.metadata) else {
                return Some((owner.uid.clone(), replicas));
            };
            let deployment = self.deployments.get(namespace, &above.name);
            let deployment = deployment.filter(|one| one.uid() == above.uid);
            if let Some(deployment) = deployment {
                let replicas = deployment.spec.replicas.unwrap_or(1);
                return Some((above.uid.clone(), replicas));
            }
            return Some((owner.uid.clone(), replicas));
        }
        let (group, version) =
            owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
        let found = self.discovery.resources(&self.api).await;
        let resource = found.resources.into_iter().find(|one| {
            one.kind == owner.kind
                && (one.gvr.group.as_str(), one.gvr.version.as_str()) == (group, version)
        })?;
        let path = format!("{}/scale", resource.path(namespace, &owner.name));
        let answer = self.api.request(Method::GET, &path, "", Vec::new()).await.ok()?;
        let scale: Value = serde_json::from_slice(&answer).ok()?;
        let same = scale["metadata"]["uid"].as_str().is_some_and(|uid| uid == owner.uid);
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        same.then(|| (owner.uid.clone(), i32::try_from(replicas).unwrap_or(i32::MAX)))
    }
}

#[async_trait]
impl Controller for Disruptions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn watches(&self) -> Vec<Watch> {
        let budgets = self.budgets.clone();
        let pods = watch::mapped(&self.pods, move |change: &Change<Pod>| {
            let both = || change.before.iter().chain(&change.now);
            let about = |budget: &&Arc<PodDisruptionBudget>| both().any(|pod| selects(budget, pod));
            let all = budgets.in_namespace(&change.key.namespace);
            all.iter().filter(about).map(|budget| Key::of(&**budget)).collect()
        });
        let budgets = self.budgets.clone();
        // Budgets with percentages look at how many there should be.
        let scaled = move |namespace: &str| -> Vec<Key> {
            let all = budgets.in_namespace(namespace);
            all.iter().filter(|one| needs_scale(one)).map(|one| Key::of(&**one)).collect()
        };
        let resized = |before: Option<i32>, now: Option<i32>| before != now;
        let deployments = watch::mapped(&self.deployments, move |change: &Change<Deployment>| {
            let of = |one: &Option<Arc<Deployment>>| one.as_ref()?.spec.replicas;
            match resized(of(&change.before), of(&change.now)) {
                true => scaled(&change.key.namespace),
                false => Vec::new(),
            }
        });
        let budgets = self.budgets.clone();
        let sets = watch::mapped(&self.sets, move |change: &Change<ReplicaSet>| {
            let of = |one: &Option<Arc<ReplicaSet>>| one.as_ref()?.spec.replicas;
            if !resized(of(&change.before), of(&change.now)) {
                return Vec::new();
            }
            let all = budgets.in_namespace(&change.key.namespace);
            all.iter().filter(|one| needs_scale(one)).map(|one| Key::of(&**one)).collect()
        });
        vec![watch::own(&self.budgets), pods, deployments, sets]
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(budget) = self.budgets.find(key) else { return Ok(Requeue::No) };
        let mut pods = self.pods.in_namespace(&key.namespace);
        pods.retain(|pod| selects(&budget, pod) && !object::is_terminal(pod));
        let scale = match needs_scale(&budget) {
            true => self.scale(&key.namespace, &pods).await,
            false => Ok(0),
        };
        let observed = Observed { budget: &budget, pods: &pods, scale };
        let plan = plan(&observed, self.clock.now());
        if budget.status.as_ref() != Some(&plan.status) {
            let mut budget = (*budget).clone();
            budget.status = Some(plan.status);
            match write::update(&self.api, &budget, "status").await {
                Err(error) if error.is_not_found() => {}
                answer => drop(answer?),
            }
        }
        Ok(plan.recheck.into())
    }
}

/// No selector is about nothing, an empty one about every pod.
fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| {
        object::selector(selector)
            .is_ok_and(|selector| selector.matches_map(pod.metadata.labels.as_ref()))
    })
}
