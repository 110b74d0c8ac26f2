//! Kinds of which nothing is stored because they change all the time: what nodes measure, and how the
//! control plane's components are. An object is made when somebody asks: from an object that is stored
//! (its subject) and from what the subject's node tells, or from what the server knows.

use std::{collections::HashMap, fmt, sync::Arc};

use serde::Deserialize;
use serde_json::Value;
use windlass_sdk_meta::{GroupResource, Object};

/// Where the objects of a kind come from of which nothing is stored.
#[derive(Clone, Debug)]
pub enum Source {
    /// What nodes tell about stored objects.
    Nodes(Arc<dyn Computed>),
    /// How the control plane's components are: one object each. Makes it, without its metadata, of
    /// what is wrong with the component.
    Components(fn(Result<(), &str>) -> Value),
}

/// How objects of a kind are made from what nodes tell.
pub trait Computed: Send + Sync + fmt::Debug {
    /// The stored resource that is measured. Name, namespace and labels are the subject's.
    fn subject(&self) -> GroupResource;

    /// The field of a subject that names the node to ask.
    fn node_field(&self) -> &'static str;

    /// The object without its metadata; None where the node tells nothing about the subject.
    fn measure(&self, subject: &Object, told: &Summary) -> Option<Value>;
}

/// What of a kubelet's `/stats/summary` (`stats/v1alpha1.Summary`) is looked at.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "Document")]
pub struct Summary {
    pub node: Use,
    /// By uid: a node may have ten thousand.
    pub pods: HashMap<String, PodUse>,
}

/// The same as it is sent.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    node: Use,
    #[serde(default)]
    pods: Vec<PodUse>,
}

impl From<Document> for Summary {
    fn from(document: Document) -> Self {
        let pods = document.pods.into_iter().map(|pod| (pod.pod_ref.uid.clone(), pod));
        Self { node: document.node, pods: pods.collect() }
    }
}

/// CPU and memory of something, as far as they are known.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Use {
    #[serde(default)]
    pub name: String,
    pub cpu: Option<CpuUse>,
    pub memory: Option<MemoryUse>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CpuUse {
    /// RFC 3339.
    #[serde(default)]
    pub time: String,
    pub usage_nano_cores: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemoryUse {
    pub working_set_bytes: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodUse {
    pub pod_ref: PodReference,
    #[serde(default)]
    pub containers: Vec<Use>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct PodReference {
    pub uid: String,
}
