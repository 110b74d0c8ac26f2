//! Discovery documents: compared entry by entry, so that a kind that is missing is one difference.

use serde_json::{Map, Value};
use windlass_apiserver_schema::Schema;

use crate::{compare::Answer, session::Step};

/// The row of the report.
pub const KIND: &str = "Discovery";

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// Every discovery document of upstream's.
pub fn steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for path in ["/api", "/apis"] {
        for (name, accept) in
            [("plain", crate::session::JSON), ("v2", AGGREGATED), ("v2beta1", BETA)]
        {
            steps.push(Step::new(format!("{path} {name}"), "GET", path).accept(accept));
        }
    }
    let mut paths = vec!["/version".to_owned(), "/api/v1".to_owned(), "/apis/bogus".to_owned()];
    for facts in Schema::builtin().resources().iter().filter(|facts| !facts.group.is_empty()) {
        paths.push(format!("/apis/{}", facts.group));
        paths.push(format!("/apis/{}/{}", facts.group, facts.version));
    }
    paths.retain(|path| !path.contains("metrics.k8s.io"));
    paths.sort();
    paths.dedup();
    steps.extend(paths.into_iter().map(|path| Step::new(path.clone(), "GET", path)));
    steps
}

/// One comparison for each entry of a document's list, and one for the rest of it.
pub fn split(documents: &[(Step, Answer, Answer)]) -> Vec<(Step, Answer, Answer)> {
    let mut all = Vec::new();
    for (step, ours, theirs) in documents {
        let [(ours, our_entries), (theirs, their_entries)] = [take(&ours.0), take(&theirs.0)];
        all.push((step.clone(), ours, theirs));
        let more = our_entries.keys().filter(|name| !their_entries.contains_key(*name));
        for name in their_entries.keys().chain(more) {
            let entry = |of: &Map<String, Value>| {
                let body = of.get(name).cloned().unwrap_or_default();
                Answer(serde_json::json!({"body": body}))
            };
            let step = Step { label: format!("{} {name}", step.label), ..step.clone() };
            all.push((step, entry(&our_entries), entry(&their_entries)));
        }
    }
    all
}

/// A document without its list, and the list's entries by their names.
fn take(answer: &Value) -> (Answer, Map<String, Value>) {
    let mut rest = answer.clone();
    let mut entries = Map::new();
    for key in ["resources", "groups", "items"] {
        let list = rest["body"].as_object_mut().and_then(|body| body.remove(key));
        for entry in list.as_ref().and_then(Value::as_array).into_iter().flatten() {
            entries_of(entry, &mut entries);
        }
    }
    (Answer(rest), entries)
}

/// An aggregated group is taken apart into its resources.
fn entries_of(entry: &Value, entries: &mut Map<String, Value>) {
    let name = entry["name"].as_str().or(entry["metadata"]["name"].as_str()).unwrap_or_default();
    let versions = entry["versions"].as_array().into_iter().flatten();
    let mut whole = entry.clone();
    for (at, version) in versions.enumerate() {
        for resource in version["resources"].as_array().into_iter().flatten() {
            let at = version["version"].as_str().unwrap_or_default();
            let plural = resource["resource"].as_str().unwrap_or_default();
            entries.insert(format!("{name}/{at}/{plural}"), resource.clone());
        }
        if let Some(version) = whole["versions"][at].as_object_mut() {
            version.remove("resources");
        }
    }
    entries.insert(name.to_owned(), whole);
}
