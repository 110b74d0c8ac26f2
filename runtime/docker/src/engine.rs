//! The way to the engine: where it listens, whether it answers, and what it tells of changes. One
//! task keeps the connection: it asks until an engine answers, then reads its events until that
//! ends, and begins again.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc, time::Duration};

use bollard::{
    API_DEFAULT_VERSION, Docker,
    errors::Error,
    models::EventMessage,
    query_parameters::{
        EventsOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
    },
};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{broadcast, watch};
use windlass_runtime_api::{Availability, RuntimeError, RuntimeEvent};
use windlass_sdk_meta::{Backoff, Clock};

use crate::labels;

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// How long the engine may take until it begins to answer. Creating a container on a busy disk
/// takes seconds.
const ANSWER_SECONDS: u64 = 120;
/// An engine that doesn't tell its version within this is not there.
const HELLO: Duration = Duration::from_secs(10);
/// Between attempts to reach the engine: quick at first, because it may just be restarting.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// Events that wait to be read by the agent.
const EVENTS: usize = 4096;
/// The reason of what fails because no engine answers.
pub const UNAVAILABLE: &str = "DockerUnavailable";

/// Where the engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerHost(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no Docker engine this node can use: it must be on this machine, because it mounts the \
     node's folders; give unix:///PATH/docker.sock"
)]
pub struct HostError(String);

impl FromStr for DockerHost {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        let path = text.strip_prefix("unix://").unwrap_or(text);
        match path.starts_with('/') {
            true => Ok(Self(path.to_owned())),
            false => Err(HostError(text.to_owned())),
        }
    }
}

impl Default for DockerHost {
    fn default() -> Self {
        Self(DEFAULT_SOCKET.to_owned())
    }
}

impl fmt::Display for DockerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0)
    }
}

/// The engine, as far as it can be reached.
pub struct Engine {
    host: DockerHost,
    /// Of this node, in the labels of everything it makes.
    node: String,
    clock: Arc<dyn Clock>,
    client: Mutex<Option<Docker>>,
    availability: watch::Sender<Availability>,
    pub events: broadcast::Sender<RuntimeEvent>,
}

impl Engine {
    pub fn new(host: DockerHost, node: String, clock: Arc<dyn Clock>) -> Self {
        let why = format!("the Docker engine at {host} was not asked yet");
        Self {
            host,
            node,
            clock,
            client: Mutex::default(),
            availability: watch::Sender::new(Availability::Absent { why }),
            events: broadcast::Sender::new(EVENTS),
        }
    }

    /// The client, where the engine answers.
    pub fn docker(&self) -> Result<Docker, RuntimeError> {
        if let Some(docker) = &*self.client.lock() {
            return Ok(docker.clone());
        }
        let why = match &*self.availability.borrow() {
            Availability::Absent { why } => why.clone(),
            Availability::Ready { .. } => format!("the Docker engine at {} went away", self.host),
        };
        Err(RuntimeError::new(UNAVAILABLE, why))
    }

    pub fn availability(&self) -> watch::Receiver<Availability> {
        self.availability.subscribe()
    }

    pub fn changed(&self, pod_uid: &str) {
        // Nobody listens before the agent does.
        let _ = self.events.send(RuntimeEvent::Changed { pod_uid: pod_uid.to_owned() });
    }

    /// Keeps the connection for as long as it is polled; `heard` is told of each event, with an empty
    /// one after each time that events may have been missed.
    pub async fn keep(&self, heard: impl Fn(Heard)) {
        let mut backoff = RETRY;
        loop {
            match self.connect().await {
                Ok((docker, version)) => {
                    backoff.reset();
                    tracing::info!(host = %self.host, version, "the Docker engine answers");
                    self.follow(docker, version, &heard).await;
                    self.lost(format!("the Docker engine at {} stopped answering", self.host));
                }
                Err(why) => self.lost(why),
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    async fn connect(&self) -> Result<(Docker, String), String> {
        connect(&self.host).await
    }

    async fn follow(&self, docker: Docker, version: String, heard: &impl Fn(Heard)) {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![labels::of_node(&self.node)]),
        ]);
        // From a moment ago on: nothing is lost between the look at everything and the stream.
        let since = (self.clock.now().as_second() - 1).to_string();
        let options = EventsOptionsBuilder::default().since(&since).filters(&filters).build();
        let mut events = std::pin::pin!(docker.events(Some(options)));
        *self.client.lock() = Some(docker.clone());
        self.availability.send_replace(Availability::Ready { version });
        heard(Heard::Everything);
        let _ = self.events.send(RuntimeEvent::Lagged);
        while let Some(Ok(event)) = events.next().await {
            if let Some(event) = Heard::of(event) {
                heard(event);
            }
        }
    }

    fn lost(&self, why: String) {
        *self.client.lock() = None;
        let now = Availability::Absent { why };
        let changed = |before: &mut Availability| {
            let is_news = *before != now;
            if before.is_ready() {
                tracing::warn!(host = %self.host, "{}", absent(&now));
            }
            *before = now.clone();
            is_news
        };
        self.availability.send_if_modified(changed);
    }
}

/// A client of the engine, and the engine's version.
async fn connect(host: &DockerHost) -> Result<(Docker, String), String> {
    let failed = |why: String| format!("no Docker engine answers at {host}: {why}");
    let docker = Docker::connect_with_unix(&host.0, ANSWER_SECONDS, API_DEFAULT_VERSION);
    let docker = docker.map_err(|error| failed(said(&error)))?;
    let hello = async {
        let docker = docker.negotiate_version().await?;
        let version = docker.version().await?;
        Ok((docker, version.version.unwrap_or_default()))
    };
    match tokio::time::timeout(HELLO, hello).await {
        Ok(answered) => answered.map_err(|error: Error| failed(said(&error))),
        Err(_) => Err(failed(format!("no answer within {} s", HELLO.as_secs()))),
    }
}

/// Removes every container of a node that is no more. An engine whose socket isn't there is no
/// error: it has none.
pub async fn remove_all(host: &DockerHost, node: &str) -> Result<(), String> {
    if !std::path::Path::new(&host.0).exists() {
        return Ok(());
    }
    let (docker, _) = connect(host).await?;
    let filters = HashMap::from([("label".to_owned(), vec![labels::of_node(node)])]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let all = docker.list_containers(Some(options)).await.map_err(|error| said(&error))?;
    for id in all.into_iter().filter_map(|summary| summary.id) {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match docker.remove_container(&id, Some(options)).await {
            Err(error) if !matches!(status(&error), Some(404 | 409)) => return Err(said(&error)),
            _ => {}
        }
    }
    Ok(())
}

fn absent(availability: &Availability) -> &str {
    match availability {
        Availability::Absent { why } => why,
        Availability::Ready { .. } => "",
    }
}

/// What the engine told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Anything may have happened.
    Everything,
    Started {
        pod_uid: String,
        id: String,
    },
    Died {
        pod_uid: String,
        id: String,
    },
    Removed {
        pod_uid: String,
        id: String,
    },
}

impl Heard {
    fn of(event: EventMessage) -> Option<Self> {
        let actor = event.actor?;
        let (id, attributes) = (actor.id?, actor.attributes?);
        let pod_uid = attributes.get(labels::POD_UID)?.clone();
        match event.action?.as_str() {
            "start" => Some(Self::Started { pod_uid, id }),
            "die" => Some(Self::Died { pod_uid, id }),
            "destroy" => Some(Self::Removed { pod_uid, id }),
            _ => None,
        }
    }
}

/// What the engine says, without the client's words around it.
pub fn said(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } => error.clone(),
        Error::SocketNotFoundError(path) => format!("there is no {path}"),
        Error::RequestTimeoutError => format!("no answer within {ANSWER_SECONDS} s"),
        other => chain(other),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

/// The status that the engine answered with; None where it didn't answer.
pub fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

pub fn is_not_found(error: &Error) -> bool {
    status(error) == Some(404)
}

/// An error of the engine as the agent is told it. One that is none of the engine's own words says
/// that it went away.
pub fn failed(reason: &'static str, what: &str, error: &Error) -> RuntimeError {
    let reason = match status(error) {
        None if !matches!(error, Error::DockerStreamError { .. }) => UNAVAILABLE,
        _ => reason,
    };
    RuntimeError::new(reason, format!("{what}: {}", said(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let read = |text: &str| text.parse::<DockerHost>().map(|host| host.to_string());
        assert_eq!(read("unix:///run/d.sock").as_deref(), Ok("unix:///run/d.sock"));
        assert_eq!(read("/run/d.sock").as_deref(), Ok("unix:///run/d.sock"));
        for remote in ["tcp://10.0.0.1:2375", "ssh://host", ""] {
            let said = read(remote).expect_err(remote).to_string();
            assert!(said.starts_with(&format!("{remote:?} is no Docker engine")), "{said}");
        }
    }
}
