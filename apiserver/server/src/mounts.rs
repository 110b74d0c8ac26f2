//! What else answers on the API server's listeners: services of other parts of the process, each below a
//! path of its own. The server tells them who asks and decides what they may do, by the same
//! authenticators and authorisers as everything; it doesn't know what they are.

use std::sync::Arc;

use axum::{Router, body::Body};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION, request::Parts};
use tower::ServiceExt;
use windlass_apiserver_access::{Attributes, Lookup, User};
use windlass_sdk_meta::{GroupResource, Reason, Status};

use crate::{ApiServer, chain, impersonation, limits::Class};

/// A service below a path. Its requests may be as long as they like, and have an [`Asker`] among their
/// extensions.
pub struct Mount {
    /// Without a slash at its end, such as `/v2`.
    pub path: &'static str,
    pub service: Router,
}

/// Who sent a request to a mounted service. Only the server makes one.
#[derive(Clone)]
pub struct Asker {
    server: Arc<ApiServer>,
    /// None: with credentials that don't hold.
    user: Option<Arc<User>>,
}

impl Asker {
    /// Whether they showed credentials that hold.
    pub fn is_known(&self) -> bool {
        self.user.as_ref().is_some_and(|user| !user.in_group("system:unauthenticated"))
    }

    /// May they do that to an object of a group's resource?
    ///
    /// # Errors
    /// 401 for credentials that don't hold, 403 with upstream's words.
    pub fn may(
        &self,
        verb: &str,
        (group, resource): (&str, &str),
        namespace: &str,
        name: &str,
    ) -> Result<(), Status> {
        let user = self.user.as_ref().ok_or_else(chain::unauthorized)?;
        let asked =
            Attributes { namespace, name, ..Attributes::resource(user, verb, group, resource) };
        let decision = self.server.authorizer().authorize(&asked, &**self.server.cache());
        match decision.allowed() {
            true => Ok(()),
            false => Err(asked.forbidden(decision.reason())),
        }
    }

    /// May something new come to a namespace? Not to one that isn't there or is on its way out, as
    /// NamespaceLifecycle has it for objects.
    ///
    /// # Errors
    /// 404 or 403, in upstream's words.
    pub fn takes_content(&self, namespace: &str) -> Result<(), Status> {
        let namespaces = GroupResource::new("", "namespaces");
        match self.server.cache().get(&namespaces, "", namespace) {
            None => Err(Status::not_found(&namespaces, namespace)),
            Some(found) if found.deleting => {
                let why = format!(
                    "unable to create new content in namespace {namespace} because it is being \
                     terminated"
                );
                Err(Status::new(Reason::Forbidden, why))
            }
            Some(_) => Ok(()),
        }
    }
}

/// Hands a request over. The service says itself what it thinks of credentials that don't hold: its
/// clients know other words than Kubernetes'.
pub(crate) async fn serve(
    server: &Arc<ApiServer>,
    mount: &Mount,
    mut parts: Parts,
    body: Body,
) -> Result<Response<Body>, Status> {
    let permit = server.limits().admit(Class::LongRunning).await?;
    password_as_token(&mut parts.headers);
    let user = match chain::authenticate(server, &parts) {
        Ok(user) => Some(impersonation::act_as(server, user, &parts.headers)?),
        Err(_) => None,
    };
    parts.headers.remove(AUTHORIZATION);
    parts.extensions.insert(Asker { server: server.clone(), user });
    let request = Request::from_parts(parts, body);
    let Ok(response) = mount.service.clone().oneshot(request).await;
    Ok(chain::holding(permit, response))
}

/// Clients that know nothing but a user name and a password have a bearer token as the password.
fn password_as_token(headers: &mut HeaderMap) {
    let password = headers.get(AUTHORIZATION).and_then(|value| {
        let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
        let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()));
        let text = String::from_utf8(decoded?.ok()?).ok()?;
        let (_, password) = text.split_once(':')?;
        HeaderValue::from_str(&format!("Bearer {password}")).ok()
    });
    if let Some(bearer) = password {
        headers.insert(AUTHORIZATION, bearer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_a_token() {
        let check = |sent: &str, expected: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, sent.parse().expect("a header"));
            password_as_token(&mut headers);
            assert_eq!(headers[AUTHORIZATION], expected);
        };
        check("Basic dTpwOnc=", "Bearer p:w");
        check("basic dTo=", "Bearer ");
        check("Basic ???", "Basic ???");
        check("Bearer abc", "Bearer abc");
    }
}
