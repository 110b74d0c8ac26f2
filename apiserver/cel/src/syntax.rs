//! Expressions as a tree of our own: what the parser yields, with the macros that it doesn't know
//! expanded, and every node numbered.

use std::sync::Arc;

use kube_cel::cel::{
    IdedExpr,
    common::ast::{EntryExpr, Expr as Parsed, LiteralValue},
    parser::Parser,
};

use crate::value::Value;

/// What is longer can't be meant.
const MAX_SOURCE_BYTES: usize = 32 * 1024;
/// Address space for the parser; what isn't used isn't taken.
const STACK_BYTES: usize = 512 * 1024 * 1024;
/// How deep an expression may nest, macros expanded: upstream's limit of its parser.
const MAX_DEPTH: usize = 250;
/// The parser's time grows with the square of this.
const MAX_BRACKETS: usize = 2 * MAX_DEPTH;
/// The result of a macro's loop, as the parser names it.
pub const ACCUMULATOR: &str = "@result";
pub const MAP_INSERT: &str = "cel.@mapInsert";

#[derive(Clone, Debug)]
pub struct Node {
    /// Below `count` of the tree.
    pub id: usize,
    pub expr: Expr,
}

#[derive(Clone, Debug)]
pub enum Expr {
    Literal(Value),
    Ident(Arc<str>),
    /// `test`: has().
    Select {
        of: Box<Node>,
        field: Arc<str>,
        test: bool,
    },
    Call {
        function: Arc<str>,
        target: Option<Box<Node>>,
        args: Vec<Node>,
    },
    /// Items, and whether they are optional.
    List(Vec<(Node, bool)>),
    Map(Vec<(Node, Node, bool)>),
    Loop(Box<Loop>),
    /// A type's name, and fields with whether they are optional.
    Struct(Arc<str>, Vec<(Arc<str>, Node, bool)>),
}

/// A comprehension: what macros such as `all` come to.
#[derive(Clone, Debug)]
pub struct Loop {
    pub range: Node,
    pub first: Arc<str>,
    pub second: Option<Arc<str>>,
    pub accu: Arc<str>,
    pub init: Node,
    pub while_: Node,
    pub step: Node,
    pub result: Node,
}

/// Reads an expression. Errors: the parser's, with their places.
///
/// The parser descends as deep as an expression nests and has no limit that holds for chains such as
/// `a + b + c`; so it gets a stack for the longest source, and what comes out is bounded here.
pub fn parse(source: &str, binds: bool) -> Result<Node, String> {
    if source.len() > MAX_SOURCE_BYTES {
        let size = source.len();
        return Err(error(&format!(
            "expression code point size exceeds limit: size: {size}, limit {MAX_SOURCE_BYTES}"
        )));
    }
    if nests_deeper(source, MAX_BRACKETS) {
        return Err(error(&format!("expression recursion limit exceeded: {MAX_DEPTH}")));
    }
    let source = source.to_owned();
    let thread = std::thread::Builder::new().name("cel-parser".into()).stack_size(STACK_BYTES);
    let parsing = thread.spawn(move || parse_here(&source, binds));
    let parsing = parsing.map_err(|why| error(&format!("the parser can't be started: {why}")))?;
    parsing.join().unwrap_or_else(|_| Err(error("unsupported expression")))
}

fn parse_here(source: &str, binds: bool) -> Result<Node, String> {
    let parsed = Parser::new()
        .enable_optional_syntax(true)
        .parse(source)
        .map_err(|errors| errors.to_string().replace("\n| ", "\n | "))
        // Before the first column, where there is none.
        .map_err(|why| if source.is_empty() { why.replacen(":1:1:", ":1:0:", 1) } else { why })?;
    let mut reader = Reader { next: 0, depth: 0, binds };
    let mut root = reader.read(parsed)?;
    renumber(&mut root, &mut 0);
    Ok(root)
}

/// More brackets are open at some place, those in texts included.
fn nests_deeper(source: &str, most: usize) -> bool {
    let mut open = 0_usize;
    source.bytes().any(|byte| {
        match byte {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > most
    })
}

/// How many nodes a tree has.
pub fn count(node: &Node) -> usize {
    let mut most = node.id;
    each(node, &mut |inner| most = most.max(inner.id));
    most + 1
}

/// Whether a variable is named anywhere.
pub fn names(node: &Node, name: &str) -> bool {
    let mut found = false;
    each(node, &mut |inner| found |= matches!(&inner.expr, Expr::Ident(own) if **own == *name));
    found
}

fn each<'n>(node: &'n Node, visit: &mut dyn FnMut(&'n Node)) {
    visit(node);
    children(node, &mut |child| each(child, visit));
}

/// The parts that an expression is made of.
pub fn children<'n>(node: &'n Node, visit: &mut dyn FnMut(&'n Node)) {
    match &node.expr {
        Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select { of, .. } => visit(of),
        Expr::Call { target, args, .. } => target.iter().map(|t| &**t).chain(args).for_each(visit),
        Expr::List(items) => items.iter().for_each(|(item, _)| visit(item)),
        Expr::Map(entries) => entries.iter().for_each(|(key, value, _)| {
            visit(key);
            visit(value);
        }),
        Expr::Loop(it) => {
            [&it.range, &it.init, &it.while_, &it.step, &it.result].into_iter().for_each(visit);
        }
        Expr::Struct(_, fields) => fields.iter().for_each(|(_, value, _)| visit(value)),
    }
}

/// Expansion copies targets: every node gets a number of its own.
fn renumber(node: &mut Node, next: &mut usize) {
    node.id = *next;
    *next += 1;
    match &mut node.expr {
        Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select { of, .. } => renumber(of, next),
        Expr::Call { target, args, .. } => {
            target.iter_mut().for_each(|t| renumber(t, next));
            args.iter_mut().for_each(|arg| renumber(arg, next));
        }
        Expr::List(items) => items.iter_mut().for_each(|(item, _)| renumber(item, next)),
        Expr::Map(entries) => entries.iter_mut().for_each(|(key, value, _)| {
            renumber(key, next);
            renumber(value, next);
        }),
        Expr::Loop(it) => {
            for part in [&mut it.range, &mut it.init, &mut it.while_, &mut it.step, &mut it.result]
            {
                renumber(part, next);
            }
        }
        Expr::Struct(_, fields) => {
            fields.iter_mut().for_each(|(_, value, _)| renumber(value, next));
        }
    }
}

struct Reader {
    next: usize,
    depth: usize,
    /// `cel.bind` is a macro.
    binds: bool,
}

impl Reader {
    fn node(&mut self, expr: Expr) -> Node {
        self.next += 1;
        Node { id: self.next, expr }
    }

    fn read(&mut self, parsed: IdedExpr) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(error(&format!("expression recursion limit exceeded: {MAX_DEPTH}")));
        }
        let node = self.read_inner(parsed);
        self.depth -= 1;
        node
    }

    fn read_inner(&mut self, parsed: IdedExpr) -> Result<Node, String> {
        let expr = match parsed.expr {
            Parsed::Unspecified => return Err(error("unsupported expression")),
            Parsed::Struct(of) => {
                let mut fields = Vec::with_capacity(of.entries.len());
                for entry in of.entries {
                    let EntryExpr::StructField(entry) = entry.expr else {
                        return Err(error("unsupported expression"));
                    };
                    fields.push((entry.field.into(), self.read(entry.value)?, entry.optional));
                }
                Expr::Struct(of.type_name.into(), fields)
            }
            Parsed::Ident(name) => Expr::Ident(name.into()),
            Parsed::Literal(value) => Expr::Literal(literal(&value)),
            Parsed::Select(select) => Expr::Select {
                of: Box::new(self.read(*select.operand)?),
                field: select.field.into(),
                test: select.test,
            },
            Parsed::List(list) => {
                let optional = list.optional_indices;
                let items = list.elements.into_iter().enumerate();
                let items = items.map(|(at, item)| Ok((self.read(item)?, optional.contains(&at))));
                Expr::List(items.collect::<Result<_, String>>()?)
            }
            Parsed::Map(map) => {
                let mut entries = Vec::with_capacity(map.entries.len());
                for entry in map.entries {
                    let EntryExpr::MapEntry(entry) = entry.expr else {
                        return Err(error("unsupported expression"));
                    };
                    entries.push((self.read(entry.key)?, self.read(entry.value)?, entry.optional));
                }
                Expr::Map(entries)
            }
            Parsed::Comprehension(it) => {
                let it = *it;
                Expr::Loop(Box::new(Loop {
                    range: self.read(it.iter_range)?,
                    first: it.iter_var.into(),
                    second: it.iter_var2.map(Into::into),
                    accu: it.accu_var.into(),
                    init: self.read(it.accu_init)?,
                    while_: self.read(it.loop_cond)?,
                    step: self.read(it.loop_step)?,
                    result: self.read(it.result)?,
                }))
            }
            Parsed::Call(call) => {
                let target = call.target.map(|target| self.read(*target)).transpose()?;
                let args = call.args.into_iter().map(|arg| self.read(arg));
                let args = args.collect::<Result<Vec<_>, String>>()?;
                return Ok(self.call(&call.func_name, target, args));
            }
        };
        Ok(self.node(expr))
    }

    /// A call, or one of the macros that are expanded here.
    fn call(&mut self, function: &str, target: Option<Node>, args: Vec<Node>) -> Node {
        let Some(target) = target else { return self.plain(function, None, args) };
        // `sets.contains(...)` is a function with a dot in its name.
        if let Expr::Ident(prefix) = &target.expr {
            let qualified = format!("{prefix}.{function}");
            if crate::functions::is_global(&qualified) {
                return self.plain(&qualified, None, args);
            }
        }
        let vars: Option<(Arc<str>, Arc<str>)> = match args.as_slice() {
            [first, second, ..] => ident(first).zip(ident(second)),
            _ => None,
        };
        let is_cel = matches!(&target.expr, Expr::Ident(name) if **name == *"cel");
        match (function, args.len(), vars) {
            ("bind", 3, _) if self.binds && is_cel && ident(&args[0]).is_some() => self.bind(args),
            ("optMap" | "optFlatMap", 2, _) if ident(&args[0]).is_some() => {
                self.opt_map(function == "optFlatMap", target, args)
            }
            ("all" | "exists" | "exists_one" | "existsOne", 3, Some(vars)) => {
                self.quantifier(function, target, vars, args)
            }
            ("transformList" | "transformMap" | "transformMapEntry", 3 | 4, Some(vars)) => {
                self.transform(function, target, vars, args)
            }
            _ => self.plain(function, Some(target), args),
        }
    }

    fn plain(&mut self, function: &str, target: Option<Node>, args: Vec<Node>) -> Node {
        self.node(Expr::Call { function: function.into(), target: target.map(Box::new), args })
    }

    fn ident(&mut self, name: &str) -> Node {
        self.node(Expr::Ident(name.into()))
    }

    fn value(&mut self, value: Value) -> Node {
        self.node(Expr::Literal(value))
    }

    fn opt_map(&mut self, flat: bool, target: Node, mut args: Vec<Node>) -> Node {
        let body = args.pop().unwrap_or_else(|| target.clone());
        let var = args.pop().and_then(|var| ident(&var)).unwrap_or_else(|| "".into());
        let has = self.plain("hasValue", Some(target.clone()), Vec::new());
        let init = self.plain("value", Some(target), Vec::new());
        let bound = self.bound(var, init, body);
        let some = if flat { bound } else { self.plain("optional.of", None, vec![bound]) };
        let none = self.plain("optional.none", None, Vec::new());
        self.plain("_?_:_", None, vec![has, some, none])
    }

    /// `cel.bind(name, value, expression)`
    fn bind(&mut self, mut args: Vec<Node>) -> Node {
        let body = args.pop().unwrap_or_else(|| self.value(Value::Null));
        let init = args.pop().unwrap_or_else(|| body.clone());
        let var = args.pop().and_then(|var| ident(&var)).unwrap_or_else(|| "".into());
        self.bound(var, init, body)
    }

    /// A loop of no rounds whose result sees a variable.
    fn bound(&mut self, var: Arc<str>, init: Node, body: Node) -> Node {
        let (range, while_) = (self.node(Expr::List(Vec::new())), self.value(Value::Bool(false)));
        let step = self.ident(&var);
        self.node(Expr::Loop(Box::new(Loop {
            range,
            first: "#unused".into(),
            second: None,
            accu: var,
            init,
            while_,
            step,
            result: body,
        })))
    }

    fn quantifier(
        &mut self,
        function: &str,
        range: Node,
        (first, second): (Arc<str>, Arc<str>),
        mut args: Vec<Node>,
    ) -> Node {
        let test = args.pop().unwrap_or_else(|| range.clone());
        let accu = self.ident(ACCUMULATOR);
        let result = self.ident(ACCUMULATOR);
        let (init, while_, step, result) = match function {
            "all" | "exists" => {
                let all = function == "all";
                let again = self.ident(ACCUMULATOR);
                let held = if all { again } else { self.plain("!_", None, vec![again]) };
                let while_ = self.plain("@not_strictly_false", None, vec![held]);
                let operator = if all { "_&&_" } else { "_||_" };
                (
                    self.value(Value::Bool(all)),
                    while_,
                    self.plain(operator, None, vec![accu, test]),
                    result,
                )
            }
            _ => {
                let (one, again) = (self.value(Value::Int(1)), self.ident(ACCUMULATOR));
                let more = self.plain("_+_", None, vec![accu, one.clone()]);
                let step = self.plain("_?_:_", None, vec![test, more, again]);
                let equal = self.plain("_==_", None, vec![result, one]);
                (self.value(Value::Int(0)), self.value(Value::Bool(true)), step, equal)
            }
        };
        self.node(Expr::Loop(Box::new(Loop {
            range,
            first,
            second: Some(second),
            accu: ACCUMULATOR.into(),
            init,
            while_,
            step,
            result,
        })))
    }

    fn transform(
        &mut self,
        function: &str,
        range: Node,
        (first, second): (Arc<str>, Arc<str>),
        mut args: Vec<Node>,
    ) -> Node {
        let filtered = args.len() == 4;
        let value = args.pop().unwrap_or_else(|| range.clone());
        let filter = args.pop().filter(|_| filtered);
        let accu = self.ident(ACCUMULATOR);
        let (init, step) = match function {
            "transformList" => {
                let one = self.node(Expr::List(vec![(value, false)]));
                (self.node(Expr::List(Vec::new())), self.plain("_+_", None, vec![accu, one]))
            }
            "transformMap" => {
                let key = self.ident(&first);
                let step = self.plain(MAP_INSERT, None, vec![accu, key, value]);
                (self.node(Expr::Map(Vec::new())), step)
            }
            _ => {
                let step = self.plain(MAP_INSERT, None, vec![accu, value]);
                (self.node(Expr::Map(Vec::new())), step)
            }
        };
        let step = match filter {
            Some(filter) => {
                let again = self.ident(ACCUMULATOR);
                self.plain("_?_:_", None, vec![filter, step, again])
            }
            None => step,
        };
        let (while_, result) = (self.value(Value::Bool(true)), self.ident(ACCUMULATOR));
        self.node(Expr::Loop(Box::new(Loop {
            range,
            first,
            second: Some(second),
            accu: ACCUMULATOR.into(),
            init,
            while_,
            step,
            result,
        })))
    }
}

fn ident(node: &Node) -> Option<Arc<str>> {
    match &node.expr {
        Expr::Ident(name) => Some(name.clone()),
        _ => None,
    }
}

fn literal(value: &LiteralValue) -> Value {
    match value {
        LiteralValue::Boolean(value) => Value::Bool(*value.inner()),
        LiteralValue::Bytes(value) => Value::Bytes(value.inner().into()),
        LiteralValue::Double(value) => Value::Double(*value.inner()),
        LiteralValue::Int(value) => Value::Int(*value.inner()),
        LiteralValue::Null => Value::Null,
        LiteralValue::String(value) => Value::String(value.inner().into()),
        LiteralValue::UInt(value) => Value::Uint(*value.inner()),
    }
}

fn error(why: &str) -> String {
    format!("ERROR: <input>:1:1: {why}")
}
