//! May they: `system:masters`, then the Node authoriser, then RBAC, in that order; the first that
//! allows decides. None of them denies: what nobody allows is refused.

pub(crate) mod escalation;
mod node;
pub(crate) mod rbac;

pub use rbac::Rule;
use windlass_sdk_meta::{FieldSelector, GroupResource, Reason, Status};

use crate::{Lookup, User};

/// The selector of whoever asks for everything.
pub static ALL_FIELDS: FieldSelector = FieldSelector(Vec::new());

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
    /// Of a list or watch: the one name that its field selector allows, if it does.
    pub name: &'a str,
    /// What a list, watch or deletecollection is narrowed to: a node may list the pods that are
    /// bound to it and no others. Empty also where the selector can't be read.
    pub fields: &'a FieldSelector,
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
pub struct Authorizer {
    node: node::NodeAuthorizer,
    pub(crate) rbac: rbac::Rbac,
}

impl Authorizer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn authorize(&self, asked: &Attributes<'_>, lookup: &dyn Lookup) -> Decision {
        if asked.user.in_group("system:masters") {
            return Decision::Allow(String::new());
        }
        let mut reasons = Vec::new();
        if let Some(node) = asked.user.node_name() {
            match self.node.authorize(node, asked, lookup) {
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        match self.rbac.authorize(asked, lookup) {
            Decision::NoOpinion(reason) => reasons.push(reason),
            decided => return decided,
        }
        reasons.retain(|reason| !reason.is_empty());
        Decision::NoOpinion(reasons.join("; "))
    }

    /// What a user may do in a namespace, as rules, and why there is more, where there is.
    pub fn rules(
        &self,
        user: &User,
        namespace: &str,
        lookup: &dyn Lookup,
    ) -> (Vec<Rule>, Option<&'static str>) {
        let mut rules = self.rbac.rules_of(user, namespace, lookup);
        if user.in_group("system:masters") {
            let all = || vec!["*".to_owned()];
            let (verbs, api_groups, resources) = (all(), all(), all());
            rules.push(Rule { verbs, api_groups, resources, ..Rule::default() });
            rules.push(Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() });
        }
        rules.sort_unstable();
        rules.dedup();
        let more = "node authorizer does not support user rule resolution";
        (rules, user.node_name().map(|_| more))
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

impl<'a> Attributes<'a> {
    /// A verb on a resource, with everything else empty.
    pub fn resource(user: &'a User, verb: &'a str, group: &'a str, resource: &'a str) -> Self {
        Self { group, resource, is_resource: true, ..Self::path(user, verb, "") }
    }

    /// A method on a path that names no resource.
    pub fn path(user: &'a User, verb: &'a str, path: &'a str) -> Self {
        Self {
            user,
            verb,
            group: "",
            version: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            fields: &ALL_FIELDS,
            path,
            is_resource: false,
        }
    }

    /// What was refused, in upstream's words.
    pub fn describe(&self) -> String {
        let Self { user, verb, group, namespace, .. } = self;
        if !self.is_resource {
            return format!("User {:?} cannot {verb} path {:?}", user.name, self.path);
        }
        let what = format!(
            "User {:?} cannot {verb} resource {:?} in API group {group:?}",
            user.name,
            self.full_resource()
        );
        match *namespace {
            "" => format!("{what} at the cluster scope"),
            namespace => format!("{what} in the namespace {namespace:?}"),
        }
    }

    /// 403 for a request that was not allowed, with upstream's message.
    pub fn forbidden(&self, reason: &str) -> Status {
        let mut why = self.describe();
        if !reason.is_empty() {
            why = format!("{why}: {reason}");
        }
        if !self.is_resource {
            return Status::new(Reason::Forbidden, format!("forbidden: {why}"));
        }
        Status::forbidden(&GroupResource::new(self.group, self.resource), self.name, why)
    }

    /// `pods/log`, or `pods` where no subresource is asked for: the form of RBAC rules.
    pub(crate) fn full_resource(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

#[cfg(test)]
mod tests;
