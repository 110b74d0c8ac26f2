//! The loop that keeps one informer's copy true: a streaming list (KEP-3157) that goes on as a
//! watch, resumed from where it ended, listed anew where the server has forgotten that point.
//! Servers that don't stream lists get a paged list and a watch from its version.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use http::Method;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_sdk_meta::{Backoff, Reason, Rng};
use windlass_sdk_types::{Kind, WatchEvent, decode_watch_event, path};

use crate::{
    api::{Api, Select, query},
    error::Error,
    held::Held,
    informer::{Key, Store},
    lines::Lines,
};

/// A watch that lasted this long was sound: whatever ended it, the next may start at once.
const SOUND: Duration = Duration::from_secs(1);
/// How much longer than asked a watch may stay silent before its connection counts as dead.
const GRACE: Duration = Duration::from_secs(30);

/// Lists and watches one kind into its store.
pub(crate) struct Watch<K> {
    api: Api,
    rng: Rng,
    /// Empty for all.
    namespace: String,
    field_selector: String,
    store: Arc<Store<K>>,
    /// Where to go on; None where everything must be listed.
    position: Option<String>,
    /// The server streams lists, as far as is known.
    streams_lists: bool,
}

impl<K: Kind> Watch<K> {
    pub(crate) fn new(
        api: Api,
        rng: Rng,
        namespace: String,
        field_selector: String,
        store: Arc<Store<K>>,
    ) -> Self {
        Self { api, rng, namespace, field_selector, store, position: None, streams_lists: true }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let store = self.store.clone();
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = store.keep_folding() => {}
            () = self.keep_on() => {}
        }
    }

    async fn keep_on(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(30));
        loop {
            let started = Instant::now();
            let ended = self.once().await;
            if let Err(error) = ended {
                self.note_failure(&error, backoff.attempts());
            }
            if started.elapsed() >= SOUND {
                backoff.reset();
                continue;
            }
            let delay = backoff.next_delay();
            tokio::time::sleep(delay.mul_f64(0.5 + self.rng.fraction())).await;
        }
    }

    fn note_failure(&mut self, error: &Error, attempts: u32) {
        let kind = K::KIND;
        if error.is_expired() {
            tracing::debug!(kind, position = ?self.position, "watch position expired; listing again");
            self.position = None;
        } else if self.position.is_none() && self.streams_lists && refuses_streaming(error) {
            tracing::info!(kind, %error, "the server doesn't stream lists; listing in pages");
            self.streams_lists = false;
        } else {
            tracing::warn!(kind, %error, attempts, "watch failed; trying again");
        }
    }

    /// One list (where needed) and one watch, until the watch ends.
    async fn once(&mut self) -> Result<(), Error> {
        if self.position.is_none() && !self.streams_lists {
            let select = Select { fields: self.field_selector.clone(), ..Select::default() };
            let (list, version) = self.api.list_pages::<K>(&self.namespace, &select).await?;
            let list =
                list.into_iter().map(|object| (Key::of(&object), self.shared(object))).collect();
            self.store.replace(list, number(&version));
            self.position = Some(version);
        }
        // Spread, so that many watches don't end in one moment.
        let seconds = 300 + self.rng.below(300);
        let mut target = path::<K>(&self.namespace, "", "");
        let list = if self.position.is_none() { "true" } else { "" };
        target.push_str(&query(&[
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("sendInitialEvents", list),
            ("resourceVersionMatch", if list.is_empty() { "" } else { "NotOlderThan" }),
            ("resourceVersion", self.position.as_deref().unwrap_or_default()),
            ("fieldSelector", &self.field_selector),
            ("timeoutSeconds", &seconds.to_string()),
        ]));
        let deadline = Duration::from_secs(seconds as u64) + GRACE;
        match tokio::time::timeout(deadline, self.follow(&target)).await {
            Ok(ended) => ended,
            Err(_) => Err(Error::Unreachable("the watch didn't end when it should have".into())),
        }
    }

    async fn follow(&mut self, target: &str) -> Result<(), Error> {
        let answer = self.api.start(Method::GET, target, "", Vec::new()).await?;
        let mut lines = Lines::new(answer.into_body());
        // Until a streaming list is complete its objects are held back, so that readers never see
        // half a list.
        let mut initial = self.position.is_none().then(BTreeMap::new);
        while let Some(line) = lines.next().await? {
            match decode_watch_event::<K>(&line) {
                Ok(event) => self.take(event, &mut initial)?,
                // One object that can't be read must not hide all others.
                Err(error) => {
                    tracing::error!(kind = K::KIND, %error, "skipped an object of a watch");
                }
            }
        }
        Ok(())
    }

    /// The form in which readers share an object: nobody reads managedFields, and they can be half
    /// of it.
    fn shared(&self, mut object: K) -> Arc<Held<K>> {
        object.metadata_mut().managed_fields = None;
        self.store.one_copy(object)
    }

    fn take(
        &mut self,
        event: WatchEvent<K>,
        initial: &mut Option<BTreeMap<Key, Arc<Held<K>>>>,
    ) -> Result<(), Error> {
        match event {
            WatchEvent::Applied(object) => match initial {
                Some(list) => {
                    list.insert(Key::of(&object), self.shared(object));
                }
                None => self.advance(object, false),
            },
            WatchEvent::Deleted(object) if initial.is_none() => self.advance(object, true),
            WatchEvent::Deleted(_) => {}
            WatchEvent::Bookmark { resource_version, initial_events_end } => {
                if initial.is_some() && !initial_events_end {
                    return Ok(());
                }
                match initial.take() {
                    Some(list) => self.store.replace(list, number(&resource_version)),
                    None => self.store.bookmark(number(&resource_version)),
                }
                self.position = Some(resource_version);
            }
            WatchEvent::Failed(status) => {
                let json: serde_json::Value = serde_json::from_str(&status).unwrap_or_default();
                let code = json["code"].as_u64().and_then(|code| u16::try_from(code).ok());
                return Err(Error::from_status(code.unwrap_or(500), &json, status.as_bytes()));
            }
        }
        Ok(())
    }

    fn advance(&mut self, object: K, deleted: bool) {
        let key = Key::of(&object);
        let version = object.resource_version().to_owned();
        let now = (!deleted).then(|| self.shared(object));
        self.store.apply(&key, now, number(&version));
        self.position = Some(version);
    }
}

/// Resource versions are comparable integers (KEP-5504).
fn number(resource_version: &str) -> u64 {
    resource_version.parse().unwrap_or_default()
}

fn refuses_streaming(error: &Error) -> bool {
    error.status().is_some_and(|status| {
        matches!(status.reason, Reason::BadRequest | Reason::Invalid | Reason::MethodNotAllowed)
    })
}
