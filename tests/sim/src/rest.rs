//! What must hold when nothing fails any more and the cluster has come to rest: it is as its user
//! wants it, nothing is left over, and everything that kubectl shows agrees with everything else.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{
    history::Objects,
    rules::{controller, is_active, is_over, text},
    runtime::{ONCE, Running},
    user::{Deployed, Wanted, reference},
};

/// Everything that is judged.
pub struct Rest<'a> {
    pub objects: &'a Objects,
    pub wanted: &'a Wanted,
    /// What runs, by node.
    pub running: BTreeMap<&'a str, Vec<Running>>,
}

/// What isn't as it should be; empty at rest.
pub fn problems(rest: &Rest<'_>) -> Vec<String> {
    let checks = [
        namespaces,
        deployments,
        bare_pods,
        nothing_else,
        owners_exist,
        services,
        claims,
        runtimes,
        addresses,
    ];
    checks.iter().flat_map(|check| check(rest)).collect()
}

/// The namespaces that every cluster has.
const OWN_NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

fn namespaces(rest: &Rest<'_>) -> Vec<String> {
    let own = OWN_NAMESPACES.into_iter().map(str::to_owned);
    let wanted: BTreeSet<String> = rest.wanted.namespaces.iter().cloned().chain(own).collect();
    let found: BTreeSet<String> = rest.objects.of("core/namespaces", "").map(name).collect();
    let mut problems = compare("namespaces", &wanted, &found);
    for namespace in &found {
        let account = format!("{namespace}/default");
        if rest.objects.get("core/serviceaccounts", &account).is_none() {
            problems.push(format!("{namespace} has no default ServiceAccount"));
        }
    }
    // Keys are /GROUP/RESOURCE/NAMESPACE/NAME.
    let of = |key: &str| key.split('/').nth(3).unwrap_or_default().to_owned();
    let objects = rest.objects.all().filter(|(key, _)| !key.starts_with("/claims/"));
    let lost = objects.filter(|(key, _)| !of(key).is_empty() && !found.contains(&of(key)));
    problems.extend(lost.map(|(key, _)| format!("{key} is in no namespace")));
    problems
}

fn deployments(rest: &Rest<'_>) -> Vec<String> {
    let wanted: BTreeSet<String> = rest.wanted.deployments.keys().cloned().collect();
    let found: BTreeSet<String> = rest.objects.of("apps/deployments", "").map(name).collect();
    let mut problems = compare("deployments", &wanted, &found);
    for (name, wanted) in &rest.wanted.deployments {
        let Some(found) = rest.objects.get("apps/deployments", name) else { continue };
        let of = deployment(rest, found, wanted);
        problems.extend(of.into_iter().map(|problem| format!("deployment {name}: {problem}")));
    }
    problems
}

fn deployment(rest: &Rest<'_>, found: &Value, wanted: &Deployed) -> Vec<String> {
    let mut problems = Vec::new();
    let (spec, status) = (&found["spec"], &found["status"]);
    expect(&mut problems, "spec.replicas", &spec["replicas"], wanted.replicas);
    if image(&spec["template"]) != reference(&wanted.image) {
        problems.push(format!("the image is {}", image(&spec["template"])));
    }
    counts(&mut problems, found, wanted.replicas);
    expect(&mut problems, "updatedReplicas", &status["updatedReplicas"], wanted.replicas);
    expect(&mut problems, "unavailableReplicas", &status["unavailableReplicas"], 0);
    for (sort, reason) in
        [("Available", "MinimumReplicasAvailable"), ("Progressing", "NewReplicaSetAvailable")]
    {
        if condition(found, sort) != ("True", reason) {
            problems.push(format!("{sort} is {:?}", condition(found, sort)));
        }
    }
    let (namespace, uid) = (text(&found["metadata"]["namespace"]), text(&found["metadata"]["uid"]));
    let sets = rest.objects.of("apps/replicasets", namespace);
    let sets: Vec<&Value> = sets.filter(|set| controller(set) == Some(uid)).collect();
    let (newest, old): (Vec<&Value>, Vec<&Value>) =
        sets.iter().partition(|set| image(&set["spec"]["template"]) == reference(&wanted.image));
    let [newest] = newest[..] else {
        problems.push(format!("{} ReplicaSets have its template", newest.len()));
        return problems;
    };
    replica_set(&mut problems, rest, newest, wanted);
    for set in old {
        expect(&mut problems, "replicas of an old set", &set["spec"]["replicas"], 0);
        counts(&mut problems, set, 0);
    }
    problems
}

/// What a Deployment and a ReplicaSet both tell of their pods.
fn counts(problems: &mut Vec<String>, found: &Value, replicas: i64) {
    let status = &found["status"];
    for key in ["replicas", "readyReplicas", "availableReplicas"] {
        expect(problems, key, &status[key], replicas);
    }
    let generation = found["metadata"]["generation"].as_i64().unwrap_or_default();
    expect(problems, "observedGeneration", &status["observedGeneration"], generation);
}

fn replica_set(problems: &mut Vec<String>, rest: &Rest<'_>, set: &Value, wanted: &Deployed) {
    let metadata = &set["metadata"];
    expect(problems, "replicas of the newest set", &set["spec"]["replicas"], wanted.replicas);
    counts(problems, set, wanted.replicas);
    expect(
        problems,
        "fullyLabeledReplicas",
        &set["status"]["fullyLabeledReplicas"],
        wanted.replicas,
    );
    let uid = text(&metadata["uid"]);
    let pods = rest.objects.of("core/pods", text(&metadata["namespace"]));
    let pods: Vec<&Value> = pods.filter(|pod| controller(pod) == Some(uid)).collect();
    if pods.len() as i64 != wanted.replicas {
        problems.push(format!("{} has {} pods", name(set), pods.len()));
    }
    for pod in pods {
        if image(pod) != reference(&wanted.image) {
            problems.push(format!("pod {} has {}", name(pod), image(pod)));
        }
        if !is_active(pod) || condition(pod, "Ready").0 != "True" {
            problems.push(format!("pod {} isn't ready: {}", name(pod), pod["status"]));
        }
        problems.extend(tells_no_lies(pod));
    }
}

/// A pod that runs says so everywhere.
fn tells_no_lies(pod: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let status = &pod["status"];
    let statuses = status["containerStatuses"].as_array().map_or(&[][..], Vec::as_slice);
    let containers = pod["spec"]["containers"].as_array().map_or(0, Vec::len);
    for sort in ["PodScheduled", "Initialized", "ContainersReady", "PodReadyToStartContainers"] {
        if condition(pod, sort).0 != "True" {
            problems.push(format!("pod {}: {sort} is {:?}", name(pod), condition(pod, sort)));
        }
    }
    let runs = |container: &Value| {
        container["ready"] == true
            && container["started"] == true
            && container["state"]["running"].is_object()
            && text(&container["containerID"]).starts_with("wasm://")
    };
    if status["phase"] != "Running" || statuses.len() != containers || !statuses.iter().all(runs) {
        problems.push(format!("pod {} is ready, but {status}", name(pod)));
    }
    problems
}

fn bare_pods(rest: &Rest<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, image) in &rest.wanted.pods {
        let Some(pod) = rest.objects.get("core/pods", name) else {
            problems.push(format!("pod {name} is gone"));
            continue;
        };
        let phase = if image == ONCE { "Succeeded" } else { "Running" };
        if pod["status"]["phase"] != phase {
            problems.push(format!("pod {name} is {}", pod["status"]));
        }
    }
    problems
}

/// No pod and no ReplicaSet but those of what is wanted.
fn nothing_else(rest: &Rest<'_>) -> Vec<String> {
    let uids = |resource: &str| -> BTreeSet<&str> {
        rest.objects.of(resource, "").map(|object| text(&object["metadata"]["uid"])).collect()
    };
    let (deployments, sets) = (uids("apps/deployments"), uids("apps/replicasets"));
    let mut problems = Vec::new();
    for set in rest.objects.of("apps/replicasets", "") {
        if !controller(set).is_some_and(|owner| deployments.contains(owner)) {
            problems.push(format!("ReplicaSet {} is nobody's", name(set)));
        }
    }
    for pod in rest.objects.of("core/pods", "") {
        let is_owned = controller(pod).is_some_and(|owner| sets.contains(owner));
        if !is_owned && !rest.wanted.pods.contains_key(&name(pod)) {
            problems.push(format!("pod {} is nobody's", name(pod)));
        }
    }
    let going = rest.objects.all().filter(|(_, object)| {
        let metadata = &object["metadata"];
        !metadata["deletionTimestamp"].is_null()
    });
    problems.extend(going.map(|(key, _)| format!("{key} is still being deleted")));
    problems
}

fn owners_exist(rest: &Rest<'_>) -> Vec<String> {
    let uids: BTreeSet<&str> =
        rest.objects.all().map(|(_, object)| text(&object["metadata"]["uid"])).collect();
    let mut problems = Vec::new();
    for (key, object) in rest.objects.all() {
        let owners = object["metadata"]["ownerReferences"].as_array();
        for owner in owners.into_iter().flatten() {
            if !uids.contains(text(&owner["uid"])) {
                problems.push(format!("{key} is owned by {owner}, which is gone"));
            }
        }
    }
    problems
}

/// Each Service's slices hold each of its ready pods once, and nothing else.
fn services(rest: &Rest<'_>) -> Vec<String> {
    let own = std::iter::once("default/kubernetes".to_owned());
    let wanted: BTreeSet<String> = rest.wanted.services.iter().cloned().chain(own).collect();
    let found: BTreeSet<String> = rest.objects.of("core/services", "").map(name).collect();
    let mut problems = compare("services", &wanted, &found);
    let mut listed: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for slice in rest.objects.of("discovery.k8s.io/endpointslices", "") {
        let metadata = &slice["metadata"];
        let service = text(&metadata["labels"]["kubernetes.io/service-name"]);
        let service = format!("{}/{service}", text(&metadata["namespace"]));
        if !found.contains(&service) {
            problems.push(format!("slice {} is of {service}, which is gone", name(slice)));
        }
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            if endpoint["conditions"]["ready"] != true {
                problems.push(format!("slice {} has {endpoint}", name(slice)));
            }
            let uid = text(&endpoint["targetRef"]["uid"]).to_owned();
            let address = text(&endpoint["addresses"][0]).to_owned();
            listed.entry(service.clone()).or_default().push((uid, address));
        }
    }
    for service in &rest.wanted.services {
        let Some(found) = rest.objects.get("core/services", service) else { continue };
        let mut listed = listed.remove(service).unwrap_or_default();
        listed.sort();
        let ready = ready_pods(rest, found);
        if listed != ready {
            problems.push(format!("service {service} has {listed:?}, its ready pods {ready:?}"));
        }
    }
    problems
}

/// Uid and address of the pods that a Service selects and that are ready, sorted.
fn ready_pods(rest: &Rest<'_>, service: &Value) -> Vec<(String, String)> {
    let selector = service["spec"]["selector"].as_object();
    let selects = |pod: &Value| {
        let labels = &pod["metadata"]["labels"];
        selector.into_iter().flatten().all(|(key, value)| labels[key] == *value)
    };
    let pods = rest.objects.of("core/pods", text(&service["metadata"]["namespace"]));
    let ready = pods.filter(|pod| selects(pod) && condition(pod, "Ready").0 == "True");
    let mut ready: Vec<(String, String)> = ready
        .map(|pod| {
            (text(&pod["metadata"]["uid"]).to_owned(), text(&pod["status"]["podIP"]).to_owned())
        })
        .collect();
    ready.sort();
    ready
}

/// Names that are unique in the cluster are held by what exists.
fn claims(rest: &Rest<'_>) -> Vec<String> {
    let prefix = "/claims/clusterip/";
    let held = rest.objects.all().filter_map(|(key, _)| key.strip_prefix(prefix));
    let held: BTreeSet<String> = held.map(str::to_owned).collect();
    let services = rest.objects.of("core/services", "");
    let used = services.map(|service| text(&service["spec"]["clusterIP"]).to_owned()).collect();
    compare("claimed service addresses", &used, &held)
}

/// Each node runs the pods that are bound to it and haven't ended, at the address they tell.
fn runtimes(rest: &Rest<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for (node, running) in &rest.running {
        let pods = rest.objects.of("core/pods", "");
        let bound = pods.filter(|pod| pod["spec"]["nodeName"] == *node && !is_over(pod));
        let wanted: BTreeSet<Running> = bound
            .map(|pod| Running {
                uid: text(&pod["metadata"]["uid"]).to_owned(),
                name: name(pod),
                address: text(&pod["status"]["podIP"]).to_owned(),
                containers: vec!["c".to_owned()],
            })
            .collect();
        let running: BTreeSet<Running> = running.iter().cloned().collect();
        let lacks = wanted.difference(&running);
        problems.extend(lacks.map(|pod| format!("{node} doesn't run {pod:?}")));
        let extra = running.difference(&wanted);
        problems.extend(extra.map(|pod| format!("{node} runs {pod:?}, which isn't wanted")));
    }
    problems
}

fn addresses(rest: &Rest<'_>) -> Vec<String> {
    let mut known: BTreeMap<&str, String> = BTreeMap::new();
    let mut problems = Vec::new();
    for pod in rest.objects.of("core/pods", "").filter(|pod| is_active(pod)) {
        let address = text(&pod["status"]["podIP"]);
        if let Some(other) = known.insert(address, name(pod)) {
            problems.push(format!("{} and {other} are both at {address:?}", name(pod)));
        }
    }
    problems
}

/// `namespace/name`, or the name of what is in no namespace.
fn name(object: &Value) -> String {
    let metadata = &object["metadata"];
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{}", text(&metadata["name"])),
        None => text(&metadata["name"]).to_owned(),
    }
}

/// The image of the only container of a pod, or of a pod template.
fn image(of: &Value) -> &str {
    text(&of["spec"]["containers"][0]["image"])
}

/// Status and reason of a condition.
fn condition<'a>(object: &'a Value, sort: &str) -> (&'a str, &'a str) {
    let conditions = object["status"]["conditions"].as_array();
    let found = conditions.into_iter().flatten().find(|condition| condition["type"] == sort);
    found.map_or(("", ""), |found| (text(&found["status"]), text(&found["reason"])))
}

/// A number that is absent is 0.
fn expect(problems: &mut Vec<String>, what: &str, found: &Value, wanted: i64) {
    if found.as_i64().unwrap_or_default() != wanted {
        problems.push(format!("{what} is {found}, should be {wanted}"));
    }
}

fn compare(what: &str, wanted: &BTreeSet<String>, found: &BTreeSet<String>) -> Vec<String> {
    match wanted == found {
        true => Vec::new(),
        false => vec![format!("{what} are {found:?}, should be {wanted:?}")],
    }
}
