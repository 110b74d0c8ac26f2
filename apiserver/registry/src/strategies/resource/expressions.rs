//! The selectors of devices.

use serde_json::Value;

use super::requests::MOST_EXPRESSION_BYTES;
use crate::{
    cause::Path,
    expression::{Expression, Sees, Yields},
    tree,
};

/// Those of `selectors`, of a request or of a class. What is too long isn't compiled.
pub fn of_selectors(of: &Value, path: Path<'_>, into: &mut Vec<Expression>) {
    let path = path.child("selectors");
    for (at, selector) in tree::list(of, "selectors").iter().enumerate() {
        let source = tree::text(&selector["cel"], "expression");
        if tree::has(selector, "cel") && source.len() <= MOST_EXPRESSION_BYTES {
            let path = path.index(at).child("cel").child("expression").to_string();
            into.push(Expression::new(path, source, Sees::Device, Yields::Choice));
        }
    }
}

/// Those of a claim's specification.
pub fn of_claim(spec: &Value, path: Path<'_>) -> Vec<Expression> {
    let (path, mut all) = (path.child("devices"), Vec::new());
    let path = path.child("requests");
    for (at, request) in tree::list(&spec["devices"], "requests").iter().enumerate() {
        let item = path.index(at);
        of_selectors(&request["exactly"], item.child("exactly"), &mut all);
        let field = item.child("firstAvailable");
        for (at, one) in tree::list(request, "firstAvailable").iter().enumerate() {
            of_selectors(one, field.index(at), &mut all);
        }
    }
    all
}
