//! `exec`, `attach` and `portforward` of pods: admitted like a write, then handed to the node's
//! kubelet as they are. Which protocol the client speaks is between it and the kubelet.

use axum::body::Body;
use http::{Response, header};
use serde_json::{Map, Value, json};
use windlass_apiserver_access::{AdmissionRequest, Operation};
use windlass_sdk_meta::{GroupVersionKind, Status};

use super::{container, kubelet_address, tunnel};
use crate::{
    read,
    request::Query,
    verbs::{Call, Target},
};

/// What the kubelet calls an option: (in the API, at the kubelet).
const STREAMS: [(&str, &str); 4] =
    [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];

/// Answers the request with an upgrade, or with what the kubelet has against it.
pub(crate) async fn connect(mut call: Call, target: &Target) -> Result<Response<Body>, Status> {
    // A WebSocket can only begin with GET, which must not be a way around the right to create.
    let upgrade = call.parts.headers.get(header::UPGRADE);
    let is_websocket =
        upgrade.is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if is_websocket {
        call.may_create()?;
    }
    let (name, namespace) = (call.info.name.as_str(), target.namespace.as_str());
    let pod = read::get(&call.server, &target.kind, (namespace, name), "").await?.tree();
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let (path, query) = match call.info.subresource.as_str() {
        "portforward" => (format!("/portForward/{namespace}/{name}"), call.info.query.raw.clone()),
        subresource => {
            let asked = call.info.query.get("container").unwrap_or_default();
            let container = container(&pod, name, asked)?;
            let path = format!("/{subresource}/{namespace}/{name}/{container}");
            (path, kubelet_query(&call.info.query))
        }
    };
    if node.is_empty() {
        return Err(Status::bad_request(format!("pod {name} does not have a host assigned")));
    }
    admit(&call, target).await?;
    let address = kubelet_address(&call.server, node)?;
    tunnel::to_kubelet(&mut call, &address, &path, &query).await
}

/// The admission of CONNECT: there is nothing to store, only options to look at.
pub(super) async fn admit(call: &Call, target: &Target) -> Result<(), Status> {
    let subresource = call.info.subresource.as_str();
    let sub = target.kind.subresource(subresource).ok_or_else(Status::unknown_path)?;
    let kind = GroupVersionKind::new(&sub.group, &sub.version, &sub.kind);
    let resource = target.kind.group_resource();
    let mut object = options(&kind, &call.info.query, &call.info.tail);
    let (admission, lookup) = (call.server.admission(), &**call.server.cache());
    let mut request = AdmissionRequest {
        operation: Operation::Connect,
        kind: &kind,
        resource: &resource,
        subresource,
        namespace: &target.namespace,
        name: &call.info.name,
        object: Some(&mut object),
        old: None,
        user: &call.user,
        dry_run: false,
    };
    admission.mutate(&mut request, lookup).await?;
    admission.validate(&request, lookup).await?;
    Ok(())
}

/// The options of the request as the object that admission looks at.
fn options(kind: &GroupVersionKind, query: &Query, tail: &str) -> Value {
    let mut members = Map::new();
    members.insert("apiVersion".into(), kind.version.clone().into());
    members.insert("kind".into(), kind.kind.clone().into());
    for (name, _) in STREAMS.iter().filter(|(name, _)| query.flag(name)) {
        members.insert((*name).into(), true.into());
    }
    if let Some(container) = query.get("container") {
        members.insert("container".into(), container.into());
    }
    let command: Vec<&str> = query.all("command").collect();
    if !command.is_empty() {
        members.insert("command".into(), json!(command));
    }
    let ports: Vec<i32> = query.all("ports").filter_map(|port| port.parse().ok()).collect();
    if !ports.is_empty() {
        members.insert("ports".into(), json!(ports));
    }
    if kind.kind.ends_with("ProxyOptions") {
        members.insert("path".into(), tail.into());
    }
    Value::Object(members)
}

fn kubelet_query(query: &Query) -> String {
    let mut out = String::new();
    let mut put = |name: &str, value: &str| {
        out += if out.is_empty() { "" } else { "&" };
        out += &format!("{name}={}", encode(value));
    };
    for (_, own) in STREAMS.iter().filter(|(name, _)| query.flag(name)) {
        put(own, "1");
    }
    query.all("command").for_each(|word| put("command", word));
    out
}

/// Escapes all that isn't a letter, a digit or `-._~` (RFC 3986, 2.3).
fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        plain if plain.is_ascii_alphanumeric() => char::from(plain).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelet_has_names_of_its_own() {
        let query = Query::parse(
            "container=c&command=sh&command=-c&command=a+b%26%C3%A9&stdin=true&stdout=1&tty=false",
        );
        let expected = "input=1&output=1&command=sh&command=-c&command=a%20b%26%C3%A9";
        assert_eq!(kubelet_query(&query), expected);
        let kind = GroupVersionKind::new("", "v1", "PodExecOptions");
        let object = options(&kind, &query, "");
        assert_eq!(
            object,
            json!({"apiVersion": "v1", "kind": "PodExecOptions", "stdin": true, "stdout": true,
                "container": "c", "command": ["sh", "-c", "a b&é"]})
        );
    }
}
