//! Expressions in CEL are compiled when they are written: whoever writes them hears what is wrong, not
//! whoever they are evaluated for. Nothing compiled is kept here.

use std::sync::Arc;

use windlass_apiserver_cel::{
    Admission, CALL_LIMIT, Decl, Program, Scope, Type, admission, device,
};
use windlass_apiserver_registry::{Causes, Expression, Path, Sees, Yields};

/// Mistakes that one object is told of; after so many, the rest isn't compiled.
const MAX_CAUSES: usize = 100;

/// What is wrong with the expressions of an object, in their order. Takes long.
pub(crate) fn compile(expressions: &[Expression]) -> Causes {
    let (mut causes, mut variables) = (Causes::default(), Vec::new());
    for expression in expressions {
        if causes.len() >= MAX_CAUSES {
            break;
        }
        let compiled = Program::compile(&expression.source, &scope(expression, &variables));
        let Expression { path, shown, yields, .. } = expression;
        let path = Path::Child(&Path::Root, path);
        match &compiled {
            Err(why) => causes.invalid_text(path, shown, format!("compilation failed: {why}")),
            Ok(program) => match misfit(&program.output, *yields) {
                Some(why) => causes.invalid_text(path, shown, why),
                None if *yields == Yields::Choice && program.max_cost > CALL_LIMIT => {
                    causes.forbidden(path, "too complex, exceeds cost limit");
                }
                None => {}
            },
        }
        if let Some(name) = &expression.defines {
            // One that is wrong is told once, not by all that use it.
            let ty = compiled.map_or(Type::Dyn, |program| program.output);
            variables.push((Arc::from(name.as_str()), Decl::of_type(&ty)));
        }
    }
    causes
}

fn scope(expression: &Expression, known: &[(Arc<str>, Arc<Decl>)]) -> Scope {
    match expression.sees {
        Sees::Device => device(),
        Sees::Admission { params, authorizer, variables } => admission(Admission {
            params,
            authorizer,
            variables: variables.then_some(known),
            patches: matches!(expression.yields, Yields::Object | Yields::Patch),
        }),
    }
}

/// Why an expression must not come to that.
fn misfit(found: &Type, wanted: Yields) -> Option<String> {
    let declared = found.declared();
    let (fits, wanted) = match wanted {
        Yields::Anything => return None,
        Yields::Bool => (matches!(found, Type::Bool), "bool"),
        Yields::Text => (matches!(found, Type::String), "string"),
        Yields::TextOrNull => {
            let fits = matches!(found, Type::String | Type::Null);
            let why = format!("must evaluate to one of [string null_type] but got {declared}");
            return (!fits).then_some(why);
        }
        Yields::Choice => {
            let fits = matches!(found, Type::Bool | Type::Any);
            let why = format!("must evaluate to bool or the unknown type, not {declared}");
            return (!fits).then_some(why);
        }
        Yields::Object => (declared == "Object", "Object"),
        Yields::Patch => (declared == "list(JSONPatch)", "list(JSONPatch)"),
    };
    (!fits).then(|| format!("must evaluate to {wanted} but got {declared}"))
}
