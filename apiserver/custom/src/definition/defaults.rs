//! Defaults of a schema are what the schema says.

use windlass_apiserver_registry::{Causes, Path};

use crate::{
    lists, meta, prune,
    rules::{self, Rules},
    schema::Schema,
    validate,
};

/// What is wrong with the defaults of a whole schema.
pub fn check(schema: &Schema, path: &str, causes: &mut Causes) {
    defaults(schema, path, &Meta { inside: false, root: true }, causes);
}

fn at(path: &str) -> Path<'_> {
    Path::Child(&Path::Root, path)
}

/// Where a default stands: inside of metadata only the whole object can be looked at.
struct Meta {
    inside: bool,
    root: bool,
}

fn defaults(schema: &Schema, path: &str, place: &Meta, causes: &mut Causes) {
    let is_resource = place.root || schema.embedded;
    if let Some(default) = schema.default.as_ref().filter(|_| !place.inside) {
        let own = format!("{path}.default");
        let mut pruned = default.clone();
        prune::prune_value(&mut pruned, schema);
        if pruned != *default {
            causes.invalid(at(&own), default, "must not have unknown fields");
        }
        let count = causes.len();
        if let Err(why) = meta::coerce(&mut pruned, schema, schema.embedded) {
            causes.invalid(at(&own), default, why);
        }
        meta::check(default, schema, &own, causes);
        if causes.len() == count {
            validate::check_under(&own, default, schema, None, causes);
            lists::check(default, schema, &own, causes);
        }
        if causes.len() == count
            && let Some(rules) = Rules::of(schema, is_resource)
        {
            rules::check(default, schema, &rules, &own, Some(default), causes);
            if causes.len() == count {
                rules::check(default, schema, &rules, &own, None, causes);
            }
        }
    }
    if let Some(items) = &schema.items {
        let inner = Meta { inside: place.inside, root: false };
        defaults(items, &format!("{path}.items"), &inner, causes);
    }
    for (key, own) in &schema.properties {
        let inside = place.inside || (is_resource && prune::META_FIELDS.contains(&key.as_str()));
        let inner = Meta { inside, root: false };
        defaults(own, &format!("{path}.properties[{key}]"), &inner, causes);
    }
}
