//! What generic code may ask of a typed kind: its names, its metadata, and its JSON.

use std::fmt::Debug;

use k8s_openapi::{
    Metadata,
    api::{apps, coordination, core, discovery, node, policy, rbac, storage},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time},
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// A kind that is served, as a type.
pub trait Kind:
    Metadata<Ty = ObjectMeta> + Clone + Debug + Default + PartialEq + Send + Sync + 'static
{
    /// The plural name in paths.
    const PLURAL: &'static str;
    const NAMESPACED: bool;

    /// Reads the JSON of one object.
    fn decode(json: &[u8]) -> Result<Self, DecodeError>;

    /// The JSON of the object, `apiVersion` and `kind` included.
    fn encode(&self) -> Result<Vec<u8>, DecodeError>;

    /// `metadata.name`; empty where there is none yet.
    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// `metadata.namespace`; empty for cluster-scoped kinds.
    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    fn uid(&self) -> &str {
        self.metadata().uid.as_deref().unwrap_or_default()
    }

    fn resource_version(&self) -> &str {
        self.metadata().resource_version.as_deref().unwrap_or_default()
    }

    fn is_deleting(&self) -> bool {
        self.metadata().deletion_timestamp.is_some()
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.metadata().labels.as_ref()?.get(key).map(String::as_str)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// The owner that manages this object, where it has one.
    fn controller(&self) -> Option<&OwnerReference> {
        let owners = self.metadata().owner_references.as_deref().unwrap_or_default();
        owners.iter().find(|owner| owner.controller == Some(true))
    }

    /// An owner reference that makes `self` the managing owner of what carries it.
    fn as_controller(&self) -> OwnerReference {
        OwnerReference {
            api_version: Self::API_VERSION.into(),
            kind: Self::KIND.into(),
            name: self.name().into(),
            uid: self.uid().into(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    /// What Events and messages call this object.
    fn object_reference(&self) -> core::v1::ObjectReference {
        let own = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        core::v1::ObjectReference {
            api_version: Some(Self::API_VERSION.into()),
            kind: Some(Self::KIND.into()),
            name: own(self.name()),
            namespace: own(self.namespace()),
            uid: own(self.uid()),
            resource_version: own(self.resource_version()),
            field_path: None,
        }
    }

    fn created(&self) -> Option<&Time> {
        self.metadata().creation_timestamp.as_ref()
    }
}

/// JSON that isn't the kind it should be.
#[derive(Debug)]
pub struct DecodeError(serde_json::Error);

impl DecodeError {
    pub(crate) fn or<T>(result: serde_json::Result<T>) -> Result<T, Self> {
        result.map_err(Self)
    }
}

/// One line of a watch.
#[derive(Debug)]
pub enum WatchEvent<K> {
    /// Added or modified: for a level-triggered reader both mean "this is how it is now".
    Applied(K),
    Deleted(K),
    Bookmark {
        resource_version: String,
        /// The objects that existed at the start of a streaming list (KEP-3157) are all sent.
        initial_events_end: bool,
    },
    /// A `Status` as JSON; the watch ends after it.
    Failed(String),
}

impl std::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not the expected kind: {}", self.0)
    }
}

impl std::error::Error for DecodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// Reads one line of a watch stream.
pub fn decode_watch_event<K: Kind>(line: &[u8]) -> Result<WatchEvent<K>, DecodeError> {
    let (sort, object) = split_watch_event(line)?;
    Ok(match sort {
        "ADDED" | "MODIFIED" => WatchEvent::Applied(K::decode(object.as_bytes())?),
        "DELETED" => WatchEvent::Deleted(K::decode(object.as_bytes())?),
        "BOOKMARK" => bookmark(object)?,
        _ => WatchEvent::Failed(object.to_owned()),
    })
}

/// Reads a list: its objects, its resource version, and the token that continues it (or "").
pub fn decode_list<K: Kind>(json: &[u8]) -> Result<(Vec<K>, String, String), DecodeError> {
    let (items, resource_version, token) = split_list(json)?;
    let items =
        items.into_iter().map(|item| K::decode(item.as_bytes())).collect::<Result<_, _>>()?;
    Ok((items, resource_version, token))
}

fn split_watch_event(line: &[u8]) -> Result<(&str, &str), DecodeError> {
    #[derive(Deserialize)]
    struct Line<'a> {
        #[serde(rename = "type")]
        sort: &'a str,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    let line: Line<'_> = serde_json::from_slice(line).map_err(DecodeError)?;
    Ok((line.sort, line.object.get()))
}

fn bookmark<K>(object: &str) -> Result<WatchEvent<K>, DecodeError> {
    let object: serde_json::Value = serde_json::from_str(object).map_err(DecodeError)?;
    let metadata = &object["metadata"];
    Ok(WatchEvent::Bookmark {
        resource_version: metadata["resourceVersion"].as_str().unwrap_or_default().to_owned(),
        initial_events_end: metadata["annotations"]["k8s.io/initial-events-end"] == "true",
    })
}

fn split_list(json: &[u8]) -> Result<(Vec<&str>, String, String), DecodeError> {
    #[derive(Deserialize)]
    struct List<'a> {
        #[serde(default)]
        metadata: ListMeta,
        #[serde(borrow, default)]
        items: Option<Vec<&'a RawValue>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct ListMeta {
        resource_version: String,
        #[serde(rename = "continue")]
        token: String,
    }
    let list: List<'_> = serde_json::from_slice(json).map_err(DecodeError)?;
    let items = list.items.unwrap_or_default().into_iter().map(RawValue::get).collect();
    Ok((items, list.metadata.resource_version, list.metadata.token))
}

macro_rules! kinds {
    ($($scope:ident $plural:literal $kind:ty;)*) => {$(
        impl Kind for $kind {
            const PLURAL: &'static str = $plural;
            const NAMESPACED: bool = kinds!(@ $scope);

            fn decode(json: &[u8]) -> Result<Self, DecodeError> {
                serde_json::from_slice(json).map_err(DecodeError)
            }

            fn encode(&self) -> Result<Vec<u8>, DecodeError> {
                serde_json::to_vec(self).map_err(DecodeError)
            }
        }
    )*};
    (@ namespaced) => { true };
    (@ cluster) => { false };
}

kinds! {
    cluster "namespaces" core::v1::Namespace;
    cluster "nodes" core::v1::Node;
    namespaced "pods" core::v1::Pod;
    namespaced "configmaps" core::v1::ConfigMap;
    namespaced "secrets" core::v1::Secret;
    namespaced "services" core::v1::Service;
    namespaced "serviceaccounts" core::v1::ServiceAccount;
    namespaced "events" core::v1::Event;
    namespaced "leases" coordination::v1::Lease;
    namespaced "endpointslices" discovery::v1::EndpointSlice;
    namespaced "deployments" apps::v1::Deployment;
    namespaced "replicasets" apps::v1::ReplicaSet;
    namespaced "roles" rbac::v1::Role;
    namespaced "rolebindings" rbac::v1::RoleBinding;
    cluster "clusterroles" rbac::v1::ClusterRole;
    cluster "clusterrolebindings" rbac::v1::ClusterRoleBinding;
    cluster "runtimeclasses" node::v1::RuntimeClass;
    namespaced "poddisruptionbudgets" policy::v1::PodDisruptionBudget;
    namespaced "resourcequotas" core::v1::ResourceQuota;
    namespaced "persistentvolumeclaims" core::v1::PersistentVolumeClaim;
    cluster "persistentvolumes" core::v1::PersistentVolume;
    cluster "volumeattributesclasses" storage::v1::VolumeAttributesClass;
}

/// `/api/v1/namespaces/{ns}/pods/{name}/{subresource}`; parts that are empty are left out.
pub fn path<K: Kind>(namespace: &str, name: &str, subresource: &str) -> String {
    let mut path = match K::GROUP {
        "" => format!("/api/{}", K::VERSION),
        group => format!("/apis/{group}/{}", K::VERSION),
    };
    if K::NAMESPACED && !namespace.is_empty() {
        path.push_str("/namespaces/");
        path.push_str(namespace);
    }
    for part in [K::PLURAL, name, subresource] {
        if !part.is_empty() {
            path.push('/');
            path.push_str(part);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(line: &str, expected: Expect) {
        let told = match decode_watch_event::<core::v1::Pod>(line.as_bytes()) {
            Ok(WatchEvent::Applied(pod)) => format!("applied {}", pod.name()),
            Ok(WatchEvent::Deleted(pod)) => format!("deleted {}", pod.name()),
            Ok(WatchEvent::Bookmark { resource_version, initial_events_end }) => {
                format!("bookmark {resource_version} {initial_events_end}")
            }
            Ok(WatchEvent::Failed(status)) => format!("failed {status}"),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&told);
    }

    #[test]
    fn watch_events() {
        let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#;
        check(&format!(r#"{{"type":"ADDED","object":{pod}}}"#), expect!["applied a"]);
        check(&format!(r#"{{"object":{pod},"type":"DELETED"}}"#), expect!["deleted a"]);
        check(
            r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"7"}}}"#,
            expect!["bookmark 7 false"],
        );
        check(r#"{"type":"ERROR","object":{"code":410}}"#, expect![[r#"failed {"code":410}"#]]);
        check(
            r#"{"type":"ADDED","object":{"apiVersion":"v1","kind":"Node"}}"#,
            expect![[
                r#"not the expected kind: invalid value: string "Node", expected Pod at line 1 column 33"#
            ]],
        );
    }

    #[test]
    fn paths() {
        let all = [
            path::<core::v1::Pod>("", "", ""),
            path::<core::v1::Pod>("n", "a", "status"),
            path::<core::v1::Node>("", "x", ""),
            path::<apps::v1::Deployment>("n", "a", ""),
        ];
        expect![[r#"
            /api/v1/pods
            /api/v1/namespaces/n/pods/a/status
            /api/v1/nodes/x
            /apis/apps/v1/namespaces/n/deployments/a"#]]
        .assert_eq(&all.join("\n"));
    }

    #[test]
    fn lists_and_owners() {
        let list = r#"{"kind":"PodList","metadata":{"resourceVersion":"5","continue":"t"},"items":[{"metadata":{"name":"a"}}]}"#;
        let (pods, version, token) = decode_list::<core::v1::Pod>(list.as_bytes()).unwrap();
        assert_eq!((pods.len(), &*version, &*token), (1, "5", "t"));
        let empty = decode_list::<core::v1::Pod>(br#"{"metadata":{},"items":null}"#).unwrap();
        assert_eq!(empty, (vec![], String::new(), String::new()));
        let mut owner = apps::v1::ReplicaSet::default();
        owner.metadata.name = Some("r".into());
        let mut pod = pods[0].clone();
        assert_eq!(pod.controller(), None);
        pod.metadata.owner_references = Some(vec![owner.as_controller()]);
        let found = pod.controller().map(|owner| (owner.api_version.as_str(), owner.kind.as_str()));
        assert_eq!(found, Some(("apps/v1", "ReplicaSet")));
    }
}
