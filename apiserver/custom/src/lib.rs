//! Kinds that come at run time: CustomResourceDefinitions, what their schemas mean, and the rows
//! that they make in the kind table. A custom resource passes the same stages as a built-in kind;
//! only its strategy is here. Knows no HTTP, no store and no async runtime.

mod columns;
mod correlate;
mod default;
mod definition;
mod formats;
mod kind;
mod lists;
mod meta;
mod openapi;
mod owned;
mod prune;
mod rules;
mod schema;
mod structural;
mod validate;

pub use definition::{
    CLEANUP, GROUP, PLURAL, conditions, definition_kind, established, names_status,
};
pub use kind::{fingerprint, in_use_since, kinds_of, replace, sort_kinds};
pub use openapi::{Dialect, definitions};

/// The kinds that are compiled in, with the one that makes others.
pub fn registry() -> windlass_apiserver_registry::Registry {
    windlass_apiserver_registry::Registry::builtin_with(definition_kind())
}

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod tests;
