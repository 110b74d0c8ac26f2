//! Every namespace has a ServiceAccount `default`: pods that name none run as it, so without it no
//! pod is admitted.

use async_trait::async_trait;
use windlass_sdk_client::{Api, Change, Cluster, Informer, Key};
use windlass_sdk_types::{Namespace, ObjectMeta, ServiceAccount};

use crate::kit::{Controller, Error, Requeue, Watch, object::takes_objects, watch};

const DEFAULT: &str = "default";

/// Makes the default ServiceAccount of each namespace.
pub struct ServiceAccounts {
    api: Api,
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
}

impl ServiceAccounts {
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            api: cluster.api("service-account-controller"),
            namespaces: cluster.informers.of(),
            accounts: cluster.informers.of(),
        }
    }
}

#[async_trait]
impl Controller for ServiceAccounts {
    fn name(&self) -> &'static str {
        "service-account-controller"
    }

    fn watches(&self) -> Vec<Watch> {
        let removed = watch::mapped(&self.accounts, |change: &Change<ServiceAccount>| {
            let gone = change.now.is_none() && &*change.key.name == DEFAULT;
            Vec::from_iter(gone.then(|| Key::new("", &change.key.namespace)))
        });
        vec![watch::own(&self.namespaces), removed]
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let namespace = self.namespaces.find(key).filter(|namespace| takes_objects(namespace));
        if namespace.is_none() || self.accounts.get(&key.name, DEFAULT).is_some() {
            return Ok(Requeue::No);
        }
        let metadata = ObjectMeta {
            name: Some(DEFAULT.into()),
            namespace: Some(key.name.to_string()),
            ..ObjectMeta::default()
        };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        match self.api.create(&account).await {
            Err(error) if error.is_already_exists() || error.is_namespace_terminating() => {}
            answer => drop(answer?),
        }
        Ok(Requeue::No)
    }
}
