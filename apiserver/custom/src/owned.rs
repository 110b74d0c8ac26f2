//! How server-side apply owns the fields of a custom resource, from its schema.

use windlass_apiserver_registry::{Owned, OwnedItems};
use windlass_apiserver_schema::Schema as Facts;

use crate::schema::{Additional, Schema};

/// The ownership of a whole custom resource: its metadata is of the built-in type.
pub fn owned(schema: &Schema) -> Owned {
    let mut root = of(schema);
    // Without a schema for its fields, an object is owned field by field, as deep as it goes.
    if !matches!(root, Owned::Struct { .. }) {
        root = Owned::Struct { fields: Default::default(), closed: false };
    }
    if let Owned::Struct { fields, .. } = &mut root {
        for key in ["apiVersion", "kind"] {
            fields.insert(key.to_owned(), Owned::Whole);
        }
        let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
        let meta = Facts::builtin().type_named(meta).map_or(Owned::Open, Owned::Builtin);
        fields.insert("metadata".to_owned(), meta);
    }
    root
}

fn of(schema: &Schema) -> Owned {
    if schema.int_or_string {
        return Owned::Whole;
    }
    match schema.ty.as_str() {
        "object" if schema.map_type.as_deref() == Some("atomic") => Owned::Whole,
        "object" => match &schema.additional {
            Some(Additional::Schema(entry)) if schema.properties.is_empty() => {
                Owned::Map(Box::new(of(entry)))
            }
            Some(Additional::Any(true)) => Owned::Open,
            _ if schema.properties.is_empty() && schema.preserves() => Owned::Open,
            _ => {
                let fields = schema.properties.iter().map(|(key, own)| (key.clone(), of(own)));
                let mut fields: std::collections::BTreeMap<_, _> = fields.collect();
                if schema.embedded {
                    for key in ["apiVersion", "kind", "metadata"] {
                        fields.entry(key.to_owned()).or_insert(Owned::Open);
                    }
                }
                Owned::Struct { fields, closed: !schema.preserves() }
            }
        },
        "array" => match (schema.list_type.as_deref(), &schema.items) {
            (Some("set"), _) => Owned::Set,
            (Some("map"), Some(items)) => {
                let default = |key: &String| items.properties.get(key)?.default.clone();
                let mut keys: Vec<_> =
                    schema.list_map_keys.iter().map(|key| (key.clone(), default(key))).collect();
                keys.sort_by(|a, b| a.0.cmp(&b.0));
                Owned::Items(OwnedItems { keys, item: Box::new(of(items)) })
            }
            _ => Owned::Whole,
        },
        "" if schema.preserves() => Owned::Open,
        _ => Owned::Whole,
    }
}
