//! The expressions of policies and of conditions of webhooks.

use serde_json::Value;

use super::policies::MOST_EXPRESSION_BYTES;
use crate::{
    cause::Path,
    expression::{Expression, Sees, Yields},
    tree,
};

/// Those of `matchConditions`. They are compiled without the space around them.
pub fn of_conditions(of: &Value, params: bool, path: Path<'_>, into: &mut Vec<Expression>) {
    let path = path.child("matchConditions");
    for (at, condition) in tree::list(of, "matchConditions").iter().enumerate() {
        let source = tree::text(condition, "expression").trim();
        let sees = Sees::Admission { params, authorizer: true, variables: false };
        add(path.index(at).child("expression"), source, sees, Yields::Bool, into);
    }
}

/// Those of a policy's spec; of `variables`, each sees those before it.
pub fn of_policy(spec: &Value, mutating: bool) -> Vec<Expression> {
    let path = Path::Root.child("spec");
    let params = tree::has(spec, "paramKind");
    let composed = mutating || !tree::list(spec, "variables").is_empty();
    let sees = Sees::Admission { params, authorizer: true, variables: composed };
    let mut all = Vec::new();
    of_conditions(spec, params, path, &mut all);
    let field = path.child("variables");
    for (at, variable) in tree::list(spec, "variables").iter().enumerate() {
        let source = tree::text(variable, "expression");
        if !source.trim().is_empty() {
            let path = field.index(at).child("expression").to_string();
            let defines = Some(tree::text(variable, "name").to_owned());
            let expression = Expression::new(path, source, sees, Yields::Anything);
            all.push(Expression { defines, ..expression });
        }
    }
    match mutating {
        true => of_mutations(spec, sees, path, &mut all),
        false => of_validations(spec, (params, composed), path, &mut all),
    }
    all
}

fn of_validations(
    spec: &Value,
    (params, composed): (bool, bool),
    path: Path<'_>,
    into: &mut Vec<Expression>,
) {
    let sees = |authorizer| Sees::Admission { params, authorizer, variables: composed };
    let field = path.child("validations");
    for (at, rule) in tree::list(spec, "validations").iter().enumerate() {
        let item = field.index(at);
        let text = |key: &str| tree::text(rule, key);
        add(item.child("expression"), text("expression"), sees(true), Yields::Bool, into);
        // Whoever is refused shouldn't learn what others may do.
        let message = text("messageExpression");
        add(item.child("messageExpression"), message, sees(false), Yields::Text, into);
    }
    let field = path.child("auditAnnotations");
    for (at, note) in tree::list(spec, "auditAnnotations").iter().enumerate() {
        let shown = tree::text(note, "valueExpression");
        let source = shown.trim();
        if !source.is_empty() && source.len() <= MOST_EXPRESSION_BYTES {
            let path = field.index(at).child("valueExpression").to_string();
            let expression = Expression::new(path, source, sees(true), Yields::TextOrNull);
            into.push(Expression { shown: shown.to_owned(), ..expression });
        }
    }
}

fn of_mutations(spec: &Value, sees: Sees, path: Path<'_>, into: &mut Vec<Expression>) {
    let field = path.child("mutations");
    for (at, mutation) in tree::list(spec, "mutations").iter().enumerate() {
        let (key, yields) = match tree::text(mutation, "patchType") {
            "JSONPatch" => ("jsonPatch", Yields::Patch),
            "ApplyConfiguration" => ("applyConfiguration", Yields::Object),
            _ => continue,
        };
        let source = tree::text(&mutation[key], "expression").trim();
        add(field.index(at).child(key).child("expression"), source, sees, yields, into);
    }
}

/// One that isn't there is refused elsewhere, or may be absent.
fn add(path: Path<'_>, source: &str, sees: Sees, yields: Yields, into: &mut Vec<Expression>) {
    if !source.trim().is_empty() {
        into.push(Expression::new(path, source, sees, yields));
    }
}
