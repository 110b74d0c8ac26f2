//! What a token says, in upstream's claims.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::{Deserialize, Serialize};
use windlass_sdk_meta::GroupResource;

use crate::User;

pub(super) static ACCOUNTS: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("", "serviceaccounts"));
pub(super) static PODS: LazyLock<GroupResource> = LazyLock::new(|| GroupResource::new("", "pods"));
pub(super) static SECRETS: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("", "secrets"));
pub(super) static NODES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new("", "nodes"));

/// The claims of a token; times in seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claims {
    pub aud: Vec<String>,
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Private,
    pub nbf: i64,
    pub sub: String,
}

/// The claim `kubernetes.io`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Private {
    pub namespace: String,
    /// Of a token bound to a pod: where the pod runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
    pub serviceaccount: Reference,
    /// When a holder should have fetched a new one, of a token that lives longer than was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warnafter: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reference {
    pub name: String,
    #[serde(default)]
    pub uid: String,
}

/// Something that must exist for a token to be valid.
pub(super) struct Bound<'a> {
    /// For messages.
    pub what: &'static str,
    pub resource: &'static GroupResource,
    pub of: &'a Reference,
}

impl Claims {
    /// Whom the token speaks for, with what upstream tells of a token in `extra`.
    pub fn user(&self) -> User {
        let private = &self.kubernetes;
        let mut extra = BTreeMap::new();
        let mut tell = |key: &str, value: String| {
            if !value.is_empty() {
                extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value]);
            }
        };
        tell("credential-id", format!("JTI={}", self.jti));
        for (what, of) in [("pod", &private.pod), ("node", &private.node)] {
            if let Some(of) = of {
                tell(&format!("{what}-name"), of.name.clone());
                tell(&format!("{what}-uid"), of.uid.clone());
            }
        }
        let user = User::service_account(&private.namespace, &private.serviceaccount.name);
        User { uid: private.serviceaccount.uid.clone(), extra, ..user }
    }
}

impl Private {
    /// The account, and what the token is bound to. A pod's node is told but may go: the pod
    /// decides.
    pub fn bound(&self) -> impl Iterator<Item = Bound<'_>> {
        let node = self.node.as_ref().filter(|_| self.pod.is_none());
        let all = [
            ("service account", &*ACCOUNTS, Some(&self.serviceaccount)),
            ("pod", &*PODS, self.pod.as_ref()),
            ("secret", &*SECRETS, self.secret.as_ref()),
            ("node", &*NODES, node),
        ];
        all.into_iter().filter_map(|(what, resource, of)| Some(Bound { what, resource, of: of? }))
    }
}
