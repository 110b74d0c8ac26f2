//! What was stored, in order: the text that must be the same for one seed run twice, the rules
//! checked at every change, and what the store holds now, for whoever judges or meddles.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hasher},
    sync::Arc,
};

use futures::StreamExt;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;
use windlass_apiserver_store::{Batch, Event, Revision, Store};

use crate::{faults::Faults, rules::Rules};

/// Follows the store. Clones share it.
#[derive(Clone)]
pub struct History(Arc<Mutex<State>>);

struct State {
    lines: Vec<String>,
    objects: Objects,
    revision: Revision,
    begun: Instant,
    /// The last change that isn't a sign of life.
    changed: Instant,
    rules: Rules,
    broken: Vec<String>,
    /// Lines end with what changed, for people; too slow for a hundred seeds.
    in_detail: bool,
}

/// Every stored object by its key, with the revision of its last change.
#[derive(Clone, Default)]
pub struct Objects(BTreeMap<Arc<str>, (Revision, Value)>);

impl Objects {
    /// The objects of a resource such as `core/pods`, in a namespace or in all where it is empty.
    pub fn of<'a>(&'a self, resource: &str, namespace: &str) -> impl Iterator<Item = &'a Value> {
        self.under(resource, namespace).map(|(_, _, value)| value)
    }

    /// The same, with keys and revisions.
    pub fn under<'a>(
        &'a self,
        resource: &str,
        namespace: &str,
    ) -> impl Iterator<Item = (&'a str, Revision, &'a Value)> {
        let end = if namespace.is_empty() { "" } else { "/" };
        let prefix = format!("/{resource}/{namespace}{end}");
        let first: Arc<str> = prefix.as_str().into();
        self.0
            .range(first..)
            .take_while(move |(key, _)| key.starts_with(&prefix))
            .map(|(key, (revision, value))| (&**key, *revision, value))
    }

    /// `name` is `namespace/name`.
    pub fn get(&self, resource: &str, name: &str) -> Option<&Value> {
        self.0.get(format!("/{resource}/{name}").as_str()).map(|(_, value)| value)
    }

    pub fn all(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, (_, value))| (&**key, value))
    }
}

impl History {
    pub fn new(faults: Faults, in_detail: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            lines: Vec::new(),
            objects: Objects::default(),
            revision: 0,
            begun: Instant::now(),
            changed: Instant::now(),
            rules: Rules::new(faults),
            broken: Vec::new(),
            in_detail,
        })))
    }

    /// Reads the store's watch for as long as it is polled.
    pub async fn follow(self, store: Arc<dyn Store>) {
        loop {
            let after = self.0.lock().revision;
            match store.watch("/", after).await {
                Ok(mut stream) => {
                    while let Some(Ok(batch)) = stream.next().await {
                        self.0.lock().take(batch);
                    }
                }
                Err(error) => return self.breaks(format!("the log lost the store: {error}")),
            }
        }
    }

    /// Notes that a rule was broken.
    pub fn breaks(&self, what: String) {
        let mut state = self.0.lock();
        let at = state.at_ms();
        state.broken.push(format!("{at} ms: {what}"));
    }

    /// Runs `look` over what is stored now.
    pub fn look<T>(&self, look: impl FnOnce(&Objects) -> T) -> T {
        look(&self.0.lock().objects)
    }

    /// One line a change, from the first.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().lines.clone()
    }

    pub fn broken(&self) -> Vec<String> {
        self.0.lock().broken.clone()
    }

    /// When something changed last, signs of life and Events aside.
    pub fn changed(&self) -> Instant {
        self.0.lock().changed
    }
}

impl State {
    fn at_ms(&self) -> u128 {
        self.begun.elapsed().as_millis()
    }

    fn take(&mut self, batch: Batch) {
        if batch.revision < self.revision {
            let what = format!("revision {} after {}", batch.revision, self.revision);
            self.broken.push(what);
        }
        for event in batch.events {
            self.take_event(event);
        }
        self.revision = batch.revision;
    }

    fn take_event(&mut self, event: Event) {
        let (at, key, revision) = (self.at_ms(), event.key().clone(), event.revision());
        if revision <= self.revision {
            self.broken.push(format!("{key} at {revision} comes after {}", self.revision));
        }
        let line = match event.now() {
            Some(now) => format!("{revision} {at} put {key} {:016x}", digest(&now.value)),
            None => format!("{revision} {at} delete {key}"),
        };
        // Events are many, and nobody looks into them.
        let is_opaque = key.starts_with("/core/events/") && !self.in_detail;
        let read =
            |bytes: &[u8]| if is_opaque { Ok(Value::Null) } else { serde_json::from_slice(bytes) };
        let now = event.now().map(|now| read(&now.value));
        // Claims hold a name and no JSON.
        let now = now.map(Result::unwrap_or_default);
        let before = match &now {
            Some(now) => self.objects.0.insert(key.clone(), (revision, now.clone())),
            None => self.objects.0.remove(&key),
        };
        let before = before.map(|(_, value)| value);
        let mut detail = String::new();
        if self.in_detail {
            differences(
                "",
                &before.clone().unwrap_or_default(),
                &now.clone().unwrap_or_default(),
                &mut detail,
            );
        }
        self.lines.push(line + &detail);
        if !is_sign_of_life(&key) {
            self.changed = Instant::now();
        }
        let found = self.rules.check(&key, before.as_ref(), now.as_ref(), &self.objects);
        self.broken.extend(found.into_iter().map(|rule| format!("{at} ms: {key}: {rule}")));
    }
}

/// What is written where two objects differ, managedFields aside.
fn differences(path: &str, before: &Value, now: &Value, out: &mut String) {
    if before == now || path.ends_with(".managedFields") {
        return;
    }
    match (before, now) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            let each = keys.into_iter().map(|key| (key, &before[key], &now[key]));
            each.for_each(|(key, old, new)| differences(&format!("{path}.{key}"), old, new, out));
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            let each = old.iter().zip(new).enumerate();
            each.for_each(|(at, (old, new))| differences(&format!("{path}.{at}"), old, new, out));
        }
        _ => out.push_str(&format!("\n    {path}: {before} -> {now}")),
    }
}

fn is_sign_of_life(key: &str) -> bool {
    ["/coordination.k8s.io/leases/", "/core/nodes/", "/core/events/"]
        .iter()
        .any(|prefix| key.starts_with(prefix))
}

/// The standard hasher without a key: the same in every run.
fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
