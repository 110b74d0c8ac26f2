//! CEL as Kubernetes speaks it: expressions are read, held to the types of their variables, priced by
//! upstream's rules for the worst case, and (those of schemas) evaluated within a budget.
//!
//! `kube-cel` parses and brings the functions of Kubernetes' libraries. Walking an expression is done
//! here, because its own interpreter knows neither types nor a cost limit, copies whole subtrees at
//! each step and panics on some input. Knows no HTTP, no store and no kind.

mod calls;
mod check;
mod cost;
mod decl;
mod environment;
mod eval;
mod functions;
mod operations;
mod scope;
mod size;
mod syntax;
mod value;

pub use check::Type;
pub use decl::{Decl, Field, Form, ListKind, MAX_REQUEST_BYTES, escape};
pub use environment::{Admission, admission, device};
pub use eval::{Budget, EvalError};
pub use scope::Scope;
pub use value::Value;

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

impl Program {
    /// Reads an expression. Errors: what is wrong in it, one `ERROR:` with its place each.
    pub fn compile(source: &str, scope: &Scope) -> Result<Program, String> {
        let root = syntax::parse(source, scope.binds())?;
        let checked = check::check(&root, scope, source)?;
        let uses_old_self = syntax::names(&root, "oldSelf");
        let output = checked.types[root.id].clone();
        let max_cost = cost::estimate(&root, &checked, scope);
        Ok(Program { root, output, uses_old_self, max_cost })
    }

    /// Evaluates a rule of a schema. `old_self` is left out where the rule doesn't name it.
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
