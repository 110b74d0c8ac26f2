//! Every namespace has a ConfigMap `kube-root-ca.crt` with the certificate of the cluster's
//! authority: with it pods trust the API server when they call the `kubernetes` Service. It is put
//! back when somebody deletes or changes it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use windlass_sdk_client::{Api, Change, Cluster, Informer, Key};
use windlass_sdk_types::{ConfigMap, Kind, Namespace, ObjectMeta};

use crate::kit::{Controller, Error, Requeue, Watch, object::takes_objects, watch, write};

/// Who publishes: the service account's name, which is upstream's.
pub const NAME: &str = "root-ca-cert-publisher";

const CONFIG_MAP: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIPTION_TEXT: &str = "Contains a CA bundle that can be used to verify the kube-apiserver \
    when using internal endpoints such as the internal service IP or kubernetes.default.svc. No \
    other usage is guaranteed across distributions of Kubernetes clusters.";

/// Keeps the authority's certificate in each namespace.
pub struct RootCa {
    api: Api,
    namespaces: Informer<Namespace>,
    maps: Informer<ConfigMap>,
    certificate_pem: String,
}

/// What to do about one namespace.
#[derive(Debug, PartialEq)]
enum Action {
    Nothing,
    Create(Box<ConfigMap>),
    Update(Box<ConfigMap>),
}

impl RootCa {
    pub fn new(cluster: &Cluster, certificate_pem: String) -> Self {
        Self {
            api: cluster.api(NAME),
            namespaces: cluster.informers.of(),
            maps: cluster.informers.of(),
            certificate_pem,
        }
    }
}

#[async_trait]
impl Controller for RootCa {
    fn name(&self) -> &'static str {
        NAME
    }

    fn watches(&self) -> Vec<Watch> {
        let changed = watch::mapped(&self.maps, |change: &Change<ConfigMap>| {
            let ours = &*change.key.name == CONFIG_MAP;
            Vec::from_iter(ours.then(|| Key::new("", &change.key.namespace)))
        });
        vec![watch::own(&self.namespaces), changed]
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let namespace = self.namespaces.find(key);
        let stored = self.maps.get(&key.name, CONFIG_MAP);
        match plan(namespace.as_deref(), stored.as_deref(), &self.certificate_pem) {
            Action::Nothing => {}
            Action::Create(map) => match self.api.create(&*map).await {
                Err(error) if error.is_already_exists() || error.is_namespace_terminating() => {}
                answer => drop(answer?),
            },
            Action::Update(map) => drop(write::update(&self.api, &*map, "").await?),
        }
        Ok(Requeue::No)
    }
}

/// A namespace that stays has the map; another's keys in it are taken away.
fn plan(namespace: Option<&Namespace>, stored: Option<&ConfigMap>, pem: &str) -> Action {
    let Some(namespace) = namespace.filter(|namespace| takes_objects(namespace)) else {
        return Action::Nothing;
    };
    let data = Some(BTreeMap::from([(KEY.to_owned(), pem.to_owned())]));
    let described = |metadata: &ObjectMeta| {
        let mut annotations = metadata.annotations.clone().unwrap_or_default();
        annotations.insert(DESCRIPTION.into(), DESCRIPTION_TEXT.into());
        Some(annotations)
    };
    match stored {
        None => {
            let mut metadata = ObjectMeta {
                name: Some(CONFIG_MAP.into()),
                namespace: Some(namespace.name().to_owned()),
                ..ObjectMeta::default()
            };
            metadata.annotations = described(&metadata);
            Action::Create(Box::new(ConfigMap { metadata, data, ..ConfigMap::default() }))
        }
        Some(stored)
            if stored.data == data
                && stored.metadata.annotations == described(&stored.metadata) =>
        {
            Action::Nothing
        }
        Some(stored) => {
            let mut map = stored.clone();
            map.metadata.annotations = described(&stored.metadata);
            map.data = data;
            Action::Update(Box::new(map))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{deleting, namespace};

    #[test]
    fn the_map_is_as_it_should_be() {
        let active = namespace(json!({}));
        let Action::Create(made) = plan(Some(&active), None, "PEM") else { panic!("made") };
        assert_eq!((made.namespace(), made.name()), ("ns", CONFIG_MAP));
        assert_eq!(plan(Some(&active), Some(&made), "PEM"), Action::Nothing);
        let mut changed = (*made).clone();
        changed.data = Some(BTreeMap::from([("other".into(), "x".into())]));
        changed.metadata.labels = Some(BTreeMap::from([("kept".into(), "yes".into())]));
        let Action::Update(mended) = plan(Some(&active), Some(&changed), "PEM") else {
            panic!("mended")
        };
        assert_eq!(mended.data, made.data);
        assert_eq!(mended.metadata.labels, changed.metadata.labels);
        assert_eq!(plan(Some(&active), Some(&mended), "PEM"), Action::Nothing);
        assert!(matches!(plan(Some(&active), Some(&made), "NEW"), Action::Update(_)));
    }

    #[test]
    fn a_namespace_that_goes_gets_none() {
        assert_eq!(plan(None, None, "PEM"), Action::Nothing);
        assert_eq!(plan(Some(&namespace(deleting())), None, "PEM"), Action::Nothing);
        let terminating = namespace(json!({"status": {"phase": "Terminating"}}));
        assert_eq!(plan(Some(&terminating), None, "PEM"), Action::Nothing);
    }
}
