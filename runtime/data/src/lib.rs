//! Where what guests keep is kept: entries of key-value stores as objects of the cluster, as files of
//! the node, or in a Redis that the pod names; SQL databases as files of the node. Knows no guest and
//! no engine: a runtime asks through the traits of `windlass_runtime_api`.
//!
//! Entries in the cluster are read and written with the node's own identity. The Node authoriser lets
//! a node touch the entries of a namespace while a pod of that namespace is bound to it; that is as
//! much as the node could do through the pods' own service accounts, and needs no token a pod.

mod cluster;
mod node;
mod redis;
mod sqlite;

use std::{path::PathBuf, sync::Arc};

use windlass_runtime_api::{KeyValueError, KeyValueStore, KeyValues, Reach, Sandbox};
use windlass_runtime_net::{Caller, PodNet, PodRef};
use windlass_sdk_client::Api;
use windlass_sdk_meta::keyvalue::is_store_name;

pub use sqlite::SqliteFiles;

/// Which kind of store a pod has: `cluster`, `node` or `redis://HOST:PORT`.
pub const BACKEND: &str = "windlass.dev/keyvalue";

/// The stores of one node.
pub struct Stores {
    /// None: there is no cluster.
    cluster: Option<cluster::Entries>,
    node: node::Files,
    redis: redis::Servers,
}

impl Stores {
    /// `api` acts as the node; files go below `folder`, which only this node writes to; connections
    /// to a Redis are made through `net`. Where there is no cluster, its entries are files too.
    pub fn new(api: Option<Api>, folder: PathBuf, net: PodNet) -> Self {
        Self {
            cluster: api.map(cluster::Entries::new),
            node: node::Files::new(folder),
            redis: redis::Servers::new(net),
        }
    }
}

/// What a pod's annotation asks for.
enum Backend {
    Cluster,
    Node,
    Redis(redis::Server),
}

fn backend(pod: &Sandbox) -> Result<Backend, String> {
    let chosen = pod.annotations.get(BACKEND).map_or("cluster", String::as_str);
    match chosen {
        "cluster" => Ok(Backend::Cluster),
        "node" => Ok(Backend::Node),
        url => redis::Server::parse(url).map(Backend::Redis).map_err(|why| {
            format!(
                "annotation {BACKEND} {url:?}: {why}; supported are \"cluster\", \"node\" and \
                 \"redis://HOST:PORT\""
            )
        }),
    }
}

impl KeyValues for Stores {
    fn check(&self, pod: &Sandbox) -> Result<(), String> {
        backend(pod).map(drop)
    }

    fn open(
        &self,
        pod: &Sandbox,
        reach: &Reach,
        store: &str,
    ) -> Result<Arc<dyn KeyValueStore>, KeyValueError> {
        if !is_store_name(store) {
            return Err(KeyValueError::NoSuchStore);
        }
        Ok(match (backend(pod).map_err(KeyValueError::Other)?, &self.cluster) {
            (Backend::Cluster, Some(cluster)) => cluster.open(&pod.namespace, store),
            (Backend::Cluster | Backend::Node, _) => self.node.open(&pod.namespace, store),
            (Backend::Redis(server), _) => {
                let pod = PodRef {
                    uid: pod.uid.clone(),
                    namespace: pod.namespace.clone(),
                    name: pod.name.clone(),
                    address: Some(pod.address),
                    names: pod.names.clone(),
                };
                self.redis.open(Caller::new(pod, reach.clone()), server, store)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_says_where_its_entries_are() {
        for (value, expected) in [
            (None, ""),
            (Some("cluster"), ""),
            (Some("node"), ""),
            (Some("redis://cache:6379/2"), ""),
            (Some("redis://:secret@cache"), ""),
            (Some("disk"), "\"disk\": it is no redis:// URL"),
            (Some("rediss://cache"), "it is no redis:// URL"),
            (Some("redis://cache:port"), "\"port\" is no port"),
            (Some("redis://cache/x"), "\"x\" is no database's number"),
            (Some("redis://"), "it names no host"),
        ] {
            let annotations = value.map(|value| (BACKEND.to_owned(), value.to_owned()));
            let pod = Sandbox {
                uid: "u".into(),
                name: "p".into(),
                namespace: "default".into(),
                address: [127, 64, 0, 1].into(),
                hostname: "p".into(),
                names: Default::default(),
                annotations: annotations.into_iter().collect(),
                linux: Default::default(),
            };
            let said = backend(&pod).map(drop).err().unwrap_or_default();
            let right = if expected.is_empty() { said.is_empty() } else { said.contains(expected) };
            assert!(right, "{value:?}: {said}");
        }
    }
}
