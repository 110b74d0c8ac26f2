//! `Impersonate-*` headers: a user who may, acts as another for one request (`kubectl --as`). Each
//! part of the identity asked for is authorised on its own, as upstream does; everything after this
//! sees the other user only.

use std::sync::Arc;

use http::HeaderMap;
use windlass_apiserver_access::{ALL_FIELDS, Attributes, User};
use windlass_sdk_meta::{Reason, Status};

use crate::ApiServer;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user whom the request acts as: `user` itself where it asks for nobody else.
pub(crate) fn act_as(
    server: &ApiServer,
    user: Arc<User>,
    headers: &HeaderMap,
) -> Result<Arc<User>, Status> {
    let asks = headers.keys().any(|name| name.as_str().starts_with("impersonate-"));
    if !asks {
        return Ok(user);
    }
    let values = |name: &str| -> Vec<String> {
        let all = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        all.map(str::to_owned).collect()
    };
    let Some(name) = values(USER).into_iter().next().filter(|name| !name.is_empty()) else {
        let why = "impersonation of groups, uid or extra values needs a user to impersonate";
        return Err(Status::new(Reason::InternalError, format!("Internal error occurred: {why}")));
    };
    let groups = values(GROUP);
    let mut acting = match service_account(&name) {
        Some((namespace, account)) => {
            allowed(server, &user, ("", "serviceaccounts", ""), namespace, account)?;
            match groups.is_empty() {
                true => User::service_account(namespace, account),
                false => named(&name, &groups),
            }
        }
        None => {
            allowed(server, &user, ("", "users", ""), "", &name)?;
            named(&name, &groups)
        }
    };
    for group in &groups {
        allowed(server, &user, ("", "groups", ""), "", group)?;
    }
    for uid in values(UID) {
        allowed(server, &user, (AUTHENTICATION, "uids", ""), "", &uid)?;
        acting.uid = uid;
    }
    for header in headers.keys() {
        let Some(key) = header.as_str().strip_prefix(EXTRA) else { continue };
        for value in values(header.as_str()) {
            allowed(server, &user, (AUTHENTICATION, "userextras", key), "", &value)?;
            acting.extra.entry(key.to_owned()).or_default().push(value);
        }
    }
    Ok(Arc::new(acting))
}

fn named(name: &str, groups: &[String]) -> User {
    if name == "system:anonymous" {
        return User::anonymous();
    }
    let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
    User::authenticated(name, &groups)
}

/// Namespace and name of a service account's user.
fn service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
}

fn allowed(
    server: &ApiServer,
    user: &User,
    (group, resource, subresource): (&str, &str, &str),
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    let attributes = Attributes {
        user,
        verb: "impersonate",
        group,
        version: "v1",
        resource,
        subresource,
        namespace,
        name,
        fields: &ALL_FIELDS,
        path: "",
        is_resource: true,
    };
    let decision = server.authorizer().authorize(&attributes, &**server.cache());
    match decision.allowed() {
        true => Ok(()),
        false => Err(attributes.forbidden(decision.reason())),
    }
}
