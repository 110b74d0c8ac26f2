//! What is in use stays: claims while pods mount them, volumes while they are bound, classes of
//! attributes while something has them. Admission gives each a finalizer; here it is taken away once
//! the object is deleted and nobody uses it.

use std::sync::Arc;

use async_trait::async_trait;
use windlass_sdk_client::{Api, Change, Cluster, Informer, Key, Select};
use windlass_sdk_types::{
    Kind, PersistentVolume, PersistentVolumeClaim, Pod, VolumeAttributesClass,
};

use crate::kit::{Controller, Error, Requeue, Watch, object, watch, write};

const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
const OF_VOLUMES: &str = "kubernetes.io/pv-protection";
const OF_CLASSES: &str = "kubernetes.io/vac-protection";

/// Claims, and the pods that mount them.
pub struct Claims {
    api: Api,
    claims: Informer<PersistentVolumeClaim>,
    pods: Informer<Pod>,
}

/// Volumes; a bound one has a claim.
pub struct Volumes {
    api: Api,
    volumes: Informer<PersistentVolume>,
}

/// Classes of attributes, and the claims and volumes that have them.
pub struct AttributesClasses {
    api: Api,
    classes: Informer<VolumeAttributesClass>,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
}

impl Claims {
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            api: cluster.api("pvc-protection-controller"),
            claims: cluster.informers.of(),
            pods: cluster.informers.of(),
        }
    }
}

impl Volumes {
    pub fn new(cluster: &Cluster) -> Self {
        let api = cluster.api("pv-protection-controller");
        Self { api, volumes: cluster.informers.of() }
    }
}

impl AttributesClasses {
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            api: cluster.api("volumeattributesclass-protection-controller"),
            classes: cluster.informers.of(),
            claims: cluster.informers.of(),
            volumes: cluster.informers.of(),
        }
    }
}

#[async_trait]
impl Controller for Claims {
    fn name(&self) -> &'static str {
        "pvc-protection-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        let pods = watch::mapped(&self.pods, |change: &Change<Pod>| {
            let over = change.now.as_ref().is_none_or(|pod| object::is_terminal(pod));
            let before = change.before.iter().filter(|_| over);
            let names = before.flat_map(|pod| claim_names(pod));
            names.map(|name| Key::new(&change.key.namespace, &name)).collect()
        });
        vec![watch::own(&self.claims), pods]
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(claim) = held(self.claims.find(key), OF_CLAIMS) else { return Ok(Requeue::No) };
        let uses =
            |pod: &Pod| !object::is_terminal(pod) && claim_names(pod).any(|name| name == *key.name);
        if self.pods.in_namespace(&key.namespace).iter().any(|pod| uses(pod)) {
            return Ok(Requeue::No);
        }
        // A pod that was made a moment ago may not be known here yet.
        let pods: Vec<Pod> = self.api.list(&key.namespace, &Select::default()).await?;
        if pods.iter().any(uses) {
            return Ok(Requeue::No);
        }
        release(&self.api, &*claim, OF_CLAIMS).await
    }
}

#[async_trait]
impl Controller for Volumes {
    fn name(&self) -> &'static str {
        "pv-protection-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        vec![watch::own(&self.volumes)]
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(volume) = held(self.volumes.find(key), OF_VOLUMES) else { return Ok(Requeue::No) };
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        match phase {
            Some("Bound") => Ok(Requeue::No),
            _ => release(&self.api, &*volume, OF_VOLUMES).await,
        }
    }
}

#[async_trait]
impl Controller for AttributesClasses {
    fn name(&self) -> &'static str {
        "volumeattributesclass-protection-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        let claims = watch::mapped(&self.claims, |change: &Change<PersistentVolumeClaim>| {
            let classes = change.before.iter().flat_map(|claim| classes_of(claim));
            classes.map(|name| Key::new("", &name)).collect()
        });
        let volumes = watch::mapped(&self.volumes, |change: &Change<PersistentVolume>| {
            let classes = change.before.iter().filter_map(|volume| class_of(volume));
            classes.map(|name| Key::new("", name)).collect()
        });
        vec![watch::own(&self.classes), claims, volumes]
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(class) = held(self.classes.find(key), OF_CLASSES) else { return Ok(Requeue::No) };
        let claimed =
            self.claims.list().iter().any(|claim| classes_of(claim).any(|name| name == *key.name));
        let has = |volume: &Arc<PersistentVolume>| class_of(volume) == Some(&*key.name);
        if claimed || self.volumes.list().iter().any(has) {
            return Ok(Requeue::No);
        }
        release(&self.api, &*class, OF_CLASSES).await
    }
}

/// The object, if it is deleted and only waits for the finalizer.
fn held<K: Kind>(object: Option<Arc<K>>, finalizer: &str) -> Option<Arc<K>> {
    let has = |object: &Arc<K>| {
        let all = object.metadata().finalizers.as_deref().unwrap_or_default();
        all.iter().any(|one| one == finalizer)
    };
    object.filter(|object| object.is_deleting() && has(object))
}

async fn release<K: Kind + Clone>(
    api: &Api,
    object: &K,
    finalizer: &str,
) -> Result<Requeue, Error> {
    let mut object = object.clone();
    if let Some(finalizers) = &mut object.metadata_mut().finalizers {
        finalizers.retain(|one| one != finalizer);
    }
    match write::update(api, &object, "").await {
        Err(error) if error.is_not_found() => Ok(Requeue::No),
        answer => answer.map(|_| Requeue::No),
    }
}

/// Claims that a pod mounts, also those that are made for it.
fn claim_names(pod: &Pod) -> impl Iterator<Item = String> + '_ {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
    volumes.iter().filter_map(|volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{}-{}", pod.name(), volume.name)),
        _ => None,
    })
}

fn classes_of(claim: &PersistentVolumeClaim) -> impl Iterator<Item = String> + '_ {
    let wanted = claim.spec.iter().filter_map(|spec| spec.volume_attributes_class_name.clone());
    let status = claim.status.iter();
    let now = status.clone().filter_map(|one| one.current_volume_attributes_class_name.clone());
    let next = status.filter_map(|one| {
        one.modify_volume_status.as_ref()?.target_volume_attributes_class_name.clone()
    });
    wanted.chain(now).chain(next)
}

fn class_of(volume: &PersistentVolume) -> Option<&str> {
    volume.spec.as_ref()?.volume_attributes_class_name.as_deref()
}
