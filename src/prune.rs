//! Builds that `windlass deploy` pushed and nothing in the cluster names any more. What a Deployment
//! may go back to, a ReplicaSet names (`revisionHistoryLimit`), so the images that stay are as many as
//! the revisions; the registry drops the content of the others in its time.

use std::collections::BTreeSet;

use http::Request;
use serde_json::Value;
use windlass_sdk_project::Built;

use crate::{
    cluster_images::ClusterImage,
    connect::{self, Connection},
};

/// What has pods, or will have them again, and where its pods' form is.
const USERS: [(&str, &str); 3] = [
    ("/apis/apps/v1/namespaces/{}/deployments", "/spec/template/spec"),
    ("/apis/apps/v1/namespaces/{}/replicasets", "/spec/template/spec"),
    ("/api/v1/namespaces/{}/pods", "/spec"),
];

/// A tag of the repository, and where it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tagged {
    tag: String,
    /// Of the manifest.
    digest: String,
    /// A deployment gave it, and no person.
    is_build: bool,
}

/// Takes those of the tags `before` away from the image's repository that deployments gave and
/// nothing in the namespace names.
pub async fn prune(
    cluster: &Connection,
    namespace: &str,
    image: &ClusterImage,
    before: Vec<String>,
) -> anyhow::Result<()> {
    if before.is_empty() {
        return Ok(());
    }
    let mut tagged = Vec::new();
    for tag in before {
        let (digest, layer) = image.layer(cluster, &tag).await?;
        let is_build = layer.is_some_and(|layer| Built::is_tag_of(&tag, &layer));
        tagged.push(Tagged { tag, digest, is_build });
    }
    // Last: what was named meanwhile stays.
    let mut named = BTreeSet::new();
    for (path, form) in USERS {
        let path = path.replace("{}", namespace);
        let listed = connect::ask(cluster, Request::get(path).body(connect::nothing())?).await?;
        let items = listed["items"].as_array().into_iter().flatten();
        named.extend(items.filter_map(|item| item.pointer(form)).flat_map(images));
    }
    for name in outdated(&tagged, image.repository(), &named) {
        image.remove(cluster, &name).await?;
    }
    Ok(())
}

/// The images of a pod's spec.
fn images(spec: &Value) -> Vec<String> {
    let containers = ["initContainers", "containers"].map(|key| spec[key].as_array());
    let all = containers.into_iter().flatten().flatten();
    all.filter_map(|container| container["image"].as_str().map(str::to_owned)).collect()
}

/// Tags of builds that nothing names; of one that no other tag leads to, its digest.
fn outdated(all: &[Tagged], repository: &str, named: &BTreeSet<String>) -> Vec<String> {
    let is_named = |of: &Tagged| {
        named.contains(&format!("{repository}:{}", of.tag))
            || named.contains(&format!("{repository}@{}", of.digest))
    };
    let goes = all.iter().filter(|of| of.is_build && !is_named(of));
    let name = |of: &Tagged| {
        let is_same = |other: &&Tagged| other.digest == of.digest;
        match all.iter().filter(is_same).count() {
            1 => of.digest.clone(),
            _ => of.tag.clone(),
        }
    };
    goes.map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_or_a_person_s_stays() {
        let tagged = |tag: &str, digest: &str, is_build| Tagged {
            tag: tag.into(),
            digest: digest.into(),
            is_build,
        };
        let all = [
            tagged("aaa", "sha256:a", true),
            tagged("bbb", "sha256:b", true),
            tagged("ccc", "sha256:c", true),
            tagged("ddd", "sha256:d", true),
            tagged("v1", "sha256:d", false),
            tagged("v2", "sha256:e", false),
        ];
        let check = |named: &[&str], expected: &[&str]| {
            let named = named.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(outdated(&all, "windlass.local/shop/cart", &named), expected);
        };
        check(&[], &["sha256:a", "sha256:b", "sha256:c", "ddd"]);
        check(
            &[
                "windlass.local/shop/cart@sha256:a",
                "windlass.local/shop/cart:bbb",
                "other@sha256:c",
            ],
            &["sha256:c", "ddd"],
        );
    }
}
