//! What is judged by operands and literals as they stand, rather than by overloads.

use super::{Checker, Type};
use crate::{
    syntax::{self, Expr, Node},
    value::Value,
};

impl Checker<'_> {
    /// Tells which operands of a logical operator aren't truths; false where all are.
    pub(super) fn not_bool(&mut self, args: &[Node], types: &[Type]) -> bool {
        let wrong: Vec<(&Node, &Type)> =
            args.iter().zip(types).filter(|(_, ty)| !self.unify(&Type::Bool, ty)).collect();
        for (arg, ty) in &wrong {
            let why = format!("expected type 'bool' but found '{}'", self.settled(ty));
            self.error(&written(arg, self.source), why);
        }
        !wrong.is_empty()
    }

    /// What a typed tree's literals still can't be: lists and maps of several types, unless they are
    /// what `format` shows, and patterns that are none.
    pub(super) fn literals(&mut self, node: &Node, free: bool) {
        let mut free = free;
        match &node.expr {
            Expr::List(items) if !free => {
                self.alike(items.iter().map(|(item, optional)| (item, *optional)))
            }
            Expr::Map(entries) if !free => {
                self.alike(entries.iter().map(|(key, _, _)| (key, false)));
                self.alike(entries.iter().map(|(_, value, optional)| (value, *optional)));
            }
            Expr::Call { function, args, .. } => {
                free |= &**function == "format";
                if let ("matches", Some(pattern)) = (&**function, args.last())
                    && let Expr::Literal(Value::String(text)) = &pattern.expr
                    && regex::Regex::new(text).is_err()
                {
                    self.error(&written(pattern, self.source), "invalid matches argument".into());
                }
            }
            _ => {}
        }
        syntax::children(node, &mut |child| self.literals(child, free));
    }

    fn alike<'n>(&mut self, items: impl Iterator<Item = (&'n Node, bool)>) {
        let mut first: Option<Type> = None;
        for (item, optional) in items {
            let ty = self.types[item.id].clone();
            let ty = if optional { self.unwrapped(ty) } else { self.settled(&ty) };
            match &first {
                None => first = Some(ty),
                Some(first) if self.same(first, &ty) => {}
                Some(first) => {
                    let why = format!("expected type '{first}' but found '{ty}'");
                    return self.error(&written(item, self.source), why);
                }
            }
        }
    }
}

/// How a literal or a name stands in the source; empty for all else.
fn written(node: &Node, source: &str) -> String {
    match &node.expr {
        Expr::Ident(name) => name.to_string(),
        Expr::Literal(Value::String(text)) => {
            let single = format!("'{text}'");
            if source.contains(&single) { single } else { format!("\"{text}\"") }
        }
        Expr::Literal(Value::Int(number)) => number.to_string(),
        Expr::Literal(Value::Bool(truth)) => truth.to_string(),
        _ => String::new(),
    }
}
