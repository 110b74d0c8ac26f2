//! Calls of functions that `kube-cel` implements: arguments go over as variables of a small scope,
//! and the call is the only thing that its interpreter evaluates.

use std::{panic::AssertUnwindSafe, sync::LazyLock};

use kube_cel::{
    KubeCelExt as _,
    cel::{
        Context, IdedExpr,
        common::ast::{CallExpr, Expr},
    },
};

use crate::value::Value;

/// The functions, registered once a process. Never changed afterwards.
static FUNCTIONS: LazyLock<Shared> = LazyLock::new(|| Shared(Context::default().with_all()));
const ARGUMENTS: [&str; 5] = ["a0", "a1", "a2", "a3", "a4"];

struct Shared(Context<'static>);

/// Calls a function or, with two arguments, an operator. Errors: its message.
pub fn call(function: &str, target: Option<&Value>, args: &[Value]) -> Result<Value, String> {
    let mut scope = FUNCTIONS.0.new_inner_scope();
    if args.len() > ARGUMENTS.len() {
        return Err("no such overload".to_owned());
    }
    let variable = |name: &str| IdedExpr { id: 0, expr: Expr::Ident(name.to_owned()) };
    let mut parsed = CallExpr { func_name: function.to_owned(), target: None, args: Vec::new() };
    if let Some(target) = target {
        scope.add_variable_from_value("of", target.to_foreign());
        parsed.target = Some(Box::new(variable("of")));
    } else if let Some((prefix, name)) = function.split_once('.') {
        // The interpreter finds `sets.contains` by the name of the target.
        parsed.target = Some(Box::new(variable(prefix)));
        parsed.func_name = name.to_owned();
    }
    for (name, arg) in ARGUMENTS.iter().zip(args) {
        scope.add_variable_from_value(*name, arg.to_foreign());
        parsed.args.push(variable(name));
    }
    let expression = IdedExpr { id: 0, expr: Expr::Call(parsed) };
    // Its functions are many, and some index what they are given.
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| scope.resolve(&expression)));
    match result {
        Ok(Ok(value)) => Ok(Value::from_foreign(value)),
        Ok(Err(error)) => Err(words(&error.to_string())),
        Err(_) => Err("no such overload".to_owned()),
    }
}

/// cel-go's words for what `kube-cel` says in its own.
fn words(error: &str) -> String {
    let inner = error.strip_prefix("Error executing function '").and_then(|rest| {
        let (_, message) = rest.split_once("': ")?;
        Some(message.to_owned())
    });
    match error {
        "No such overload" => "no such overload".to_owned(),
        _ => inner.unwrap_or_else(|| error.to_owned()),
    }
}
