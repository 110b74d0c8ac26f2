//! Changes of a JSON tree at a path, as the generator makes them.

use serde_json::{Map, Value};

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Parents that are missing are made.
    Set(Vec<Segment>, Value),
    Remove(Vec<Segment>),
    /// Appends the first item of the list once more.
    Repeat(Vec<Segment>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    Key(String),
    Index(usize),
}

impl Op {
    /// Along plain keys: `metadata.name`.
    pub fn set(path: &str, value: Value) -> Self {
        Op::Set(keys(path), value)
    }

    pub fn remove(path: &str) -> Self {
        Op::Remove(keys(path))
    }
}

fn keys(path: &str) -> Vec<Segment> {
    path.split('.').map(|key| Segment::Key(key.to_owned())).collect()
}

/// `spec.containers[0].name`.
pub fn show(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        match segment {
            Segment::Key(key) if text.is_empty() => text.push_str(key),
            Segment::Key(key) => text.push_str(&format!(".{key}")),
            Segment::Index(at) => text.push_str(&format!("[{at}]")),
        }
    }
    text
}

pub fn apply(tree: &mut Value, op: &Op) {
    match op {
        Op::Set(path, value) => {
            if let Some(place) = reach(tree, path, true) {
                *place = value.clone();
            }
        }
        Op::Remove(path) => {
            let Some((last, parents)) = path.split_last() else { return };
            match (reach(tree, parents, false), last) {
                (Some(Value::Object(map)), Segment::Key(key)) => {
                    map.remove(key);
                }
                (Some(Value::Array(list)), Segment::Index(at)) if *at < list.len() => {
                    list.remove(*at);
                }
                _ => {}
            }
        }
        Op::Repeat(path) => {
            if let Some(Value::Array(list)) = reach(tree, path, false)
                && let Some(first) = list.first().cloned()
            {
                list.push(first);
            }
        }
    }
}

/// The place that a path leads to; `make`: what is missing on the way is made.
fn reach<'a>(mut tree: &'a mut Value, path: &[Segment], make: bool) -> Option<&'a mut Value> {
    for segment in path {
        tree = match segment {
            Segment::Key(key) => {
                if make && !tree.is_object() {
                    *tree = Value::Object(Map::new());
                }
                let map = tree.as_object_mut()?;
                if make { map.entry(key.clone()).or_insert(Value::Null) } else { map.get_mut(key)? }
            }
            Segment::Index(at) => {
                if make && !tree.is_array() {
                    *tree = Value::Array(Vec::new());
                }
                let list = tree.as_array_mut()?;
                if make && list.len() == *at {
                    list.push(Value::Null);
                }
                list.get_mut(*at)?
            }
        };
    }
    Some(tree)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn changes() {
        let mut tree = json!({"a": [{"b": 1}]});
        let first = [Segment::Key("a".into()), Segment::Index(0)];
        apply(&mut tree, &Op::Repeat(vec![first[0].clone()]));
        apply(&mut tree, &Op::Set([&first[..], &keys("c.d")].concat(), json!(2)));
        apply(&mut tree, &Op::Remove([&first[..], &keys("b")].concat()));
        assert_eq!(tree, json!({"a": [{"c": {"d": 2}}, {"b": 1}]}));
        assert_eq!(show(&[&first[..], &keys("c.d")].concat()), "a[0].c.d");
    }
}
