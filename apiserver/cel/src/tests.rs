use std::{collections::BTreeMap, sync::Arc};

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

fn decl(max: u64) -> Arc<Decl> {
    let text = |max| Decl::new(Form::String, max, 2);
    let number = || Decl::new(Form::Int, 0, 1);
    let field = |name: &str, decl| -> (Arc<str>, Field) {
        (escape(name).unwrap_or_default().into(), Field { json: name.into(), decl })
    };
    let item = Decl::new(
        Form::Object(BTreeMap::from([field("name", text(20)), field("size", number())])),
        0,
        2,
    );
    let keys: Arc<[String]> = Arc::from(["name".to_owned()]);
    Decl::new(
        Form::Object(BTreeMap::from([
            field("name", text(40)),
            field("replicas", number()),
            field("ratio", Decl::new(Form::Double, 0, 1)),
            field("limit", Decl::new(Form::IntOrString, 3_145_726, 1)),
            field("at", Decl::new(Form::Timestamp, 32, 21)),
            field("wait", Decl::new(Form::Duration, 32, 3)),
            field("data", Decl::new(Form::Bytes, 100, 2)),
            field("tags", Decl::new(Form::List(text(40), ListKind::Set), max, 2)),
            field("items", Decl::new(Form::List(item, ListKind::Map(keys)), max, 2)),
            field("labels", Decl::new(Form::Map(text(80)), max, 2)),
            field("x-y", number()),
            field("namespace", text(40)),
        ])),
        0,
        2,
    )
}

/// Each rule with its cost and what it comes to, or what is wrong with it.
fn check(rules: &[&str], expected: Expect) {
    let decl = decl(10);
    let object = json!({"name": "web", "replicas": 3, "ratio": 2, "limit": "50%",
        "at": "2026-01-02T03:04:05Z", "wait": "90s", "data": "aGk=", "tags": ["a", "b"],
        "items": [{"name": "x", "size": 1}, {"name": "y", "size": 2}],
        "labels": {"k": "v"}, "x-y": 7, "namespace": "n", "hidden": 1});
    let value = Value::from_json(&object, &decl);
    let scope = Scope::of_rule(decl, false);
    let mut out = String::new();
    for rule in rules {
        let answer = match Program::compile(rule, &scope) {
            Err(why) => why,
            Ok(program) => {
                let mut budget = Budget { call: CALL_LIMIT };
                let old = program.uses_old_self.then_some(&value);
                match program.eval(&value, old, &mut budget) {
                    Ok(Value::Bool(value)) => format!("{value} (at most {})", program.max_cost),
                    Ok(other) => format!("{other:?} (at most {})", program.max_cost),
                    Err(error) => format!("{error:?}"),
                }
            }
        };
        out += &format!("{rule}: {answer}\n");
    }
    expected.assert_eq(&out);
}

#[test]
fn rules() {
    check(
        &[
            "self.replicas >= 1 && self.replicas <= 10",
            "self.name.startsWith('we')",
            "self.items.all(i, i.size > 0)",
            "self.items.exists(i, i.name == 'y')",
            "self.items.exists_one(i, i.size == 2)",
            "self.items.map(i, i.size).sum() == 3",
            "self.items.filter(i, i.size > 1).size() == 1",
            "self.tags.all(t, self.tags.exists(u, u == t))",
            "'a' in self.tags",
            "self.labels['k'] == 'v' && 'k' in self.labels",
            "self.labels.all(k, k.size() < 5)",
            "has(self.name) && !has(self.labels.z)",
            "self.x__dash__y == 7 && self.__namespace__ == 'n'",
            "self.at < timestamp('2027-01-01T00:00:00Z')",
            "self.wait == duration('1m30s')",
            "self.data == b'hi'",
            "type(self.limit) == string && self.limit.endsWith('%')",
            "self.ratio > 1.5",
            "self.replicas == oldSelf.replicas",
            "self.tags == ['b', 'a']",
            "self.name.matches('^[a-z]+$')",
            "quantity('1Gi').isGreaterThan(quantity('1Mi'))",
            "isIP('10.0.0.1') && ip('10.0.0.1').family() == 4",
            "cidr('10.0.0.0/8').containsIP('10.1.1.1')",
            "url('https://a.b:80/c').getHost() == 'a.b:80'",
            "semver('1.2.3').isLessThan(semver('1.3.0'))",
            "sets.contains(self.tags, ['a'])",
            "self.name.upperAscii() == 'WEB'",
            "'%s-%d'.format([self.name, self.replicas]) == 'web-3'",
            "'a,b'.split(',').size() == 2",
            "[3, 1, 2].max() == 3 && self.tags.isSorted()",
            "self.labels[?'z'].orValue('none') == 'none'",
            "self.?name.hasValue()",
            "optional.of(1).optMap(x, x + 1).value() == 2",
            "self.items.all(i, v, i < 2 && v.size > 0)",
            "self.items.transformList(i, v, v.size + i) == [1, 3]",
            "!format.dns1123Label().validate('Bad_Name').hasValue()",
            "!format.dns1123Label().validate('good').hasValue()",
            "string(self.replicas) == '3' && int('4') == 4 && double(1) == 1.0",
        ],
        expect![[r#"
            self.replicas >= 1 && self.replicas <= 10: true (at most 6)
            self.name.startsWith('we'): true (at most 3)
            self.items.all(i, i.size > 0): true (at most 63)
            self.items.exists(i, i.name == 'y'): true (at most 73)
            self.items.exists_one(i, i.size == 2): true (at most 44)
            self.items.map(i, i.size).sum() == 3: true (at most 164)
            self.items.filter(i, i.size > 1).size() == 1: true (at most 175)
            self.tags.all(t, self.tags.exists(u, u == t)): true (at most 1063)
            'a' in self.tags: true (at most 12)
            self.labels['k'] == 'v' && 'k' in self.labels: true (at most 7)
            self.labels.all(k, k.size() < 5): true (at most 63)
            has(self.name) && !has(self.labels.z): true (at most 4)
            self.x__dash__y == 7 && self.__namespace__ == 'n': true (at most 5)
            self.at < timestamp('2027-01-01T00:00:00Z'): true (at most 4)
            self.wait == duration('1m30s'): true (at most 4)
            self.data == b'hi': true (at most 3)
            type(self.limit) == string && self.limit.endsWith('%'): true (at most 7)
            self.ratio > 1.5: true (at most 3)
            self.replicas == oldSelf.replicas: true (at most 4)
            self.tags == ['b', 'a']: true (at most 13)
            self.name.matches('^[a-z]+$'): true (at most 12)
            quantity('1Gi').isGreaterThan(quantity('1Mi')): true (at most 3)
            isIP('10.0.0.1') && ip('10.0.0.1').family() == 4: true (at most 4)
            cidr('10.0.0.0/8').containsIP('10.1.1.1'): true (at most 6)
            url('https://a.b:80/c').getHost() == 'a.b:80': true (at most 4)
            semver('1.2.3').isLessThan(semver('1.3.0')): true (at most 3)
            sets.contains(self.tags, ['a']): true (at most 13)
            self.name.upperAscii() == 'WEB': true (at most 7)
            '%s-%d'.format([self.name, self.replicas]) == 'web-3': true (at most 16)
            'a,b'.split(',').size() == 2: true (at most 3)
            [3, 1, 2].max() == 3 && self.tags.isSorted(): true (at most 66)
            self.labels[?'z'].orValue('none') == 'none': true (at most 5)
            self.?name.hasValue(): true (at most 3)
            optional.of(1).optMap(x, x + 1).value() == 2: true (at most 19)
            self.items.all(i, v, i < 2 && v.size > 0): true (at most 83)
            self.items.transformList(i, v, v.size + i) == [1, 3]: true (at most 184)
            !format.dns1123Label().validate('Bad_Name').hasValue(): false (at most 35)
            !format.dns1123Label().validate('good').hasValue(): true (at most 35)
            string(self.replicas) == '3' && int('4') == 4 && double(1) == 1.0: true (at most 8)
        "#]],
    );
}

#[test]
fn mistakes() {
    check(
        &[
            "self.nope == 1",
            "self.replicas == 'a'",
            "self.replicas + self.name == 1",
            "foo == 1",
            "self.items.all(i, i.nope)",
            "self.name.nope()",
            "self.replicas >",
            "self.replicas.all(x, true)",
            "",
            "true && 1",
            "[1, 'a'].size() == 2",
            "'%s %d'.format(['a', 1]) == 'a 1'",
            "self.name.matches('[')",
            "type(self.replicas)",
            "self.items[5].size == 1",
            "self.labels['z'] == ''",
            "1 / (self.replicas - 3) == 1",
            "9223372036854775807 + self.replicas > 0",
            "self.replicas",
        ],
        expect![[r#"
            self.nope == 1: ERROR: <input>:1:5: undefined field 'nope'
             | self.nope == 1
             | ....^
            self.replicas == 'a': ERROR: <input>:1:15: found no matching overload for '_==_' applied to '(int, string)'
             | self.replicas == 'a'
             | ..............^
            self.replicas + self.name == 1: ERROR: <input>:1:15: found no matching overload for '_+_' applied to '(int, string)'
             | self.replicas + self.name == 1
             | ..............^
            foo == 1: ERROR: <input>:1:1: undeclared reference to 'foo' (in container '')
             | foo == 1
             | ^
            self.items.all(i, i.nope): ERROR: <input>:1:20: undefined field 'nope'
             | self.items.all(i, i.nope)
             | ...................^
            self.name.nope(): ERROR: <input>:1:15: undeclared reference to 'nope' (in container '')
             | self.name.nope()
             | ..............^
            self.replicas >: ERROR: <input>:1:16: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
             | self.replicas >
             | ...............^
            self.replicas.all(x, true): ERROR: <input>:1:1: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)
            : ERROR: <input>:1:0: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}
            true && 1: ERROR: <input>:1:9: expected type 'bool' but found 'int'
             | true && 1
             | ........^
            [1, 'a'].size() == 2: ERROR: <input>:1:5: expected type 'int' but found 'string'
             | [1, 'a'].size() == 2
             | ....^
            '%s %d'.format(['a', 1]) == 'a 1': true (at most 12)
            self.name.matches('['): ERROR: <input>:1:19: invalid matches argument
             | self.name.matches('[')
             | ..................^
            type(self.replicas): TypeOf("int") (at most 3)
            self.items[5].size == 1: Failed("index out of bounds: 5")
            self.labels['z'] == '': Failed("no such key: z")
            1 / (self.replicas - 3) == 1: Failed("division by zero")
            9223372036854775807 + self.replicas > 0: Failed("integer overflow")
            self.replicas: Int(3) (at most 2)
        "#]],
    );
}

#[test]
fn a_call_has_a_limit() {
    let decl = decl(1_000_000);
    let tags: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    let value = Value::from_json(&json!({"tags": tags}), &decl);
    let rule = "self.tags.all(a, self.tags.all(b, a != b || a == b))";
    let program = Program::compile(rule, &Scope::of_rule(decl, false)).expect("compiles");
    let mut budget = Budget { call: CALL_LIMIT };
    assert_eq!(program.eval(&value, None, &mut budget), Err(EvalError::CallLimit));
    assert!(program.max_cost > 10_000_000, "{}", program.max_cost);
}

/// Whatever is written, reading it ends: with an expression or with what is wrong.
#[test]
fn chains_and_nests_are_bounded() {
    let scope = Scope::of_rule(decl(10), false);
    let nest =
        |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    for source in [
        "1+".repeat(16_000) + "1 == 1",
        "true && ".repeat(4_000) + "true",
        nest("(", ")", 16_000),
        nest("[", "]", 16_000),
        nest("!", "", 32_000),
        "self".to_owned() + &".name".repeat(6_000),
        "self.items.all(i, ".repeat(100) + "true" + &")".repeat(100),
        "x".repeat(40_000),
    ] {
        #[allow(clippy::disallowed_methods, reason = "it measures real time")]
        let began = std::time::Instant::now();
        let compiled = Program::compile(&source, &scope);
        let took = began.elapsed();
        assert!(took.as_secs() < 60, "{took:?} {}", &source[..20]);
        match compiled {
            Ok(program) => assert!(program.max_cost < u64::MAX),
            Err(why) => assert!(why.starts_with("ERROR: "), "{}", &why[..100.min(why.len())]),
        }
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    /// Tokens in any order: nothing panics, and what compiles is evaluated to its end.
    #[test]
    fn any_tokens_are_survived(tokens in proptest::collection::vec(proptest::sample::select(vec![
        "self", "oldSelf", ".", "name", "items", "tags", "labels", "(", ")", "[", "]", "{", "}", "?", ":", ",", "+", "-",
        "*", "/", "%", "==", "!=", "<", ">=", "&&", "||", "!", "in", "1", "1u", "2.5", "'a'", "b'x'", "null", "true",
        "all", "exists", "map", "filter", "has", "x", "size", "matches", "split", "format", "duration", "timestamp",
        "quantity", "ip", "cidr", "url", "semver", "sets", "contains", "optional", "of", "orValue", "optMap", "type",
    ]), 1..14)) {
        let decl = decl(10);
        let value = Value::from_json(&json!({"name": "web", "tags": ["a"], "labels": {"k": "v"}, "items": [{"name": "x"}]}), &decl);
        let scope = Scope::of_rule(decl, false);
        if let Ok(program) = Program::compile(&tokens.join(" "), &scope) {
            let _ = program.eval(&value, Some(&value), &mut Budget { call: CALL_LIMIT });
        }
    }
}
