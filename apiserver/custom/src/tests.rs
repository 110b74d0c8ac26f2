//! Schemas and values as tables, and a bounded run of whatever bytes may make of a schema.

use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::{Value, json};
use windlass_apiserver_registry::{Causes, Strategy as _};

use crate::{
    default, definition::Definition, lists, meta, prune, rules, rules::Rules, schema::Schema,
    structural, validate,
};

fn shown(causes: Causes) -> String {
    let all: Vec<String> = causes
        .into_vec()
        .iter()
        .map(|cause| format!("{}: {}", cause.field, cause.message))
        .collect();
    if all.is_empty() { "fits".to_owned() } else { all.join("\n  ") }
}

/// Values of one schema.
fn check(schema: Value, values: &[Value], expected: Expect) {
    let schema = Schema::read(&schema);
    let mut out = String::new();
    for value in values {
        let mut causes = Causes::default();
        validate::check(value, &schema, "", None, &mut causes);
        lists::check(value, &schema, "", &mut causes);
        out += &format!("{value}\n  {}\n", shown(causes));
    }
    expected.assert_eq(&out);
}

#[test]
fn values() {
    let schema = json!({"type": "object", "required": ["a"], "minProperties": 1, "properties": {
        "a": {"type": "string", "minLength": 2, "maxLength": 4},
        "b": {"type": "number", "exclusiveMinimum": true, "minimum": 0, "maximum": 1.5},
        "c": {"type": "integer", "multipleOf": 5, "format": "int32"},
        "d": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "boolean"}},
        "e": {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "integer"}},
        "f": {"anyOf": [{"required": ["x"]}, {"required": ["y"]}], "type": "object", "properties": {"x": {"type": "string"}, "y": {"type": "string"}}},
        "g": {"oneOf": [{"minimum": 5}, {"multipleOf": 2}], "type": "integer"},
        "h": {"not": {"enum": ["no"]}, "type": "string"},
        "i": {"allOf": [{"maxLength": 3}, {"pattern": "^x"}], "type": "string"},
        "j": {"x-kubernetes-int-or-string": true},
        "k": {"type": "string", "nullable": true},
        "l": {"type": "string", "enum": ["p", "q"]},
        "m": {"type": "string", "format": "ipv4"}}});
    check(
        schema,
        &[
            json!({}),
            json!({"a": "abc", "b": 0.5, "c": 10, "d": [true], "e": {"x": 1}, "g": 4, "i": "xy", "j": "1", "k": null, "l": "p", "m": "1.2.3.4"}),
            json!({"a": "x", "b": 0, "c": 7, "d": [], "e": {"x": 1, "y": "z"}}),
            json!({"a": "xxxxx", "b": 2, "c": 5_000_000_000_i64, "d": [true, 1, true]}),
            json!({"a": 1, "b": "x", "c": 1.5, "d": {}, "e": [], "j": 1.5, "k": 1, "l": "r", "m": "x"}),
            json!({"a": null, "l": null}),
            json!({"a": "ab", "f": {}, "g": 6, "h": "no", "i": "abcd"}),
        ],
        expect![[r#"
            {}
              <nil>: Invalid value: 0:  in body should have at least 1 properties
              a: Required value
            {"a":"abc","b":0.5,"c":10,"d":[true],"e":{"x":1},"g":4,"i":"xy","j":"1","k":null,"l":"p","m":"1.2.3.4"}
              fits
            {"a":"x","b":0,"c":7,"d":[],"e":{"x":1,"y":"z"}}
              a: Invalid value: "x": a in body should be at least 2 chars long
              b: Invalid value: 0: b in body should be greater than 0
              c: Invalid value: 7: c in body should be a multiple of 5
              d: Invalid value: 0: d in body should have at least 1 items
              e: Too many: 2: must have at most 1 item
              e.y: Invalid value: "string": e.y in body must be of type integer: "string"
            {"a":"xxxxx","b":2,"c":5000000000,"d":[true,1,true]}
              a: Too long: may not be more than 4 bytes
              b: Invalid value: 2: b in body should be less than or equal to 1
              <nil>: Invalid value: "": Checked value must be of type integer with format int32 in c
              d[1]: Invalid value: "integer": d[1] in body must be of type boolean: "integer"
              d: Too many: 3: must have at most 2 items
            {"a":1,"b":"x","c":1.5,"d":{},"e":[],"j":1.5,"k":1,"l":"r","m":"x"}
              a: Invalid value: "integer": a in body must be of type string: "integer"
              b: Invalid value: "string": b in body must be of type number: "string"
              c: Invalid value: "number": c in body must be of type integer: "number"
              <nil>: Invalid value: "": Checked value must be of type integer with format int32 in c
              c: Invalid value: 1.5: c in body should be a multiple of 5
              d: Invalid value: "object": d in body must be of type array: "object"
              e: Invalid value: "array": e in body must be of type object: "array"
              j: Invalid value: "number": j in body must be of type integer,string: "number"
              k: Invalid value: "integer": k in body must be of type string: "integer"
              l: Unsupported value: "r": supported values: "p", "q"
              m: Invalid value: "x": m in body must be of type ipv4: "x"
            {"a":null,"l":null}
              a: Invalid value: "null": a in body must be of type string: "null"
              l: Invalid value: "null": l in body must be of type string: "null"
              l: Unsupported value: "null": supported values: "p", "q"
            {"a":"ab","f":{},"g":6,"h":"no","i":"abcd"}
              <nil>: Invalid value: "": "f" must validate at least one schema (anyOf)
              f.x: Required value
              <nil>: Invalid value: "": "g" must validate one and only one schema (oneOf). Found 2 valid alternatives
              <nil>: Invalid value: "": "h" must not validate the schema (not)
              i: Too long: may not be more than 3 bytes
              i: Invalid value: "abcd": i in body should match '^x'
              <nil>: Invalid value: "": "i" must validate all the schemas (allOf). None validated
        "#]],
    );
}

#[test]
fn keyed_lists() {
    let item = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}});
    check(
        json!({"type": "object", "properties": {
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}},
            "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"], "items": item}}}),
        &[
            json!({"set": [1, 2, 1, 1], "map": [{"a": "x", "b": 1}, {"a": "x", "b": 2}, {"b": 1, "a": "x"}, {}, {}]}),
        ],
        expect![[r#"
            {"set":[1,2,1,1],"map":[{"a":"x","b":1},{"a":"x","b":2},{"b":1,"a":"x"},{},{}]}
              set[2]: Duplicate value: 1
              map[2]: Duplicate value: {"a":"x","b":1}
              map[4]: Duplicate value: {}
        "#]],
    );
}

#[test]
fn what_is_not_structural() {
    let mut out = String::new();
    for schema in [
        json!({"type": "object"}),
        json!({}),
        json!({"type": "string"}),
        json!({"type": "object", "properties": {"a": {}, "b": {"type": "array"}, "c": {"type": "array", "items": {}}}}),
        json!({"type": "object", "additionalProperties": true}),
        json!({"type": "object", "anyOf": [{"type": "object", "properties": {"a": {"default": 1, "nullable": true}}}]}),
        json!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}}}),
        json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"name": {"type": "string"}}}}}),
        json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}, "kind": {"type": "integer"}}}),
        json!({"type": "object", "properties": {"a": {"type": "object", "x-kubernetes-embedded-resource": true}}}),
    ] {
        let mut causes = Causes::default();
        structural::check(&Schema::read(&schema), "s", &mut causes);
        out += &format!("{schema}\n  {}\n", shown(causes));
    }
    expect![[r#"
        {"type":"object"}
          fits
        {}
          s.type: Required value: must not be empty at the root
        {"type":"string"}
          s.type: Invalid value: "string": must be object at the root
        {"type":"object","properties":{"a":{},"b":{"type":"array"},"c":{"type":"array","items":{}}}}
          s.properties[a].type: Required value: must not be empty for specified object fields
          s.properties[b].items: Required value: must be specified
          s.properties[c].items.type: Required value: must not be empty for specified array items
        {"type":"object","additionalProperties":true}
          s.additionalProperties: Forbidden: must not be used at the root
        {"type":"object","anyOf":[{"type":"object","properties":{"a":{"default":1,"nullable":true}}}]}
          s.anyOf[0].properties[a].default: Forbidden: must be undefined to be structural
          s.anyOf[0].properties[a].nullable: Forbidden: must be false to be structural
          s.anyOf[0].type: Forbidden: must be empty to be structural
          s.properties[a]: Required value: because it is defined in s.anyOf[0].properties[a]
        {"type":"object","properties":{"a":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]}}}
          fits
        {"type":"object","properties":{"metadata":{"type":"object","properties":{"name":{"type":"string"}}}}}
          fits
        {"type":"object","properties":{"metadata":{"type":"object","properties":{"labels":{"type":"object"}}},"kind":{"type":"integer"}}}
          s.properties[kind].type: Invalid value: "integer": must be string
          s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is implicitly specified
        {"type":"object","properties":{"a":{"type":"object","x-kubernetes-embedded-resource":true}}}
          s.properties[a].properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields
    "#]].assert_eq(&out);
}

#[test]
fn what_is_dropped_and_filled_in() {
    let schema = Schema::read(&json!({"type": "object", "properties": {
        "spec": {"type": "object", "default": {}, "properties": {
            "a": {"type": "integer", "default": 1},
            "n": {"type": "string", "nullable": true, "default": "x"},
            "z": {"type": "string"},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"in": {"type": "object", "properties": {"k": {"type": "string"}}}}},
            "map": {"type": "object", "additionalProperties": {"type": "object", "properties": {"d": {"type": "integer", "default": 2}}}}}}}}));
    let mut out = String::new();
    for mut value in [
        json!({"metadata": {"anything": 1}, "extra": 1}),
        json!({"spec": {"a": null, "n": null, "z": null, "x": 1}}),
        json!({"spec": {"open": {"free": [1, {"y": 2}], "in": {"k": "v", "l": 1}}, "map": {"p": {}, "q": {"d": 3, "e": 4}}}}),
    ] {
        let dropped = prune::prune(&mut value, &schema);
        prune::drop_nulls(&mut value, Some(&schema));
        default::fill(&mut value, &schema);
        let again = {
            let mut again = value.clone();
            default::fill(&mut again, &schema);
            again == value
        };
        out += &format!("{value} without {dropped:?}, settled {again}\n");
    }
    expect![[r#"
        {"metadata":{"anything":1},"spec":{"a":1,"n":"x"}} without ["extra"], settled true
        {"spec":{"a":1,"n":null}} without ["spec.x"], settled true
        {"spec":{"open":{"free":[1,{"y":2}],"in":{"k":"v"}},"map":{"p":{"d":2},"q":{"d":3}},"a":1,"n":"x"}} without ["spec.map.q.e", "spec.open.in.l"], settled true
    "#]].assert_eq(&out);
}

/// What an update leaves as it was isn't held against it; what it changes is.
#[test]
fn unchanged_parts_are_let_through() {
    let schema = Schema::read(&json!({"type": "object", "properties": {
        "a": {"type": "string", "maxLength": 1, "x-kubernetes-validations": [{"rule": "self != 'bad'", "message": "is bad"}]},
        "list": {"type": "array", "items": {"type": "integer", "maximum": 1}},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 1, "x-kubernetes-validations": [{"rule": "self >= oldSelf", "message": "only grows"}]}}}}}}));
    let rules = Rules::of(&schema, true).expect("rules");
    let mut out = String::new();
    for (old, new) in [
        (json!({"a": "bad"}), json!({"a": "bad", "list": [1]})),
        (json!({"a": "x"}), json!({"a": "bad"})),
        (json!({"list": [2]}), json!({"list": [2], "a": "x"})),
        (json!({"list": [2]}), json!({"list": [2, 1]})),
        (
            json!({"map": [{"k": "p", "v": 5}]}),
            json!({"map": [{"k": "q", "v": 1}, {"k": "p", "v": 5}]}),
        ),
        (json!({"map": [{"k": "p", "v": 1}]}), json!({"map": [{"k": "p", "v": 0}]})),
    ] {
        let mut causes = Causes::default();
        validate::check(&new, &schema, "", Some(&old), &mut causes);
        rules::check(&new, &schema, &rules, "", Some(&old), &mut causes);
        out += &format!("{old} -> {new}\n  {}\n", shown(causes));
    }
    expect![[r#"
        {"a":"bad"} -> {"a":"bad","list":[1]}
          fits
        {"a":"x"} -> {"a":"bad"}
          a: Too long: may not be more than 1 bytes
          a: Invalid value: "bad": is bad
        {"list":[2]} -> {"list":[2],"a":"x"}
          fits
        {"list":[2]} -> {"list":[2,1]}
          list[0]: Invalid value: 2: list[0] in body should be less than or equal to 1
        {"map":[{"k":"p","v":5}]} -> {"map":[{"k":"q","v":1},{"k":"p","v":5}]}
          fits
        {"map":[{"k":"p","v":1}]} -> {"map":[{"k":"p","v":0}]}
          map[0].v: Invalid value: 0: only grows
    "#]]
    .assert_eq(&out);
}

/// JSON that looks like schemas now and then.
fn schema_like() -> impl proptest::strategy::Strategy<Value = Value> {
    let words = [
        "object",
        "array",
        "string",
        "integer",
        "set",
        "map",
        "atomic",
        "self.a == 1",
        "self.all(x, x > 1)",
        "date-time",
        "(",
        "^a+$",
        "spec",
        "metadata",
        ".spec.a",
        "None",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        proptest::sample::select(words.to_vec()).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let keys = [
        "type",
        "properties",
        "items",
        "additionalProperties",
        "anyOf",
        "allOf",
        "oneOf",
        "not",
        "required",
        "default",
        "enum",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "maxLength",
        "maxItems",
        "multipleOf",
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "x-kubernetes-validations",
        "rule",
        "message",
        "messageExpression",
        "fieldPath",
        "optionalOldSelf",
        "metadata",
        "spec",
        "a",
        "b",
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        let key = proptest::sample::select(keys.to_vec());
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((key, inner), 0..8).prop_map(|fields| {
                Value::Object(
                    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
                )
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a schema says, reading it, looking at it and using it ends, and nothing panics.
    #[test]
    fn any_schema_is_survived(schema in schema_like(), value in schema_like()) {
        let read = Schema::read(&schema);
        let mut causes = Causes::default();
        structural::check(&read, "s", &mut causes);
        let definition = json!({"metadata": {"name": "x"}, "spec": {"group": "a.b", "scope": "Cluster",
            "names": {"plural": "as", "kind": "A"}, "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".spec.a"}]}]}});
        Definition.validate(&definition, &mut causes);
        let mut value = value;
        let _ = meta::coerce(&mut value, &read, true);
        prune::prune(&mut value, &read);
        prune::drop_nulls(&mut value, Some(&read));
        default::fill(&mut value, &read);
        validate::check(&value, &read, "", Some(&json!({})), &mut causes);
        lists::check(&value, &read, "", &mut causes);
        meta::check(&value, &read, "", &mut causes);
        if let Some(rules) = Rules::of(&read, true) {
            rules::check(&value, &read, &rules, "", Some(&value.clone()), &mut causes);
        }
    }
}
