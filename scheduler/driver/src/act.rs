//! The requests that decisions become. Each runs as a task of its own and ends with one message.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use windlass_scheduler_core::PodInfo;
use windlass_sdk_client::{Api, Error, Key, Patch};
use windlass_sdk_meta::{Backoff, Clock, Timestamp, format_time};
use windlass_sdk_types::{Kind, Pod};

/// A status that can't be written is written at the next attempt to schedule the pod.
const STATUS_ATTEMPTS: u32 = 3;

/// Starts requests.
pub struct Actor {
    api: Api,
    clock: Arc<dyn Clock>,
    finished: mpsc::UnboundedSender<Finished>,
}

/// A request has ended.
pub struct Finished {
    pub pod: Named,
    pub ending: Ending,
}

/// Which pod it was about.
pub struct Named {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
    pub uid: Arc<str>,
    reference: windlass_sdk_types::ObjectReference,
}

pub enum Ending {
    /// The server has taken the binding.
    Bound { node: Arc<str> },
    /// It hasn't, and says why. The pod still waits, as far as is known.
    Failed { error: String },
    /// The API shows the pod like this.
    Found(Box<Pod>),
    /// The API shows the pod without a node.
    StillWaits,
    /// The API doesn't show the pod.
    Gone,
    /// The reasons are written, or can't be.
    Reported,
}

impl Named {
    fn new(pod: &PodInfo) -> Self {
        Self {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            reference: pod.reference(),
        }
    }

    pub fn reference(&self) -> windlass_sdk_types::ObjectReference {
        self.reference.clone()
    }
}

impl Actor {
    pub fn new(api: Api, clock: Arc<dyn Clock>, finished: mpsc::UnboundedSender<Finished>) -> Self {
        Self { api, clock, finished }
    }

    /// Assigns the pod to the node.
    pub fn bind(&self, pod: Arc<PodInfo>, node: Arc<str>) {
        let api = self.api.clone();
        self.start(Named::new(&pod), async move {
            match api.bind(&pod.namespace, &pod.name, &pod.uid, &node).await {
                Ok(()) => Ending::Bound { node },
                Err(error) => after_failure(&api, &pod, error).await,
            }
        });
    }

    /// Asks how the pod is.
    pub fn look(&self, key: &Key, uid: Arc<str>) {
        let named = Named {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            uid: uid.clone(),
            reference: Default::default(),
        };
        let (api, key) = (self.api.clone(), key.clone());
        self.start(named, async move {
            look(&api, &key.namespace, &key.name, &uid).await.unwrap_or(Ending::StillWaits)
        });
    }

    /// Writes into the pod's status why it has no node, where that isn't there already.
    pub fn report(&self, pod: Arc<PodInfo>, known: Option<Arc<Pod>>, message: String) {
        let known = known.filter(|known| known.uid() == &*pod.uid);
        let patch = known.and_then(|known| unschedulable(&known, &message, self.clock.now()));
        let api = self.api.clone();
        self.start(Named::new(&pod), async move {
            if let Some(patch) = patch {
                let patch = Patch::Strategic(patch).only_uid(&pod.uid);
                write_status(&api, &pod, &patch).await;
            }
            Ending::Reported
        });
    }

    fn start(&self, pod: Named, work: impl Future<Output = Ending> + Send + 'static) {
        let finished = self.finished.clone();
        tokio::spawn(async move {
            let ending = work.await;
            // Nobody listens after shutdown.
            let _ = finished.send(Finished { pod, ending });
        });
    }
}

/// What a failed binding means: another may have bound the pod, our answer may have been lost, or
/// the pod may be gone.
async fn after_failure(api: &Api, pod: &PodInfo, error: Error) -> Ending {
    match look(api, &pod.namespace, &pod.name, &pod.uid).await {
        Some(Ending::StillWaits) | None => Ending::Failed { error: error.to_string() },
        Some(ending) => ending,
    }
}

/// None where the API gives no answer.
async fn look(api: &Api, namespace: &str, name: &str, uid: &str) -> Option<Ending> {
    match api.get::<Pod>(namespace, name).await {
        Ok(pod) if pod.uid() != uid => Some(Ending::Gone),
        Ok(pod) if has_node(&pod) => Some(Ending::Found(Box::new(pod))),
        Ok(_) => Some(Ending::StillWaits),
        Err(error) if error.is_not_found() => Some(Ending::Gone),
        Err(_) => None,
    }
}

fn has_node(pod: &Pod) -> bool {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    node.is_some_and(|node| !node.is_empty())
}

async fn write_status(api: &Api, pod: &PodInfo, patch: &Patch) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
    loop {
        let written = api.patch_status::<Pod>(&pod.namespace, &pod.name, patch).await;
        let Err(error) = written else { return };
        if error.is_not_found() || error.is_conflict() {
            return;
        }
        if !error.is_transient() || backoff.attempts() >= STATUS_ATTEMPTS {
            let (name, namespace) = (&*pod.name, &*pod.namespace);
            tracing::warn!(kind = "Pod", namespace, name, %error, "condition not written");
            return;
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// The patch that sets PodScheduled to False; None where it says the same already.
fn unschedulable(pod: &Pod, message: &str, now: Timestamp) -> Option<Value> {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let known = conditions.into_iter().flatten().find(|known| known.type_ == "PodScheduled");
    let known = known.filter(|known| known.status == "False");
    let same = |known: &windlass_sdk_types::api::core::v1::PodCondition| {
        known.reason.as_deref() == Some("Unschedulable")
            && known.message.as_deref() == Some(message)
    };
    if known.is_some_and(same) {
        return None;
    }
    let since = known.and_then(|known| known.last_transition_time.as_ref());
    let mut condition = json!({
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": message,
        "lastTransitionTime": format_time(since.map_or(now, |since| since.0)),
    });
    if let Some(generation) = pod.metadata.generation {
        condition["observedGeneration"] = generation.into();
    }
    Some(json!({ "status": { "conditions": [condition] } }))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(conditions: &str, expected: Expect) {
        let json =
            format!(r#"{{"metadata":{{"generation":3}},"status":{{"conditions":{conditions}}}}}"#);
        let pod = Pod::decode(json.as_bytes()).unwrap();
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let patch = unschedulable(&pod, "0/1", now);
        expected.assert_eq(&patch.map_or("nothing".into(), |patch| patch.to_string()));
    }

    #[test]
    fn conditions() {
        let fresh = r#"{"status":{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1","lastTransitionTime":"2027-01-15T08:00:00Z","observedGeneration":3}]}}"#;
        let fresh = || {
            let mut expected = expect![""];
            expected.data = fresh;
            expected
        };
        check("[]", fresh());
        check(r#"[{"type":"PodScheduled","status":"True"}]"#, fresh());
        check(
            r#"[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1"}]"#,
            expect!["nothing"],
        );
        check(
            r#"[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/2","lastTransitionTime":"2026-11-23T17:20:00Z"}]"#,
            expect![[
                r#"{"status":{"conditions":[{"type":"PodScheduled","status":"False","reason":"Unschedulable","message":"0/1","lastTransitionTime":"2026-11-23T17:20:00Z","observedGeneration":3}]}}"#
            ]],
        );
    }
}
