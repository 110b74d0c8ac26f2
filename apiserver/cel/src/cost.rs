//! What an expression can cost at worst, in the units and by the rules of cel-go's checker with
//! Kubernetes' estimates for its own functions (KEP-2876): rules above the budget are refused before
//! they ever run, and the same numbers must come out as upstream's.

use std::{collections::HashMap, sync::Arc};

use crate::{
    check::{Checked, Type},
    decl::{Decl, Form},
    scope::Scope,
    size::{Size, UNBOUNDED, replaced},
    syntax::{ACCUMULATOR, Expr, Loop, Node},
    value::Value,
};

const TRAVERSAL: f64 = 0.1;
const REGEX: f64 = 0.25;
const MAX_FORMAT_REGEX: f64 = 128.0;

/// The sizes of a list's or map's keys and values.
#[derive(Clone, Copy)]
struct Entries {
    is_list: bool,
    key: Size,
    value: Size,
}

#[derive(Clone)]
struct Local {
    path: Vec<Arc<str>>,
    size: Option<Size>,
    entries: Option<Entries>,
}

/// The most that a checked expression over these variables can cost.
pub fn estimate(root: &Node, checked: &Checked, scope: &Scope) -> u64 {
    let mut coster = Coster {
        checked,
        scope,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    coster.cost(root).max
}

struct Coster<'a> {
    checked: &'a Checked,
    scope: &'a Scope,
    paths: HashMap<usize, Vec<Arc<str>>>,
    sizes: HashMap<usize, Size>,
    entries: HashMap<usize, Entries>,
    locals: Vec<(Arc<str>, Local)>,
}

/// An argument as estimates see it.
struct Arg<'n> {
    node: &'n Node,
    cost: Size,
    size: Option<Size>,
    path: Vec<Arc<str>>,
}

impl Coster<'_> {
    fn cost(&mut self, node: &Node) -> Size {
        match &node.expr {
            Expr::Literal(_) => Size::exactly(0),
            Expr::Ident(name) => {
                let path = match self.local(name) {
                    Some(local) => local.path.clone(),
                    None => vec![name.clone()],
                };
                self.paths.insert(node.id, path);
                Size::exactly(1)
            }
            Expr::Select { of, test: true, .. } => self.cost(of),
            Expr::Select { of, field, .. } => {
                let sum = self.cost(of);
                let mut path = self.path(of);
                path.push(field.clone());
                self.paths.insert(node.id, path);
                match self.checked.types[of.id] {
                    Type::Map(..) | Type::Object(_) => sum.plus(Size::exactly(1)),
                    _ => sum,
                }
            }
            Expr::Call { function, target, args } => {
                self.call(node, function, target.as_deref(), args)
            }
            Expr::List(items) => {
                let (mut sum, mut each) = (Size::exactly(10), Size { min: UNBOUNDED, max: 0 });
                if items.is_empty() {
                    each.min = 0;
                }
                for (item, _) in items {
                    sum = sum.plus(self.cost(item));
                    each = each.union(self.size_or_unknown(item));
                }
                let entries = Entries { is_list: true, key: Size::exactly(1), value: each };
                self.entries.insert(node.id, entries);
                sum
            }
            Expr::Map(pairs) => self.map(node, pairs),
            Expr::Loop(it) if is_bind(it) => self.bind(node, it),
            Expr::Loop(it) => self.comprehension(node, it),
            Expr::Struct(_, fields) => fields
                .iter()
                .fold(Size::exactly(40), |sum, (_, value, _)| sum.plus(self.cost(value))),
        }
    }

    fn map(&mut self, node: &Node, pairs: &[(Node, Node, bool)]) -> Size {
        let start = Size { min: if pairs.is_empty() { 0 } else { UNBOUNDED }, max: 0 };
        let (mut sum, mut key, mut value) = (Size::exactly(30), start, start);
        for (k, v, _) in pairs {
            sum = sum.plus(self.cost(k)).plus(self.cost(v));
            key = key.union(self.size_or_unknown(k));
            value = value.union(self.size_or_unknown(v));
        }
        self.entries.insert(node.id, Entries { is_list: false, key, value });
        sum
    }

    fn bind(&mut self, node: &Node, it: &Loop) -> Size {
        let mut sum = self.cost(&it.range).plus(self.cost(&it.init));
        self.push(&it.accu, &it.init);
        sum = sum.plus(self.cost(&it.result));
        let (size, entries) = (self.size(&it.result), self.entries_of(&it.result));
        self.locals.pop();
        self.note(node.id, size, entries);
        sum
    }

    fn comprehension(&mut self, node: &Node, it: &Loop) -> Size {
        let mut sum = self.cost(&it.range).plus(self.cost(&it.init));
        self.push(&it.accu, &it.init);
        match &it.second {
            Some(second) => {
                self.push_part(&it.first, &it.range, Part::Key);
                self.push_part(second, &it.range, Part::Value);
            }
            None => self.push_part(&it.first, &it.range, Part::Single),
        }
        let each = self.cost(&it.while_).plus(self.cost(&it.step));
        let step_entries = self.entries_of(&it.step);
        self.locals.truncate(self.locals.len() - 1 - usize::from(it.second.is_some()));
        sum = sum.plus(self.cost(&it.result));
        self.locals.pop();
        let rounds = self.size_or_unknown(&it.range);
        sum = sum.plus(rounds.times(each));
        match &it.init.expr {
            Expr::Literal(_) => {
                let size = self.size(&it.init);
                self.note(node.id, size, None);
            }
            Expr::List(_) | Expr::Map(_) => self.note(node.id, Some(rounds), step_entries),
            _ => {}
        }
        sum
    }

    fn call(&mut self, node: &Node, function: &str, target: Option<&Node>, args: &[Node]) -> Size {
        if function == "dyn"
            && let [arg] = args
        {
            let cost = self.cost(arg);
            let (size, entries) = (self.size(arg), self.entries_of(arg));
            self.note(node.id, size, entries);
            return cost.plus(Size::exactly(1));
        }
        let args: Vec<Arg<'_>> = args.iter().map(|arg| self.arg(arg)).collect();
        let overloads = match function {
            "_?._" => vec!["select_optional_field"],
            _ => self.checked.overloads.get(&node.id).cloned().unwrap_or_default(),
        };
        if overloads.is_empty() {
            return Size::exactly(0);
        }
        let target = target.map(|target| self.arg(target));
        let sum = target.as_ref().map_or(Size::exactly(0), |target| target.cost);
        let (mut cost, mut result) = (Size { min: UNBOUNDED, max: 0 }, None::<Size>);
        for overload in overloads {
            let (own, size) = self.overload(node, function, overload, target.as_ref(), &args);
            cost = cost.union(own);
            if let Some(size) = size {
                result = Some(result.map_or(size, |known| known.union(size)));
            }
            let part = match overload {
                "index_list" => "@items",
                "index_map" => "@values",
                _ => "",
            };
            if !part.is_empty()
                && let Some(first) = args.first()
            {
                result = self.entries_of(first.node).map(|entries| entries.value);
                let mut path = first.path.clone();
                path.push(part.into());
                self.paths.insert(node.id, path);
            }
            if result.is_none() {
                result = self.size(node);
            }
        }
        self.note(node.id, result, None);
        sum.plus(cost)
    }

    /// The cost of a call by one overload, arguments included, and the size of what it yields.
    fn overload(
        &mut self,
        node: &Node,
        function: &str,
        id: &str,
        target: Option<&Arg<'_>>,
        args: &[Arg<'_>],
    ) -> (Size, Option<Size>) {
        let arguments = args.iter().fold(Size::exactly(0), |sum, arg| sum.plus(arg.cost));
        if let Some((cost, size)) = self.library(function, id, target, args) {
            return (cost.plus(arguments), size);
        }
        let of = |at: usize| args.get(at).map_or(Size::UNKNOWN, Arg::size_or_unknown);
        let own = target.map_or(Size::UNKNOWN, Arg::size_or_unknown);
        match id {
            "string_format" => (own.factor(TRAVERSAL).plus(arguments), None),
            "string_to_bytes" => {
                let size = Size { min: of(0).min, max: of(0).max.saturating_mul(4) };
                (of(0).factor(TRAVERSAL).plus(arguments), Some(size))
            }
            "bytes_to_string" => {
                let size = Size { min: of(0).min / 4, max: of(0).max };
                (of(0).factor(TRAVERSAL).plus(arguments), Some(size))
            }
            "strings_quote" => {
                let size = of(0);
                let quoted = Size {
                    min: size.min.saturating_add(2),
                    max: size.max.saturating_mul(2).saturating_add(2),
                };
                (size.factor(TRAVERSAL).plus(arguments), Some(quoted))
            }
            "starts_with_string" | "ends_with_string" => {
                (of(0).factor(TRAVERSAL).plus(arguments), None)
            }
            "in_list" => (of(1).plus(arguments), None),
            "matches_string" | "matches" => {
                let (text, pattern) = if id == "matches" { (of(0), of(1)) } else { (own, of(0)) };
                let text = text.plus(Size::exactly(1)).factor(TRAVERSAL);
                (text.times(pattern.factor(REGEX)).plus(arguments), None)
            }
            "contains_string" => {
                let cost = own.factor(TRAVERSAL).times(of(0).factor(TRAVERSAL));
                (cost.plus(arguments), None)
            }
            "logical_or" | "logical_and" => match args {
                [left, right] => {
                    let max = left.cost.plus(right.cost).max;
                    (Size { min: left.cost.min, max }, None)
                }
                _ => (arguments, None),
            },
            "conditional" => self.conditional(node, args),
            "add_string" | "add_bytes" | "add_list" => {
                let size = of(0).plus(of(1));
                if let [a, b] = args
                    && let (Some(a), Some(b)) = (self.entries_of(a.node), self.entries_of(b.node))
                {
                    self.entries.insert(node.id, a.union(b));
                }
                let cost = if id == "add_list" { Size::exactly(1) } else { size.factor(TRAVERSAL) };
                (cost.plus(arguments), Some(size))
            }
            _ if compares_by_traversal(id) => {
                let max = of(0).max.min(of(1).max);
                let size = Size { min: u64::from(max > 0), max };
                (size.factor(TRAVERSAL).plus(arguments), None)
            }
            _ => (Size::exactly(1).plus(arguments), None),
        }
    }

    fn conditional(&mut self, node: &Node, args: &[Arg<'_>]) -> (Size, Option<Size>) {
        let [test, yes, no] = args else { return (Size::exactly(1), None) };
        if let (Some(a), Some(b)) = (self.entries_of(yes.node), self.entries_of(no.node)) {
            self.entries.insert(node.id, a.union(b));
        }
        let size = yes.size_or_unknown().union(no.size_or_unknown());
        (test.cost.plus(yes.cost.union(no.cost)), Some(size))
    }

    /// Kubernetes' estimates; None where cel-go's own hold.
    fn library(
        &self,
        function: &str,
        id: &str,
        target: Option<&Arg<'_>>,
        args: &[Arg<'_>],
    ) -> Option<(Size, Option<Size>)> {
        let of = |at: usize| args.get(at).map(|arg| self.estimate_of(arg));
        let own = || target.map(|target| self.estimate_of(target));
        let plain = |cost: Size| Some((cost, None));
        let one = Size::exactly(1);
        match function {
            "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" | "includes" => {
                let target = target?;
                let size = self.estimate_of(target);
                match self.element(target) {
                    Some((ty, element)) => {
                        let each = match ty {
                            Type::String | Type::Bytes => one.plus(element.factor(TRAVERSAL)),
                            _ => one,
                        };
                        plain(size.times(each))
                    }
                    None if function == "includes" => plain(size.times(one)),
                    None => plain(size.factor(TRAVERSAL)),
                }
            }
            "url" => Some((of(0)?.factor(TRAVERSAL), of(0))),
            "lowerAscii" | "upperAscii" | "substring" | "trim" => {
                Some((own()?.factor(TRAVERSAL), own()))
            }
            "replace" => {
                let (size, from, to) = (own()?, of(0)?, of(1)?);
                Some((size.factor(2.0 * TRAVERSAL), Some(replaced(size, from, to))))
            }
            "split" => {
                let size = own()?;
                let most = match args.get(1).map(|arg| &arg.node.expr) {
                    Some(Expr::Literal(Value::Int(most))) => *most as u64,
                    _ => size.max,
                };
                Some((size.factor(2.0 * TRAVERSAL), Some(Size { min: 0, max: most })))
            }
            "join" => {
                let target = target?;
                let list = self.estimate_of(target);
                let mut size = match self.element(target) {
                    Some((_, element)) => list.times(element),
                    None => Size::exactly(0),
                };
                if let Some(separator) = of(0) {
                    let between =
                        Size { min: list.min.saturating_sub(1), max: list.max.saturating_sub(1) };
                    size = size.plus(separator.times(between));
                }
                Some((size.factor(TRAVERSAL), Some(size)))
            }
            "find" | "findAll" => {
                let size = own()?;
                let text = size.plus(one).factor(TRAVERSAL);
                let found = Size { min: 0, max: size.max };
                Some((text.times(of(0)?.factor(REGEX)), Some(found)))
            }
            "ip" if id == "cidr_ip" => plain(one),
            "cidr" | "isIP" | "isCIDR" | "ip" | "quantity" | "isQuantity" | "semver"
            | "isSemver" => plain(of(0)?.factor(TRAVERSAL)),
            "ip.isCanonical" => plain(of(0)?.factor(2.0 * TRAVERSAL)),
            "containsIP" | "containsCIDR" => {
                let bytes = Size { min: 4, max: 16 };
                let mut cost = bytes.plus(bytes).factor(TRAVERSAL);
                if function == "containsCIDR" {
                    cost = cost.plus(bytes.factor(TRAVERSAL)).plus(one);
                }
                if id.ends_with("_string") {
                    cost = cost.plus(of(0)?.factor(TRAVERSAL));
                }
                plain(cost)
            }
            "validate" => plain(of(0)?.factor(TRAVERSAL).factor(MAX_FORMAT_REGEX * REGEX)),
            "_==_" => match args.first().map(|arg| &self.checked.types[arg.node.id]) {
                Some(Type::Opaque("kubernetes.NamedFormat")) => {
                    plain(Size { min: 1, max: 64 }.factor(TRAVERSAL))
                }
                Some(Type::Opaque(_)) => plain(one),
                _ => None,
            },
            "masked"
            | "prefixLength"
            | "family"
            | "isUnspecified"
            | "isLoopback"
            | "isLinkLocalMulticast"
            | "isLinkLocalUnicast"
            | "isGlobalUnicast"
            | "format.named"
            | "sign"
            | "asInteger"
            | "isInteger"
            | "asApproximateFloat"
            | "isGreaterThan"
            | "isLessThan"
            | "compareTo"
            | "add"
            | "sub"
            | "major"
            | "minor"
            | "patch"
            | "getScheme"
            | "getHostname"
            | "getHost"
            | "getPort"
            | "getEscapedPath"
            | "getQuery" => plain(one),
            _ => None,
        }
    }

    fn arg<'n>(&mut self, node: &'n Node) -> Arg<'n> {
        let cost = self.cost(node);
        let mut path = self.path(node);
        if path.first().is_some_and(|first| **first == *ACCUMULATOR) {
            path.clear();
        }
        Arg { node, cost, size: self.size(node), path }
    }

    fn estimate_of(&self, arg: &Arg<'_>) -> Size {
        arg.size.or_else(|| self.by_path(&arg.path)).unwrap_or(Size::UNKNOWN)
    }

    /// The type of a list's items and their size.
    fn element(&self, list: &Arg<'_>) -> Option<(Type, Size)> {
        let inner = match &self.checked.types[list.node.id] {
            Type::List(inner) | Type::Map(inner, _) | Type::Optional(inner) => inner,
            _ => return None,
        };
        let mut path = list.path.clone();
        let size = match path.is_empty() {
            true => None,
            false => {
                path.push("@items".into());
                self.by_path(&path)
            }
        };
        Some(((**inner).clone(), size.unwrap_or(Size::UNKNOWN)))
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|(own, _)| **own == *name).map(|(_, local)| local)
    }

    fn path(&self, node: &Node) -> Vec<Arc<str>> {
        if let Expr::Ident(name) = &node.expr
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&node.id).cloned().unwrap_or_default()
    }

    fn push(&mut self, name: &Arc<str>, of: &Node) {
        let local =
            Local { path: self.path(of), size: self.size(of), entries: self.entries_of(of) };
        self.locals.push((name.clone(), local));
    }

    fn push_part(&mut self, name: &Arc<str>, range: &Node, part: Part) {
        let entries = self.entries_of(range);
        let is_list = entries
            .map_or(matches!(self.checked.types[range.id], Type::List(_)), |known| known.is_list);
        let (step, size) = match (part, is_list) {
            (Part::Value | Part::Single, true) => ("@items", entries.map(|e| e.value)),
            (Part::Key, true) => ("@indices", entries.map(|e| e.key)),
            (Part::Key | Part::Single, false) => ("@keys", entries.map(|e| e.key)),
            (Part::Value, false) => ("@values", entries.map(|e| e.value)),
        };
        let mut path = self.path(range);
        path.push(step.into());
        self.locals.push((name.clone(), Local { path, size, entries: None }));
    }

    fn note(&mut self, id: usize, size: Option<Size>, entries: Option<Entries>) {
        if let Some(size) = size {
            self.sizes.insert(id, size);
        }
        if let Some(entries) = entries {
            self.entries.insert(id, entries);
        }
    }

    fn size_or_unknown(&mut self, node: &Node) -> Size {
        self.size(node).unwrap_or(Size::UNKNOWN)
    }

    fn size(&mut self, node: &Node) -> Option<Size> {
        if let Some(size) = self.sizes.get(&node.id) {
            return Some(*size);
        }
        if let Some(size) = written_size(&node.expr) {
            return Some(Size::exactly(size));
        }
        if let Some(size) = self.by_path(&self.path(node)) {
            self.sizes.insert(node.id, size);
            return Some(size);
        }
        if self.checked.types[node.id].is_scalar() {
            return Some(Size::exactly(1));
        }
        match &node.expr {
            Expr::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn entries_of(&self, node: &Node) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&node.id) {
            return Some(*entries);
        }
        match &node.expr {
            Expr::Ident(name) => self.local(name).and_then(|local| local.entries),
            _ => None,
        }
    }

    /// What the declarations say about a path from a variable.
    fn by_path(&self, path: &[Arc<str>]) -> Option<Size> {
        let (root, rest) = path.split_first()?;
        let mut at = self.scope.decl(root)?.clone();
        for step in rest {
            at = match (&**step, &at.form) {
                ("@items" | "@values", _) => at.element()?.clone(),
                ("@keys", Form::Map(_)) => Decl::new(Form::String, at.key_elements, 2),
                // An attribute of a device: all are alike, whatever their names.
                (_, Form::Map(inner)) if matches!(inner.form, Form::Dyn | Form::Any) => {
                    inner.clone()
                }
                (field, Form::Object(fields)) => fields.get(field)?.decl.clone(),
                _ => return None,
            };
        }
        Some(Size { min: 0, max: at.max_elements })
    }
}

enum Part {
    Key,
    Value,
    Single,
}

impl Arg<'_> {
    fn size_or_unknown(&self) -> Size {
        self.size.unwrap_or(Size::UNKNOWN)
    }
}

impl Entries {
    fn union(self, other: Self) -> Self {
        Self {
            is_list: self.is_list,
            key: self.key.union(other.key),
            value: self.value.union(other.value),
        }
    }
}

fn is_bind(it: &Loop) -> bool {
    let empty = matches!(&it.range.expr, Expr::List(items) if items.is_empty());
    let never = matches!(it.while_.expr, Expr::Literal(Value::Bool(false)));
    empty && never && *it.accu != *ACCUMULATOR
}

fn compares_by_traversal(id: &str) -> bool {
    let compares = ["less_", "less_equals_", "greater_", "greater_equals_"];
    matches!(id, "equals" | "not_equals")
        || compares.iter().any(|prefix| {
            id.strip_prefix(prefix).is_some_and(|rest| rest == "string" || rest == "bytes")
        })
}

fn written_size(expr: &Expr) -> Option<u64> {
    Some(match expr {
        Expr::Literal(Value::String(text)) => text.chars().count() as u64,
        Expr::Literal(Value::Bytes(bytes)) => bytes.len() as u64,
        Expr::Literal(_) => 1,
        Expr::List(items) => items.len() as u64,
        Expr::Map(entries) => entries.len() as u64,
        _ => return None,
    })
}
