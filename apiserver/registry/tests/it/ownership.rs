//! Random writes by several managers against a small model of who owns what. The model knows paths,
//! their values and their owners, and four rules: a write by update or patch owns what it changes; an
//! apply owns what it names; what an applier names no more goes unless somebody else owns it; an item
//! of a list goes, with everything in it, when nobody owns the item itself.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};
use windlass_apiserver_registry::{Kind, Manager, apply, merge_patch, record_manager};
use windlass_apiserver_schema::{Schema, strategic_merge};
use windlass_sdk_meta::{Status, Timestamp};

use crate::{at, kind_of};

/// Path elements as managedFields write them.
type Path = Vec<&'static str>;
type Fields = BTreeMap<Path, Value>;
/// A manager's name, and whether it is about what it applied.
type Owner = (&'static str, bool);

const MANAGERS: [&str; 3] = ["one", "two", "three"];
/// Makes the object and owns a field that nobody else writes.
const MAKER: &str = "maker";

/// A path and the values, as JSON, that writes give it. Of items and of elements of sets there is
/// only one: that they are there.
type Slot = (&'static [&'static str], &'static [&'static str]);

const THERE: &[&str] = &["true"];
const PORT_80: &str = r#"k:{"port":80,"protocol":"TCP"}"#;
const PORT_81: &str = r#"k:{"port":81,"protocol":"UDP"}"#;
const MAIN: &str = r#"k:{"name":"main"}"#;
const SIDE: &str = r#"k:{"name":"side"}"#;
const MODE: &str = r#"k:{"name":"MODE"}"#;

const CONFIG_MAP: &[Slot] = &[
    (&["f:data", "f:x"], &[r#""1""#, r#""2""#, r#""3""#]),
    (&["f:data", "f:y"], &[r#""1""#, r#""2""#]),
    (&["f:metadata", "f:labels", "f:tier"], &[r#""front""#, r#""back""#]),
    (&["f:metadata", "f:finalizers", r#"v:"example.com/a""#], THERE),
    (&["f:metadata", "f:finalizers", r#"v:"example.com/b""#], THERE),
    (&["f:immutable"], &["false", "true"]),
];
const SERVICE: &[Slot] = &[
    (&["f:spec", "f:ports", PORT_80], THERE),
    (&["f:spec", "f:ports", PORT_80, "f:name"], &[r#""a""#, r#""b""#]),
    (&["f:spec", "f:ports", PORT_80, "f:targetPort"], &["8080", r#""web""#]),
    (&["f:spec", "f:ports", PORT_81], THERE),
    (&["f:spec", "f:ports", PORT_81, "f:name"], &[r#""c""#, r#""d""#]),
    // Owned as a whole.
    (&["f:spec", "f:selector"], &[r#"{"app":"a"}"#, r#"{"app":"b","tier":"c"}"#]),
    (&["f:metadata", "f:annotations", "f:note"], &[r#""a""#, r#""b""#]),
    (&["f:spec", "f:sessionAffinity"], &[r#""None""#, r#""ClientIP""#]),
];
const POD: &[Slot] = &[
    (&["f:spec", "f:containers", MAIN], THERE),
    (&["f:spec", "f:containers", MAIN, "f:image"], &[r#""a""#, r#""b""#]),
    (&["f:spec", "f:containers", MAIN, "f:args"], &[r#"["a"]"#, r#"["a","b"]"#]),
    (&["f:spec", "f:containers", MAIN, "f:env", MODE], THERE),
    (&["f:spec", "f:containers", MAIN, "f:env", MODE, "f:value"], &[r#""a""#, r#""b""#]),
    (&["f:spec", "f:containers", SIDE], THERE),
    (&["f:spec", "f:containers", SIDE, "f:image"], &[r#""c""#, r#""d""#]),
    (&["f:spec", "f:nodeSelector"], &[r#"{"a":"b"}"#, r#"{"c":"d"}"#]),
];
/// A kind with its slots, and the path and value that are its maker's.
type Subject = (&'static str, &'static [Slot], Slot);

const SUBJECTS: [Subject; 3] = [
    ("ConfigMap", CONFIG_MAP, (&["f:data", "f:anchor"], &[r#""here""#])),
    ("Service", SERVICE, (&["f:spec", "f:type"], &[r#""ClusterIP""#])),
    ("Pod", POD, (&["f:spec", "f:dnsPolicy"], &[r#""Default""#])),
];

#[derive(Clone, Debug, Default)]
struct Model {
    values: Fields,
    owners: BTreeMap<Path, BTreeSet<Owner>>,
}

impl Model {
    /// A write of the whole object.
    fn update(&mut self, who: &'static str, next: Fields) {
        let paths: BTreeSet<Path> = self.values.keys().chain(next.keys()).cloned().collect();
        for path in paths {
            match (self.values.get(&path), next.get(&path)) {
                (before, after) if before == after => {}
                (_, None) => drop(self.owners.remove(&path)),
                _ => drop(self.owners.insert(path, BTreeSet::from([(who, false)]))),
            }
        }
        self.values = next;
    }

    /// The conflicts; where there are any that aren't forced, nothing happens.
    fn apply(&mut self, who: &'static str, force: bool, config: &Fields) -> Vec<(Owner, Path)> {
        let me = (who, true);
        let changes =
            |path: &Path, value: &Value| self.values.get(path).is_some_and(|has| has != value);
        let conflicts: Vec<(Owner, Path)> = config
            .iter()
            .filter(|(path, value)| changes(path, value))
            .flat_map(|(path, _)| self.owners[path].iter().map(move |of| (*of, path.clone())))
            .filter(|(owner, _)| *owner != me)
            .collect();
        if !force && !conflicts.is_empty() {
            return conflicts;
        }
        for (path, value) in config {
            let owners = self.owners.entry(path.clone()).or_default();
            if self.values.insert(path.clone(), value.clone()).as_ref() != Some(value) {
                owners.clear();
            }
            owners.insert(me);
        }
        let dropped: Vec<Path> =
            self.owners.keys().filter(|path| !config.contains_key(*path)).cloned().collect();
        for path in dropped {
            if self.owners.get_mut(&path).is_some_and(|of| of.remove(&me) && of.is_empty()) {
                // An item takes along what is in it.
                self.values.retain(|other, _| !other.starts_with(&path));
                self.owners.retain(|other, _| !other.starts_with(&path));
            }
        }
        Vec::new()
    }
}

#[derive(Clone, Copy, Debug)]
enum How {
    Apply,
    Force,
    Update,
    MergePatch,
    StrategicPatch,
}

#[derive(Clone, Debug)]
struct Write {
    who: &'static str,
    how: How,
    /// One number a slot, which says what the write does with it.
    picks: Vec<u8>,
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    use How::*;
    let how = prop::sample::select(vec![Apply, Force, Update, MergePatch, StrategicPatch]);
    let write = (prop::sample::select(MANAGERS.to_vec()), how, prop::collection::vec(0u8..8, 8))
        .prop_map(|(who, how, picks)| Write { who, how, picks });
    prop::collection::vec(write, 1..12)
}

impl Write {
    fn applies(&self) -> bool {
        matches!(self.how, How::Apply | How::Force)
    }

    fn by(&self) -> Manager<'static> {
        Manager { name: self.who, subresource: "", applies: self.applies() }
    }

    /// What an applier names, or what the object is after another write.
    fn wanted(&self, slots: &[Slot], before: &Fields) -> Fields {
        let mut wanted = if self.applies() { Fields::new() } else { before.clone() };
        for ((path, values), pick) in slots.iter().zip(&self.picks) {
            let value = values[usize::from(*pick) % values.len()];
            match pick {
                0..4 => {}
                4 => remove(&mut wanted, path),
                _ => set(&mut wanted, path, value.parse().expect("JSON")),
            }
        }
        wanted
    }

    /// Does the write to what is stored.
    fn run(
        &self,
        kind: &Kind,
        live: &Value,
        before: &Fields,
        wanted: &Fields,
        now: Timestamp,
    ) -> Result<Value, Status> {
        let mut object = match self.how {
            How::Apply | How::Force => {
                let force = matches!(self.how, How::Force);
                apply(kind, Some(live), &object_of(kind, wanted), self.by(), force, now)?
            }
            How::Update => object_of(kind, wanted),
            How::MergePatch => {
                let mut object = live.clone();
                merge_patch(&mut object, &tree_of(merge_changes(before, wanted)))?;
                object
            }
            How::StrategicPatch => {
                let mut object = live.clone();
                let gvk = kind.gvk();
                let of = Schema::builtin().kind(&gvk.group, &gvk.version, &gvk.kind);
                let patch = tree_of(changes(before, wanted));
                strategic_merge(&mut object, &patch, of.expect("a known kind")).expect("a patch");
                object
            }
        };
        record_manager(kind, &mut object, Some(live), self.by(), now);
        Ok(object)
    }
}

/// Sets a path, and the items on the way to it.
fn set(fields: &mut Fields, path: &[&'static str], value: Value) {
    for (at, _) in path.iter().enumerate().filter(|(_, element)| element.starts_with("k:")) {
        fields.insert(path[..=at].to_vec(), json!(true));
    }
    fields.insert(path.to_vec(), value);
}

/// Takes out a path, and what is in it.
fn remove(fields: &mut Fields, path: &[&'static str]) {
    fields.retain(|other, _| !other.starts_with(path));
}

/// What a strategic merge patch says; None removes.
fn changes(before: &Fields, after: &Fields) -> BTreeMap<Path, Option<Value>> {
    let changed = after.iter().filter(|(path, value)| before.get(*path) != Some(*value));
    let set = changed.map(|(path, value)| (path.clone(), Some(instead(before.get(path), value))));
    let goes = |path: &[&'static str]| before.contains_key(path) && !after.contains_key(path);
    // What is inside of an item that goes needs no word.
    let inside = |path: &Path| (1..path.len()).any(|at| goes(&path[..at]));
    let removed = before.keys().filter(|path| goes(path) && !inside(path));
    set.chain(removed.map(|path| (path.clone(), None))).collect()
}

/// A map that takes the place of another, where patches would merge the two.
fn instead(before: Option<&Value>, value: &Value) -> Value {
    let mut value = value.clone();
    if let (Some(Value::Object(before)), Value::Object(now)) = (before, &mut value) {
        for key in before.keys().filter(|key| !now.contains_key(*key)).cloned().collect::<Vec<_>>()
        {
            now.insert(key, Value::Null);
        }
    }
    value
}

/// The same for a merge patch, which knows no items: a list is written whole or not at all.
fn merge_changes(before: &Fields, after: &Fields) -> BTreeMap<Path, Option<Value>> {
    let list =
        |path: &Path| path.iter().position(|e| !e.starts_with("f:")).map(|at| path[..at].to_vec());
    let mut patch = BTreeMap::new();
    for (path, value) in changes(before, after) {
        let Some(list) = list(&path) else {
            patch.insert(path, value);
            continue;
        };
        let whole: Vec<_> = after.iter().filter(|(other, _)| other.starts_with(&list)).collect();
        if whole.is_empty() {
            patch.insert(list, None);
        }
        patch.extend(whole.into_iter().map(|(path, value)| (path.clone(), Some(value.clone()))));
    }
    patch
}

/// The tree of such changes.
fn tree_of(fields: BTreeMap<Path, Option<Value>>) -> Value {
    let mut tree = json!({});
    for (path, value) in fields {
        put(&mut tree, &path, value);
    }
    tree
}

fn put(tree: &mut Value, path: &[&str], value: Option<Value>) {
    let Some((element, rest)) = path.split_first() else { return };
    let (sort, name) = element.split_once(':').expect("f:, k: or v:");
    match (sort, rest) {
        ("f", []) => tree[name] = value.unwrap_or_default(),
        ("f", [element]) if element.starts_with("v:") && value.is_none() => {
            put(&mut tree[format!("$deleteFromPrimitiveList/{name}")], rest, Some(Value::Null));
        }
        ("f", rest) => put(&mut tree[name], rest, value),
        (sort, rest) => {
            if tree.is_null() {
                *tree = json!([]);
            }
            let items = tree.as_array_mut().expect("a list");
            let said: Value = name.parse().expect("JSON");
            if sort == "v" {
                return items.push(said);
            }
            let at = items.iter().position(|item| is_of(item, &said)).unwrap_or_else(|| {
                items.push(said);
                items.len() - 1
            });
            if rest.is_empty() && value.is_none() {
                items[at]["$patch"] = "delete".into();
            }
            put(&mut items[at], rest, value);
        }
    }
}

fn is_of(item: &Value, keys: &Value) -> bool {
    keys.as_object().is_some_and(|keys| keys.iter().all(|(key, is)| item.get(key) == Some(is)))
}

fn object_of(kind: &Kind, fields: &Fields) -> Value {
    let said = fields.iter().map(|(path, value)| (path.clone(), Some(value.clone())));
    let mut object = tree_of(said.collect());
    object["apiVersion"] = "v1".into();
    object["kind"] = kind.gvk().kind.into();
    object["metadata"]["name"] = "a".into();
    object
}

fn value_at(tree: &Value, path: &[&str]) -> Option<Value> {
    let Some((element, rest)) = path.split_first() else {
        return Some(tree.clone()).filter(|value| !value.is_null());
    };
    let (sort, name) = element.split_once(':').expect("f:, k: or v:");
    if sort == "f" {
        return value_at(tree.get(name)?, rest);
    }
    let said: Value = name.parse().expect("JSON");
    let item = tree.as_array()?.iter().find(|item| **item == said || is_of(item, &said))?;
    if rest.is_empty() { Some(json!(true)) } else { value_at(item, rest) }
}

/// Values and owners of all paths that the slots know of, as an object tells them.
fn read(object: &Value, slots: &[Slot]) -> Model {
    let mut known = Fields::new();
    slots.iter().for_each(|(path, _)| set(&mut known, path, json!(true)));
    let mut model = Model::default();
    for path in known.into_keys() {
        let owners: BTreeSet<Owner> = entries(object)
            .iter()
            .filter(|entry| {
                let mut set = &entry["fieldsV1"];
                path.iter().for_each(|element| set = &set[element]);
                set.as_object().is_some_and(|set| set.is_empty() || set.contains_key("."))
            })
            .map(owner_of)
            .collect();
        model.values.extend(value_at(object, &path).map(|value| (path.clone(), value)));
        if !owners.is_empty() {
            model.owners.insert(path, owners);
        }
    }
    model
}

fn entries(object: &Value) -> &[Value] {
    object["metadata"]["managedFields"].as_array().map_or(&[], Vec::as_slice)
}

fn owner_of(entry: &Value) -> Owner {
    let known = MANAGERS.iter().chain(&[MAKER]).find(|name| entry["manager"] == **name);
    (known.expect("one of the managers"), entry["operation"] == "Apply")
}

/// Conflicts as causes tell them.
fn told(conflicts: Vec<(Owner, Path)>) -> Vec<(String, String)> {
    let step = |element: &&str| {
        let (sort, name) = element.split_once(':').expect("f:, k: or v:");
        match (sort, name.parse()) {
            ("k", Ok(Value::Object(keys))) => {
                let keys: Vec<String> =
                    keys.iter().map(|(key, is)| format!("{key}={is}")).collect();
                format!("[{}]", keys.join(","))
            }
            ("v", _) => format!("[={name}]"),
            _ => format!(".{name}"),
        }
    };
    let one = |((name, applies), path): (Owner, Path)| {
        let how = if applies { "" } else { " using v1" };
        (path.iter().map(step).collect(), format!("conflict with {name:?}{how}"))
    };
    let mut told: Vec<(String, String)> = conflicts.into_iter().map(one).collect();
    told.sort();
    told
}

fn check((kind, slots, anchor): Subject, writes: &[Write]) {
    let known = [slots, &[anchor]].concat();
    let kind = kind_of(&json!({"apiVersion": "v1", "kind": kind}));
    let mut model = Model::default();
    let mut first = Fields::new();
    set(&mut first, anchor.0, anchor.1[0].parse().expect("JSON"));
    let mut object = object_of(&kind, &first);
    let maker = Manager { name: MAKER, subresource: "", applies: false };
    record_manager(&kind, &mut object, None, maker, at("2026-11-23T17:59:59Z"));
    model.update(MAKER, first);

    for (n, write) in writes.iter().enumerate() {
        let now = at(&format!("2026-11-23T18:00:{n:02}Z"));
        let wanted = write.wanted(slots, &model.values);
        let result = write.run(&kind, &object, &model.values, &wanted, now);
        let conflicts = match write.how {
            How::Apply => model.apply(write.who, false, &wanted),
            How::Force => model.apply(write.who, true, &wanted),
            _ => {
                model.update(write.who, wanted.clone());
                Vec::new()
            }
        };
        let next = match result {
            Ok(next) => {
                assert!(conflicts.is_empty(), "write {n}: no conflicts, but {:?}", told(conflicts));
                next
            }
            Err(status) => {
                let causes = status.details.into_iter().flat_map(|details| details.causes);
                let mut causes: Vec<_> = causes.map(|c| (c.field, c.message)).collect();
                causes.sort();
                assert_eq!(causes, told(conflicts), "write {n}: {}", status.message);
                continue;
            }
        };
        let found = read(&next, &known);
        assert_eq!(next["metadata"]["name"], "a", "write {n}");
        assert_eq!(found.values, model.values, "values after write {n}: {next}");
        assert_eq!(found.owners, model.owners, "owners after write {n}: {next}");
        times_of_others_stay(&object, &next, write);
        if write.applies() {
            let again = write.run(&kind, &next, &model.values, &wanted, at("2026-11-23T19:00:00Z"));
            assert_eq!(again.expect("no conflict"), next, "write {n} twice");
        }
        object = next;
    }
}

fn times_of_others_stay(before: &Value, after: &Value, write: &Write) {
    for entry in entries(after) {
        let owner = owner_of(entry);
        let was = entries(before).iter().find(|was| owner_of(was) == owner);
        if owner != (write.who, write.applies()) {
            assert_eq!(was.map(|was| &was["time"]), Some(&entry["time"]), "of {owner:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn ownership_is_as_the_model_has_it(of in 0..SUBJECTS.len(), writes in writes()) {
        check(SUBJECTS[of], &writes);
    }
}
