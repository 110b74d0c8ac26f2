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
use windlass_runtime_net::PodNet;
use windlass_sdk_meta::{Backoff, Clock};

use crate::labels;

const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// How long the engine may take until it begins to answer. Creating a container on a busy disk
/// takes seconds.
const ANSWER_SECONDS: u64 = 120;
/// An engine that doesn't tell its version within this is not there.
const HELLO: Duration = Duration::from_secs(10);
/// How often one that answered is asked whether it still does.
const PING_EVERY: Duration = Duration::from_secs(10);
/// Between attempts to reach the engine: quick at first, because it may just be restarting.
const RETRY: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// Events that wait to be read by the agent.
const EVENTS: usize = 4096;
/// The reason of what fails because no engine answers.
pub const UNAVAILABLE: &str = "DockerUnavailable";

/// How Docker's own variable names engines that are reached otherwise than by a socket's path.
const REMOTE: [&str; 6] = ["tcp://", "http://", "https://", "ssh://", "npipe://", "fd://"];

/// Where the engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerHost {
    /// The path of its socket.
    Local(String),
    /// It may be another machine's, so nothing runs there: the node says so.
    Remote(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no Docker engine: give unix:///PATH/docker.sock")]
pub struct HostError(String);

impl FromStr for DockerHost {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        if REMOTE.iter().any(|scheme| text.starts_with(scheme) && text.len() > scheme.len()) {
            return Ok(Self::Remote(text.to_owned()));
        }
        let path = text.strip_prefix("unix://").unwrap_or(text);
        match path.starts_with('/') {
            true => Ok(Self::Local(path.to_owned())),
            false => Err(HostError(text.to_owned())),
        }
    }
}

impl Default for DockerHost {
    fn default() -> Self {
        Self::Local(DEFAULT_SOCKET.to_owned())
    }
}

impl fmt::Display for DockerHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => write!(f, "unix://{path}"),
            Self::Remote(host) => f.write_str(host),
        }
    }
}

impl DockerHost {
    /// The socket's path.
    ///
    /// # Errors
    /// Why an engine that has none is of no use.
    pub(crate) fn path(&self) -> Result<&str, String> {
        match self {
            Self::Local(path) => Ok(path),
            Self::Remote(host) => Err(format!(
                "the Docker engine at {host} is not used: it may be another machine's, which can't \
                 mount this node's folders and whose pods' networks can't be joined; give that of \
                 this machine by --docker-host unix:///PATH/docker.sock"
            )),
        }
    }
}

/// The engine, as far as it can be reached.
pub struct Engine {
    host: DockerHost,
    /// Of this node, in the labels of everything it makes.
    node: String,
    clock: Arc<dyn Clock>,
    /// Where pods' networks are joined, as far as they can be.
    net: PodNet,
    /// Why no network can be joined at all: the engine runs on another kernel.
    elsewhere: Mutex<Option<String>>,
    client: Mutex<Option<Docker>>,
    availability: watch::Sender<Availability>,
    pub events: broadcast::Sender<RuntimeEvent>,
}

impl Engine {
    pub fn new(host: DockerHost, node: String, clock: Arc<dyn Clock>, net: PodNet) -> Self {
        let why = format!("the Docker engine at {host} was not asked yet");
        Self {
            host,
            node,
            clock,
            net,
            elsewhere: Mutex::default(),
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

    /// What the engine is asked, for as long as it is there: one that hangs is given up.
    pub async fn ask<T>(
        &self,
        asked: impl Future<Output = Result<T, RuntimeError>>,
    ) -> Result<T, RuntimeError> {
        let mut availability = self.availability.subscribe();
        let gone = async {
            // The sender lives as long as this.
            let gone = availability.wait_for(|now| !now.is_ready()).await;
            let why = gone.ok().map(|now| absent(&now).to_owned());
            match why {
                Some(why) => why,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            done = asked => done,
            why = gone => Err(RuntimeError::new(UNAVAILABLE, why)),
        }
    }

    /// The path of its socket; none is needed where there is no client.
    pub fn socket(&self) -> &str {
        self.host.path().unwrap_or_default()
    }

    /// Why the networks of sandboxes are another machine's, where they are.
    pub fn elsewhere(&self) -> Option<String> {
        self.elsewhere.lock().clone()
    }

    pub fn changed(&self, pod_uid: &str) {
        // Nobody listens before the agent does.
        let _ = self.events.send(RuntimeEvent::Changed { pod_uid: pod_uid.to_owned() });
    }

    /// Keeps the connection for as long as it is polled; `heard` is told of each event, with an empty
    /// one after each time that events may have been missed.
    pub async fn keep(&self, heard: impl Fn(Heard)) {
        let mut backoff = RETRY;
        if let Err(why) = self.host.path() {
            tracing::warn!("{why}");
            self.lost(why);
            return std::future::pending().await;
        }
        loop {
            match connect(&self.host).await {
                Ok((docker, version)) => {
                    backoff.reset();
                    tracing::info!(host = %self.host, version, "the Docker engine answers");
                    let lacks = self.lacks(&docker).await;
                    if let Some(lacks) = &lacks {
                        tracing::warn!("{lacks}");
                    }
                    self.follow(docker, Availability::Ready { version, lacks }, &heard).await;
                    self.lost(format!("the Docker engine at {} stopped answering", self.host));
                }
                Err(why) => self.lost(why),
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// What containers of this engine lack on this node: one sentence. None: nothing.
    async fn lacks(&self, docker: &Docker) -> Option<String> {
        let own = kernel();
        let info = docker.info().await.unwrap_or_default();
        let theirs = info.kernel_version.unwrap_or_default();
        let elsewhere = (!own.is_empty() && !theirs.is_empty() && own != theirs).then(|| {
            format!(
                "the Docker engine at {} runs on another machine (its kernel is {theirs}, this \
                 one's is {own}): its containers reach no services and no WASM of their pod, and \
                 what they mount must be there too",
                self.host
            )
        });
        self.elsewhere.lock().clone_from(&elsewhere);
        match elsewhere {
            Some(why) => Some(why),
            None => self.net.joining_lacks().await,
        }
    }

    async fn follow(&self, docker: Docker, ready: Availability, heard: &impl Fn(Heard)) {
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("label".to_owned(), vec![labels::of_node(&self.node)]),
        ]);
        // From a moment ago on: nothing is lost between the look at everything and the stream.
        let since = (self.clock.now().as_second() - 1).to_string();
        let options = EventsOptionsBuilder::default().since(&since).filters(&filters).build();
        let mut events = std::pin::pin!(docker.events(Some(options)));
        *self.client.lock() = Some(docker.clone());
        self.availability.send_replace(ready);
        heard(Heard::Everything);
        let _ = self.events.send(RuntimeEvent::Lagged);
        let hears = async {
            while let Some(Ok(event)) = events.next().await {
                if let Some(event) = Heard::of(event) {
                    heard(event);
                }
            }
        };
        // A stream that is silent may be that of an engine that hangs.
        tokio::select! {
            () = hears => {}
            () = silence(&docker) => {}
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

/// Returns once the engine doesn't answer any more.
async fn silence(docker: &Docker) {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        if !matches!(tokio::time::timeout(HELLO, docker.ping()).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// This machine's, as engines tell theirs.
fn kernel() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

/// A client of the engine, and the engine's version.
async fn connect(host: &DockerHost) -> Result<(Docker, String), String> {
    let failed = |why: String| format!("no Docker engine answers at {host}: {why}");
    let docker = Docker::connect_with_unix(host.path()?, ANSWER_SECONDS, API_DEFAULT_VERSION);
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
    if !host.path().is_ok_and(|path| std::path::Path::new(path).exists()) {
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
        assert_eq!(read("tcp://10.0.0.1:2375").as_deref(), Ok("tcp://10.0.0.1:2375"));
        let why = DockerHost::Remote("ssh://host".into()).path().expect_err("of no use");
        assert!(why.starts_with("the Docker engine at ssh://host is not used"), "{why}");
        for wrong in ["docker.sock", "tcp://", "gopher://host", ""] {
            let said = read(wrong).expect_err(wrong).to_string();
            assert!(said.starts_with(&format!("{wrong:?} names no Docker engine")), "{said}");
        }
    }
}
