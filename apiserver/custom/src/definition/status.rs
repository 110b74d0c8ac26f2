//! What becomes of a definition once it is there: its names are accepted unless another definition of
//! its group has them, and then it is served.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use windlass_apiserver_registry::{conditions as set_condition, tree};
use windlass_sdk_meta::Timestamp;

/// The state of a condition of a definition.
pub fn condition<'v>(definition: &'v Value, kind: &str) -> &'v str {
    let all = tree::list(&definition["status"], "conditions").iter();
    let own = all.clone().find(|one| tree::text(one, "type") == kind);
    own.map_or("", |one| tree::text(one, "status"))
}

pub fn established(definition: &Value) -> bool {
    condition(definition, "Established") == "True"
}

/// The status with conditions set; those of type Terminating come from a deletion.
pub fn conditions(definition: &Value, set: &[Value], now: Timestamp) -> Value {
    let mut status = definition["status"].clone();
    for condition in set {
        set_condition::set(&mut status, condition.clone(), now);
    }
    status
}

/// The status that a definition should have, beside its peers; None where it has it.
pub fn names_status(definition: &Value, peers: &[Value], now: Timestamp) -> Option<Value> {
    let spec = &definition["spec"];
    let group = tree::text(spec, "group");
    let (mut resources, mut kinds) = (BTreeSet::new(), BTreeSet::new());
    let others = peers.iter().filter(|peer| {
        tree::text(&peer["spec"], "group") == group
            && peer["metadata"]["name"] != definition["metadata"]["name"]
    });
    for peer in others {
        let names = &peer["status"]["acceptedNames"];
        resources.extend(["plural", "singular"].map(|key| tree::text(names, key)));
        resources.extend(tree::list(names, "shortNames").iter().filter_map(Value::as_str));
        kinds.extend(["kind", "listKind"].map(|key| tree::text(names, key)));
    }
    let (wanted, before) = (&spec["names"], &definition["status"]["acceptedNames"]);
    let mut accepted = before.clone();
    let mut conflict: Option<(&str, String)> = None;
    let in_use = |name: &str| format!("{name:?} is already in use");
    for (key, taken, reason) in [
        ("plural", &resources, "PluralConflict"),
        ("singular", &resources, "SingularConflict"),
        ("shortNames", &resources, "ShortNamesConflict"),
        ("kind", &kinds, "KindConflict"),
        ("listKind", &kinds, "ListKindConflict"),
    ] {
        let names: Vec<&str> = match &wanted[key] {
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        let ours = tree::list(before, key);
        let held = |name: &str| before[key] == name || ours.iter().any(|own| own == name);
        let lost: Vec<String> = names
            .iter()
            .filter(|name| taken.contains(**name) && !held(name))
            .map(|name| in_use(name))
            .collect();
        match lost.as_slice() {
            [] => tree::keep(&mut accepted, wanted, key),
            [one] => conflict = Some((reason, one.clone())),
            many => conflict = Some((reason, format!("[{}]", many.join(", ")))),
        }
    }
    tree::keep(&mut accepted, wanted, "categories");
    let mut set = vec![match &conflict {
        None => json!({"type": "NamesAccepted", "status": "True", "reason": "NoConflicts",
            "message": "no conflicts found"}),
        Some((reason, message)) => json!({"type": "NamesAccepted", "status": "False",
            "reason": reason, "message": message}),
    }];
    if !established(definition) {
        set.push(match conflict {
            None => json!({"type": "Established", "status": "True",
                "reason": "InitialNamesAccepted",
                "message": "the initial names have been accepted"}),
            Some(_) => json!({"type": "Established", "status": "False", "reason": "NotAccepted",
                "message": "not all names are accepted"}),
        });
    }
    set.extend(approval(definition));
    let mut status = conditions(definition, &set, now);
    tree::set(&mut status, "acceptedNames", accepted);
    (!tree::same(&status, &definition["status"])).then_some(status)
}

/// Groups of the Kubernetes project say whether they may be there.
fn approval(definition: &Value) -> Option<Value> {
    let (state, reason) = super::spec::approval_of(definition)?;
    let (status, name) = match state {
        super::spec::Approval::Approved => ("True", "ApprovedAnnotation"),
        super::spec::Approval::Bypassed => ("False", "UnapprovedAnnotation"),
        super::spec::Approval::Missing => ("False", "MissingAnnotation"),
        super::spec::Approval::Invalid => ("False", "InvalidAnnotation"),
    };
    Some(json!({"type": "KubernetesAPIApprovalPolicyConformant", "status": status, "reason": name,
        "message": reason}))
}
