//! Revisions: which ReplicaSet has a Deployment's template, what a new one is called, and the
//! annotations that `kubectl rollout history` and `undo` read.

use std::collections::BTreeMap;

use windlass_sdk_types::{
    Deployment, Kind, LabelSelector, ObjectMeta, ReplicaSet,
    api::{apps::v1::ReplicaSetSpec, core::v1::PodTemplateSpec},
};

use super::scale::{DESIRED_REPLICAS, MAX_REPLICAS};

pub const REVISION: &str = "deployment.kubernetes.io/revision";
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
const ROLLBACK_TO: &str = "deprecated.deployment.rollback.to";

/// The most characters that the list of a set's earlier revisions may have (upstream's bound).
const REVISION_HISTORY_LENGTH: usize = 2000;
/// A DNS subdomain's length: what a ReplicaSet's name may have.
const NAME_LENGTH: usize = 253;
/// Characters of the hash: those of generated names, so that it never spells a word.
const HASH_CHARACTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Whether two templates are equal but for the hash label, which only the ReplicaSet's has.
pub fn same_template(a: &PodTemplateSpec, b: &PodTemplateSpec) -> bool {
    a.spec == b.spec && bare(a) == bare(b)
}

/// The revision of a set by its annotations; 0 where they don't say.
pub fn number(annotations: &BTreeMap<String, String>) -> i64 {
    annotations.get(REVISION).and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// The ReplicaSet for the Deployment's template, without its size. Its name is a function of the
/// template, so creating it twice is refused by the server instead of making two.
pub fn new_set(deployment: &Deployment, revision: i64) -> ReplicaSet {
    let spec = &deployment.spec;
    let collisions = deployment.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template.clone();
    let labels = template.metadata.get_or_insert_default().labels.get_or_insert_default();
    labels.insert(POD_TEMPLATE_HASH.into(), hash.clone());
    let labels = labels.clone();
    let mut pairs = spec.selector.match_labels.clone().unwrap_or_default();
    pairs.insert(POD_TEMPLATE_HASH.into(), hash.clone());
    let mut annotations = BTreeMap::new();
    annotate(deployment, &mut annotations, revision);
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(set_name(deployment.name(), &hash)),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: Some(vec![deployment.as_controller()]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector: LabelSelector {
                match_labels: Some(pairs),
                match_expressions: spec.selector.match_expressions.clone(),
            },
            template: Some(template),
        },
        status: None,
    }
}

/// Copies the Deployment's annotations to its new set and raises the set's revision to `next`. A
/// set that had a lower revision is being rolled back to: that revision goes into its history.
pub fn annotate(deployment: &Deployment, own: &mut BTreeMap<String, String>, next: i64) {
    let skipped =
        [LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, ROLLBACK_TO];
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !skipped.contains(&key.as_str()) {
            own.insert(key.clone(), value.clone());
        }
    }
    let before = own.get(REVISION).cloned();
    // A revision that isn't a number was put there by somebody else: it stays theirs.
    let Ok(known) = before.as_deref().unwrap_or("0").parse::<i64>() else { return };
    if known >= next {
        return;
    }
    own.insert(REVISION.into(), next.to_string());
    if let Some(before) = before {
        let history = own.get(REVISION_HISTORY).map(String::as_str).unwrap_or_default();
        if let Some(history) = extended(history, &before) {
            own.insert(REVISION_HISTORY.into(), history);
        }
    }
}

/// Appends a revision and drops the oldest ones that no longer fit.
fn extended(history: &str, revision: &str) -> Option<String> {
    let mut all: Vec<&str> = history.split(',').filter(|part| !part.is_empty()).collect();
    all.push(revision);
    let length = |all: &[&str]| all.iter().map(|part| part.len() + 1).sum::<usize>() - 1;
    while all.len() > 1 && length(&all) > REVISION_HISTORY_LENGTH {
        all.remove(0);
    }
    (length(&all) <= REVISION_HISTORY_LENGTH).then(|| all.join(","))
}

/// A short name for a template, the same on every machine: FNV-1a over its JSON and the number of
/// collisions seen so far.
fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    let carrier = ReplicaSet {
        spec: ReplicaSetSpec { template: Some(template.clone()), ..ReplicaSetSpec::default() },
        ..ReplicaSet::default()
    };
    // Encoding plain data to memory doesn't fail; if it did, the collision rule would sort it out.
    let mut bytes = carrier.encode().unwrap_or_default();
    bytes.extend(collisions.into_iter().flat_map(i32::to_le_bytes));
    let hash = bytes
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let character =
        |digit: u8| char::from(HASH_CHARACTERS[usize::from(digit) % HASH_CHARACTERS.len()]);
    hash.to_string().bytes().map(character).collect()
}

fn set_name(deployment: &str, hash: &str) -> String {
    let most = NAME_LENGTH - 1 - hash.len();
    let cut = deployment.char_indices().map(|(at, _)| at).nth(most).unwrap_or(deployment.len());
    format!("{}-{hash}", &deployment[..cut])
}

/// The template's metadata as it compares: without the hash label, with no empty maps.
fn bare(template: &PodTemplateSpec) -> ObjectMeta {
    let mut metadata = template.metadata.clone().unwrap_or_default();
    if let Some(labels) = &mut metadata.labels {
        labels.remove(POD_TEMPLATE_HASH);
    }
    metadata.labels = metadata.labels.filter(|labels| !labels.is_empty());
    metadata.annotations = metadata.annotations.filter(|annotations| !annotations.is_empty());
    metadata
}
