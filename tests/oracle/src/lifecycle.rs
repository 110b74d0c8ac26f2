//! What happens to an object of a kind from its creation to its end: every verb, every patch type,
//! every form of answer, and the mistakes that a client makes with them.

use serde_json::{Value, json};

use crate::{
    corpus::Row,
    ops::{self, Op},
    session::{Body, Session, Step},
};

pub const JSON_PATCH: &str = "application/json-patch+json";
pub const MERGE: &str = "application/merge-patch+json";
pub const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub const APPLY: &str = "application/apply-patch+yaml";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const PARTIAL: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const PARTIAL_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

/// One session for each example.
pub fn sessions(row: &Row) -> Vec<Session> {
    let examples = row.examples.iter().enumerate();
    let steps = examples.map(|(number, example)| {
        if row.facts.verbs.contains(&"get") {
            Life::new(row, number, example).steps(number == 0)
        } else {
            vec![
                Step::new(format!("create {number}"), "POST", row.collection())
                    .object(example.clone()),
            ]
        }
    });
    steps.map(|steps| Session { kind: row.kind.clone(), steps }).collect()
}

struct Life<'a> {
    row: &'a Row,
    number: usize,
    example: Value,
    collection: String,
    /// The object's path.
    object: String,
    steps: Vec<Step>,
}

impl<'a> Life<'a> {
    fn new(row: &'a Row, number: usize, example: &Value) -> Self {
        let mut example = example.clone();
        ops::apply(&mut example, &Op::set("metadata.labels.oracle", json!("n{n}")));
        let name = example["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let collection = row.collection();
        let object = format!("{collection}/{name}");
        Self { row, number, example, collection, object, steps: Vec::new() }
    }

    fn steps(mut self, whole: bool) -> Vec<Step> {
        if whole {
            self.refused_creates();
        }
        self.post("life create", self.example.clone());
        self.reads(whole);
        if whole {
            self.updates();
            self.patches();
            self.applies();
            self.subresources();
            self.wrong_requests();
        }
        self.deletes(whole);
        self.steps
    }

    fn add(&mut self, step: Step) {
        let label = format!("{} {}", step.label, self.number);
        self.steps.push(Step { label, ..step });
    }

    fn get(&mut self, label: &str, path: String, accept: &str) {
        self.add(Step::new(format!("life {label}"), "GET", path).accept(accept));
    }

    fn post(&mut self, label: &str, body: Value) {
        self.add(Step::new(label, "POST", self.collection.clone()).object(body));
    }

    fn changed(&self, ops: &[Op]) -> Value {
        let mut object = self.example.clone();
        ops.iter().for_each(|op| ops::apply(&mut object, op));
        object
    }

    /// What is refused before there is an object; dry runs of what isn't.
    fn refused_creates(&mut self) {
        let cases = [
            ("with a resourceVersion", "", vec![Op::set("metadata.resourceVersion", json!("1"))]),
            ("without a name", "", vec![Op::remove("metadata.name")]),
            ("of another namespace", "", vec![Op::set("metadata.namespace", json!("other"))]),
            ("of another kind", "", vec![Op::set("kind", json!("Bogus"))]),
            ("without kind", "?dryRun=All", vec![Op::remove("kind"), Op::remove("apiVersion")]),
            ("of another version", "", vec![Op::set("apiVersion", json!("example.com/v1"))]),
            ("with an unknown dryRun", "?dryRun=Some", vec![]),
            ("with an unknown fieldValidation", "?fieldValidation=Some", vec![]),
            ("with a long fieldManager", LONG_MANAGER, vec![]),
            (
                "generateName",
                "?dryRun=All",
                vec![Op::remove("metadata.name"), Op::set("metadata.generateName", json!("gen-"))],
            ),
            ("unknown field Warn", "?dryRun=All&fieldValidation=Warn", bogus()),
            ("unknown field", "?dryRun=All", bogus()),
            ("unknown field Ignore", "?dryRun=All&fieldValidation=Ignore", bogus()),
            ("unknown field Strict", "?dryRun=All&fieldValidation=Strict", bogus()),
        ];
        for (label, query, ops) in cases {
            let body = self.changed(&ops);
            let path = format!("{}{query}", self.collection);
            self.add(Step::new(format!("life create {label}"), "POST", path).object(body));
        }
        for (label, text) in
            [("no JSON", "{\"a\""), ("an empty body", " "), ("a list", "[]"), ("a text", "\"x\"")]
        {
            let step = Step::new(format!("life create {label}"), "POST", self.collection.clone());
            self.add(Step { body: Body::Text(text.into()), ..step });
        }
        let twice = duplicated(&self.example);
        for mode in ["Strict", "Warn"] {
            let path = format!("{}?dryRun=All&fieldValidation={mode}", self.collection);
            let step = Step::new(format!("life create duplicate key {mode}"), "POST", path);
            self.add(Step { body: Body::Text(twice.clone()), ..step });
        }
        let step = Step::new("life create text/plain", "POST", self.collection.clone());
        self.add(Step { media: "text/plain", body: Body::Text("a".into()), ..step });
        let body = self.example.to_string();
        let path = format!("{}?dryRun=All", self.collection);
        let step = Step::new("life create as YAML", "POST", path);
        self.add(Step { media: "application/yaml", body: Body::Text(body), ..step });
    }

    fn reads(&mut self, whole: bool) {
        let (object, collection) = (self.object.clone(), self.collection.clone());
        self.get("get", object.clone(), crate::session::JSON);
        self.get("get Table", object.clone(), TABLE);
        let own = format!("{collection}?labelSelector=oracle%3Dn{{n}}");
        self.get("list", own.clone(), crate::session::JSON);
        self.get("list Table", own.clone(), TABLE);
        if !whole {
            return;
        }
        self.get("get metadata", object.clone(), PARTIAL);
        self.get("list metadata", own.clone(), PARTIAL_LIST);
        self.get("get Table whole", format!("{object}?includeObject=Object"), TABLE);
        self.get("get Table bare", format!("{object}?includeObject=None"), TABLE);
        self.get("list Table or JSON", own.clone(), &format!("{TABLE},application/json"));
        self.get("get text", object.clone(), "text/html");
        self.get("get missing", format!("{collection}/missing"), crate::session::JSON);
        let name = object.rsplit('/').next().unwrap_or_default();
        let by_name = format!("{own}&fieldSelector=metadata.name%3D{name}");
        self.get("list by name", by_name, crate::session::JSON);
        for query in QUERIES {
            self.get(&format!("list {query}"), format!("{own}&{query}"), crate::session::JSON);
        }
        let step = Step::new("life create again", "POST", collection);
        self.add(step.object(self.example.clone()));
    }

    fn updates(&mut self) {
        let object = self.object.clone();
        let put = |label: &str, path: &str| Step::new(format!("life update {label}"), "PUT", path);
        self.add(put("as it is", &object).last(vec![]));
        self.add(
            put("annotated", &object).last(vec![Op::set("metadata.annotations.a", json!("b"))]),
        );
        let changes = [
            ("stale", Op::set("metadata.resourceVersion", json!("1"))),
            ("malformed version", Op::set("metadata.resourceVersion", json!("x"))),
            ("without version", Op::remove("metadata.resourceVersion")),
            ("another name", Op::set("metadata.name", json!("other"))),
            ("another uid", Op::set("metadata.uid", json!("0b0a1c1e-1111-4222-8333-944444444444"))),
            ("another namespace", Op::set("metadata.namespace", json!("other"))),
            ("finalizer", Op::set("metadata.finalizers", json!(["example.com/a", "a"]))),
            (
                "deletionTimestamp",
                Op::set("metadata.deletionTimestamp", json!("2026-01-01T00:00:00Z")),
            ),
            ("generation", Op::set("metadata.generation", json!(77))),
            ("selfLink", Op::set("metadata.selfLink", json!("/x"))),
        ];
        for (label, op) in changes {
            let path = format!("{object}?dryRun=All");
            self.add(put(label, &path).last(vec![op]));
        }
        let example = self.example.clone();
        self.add(put("from the example", &format!("{object}?dryRun=All")).object(example.clone()));
        let mut missing = example.clone();
        ops::apply(&mut missing, &Op::set("metadata.name", json!("missing")));
        let path = format!("{}/missing?dryRun=All", self.collection);
        self.add(put("missing", &path).object(missing.clone()));
        self.steps.push(Step {
            label: "life update missing with version".into(),
            body: Body::Conditional(missing),
            ..put("", &path)
        });
    }

    fn patches(&mut self) {
        let object = self.object.clone();
        let cases: Vec<(&str, &'static str, Value)> = vec![
            ("label", MERGE, json!({"metadata": {"labels": {"m": "1"}}})),
            ("null", MERGE, json!({"metadata": {"labels": {"m": null}}})),
            ("nothing", MERGE, json!({})),
            ("bad label", MERGE, json!({"metadata": {"labels": {"bad key!": "1"}}})),
            ("number", MERGE, json!({"metadata": {"labels": {"m": 1}}})),
            ("name", MERGE, json!({"metadata": {"name": "other"}})),
            ("version", MERGE, json!({"metadata": {"resourceVersion": "1"}})),
            ("unknown", MERGE, json!({"bogusField": 1})),
            ("list", MERGE, json!([])),
            ("label", STRATEGIC, json!({"metadata": {"labels": {"s": "1"}}})),
            (
                "replace",
                STRATEGIC,
                json!({"metadata": {"annotations": {"$patch": "replace", "x": "1"}}}),
            ),
            ("bad directive", STRATEGIC, json!({"metadata": {"$patch": "bogus"}})),
            ("finalizers", STRATEGIC, json!({"metadata": {"finalizers": ["example.com/f"]}})),
            (
                "finalizers gone",
                STRATEGIC,
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/f"]}}),
            ),
            ("list", STRATEGIC, json!([])),
            ("add", JSON_PATCH, json!([{"op": "add", "path": "/metadata/labels/j", "value": "1"}])),
            (
                "test",
                JSON_PATCH,
                json!([{"op": "test", "path": "/metadata/labels/j", "value": "2"}]),
            ),
            ("remove missing", JSON_PATCH, json!([{"op": "remove", "path": "/metadata/labels/q"}])),
            ("bad op", JSON_PATCH, json!([{"op": "bogus", "path": "/a"}])),
            ("bad path", JSON_PATCH, json!([{"op": "add", "path": "/x/y/z", "value": 1}])),
            ("object", JSON_PATCH, json!({})),
            (
                "type",
                JSON_PATCH,
                json!([{"op": "replace", "path": "/metadata/labels", "value": "x"}]),
            ),
        ];
        for (label, media, body) in cases {
            let what = media.split(['/', '+']).nth(1).unwrap_or(media);
            self.add(
                Step::new(format!("life {what} {label}"), "PATCH", &object).patch(media, body),
            );
        }
        let patch = json!({"metadata": {"labels": {"m": "1"}}});
        let missing = format!("{}/missing", self.collection);
        self.add(Step::new("life patch missing", "PATCH", missing).patch(MERGE, patch.clone()));
        self.add(
            Step::new("life patch as JSON", "PATCH", &object)
                .patch("application/json", patch.clone()),
        );
        let path = format!("{object}?dryRun=All&fieldValidation=Strict");
        let unknown = json!({"bogusField": 1});
        self.add(Step::new("life merge strict unknown", "PATCH", path).patch(MERGE, unknown));
        let forced = format!("{object}?force=true");
        self.add(Step::new("life merge forced", "PATCH", forced).patch(MERGE, patch));
    }

    fn applies(&mut self) {
        let object = self.object.clone();
        let apply = |label: &str, query: &str, body: Value| {
            Step::new(format!("life apply {label}"), "PATCH", format!("{object}{query}"))
                .patch(APPLY, body)
        };
        let head = |metadata: Value| json!({"apiVersion": self.example["apiVersion"], "kind": self.example["kind"], "metadata": metadata});
        let name = self.example["metadata"]["name"].clone();
        let example = self.example.clone();
        let mut list = vec![
            apply("without manager", "", example.clone()),
            apply("example", "?fieldManager=a", example.clone()),
            apply("example again", "?fieldManager=a", example.clone()),
            apply("label", "?fieldManager=b", head(json!({"name": name, "labels": {"p": "b"}}))),
            apply("conflict", "?fieldManager=c", head(json!({"name": name, "labels": {"p": "c"}}))),
            apply(
                "force",
                "?fieldManager=c&force=true",
                head(json!({"name": name, "labels": {"p": "c"}})),
            ),
            apply("shared", "?fieldManager=d", head(json!({"name": name, "labels": {"p": "c"}}))),
            apply("given up", "?fieldManager=d", head(json!({"name": name}))),
            apply("removed", "?fieldManager=c", head(json!({"name": name}))),
            apply("managed", "?fieldManager=d", head(json!({"name": name, "managedFields": []}))),
            apply("without kind", "?fieldManager=d", json!({"metadata": {"name": name}})),
            apply("another name", "?fieldManager=d", head(json!({"name": "other"}))),
            apply("unknown", "?fieldManager=d", {
                let mut body = head(json!({"name": name}));
                ops::apply(&mut body, &Op::set("bogusField", json!(1)));
                body
            }),
            apply("unknown force", "?fieldManager=d&force=x", head(json!({"name": name}))),
        ];
        let mut other = example;
        ops::apply(&mut other, &Op::set("metadata.name", json!("applied")));
        let step = |query: &str| {
            Step::new("life apply new", "PATCH", format!("{}/applied{query}", self.collection))
                .patch(APPLY, other.clone())
        };
        list.push(step("?fieldManager=a&dryRun=All"));
        list.into_iter().for_each(|step| self.add(step));
        self.get("get after apply", self.object.clone(), crate::session::JSON);
    }

    fn subresources(&mut self) {
        let object = self.object.clone();
        let names: Vec<&str> = self.row.subresources().filter_map(|sub| sub.subresource).collect();
        if names.contains(&"status") {
            let path = format!("{object}/status");
            self.get("get status", path.clone(), crate::session::JSON);
            let put = |label: &str| Step::new(format!("life status {label}"), "PUT", path.clone());
            self.add(put("as it is").last(vec![]));
            self.add(put("metadata").last(vec![Op::set("metadata.labels.st", json!("1"))]));
            self.add(put("empty").last(vec![Op::set("status", json!({}))]));
            let patch = |label: &str, media, body| {
                Step::new(format!("life status {label}"), "PATCH", path.clone()).patch(media, body)
            };
            let spec = json!({"metadata": {"annotations": {"by": "status"}}, "spec": null});
            self.add(patch("merge", MERGE, spec.clone()));
            self.add(patch("strategic", STRATEGIC, json!({"status": {"bogus": 1}})));
            let head =
                json!({"apiVersion": self.example["apiVersion"], "kind": self.example["kind"]});
            let step = patch("apply", APPLY, head);
            self.add(Step { path: format!("{path}?fieldManager=s"), ..step });
        }
        if names.contains(&"scale") {
            let path = format!("{object}/scale");
            self.get("get scale", path.clone(), crate::session::JSON);
            let patch = |label: &str, body| {
                Step::new(format!("life scale {label}"), "PATCH", path.clone()).patch(MERGE, body)
            };
            self.add(patch("to 3", json!({"spec": {"replicas": 3}})));
            self.add(patch("to -1", json!({"spec": {"replicas": -1}})));
            self.add(patch("wrong", json!({"spec": {"replicas": "x"}})));
            let scale = json!({
                "apiVersion": "autoscaling/v1", "kind": "Scale",
                "metadata": {"name": self.example["metadata"]["name"], "namespace": "{ns}"},
                "spec": {"replicas": 2},
            });
            self.add(Step::new("life scale update", "PUT", path).object(scale));
        }
    }

    fn wrong_requests(&mut self) {
        let (object, collection) = (self.object.clone(), self.collection.clone());
        let body = self.example.clone();
        self.add(Step::new("life POST on a name", "POST", &object).object(body.clone()));
        self.add(Step::new("life PUT on all", "PUT", &collection).object(body.clone()));
        self.add(Step::new("life PATCH on all", "PATCH", &collection).patch(MERGE, json!({})));
        self.get("bogus subresource", format!("{object}/bogus"), crate::session::JSON);
        self.add(Step::new("life HEAD", "HEAD", &object));
        self.add(Step::new("life OPTIONS", "OPTIONS", &object));
    }

    fn deletes(&mut self, whole: bool) {
        let object = self.object.clone();
        let delete = |label: &str, body: Value| {
            Step::new(format!("life delete {label}"), "DELETE", object.clone()).object(body)
        };
        if whole {
            let uid = "0b0a1c1e-1111-4222-8333-944444444444";
            self.add(delete("wrong uid", json!({"preconditions": {"uid": uid}})));
            self.add(delete("wrong version", json!({"preconditions": {"resourceVersion": "1"}})));
            self.add(delete("dry run", json!({"dryRun": ["All"]})));
            self.add(delete("bad policy", json!({"propagationPolicy": "Bogus"})));
            self.add(delete(
                "both policies",
                json!({"propagationPolicy": "Orphan", "orphanDependents": true}),
            ));
            self.add(delete("unknown field", json!({"bogus": 1})));
            self.add(delete("another kind", json!({"kind": "Bogus", "apiVersion": "v1"})));
            let missing = format!("{}/missing", self.collection);
            self.add(Step::new("life delete missing", "DELETE", missing));
        }
        self.add(delete("now", json!({"gracePeriodSeconds": 0})));
        self.get("get after delete", object.clone(), crate::session::JSON);
        if whole && self.row.facts.verbs.contains(&"deletecollection") {
            self.post("life create for deletecollection", self.example.clone());
            let query = "?labelSelector=oracle%3Dn{n}&gracePeriodSeconds=0";
            let path = format!("{}{query}", self.collection);
            self.add(Step::new("life delete all", "DELETE", path));
            self.get(
                "list after delete",
                format!("{}?labelSelector=oracle%3Dn{{n}}", self.collection),
                crate::session::JSON,
            );
        }
    }
}

/// 130 characters, two more than may be.
const LONG_MANAGER: &str = "?fieldManager=mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm";

const QUERIES: [&str; 12] = [
    "fieldSelector=bogus%3D1",
    "fieldSelector=metadata.namespace%3Dx",
    "fieldSelector=status.phase%3DRunning",
    "fieldSelector=spec.nodeName%3D",
    "fieldSelector=type%3DOpaque",
    "fieldSelector=a",
    "limit=1",
    "limit=-1",
    "limit=x",
    "resourceVersion=x",
    "resourceVersion=0&resourceVersionMatch=Exact",
    "resourceVersionMatch=NotOlderThan",
];

fn bogus() -> Vec<Op> {
    vec![Op::set("bogusField", json!(1)), Op::set("metadata.bogus", json!("x"))]
}

/// The object's text with `kind` in it twice.
fn duplicated(example: &Value) -> String {
    let text = example.to_string();
    text.replacen('{', &format!("{{\"kind\":{},", example["kind"]), 1)
}
