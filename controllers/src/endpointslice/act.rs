//! Carries out what the plan of a Service's EndpointSlices says.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use windlass_sdk_client::{Api, Change, Cluster, Delete, Informer, Key};
use windlass_sdk_meta::Selector;
use windlass_sdk_types::{EndpointSlice, Kind, Node, Pod, Service};

use super::plan::{self, Action, CONTROLLER, MANAGED_BY, Observed, SERVICE_NAME};
use crate::kit::{Controller, Error, Index, RECHECK, Requeue, Watch, Writes, watch, write};

const ZONE: &str = "topology.kubernetes.io/zone";

/// A namespace and one of the labels of a pod in it.
type Label = (String, String, String);

/// Keeps the endpoints of each Service where proxies find them.
pub struct EndpointSlices {
    api: Api,
    services: Informer<Service>,
    nodes: Informer<Node>,
    pods: Arc<Index<Pod, Label>>,
    /// By the Service that they are for.
    slices: Arc<Index<EndpointSlice, Key>>,
    written: Writes,
}

impl EndpointSlices {
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            api: cluster.api("endpointslice-controller"),
            services: cluster.informers.of(),
            nodes: cluster.informers.of(),
            pods: Index::new(cluster.informers.of(), labels_of),
            slices: Index::new(cluster.informers.of(), |slice| Vec::from_iter(service_of(slice))),
            written: Writes::default(),
        }
    }

    /// The pods that the selector matches, found through the rarest of its labels.
    fn selected(&self, service: &Service) -> Vec<Arc<Pod>> {
        let pairs =
            service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        let slots = pairs.iter().map(|(key, value)| label(service, key, value));
        let Some(rarest) = slots.min_by_key(|slot| self.pods.count(slot)) else {
            return Vec::new();
        };
        let selector = Selector::from_pairs(pairs.iter().map(|(key, value)| (&**key, &**value)));
        let mut pods = self.pods.select(&rarest);
        pods.retain(|pod| selector.matches_map(pod.metadata.labels.as_ref()));
        pods
    }

    fn zones(&self) -> BTreeMap<String, String> {
        let nodes = self.nodes.list();
        let zoned = nodes.iter().filter_map(|node| Some((node.name(), node.label(ZONE)?)));
        zoned.map(|(node, zone)| (node.to_owned(), zone.to_owned())).collect()
    }

    async fn act(&self, key: &Key, action: &Action) -> Result<(), Error> {
        let written = match action {
            Action::Create(slice) => {
                let body = slice.encode()?;
                let sent = write::create::<EndpointSlice>(&self.api, slice.namespace(), body).await;
                match sent {
                    Err(error) if error.is_namespace_terminating() => return Ok(()),
                    sent => sent?,
                }
            }
            Action::Update(slice) => write::update(&self.api, &**slice, "").await?,
            Action::Delete(slice) => {
                let how = Delete::only(slice.uid());
                let (namespace, name) = (slice.namespace(), slice.name());
                return match self.api.delete::<EndpointSlice>(namespace, name, &how).await {
                    Err(error) if !error.is_not_found() => Err(error.into()),
                    _ => Ok(()),
                };
            }
        };
        self.written.note(key, written.revision());
        Ok(())
    }
}

#[async_trait]
impl Controller for EndpointSlices {
    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        let services = self.services.clone();
        let by_pod = watch::indexed(&self.pods, move |change: &Change<Pod>| {
            let same = change.before.as_ref().zip(change.now.as_ref());
            if same.is_some_and(|(before, now)| plan::same_endpoint(before, now)) {
                return Vec::new();
            }
            let objects = change.before.iter().chain(&change.now);
            let mut keys: Vec<Key> = objects.flat_map(|pod| selecting(&services, pod)).collect();
            keys.sort();
            keys.dedup();
            keys
        });
        let by_slice = watch::indexed(&self.slices, |change: &Change<EndpointSlice>| {
            change.before.iter().chain(&change.now).filter_map(|slice| service_of(slice)).collect()
        });
        vec![watch::own(&self.services), by_pod, by_slice]
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        if !self.written.are_within(key, self.slices.revision()) {
            return Ok(Requeue::After(RECHECK));
        }
        // Slices of a Service that is gone are garbage: they name it as their owner.
        let Some(service) = self.services.find(key) else { return Ok(Requeue::No) };
        if !plan::is_managed(&service) {
            return Ok(Requeue::No);
        }
        let (pods, slices) = (self.selected(&service), self.slices.select(key));
        let zones = self.zones();
        let observed = Observed { service: &service, pods: &pods, slices: &slices, zones: &zones };
        let plan = plan::plan(&observed);
        tracing::debug!(why = %plan.why, actions = plan.actions.len(), "planned");
        for action in &plan.actions {
            self.act(key, action).await?;
        }
        Ok(Requeue::No)
    }
}

fn labels_of(pod: &Pod) -> Vec<Label> {
    let labels = pod.metadata.labels.iter().flatten();
    labels.map(|(key, value)| (pod.namespace().to_owned(), key.clone(), value.clone())).collect()
}

fn label(service: &Service, key: &str, value: &str) -> Label {
    (service.namespace().to_owned(), key.to_owned(), value.to_owned())
}

/// The Service whose endpoints the slice holds, where this controller keeps it.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let own = slice.label(MANAGED_BY) == Some(CONTROLLER);
    own.then(|| slice.label(SERVICE_NAME)).flatten().map(|name| Key::new(slice.namespace(), name))
}

fn selecting(services: &Informer<Service>, pod: &Arc<Pod>) -> Vec<Key> {
    let labels = pod.metadata.labels.as_ref();
    let matches = |service: &&Arc<Service>| {
        let pairs = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        pairs.is_some_and(|pairs| {
            let has = |key, value| labels.and_then(|labels| labels.get(key)) == Some(value);
            !pairs.is_empty() && pairs.iter().all(|(key, value)| has(key, value))
        })
    };
    let services = services.in_namespace(pod.namespace());
    services.iter().filter(matches).map(|service| Key::of(&**service)).collect()
}
