//! What an object counts against a ResourceQuota: the same sums in the API server, which charges
//! writes, and in the controller, which counts anew. Pure; works on JSON.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{GroupResource, Quantity, Requirement, Timestamp, parse_time};

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Counts that quotas have known by a short name since before `count/` was there.
const COUNTED: [&str; 7] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
/// Resources of containers that quotas bound, also without `requests.` before them.
const COMPUTE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const HUGE_PAGES: &str = "hugepages-";
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";

/// The amounts of a list such as `spec.hard`; what can't be read is left out.
pub fn amounts(list: &Value) -> Amounts {
    let entries = list.as_object().into_iter().flatten();
    entries
        .filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?)))
        .collect()
}

/// Amounts as a list in JSON.
pub fn to_json(amounts: &Amounts) -> Value {
    amounts.iter().map(|(name, amount)| (name.clone(), Value::from(amount.to_string()))).collect()
}

/// The resource whose objects a name of a quota is about.
pub fn resource_of(name: &str) -> GroupResource {
    let counted = name.strip_prefix("count/").unwrap_or(name);
    if let Some((plural, group)) = counted.split_once('.').filter(|_| counted != name) {
        return GroupResource::new(group, plural);
    }
    let plural = match counted {
        known if COUNTED.contains(&known) || counted != name => known,
        other if other.starts_with("services.") => "services",
        other if other == "requests.storage" || other.contains(BY_CLASS) => {
            "persistentvolumeclaims"
        }
        _ => "pods",
    };
    GroupResource::new("", plural)
}

/// What an object of a resource uses.
pub fn usage(resource: &GroupResource, object: &Value, now: Timestamp) -> Amounts {
    let one = Quantity::from_units(1);
    let name = match resource.group.as_str() {
        "" => resource.resource.clone(),
        group => format!("{}.{group}", resource.resource),
    };
    let mut used = Amounts::from([(format!("count/{name}"), one)]);
    match name.as_str() {
        "pods" if is_over(object, now) => {}
        "pods" => used.extend(pod_usage(&object["spec"])),
        "services" => used.extend(service_usage(&object["spec"])),
        "persistentvolumeclaims" => used.extend(claim_usage(object)),
        name if COUNTED.contains(&name) => {
            used.insert(name.to_owned(), one);
        }
        _ => {}
    }
    used
}

/// What a pod asks for (`requests`) or may take (`limits`): the sum of its containers, but for what
/// it says of itself.
pub fn pod_total(spec: &Value, of: &str) -> Amounts {
    let mut total = containers_total(spec, of);
    total.extend(amounts(&spec["resources"][of]));
    total
}

/// The sum over a pod's containers. Those that run to their end before the others count only as far
/// as they need more than those.
pub fn containers_total(spec: &Value, of: &str) -> Amounts {
    let mut total = Amounts::new();
    for container in spec["containers"].as_array().into_iter().flatten() {
        add(&mut total, &amounts(&container["resources"][of]));
    }
    let (mut beside, mut peak) = (Amounts::new(), Amounts::new());
    for container in spec["initContainers"].as_array().into_iter().flatten() {
        let own = amounts(&container["resources"][of]);
        if container["restartPolicy"] == "Always" {
            add(&mut total, &own);
            add(&mut beside, &own);
            raise(&mut peak, &beside);
        } else {
            let mut sum = own;
            add(&mut sum, &beside);
            raise(&mut peak, &sum);
        }
    }
    raise(&mut total, &peak);
    total
}

/// A quota is about an object only if all its scopes are.
pub fn in_scopes(quota: &Value, resource: &GroupResource, object: &Value) -> bool {
    let spec = &quota["spec"];
    let plain = spec["scopes"].as_array().into_iter().flatten();
    let mut plain = plain.filter_map(Value::as_str);
    let terms = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    let fits = |scope: &str, term: &Value| scope_fits(scope, term, resource, object);
    plain.all(|scope| fits(scope, &Value::Null))
        && terms.into_iter().all(|term| fits(term["scopeName"].as_str().unwrap_or_default(), term))
}

/// Whether a pod ends by itself: the scopes Terminating and NotTerminating.
pub fn is_terminating(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"].as_i64().is_some_and(|seconds| seconds >= 0)
}

pub fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |known| known.saturating_add(*amount));
        to.insert(name.clone(), sum);
    }
}

/// To the larger of both, name by name.
fn raise(to: &mut Amounts, other: &Amounts) {
    for (name, amount) in other {
        if to.get(name).is_none_or(|known| known < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

fn pod_usage(spec: &Value) -> Amounts {
    let mut requests = pod_total(spec, "requests");
    let mut limits = pod_total(spec, "limits");
    let overhead = amounts(&spec["overhead"]);
    add(&mut requests, &overhead);
    for (name, amount) in &overhead {
        if let Some(limit) = limits.get_mut(name) {
            *limit = limit.saturating_add(*amount);
        }
    }
    let mut used = Amounts::from([("pods".to_owned(), Quantity::from_units(1))]);
    for (name, amount) in requests {
        let bare = COMPUTE.contains(&name.as_str()) || name.starts_with(HUGE_PAGES);
        if bare || name.contains('/') {
            used.insert(format!("requests.{name}"), amount);
        }
        if bare {
            used.insert(name, amount);
        }
    }
    for name in COMPUTE {
        if let Some(amount) = limits.get(name) {
            used.insert(format!("limits.{name}"), *amount);
        }
    }
    used
}

fn service_usage(spec: &Value) -> Amounts {
    let ports = spec["ports"].as_array().map_or(&[][..], Vec::as_slice);
    let sort = spec["type"].as_str().unwrap_or_default();
    let named = || ports.iter().filter(|port| port["nodePort"].as_i64().unwrap_or(0) != 0).count();
    let node_ports = match sort {
        "NodePort" => ports.len(),
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] == false => named(),
        "LoadBalancer" => ports.len(),
        _ => 0,
    };
    let count = |number: usize| Quantity::from_units(i64::try_from(number).unwrap_or(i64::MAX));
    Amounts::from([
        ("services".to_owned(), count(1)),
        ("services.nodeports".to_owned(), count(node_ports)),
        ("services.loadbalancers".to_owned(), count(usize::from(sort == "LoadBalancer"))),
    ])
}

fn claim_usage(claim: &Value) -> Amounts {
    let one = Quantity::from_units(1);
    let mut used = Amounts::from([("persistentvolumeclaims".to_owned(), one)]);
    let storage = |list: &Value| list["storage"].as_str()?.parse::<Quantity>().ok();
    let asked = storage(&claim["spec"]["resources"]["requests"]);
    let given = storage(&claim["status"]["allocatedResources"]);
    let amount = asked.map(|asked| given.map_or(asked, |given| asked.max(given)));
    if let Some(amount) = amount {
        used.insert("requests.storage".to_owned(), amount);
    }
    if let Some(class) = claim["spec"]["storageClassName"].as_str().filter(|c| !c.is_empty()) {
        used.insert(format!("{class}{BY_CLASS}persistentvolumeclaims"), one);
        if let Some(amount) = amount {
            used.insert(format!("{class}{BY_CLASS}requests.storage"), amount);
        }
    }
    used
}

/// A pod that has ended, or that nobody waits for any more.
fn is_over(pod: &Value, now: Timestamp) -> bool {
    let phase = pod["status"]["phase"].as_str().unwrap_or_default();
    let metadata = &pod["metadata"];
    let deleted = metadata["deletionTimestamp"].as_str().and_then(parse_time);
    let grace = metadata["deletionGracePeriodSeconds"].as_i64();
    let late = deleted
        .zip(grace)
        .is_some_and(|(at, grace)| now.as_second() > at.as_second().saturating_add(grace));
    late || ["Succeeded", "Failed"].contains(&phase)
}

fn scope_fits(scope: &str, term: &Value, resource: &GroupResource, object: &Value) -> bool {
    if *resource != GroupResource::new("", "pods") {
        return false;
    }
    match scope {
        "Terminating" => is_terminating(object),
        "NotTerminating" => !is_terminating(object),
        "BestEffort" => is_best_effort(object),
        "NotBestEffort" => !is_best_effort(object),
        "CrossNamespacePodAffinity" => looks_elsewhere(&object["spec"]["affinity"]),
        "PriorityClass" => {
            let class = object["spec"]["priorityClassName"].as_str().filter(|c| !c.is_empty());
            let operator = term["operator"].as_str().unwrap_or("Exists");
            let values = term["values"].as_array().into_iter().flatten();
            let values = values.filter_map(|value| value.as_str().map(str::to_owned)).collect();
            Requirement::new(scope, operator, values)
                .is_ok_and(|requirement| requirement.matches(|_| class))
        }
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    let lists = ["containers", "initContainers"].map(|key| pod["spec"][key].as_array());
    let mut containers = lists.into_iter().flatten().flatten();
    let asks = |of: &Value| {
        ["requests", "limits"].iter().any(|key| {
            amounts(&of["resources"][*key]).iter().any(|(name, amount)| {
                ["cpu", "memory"].contains(&name.as_str()) && *amount > Quantity::ZERO
            })
        })
    };
    !containers.any(asks) && !asks(&pod["spec"])
}

fn looks_elsewhere(affinity: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|sort| {
        let of = &affinity[*sort];
        let required = of["requiredDuringSchedulingIgnoredDuringExecution"].as_array();
        let preferred = of["preferredDuringSchedulingIgnoredDuringExecution"].as_array();
        let terms = required.into_iter().flatten();
        let weighted = preferred.into_iter().flatten().map(|term| &term["podAffinityTerm"]);
        terms.chain(weighted).any(|term| {
            term["namespaces"].as_array().is_some_and(|list| !list.is_empty())
                || term["namespaceSelector"].is_object()
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(resource: &str, object: &Value) -> String {
        let now = parse_time("2026-11-23T17:00:00Z").expect("a time");
        let used = usage(&GroupResource::new("", resource), object, now);
        used.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_objects_use() {
        let pod = json!({"spec": {
            "containers": [
                {"resources": {"requests": {"cpu": "100m", "memory": "1Gi", "x.io/gpu": "2"},
                    "limits": {"cpu": "1"}}},
                {"resources": {"requests": {"cpu": "200m"}}}],
            "initContainers": [
                {"restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                {"resources": {"requests": {"cpu": "500m"}}}],
            "overhead": {"cpu": "10m"}}});
        assert_eq!(
            shown("pods", &pod),
            "count/pods=1 cpu=560m limits.cpu=1010m memory=1Gi pods=1 requests.cpu=560m requests.memory=1Gi requests.x.io/gpu=2"
        );
        assert_eq!(shown("pods", &json!({"status": {"phase": "Failed"}})), "count/pods=1");
        assert_eq!(
            shown("services", &json!({"spec": {"type": "LoadBalancer", "ports": [{}, {}]}})),
            "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2"
        );
        let claim = json!({"spec": {"storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}}}});
        assert_eq!(
            shown("persistentvolumeclaims", &claim),
            "count/persistentvolumeclaims=1 fast.storageclass.storage.k8s.io/persistentvolumeclaims=1 fast.storageclass.storage.k8s.io/requests.storage=1Gi persistentvolumeclaims=1 requests.storage=1Gi"
        );
        assert_eq!(shown("secrets", &json!({})), "count/secrets=1 secrets=1");
    }

    #[test]
    fn what_quotas_are_about() {
        for (name, resource) in [
            ("cpu", "pods"),
            ("requests.example.com/gpu", "pods"),
            ("count/deployments.apps", "deployments.apps"),
            ("count/pods", "pods"),
            ("services.nodeports", "services"),
            ("requests.storage", "persistentvolumeclaims"),
            ("a.storageclass.storage.k8s.io/requests.storage", "persistentvolumeclaims"),
            ("secrets", "secrets"),
        ] {
            assert_eq!(resource_of(name).to_string(), resource, "{name}");
        }
        let pods = GroupResource::new("", "pods");
        let scoped = |scope: &str| json!({"spec": {"scopes": [scope]}});
        let plain = json!({"spec": {"containers": [{}]}});
        let mut busy = plain.clone();
        busy["spec"]["activeDeadlineSeconds"] = json!(5);
        busy["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
        for (scope, of_plain, of_busy) in [
            ("BestEffort", true, false),
            ("NotBestEffort", false, true),
            ("Terminating", false, true),
            ("NotTerminating", true, false),
            ("PriorityClass", false, false),
        ] {
            assert_eq!(in_scopes(&scoped(scope), &pods, &plain), of_plain, "{scope}");
            assert_eq!(in_scopes(&scoped(scope), &pods, &busy), of_busy, "{scope}");
        }
        let by_class = json!({"spec": {"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}});
        busy["spec"]["priorityClassName"] = json!("high");
        assert!(in_scopes(&by_class, &pods, &busy) && !in_scopes(&by_class, &pods, &plain));
    }
}
