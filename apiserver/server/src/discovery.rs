//! What is served, told to clients in three forms: aggregated discovery (v2, and v2beta1 for
//! clients up to 1.29), and the plain lists that are as old as Kubernetes. All are read off the
//! kind table.

use axum::body::Body;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use windlass_apiserver_registry::{GroupVersion, Kind, Registry, Rows, Subresource, group_order};
use windlass_sdk_meta::Status;

use crate::{
    content,
    negotiate::{Accepted, Offer},
};

/// The document behind a discovery path, or None where the path is none of discovery's.
pub(crate) fn serve(
    registry: &Registry,
    path: &str,
    request: &Parts,
) -> Option<Result<Response<Body>, Status>> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let registry = &*registry.rows();
    let groups = groups(registry);
    let document = match parts.as_slice() {
        [root @ ("api" | "apis")] => {
            let core = *root == "api";
            if let Some(version) = aggregated_version(&request.headers) {
                let document = aggregated(registry, &groups, core, version);
                return Some(Ok(with_etag(&document, aggregated_media(version), &request.headers)));
            }
            if core { core_versions() } else { group_list(&groups) }
        }
        ["api", version] => resource_list(registry, "", version)?,
        ["apis", group] => {
            let (_, versions) = groups.iter().find(|(known, _)| known == group)?;
            group_document(group, versions)
        }
        ["apis", group, version] => resource_list(registry, group, version)?,
        _ => return None,
    };
    let accepted = Accepted::negotiate(request, Offer::TREE);
    Some(accepted.map(|accepted| content::respond_tree(StatusCode::OK, &document, &accepted)))
}

/// Groups in the order in which clients prefer them, each with its versions, the preferred first.
type Groups = Vec<(String, Vec<String>)>;

fn groups(registry: &Rows) -> Groups {
    let mut groups = Groups::new();
    for served in registry.kinds().flat_map(|kind| &kind.served) {
        let version = served.version.to_string();
        match groups.iter_mut().find(|(group, _)| *group == served.group) {
            None => groups.push((served.group.to_string(), vec![version])),
            Some((_, versions)) if versions.contains(&version) => {}
            Some((_, versions)) => versions.push(version),
        }
    }
    groups.sort_by(|(a, _), (b, _)| group_order(a, b));
    groups
}

fn resources<'a>(
    registry: &'a Rows,
    group: &'a str,
    version: &'a str,
) -> Vec<(&'a Kind, &'a GroupVersion)> {
    let all = registry.kinds().filter_map(|kind| Some((&**kind, kind.version(group, version)?)));
    let mut all: Vec<_> = all.collect();
    all.sort_by(|(a, _), (b, _)| a.plural.cmp(&b.plural));
    all
}

/// `v2` or `v2beta1` where the client's first choice that is served here is aggregated discovery.
fn aggregated_version(headers: &HeaderMap) -> Option<&'static str> {
    for range in content::joined(headers, &header::ACCEPT).split(',') {
        let range = range.replace(' ', "");
        let has = |parameter: &str| range.split(';').any(|part| part == parameter);
        match (has("application/json"), has("as=APIGroupDiscoveryList")) {
            (true, true) if has("g=apidiscovery.k8s.io") && has("v=v2") => return Some("v2"),
            (true, true) if has("g=apidiscovery.k8s.io") && has("v=v2beta1") => {
                return Some("v2beta1");
            }
            (true, false) => return None,
            _ => {}
        }
    }
    None
}

fn aggregated_media(version: &str) -> &'static str {
    match version {
        "v2" => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        _ => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    }
}

fn aggregated(registry: &Rows, groups: &Groups, core: bool, version: &str) -> Value {
    let items = groups.iter().filter(|(group, _)| group.is_empty() == core);
    let items = items.map(|(group, versions)| {
        let versions = versions.iter().map(|version| {
            let resources = resources(registry, group, version);
            let resources = resources.iter().map(|(kind, at)| aggregated_resource(kind, at));
            json!({"version": version, "resources": resources.collect::<Vec<_>>(),
                "freshness": "Current"})
        });
        let name = if group.is_empty() { json!({}) } else { json!({"name": group}) };
        json!({"metadata": name, "versions": versions.collect::<Vec<_>>()})
    });
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {}, "items": items.collect::<Vec<_>>()})
}

/// Of a built-in kind, what is of the document's own group and version is told without them.
fn aggregated_resource(kind: &Kind, at: &GroupVersion) -> Value {
    let own = if kind.is_custom() { (&*at.group, &*at.version) } else { ("", "") };
    let scope = if kind.namespaced { "Namespaced" } else { "Cluster" };
    let mut resource = json!({"resource": kind.plural,
        "responseKind": {"group": own.0, "version": own.1, "kind": kind.kind},
        "scope": scope, "singularResource": kind.singular, "verbs": kind.verbs});
    if !kind.short_names.is_empty() {
        resource["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        resource["categories"] = json!(kind.categories);
    }
    let subresources: Vec<Value> = kind
        .subresources
        .iter()
        .map(|sub| {
            let (group, version) = other_group(sub, at).unwrap_or(own);
            json!({"subresource": sub.name, "verbs": sub.verbs,
                "responseKind": {"group": group, "version": version, "kind": sub.kind}})
        })
        .collect();
    if !subresources.is_empty() {
        resource["subresources"] = json!(subresources);
    }
    resource
}

/// Group and version of a subresource's kind where it is of another group than the resource.
fn other_group<'a>(sub: &'a Subresource, at: &GroupVersion) -> Option<(&'a str, &'a str)> {
    (sub.group != at.group).then_some((&*sub.group, &*sub.version))
}

fn core_versions() -> Value {
    json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
}

fn group_list(groups: &Groups) -> Value {
    let named = groups.iter().filter(|(group, _)| !group.is_empty());
    let groups: Vec<Value> = named.map(|(group, versions)| group_entry(group, versions)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn group_document(group: &str, versions: &[String]) -> Value {
    let mut document = json!({"kind": "APIGroup", "apiVersion": "v1"});
    if let (Some(document), Value::Object(entry)) =
        (document.as_object_mut(), group_entry(group, versions))
    {
        document.extend(entry);
    }
    document
}

fn group_entry(group: &str, versions: &[String]) -> Value {
    let version = |version: &String| json!({"groupVersion": format!("{group}/{version}"), "version": version});
    let all: Vec<Value> = versions.iter().map(version).collect();
    json!({"name": group, "versions": all, "preferredVersion": all.first()})
}

/// None where nothing is served in this group-version.
fn resource_list(registry: &Rows, group: &str, version: &str) -> Option<Value> {
    let resources = resources(registry, group, version);
    let (_, at) = resources.first()?;
    let group_version = at.api_version().into_owned();
    let mut list = Vec::new();
    for (kind, at) in &resources {
        let mut resource = json!({"name": kind.plural, "singularName": kind.singular,
            "namespaced": kind.namespaced, "kind": kind.kind, "verbs": kind.verbs});
        if !kind.short_names.is_empty() {
            resource["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            resource["categories"] = json!(kind.categories);
        }
        if !kind.virtual_only {
            resource["storageVersionHash"] = json!(storage_version_hash(kind));
        }
        list.push(resource);
        for sub in &kind.subresources {
            let mut entry = json!({"name": format!("{}/{}", kind.plural, sub.name),
                "singularName": "", "namespaced": kind.namespaced, "kind": sub.kind,
                "verbs": sub.verbs});
            if let Some((group, version)) = other_group(sub, at) {
                entry["group"] = json!(group);
                entry["version"] = json!(version);
            }
            list.push(entry);
        }
    }
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
        "resources": list}))
}

/// Stands for the form in which a kind is stored: who migrates stored objects watches it change.
fn storage_version_hash(kind: &Kind) -> String {
    const BYTES: usize = 8;
    let GroupVersion { group, version } = kind.storage();
    let hash = Sha256::digest(format!("{group}/{version}/{}", kind.kind));
    STANDARD.encode(&hash[..BYTES])
}

/// Clients keep aggregated discovery by its ETag and are told when it is still true.
fn with_etag(document: &Value, media: &'static str, headers: &HeaderMap) -> Response<Body> {
    let bytes = serde_json::to_vec(document).unwrap_or_default();
    let etag = format!("\"{}\"", hex(&Sha256::digest(&bytes)).to_uppercase());
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known == etag.as_str());
    let mut response = match known {
        true => content::plain(StatusCode::NOT_MODIFIED, media, Vec::new()),
        false => content::plain(StatusCode::OK, media, bytes),
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
