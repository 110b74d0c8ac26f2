//! Which resources the server has. Controllers that care for all kinds (garbage collection,
//! namespaces) know none by name, so kinds that are added later are cared for as well.

use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::time::Instant;
use windlass_sdk_client::Api;
use windlass_sdk_meta::GroupVersionResource;

use super::Error;

/// A custom resource is noticed after at most this long.
pub const REFRESH: Duration = Duration::from_secs(30);

/// How often a version is asked for its resources before it counts as failed.
const ATTEMPTS: usize = 3;

/// A resource of the server, in its preferred version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    pub gvr: GroupVersionResource,
    pub kind: String,
    pub namespaced: bool,
    pub verbs: Vec<String>,
}

impl Resource {
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }

    /// `/apis/apps/v1/namespaces/{namespace}/deployments/{name}`; empty parts are left out.
    pub fn path(&self, namespace: &str, name: &str) -> String {
        let GroupVersionResource { group, version, resource } = &self.gvr;
        let mut path = match group.as_str() {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        if self.namespaced && !namespace.is_empty() {
            path.push_str(&format!("/namespaces/{namespace}"));
        }
        path.push_str(&format!("/{resource}"));
        if !name.is_empty() {
            path.push_str(&format!("/{name}"));
        }
        path
    }
}

/// What was found, and what could not be looked at.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Sorted.
    pub resources: Vec<Resource>,
    /// None where the list is whole.
    pub error: Option<String>,
}

/// Discovery with a memory of `REFRESH`.
#[derive(Debug, Default)]
pub struct Discovery(Mutex<Option<(Instant, Found)>>);

impl Discovery {
    pub async fn resources(&self, api: &Api) -> Found {
        let known = self.0.lock().clone();
        if let Some((_, found)) = known.filter(|(at, _)| at.elapsed() < REFRESH) {
            return found;
        }
        self.now(api).await
    }

    /// As it is now, for whoever must not miss a kind that has just come.
    pub async fn now(&self, api: &Api) -> Found {
        let found = discover(api).await;
        // What isn't whole is looked at again next time.
        *self.0.lock() = found.error.is_none().then(|| (Instant::now(), found.clone()));
        found
    }
}

async fn discover(api: &Api) -> Found {
    let mut found = Found::default();
    let mut failed = Vec::new();
    let versions = match groups(api).await {
        Ok(versions) => versions,
        Err(error) => {
            failed.push(format!("apis: {error}"));
            vec!["v1".to_owned()]
        }
    };
    for version in versions {
        match patiently(api, &version).await {
            Ok(resources) => found.resources.extend(resources),
            Err(error) => failed.push(format!("{version}: {error}")),
        }
    }
    found.resources.sort();
    let count = failed.len();
    found.error = (count > 0).then(|| {
        let list = failed.join(", ");
        format!(
            "Discovery failed for some groups, {count} failing: unable to retrieve the complete list of server APIs: {list}"
        )
    });
    found
}

async fn groups(api: &Api) -> Result<Vec<String>, Error> {
    #[derive(Deserialize)]
    struct Groups {
        groups: Vec<Group>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Group {
        preferred_version: Preferred,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Preferred {
        group_version: String,
    }
    let answer = api.request(Method::GET, "/apis", "", Vec::new()).await?;
    let groups: Groups = serde_json::from_slice(&answer)?;
    let versions = groups.groups.into_iter().map(|group| group.preferred_version.group_version);
    Ok(std::iter::once("v1".to_owned()).chain(versions).collect())
}

/// One of thirty requests that fails in passing must not make the list incomplete.
async fn patiently(api: &Api, group_version: &str) -> Result<Vec<Resource>, Error> {
    for _ in 1..ATTEMPTS {
        if let Ok(found) = of_version(api, group_version).await {
            return Ok(found);
        }
    }
    of_version(api, group_version).await
}

async fn of_version(api: &Api, group_version: &str) -> Result<Vec<Resource>, Error> {
    #[derive(Deserialize)]
    struct Resources {
        resources: Vec<Row>,
    }
    #[derive(Deserialize)]
    struct Row {
        name: String,
        kind: String,
        namespaced: bool,
        #[serde(default)]
        verbs: Vec<String>,
    }
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let path = match group {
        "" => format!("/api/{version}"),
        _ => format!("/apis/{group_version}"),
    };
    let answer = api.request(Method::GET, &path, "", Vec::new()).await?;
    let list: Resources = serde_json::from_slice(&answer)?;
    let rows = list.resources.into_iter().filter(|row| !row.name.contains('/'));
    Ok(rows
        .map(|row| Resource {
            gvr: GroupVersionResource::new(group, version, &row.name),
            kind: row.kind,
            namespaced: row.namespaced,
            verbs: row.verbs,
        })
        .collect())
}
