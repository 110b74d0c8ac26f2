//! Tells the API what became of pods: the newest status of each, only where it differs from what
//! was told, one write a pod at a time; and at the very end that the object may go.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;
use windlass_sdk_client::{Delete, Error, Patch};
use windlass_sdk_types::{Kind, Pod};

use crate::agent::Agent;

/// A pod's status as JSON text. A node keeps two of each pod: as trees, ten thousand pods would
/// take more memory for these than for all that they run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StatusText(Box<str>);

impl StatusText {
    pub fn of(status: &Value) -> Self {
        Self(status.to_string().into())
    }

    pub fn tree(&self) -> Value {
        // It was made from a tree.
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

/// One of several writers, until told to stop.
pub(crate) async fn write(agent: Arc<Agent>, stop: CancellationToken) {
    loop {
        let job = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            job = agent.statuses.next() => job,
        };
        match write_one(&agent, &job).await {
            Ok(()) => agent.statuses.forget(&job),
            Err(error) => {
                tracing::warn!(uid = *job, %error, "pod status not written yet");
                agent.statuses.retry(job.clone());
            }
        }
    }
}

/// The status of a pod as JSON.
pub(crate) fn of(pod: &Pod) -> Value {
    let json = pod.encode().ok().and_then(|json| serde_json::from_slice::<Value>(&json).ok());
    json.map(|mut pod| pod["status"].take()).unwrap_or_default()
}

async fn write_one(agent: &Agent, uid: &str) -> Result<(), Error> {
    let (key, planned, told, delete) = {
        let entries = agent.entries.lock();
        let Some(entry) = entries.by_uid.get(uid) else { return Ok(()) };
        let delete = entry.delete && !entry.state.deleted;
        (entry.key.clone(), entry.planned.clone(), entry.told.clone(), delete)
    };
    if differs(&told.tree(), &planned.tree()) {
        let mut patch = Patch::Merge(json!({ "status": planned.tree() })).only_uid(uid);
        // Others write conditions too: theirs must be the newest.
        if let Some(version) = gated_version(agent, &key, uid) {
            patch = patch.only_version(&version);
        }
        match agent.api.patch_status::<Pod>(&key.namespace, &key.name, &patch).await {
            Ok(_) => {
                if let Some(entry) = agent.entries.lock().by_uid.get_mut(uid) {
                    entry.told = planned;
                }
            }
            // Another object may have the name by now: the informer tells, and the entry goes.
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    if delete {
        let how = Delete::only(uid).now();
        match agent.api.delete::<Pod>(&key.namespace, &key.name, &how).await {
            Ok(()) => {}
            Err(error) if error.is_not_found() || error.is_conflict() => {}
            Err(error) => return Err(error),
        }
        agent.update(uid, |entry| entry.state.deleted = true);
    }
    Ok(())
}

/// The pod's version, where others than the scheduler have a say in its readiness.
fn gated_version(agent: &Agent, key: &windlass_sdk_client::Key, uid: &str) -> Option<String> {
    let pod = agent.pods.find(key).filter(|pod| pod.uid() == uid)?;
    let gates = pod.spec.as_ref()?.readiness_gates.as_ref()?;
    (!gates.is_empty()).then(|| pod.resource_version().to_owned())
}

/// Whether a merge of `planned` into `told` would change it. Fields with null count as absent.
fn differs(told: &Value, planned: &Value) -> bool {
    let (told, planned) = (without_nulls(told), without_nulls(planned));
    let empty = Map::new();
    let told = told.as_object().unwrap_or(&empty);
    planned.as_object().into_iter().flatten().any(|(key, value)| told.get(key) != Some(value))
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differences_are_written() {
        let told = json!({"phase": "Running", "qosClass": "Burstable",
            "conditions": [{"type": "Ready", "status": "True"}]});
        for (planned, expected) in [
            (json!({"phase": "Running"}), false),
            (json!({"phase": "Pending"}), true),
            (json!({"podIP": "1.2.3.4"}), true),
            (
                json!({"conditions": [{"status": "True", "type": "Ready", "lastProbeTime": null}]}),
                false,
            ),
            (json!({"conditions": []}), true),
        ] {
            assert_eq!(differs(&told, &planned), expected, "{planned}");
        }
        assert!(differs(&Value::Null, &json!({"phase": "Pending"})));
    }
}
