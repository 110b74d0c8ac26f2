//! Kinds of which nothing is stored: a create asks the server something about users and what they
//! may do, and the answer is the body with its status filled in.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use windlass_apiserver_access::{Attributes, Rule, User};
use windlass_apiserver_registry::{Manager, record_manager};
use windlass_sdk_meta::{Cause, GroupVersionKind, Status, format_time};

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
    let manager = call.manager(&options.field_manager);
    let by = Manager { name: &manager, subresource: "", applies: false };
    record_manager(&target.kind, &mut review, None, by, call.server.clock().now());
    let status = match &*target.kind.kind {
        "SelfSubjectReview" => {
            let now = format_time(call.server.clock().now());
            review["metadata"]["creationTimestamp"] = now.into();
            json!({"userInfo": user_info(&call.user)})
        }
        "SelfSubjectAccessReview" => {
            refuse(&gvk, asked(&review["spec"]))?;
            access(call, &review["spec"], &call.user)
        }
        "SubjectAccessReview" => {
            let mut causes = asked(&review["spec"]);
            let user = subject(&review["spec"], &mut causes);
            refuse(&gvk, causes)?;
            access(call, &review["spec"], &user)
        }
        "LocalSubjectAccessReview" => {
            let mut causes = asked(&review["spec"]);
            let user = subject(&review["spec"], &mut causes);
            local(&review["spec"], &target.namespace, &mut causes);
            refuse(&gvk, causes)?;
            access(call, &review["spec"], &user)
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

fn subject(spec: &Value, causes: &mut Vec<Cause>) -> User {
    let groups = spec["groups"].as_array().into_iter().flatten();
    let user = User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: groups.filter_map(Value::as_str).map(str::to_owned).collect(),
        extra: serde_json::from_value(spec["extra"].clone()).unwrap_or_default(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let why = "\"\": at least one of user or group must be specified";
        causes.push(invalid("spec.user", why));
    }
    user
}

/// It is asked about a resource or about a path.
fn asked(spec: &Value) -> Vec<Cause> {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    if resource.is_object() != path.is_object() {
        return Vec::new();
    }
    let text = |key: &str| path[key].as_str().unwrap_or_default();
    let shown = match path {
        Value::Null => Value::Null,
        _ => json!({"Path": text("path"), "Verb": text("verb")}),
    };
    let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
    vec![invalid("spec", &format!("{shown}: {why}"))]
}

/// It is asked about the namespace of the request.
fn local(spec: &Value, namespace: &str, causes: &mut Vec<Cause>) {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let of = resource["namespace"].as_str().unwrap_or_default();
    if resource.is_object() && of != namespace {
        let why = format!("{of:?}: must match metadata.namespace");
        causes.push(invalid("spec.resourceAttributes.namespace", &why));
    }
    if path.is_object() {
        let text = |key: &str| path[key].as_str().unwrap_or_default();
        let shown = json!({"Path": text("path"), "Verb": text("verb")});
        let why = format!("{shown}: disallowed on this kind of request");
        causes.push(invalid("spec.nonResourceAttributes", &why));
    }
}

fn access(call: &Call, spec: &Value, user: &User) -> Value {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
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
    status
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
        // Of what is no token of an account at all, nothing more is told.
        Err(_) if token.split('.').count() != 3 => {
            json!({"user": {}, "error": "invalid bearer token"})
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

fn invalid(field: &str, why: &str) -> Cause {
    Cause {
        reason: "FieldValueInvalid".into(),
        message: format!("Invalid value: {why}"),
        field: field.into(),
    }
}

/// Upstream tells the group of a review, but not its kind.
fn refuse(kind: &GroupVersionKind, causes: Vec<Cause>) -> Result<(), Status> {
    match causes.is_empty() {
        true => Ok(()),
        false => {
            let unnamed = GroupVersionKind::new(&kind.group, &kind.version, "");
            Err(Status::invalid(&unnamed, "", causes))
        }
    }
}
