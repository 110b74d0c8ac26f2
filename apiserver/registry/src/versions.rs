//! Ownership is told in the words of the version that a manager wrote in. Of a kind that is served in
//! several versions, what a write changes is looked at in each version that somebody wrote in.

use serde_json::Value;

use crate::{
    fieldset::Delta,
    kind::{GroupVersion, Kind},
    tree,
};

/// What a write changes between two states of an object, which are in the version that `kind` is
/// stored in.
pub struct Deltas<'a> {
    kind: &'a Kind,
    old: &'a Value,
    new: &'a Value,
    sub: &'a str,
    own: Delta,
    others: Vec<(String, Delta)>,
}

impl<'a> Deltas<'a> {
    /// `old` is null on create; `sub` is the subresource that is written.
    pub fn between(kind: &'a Kind, old: &'a Value, new: &'a Value, sub: &'a str) -> Self {
        let own = Delta::between(kind, old, new, sub);
        Self { kind, old, new, sub, own, others: Vec::new() }
    }

    /// In the words of the version at hand.
    pub fn own(&self) -> &Delta {
        &self.own
    }

    /// In the words of another version; None where it isn't served any more.
    pub fn in_version(&mut self, api_version: &str) -> Option<&Delta> {
        if self.kind.speaks(api_version) {
            return Some(&self.own);
        }
        let known = self.others.iter().position(|(version, _)| version == api_version);
        let at = match known {
            Some(at) => at,
            None => {
                let shown = self.kind.stored_in(self.kind.version_named(api_version)?);
                let (old, new) = (shown.converted(self.old), shown.converted(self.new));
                let delta = Delta::between(&shown, &old, &new, self.sub);
                self.others.push((api_version.to_owned(), delta));
                self.others.len() - 1
            }
        };
        Some(&self.others[at].1)
    }
}

impl Kind {
    /// The kind as it were if that version were the stored one.
    pub fn stored_in(&self, at: &GroupVersion) -> Self {
        let mut kind = self.clone();
        kind.served.sort_by_key(|served| served != at);
        kind
    }

    /// A copy of a tree of any version, in the stored one.
    pub fn converted(&self, object: &Value) -> Value {
        let mut object = object.clone();
        if !object.is_null() {
            self.convert(&mut object, self.storage());
        }
        object
    }

    /// Sets of fields told in that version read as those of the stored one. Versions of a custom kind
    /// are of one form.
    pub fn speaks(&self, api_version: &str) -> bool {
        self.is_custom() || self.storage().api_version() == api_version
    }

    pub fn version_named(&self, api_version: &str) -> Option<&GroupVersion> {
        self.served.iter().find(|served| served.api_version() == api_version)
    }

    /// Makes a tree of two trees as another version shows them; None where it isn't served any more.
    pub fn seen_in(
        &self,
        api_version: &str,
        (a, b): (&Value, &Value),
        make: impl FnOnce(&Self, &Value, &Value) -> Value,
    ) -> Option<Value> {
        if self.speaks(api_version) {
            return Some(make(self, a, b));
        }
        let shown = self.stored_in(self.version_named(api_version)?);
        let made = make(&shown, &shown.converted(a), &shown.converted(b));
        Some(self.converted(&made))
    }
}

/// The version in which an entry of `managedFields` is told.
pub fn version_of(entry: &Value) -> &str {
    tree::text(entry, "apiVersion")
}
