//! Who may do what in which repository: asked of whoever runs the registry.

use http::Extensions;

use crate::Repository;

/// What a request does to a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Pull,
    /// Brings content, and names that weren't there.
    Create,
    /// Makes a tag lead to another manifest.
    Update,
    Delete,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Yes,
    /// Nobody is known to have sent the request: answered with 401 and how to be known.
    Unknown,
    /// With the reason that the client is told; answered with 403.
    No(String),
}

pub trait Access: Send + Sync + 'static {
    /// May the sender of a request with these extensions do that?
    fn may(&self, request: &Extensions, action: Action, at: &Repository) -> Verdict;

    /// May the sender take away all that a namespace has?
    fn may_clear(&self, request: &Extensions, namespace: &str) -> Verdict;

    /// Whether the sender is anybody at all.
    fn knows(&self, request: &Extensions) -> bool;
}
