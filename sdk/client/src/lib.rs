//! How components reach the cluster: requests with `Status` errors, informers that keep a typed
//! copy of what exists, work queues, and Events. The same code runs against our server in process
//! and against any API server over the network.
//!
//! All of it runs in the simulation: one thread, paused time, one generator. Therefore it is built
//! on plain requests of `kube::Client` and not on kube-runtime, whose reflector iterates randomly
//! seeded maps; it also avoids `tokio::sync::watch`, which wakes its waiters in random order.

mod api;
mod correlate;
mod error;
mod held;
mod informer;
mod lines;
mod queue;
mod recorder;
mod watch;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use tower::{BoxError, Service};
use windlass_sdk_meta::{Clock, Rng};

pub use api::{Api, Delete, Patch, Select};
pub use correlate::EventType;
pub use error::Error;
pub use informer::{Change, Changes, Informer, Informers, Key};
pub use kube::client::Body;
pub use lines::Lines;
pub use queue::{Job, Queue};
pub use recorder::Recorder;

/// What a component is handed to work with.
#[derive(Clone)]
pub struct Cluster {
    /// Carries the component's own identity.
    pub client: kube::Client,
    /// Shared with the other components of the process.
    pub informers: Informers,
    pub clock: Arc<dyn Clock>,
    pub rng: Rng,
}

impl Cluster {
    /// Requests in the name of `component`, which becomes the manager of the fields it writes.
    pub fn api(&self, component: &str) -> Api {
        Api::new(self.client.clone(), component)
    }

    /// Events of `component`. Needs a tokio runtime, as its writer is a task.
    pub fn recorder(&self, component: &str) -> Recorder {
        Recorder::new(self.client.clone(), component, self.clock.clone())
    }
}

/// A client that calls the server's tower service directly: no socket, no TLS.
pub fn client<S, B>(service: S) -> kube::Client
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    kube::Client::new(service, "default")
}
