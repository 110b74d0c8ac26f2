//! Which hosts the containers of a pod may call: annotations of the pod and of its namespace, both
//! of which must allow a host. The namespace is read anew at each start, so that what its owner
//! forbade before a pod was made holds for that pod.

use windlass_runtime_api::{AllowedHosts, Reach, RuntimeError};
use windlass_sdk_types::{Kind, Namespace, Pod};

use crate::{act::config_error, agent::Agent};

const ALLOWED_HOSTS: &str = "windlass.dev/allowed-hosts";

impl Agent {
    /// What narrows the reach of a container that is about to start.
    pub(crate) async fn reach(&self, pod: &Pod) -> Result<Reach, RuntimeError> {
        let namespace = match self.api.get::<Namespace>("", pod.namespace()).await {
            Ok(namespace) => Some(namespace),
            Err(error) if error.is_not_found() => None,
            Err(error) => {
                return Err(config_error(format!(
                    "annotation {ALLOWED_HOSTS} of namespace {} can't be read (the node's user \
                     needs get on namespaces): {error}",
                    pod.namespace()
                )));
            }
        };
        reach(pod, namespace.as_ref()).map_err(config_error)
    }
}

pub(crate) fn reach(pod: &Pod, namespace: Option<&Namespace>) -> Result<Reach, String> {
    let of_pod = pod.annotation(ALLOWED_HOSTS);
    let of_namespace = namespace.and_then(|namespace| namespace.annotation(ALLOWED_HOSTS));
    let mut lists = Vec::new();
    for (whose, text) in
        [("the pod".to_owned(), of_pod), (format!("namespace {}", pod.namespace()), of_namespace)]
    {
        let Some(text) = text else { continue };
        let by = format!("annotation {ALLOWED_HOSTS} of {whose}");
        let list = AllowedHosts::parse(by.clone(), text);
        lists.push(list.map_err(|error| format!("{by}: {error}"))?);
    }
    Ok(Reach { lists })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(of_pod: Option<&str>, of_namespace: Option<&str>, expected: &str) {
        let annotated = |value: Option<&str>| {
            value.map_or(json!({}), |value| json!({"windlass.dev/allowed-hosts": value}))
        };
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "shop", "annotations": annotated(of_pod)}
        }))
        .expect("a pod");
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {"name": "shop", "annotations": annotated(of_namespace)}
        }))
        .expect("a namespace");
        let shown = match reach(&pod, Some(&namespace)) {
            Err(why) => why,
            Ok(reach) => {
                let shown = reach.lists.iter().map(|list| {
                    let hosts: Vec<String> = list.hosts.iter().map(ToString::to_string).collect();
                    format!("{}: [{}]", list.by, hosts.join(" "))
                });
                shown.collect::<Vec<_>>().join("; ")
            }
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn both_annotations_narrow() {
        let pod = "annotation windlass.dev/allowed-hosts of the pod";
        let namespace = "annotation windlass.dev/allowed-hosts of namespace shop";
        check(None, None, "");
        check(Some("a.example"), None, &format!("{pod}: [a.example]"));
        check(
            Some("a.example,b.example:443"),
            Some("*.example"),
            &format!("{pod}: [a.example b.example:443]; {namespace}: [*.example]"),
        );
        check(None, Some(""), &format!("{namespace}: []"));
        check(
            None,
            Some("http://"),
            &format!(
                "{namespace}: \"http://\" is not a host: it is empty; write a name, *.NAME, an \
                 address or a range such as 10.0.0.0/8, with :PORT where only that one is meant"
            ),
        );
    }
}
