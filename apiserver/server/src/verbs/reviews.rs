//! Kinds of which nothing is stored: a create asks the server something about users and what they
//! may do, and the answer is the body with its status filled in.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use windlass_apiserver_access::{Attributes, Rule, User};
use windlass_sdk_meta::{Cause, GroupVersionKind, Status};

use super::{Call, Target, change};
use crate::{
    body::WriteOptions,
    content,
    negotiate::{Accepted, Offer},
    server::store_status,
};

/// Answers a review.
pub(super) async fn create(
    call: &Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    let accepted = Accepted::negotiate(&call.parts, Offer::TREE)?;
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
        "TokenReview" => token(call, &review["spec"]).await?,
        "SelfSubjectRulesReview" => rules(call, &review["spec"]),
        _ => return Err(Status::method_not_allowed()),
    };
    review["status"] = status;
    let mut response = content::respond_tree(StatusCode::CREATED, &review, &accepted);
    content::add_warnings(&mut response, &warnings);
    Ok(response)
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name, "groups": user.groups});
    if !user.uid.is_empty() {
        info["uid"] = json!(user.uid);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn subject(kind: &GroupVersionKind, spec: &Value) -> Result<User, Status> {
    let groups = spec["groups"].as_array().into_iter().flatten();
    let user = User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
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

/// Whose a token is, as somebody asks who was shown it.
async fn token(call: &Call, spec: &Value) -> Result<Value, Status> {
    let token = spec["token"].as_str().filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| {
        Status::bad_request("token is required for TokenReview in authentication")
    })?;
    let audiences = spec["audiences"].as_array().into_iter().flatten();
    let audiences: Vec<&str> = audiences.filter_map(Value::as_str).collect();
    let server = &call.server;
    server.cache().fresh().await.map_err(store_status)?;
    let found = match server.authenticator().tokens() {
        Some(tokens) => tokens.authenticate(token, &audiences, &**server.cache()),
        None => Err("no tokens are issued here".to_owned()),
    };
    Ok(match found {
        Ok((user, audiences)) => {
            json!({"authenticated": true, "user": user_info(&user), "audiences": audiences})
        }
        Err(why) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
    })
}

/// What the user may do in a namespace.
fn rules(call: &Call, spec: &Value) -> Value {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    let lookup = &**call.server.cache();
    let (rules, complete) = call.server.authorizer().rules(&call.user, namespace, lookup);
    let (on_paths, on_resources): (Vec<Rule>, Vec<Rule>) =
        rules.into_iter().partition(|rule| rule.resources.is_empty());
    let resource = |rule: Rule| {
        let mut shown = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups,
            "resources": rule.resources});
        if !rule.resource_names.is_empty() {
            shown["resourceNames"] = json!(rule.resource_names);
        }
        shown
    };
    let path = |rule: Rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls});
    json!({"resourceRules": on_resources.into_iter().map(resource).collect::<Vec<_>>(),
        "nonResourceRules": on_paths.into_iter().map(path).collect::<Vec<_>>(),
        "incomplete": !complete})
}

fn invalid(kind: &GroupVersionKind, field: &str, why: &str) -> Status {
    let cause = Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {why}"),
        field: field.into(),
    };
    Status::invalid(kind, "", vec![cause])
}
