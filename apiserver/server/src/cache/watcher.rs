//! Who watches a resource and what they are told. Filters are evaluated where a change is applied,
//! so a watcher wakes only for what concerns it, and a change that many see is encoded once a form.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use windlass_sdk_meta::{FieldSelector, Object, Selector};

use super::resource::{Change, ResourceCache};

/// Changes that wait for a watcher before it is cut; it then resumes from the last it saw.
const WATCH_BUFFER_CHANGES: usize = 10_000;

/// What a list or watch narrows a resource to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// None: all namespaces.
    pub namespace: Option<Arc<str>>,
    pub name: Option<Arc<str>>,
    pub labels: Selector,
    /// Stored paths.
    pub fields: FieldSelector,
}

/// `type` of a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
}

/// The form that a client asked for: requests with equal forms share encoded frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form(pub Arc<str>);

/// A change on its way to watchers, with the frames that one of them made for all.
pub(crate) struct Delivery {
    pub change: Arc<Change>,
    frames: Mutex<Vec<(Form, EventType, Bytes)>>,
}

/// What a watcher begins with.
pub(crate) enum Start {
    /// The state now, complete up to a revision.
    Objects(Vec<Arc<Object>>, u64),
    /// What happened since the revision it named.
    Changes(Vec<Arc<Change>>),
}

/// A registered watcher; it is taken off the list when this is dropped.
pub(crate) struct Subscription {
    resource: Arc<ResourceCache>,
    id: u64,
    pub start: Start,
    /// Ends where the watcher was cut.
    pub changes: mpsc::Receiver<Arc<Delivery>>,
}

/// The watchers of one resource. Those that ask for one value of the indexed field are found by it.
#[derive(Default)]
pub(super) struct Watchers {
    next_id: u64,
    general: BTreeMap<u64, Watcher>,
    by_value: BTreeMap<Box<str>, BTreeMap<u64, Watcher>>,
    values: BTreeMap<u64, Box<str>>,
}

struct Watcher {
    filter: Filter,
    sender: mpsc::Sender<Arc<Delivery>>,
}

impl Filter {
    pub fn matches(&self, object: &Object) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == object.namespace)
            && self.name.as_ref().is_none_or(|name| *name == object.name)
            && self.labels.matches_labels(&object.labels)
            && self.fields.matches(|path| object.field(path))
    }

    /// A selector narrows it, beyond namespace and name.
    pub fn selects(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    /// What a change means to someone with this filter; None: nothing.
    pub fn event(&self, change: &Change) -> Option<EventType> {
        let seen = |object: &Option<Arc<Object>>| object.as_ref().is_some_and(|o| self.matches(o));
        match (seen(&change.before), seen(&change.now)) {
            (false, true) => Some(EventType::Added),
            (true, true) => Some(EventType::Modified),
            (true, false) => Some(EventType::Deleted),
            (false, false) => None,
        }
    }

    pub fn concerns(&self, change: &Change) -> bool {
        self.event(change).is_some()
    }
}

impl EventType {
    pub fn name(self) -> &'static str {
        match self {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        }
    }
}

impl Change {
    /// The object that an event of this type carries: for DELETED what was there before.
    pub fn object(&self, event: EventType) -> Option<&Arc<Object>> {
        match event {
            EventType::Deleted => self.before.as_ref(),
            _ => self.now.as_ref(),
        }
    }
}

impl Delivery {
    pub fn new(change: Arc<Change>) -> Self {
        Self { change, frames: Mutex::default() }
    }

    /// The frame in a form, made by `encode` where no other watcher has needed it yet.
    pub fn frame(&self, form: &Form, event: EventType, encode: impl FnOnce() -> Bytes) -> Bytes {
        let mut frames = self.frames.lock();
        if let Some((.., frame)) = frames.iter().find(|(f, e, _)| f == form && *e == event) {
            return frame.clone();
        }
        let frame = encode();
        frames.push((form.clone(), event, frame.clone()));
        frame
    }
}

impl Subscription {
    pub(super) fn new(
        resource: Arc<ResourceCache>,
        id: u64,
        start: Start,
        changes: mpsc::Receiver<Arc<Delivery>>,
    ) -> Self {
        Self { resource, id, start, changes }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.resource.unsubscribe(self.id);
    }
}

impl Watchers {
    pub fn len(&self) -> usize {
        self.general.len() + self.values.len()
    }

    pub fn add(
        &mut self,
        filter: Filter,
        index_value: Option<String>,
    ) -> (u64, mpsc::Receiver<Arc<Delivery>>) {
        let id = self.next_id;
        self.next_id += 1;
        let (sender, receiver) = mpsc::channel(WATCH_BUFFER_CHANGES);
        let watcher = Watcher { filter, sender };
        match index_value {
            None => {
                self.general.insert(id, watcher);
            }
            Some(value) => {
                let value = value.into_boxed_str();
                self.values.insert(id, value.clone());
                self.by_value.entry(value).or_default().insert(id, watcher);
            }
        }
        (id, receiver)
    }

    pub fn remove(&mut self, id: u64) {
        self.general.remove(&id);
        if let Some(value) = self.values.remove(&id)
            && let Some(watchers) = self.by_value.get_mut(&value)
        {
            watchers.remove(&id);
            if watchers.is_empty() {
                self.by_value.remove(&value);
            }
        }
    }

    /// Hands a change to everyone it concerns; who has no room left is cut.
    pub fn deliver(&mut self, change: &Arc<Change>, indexed_field: Option<&'static str>) {
        if self.general.is_empty() && self.by_value.is_empty() {
            return;
        }
        let delivery = Arc::new(Delivery::new(change.clone()));
        self.general.retain(|_, watcher| watcher.offer(&delivery));
        let Some(field) = indexed_field.filter(|_| !self.by_value.is_empty()) else { return };
        let value = |object: &Option<Arc<Object>>| {
            object.as_ref().and_then(|object| object.field(field)).map(Box::<str>::from)
        };
        let (before, now) = (value(&change.before), value(&change.now));
        for value in [before.as_ref().filter(|_| before != now), now.as_ref()].into_iter().flatten()
        {
            if let Some(watchers) = self.by_value.get_mut(value) {
                watchers.retain(|_, watcher| watcher.offer(&delivery));
            }
        }
    }
}

impl Watcher {
    /// False where the watcher is gone or cut.
    fn offer(&self, delivery: &Arc<Delivery>) -> bool {
        if !self.filter.concerns(&delivery.change) {
            return true;
        }
        match self.sender.try_send(delivery.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                tracing::warn!("a watcher lags by {WATCH_BUFFER_CHANGES} changes and is cut");
                false
            }
        }
    }
}
