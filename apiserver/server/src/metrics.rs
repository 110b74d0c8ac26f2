//! What the server counts about itself, in the text format of Prometheus, with upstream's names
//! where the meaning is the same.

use std::{sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{ApiServer, limits::Class, request::RequestInfo};

/// Upper bounds of the latency histogram, in seconds.
const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// Counters of one server.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    latency: Family<VerbLabels, Histogram, fn() -> Histogram>,
    in_flight: Family<KindLabels, Gauge>,
    objects: Family<ResourceLabels, Gauge>,
    watchers: Family<ResourceLabels, Gauge>,
    revision: Gauge<u64, AtomicU64>,
    pub write_conflicts: Counter,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VerbLabels {
    verb: String,
    resource: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    request_kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ResourceLabels {
    resource: String,
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let latency: Family<_, _, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let (in_flight, objects, watchers) =
            (Family::default(), Family::default(), Family::default());
        let (revision, write_conflicts) = (Gauge::default(), Counter::default());
        registry.register("apiserver_request", "Requests answered", requests.clone());
        registry.register(
            "apiserver_request_duration_seconds",
            "Time to the answer; of a watch, to its first byte",
            latency.clone(),
        );
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests being served",
            in_flight.clone(),
        );
        registry.register("apiserver_storage_objects", "Objects stored", objects.clone());
        registry.register("apiserver_registered_watchers", "Watches open", watchers.clone());
        registry.register("windlass_revision", "Revision the watch cache is at", revision.clone());
        registry.register(
            "windlass_write_conflicts",
            "Writes that were tried again because the object had changed",
            write_conflicts.clone(),
        );
        Self {
            registry,
            requests,
            latency,
            in_flight,
            objects,
            watchers,
            revision,
            write_conflicts,
        }
    }

    /// Counts an answered request. Paths that name no served resource share one label, so clients
    /// can't make labels up.
    pub fn observe(&self, info: &RequestInfo, code: u16, took: Duration) {
        let known = info.is_resource && code != 404;
        let text = |text: &str| if known { text.to_owned() } else { String::new() };
        let verb = info.verb.to_uppercase();
        self.requests
            .get_or_create(&RequestLabels {
                verb: verb.clone(),
                group: text(&info.group),
                resource: text(&info.resource),
                subresource: text(&info.subresource),
                code,
            })
            .inc();
        if Class::of(info) != Class::LongRunning {
            let labels = VerbLabels { verb, resource: text(&info.resource) };
            self.latency.get_or_create(&labels).observe(took.as_secs_f64());
        }
    }

    /// The page for `/metrics`.
    pub fn encode(&self, server: &ApiServer) -> String {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (kind, busy) in server.limits().in_flight() {
            let labels = KindLabels { request_kind: kind.into() };
            self.in_flight.get_or_create(&labels).set(count(busy));
        }
        for resource in server.cache().resources().values() {
            let labels = ResourceLabels { resource: resource.kind().group_resource().to_string() };
            self.objects.get_or_create(&labels).set(count(resource.count()));
            self.watchers.get_or_create(&labels).set(count(resource.watcher_count()));
        }
        self.revision.set(server.cache().reached());
        let mut out = String::new();
        // Formatting into a String has no way to fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}
