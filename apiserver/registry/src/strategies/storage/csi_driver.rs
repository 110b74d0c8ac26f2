//! CSIDriver: what a storage driver of the cluster can do.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    cause::{Causes, Path},
    semantic,
    strategies::common::{joined, one_of},
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const GROUP_POLICIES: [&str; 3] = ["File", "None", "ReadWriteOnceWithFSType"];
const MODES: [&str; 2] = ["Persistent", "Ephemeral"];
const SHORTEST_TOKEN_SECONDS: i64 = 600;
const LONGEST_TOKEN_SECONDS: i64 = 1 << 32;
const SHORTEST_PERIOD_SECONDS: i64 = 10;

#[derive(Debug)]
pub struct CsiDriver;

impl Strategy for CsiDriver {
    fn separation(&self) -> Separation {
        Separation::None
    }

    /// A new one has no generation; changes are counted all the same.
    fn prepare_for_update(&self, _sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if !semantic::same_named(&new["spec"], &old["spec"], "storage.v1.CSIDriverSpec") {
            let generation = tree::number(&old["metadata"], "generation").unwrap_or(0);
            tree::set(&mut new["metadata"], "generation", generation + 1);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        one_of(spec, "fsGroupPolicy", &GROUP_POLICIES, path, causes);
        tokens(spec, path.child("tokenRequests"), causes);
        for mode in tree::list(spec, "volumeLifecycleModes") {
            if !mode.as_str().is_some_and(|mode| MODES.contains(&mode)) {
                causes.not_supported(path.child("volumeLifecycleModes"), mode, &MODES);
            }
        }
        let period = "nodeAllocatableUpdatePeriodSeconds";
        if tree::number(spec, period).is_some_and(|period| period < SHORTEST_PERIOD_SECONDS) {
            let why = "must be greater than or equal to 10 seconds";
            causes.invalid(path.child(period), &spec[period], why);
        }
        let in_secrets = "serviceAccountTokenInSecrets";
        if tree::has(spec, in_secrets) && tree::list(spec, "tokenRequests").is_empty() {
            let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
            causes.invalid(path.child(in_secrets), &spec[in_secrets], why);
        }
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        self.validate(new, causes);
        let (after, before, path) = (&new["spec"], &old["spec"], Path::Root.child("spec"));
        // Upstream's message calls the first field so.
        for (key, shown) in [
            ("attachRequired", "attachedRequired"),
            ("volumeLifecycleModes", "volumeLifecycleModes"),
        ] {
            if !tree::same(&after[key], &before[key]) {
                causes.immutable(path.child(shown), &after[key]);
            }
        }
    }

    fn warnings(&self, _sub: &str, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let spec = &new["spec"];
        let asks = !tree::list(spec, "tokenRequests").is_empty();
        match asks && !tree::has(spec, "serviceAccountTokenInSecrets") {
            true => vec![
                "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes"
                    .into(),
            ],
            false => Vec::new(),
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let spec = &object["spec"];
        let modes = joined(tree::list(spec, "volumeLifecycleModes"));
        let audiences = tree::list(spec, "tokenRequests").iter();
        let audiences: Vec<&str> = audiences.map(|one| tree::text(one, "audience")).collect();
        let tokens = match tree::has(spec, "tokenRequests") {
            true => audiences.join(","),
            false => "<unset>".to_owned(),
        };
        vec![
            name(object),
            spec["attachRequired"].as_bool().unwrap_or(true).into(),
            tree::flag(spec, "podInfoOnMount").into(),
            tree::flag(spec, "storageCapacity").into(),
            tokens.into(),
            tree::flag(spec, "requiresRepublish").into(),
            if modes.is_empty() { "<none>".into() } else { modes.into() },
            age(object, now),
        ]
    }
}

fn tokens(spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = tree::list(spec, "tokenRequests");
    for (at, request) in all.iter().enumerate() {
        let item = path.index(at);
        let audience = tree::text(request, "audience");
        if all[..at].iter().any(|other| tree::text(other, "audience") == audience) {
            causes.duplicate(item.child("audience"), &Value::from(audience));
            continue;
        }
        let Some(seconds) = tree::number(request, "expirationSeconds") else { continue };
        let (field, shown) = (item.child("expirationSeconds"), &request["expirationSeconds"]);
        if seconds < SHORTEST_TOKEN_SECONDS {
            causes.invalid(field, shown, "may not specify a duration less than 10 minutes");
        }
        if seconds > LONGEST_TOKEN_SECONDS {
            causes.invalid(field, shown, "may not specify a duration larger than 2^32 seconds");
        }
    }
}
