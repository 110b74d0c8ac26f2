//! What is known about the API's types, as a table: upstream's, and the kinds of this project's own.
//!
//! `facts.txt` is written by `cargo xtask facts` from the Go packages that Kubernetes is built from;
//! `own.txt` is written by hand, in the same form, for the kinds of `windlass.dev`.
//! Everything in this crate (decoding, patches, protobuf, OpenAPI) is driven by it, so that a kind is
//! data and never code. The table is parsed once a process; every string borrows from the text that is
//! compiled in.
//!
//! The lines:
//! ```text
//! V version                                      the Kubernetes version the table was made from
//! K group version kind type                      `-` is the core group
//! R group version path kgroup kversion kind N|C verbs [attributes]
//! C name|type|format|priority                    a printed column of the resource above
//! T type gotype [mt=maptype]
//! F json goname number shape [attributes]        a field of the type above, in Go's order
//! ```
//! Shapes: `*` pointer, `[]` list, `{}` map with string keys, `<>` a list that protobuf wraps into a
//! message, `@` a type, else a scalar or a type that writes its own JSON.

use std::collections::HashMap;
use std::sync::OnceLock;

mod parse;

/// Own kinds first: types are sorted by name.
static FACTS: [&str; 2] = [include_str!("own.txt"), include_str!("facts.txt")];

/// Every type, kind and resource of the Kubernetes API that the table names.
pub struct Schema {
    version: &'static str,
    types: Vec<Type>,
    by_name: HashMap<&'static str, TypeRef>,
    kinds: Vec<KindFacts>,
    by_kind: HashMap<(&'static str, &'static str, &'static str), TypeRef>,
    resources: Vec<ResourceFacts>,
}

/// One kind of one group-version and the type of its objects.
#[derive(Debug, Clone, Copy)]
pub struct KindFacts {
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub ty: TypeRef,
}

/// One served path below a group-version: a resource, or a subresource such as `deployments/scale`.
#[derive(Debug, Clone)]
pub struct ResourceFacts {
    pub group: &'static str,
    pub version: &'static str,
    /// The plural name without the subresource.
    pub plural: &'static str,
    pub subresource: Option<&'static str>,
    /// The kind that is read and written here; `deployments/scale` has autoscaling/v1 Scale.
    pub kind_group: &'static str,
    pub kind_version: &'static str,
    pub kind: &'static str,
    pub namespaced: bool,
    /// Discovery's verbs, sorted.
    pub verbs: Vec<&'static str>,
    pub list_kind: Option<&'static str>,
    pub singular: &'static str,
    pub short_names: Vec<&'static str>,
    pub categories: Vec<&'static str>,
    /// What `kubectl get` prints, in upstream's order.
    pub columns: Vec<Column>,
}

/// A printed column; `priority` above 0 appears with `-o wide` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    pub name: &'static str,
    pub ty: &'static str,
    pub format: &'static str,
    pub priority: i32,
}

/// A struct of the API.
#[derive(Debug)]
pub struct Type {
    /// OpenAPI's name, e.g. `io.k8s.api.apps.v1.DeploymentSpec`.
    pub name: &'static str,
    /// Go's name as its errors print it, e.g. `v1.DeploymentSpec`.
    pub go_name: &'static str,
    /// `atomic` where server-side apply owns the struct as a whole.
    pub map_type: Option<&'static str>,
    /// In Go's order, embedded structs as one field with `inline`.
    pub fields: Vec<Field>,
    /// Every JSON property, embedded ones included, sorted by name.
    properties: Vec<(&'static str, Property)>,
    /// The fields that protobuf carries, as indices, by their number.
    wire: Vec<u16>,
}

/// A JSON property of a type, and the embedded struct it comes from.
#[derive(Debug, Clone)]
struct Property {
    owner: TypeRef,
    index: u16,
    /// Go's names of the embedded fields on the way, which Go's errors print as part of the path.
    via: Vec<&'static str>,
}

/// One field of a Go struct.
#[derive(Debug)]
pub struct Field {
    /// Empty for an embedded struct.
    pub json: &'static str,
    pub go_name: &'static str,
    /// The protobuf field number; 0 where protobuf doesn't carry it.
    pub number: u32,
    pub shape: Shape,
    pub pointer: bool,
    pub inline: bool,
    pub omitempty: bool,
    pub omitzero: bool,
    pub required: bool,
    /// `atomic`, `set` or `map`.
    pub list_type: Option<&'static str>,
    pub list_map_keys: Vec<&'static str>,
    pub map_type: Option<&'static str>,
    /// `merge`, `replace`, `retainKeys`, in combination with commas.
    pub patch_strategy: Option<&'static str>,
    pub patch_merge_key: Option<&'static str>,
    pub enums: Vec<&'static str>,
    /// An OpenAPI format that the shape doesn't imply.
    pub format: Option<&'static str>,
    pub default: Option<FieldDefault>,
    /// Go's name of the field's type where the shape doesn't tell it, e.g. `v1.Protocol`.
    go_type: Option<&'static str>,
}

/// The value of a field that is absent.
#[derive(Debug, Clone, Copy)]
pub struct FieldDefault {
    /// JSON.
    pub json: &'static str,
    /// Whether upstream publishes it in OpenAPI; else only its defaulting functions know it.
    pub published: bool,
}

/// What a value looks like, in Go, in JSON and on the protobuf wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    String,
    Bool,
    Int32,
    Int64,
    Float64,
    Bytes,
    /// Go's `any`; protobuf doesn't carry it.
    Any,
    Time,
    MicroTime,
    Duration,
    FieldsV1,
    Quantity,
    IntOrString,
    /// An embedded object of any kind.
    Raw,
    /// Any JSON value (CRD defaults and examples).
    Json,
    SchemaOrArray,
    SchemaOrBool,
    SchemaOrStrings,
    Struct(TypeRef),
    List(Box<Shape>),
    /// A list that protobuf carries as a message with the one field `items`.
    Wrapped(Box<Shape>),
    Map(Box<Shape>),
}

/// A handle of a type in the built-in schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeRef(u32);

impl TypeRef {
    /// The type itself.
    pub fn get(self) -> &'static Type {
        &Schema::builtin().types[self.0 as usize]
    }
}

impl Schema {
    /// The table of this build, parsed on first use.
    pub fn builtin() -> &'static Schema {
        static SCHEMA: OnceLock<Schema> = OnceLock::new();
        // The text is compiled in and `the_table_parses` checks it, so no input can reach the panic.
        SCHEMA.get_or_init(|| parse::parse(&FACTS).unwrap_or_else(|error| panic!("facts: {error}")))
    }

    /// The Kubernetes version the table was made from, e.g. `v1.37.2`.
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// The type of a kind. `group` is empty for the core group. Kinds that travel in every group
    /// (DeleteOptions, Status, Table, ...) are found under each group-version of the table.
    pub fn kind(&self, group: &str, version: &str, kind: &str) -> Option<&'static Type> {
        // A map with 'static keys can be asked with shorter ones, seen through its own reference.
        fn find(schema: &Schema, group: &str, version: &str, kind: &str) -> Option<TypeRef> {
            let map: &HashMap<(&str, &str, &str), TypeRef> = &schema.by_kind;
            map.get(&(group, version, kind)).copied()
        }
        let served = || self.kinds.iter().any(|k| k.group == group && k.version == version);
        find(self, group, version, kind)
            .or_else(|| find(self, META_GROUP, "v1", kind).filter(|_| served()))
            .map(TypeRef::get)
    }

    /// The type with OpenAPI's name, e.g. `io.k8s.api.core.v1.PodSpec`.
    pub fn type_named(&self, name: &str) -> Option<&'static Type> {
        self.by_name.get(name).map(|id| id.get())
    }

    /// The handle of the type with OpenAPI's name.
    pub fn type_ref(&self, name: &str) -> Option<TypeRef> {
        self.by_name.get(name).copied()
    }

    /// Every type, sorted by name.
    pub fn types(&self) -> &[Type] {
        &self.types
    }

    /// Every kind, sorted by group, version, kind.
    pub fn kinds(&self) -> &[KindFacts] {
        &self.kinds
    }

    /// Every served path, sorted by group, version, path.
    pub fn resources(&self) -> &[ResourceFacts] {
        &self.resources
    }

    /// One served path.
    pub fn resource(
        &self,
        group: &str,
        version: &str,
        plural: &str,
        subresource: Option<&str>,
    ) -> Option<&ResourceFacts> {
        self.resources.iter().find(|r| {
            r.group == group
                && r.version == version
                && r.plural == plural
                && r.subresource == subresource
        })
    }
}

/// The type of a schema inside a CustomResourceDefinition.
pub(crate) const JSON_SCHEMA_PROPS: &str =
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// The pseudo group of kinds that belong to every group.
pub const META_GROUP: &str = "meta.k8s.io";

impl Type {
    /// The field behind a JSON property, also where it comes from an embedded struct.
    pub fn field(&self, json: &str) -> Option<&'static Field> {
        self.field_via(json).map(|(field, _)| field)
    }

    /// As [`Type::field`], with Go's names of the embedded structs that hold it.
    pub(crate) fn field_via(&self, json: &str) -> Option<(&'static Field, &[&'static str])> {
        let at = self.properties.binary_search_by(|(name, _)| (*name).cmp(json)).ok()?;
        let property = &self.properties[at].1;
        Some((&property.owner.get().fields[usize::from(property.index)], &property.via))
    }

    /// Every JSON property, embedded ones included, sorted by name.
    pub fn properties(&self) -> impl Iterator<Item = &'static Field> + '_ {
        self.properties.iter().map(|(_, p)| &p.owner.get().fields[usize::from(p.index)])
    }

    /// The fields that protobuf carries, by their number.
    pub fn wire_order(&self) -> impl Iterator<Item = &Field> {
        self.wire.iter().map(|index| &self.fields[usize::from(*index)])
    }

    /// Go's name without its package, e.g. `DeploymentSpec`.
    pub fn short_name(&self) -> &'static str {
        self.go_name.rsplit_once('.').map_or(self.go_name, |(_, name)| name)
    }

    /// The group-version-kinds that are objects of this type.
    pub fn kinds(&self) -> impl Iterator<Item = &'static KindFacts> + '_ {
        Schema::builtin().kinds.iter().filter(|k| std::ptr::eq(k.ty.get(), self))
    }
}

impl Field {
    /// The struct this field holds, directly or as the elements of its list or map.
    pub fn target(&self) -> Option<&'static Type> {
        self.shape.target()
    }

    /// Go's name of the field's type as its errors print it, e.g. `[]v1.Container` or `v1.Protocol`.
    pub fn go_type(&self) -> String {
        self.go_type.map_or_else(|| self.shape.go_type(), str::to_string)
    }

    /// Whether one of the field's patch strategies is `name`.
    pub fn patches_by(&self, name: &str) -> bool {
        self.patch_strategy.is_some_and(|all| all.split(',').any(|s| s == name))
    }

    /// The default as a value.
    pub fn default_value(&self) -> Option<serde_json::Value> {
        self.default.and_then(|d| serde_json::from_str(d.json).ok())
    }
}

impl Shape {
    /// The struct at the end of lists and maps.
    pub fn target(&self) -> Option<&'static Type> {
        match self {
            Shape::Struct(id) => Some(id.get()),
            Shape::List(inner) | Shape::Wrapped(inner) | Shape::Map(inner) => inner.target(),
            _ => None,
        }
    }

    /// Go's name of the type.
    pub fn go_type(&self) -> String {
        match self {
            Shape::String => "string".into(),
            Shape::Bool => "bool".into(),
            Shape::Int32 => "int32".into(),
            Shape::Int64 => "int64".into(),
            Shape::Float64 => "float64".into(),
            Shape::Bytes => "[]uint8".into(),
            Shape::Any => "interface {}".into(),
            Shape::Time => "v1.Time".into(),
            Shape::MicroTime => "v1.MicroTime".into(),
            Shape::Duration => "v1.Duration".into(),
            Shape::FieldsV1 => "v1.FieldsV1".into(),
            Shape::Quantity => "resource.Quantity".into(),
            Shape::IntOrString => "intstr.IntOrString".into(),
            Shape::Raw => "runtime.RawExtension".into(),
            Shape::Json => "v1.JSON".into(),
            Shape::SchemaOrArray => "v1.JSONSchemaPropsOrArray".into(),
            Shape::SchemaOrBool => "v1.JSONSchemaPropsOrBool".into(),
            Shape::SchemaOrStrings => "v1.JSONSchemaPropsOrStringArray".into(),
            Shape::Struct(id) => id.get().go_name.into(),
            Shape::List(inner) | Shape::Wrapped(inner) => format!("[]{}", inner.go_type()),
            Shape::Map(inner) => format!("map[string]{}", inner.go_type()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(kind: (&str, &str, &str), path: &str, expected: Expect) {
        let (group, version, kind) = kind;
        let mut ty = Schema::builtin().kind(group, version, kind).unwrap();
        let mut found = None;
        for name in path.split('.') {
            let field =
                ty.field(name).unwrap_or_else(|| panic!("{path}: no {name} in {}", ty.name));
            ty = field.target().unwrap_or(ty);
            found = Some(field);
        }
        let field = found.unwrap();
        expected.assert_eq(&format!(
            "{} #{} {}{}{}{} default {:?} list {:?} {:?} patch {:?} {:?}",
            field.go_name,
            field.number,
            field.go_type(),
            if field.pointer { " pointer" } else { "" },
            if field.omitempty { " omitempty" } else { "" },
            if field.required { " required" } else { "" },
            field.default.map(|d| d.json),
            field.list_type,
            field.list_map_keys,
            field.patch_strategy,
            field.patch_merge_key,
        ));
    }

    #[test]
    fn the_table_parses() {
        let schema = Schema::builtin();
        assert_eq!(schema.version(), "v1.37.2");
        assert!(
            schema.types().len() > 600
                && schema.kinds().len() > 150
                && schema.resources().len() > 100
        );
        assert!(
            schema
                .types()
                .iter()
                .all(|ty| schema.type_named(ty.name).is_some_and(|t| t.name == ty.name))
        );
    }

    #[test]
    fn fields() {
        let pod = ("", "v1", "Pod");
        let deployment = ("apps", "v1", "Deployment");
        check(
            deployment,
            "spec.replicas",
            expect![[
                r#"Replicas #1 int32 pointer omitempty default Some("1") list None [] patch None None"#
            ]],
        );
        check(
            deployment,
            "spec.template.spec.containers.ports",
            expect![[
                r#"Ports #6 []v1.ContainerPort omitempty default None list Some("map") ["containerPort", "protocol"] patch Some("merge") Some("containerPort")"#
            ]],
        );
        check(
            pod,
            "spec.volumes.emptyDir",
            expect![
                "EmptyDir #2 v1.EmptyDirVolumeSource pointer omitempty default None list None [] patch None None"
            ],
        );
        check(
            pod,
            "spec.containers.readinessProbe.httpGet.port",
            expect![
                "Port #2 intstr.IntOrString required default None list None [] patch None None"
            ],
        );
        check(
            pod,
            "metadata.ownerReferences",
            expect![[
                r#"OwnerReferences #13 []v1.OwnerReference omitempty default None list Some("map") ["uid"] patch Some("merge") Some("uid")"#
            ]],
        );
        check(
            ("events.k8s.io", "v1", "DeleteOptions"),
            "preconditions.uid",
            expect!["UID #1 types.UID pointer omitempty default None list None [] patch None None"],
        );
    }

    #[test]
    fn resources() {
        let schema = Schema::builtin();
        let scale = schema.resource("apps", "v1", "deployments", Some("scale")).unwrap();
        assert_eq!(
            (scale.kind_group, scale.kind, scale.namespaced),
            ("autoscaling", "Scale", true)
        );
        let pods = schema.resource("", "v1", "pods", None).unwrap();
        assert_eq!(
            (&pods.short_names[..], &pods.categories[..], pods.singular),
            (&["po"][..], &["all"][..], "pod")
        );
        assert_eq!(pods.columns[5], Column { name: "IP", ty: "string", format: "", priority: 1 });
    }
}
