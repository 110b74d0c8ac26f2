//! Worst-case costs of rules against those that upstream's server computes: numbers from the table
//! of k8s.io/apiextensions-apiserver v0.37.2 (`pkg/apiserver/schema/cel/celcoststability_test.go`).

use serde_json::{Value, json};
use windlass_apiserver_cel::{Program, Scope};

use crate::{rules, schema::Schema};

fn object(properties: Value) -> Value {
    json!({"type": "object", "properties": properties})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn check(schema: Value, costs: &[(&str, u64)]) {
    let decl = rules::decl_of(&Schema::read(&schema), true).expect("an object has a type");
    let scope = Scope::of_rule(decl, false);
    let different: Vec<String> = costs
        .iter()
        .filter_map(|(rule, cost)| match Program::compile(rule, &scope) {
            Ok(program) if program.max_cost == *cost => None,
            Ok(program) => Some(format!("{rule}: {}, upstream {cost}", program.max_cost)),
            Err(why) => Some(format!("{rule}: {why}")),
        })
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn numbers_and_conversions() {
    let text = || json!({"type": "string"});
    let schema = object(json!({
        "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": "boolean"},
        "s": text(), "t": text(), "bytes": {"type": "string", "format": "byte"},
        "wait": {"type": "string", "format": "duration"},
        "at": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
    }));
    check(
        schema,
        &[
            ("self.i == self.i", 4),
            ("type(self.i) == int", 4),
            ("self.i + 1 == 2147483647 + 1", 5),
            ("type(self.n) == double", 4),
            ("self.n == 1.0", 2),
            ("double(self.i) < self.n", 6),
            ("double(5) < 10.0", 2),
            ("double(self.i) < 10.0", 4),
            ("type(self.b) == bool", 4),
            ("self.wait == duration('1h2m') + duration('3s4ms')", 6),
            ("self.wait.getHours() == 1", 4),
            ("self.day.getDate() == 16", 4),
            ("self.at == timestamp('2011-08-18T00:00:00.000+01:00') + duration('19h3m37s10ms')", 6),
            ("int(self.n) == self.i", 5),
            ("double(self.i) == self.n", 5),
            ("bytes(self.s) == self.bytes", 629_150),
            ("string(self.i) == self.s", 314_578),
            ("string(self.n) == '10.5'", 4),
            ("string(self.bytes) == self.s", 629_150),
            ("duration(self.s) == self.wait", 6),
            ("timestamp(self.s) == self.at", 6),
            ("string(self.at) == self.s", 314_578),
        ],
    );
}

#[test]
fn texts() {
    let schema = object(json!({
        "s": {"type": "string"}, "t": {"type": "string"},
        "bytes": {"type": "string", "format": "byte"}, "other": {"type": "string", "format": "byte"},
        "enum": {"type": "string", "enum": ["Pending", "Available", "Bound", "Released", "Failed"]},
        "mixed": {"x-kubernetes-int-or-string": true},
        "current": {"type": "integer"}, "available": {"type": "integer"},
        "embedded": {"type": "object", "x-kubernetes-embedded-resource": true},
    }));
    check(
        schema,
        &[
            ("self.s.startsWith('Rook')", 3),
            ("!self.s.startsWith('knight')", 4),
            ("self.s.matches('^[^0-9]*$')", 943_721),
            ("!self.s.matches('^[0-9]*$')", 629_149),
            ("type(self.s) == string", 4),
            ("size(self.s) == 12", 4),
            ("self.s.charAt(3) == 'k'", 4),
            ("self.s.indexOf('o') == 1", 314_576),
            ("self.s.indexOf('o', 2) == 2", 314_576),
            ("self.s.replace(' ', 'x') == 'Rookxtakesx👑'", 629_150),
            ("self.s.replace(' ', 'x', 1) == 'Rookxtakes 👑'", 629_150),
            ("self.s.split(' ') == ['Rook', 'takes', '👑']", 629_159),
            ("self.s.split(' ', 2) == ['Rook', 'takes 👑']", 629_159),
            ("self.s.substring(5) == 'takes 👑'", 314_576),
            ("self.s.substring(4, 10).trim() == 'takes'", 629_149),
            ("self.s.upperAscii() == 'ROOK TAKES 👑'", 314_577),
            ("self.s.lowerAscii() == self.s.lowerAscii()", 943_723),
            ("self.bytes == self.other", 314_577),
            ("self.bytes == b'AB'", 3),
            ("size(self.bytes) == 2", 4),
            ("self.enum == 'Pending'", 3),
            ("self.enum in ['Pending', 'Available']", 14),
            ("self.mixed == '25%'", 3),
            ("type(self.mixed) == int ? self.mixed == 1 : self.mixed == '25%'", 7),
            ("self.mixed == 1 || self.mixed == '25%'", 6),
            ("self.mixed != 'some string'", 4),
            ("self.mixed != ['anything']", 13),
            (r"type(self.mixed) == string && self.mixed.matches(r'(\d+(\.\d+)?%)')", 1_258_298),
            (
                "type(self.mixed) == int ? self.current <= self.mixed : double(self.current) / \
                 double(self.available) >= double(self.mixed.replace('%', '')) / 100.0",
                629_162,
            ),
            ("self.kind == 'Pod'", 3),
            ("self.metadata.name == 'foo'", 4),
            ("self.metadata.generateName == 'pickItForMe'", 5),
            ("self.embedded.kind == 'Pod'", 4),
            ("self.embedded.metadata.name == 'foo'", 5),
            ("has(self.s) && self.s == 'v1'", 4),
        ],
    );
}

#[test]
fn lists() {
    let text = || json!({"type": "string"});
    let keyed = object(json!({"k": text(), "v": text(), "v2": text()}));
    let schema = object(json!({
        "a": list(json!({"type": "integer"})), "b": list(json!({"type": "integer"})),
        "s": {"type": "array", "items": text(), "x-kubernetes-list-type": "set"},
        "t": {"type": "array", "items": text(), "x-kubernetes-list-type": "set"},
        "m": {"type": "array", "items": keyed, "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["k"]},
        "objs": list(object(json!({"f": text()}))),
    }));
    check(
        schema,
        &[
            ("1 in self.a", 1_572_865),
            ("self.b[0] in self.a", 1_572_868),
            ("!(0 in self.a)", 1_572_866),
            ("self.a + self.b == [1, 2, 3, 1, 2, 3]", 16),
            ("self.a + [4, 5] == [1, 2, 3, 4, 5]", 24),
            ("has(self.a)", 1),
            ("has(self.a) && has(self.b)", 2),
            ("self.a.all(k, size(self.a) > 0)", 11_010_044),
            ("self.a.exists_one(k, self.a == [2])", 23_592_949),
            ("!self.a.exists_one(k, size(self.a) > 0)", 9_437_183),
            ("size(self.a) == 2", 4),
            ("size(self.a.filter(k, size(self.a) > 1)) == 1", 26_738_686),
            ("self.a.all(e, e > 0)", 7_864_318),
            ("self.a.exists(e, e > 2)", 9_437_181),
            ("size(self.a.filter(e, e%2 == 0)) == 3", 25_165_823),
            ("self.a.map(e, e * 20).filter(e, e > 50).exists(e, e == 60)", 53_477_367),
            ("self.s == ['c', 'b', 'a']", 13),
            ("self.s == self.t", 104_862),
            ("'a' in self.s", 1_048_577),
            ("self.t[0] in self.s", 1_048_580),
            ("self.s + self.t == ['a', 'b', 'c']", 16),
            ("self.s.all(k, size(self.s) > 0)", 7_340_028),
            ("size(self.s.filter(k, size(self.s) > 1)) == 1", 17_825_790),
            ("has(self.m[0].v)", 3),
            ("self.m.all(m, m.k.startsWith('a'))", 6_291_453),
            ("self.m.all(m, !has(m.v2) || m.v2 == 'z')", 8_388_603),
            ("self.m.exists(m, m.k.endsWith('1'))", 7_340_028),
            ("self.m.exists_one(m, m.k == 'a3')", 5_242_879),
            ("size(self.m.filter(m, m.k == 'a1')) == 1", 16_777_215),
            ("self.m.exists(m, m.k == 'a1' && m.v == 'b1')", 10_485_753),
            ("self.m.map(m, m.v).exists(v, v == 'b1')", 19_922_939),
            ("self.m.map(m, has(m.v2) && m.v2 == 'z', m.v2).size() == 1", 18_874_365),
            ("self.objs[0] == self.objs[1]", 6),
        ],
    );
}

#[test]
fn maps() {
    let schema = object(json!({
        "a": {"type": "object", "additionalProperties": {"type": "string"}},
        "b": {"type": "object", "additionalProperties": {"type": "string"}},
        "n": {"type": "object", "additionalProperties": {"type": "integer"}},
        "o": object(json!({"p": object(json!({"q": {"type": "integer"}}))})),
    }));
    check(
        schema,
        &[
            ("self.a == self.b", 39_326),
            ("'k1' in self.a", 3),
            ("!('k3' in self.a)", 4),
            ("self.a == {'k1': 'a', 'k2': 'b'}", 33),
            ("self.a.all(k, size(self.a) > 0)", 2_752_508),
            ("self.a.exists_one(k, size(self.a) > 0)", 2_359_294),
            ("size(self.a) == 2", 4),
            ("size(self.a.filter(k, size(self.a) > 1)) == 1", 6_684_670),
            ("!has(self.n.a)", 3),
            ("self.n.all(k, self.n[k] > 0)", 3_595_115),
            ("self.n.exists_one(k, self.n[k] == 2)", 2_696_338),
            ("size(self.n.filter(k, self.n[k] > 1)) == 1", 8_089_017),
            ("has(self.o.p.q)", 3),
            ("!(has(self.o.p) && has(self.o.p.q))", 6),
        ],
    );
}
