//! Types of expressions: what each part yields, which overloads its calls may come to, and what is
//! wrong with it, in cel-go's words.

mod literals;

use std::{collections::HashMap, fmt, sync::Arc};

use crate::{
    Scope,
    decl::{Decl, Form},
    functions::{self, Overload},
    syntax::{self, Expr, Loop, Node},
    value::Value,
};

/// Types of what expressions make.
pub const OBJECT: &str = "Object";
pub const JSON_PATCH: &str = "JSONPatch";
/// Errors that one expression is told of.
const MAX_ERRORS: usize = 20;

#[derive(Clone, Debug)]
pub enum Type {
    Dyn,
    /// A message of any type: dynamic, under another name.
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Arc<Type>),
    Map(Arc<Type>, Arc<Type>),
    Optional(Arc<Type>),
    Object(Arc<Decl>),
    Opaque(&'static str),
    /// A part of an object that an expression makes: `Object`, `Object.spec`, `JSONPatch`.
    Made(Arc<str>),
    TypeOf(Arc<Type>),
    /// Not known yet; a position among the substitutions.
    Var(usize),
}

/// What is known about each node of a tree.
#[derive(Debug)]
pub struct Checked {
    pub types: Vec<Type>,
    /// Of calls.
    pub overloads: HashMap<usize, Vec<&'static str>>,
}

/// Types a tree. Errors: upstream's text, one `ERROR:` a mistake.
pub fn check(root: &Node, scope: &Scope, source: &str) -> Result<Checked, String> {
    let mut checker = Checker {
        source,
        makes_patches: scope.makes_patches(),
        vars: scope.types().collect(),
        substitutions: Vec::new(),
        types: vec![Type::Dyn; syntax::count(root)],
        overloads: HashMap::new(),
        errors: Vec::new(),
    };
    checker.visit(root);
    if checker.errors.is_empty() {
        checker.literals(root, false);
    }
    if !checker.errors.is_empty() {
        return Err(checker.errors.join("\n"));
    }
    let types: Vec<Type> = checker.types.iter().map(|ty| checker.settled(ty)).collect();
    Ok(Checked { types, overloads: checker.overloads })
}

/// The type of a declaration's values.
pub fn of_decl(decl: &Arc<Decl>) -> Type {
    match &decl.form {
        Form::Bool => Type::Bool,
        Form::Int => Type::Int,
        Form::Double => Type::Double,
        Form::String => Type::String,
        Form::Bytes => Type::Bytes,
        Form::Timestamp | Form::Date => Type::Timestamp,
        Form::Duration => Type::Duration,
        Form::IntOrString | Form::Dyn => Type::Dyn,
        Form::Any => Type::Any,
        Form::Opaque(name) => Type::Opaque(name),
        Form::List(inner, _) => Type::List(Arc::new(of_decl(inner))),
        Form::Map(inner) => Type::Map(Arc::new(Type::String), Arc::new(of_decl(inner))),
        Form::Object(_) => Type::Object(decl.clone()),
    }
}

struct Checker<'s> {
    source: &'s str,
    makes_patches: bool,
    vars: Vec<(Arc<str>, Type)>,
    substitutions: Vec<Option<Type>>,
    types: Vec<Type>,
    overloads: HashMap<usize, Vec<&'static str>>,
    errors: Vec<String>,
}

impl Checker<'_> {
    fn visit(&mut self, node: &Node) -> Type {
        let ty = match &node.expr {
            Expr::Literal(value) => literal(value),
            Expr::Ident(name) => self.ident(name),
            Expr::Select { of, field, test: false } if self.is_qualified(of, field) => {
                let Expr::Ident(name) = &of.expr else { return Type::Dyn };
                let name = format!("{name}.{field}");
                self.ident(&name)
            }
            Expr::Select { of, field, test } => {
                let of = self.visit(of);
                let found = self.select(&of, field);
                if *test { Type::Bool } else { found }
            }
            Expr::Call { function, target, args } if &**function == "_?._" => {
                let _ = target;
                self.optional_select(args)
            }
            Expr::Call { function, target, args } => {
                let target = target.as_deref().map(|target| self.visit(target));
                let types: Vec<Type> = args.iter().map(|arg| self.visit(arg)).collect();
                match &**function {
                    "_&&_" | "_||_" if self.not_bool(args, &types) => Type::Bool,
                    _ => self.call(node.id, function, target, types),
                }
            }
            Expr::List(items) => {
                let element = self.fresh();
                for (item, optional) in items {
                    let ty = self.visit(item);
                    let ty = if *optional { self.unwrapped(ty) } else { ty };
                    self.join(&element, &ty);
                }
                Type::List(Arc::new(element))
            }
            Expr::Map(entries) => {
                let (key, value) = (self.fresh(), self.fresh());
                for (k, v, optional) in entries {
                    let (k, v) = (self.visit(k), self.visit(v));
                    let v = if *optional { self.unwrapped(v) } else { v };
                    self.join(&key, &k);
                    self.join(&value, &v);
                }
                Type::Map(Arc::new(key), Arc::new(value))
            }
            Expr::Loop(it) => self.comprehension(it),
            Expr::Struct(name, fields) => self.structure(name, fields),
        };
        self.types[node.id] = ty.clone();
        ty
    }

    fn ident(&mut self, name: &str) -> Type {
        let known = self.vars.iter().rev().find(|(own, _)| **own == *name);
        if let Some((_, ty)) = known {
            return ty.clone();
        }
        if let Some(named) = type_named(name) {
            return Type::TypeOf(Arc::new(named));
        }
        self.undeclared(name, "");
        Type::Dyn
    }

    /// A variable has a dot in its name.
    fn is_qualified(&self, of: &Node, field: &str) -> bool {
        let Expr::Ident(name) = &of.expr else { return false };
        self.vars.iter().any(|(own, _)| {
            own.strip_prefix(&**name).and_then(|rest| rest.strip_prefix('.')) == Some(field)
        })
    }

    /// `Object.spec{replicas: 3}` and the like.
    fn structure(&mut self, name: &Arc<str>, fields: &[(Arc<str>, Node, bool)]) -> Type {
        let known = **name == *JSON_PATCH || **name == *OBJECT || name.starts_with("Object.");
        if !self.makes_patches || !known {
            self.undeclared(name, "{");
            return Type::Dyn;
        }
        for (field, value, optional) in fields {
            let value = self.visit(value);
            let value = if *optional { self.unwrapped(value) } else { value };
            let wanted = made_field(name, field);
            if !wanted.as_ref().is_some_and(|wanted| self.unify(wanted, &value)) {
                let wanted = wanted.map_or_else(String::new, |of| self.settled(&of).to_string());
                let given = self.settled(&value);
                let why = format!(
                    "expected type of field '{field}' is '{wanted}' but provided type is '{given}'"
                );
                self.error(&format!("{field}:"), why);
            }
        }
        Type::Made(name.clone())
    }

    fn select(&mut self, of: &Type, field: &str) -> Type {
        match self.settled(of) {
            Type::Dyn | Type::Any | Type::Var(_) => Type::Dyn,
            Type::Map(_, value) => (*value).clone(),
            Type::Made(name) => made_field(&name, field).unwrap_or_else(|| {
                self.error(&format!(".{field}"), format!("undefined field '{field}'"));
                Type::Dyn
            }),
            Type::Optional(inner) => {
                let found = self.select(&inner, field);
                Type::Optional(Arc::new(found))
            }
            Type::Object(decl) => match &decl.form {
                Form::Object(fields) if fields.contains_key(field) => of_decl(&fields[field].decl),
                _ => {
                    self.error(&format!(".{field}"), format!("undefined field '{field}'"));
                    Type::Dyn
                }
            },
            other => {
                let why = format!("type '{other}' does not support field selection");
                self.error(&format!(".{field}"), why);
                Type::Dyn
            }
        }
    }

    fn optional_select(&mut self, args: &[Node]) -> Type {
        let [of, field] = args else { return Type::Dyn };
        let of = self.visit(of);
        self.visit(field);
        let Expr::Literal(Value::String(field)) = &field.expr else { return Type::Dyn };
        match self.select(&of, field) {
            Type::Optional(inner) => Type::Optional(inner),
            other => Type::Optional(Arc::new(other)),
        }
    }

    fn comprehension(&mut self, it: &Loop) -> Type {
        let range = self.visit(&it.range);
        let init = self.visit(&it.init);
        let (first, second) = match self.settled(&range) {
            Type::List(item) if it.second.is_some() => (Type::Int, (*item).clone()),
            Type::List(item) => ((*item).clone(), Type::Dyn),
            Type::Map(key, value) => ((*key).clone(), (*value).clone()),
            Type::Dyn | Type::Any | Type::Var(_) => (Type::Dyn, Type::Dyn),
            other => {
                let why = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.errors.push(format!("ERROR: <input>:1:1: {why}"));
                (Type::Dyn, Type::Dyn)
            }
        };
        let depth = self.vars.len();
        self.vars.push((it.accu.clone(), init.clone()));
        self.vars.push((it.first.clone(), first));
        if let Some(name) = &it.second {
            self.vars.push((name.clone(), second));
        }
        self.visit(&it.while_);
        let step = self.visit(&it.step);
        if !self.unify(&init, &step) && !matches!(self.settled(&step), Type::Dyn) {
            self.errors.push(self.mismatch("_&&_", &[init.clone(), step]));
        }
        self.vars.truncate(depth + 1);
        let result = self.visit(&it.result);
        self.vars.truncate(depth);
        result
    }

    fn call(&mut self, id: usize, function: &str, target: Option<Type>, args: Vec<Type>) -> Type {
        let all = functions::overloads(function);
        let member = target.is_some();
        let of_patches = function.strip_prefix("jsonpatch.").filter(|_| !self.makes_patches);
        if of_patches.is_some() || !all.iter().any(|overload| overload.member == member) {
            if of_patches.is_some() {
                self.undeclared("jsonpatch", "");
            }
            self.undeclared(of_patches.unwrap_or(function), "(");
            return Type::Dyn;
        }
        let given: Vec<Type> = target.into_iter().chain(args).collect();
        let (mut ids, mut result): (Vec<&'static str>, Option<Type>) = (Vec::new(), None);
        for overload in all.iter().filter(|overload| overload.member == member) {
            let before = self.substitutions.clone();
            match self.fits(overload, &given) {
                Some(ty) => {
                    ids.push(overload.id);
                    result = Some(match result {
                        None => ty,
                        Some(known) if self.same(&known, &ty) => known,
                        Some(_) => Type::Dyn,
                    });
                }
                None => self.substitutions = before,
            }
        }
        let Some(result) = result else {
            let why = self.mismatch(function, &given);
            self.errors.push(why);
            return Type::Dyn;
        };
        self.overloads.insert(id, ids);
        result
    }

    fn fits(&mut self, overload: &Overload, given: &[Type]) -> Option<Type> {
        if overload.args.len() != given.len() {
            return None;
        }
        let vars = [self.fresh(), self.fresh()];
        for (wanted, given) in overload.args.iter().zip(given) {
            let wanted = wanted.with(&vars);
            if !self.unify(&wanted, given) {
                return None;
            }
        }
        let result = overload.result.with(&vars);
        Some(self.settled(&result))
    }

    /// Makes two types one where they can be.
    fn unify(&mut self, a: &Type, b: &Type) -> bool {
        let (a, b) = (self.shallow(a), self.shallow(b));
        match (&a, &b) {
            (Type::Var(x), Type::Var(y)) if x == y => true,
            (Type::Var(at), other) | (other, Type::Var(at)) => {
                self.substitutions[*at] = Some(other.clone());
                true
            }
            (Type::Dyn | Type::Any, _) | (_, Type::Dyn | Type::Any) => true,
            (Type::List(x), Type::List(y)) | (Type::Optional(x), Type::Optional(y)) => {
                self.unify(x, y)
            }
            (Type::Map(k1, v1), Type::Map(k2, v2)) => self.unify(k1, k2) && self.unify(v1, v2),
            (Type::Object(x), Type::Object(y)) => Arc::ptr_eq(x, y),
            (Type::Opaque(x), Type::Opaque(y)) => x == y,
            (Type::Made(x), Type::Made(y)) => x == y,
            // What may be absent is compared with null.
            (Type::Null, other) | (other, Type::Null) => matches!(
                other,
                Type::Null
                    | Type::Object(_)
                    | Type::Opaque(_)
                    | Type::Made(_)
                    | Type::Timestamp
                    | Type::Duration
            ),
            _ => std::mem::discriminant(&a) == std::mem::discriminant(&b),
        }
    }

    /// An item among others: those of different types make them dynamic.
    fn join(&mut self, into: &Type, ty: &Type) {
        let before = self.substitutions.clone();
        if !self.unify(into, ty) {
            self.substitutions = before;
            if let Type::Var(at) = into {
                self.substitutions[*at] = Some(Type::Dyn);
            }
        }
    }

    fn unwrapped(&self, ty: Type) -> Type {
        match self.settled(&ty) {
            Type::Optional(inner) => (*inner).clone(),
            other => other,
        }
    }

    fn fresh(&mut self) -> Type {
        self.substitutions.push(None);
        Type::Var(self.substitutions.len() - 1)
    }

    fn shallow(&self, ty: &Type) -> Type {
        let mut at = ty;
        while let Type::Var(var) = at {
            match &self.substitutions[*var] {
                Some(next) => at = next,
                None => break,
            }
        }
        at.clone()
    }

    /// The type without variables that are known.
    fn settled(&self, ty: &Type) -> Type {
        match self.shallow(ty) {
            Type::List(inner) => Type::List(Arc::new(self.settled(&inner))),
            Type::Map(key, value) => {
                Type::Map(Arc::new(self.settled(&key)), Arc::new(self.settled(&value)))
            }
            Type::Optional(inner) => Type::Optional(Arc::new(self.settled(&inner))),
            Type::TypeOf(inner) => Type::TypeOf(Arc::new(self.settled(&inner))),
            other => other,
        }
    }

    fn same(&self, a: &Type, b: &Type) -> bool {
        format!("{}", self.settled(a)) == format!("{}", self.settled(b))
    }

    fn mismatch(&self, function: &str, given: &[Type]) -> String {
        let given: Vec<String> = given.iter().map(|ty| self.settled(ty).to_string()).collect();
        let applied = match (functions::overloads(function).iter().any(|o| o.member), &given[..]) {
            (true, [target, rest @ ..]) if !functions::is_global(function) => {
                format!("{target}.({})", rest.join(", "))
            }
            (_, all) => format!("({})", all.join(", ")),
        };
        let needle = match function {
            "_?_:_" => "?".to_owned(),
            "_[_]" => "[".to_owned(),
            other if other.contains(['_', '@', '!', '-']) => {
                other.trim_matches('_').replace("@in", "in")
            }
            named => format!("{named}("),
        };
        let why = format!("found no matching overload for '{function}' applied to '{applied}'");
        self.at(&needle, &why)
    }

    /// `mark`: what follows the name where it is called or made.
    fn undeclared(&mut self, name: &str, mark: &str) {
        let why = format!("undeclared reference to '{name}' (in container '')");
        self.error(&format!("{name}{mark}"), why);
    }

    fn error(&mut self, needle: &str, why: String) {
        if self.errors.len() < MAX_ERRORS {
            let text = self.at(needle, &why);
            self.errors.push(text);
        }
    }

    /// The parser keeps no places: the first time that the text stands in the source is shown. What
    /// ends in a mark, as calls and structs do, is shown at the mark.
    fn at(&self, needle: &str, why: &str) -> String {
        let offset = self.source.find(needle).map_or(0, |at| {
            let marked = needle.len() > 1 && needle.ends_with(['(', '{', ':']);
            if marked { at + needle.len() - 1 } else { at }
        });
        let before = &self.source[..offset];
        let line = before.matches('\n').count();
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = self.source[start..offset].chars().count();
        let text = self.source.lines().nth(line).unwrap_or_default();
        let dots = ".".repeat(column);
        format!("ERROR: <input>:{}:{}: {why}\n | {text}\n | {dots}^", line + 1, column + 1)
    }
}

/// A type's name stands for the type.
fn type_named(name: &str) -> Option<Type> {
    let any = || Arc::new(Type::Dyn);
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "list" => Type::List(any()),
        "map" => Type::Map(any(), any()),
        "null_type" => Type::Null,
        "type" => Type::TypeOf(any()),
        _ => return None,
    })
}

/// Fields of objects may be anything, those of operations of a patch are known.
fn made_field(of: &str, field: &str) -> Option<Type> {
    match field {
        _ if of != JSON_PATCH => Some(Type::Dyn),
        "op" | "path" | "from" => Some(Type::String),
        "value" => Some(Type::Dyn),
        _ => None,
    }
}

fn literal(value: &Value) -> Type {
    match value {
        Value::Bool(_) => Type::Bool,
        Value::Int(_) => Type::Int,
        Value::Uint(_) => Type::Uint,
        Value::Double(_) => Type::Double,
        Value::String(_) => Type::String,
        Value::Bytes(_) => Type::Bytes,
        Value::Null => Type::Null,
        _ => Type::Dyn,
    }
}

impl Type {
    /// The type as Go's messages write it, which is not how those of the checker do.
    pub fn declared(&self) -> String {
        match self {
            Type::Null => "null_type".to_owned(),
            Type::Timestamp => "google.protobuf.Timestamp".to_owned(),
            Type::Duration => "google.protobuf.Duration".to_owned(),
            Type::List(inner) => format!("list({})", inner.declared()),
            Type::Map(key, value) => format!("map({}, {})", key.declared(), value.declared()),
            Type::Optional(inner) => format!("optional_type({})", inner.declared()),
            Type::TypeOf(inner) => format!("type({})", inner.declared()),
            Type::Any => "google.protobuf.Any".to_owned(),
            other => other.to_string(),
        }
    }

    /// Of one size whatever the value.
    pub fn is_scalar(&self) -> bool {
        match self {
            Type::Bool
            | Type::Int
            | Type::Uint
            | Type::Double
            | Type::Timestamp
            | Type::Duration => true,
            Type::Optional(inner) => inner.is_scalar(),
            _ => false,
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Dyn | Type::Var(_) => f.write_str("dyn"),
            Type::Null => f.write_str("null"),
            Type::Bool => f.write_str("bool"),
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Double => f.write_str("double"),
            Type::String => f.write_str("string"),
            Type::Bytes => f.write_str("bytes"),
            Type::Timestamp => f.write_str("timestamp"),
            Type::Duration => f.write_str("duration"),
            Type::List(inner) => write!(f, "list({inner})"),
            Type::Map(key, value) => write!(f, "map({key}, {value})"),
            Type::Optional(inner) => write!(f, "optional_type({inner})"),
            Type::Object(decl) if decl.name.is_empty() => f.write_str("object"),
            Type::Object(decl) => f.write_str(decl.name),
            Type::Opaque(name) => f.write_str(name),
            Type::Made(name) => f.write_str(name),
            Type::TypeOf(inner) => write!(f, "type({inner})"),
            Type::Any => f.write_str("any"),
        }
    }
}
