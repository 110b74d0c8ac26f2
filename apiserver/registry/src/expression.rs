//! Expressions in CEL that objects hold, as their strategies hand them out: where each stands, what it
//! may name and what it must come to. Whoever has the compiler, which this crate has not, refuses
//! objects whose expressions don't compile.

use std::fmt::Display;

/// An expression of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// Its field, as causes name it.
    pub path: String,
    /// What is compiled.
    pub source: String,
    /// What a refusal shows.
    pub shown: String,
    pub sees: Sees,
    pub yields: Yields,
    /// Its value is a variable of that name for those behind it.
    pub defines: Option<String>,
}

/// What an expression may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// A request that is to be admitted, and with `params`, `authorizer` and `variables` what else
    /// is set.
    Admission { params: bool, authorizer: bool, variables: bool },
    /// A device.
    Device,
}

/// What an expression must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yields {
    Anything,
    Bool,
    Text,
    TextOrNull,
    /// An object that is applied.
    Object,
    /// Operations of a JSON patch.
    Patch,
    /// A yes or no, or what is known only of a device at hand.
    Choice,
}

impl Expression {
    pub fn new(path: impl Display, source: &str, sees: Sees, yields: Yields) -> Self {
        let (source, shown) = (source.to_owned(), source.to_owned());
        Self { path: path.to_string(), source, shown, sees, yields, defines: None }
    }
}
