//! Says in Events what a component did and why. Recording never waits: a note that finds the buffer
//! full is dropped with a log line, because an Event is never worth holding a component up.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use http::Method;
use tokio::sync::mpsc;
use windlass_sdk_meta::{Backoff, Clock};
use windlass_sdk_types::{Event, ObjectReference, path};

use crate::{
    api::Api,
    correlate::{Correlator, EventType, Note, Outcome, Write},
    error::Error,
};

/// Notes that wait for the writer.
const BUFFER: usize = 4096;
/// Writes under way at a time; they share the server's group commits.
const IN_FLIGHT: usize = 16;
const ATTEMPTS: u32 = 5;

/// Records Events of one component; clones share its memory of what was said.
#[derive(Clone)]
pub struct Recorder {
    notes: mpsc::Sender<Note>,
    clock: Arc<dyn Clock>,
    component: Arc<str>,
}

impl Recorder {
    /// Starts the writer as a task of the current runtime; it ends after its last recorder.
    pub fn new(client: kube::Client, component: &str, clock: Arc<dyn Clock>) -> Self {
        Self::on_host(client, component, "", clock)
    }

    /// For components of a node: `source.host` is its name.
    pub fn on_host(
        client: kube::Client,
        component: &str,
        host: &str,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (sender, notes) = mpsc::channel(BUFFER);
        let api = Api::new(client, component);
        tokio::spawn(write_all(api, Correlator::new(component, host), notes));
        Self { notes: sender, clock, component: component.into() }
    }

    /// Says `message` about an object. `reason` is a CamelCase word that programs match.
    pub fn record(
        &self,
        about: &ObjectReference,
        sort: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        self.record_times(1, about, sort, reason, message);
    }

    /// The same for what happened `times` times since it was told last.
    pub fn record_times(
        &self,
        times: u32,
        about: &ObjectReference,
        sort: EventType,
        reason: &str,
        message: impl Into<String>,
    ) {
        let note = Note {
            times,
            about: about.clone(),
            sort,
            reason: reason.into(),
            message: message.into(),
            at: self.clock.now(),
        };
        if self.notes.try_send(note).is_err() {
            let name = about.name.as_deref().unwrap_or_default();
            tracing::warn!(component = %self.component, reason, name, "Event dropped: too many wait");
        }
    }
}

async fn write_all(api: Api, mut correlator: Correlator, mut notes: mpsc::Receiver<Note>) {
    let mut waiting: VecDeque<Write> = VecDeque::new();
    let mut under_way = FuturesUnordered::new();
    let mut open = true;
    while open || !waiting.is_empty() || !under_way.is_empty() {
        while under_way.len() < IN_FLIGHT
            && let Some(write) = waiting.pop_front()
        {
            under_way.push(attempt(&api, write));
        }
        tokio::select! {
            biased;
            Some((write, outcome)) = under_way.next() => {
                waiting.extend(correlator.done(&write.series, outcome));
            }
            // Taken only while writes can start, so that `waiting` stays within IN_FLIGHT.
            note = notes.recv(), if open && under_way.len() < IN_FLIGHT => match note {
                Some(note) => waiting.extend(correlator.observe(note)),
                None => open = false,
            },
        }
    }
}

async fn attempt(api: &Api, write: Write) -> (Write, Outcome) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10));
    loop {
        let error = match send(api, &write).await {
            Ok(()) => return (write, Outcome::Written),
            Err(error) => error,
        };
        if write.create && error.is_already_exists() {
            return (write, Outcome::NameTaken);
        }
        if !write.create && error.is_not_found() {
            return (write, Outcome::Expired);
        }
        if !error.is_transient() || backoff.attempts() >= ATTEMPTS {
            if !error.is_namespace_terminating() {
                tracing::warn!(name = %write.name, %error, "Event not written");
            }
            return (write, Outcome::Failed);
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

async fn send(api: &Api, write: &Write) -> Result<(), Error> {
    let body = write.body.to_string().into_bytes();
    let request = if write.create {
        let path = path::<Event>(&write.namespace, "", "");
        api.request(Method::POST, &path, "application/json", body).await
    } else {
        let path = path::<Event>(&write.namespace, &write.name, "");
        api.request(Method::PATCH, &path, "application/merge-patch+json", body).await
    };
    request.map(drop)
}
