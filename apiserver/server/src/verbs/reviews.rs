//! Kinds of which nothing is stored: a create asks the server something about users and what they
//! may do, and the answer is the body with its status filled in.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use windlass_apiserver_access::{Attributes, User};
use windlass_sdk_meta::{Cause, GroupResource, GroupVersionKind, Status};

use super::{Call, Target, change};
use crate::{
    body::WriteOptions,
    content::{self, Accepted},
};

/// Answers a review.
pub(super) async fn create(
    call: &Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    let accepted = Accepted::negotiate(&call.parts.headers, false)?;
    let options = WriteOptions::parse(&call.info.query, "CreateOptions")?;
    let gvk = target.kind.gvk_in(&target.at);
    let (mut review, warnings) =
        change::read_tree(call, body, gvk.clone(), options.validation).await?;
    let status = match &*target.kind.kind {
        "SelfSubjectReview" => json!({"userInfo": user_info(&call.user)}),
        "SelfSubjectAccessReview" => access(call, &gvk, &review["spec"], &call.user)?,
        "SubjectAccessReview" => {
            access(call, &gvk, &review["spec"], &subject(&gvk, &review["spec"])?)?
        }
        "LocalSubjectAccessReview" => {
            let asked = review["spec"]["resourceAttributes"]["namespace"].as_str();
            if asked.unwrap_or_default() != target.namespace {
                let why = format!("must match the namespace of the request ({})", target.namespace);
                return Err(invalid(&gvk, "spec.resourceAttributes.namespace", &why));
            }
            access(call, &gvk, &review["spec"], &subject(&gvk, &review["spec"])?)?
        }
        "SelfSubjectRulesReview" => rules(call, &review["spec"]),
        _ => return Err(Status::method_not_allowed()),
    };
    review["status"] = status;
    let bytes = serde_json::to_vec(&review).unwrap_or_default();
    let mut response = content::respond(StatusCode::CREATED, bytes, &accepted);
    content::add_warnings(&mut response, &warnings);
    Ok(response)
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn subject(kind: &GroupVersionKind, spec: &Value) -> Result<User, Status> {
    let groups = spec["groups"].as_array().into_iter().flatten();
    let user = User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        groups: groups.filter_map(Value::as_str).map(str::to_owned).collect(),
        extra: serde_json::from_value(spec["extra"].clone()).unwrap_or_default(),
    };
    match user.name.is_empty() && user.groups.is_empty() {
        true => Err(invalid(kind, "spec.user", "at least one of user or group must be specified")),
        false => Ok(user),
    }
}

fn access(
    call: &Call,
    kind: &GroupVersionKind,
    spec: &Value,
    user: &User,
) -> Result<Value, Status> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_object() == path.is_object() {
        let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        return Err(invalid(kind, "spec.resourceAttributes", why));
    }
    let is_resource = resource.is_object();
    let from = if is_resource { resource } else { path };
    let text = |key: &str| from[key].as_str().unwrap_or_default();
    let attributes = Attributes {
        user,
        verb: text("verb"),
        group: text("group"),
        version: text("version"),
        resource: text("resource"),
        subresource: text("subresource"),
        namespace: text("namespace"),
        name: text("name"),
        path: text("path"),
        field_selector: "",
        is_resource,
    };
    let decision = call.server.authorizer().authorize(&attributes, &**call.server.cache());
    let mut status = json!({"allowed": decision.allowed()});
    if matches!(decision, windlass_apiserver_access::Decision::Deny(_)) {
        status["denied"] = json!(true);
    }
    if !decision.reason().is_empty() {
        status["reason"] = json!(decision.reason());
    }
    Ok(status)
}

/// What the user may do in a namespace, by asking about every verb of every served resource.
fn rules(call: &Call, spec: &Value) -> Value {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    for kind in call.server.registry().kinds() {
        for served in &kind.served {
            let resource = GroupResource::new(&served.group, &kind.plural);
            let verbs = allowed_verbs(call, &resource, &served.version, namespace, &kind.verbs);
            if !verbs.is_empty() {
                found.push(json!({"verbs": verbs, "apiGroups": [resource.group],
                    "resources": [resource.resource]}));
            }
        }
    }
    json!({"resourceRules": found, "nonResourceRules": [], "incomplete": true,
        "evaluationError": "only served resources are listed, without subresources and names"})
}

fn allowed_verbs<'v>(
    call: &Call,
    resource: &GroupResource,
    version: &str,
    namespace: &str,
    verbs: &'v [std::borrow::Cow<'static, str>],
) -> Vec<&'v str> {
    let allowed = |verb: &&str| {
        let attributes = Attributes {
            user: &call.user,
            verb,
            group: &resource.group,
            version,
            resource: &resource.resource,
            subresource: "",
            namespace,
            name: "",
            path: "",
            field_selector: "",
            is_resource: true,
        };
        call.server.authorizer().authorize(&attributes, &**call.server.cache()).allowed()
    };
    verbs.iter().map(|verb| &**verb).filter(allowed).collect()
}

fn invalid(kind: &GroupVersionKind, field: &str, why: &str) -> Status {
    let cause = Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {why}"),
        field: field.into(),
    };
    Status::invalid(kind, "", vec![cause])
}
