//! CEL as `x-kubernetes-validations` speaks it: expressions are read, held to the types of a schema,
//! priced by upstream's rules for the worst case, and evaluated within a budget.
//!
//! `kube-cel` parses and brings the functions of Kubernetes' libraries. Walking an expression is done
//! here, because its own interpreter knows neither types nor a cost limit, copies whole subtrees at
//! each step and panics on some input. Knows no HTTP, no store and no kind.

mod calls;
mod check;
mod cost;
mod decl;
mod eval;
mod functions;
mod operations;
mod size;
mod syntax;
mod value;

pub use check::Type;
pub use decl::{Decl, Field, Form, ListKind, MAX_REQUEST_BYTES, escape};
pub use eval::{Budget, EvalError};
pub use value::Value;

use std::sync::Arc;

/// What one evaluation may cost, and all rules over one object together: upstream's units.
pub const CALL_LIMIT: u64 = 1_000_000;
pub const OBJECT_BUDGET: u64 = 10_000_000;

/// An expression that was read and held to its types.
#[derive(Debug)]
pub struct Program {
    root: syntax::Node,
    /// What it evaluates to.
    pub output: Type,
    /// It names `oldSelf`.
    pub uses_old_self: bool,
    /// The most that it can cost with what the schema allows.
    pub max_cost: u64,
}

/// The variables of an expression: both are of one type.
#[derive(Clone, Debug)]
pub struct Scope {
    pub decl: Arc<Decl>,
    /// `oldSelf` is an optional.
    pub optional_old_self: bool,
}

impl Program {
    /// Reads an expression. Errors: what is wrong in it, one `ERROR:` with its place each.
    pub fn compile(source: &str, scope: &Scope) -> Result<Program, String> {
        let root = syntax::parse(source)?;
        let checked = check::check(&root, scope, source)?;
        let uses_old_self = syntax::names(&root, "oldSelf");
        let output = checked.types[root.id].clone();
        let max_cost = cost::estimate(&root, &checked, &scope.decl);
        Ok(Program { root, output, uses_old_self, max_cost })
    }

    /// Evaluates it. `old_self` is left out where the rule doesn't name it.
    pub fn eval(
        &self,
        self_: &Value,
        old_self: Option<&Value>,
        budget: &mut Budget,
    ) -> Result<Value, EvalError> {
        eval::eval(&self.root, self_, old_self, budget)
    }
}

#[cfg(test)]
mod tests;
