//! Rollouts as a property: whatever changes, they end and keep their limits on the way.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use windlass_sdk_types::{Deployment, Kind, ReplicaSet, api::apps::v1::ReplicaSetStatus};

use super::{
    plan::{Action, Plan, plan},
    scale::Limits,
};
use crate::testing::{at, deployment, merge, template};

/// Carries a plan out as the server and an eager ReplicaSet controller would.
fn apply(deployment: &mut Deployment, sets: &mut Vec<Arc<ReplicaSet>>, plan: Plan, clock: i64) {
    for action in plan.actions {
        match action {
            Action::Create(set) => {
                let mut set = *set;
                set.metadata.uid = set.metadata.name.clone();
                set.metadata.generation = Some(1);
                set.metadata.creation_timestamp = Some(windlass_sdk_types::Time(at(clock)));
                sets.push(Arc::new(set));
            }
            Action::Update(next) => {
                let found = sets.iter_mut().find(|set| set.uid() == next.seen.uid()).unwrap();
                let set = Arc::make_mut(found);
                set.spec.replicas = Some(next.replicas);
                set.metadata.annotations = Some(next.annotations);
            }
            Action::Delete(gone) => sets.retain(|set| set.uid() != gone.uid()),
            Action::Adopt(_) | Action::Release(_) => {}
        }
    }
    deployment.status = Some(plan.status);
}

/// Makes up to `step` pods of each set what it wants; returns whether anything moved.
fn run_pods(sets: &mut [Arc<ReplicaSet>], step: i32) -> bool {
    let mut moved = false;
    for set in sets {
        let wanted = set.spec.replicas.unwrap();
        let old = set.status.clone().unwrap_or_default();
        let ready = old.available_replicas.unwrap_or(0);
        let ready = ready + (wanted - ready).clamp(-step, step);
        let status = ReplicaSetStatus {
            replicas: wanted,
            ready_replicas: Some(ready),
            available_replicas: Some(ready),
            terminating_replicas: Some(0),
            observed_generation: Some(1),
            ..ReplicaSetStatus::default()
        };
        moved |= old != status;
        Arc::make_mut(set).status = Some(status);
    }
    moved
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Any change of template and size, any pace of pods: the rollout ends, never goes over the
    /// surge, never (from an available start) under the wanted availability, and then rests.
    #[test]
    fn rollouts_converge(from in 1i32..12, to in 1i32..12, surge in 0i32..4, unavailable in 0i32..4, step in 1i32..5) {
        let strategy = json!({"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}});
        let mut own = deployment(json!({"spec": {"replicas": from, "strategy": strategy}}));
        let mut sets = Vec::new();
        for (generation, over) in [(1, json!({})), (2, json!({"spec": {"template": template("v2")}})), (3, json!({"spec": {"replicas": to}}))] {
            let mut json = serde_json::to_value(&own).unwrap();
            merge(&mut json, over);
            json["metadata"]["generation"] = generation.into();
            own = Deployment::decode(json.to_string().as_bytes()).unwrap();
            let limits = Limits::of(&own);
            let mut rested = false;
            for turn in 0..200 {
                let moved = run_pods(&mut sets, step);
                let plan = plan(&own, &sets, at(turn));
                if !moved && plan.actions.is_empty() && Some(&plan.status) == own.status.as_ref() {
                    rested = true;
                    break;
                }
                apply(&mut own, &mut sets, plan, turn);
                let total: i32 = sets.iter().map(|set| set.spec.replicas.unwrap()).sum();
                prop_assert!(total <= limits.most(), "{total} > {}", limits.most());
                if generation == 2 {
                    let available = sets.iter().map(|set| set.status.as_ref().map_or(0, |status| {
                        status.available_replicas.unwrap_or(0).min(set.spec.replicas.unwrap())
                    })).sum::<i32>();
                    prop_assert!(available >= limits.least_available());
                }
            }
            prop_assert!(rested);
            let status = own.status.as_ref().unwrap();
            prop_assert_eq!(status.available_replicas, Some(own.spec.replicas.unwrap()));
            prop_assert_eq!(status.updated_replicas, status.available_replicas);
        }
        let sizes: Vec<i32> = sets.iter().map(|set| set.spec.replicas.unwrap()).collect();
        prop_assert_eq!(sizes, vec![0, to]);
    }
}
