//! The table against the schema of the API: a row for every field, and every row does what it says.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};
use windlass_apiserver_schema::{Schema, Shape, facts};

use super::*;
use crate::unsupported::unsupported;

const NATURES: [Nature; 2] = [Nature::Wasm, Nature::Container];
const SPEC: &str = "io.k8s.api.core.v1.PodSpec";
const BEGIN: &str = "<!-- pod fields: made from runtime/agent/src/fields -->\n";
const END: &str = "<!-- end of pod fields -->";

/// A field where it is first met: the path of keys to it, and what the schema says of it.
struct Met {
    path: Vec<(&'static str, bool)>,
    row: Field,
    shape: &'static Shape,
    /// By what is above it, for each nature.
    covered: [bool; 2],
}

/// Every field below the specification as the schema has it, with its row.
fn walk(
    of: &'static facts::Type,
    name: &'static str,
    path: &[(&'static str, bool)],
    met: &mut Walked,
) {
    if !met.types.insert(name) {
        return;
    }
    let rows = fields_of(name).unwrap_or_else(|| panic!("no rows for {name}"));
    let mut known: BTreeSet<&str> = BTreeSet::new();
    properties(of, &mut |field| {
        let own: Vec<&Field> = rows.iter().filter(|row| row.name == field.json).collect();
        assert_eq!(own.len(), 1, "{name}.{} needs exactly one row", field.json);
        known.insert(field.json);
        let mut path = path.to_vec();
        path.push((field.json, matches!(field.shape, Shape::List(_))));
        let covered = met.covered;
        met.fields.push(Met { path: path.clone(), row: *own[0], shape: &field.shape, covered });
        let below = struct_of(&field.shape);
        let covers = |nature| {
            matches!(
                own[0].verdict_for(nature),
                Verdict::Without(_) | Verdict::Refused(When::Set, _)
            )
        };
        let covered = NATURES.map(covers);
        match below.filter(|_| covered != [true; 2]) {
            Some(below) => {
                let short = below.name.rsplit('.').next().unwrap_or_default();
                assert_eq!(own[0].to, short, "{name}.{} leads to {short}", field.json);
                let above = std::mem::replace(&mut met.covered, covered);
                walk(below, short, &path, met);
                met.covered = above;
            }
            None => assert_eq!(own[0].to, "", "{name}.{} leads nowhere", field.json),
        }
    });
    for row in rows {
        assert!(known.contains(row.name), "the schema has no {name}.{}", row.name);
    }
}

#[derive(Default)]
struct Walked {
    types: BTreeSet<&'static str>,
    fields: Vec<Met>,
    covered: [bool; 2],
}

fn walked() -> Walked {
    let mut met = Walked::default();
    let spec = Schema::builtin().type_named(SPEC).expect("the schema has pods");
    walk(spec, "PodSpec", &[], &mut met);
    met
}

/// The fields of a type, those of embedded types among them.
fn properties(of: &'static facts::Type, each: &mut dyn FnMut(&'static facts::Field)) {
    for field in &of.fields {
        match struct_of(&field.shape) {
            Some(embedded) if field.inline => properties(embedded, each),
            _ => each(field),
        }
    }
}

fn struct_of(shape: &'static Shape) -> Option<&'static facts::Type> {
    match shape {
        Shape::Struct(to) => Some(to.get()),
        Shape::List(inner) => struct_of(inner),
        _ => None,
    }
}

/// A value that is set, of the shape.
fn sample(shape: &Shape, row: Field, nature: Nature) -> Value {
    match (row.verdict_for(nature), shape) {
        (Verdict::Refused(When::OneOf(list), _), _) => list[0].into(),
        (Verdict::Refused(When::NotOneOf(_), _), _) => "Other".into(),
        (_, Shape::List(inner)) => json!([sample(inner, row, nature)]),
        (_, Shape::Map(inner)) => json!({"x": sample(inner, row, nature)}),
        (_, Shape::Struct(_)) => json!({}),
        (Verdict::Refused(When::False, _), _) => false.into(),
        (_, Shape::Bool) => true.into(),
        (_, Shape::String | Shape::Quantity) => "1".into(),
        _ => 1.into(),
    }
}

/// A pod that sets just this field.
fn pod_with(met: &Met, nature: Nature) -> (Value, String) {
    let mut value = sample(met.shape, met.row, nature);
    let mut path = String::new();
    for (at, (key, is_list)) in met.path.iter().enumerate() {
        let is_last = at + 1 == met.path.len();
        path.push_str(&format!(".{key}{}", if *is_list && !is_last { "[0]" } else { "" }));
    }
    for (at, (key, is_list)) in met.path.iter().enumerate().rev() {
        if at + 1 < met.path.len() && *is_list {
            value = json!([value]);
        }
        value = json!({ *key: value });
    }
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": value});
    (pod, format!("spec{path}"))
}

#[test]
fn every_field_of_the_schema_has_one_row() {
    let met = walked();
    let unmet: Vec<&str> =
        types().map(|row| row.name).filter(|name| !met.types.contains(name)).collect();
    assert!(unmet.is_empty(), "rows of types that no pod has: {unmet:?}");
    assert!(met.fields.len() > 200, "{}", met.fields.len());
}

#[test]
fn rows_do_what_they_say() {
    for (met, (at, nature)) in walked()
        .fields
        .iter()
        .flat_map(|met| NATURES.into_iter().enumerate().map(move |nature| (met, nature)))
    {
        let (pod, path) = pod_with(met, nature);
        let pod = serde_json::from_value(pod.clone()).unwrap_or_else(|e| panic!("{path}: {e}"));
        let said: Vec<String> =
            unsupported(&pod, nature).into_iter().map(|row| row.message).collect();
        match met.row.verdict_for(nature) {
            // What is above it says it.
            _ if met.covered[at] => {}
            Verdict::Refused(_, why) => {
                assert_eq!(said, [format!("{path} is not supported: {why}")]);
            }
            Verdict::Honoured(_) | Verdict::Without(_) => assert_eq!(said, [""; 0], "{path}"),
        }
    }
}

#[test]
fn the_readme_has_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(&path).expect("the README");
    let (before, rest) = readme.split_once(BEGIN).expect("the README has the table's beginning");
    let (now, after) = rest.split_once(END).expect("the README has the table's end");
    let table = format!("\n{}\n", pod_fields_markdown());
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{table}{END}{after}")).expect("written");
        return;
    }
    let how = "UPDATE_EXPECT=1 cargo test -p windlass-runtime-agent --lib fields";
    assert!(now == table, "the README's table of pod fields is old; run: {how}");
}
