//! Stored objects for tests, without a server.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::Value;
use windlass_sdk_meta::{Encoded, GroupResource, Object};

use crate::Lookup;

/// A cluster's objects; every change is one revision.
#[derive(Default)]
pub(crate) struct Stored(Mutex<Content>);

#[derive(Default)]
struct Content {
    revision: u64,
    objects: BTreeMap<(GroupResource, String, String), Arc<Object>>,
    changed: BTreeMap<GroupResource, u64>,
}

impl Stored {
    pub fn new(objects: impl IntoIterator<Item = Value>) -> Self {
        let stored = Self::default();
        objects.into_iter().for_each(|object| stored.put(object));
        stored
    }

    pub fn put(&self, tree: Value) {
        let mut content = self.0.lock().expect("not poisoned");
        content.revision += 1;
        let resource = resource_of(&tree);
        let text = |key: &str| tree["metadata"][key].as_str().unwrap_or_default().to_owned();
        let fields = ["spec.nodeName", "spec.serviceAccountName"].map(Cow::Borrowed);
        let object = Object::new(Encoded::from_tree(&tree), &tree, content.revision, &fields);
        let revision = content.revision;
        content.changed.insert(resource.clone(), revision);
        content.objects.insert((resource, text("namespace"), text("name")), Arc::new(object));
    }

    pub fn remove(&self, resource: &GroupResource, namespace: &str, name: &str) {
        let mut content = self.0.lock().expect("not poisoned");
        content.revision += 1;
        let revision = content.revision;
        content.changed.insert(resource.clone(), revision);
        content.objects.remove(&(resource.clone(), namespace.into(), name.into()));
    }
}

impl Lookup for Stored {
    fn get(&self, resource: &GroupResource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let content = self.0.lock().expect("not poisoned");
        content.objects.get(&(resource.clone(), namespace.into(), name.into())).cloned()
    }

    fn list(&self, resource: &GroupResource, namespace: &str) -> Vec<Arc<Object>> {
        let content = self.0.lock().expect("not poisoned");
        let meant = content.objects.iter().filter(|((of, within, _), _)| {
            of == resource && (namespace.is_empty() || within == namespace)
        });
        meant.map(|(_, object)| object.clone()).collect()
    }

    fn revision(&self, resource: &GroupResource) -> u64 {
        self.0.lock().expect("not poisoned").changed.get(resource).copied().unwrap_or(0)
    }

    fn pods_on_node(&self, node: &str) -> Vec<Arc<Object>> {
        let pods = self.list(&GroupResource::new("", "pods"), "");
        pods.into_iter().filter(|pod| pod.field("spec.nodeName") == Some(node)).collect()
    }
}

pub(crate) fn resource_of(tree: &Value) -> GroupResource {
    let api_version = tree["apiVersion"].as_str().expect("apiVersion");
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let kind = tree["kind"].as_str().expect("kind").to_lowercase();
    let ending = if kind.ends_with('s') { "es" } else { "s" };
    GroupResource::new(group, &format!("{kind}{ending}"))
}
