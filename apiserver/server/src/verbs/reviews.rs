//! Kinds of which nothing is stored: a create asks the server something about users and what they
//! may do, and the answer is the body with its status filled in.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::{Value, json};
use windlass_apiserver_access::{Attributes, Rule, User};
use windlass_apiserver_registry::{Manager, Question, asked_selectors, record_manager, tree};
use windlass_sdk_meta::{Status, format_time};

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
    let (mut review, warnings) =
        change::read_identified(call, target, body, options.validation).await?;
    target.kind.forget_system_metadata(&mut review);
    for key in ["uid", "creationTimestamp"] {
        tree::remove(&mut review["metadata"], key);
    }
    let manager = call.manager(&options.field_manager);
    let by = Manager { name: &manager, subresource: "", applies: false };
    record_manager(&target.kind, &mut review, None, by, call.server.clock().now());
    target.kind.validate_review(&review)?;
    let spec = &review["spec"];
    let status = match target.kind.strategy.question().ok_or_else(Status::method_not_allowed)? {
        Question::Identity => json!({"userInfo": user_info(&call.user)}),
        Question::Access { named: true, .. } => access(call, spec, &subject(spec)),
        Question::Access { named: false, .. } => access(call, spec, &call.user),
        Question::Token => token(call, spec).await?,
        Question::Rules => rules(call, spec)?,
    };
    match target.kind.strategy.question() {
        Some(Question::Identity) => {
            let now = format_time(call.server.clock().now());
            review["metadata"] = json!({"creationTimestamp": now});
        }
        // The answer is a review of its own.
        Some(Question::Rules) => {
            review["metadata"] = json!({});
            review["spec"] = json!({});
        }
        _ => {}
    }
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

/// Whom a review asks about.
fn subject(spec: &Value) -> User {
    let groups = spec["groups"].as_array().into_iter().flatten();
    User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: groups.filter_map(Value::as_str).map(str::to_owned).collect(),
        extra: serde_json::from_value(spec["extra"].clone()).unwrap_or_default(),
    }
}

fn access(call: &Call, spec: &Value, user: &User) -> Value {
    let (resource, path) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let is_resource = resource.is_object();
    let from = if is_resource { resource } else { path };
    let text = |key: &str| from[key].as_str().unwrap_or_default();
    let selectors = asked_selectors(resource);
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
        fields: &selectors.fields,
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
    if !selectors.ignored.is_empty() {
        status["evaluationError"] = json!(selectors.ignored.join("; "));
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
fn rules(call: &Call, spec: &Value) -> Result<Value, Status> {
    let namespace = spec["namespace"].as_str().unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let lookup = &**call.server.cache();
    let (rules, more) = call.server.authorizer().rules(&call.user, namespace, lookup);
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
    let mut status = json!({"resourceRules": on_resources.into_iter().map(resource).collect::<Vec<_>>(),
        "nonResourceRules": on_paths.into_iter().map(path).collect::<Vec<_>>(),
        "incomplete": more.is_some()});
    if let Some(more) = more {
        status["evaluationError"] = json!(more);
    }
    Ok(status)
}
