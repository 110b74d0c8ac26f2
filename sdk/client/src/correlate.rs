//! Which Events are written: the same thing said again raises a count instead of adding an object,
//! and an object that says too much is cut off. Pure; the recorder carries the writes out.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use windlass_sdk_meta::{Timestamp, format_time};
use windlass_sdk_types::ObjectReference;

/// Upstream's bounds: 25 Events at once about one object, then one every five minutes.
const BURST: u32 = 25;
const REFILL_SECONDS: i64 = 300;
/// How many series (and talkative objects) are remembered; the longest silent is forgotten first.
const REMEMBERED: usize = 4096;

/// `Event.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EventType {
    Normal,
    Warning,
}

/// Something to be said about an object.
#[derive(Clone, Debug)]
pub struct Note {
    pub about: ObjectReference,
    pub sort: EventType,
    pub reason: String,
    pub message: String,
    /// How often it happened: what the Event's count goes up by.
    pub times: u32,
    pub at: Timestamp,
}

/// What makes two notes the same series.
pub type Series = (Object, EventType, String, String);
/// (kind, namespace, name, uid, field path)
type Object = [String; 5];

/// A request that the recorder makes, and then reports to `done`.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub series: Series,
    pub namespace: String,
    pub name: String,
    /// Create this Event, or merge this into it.
    pub create: bool,
    pub body: Value,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Written,
    /// The name is taken: an Event of another component, at the same instant.
    NameTaken,
    /// The Event to be changed has expired.
    Expired,
    Failed,
}

/// Remembers what was said.
pub struct Correlator {
    component: String,
    host: String,
    series: Recent<Series, Told>,
    talk: Recent<Object, Bucket>,
    last_name: i64,
}

struct Told {
    about: ObjectReference,
    name: String,
    namespace: String,
    count: i64,
    first: Timestamp,
    last: Timestamp,
    exists: bool,
    /// One write of a series is under way at a time; what comes meanwhile is folded into the next.
    busy: bool,
    more: bool,
}

struct Bucket {
    tokens: u32,
    since: Timestamp,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

impl Correlator {
    pub fn new(component: &str, host: &str) -> Self {
        Self {
            component: component.into(),
            host: host.into(),
            series: Recent::new(REMEMBERED),
            talk: Recent::new(REMEMBERED),
            last_name: 0,
        }
    }

    /// The write that a note asks for; None where it is folded into one under way, or is too much.
    pub fn observe(&mut self, note: Note) -> Option<Write> {
        let object = object_of(&note.about);
        let series = (object.clone(), note.sort, note.reason, note.message);
        if self.series.get(&series).is_none() {
            let namespace = note.about.namespace.clone().unwrap_or_else(|| "default".into());
            let name = self.fresh_name(&object[2], note.at);
            self.series.insert(
                series.clone(),
                Told {
                    about: note.about,
                    name,
                    namespace,
                    count: 0,
                    first: note.at,
                    last: note.at,
                    exists: false,
                    busy: false,
                    more: false,
                },
            );
        }
        let allowed = self.spend(object, note.at);
        let told = self.series.get(&series)?;
        told.count += i64::from(note.times);
        told.last = note.at;
        if !allowed {
            return None;
        }
        if told.busy {
            told.more = true;
            return None;
        }
        told.busy = true;
        self.write(series)
    }

    /// Reports a write; returns the next one of its series where there is more to say.
    pub fn done(&mut self, series: &Series, outcome: Outcome) -> Option<Write> {
        let at = self.series.get(series)?.last;
        let fresh = match outcome {
            Outcome::NameTaken | Outcome::Expired => Some(self.fresh_name(&series.0[2], at)),
            Outcome::Written | Outcome::Failed => None,
        };
        let told = self.series.get(series)?;
        told.exists |= outcome == Outcome::Written;
        if let Some(name) = fresh {
            told.name = name;
            told.exists = false;
        }
        let again = matches!(outcome, Outcome::NameTaken | Outcome::Expired);
        if !std::mem::take(&mut told.more) && !again {
            told.busy = false;
            return None;
        }
        self.write(series.clone())
    }

    fn write(&mut self, series: Series) -> Option<Write> {
        let (component, host) = (self.component.clone(), self.host.clone());
        let told = self.series.get(&series)?;
        let body = if told.exists {
            json!({ "count": told.count, "lastTimestamp": format_time(told.last) })
        } else {
            told.event(&series, &component, &host)
        };
        Some(Write {
            namespace: told.namespace.clone(),
            name: told.name.clone(),
            create: !told.exists,
            body,
            series,
        })
    }

    /// `{object}.{nanoseconds in hex}`, never the same twice.
    fn fresh_name(&mut self, object: &str, at: Timestamp) -> String {
        let nanos = i64::try_from(at.as_nanosecond()).unwrap_or_default();
        self.last_name = nanos.max(self.last_name + 1);
        format!("{object}.{:016x}", self.last_name)
    }

    fn spend(&mut self, object: Object, now: Timestamp) -> bool {
        if self.talk.get(&object).is_none() {
            self.talk.insert(object.clone(), Bucket { tokens: BURST, since: now });
        }
        let Some(bucket) = self.talk.get(&object) else { return true };
        let refills = (now.as_second() - bucket.since.as_second()).max(0) / REFILL_SECONDS;
        if refills > 0 {
            let refills = u32::try_from(refills).unwrap_or(BURST);
            bucket.tokens = bucket.tokens.saturating_add(refills).min(BURST);
            bucket.since = now;
        }
        let allowed = bucket.tokens > 0;
        bucket.tokens = bucket.tokens.saturating_sub(1);
        allowed
    }
}

impl Told {
    fn event(&self, series: &Series, component: &str, host: &str) -> Value {
        let (_, sort, reason, message) = series;
        let mut source = json!({ "component": component });
        if !host.is_empty() {
            source["host"] = host.into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": self.name, "namespace": self.namespace },
            "involvedObject": reference(&self.about),
            "reason": reason,
            "message": message,
            "source": source,
            "firstTimestamp": format_time(self.first),
            "lastTimestamp": format_time(self.last),
            "count": self.count,
            "type": sort.as_str(),
            "eventTime": null,
            "reportingComponent": component,
            "reportingInstance": host,
        })
    }
}

fn object_of(about: &ObjectReference) -> Object {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    [&about.kind, &about.namespace, &about.name, &about.uid, &about.field_path].map(text)
}

fn reference(about: &ObjectReference) -> Value {
    let parts = [
        ("kind", &about.kind),
        ("namespace", &about.namespace),
        ("name", &about.name),
        ("uid", &about.uid),
        ("apiVersion", &about.api_version),
        ("resourceVersion", &about.resource_version),
        ("fieldPath", &about.field_path),
    ];
    let set =
        parts.into_iter().filter_map(|(key, part)| Some((key.to_owned(), json!(part.as_ref()?))));
    Value::Object(set.collect())
}

/// A map that forgets what was longest not asked for.
struct Recent<K, V> {
    entries: BTreeMap<K, (u64, V)>,
    by_use: BTreeMap<u64, K>,
    uses: u64,
    most: usize,
}

impl<K: Ord + Clone, V> Recent<K, V> {
    fn new(most: usize) -> Self {
        Self { entries: BTreeMap::new(), by_use: BTreeMap::new(), uses: 0, most }
    }

    fn get(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(key)?;
        self.uses += 1;
        self.by_use.remove(used);
        self.by_use.insert(self.uses, key.clone());
        *used = self.uses;
        Some(value)
    }

    fn insert(&mut self, key: K, value: V) {
        self.uses += 1;
        self.by_use.insert(self.uses, key.clone());
        if let Some((used, _)) = self.entries.insert(key, (self.uses, value)) {
            self.by_use.remove(&used);
        }
        while self.entries.len() > self.most {
            let Some((_, oldest)) = self.by_use.pop_first() else { return };
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn note(name: &str, message: &str, second: i64) -> Note {
        let about = ObjectReference {
            kind: Some("Pod".into()),
            namespace: Some("default".into()),
            name: Some(name.into()),
            uid: Some("u1".into()),
            ..ObjectReference::default()
        };
        Note {
            times: 1,
            about,
            sort: EventType::Warning,
            reason: "BackOff".into(),
            message: message.into(),
            at: Timestamp::from_second(1_800_000_000 + second).unwrap(),
        }
    }

    fn line(write: Option<Write>) -> String {
        write.map_or("nothing".into(), |write| {
            let verb = if write.create { "create" } else { "merge" };
            let body =
                if write.create { json!({ "count": write.body["count"] }) } else { write.body };
            format!("{verb} {} {body}", write.name)
        })
    }

    fn check(write: Option<Write>, expected: Expect) {
        expected.assert_eq(&line(write));
    }

    #[test]
    fn a_series_is_one_event() {
        let mut all = Correlator::new("kubelet", "node-a");
        let first = all.observe(note("a", "x", 0)).unwrap();
        expect![[r#"
            {
              "apiVersion": "v1",
              "kind": "Event",
              "metadata": {
                "name": "a.18fae27693b40000",
                "namespace": "default"
              },
              "involvedObject": {
                "kind": "Pod",
                "namespace": "default",
                "name": "a",
                "uid": "u1"
              },
              "reason": "BackOff",
              "message": "x",
              "source": {
                "component": "kubelet",
                "host": "node-a"
              },
              "firstTimestamp": "2027-01-15T08:00:00Z",
              "lastTimestamp": "2027-01-15T08:00:00Z",
              "count": 1,
              "type": "Warning",
              "eventTime": null,
              "reportingComponent": "kubelet",
              "reportingInstance": "node-a"
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&first.body).unwrap());
        // While it is written, more of the same is folded into one later write.
        check(all.observe(note("a", "x", 1)), expect!["nothing"]);
        check(all.observe(note("a", "x", 2)), expect!["nothing"]);
        check(
            all.observe(note("a", "y", 2)),
            expect![[r#"create a.18fae2770ae99400 {"count":1}"#]],
        );
        check(
            all.done(&first.series, Outcome::Written),
            expect![[
                r#"merge a.18fae27693b40000 {"count":3,"lastTimestamp":"2027-01-15T08:00:02Z"}"#
            ]],
        );
        check(all.done(&first.series, Outcome::Written), expect!["nothing"]);
        let _ = all.observe(note("a", "x", 3));
        check(
            all.done(&first.series, Outcome::Expired),
            expect![[r#"create a.18fae27746845e00 {"count":4}"#]],
        );
        check(
            all.done(&first.series, Outcome::NameTaken),
            expect![[r#"create a.18fae27746845e01 {"count":4}"#]],
        );
    }

    #[test]
    fn a_talkative_object_is_cut_off() {
        let mut all = Correlator::new("kubelet", "node-a");
        let said = (0..40).filter_map(|n| all.observe(note("a", &n.to_string(), 0))).count();
        assert_eq!(said, 25);
        assert!(all.observe(note("b", "x", 0)).is_some());
        assert!(all.observe(note("a", "later", 299)).is_none());
        assert!(all.observe(note("a", "later", 301)).is_some());
        assert!(all.observe(note("a", "later still", 301)).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = Recent::new(2);
        recent.insert("a", 1);
        recent.insert("b", 2);
        assert_eq!(recent.get(&"a"), Some(&mut 1));
        recent.insert("c", 3);
        assert_eq!(recent.get(&"b"), None);
        assert_eq!(recent.by_use.len(), 2);
    }
}
