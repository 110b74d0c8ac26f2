//! PodTopologyLabels: a pod carries the zone and the region of its node, so that it can read in its
//! own labels where it runs. They come with the binding, or with a pod that names its node itself.

use serde_json::{Map, Value};
use windlass_sdk_meta::GroupResource;

use super::{AdmissionRequest, Operation};
use crate::Lookup;

const LABELS: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

pub(super) fn mutate(request: &mut AdmissionRequest<'_>, lookup: &dyn Lookup) {
    if request.operation != Operation::Create || !request.is("", "pods") {
        return;
    }
    let sub = request.subresource;
    let Some(object) = request.object.as_deref_mut() else { return };
    let node = match sub {
        "" => &object["spec"]["nodeName"],
        "binding" if object["target"]["kind"] == "Node" => &object["target"]["name"],
        _ => return,
    };
    let name = node.as_str().filter(|name| !name.is_empty());
    let node = name.and_then(|name| lookup.get(&GroupResource::new("", "nodes"), "", name));
    let Some(node) = node.map(|node| node.tree()) else { return };
    let said = LABELS.iter().filter_map(|key| {
        node["metadata"]["labels"].get(*key).map(|value| ((*key).to_owned(), value.clone()))
    });
    let said: Map<String, Value> = said.collect();
    if said.is_empty() {
        return;
    }
    let labels = &mut object["metadata"]["labels"];
    match labels {
        Value::Object(labels) => labels.extend(said),
        _ => *labels = Value::Object(said),
    }
}
