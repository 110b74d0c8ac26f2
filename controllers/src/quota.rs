//! ResourceQuotas: what a namespace uses already when a quota is made or changed. From then on the
//! API server charges each write in the transaction that commits it, so there is nothing to count
//! again; this controller counts when the bounds change, and once more a little later for writes that
//! were under way when the quota came.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use http::Method;
use parking_lot::Mutex;
use serde_json::{Value, json};
use windlass_sdk_client::{Api, Cluster, Informer, Key};
use windlass_sdk_meta::{
    Clock, GroupResource, Quantity, Timestamp,
    quota::{self, Amounts},
};
use windlass_sdk_types::{Kind as _, ResourceQuota};

use crate::kit::{
    Controller, Error, Requeue, Watch,
    discovery::{Discovery, Resource},
    watch, write,
};

/// Whose service account acts.
pub const NAME: &str = "resourcequota-controller";
/// Writes that had not seen a quota are done by then.
const SETTLED: Duration = Duration::from_secs(5);

/// Keeps the status of quotas.
pub struct Quotas {
    api: Api,
    quotas: Informer<ResourceQuota>,
    discovery: Discovery,
    clock: Arc<dyn Clock>,
    /// Quotas that were counted in full, by their bounds then.
    counted: Mutex<BTreeMap<Key, Value>>,
}

impl Quotas {
    pub fn new(cluster: &Cluster) -> Self {
        Self {
            api: cluster.api(NAME),
            quotas: cluster.informers.of(),
            discovery: Discovery::default(),
            clock: cluster.clock.clone(),
            counted: Mutex::default(),
        }
    }

    /// All that the namespace has of what the quota bounds.
    async fn count(&self, namespace: &str, quota: &Value) -> Result<Amounts, Error> {
        let hard = quota::amounts(&quota["spec"]["hard"]);
        let wanted: BTreeSet<GroupResource> =
            hard.keys().map(|name| quota::resource_of(name)).collect();
        let found = self.discovery.resources(&self.api).await;
        let mut objects = Vec::new();
        for of in wanted {
            let row = found.resources.iter().find(|row| is(row, &of) && row.has_verb("list"));
            let Some(row) = row else { continue };
            let path = row.path(namespace, "");
            let answer = self.api.request(Method::GET, &path, "", Vec::new()).await?;
            let list: Value = serde_json::from_slice(&answer)?;
            objects.push((of, list["items"].as_array().cloned().unwrap_or_default()));
        }
        Ok(sum(quota, &hard, &objects, self.clock.now()))
    }
}

fn is(row: &Resource, of: &GroupResource) -> bool {
    (row.gvr.group.as_str(), row.gvr.resource.as_str()) == (&of.group, &of.resource)
}

/// What is used of each bound; nothing is 0.
fn sum(
    quota: &Value,
    hard: &Amounts,
    objects: &[(GroupResource, Vec<Value>)],
    now: Timestamp,
) -> Amounts {
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::ZERO)).collect();
    for (of, items) in objects {
        for object in items.iter().filter(|object| quota::in_scopes(quota, of, object)) {
            for (name, amount) in quota::usage(of, object, now) {
                let Some(sum) = used.get_mut(&name) else { continue };
                // The form of the first amount decides how the sum is printed.
                *sum = if *sum == Quantity::ZERO { amount } else { sum.saturating_add(amount) };
            }
        }
    }
    used
}

#[async_trait]
impl Controller for Quotas {
    fn name(&self) -> &'static str {
        NAME
    }

    fn watches(&self) -> Vec<Watch> {
        vec![watch::own(&self.quotas)]
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(stored) = self.quotas.find(key) else {
            self.counted.lock().remove(key);
            return Ok(Requeue::No);
        };
        let quota: Value = serde_json::from_slice(&stored.encode()?)?;
        let spec = &quota["spec"];
        if self.counted.lock().get(key) == Some(spec) {
            return Ok(Requeue::No);
        }
        let used = quota::to_json(&self.count(&key.namespace, &quota).await?);
        let same = |a: &Value, b: &Value| quota::amounts(a) == quota::amounts(b);
        let status = &quota["status"];
        if same(&status["hard"], &spec["hard"]) && same(&status["used"], &used) {
            self.counted.lock().insert(key.clone(), spec.clone());
            return Ok(Requeue::No);
        }
        let mut changed = quota.clone();
        changed["status"] = json!({"hard": spec["hard"], "used": used});
        let changed = ResourceQuota::decode(changed.to_string().as_bytes()).map_err(Error::from)?;
        match write::update(&self.api, &changed, "status").await {
            Err(error) if error.is_not_found() => Ok(Requeue::No),
            answer => answer.map(|_| Requeue::After(SETTLED)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_of_what_is_bounded_and_in_scope() {
        let quota = json!({"spec": {"hard": {"pods": "5", "requests.cpu": "2", "secrets": "1"},
            "scopes": ["NotBestEffort"]}});
        let hard = quota::amounts(&quota["spec"]["hard"]);
        let busy = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "300m"}}}]}});
        let idle = json!({"spec": {"containers": [{}]}});
        let pods = (GroupResource::new("", "pods"), vec![busy.clone(), busy, idle]);
        let secrets = (GroupResource::new("", "secrets"), vec![json!({})]);
        let now = Timestamp::from_second(0).expect("a time");
        let used = sum(&quota, &hard, &[pods, secrets], now);
        assert_eq!(
            quota::to_json(&used),
            json!({"pods": "2", "requests.cpu": "600m", "secrets": "0"})
        );
    }
}
