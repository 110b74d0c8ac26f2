//! PriorityLevelConfiguration: how many requests of a level are served at a time, and what becomes
//! of the others.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::bootstrap::mandatory;
use crate::{
    cause::{Causes, Path},
    strategies::common::{between, condition_types, keep_metadata},
    strategy::{Context, Separation, Strategy},
    table::{Cells, age, name},
    tree,
};

const OLD_ANNOTATION: &str = "flowcontrol.k8s.io/preserve-zero-concurrency-shares";
const TYPES: [&str; 2] = ["Exempt", "Limited"];
const RESPONSES: [&str; 2] = ["Queue", "Reject"];
const MOST_QUEUES: i64 = 10_000_000;
const HASH_BITS: f64 = 60.0;

#[derive(Debug)]
pub struct PriorityLevel;

impl Strategy for PriorityLevel {
    fn separation(&self) -> Separation {
        Separation::StatusAndGeneration
    }

    fn default(&self, object: &mut Value) {
        let spec = tree::child(object, "spec");
        for (key, shares) in [("exempt", 0), ("limited", 30)] {
            if tree::has(spec, key) {
                let part = tree::child(spec, key);
                tree::default(part, "nominalConcurrencyShares", shares);
                tree::default(part, "lendablePercent", 0);
            }
        }
        let response = spec.get_mut("limited").and_then(|part| part.get_mut("limitResponse"));
        let Some(queuing) = response.and_then(|response| response.get_mut("queuing")) else {
            return;
        };
        for (key, number) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
            if queuing.is_object() && tree::number(queuing, key).unwrap_or(0) == 0 {
                tree::set(queuing, key, number);
            }
        }
    }

    fn prepare_for_update(&self, sub: &str, new: &mut Value, old: &Value, _cx: &Context<'_>) {
        if sub == "status" {
            keep_metadata(new, old);
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let metadata = &object["metadata"];
        if tree::has(&metadata["annotations"], OLD_ANNOTATION) {
            let path = Path::Root.child("metadata");
            let why = format!("annotation '{OLD_ANNOTATION}' is forbidden");
            causes.forbidden(path.child("annotations"), why);
        }
        let (own, spec, path) =
            (tree::text(metadata, "name"), &object["spec"], Path::Root.child("spec"));
        spec_rules(spec, own, path, causes);
        if let Some(mut wanted) = mandatory("PriorityLevelConfiguration", own) {
            let exempt = own == "exempt";
            if exempt {
                tree::keep(&mut wanted, spec, "exempt");
            }
            if !tree::same(spec, &wanted) {
                let but = if exempt { " except the 'spec.exempt' field" } else { "" };
                causes.invalid(
                    path,
                    spec,
                    format!("spec of '{own}'{but} must equal the fixed value"),
                );
            }
        }
        condition_types(&object["status"], Path::Root.child("status"), causes);
    }

    fn validate_update(&self, sub: &str, new: &Value, _old: &Value, causes: &mut Causes) {
        match sub {
            "status" => condition_types(&new["status"], Path::Root.child("status"), causes),
            _ => self.validate(new, causes),
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let spec = &object["spec"];
        let limited = &spec["limited"];
        let queuing = &limited["limitResponse"]["queuing"];
        let number = |of: &Value, key: &str| match &of[key] {
            Value::Null if of.is_null() => Value::from("<none>"),
            Value::Null => Value::from(0),
            number => number.clone(),
        };
        vec![
            name(object),
            tree::text(spec, "type").into(),
            number(limited, "nominalConcurrencyShares"),
            number(queuing, "queues"),
            number(queuing, "handSize"),
            number(queuing, "queueLengthLimit"),
            age(object, now),
        ]
    }
}

fn spec_rules(spec: &Value, own: &str, path: Path<'_>, causes: &mut Causes) {
    let sort = tree::text(spec, "type");
    if (own == "exempt") != (sort == "Exempt") {
        let why = "must be 'Exempt' if and only if `name` is 'exempt'";
        causes.invalid_text(path.child("type"), sort, why);
    }
    let (has_limited, has_exempt) = (tree::has(spec, "limited"), tree::has(spec, "exempt"));
    match sort {
        "Exempt" => {
            if has_limited {
                causes.forbidden(path.child("limited"), "");
            }
            shares(&spec["exempt"], path.child("exempt"), causes);
        }
        "Limited" => {
            if has_exempt {
                causes.forbidden(path.child("exempt"), "");
            }
            if has_limited {
                limited(&spec["limited"], path.child("limited"), causes);
            } else {
                causes.required(path.child("limited"), "");
            }
        }
        other => {
            if has_limited {
                causes.forbidden(path.child("limited"), "");
            }
            match other {
                "" => causes.required(path.child("type"), ""),
                _ => causes.not_supported(path.child("type"), &spec["type"], &TYPES),
            }
        }
    }
}

fn shares(part: &Value, path: Path<'_>, causes: &mut Causes) {
    let why = "must be a non-negative integer";
    between(part, "nominalConcurrencyShares", 0..=i64::MAX, why, path, causes);
    percent(part, path, causes);
}

fn percent(part: &Value, path: Path<'_>, causes: &mut Causes) {
    let why = "must be between 0 and 100, inclusive";
    between(part, "lendablePercent", 0..=100, why, path, causes);
}

fn limited(part: &Value, path: Path<'_>, causes: &mut Causes) {
    let why = "must be a non-negative integer";
    between(part, "nominalConcurrencyShares", 0..=i64::MAX, why, path, causes);
    response(&part["limitResponse"], path.child("limitResponse"), causes);
    percent(part, path, causes);
    let why = "if specified, must be a non-negative integer";
    between(part, "borrowingLimitPercent", 0..=i64::MAX, why, path, causes);
}

fn response(response: &Value, path: Path<'_>, causes: &mut Causes) {
    let (queuing, field) = (&response["queuing"], path.child("queuing"));
    match tree::text(response, "type") {
        "Reject" if !queuing.is_null() => causes.forbidden(field, ""),
        "Reject" => {}
        "Queue" if queuing.is_null() => causes.required(field, ""),
        "Queue" => queues(queuing, field, causes),
        other => {
            if !queuing.is_null() {
                causes.forbidden(field, "");
            }
            match other {
                "" => causes.required(path.child("type"), ""),
                _ => causes.not_supported(path.child("type"), &response["type"], &RESPONSES),
            }
        }
    }
}

fn queues(queuing: &Value, path: Path<'_>, causes: &mut Causes) {
    let number = |key: &str| tree::number(queuing, key).unwrap_or(0);
    let (queues, hand) = (number("queues"), number("handSize"));
    for key in ["queueLengthLimit", "queues", "handSize"] {
        if number(key) <= 0 {
            causes.invalid(path.child(key), &number(key).into(), "must be positive");
        }
    }
    if queues > MOST_QUEUES {
        let why = format!("must not be greater than {MOST_QUEUES}");
        causes.invalid(path.child("queues"), &queues.into(), why);
    }
    if hand > queues {
        let why = format!("should not be greater than queues ({queues})");
        causes.invalid(path.child("handSize"), &hand.into(), why);
    } else if hand > 0 {
        // Bits of a hash that choose a hand: one card after the other.
        let bits: f64 = (0..hand.min(64)).map(|dealt| ((queues - dealt) as f64).log2()).sum();
        if bits.ceil() > HASH_BITS {
            let why = format!(
                "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
            );
            causes.invalid(path.child("handSize"), &hand.into(), why);
        }
    }
}
