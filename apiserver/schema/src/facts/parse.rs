//! Reads the text of the table.

use std::collections::HashMap;

use super::{
    Column, Field, FieldDefault, KindFacts, Property, ResourceFacts, Schema, Shape, Type, TypeRef,
};

/// Parses the texts of the table; the error shows the line.
pub(super) fn parse(texts: &[&'static str]) -> Result<Schema, String> {
    Parser::parse(texts)
}

struct Parser {
    schema: Schema,
}

type Words<'a> = std::str::SplitAsciiWhitespace<'a>;

impl Parser {
    fn parse(texts: &[&'static str]) -> Result<Schema, String> {
        let lines = || texts.iter().flat_map(|text| text.lines());
        let mut parser = Parser {
            schema: Schema {
                version: "",
                types: Vec::new(),
                by_name: HashMap::new(),
                kinds: Vec::new(),
                by_kind: HashMap::new(),
                resources: Vec::new(),
            },
        };
        // Fields refer to types by name, so the names come first.
        for line in lines().filter_map(|line| line.strip_prefix("T ")) {
            let name = line.split(' ').next().unwrap_or_default();
            let id = TypeRef(parser.schema.by_name.len() as u32);
            parser.schema.by_name.insert(name, id);
        }
        for line in lines() {
            parser.line(line).ok_or_else(|| format!("the line {line:?}"))?;
        }
        parser.flatten();
        Ok(parser.schema)
    }

    fn line(&mut self, line: &'static str) -> Option<()> {
        let (letter, rest) = line.split_once(' ')?;
        let words = rest.split_ascii_whitespace();
        match letter {
            "V" => self.schema.version = rest,
            "K" => self.kind(words)?,
            "R" => self.resource(words)?,
            "C" => self.column(rest)?,
            "T" => self.start_type(words)?,
            "F" => self.field(words)?,
            _ => return None,
        }
        Some(())
    }

    fn kind(&mut self, mut words: Words<'static>) -> Option<()> {
        let (group, version, kind) = (group(words.next()?), words.next()?, words.next()?);
        let ty = *self.schema.by_name.get(words.next()?)?;
        self.schema.by_kind.insert((group, version, kind), ty);
        self.schema.kinds.push(KindFacts { group, version, kind, ty });
        Some(())
    }

    fn resource(&mut self, mut words: Words<'static>) -> Option<()> {
        let (group_name, version, path) = (group(words.next()?), words.next()?, words.next()?);
        let (plural, subresource) = match path.split_once('/') {
            Some((plural, subresource)) => (plural, Some(subresource)),
            None => (path, None),
        };
        let mut facts = ResourceFacts {
            group: group_name,
            version,
            plural,
            subresource,
            kind_group: group(words.next()?),
            kind_version: words.next()?,
            kind: words.next()?,
            namespaced: words.next()? == "N",
            verbs: list(words.next()?),
            list_kind: None,
            singular: "",
            short_names: Vec::new(),
            categories: Vec::new(),
            columns: Vec::new(),
        };
        for word in words {
            let (name, value) = word.split_once('=')?;
            match name {
                "list" => facts.list_kind = Some(value),
                "singular" => facts.singular = value,
                "short" => facts.short_names = list(value),
                "categories" => facts.categories = list(value),
                _ => return None,
            }
        }
        self.schema.resources.push(facts);
        Some(())
    }

    fn column(&mut self, rest: &'static str) -> Option<()> {
        let mut parts = rest.split('|');
        let column = Column {
            name: parts.next()?,
            ty: parts.next()?,
            format: parts.next()?,
            priority: parts.next()?.parse().ok()?,
        };
        self.schema.resources.last_mut()?.columns.push(column);
        Some(())
    }

    fn start_type(&mut self, mut words: Words<'static>) -> Option<()> {
        self.schema.types.push(Type {
            name: words.next()?,
            go_name: words.next()?,
            map_type: words.next().and_then(|w| w.strip_prefix("mt=")),
            fields: Vec::new(),
            properties: Vec::new(),
            wire: Vec::new(),
        });
        Some(())
    }

    fn field(&mut self, mut words: Words<'static>) -> Option<()> {
        let (json, go_name, number, shape) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let mut field = Field {
            json: if json == "-" { "" } else { json },
            go_name,
            number: number.parse().ok()?,
            shape: self.shape(shape)?,
            pointer: shape.starts_with('*'),
            inline: false,
            omitempty: false,
            omitzero: false,
            required: false,
            list_type: None,
            list_map_keys: Vec::new(),
            map_type: None,
            patch_strategy: None,
            patch_merge_key: None,
            enums: Vec::new(),
            format: None,
            default: None,
            go_type: None,
        };
        for word in words {
            attribute(&mut field, word)?;
        }
        self.schema.types.last_mut()?.fields.push(field);
        Some(())
    }

    fn shape(&self, text: &'static str) -> Option<Shape> {
        if let Some(inner) = text.strip_prefix('*') {
            return self.shape(inner);
        }
        let boxed = |inner| Some(Box::new(self.shape(inner)?));
        if let Some(inner) = text.strip_prefix("[]") {
            return Some(Shape::List(boxed(inner)?));
        }
        if let Some(inner) = text.strip_prefix("<>") {
            return Some(Shape::Wrapped(boxed(inner)?));
        }
        if let Some(inner) = text.strip_prefix("{}") {
            return Some(Shape::Map(boxed(inner)?));
        }
        if let Some(name) = text.strip_prefix('@') {
            return Some(Shape::Struct(*self.schema.by_name.get(name)?));
        }
        Some(match text {
            "string" => Shape::String,
            "bool" => Shape::Bool,
            "int32" => Shape::Int32,
            "int64" => Shape::Int64,
            "float64" => Shape::Float64,
            "bytes" => Shape::Bytes,
            "any" => Shape::Any,
            "time" => Shape::Time,
            "microtime" => Shape::MicroTime,
            "duration" => Shape::Duration,
            "fieldsv1" => Shape::FieldsV1,
            "quantity" => Shape::Quantity,
            "intorstring" => Shape::IntOrString,
            "raw" => Shape::Raw,
            "json" => Shape::Json,
            "schemaorarray" => Shape::SchemaOrArray,
            "schemaorbool" => Shape::SchemaOrBool,
            "schemaorstrings" => Shape::SchemaOrStrings,
            _ => return None,
        })
    }

    /// Fills every type's list of properties, embedded structs expanded.
    fn flatten(&mut self) {
        for at in 0..self.schema.types.len() {
            let mut properties = Vec::new();
            self.collect(TypeRef(at as u32), &[], &mut properties);
            // The first wins, as the field of the outer struct hides the embedded one's.
            properties.sort_by_key(|(name, _)| *name);
            properties.dedup_by_key(|(name, _)| *name);
            let ty = &mut self.schema.types[at];
            ty.properties = properties;
            let numbered = ty.fields.iter().enumerate().filter(|(_, field)| field.number > 0);
            ty.wire = numbered.map(|(index, _)| index as u16).collect();
            let fields = &ty.fields;
            ty.wire.sort_by_key(|index| fields[usize::from(*index)].number);
        }
    }

    fn collect(
        &self,
        owner: TypeRef,
        via: &[&'static str],
        into: &mut Vec<(&'static str, Property)>,
    ) {
        for (index, field) in self.schema.types[owner.0 as usize].fields.iter().enumerate() {
            match (&field.shape, field.inline) {
                (Shape::Struct(inner), true) => {
                    self.collect(*inner, &[via, &[field.go_name]].concat(), into);
                }
                _ => into
                    .push((field.json, Property { owner, index: index as u16, via: via.to_vec() })),
            }
        }
    }
}

fn attribute(field: &mut Field, word: &'static str) -> Option<()> {
    let Some((name, value)) = word.split_once('=') else {
        match word {
            "inline" => field.inline = true,
            "omitempty" => field.omitempty = true,
            "omitzero" => field.omitzero = true,
            "required" => field.required = true,
            _ => return None,
        }
        return Some(());
    };
    match name {
        "lt" => field.list_type = Some(value),
        "lk" => field.list_map_keys = list(value),
        "mt" => field.map_type = Some(value),
        "ps" => field.patch_strategy = Some(value),
        "pk" => field.patch_merge_key = Some(value),
        // An enum may hold the empty string.
        "enum" => field.enums = value.split(',').collect(),
        "format" => field.format = Some(value),
        "g" => field.go_type = Some(value),
        "d" => field.default = Some(FieldDefault { json: value, published: true }),
        "D" => field.default = Some(FieldDefault { json: value, published: false }),
        _ => return None,
    }
    Some(())
}

fn group(word: &'static str) -> &'static str {
    if word == "-" { "" } else { word }
}

fn list(value: &'static str) -> Vec<&'static str> {
    value.split(',').filter(|s| !s.is_empty()).collect()
}
