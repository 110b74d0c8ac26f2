//! One row of the kind table. Nothing in the HTTP layer knows a kind by name: what a kind is called,
//! where it is served, which subresources and columns it has and which code looks after it all come
//! from here. Rows of built-in kinds borrow static text; rows made at run time own theirs.

use std::{borrow::Cow, fmt, sync::Arc};

use serde_json::Value;
use windlass_apiserver_schema::Type;
use windlass_sdk_meta::{Encoded, GroupResource, GroupVersionKind, GroupVersionResource, Object};

use crate::{computed::Source, ownership::Ownership, strategy::Strategy};

type Text = Cow<'static, str>;

/// A kind that the API serves.
#[derive(Clone)]
pub struct Kind {
    /// Where it is served. The first is the form in which it is stored; only Event has a second.
    pub served: Vec<GroupVersion>,
    pub kind: Text,
    pub list_kind: Text,
    pub plural: Text,
    pub singular: Text,
    pub short_names: Vec<Text>,
    pub categories: Vec<Text>,
    pub namespaced: bool,
    /// Discovery's verbs, sorted.
    pub verbs: Vec<Text>,
    pub subresources: Vec<Subresource>,
    /// Fields that field selectors may name besides `metadata.name` and `metadata.namespace`.
    pub selectable: Vec<Selectable>,
    pub columns: Vec<Column>,
    /// PUT of a name that doesn't exist creates it.
    pub create_on_update: bool,
    /// An update without a resourceVersion is taken.
    pub unconditional_update: bool,
    /// DELETE answers with the object that went, not with a Status.
    pub returns_deleted: bool,
    /// Nothing is stored: create evaluates and answers (the reviews), or `computed` does.
    pub virtual_only: bool,
    /// Nothing in this version acts on what objects of this kind say: writes warn of it.
    pub inert: bool,
    /// What every answer about this kind warns of: its version goes out of use.
    pub warning: Option<Text>,
    /// Objects are made when somebody asks.
    pub computed: Option<Source>,
    pub strategy: Arc<dyn Strategy>,
}

/// One served version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupVersion {
    pub group: Text,
    pub version: Text,
}

/// `pods/status` and the like: a name, the kind it reads and writes, and its verbs.
#[derive(Clone, Debug)]
pub struct Subresource {
    pub name: Text,
    pub group: Text,
    pub version: Text,
    pub kind: Text,
    pub verbs: Vec<Text>,
}

/// A field that selectors may ask for.
#[derive(Clone, Debug)]
pub struct Selectable {
    /// What a selector writes, and the group whose requests may write it so (None: all).
    pub label: Text,
    pub only_group: Option<Text>,
    /// Where the stored form has it; the name under which `Object::field` knows it.
    pub path: Text,
    /// What an absent field counts as.
    pub absent: &'static str,
}

/// A printed column (`metav1.TableColumnDefinition`); priority above 0 appears with `-o wide` only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: Text,
    /// `string`, `integer`, `date` ...
    pub data_type: Text,
    /// `name` for the object's name, else empty.
    pub format: Text,
    pub description: Text,
    pub priority: i32,
}

impl GroupVersion {
    pub fn new(group: impl Into<Text>, version: impl Into<Text>) -> Self {
        Self { group: group.into(), version: version.into() }
    }

    /// `apps/v1`, or `v1` for the core group.
    pub fn api_version(&self) -> Cow<'_, str> {
        match self.group.as_ref() {
            "" => Cow::Borrowed(&self.version),
            group => Cow::Owned(format!("{group}/{}", self.version)),
        }
    }
}

impl Selectable {
    pub fn new(label: impl Into<Text>, path: impl Into<Text>, absent: &'static str) -> Self {
        Self { label: label.into(), only_group: None, path: path.into(), absent }
    }
}

impl Kind {
    /// The form in which objects of this kind are stored.
    pub fn storage(&self) -> &GroupVersion {
        &self.served[0]
    }

    /// The stored kind.
    pub fn gvk(&self) -> GroupVersionKind {
        self.gvk_in(self.storage())
    }

    /// The kind as one of its served versions calls it.
    pub fn gvk_in(&self, version: &GroupVersion) -> GroupVersionKind {
        GroupVersionKind::new(&version.group, &version.version, &self.kind)
    }

    pub fn gvr_in(&self, version: &GroupVersion) -> GroupVersionResource {
        GroupVersionResource::new(&version.group, &version.version, &self.plural)
    }

    /// The stored resource: keys, look-ups and messages use it.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(&self.storage().group, &self.plural)
    }

    /// The served version of that name.
    pub fn version(&self, group: &str, version: &str) -> Option<&GroupVersion> {
        self.served.iter().find(|served| served.group == group && served.version == version)
    }

    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|sub| sub.name == name)
    }

    /// A verb is served. Of a kind on its way out, discovery offers less than that.
    pub fn has_verb(&self, verb: &str) -> bool {
        let hidden = || ["create", "update", "patch"].contains(&verb);
        self.verbs.iter().any(|known| known == verb)
            || (hidden() && self.strategy.refuses_new().is_some())
    }

    /// The facts about the stored form's fields; None for kinds that the facts table lacks.
    pub fn schema(&self) -> Option<&'static Type> {
        let storage = self.storage();
        windlass_apiserver_schema::Schema::builtin().kind(
            &storage.group,
            &storage.version,
            &self.kind,
        )
    }

    /// The kind came at run time.
    pub fn is_custom(&self) -> bool {
        self.strategy.owned().is_some()
    }

    /// How the fields of an object are owned.
    pub fn ownership(&self) -> Ownership<'_> {
        match self.strategy.owned() {
            Some(owned) => owned.ownership(),
            None => self.schema().map_or(Ownership::Open, Ownership::Struct),
        }
    }

    /// A stored object as this row shows it.
    pub fn tree_of(&self, object: &Object) -> Value {
        let mut tree = object.tree();
        if !self.strategy.serves_stored(object) {
            self.strategy.read_stored(&mut tree);
        }
        tree
    }

    /// The stored path of a selector's label as requests to `group` may write it; None where the
    /// kind doesn't offer it (400 `field label not supported`).
    pub fn field_path(&self, group: &str, label: &str) -> Option<&str> {
        match label {
            "metadata.name" => Some("metadata.name"),
            "metadata.namespace" if self.namespaced || self.selectable.is_empty() => {
                Some("metadata.namespace")
            }
            _ => self
                .selectable
                .iter()
                .find(|field| {
                    field.label == label
                        && field.only_group.as_deref().is_none_or(|only| only == group)
                })
                .map(|field| field.path.as_ref()),
        }
    }

    /// The bytes that are stored of an object; `tree` is what readers get.
    pub fn encode(&self, tree: &Value) -> Encoded {
        let mut stored = tree.clone();
        self.strategy.to_stored(&mut stored);
        Encoded::from_tree(&stored)
    }

    /// What is kept of an object of this kind; `tree` is the stored form.
    pub fn object(&self, encoded: Encoded, tree: &Value, revision: u64) -> Object {
        let mut object = Object::new(encoded, tree, revision, &self.stored_paths());
        self.fill_absent(&mut object);
        object
    }

    /// Reads an object of this kind back from the database.
    pub fn object_from_stored(&self, bytes: Arc<[u8]>, revision: u64) -> Option<Object> {
        let mut object = Object::from_stored(bytes, revision, &self.stored_paths())?;
        self.fill_absent(&mut object);
        Some(object)
    }

    /// One stored path may be offered under several labels: it is kept once.
    fn stored_paths(&self) -> Vec<Text> {
        let mut paths: Vec<Text> = Vec::with_capacity(self.selectable.len());
        for field in &self.selectable {
            if !paths.contains(&field.path) {
                paths.push(field.path.clone());
            }
        }
        paths
    }

    fn fill_absent(&self, object: &mut Object) {
        for (path, value) in object.fields.iter_mut().filter(|(_, value)| value.is_empty()) {
            let field = self.selectable.iter().find(|field| field.path == *path);
            value.push_str(field.map_or("", |field| field.absent));
        }
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.gvk())
    }
}
