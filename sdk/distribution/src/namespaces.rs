//! A namespace that goes takes its repositories along, with everything in them. Whatever still comes
//! for one of them meanwhile either is there before, and goes too, or is asked again whether it may:
//! so nothing of it is left for a namespace that is called the same later.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use http::{StatusCode, request::Parts};
use tokio::sync::OwnedRwLockReadGuard;

use crate::{Registry, Repository, access::Action, error::Refused};

/// Held by a request while it brings content or a name.
pub(crate) type Entered = OwnedRwLockReadGuard<()>;

/// Takes away all that a namespace has, for whoever deletes it.
pub(crate) async fn clear(
    registry: &Arc<Registry>,
    namespace: String,
    parts: &Parts,
) -> Result<Response, Refused> {
    registry.refuse_unless(registry.access.may_clear(&parts.extensions, &namespace))?;
    let alone = registry.gate.clone().write_owned().await;
    let cleared = registry.blocking(move |registry| {
        // Here: a client that hangs up ends its wait, and not the work.
        let _alone = alone;
        registry.uploads.clear(&namespace);
        let unnamed = registry.links.clear(&namespace);
        let is_wanted = |digest: &str| registry.links.has_any(digest);
        Ok(registry.storage.clear(&namespace, unnamed, &is_wanted)?)
    });
    cleared.await?;
    registry.untidy.notify_one();
    let answer = Response::builder().status(StatusCode::ACCEPTED);
    answer.body(Body::empty()).map_err(Refused::failed)
}

impl Registry {
    /// Lets a request in that brings something, if its sender may by now: its body may have taken
    /// its time. No namespace is cleared until the answer is dropped.
    pub(crate) async fn enter(
        &self,
        parts: &Parts,
        action: Action,
        at: &Repository,
    ) -> Result<Entered, Refused> {
        let entered = self.gate.clone().read_owned().await;
        self.authorize(parts, action, at).map(|()| entered)
    }
}
