//! Traces of requests (W3C Trace Context, level 1). The context that comes with a request goes on
//! with the requests that its guest makes, unless the guest sets one itself. Where somebody
//! collects traces, the host makes a span of each sampled request and of each request that a guest
//! makes in it; the guest then sees the host's span as its parent. Where nobody does, all this
//! costs a look at the request's headers.

use std::{str::FromStr, sync::Arc, time::Duration};

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use tokio::sync::mpsc;
use windlass_runtime_api::ContainerSpec;
use windlass_sdk_meta::{Clock, Rng, Timestamp};

use crate::otlp::{self, Endpoint};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Spans that wait to be sent; more are dropped.
const QUEUE: usize = 4096;
/// A longer path is cut in a span.
const PATH_BYTES: usize = 1024;
/// The pod's annotation by which it names its service (OpenTelemetry's own).
const SERVICE_NAME: &str = "resource.opentelemetry.io/service.name";

/// Where spans go, and which requests get one.
#[derive(Clone, Debug)]
pub struct TraceConfig {
    pub endpoint: Endpoint,
    /// The share of requests that come without a context and get a trace of their own.
    pub ratio: f64,
    pub rng: Rng,
}

/// One hop of a trace, as the header `traceparent` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    pub trace: u128,
    pub span: u64,
    pub sampled: bool,
}

/// What goes on with the requests that a guest makes.
#[derive(Clone, Debug)]
pub struct Context {
    hop: Hop,
    state: Vec<HeaderValue>,
}

/// Makes spans. Clones share the queue.
#[derive(Clone)]
pub struct Tracer {
    spans: mpsc::Sender<Span>,
    clock: Arc<dyn Clock>,
    rng: Rng,
    ratio: f64,
}

/// The spans of one container.
pub struct Traces {
    tracer: Tracer,
    resource: Arc<Resource>,
}

/// What all spans of a container are about.
#[derive(Debug, PartialEq, Eq)]
pub struct Resource {
    pub service: String,
    pub namespace: String,
    pub pod: String,
    pub pod_uid: String,
    pub container: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    Server,
    Client,
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    pub resource: Arc<Resource>,
    pub kind: SpanKind,
    pub hop: Hop,
    pub parent: Option<u64>,
    pub state: String,
    pub began: Timestamp,
    pub took: Duration,
    pub method: String,
    pub path: String,
    /// The other side of a client's span.
    pub peer: String,
    /// None: there was no answer.
    pub status: Option<u16>,
}

/// A span that has not ended; without its end it is not told.
pub struct Open {
    tracer: Tracer,
    span: Span,
    began: tokio::time::Instant,
}

impl FromStr for Hop {
    type Err = ();

    /// `00-32 hex-16 hex-2 hex`; later versions may have more behind a dash (Trace Context, 3.2).
    fn from_str(text: &str) -> Result<Self, ()> {
        let hex = |text: &str, digits: usize| {
            let lower = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
            let fits = text.len() == digits && text.bytes().all(lower);
            fits.then(|| u128::from_str_radix(text, 16).ok()).flatten().ok_or(())
        };
        let mut parts = text.trim().splitn(5, '-');
        let mut next = |digits| hex(parts.next().unwrap_or_default(), digits);
        let (version, trace, span, flags) = (next(2)?, next(32)?, next(16)?, next(2)?);
        let has_more = parts.next().is_some();
        if version == 0xff || (version == 0 && has_more) || trace == 0 || span == 0 {
            return Err(());
        }
        let span = u64::try_from(span).map_err(|_| ())?;
        Ok(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

impl std::fmt::Display for Hop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

impl Context {
    /// What comes with a request; None where that is nothing, or nothing that can be read: then a
    /// trace begins here (Trace Context, 4.3).
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let hop = parents.next()?.to_str().ok()?.parse().ok()?;
        if parents.next().is_some() {
            return None;
        }
        let state = headers.get_all(TRACESTATE).iter().cloned().collect();
        Some(Self { hop, state })
    }

    /// Puts it into the headers, in the place of what is there.
    fn put(&self, headers: &mut HeaderMap) {
        if let Ok(parent) = HeaderValue::try_from(self.hop.to_string()) {
            headers.insert(TRACEPARENT, parent);
        }
        headers.remove(TRACESTATE);
        for value in &self.state {
            headers.append(TRACESTATE, value.clone());
        }
    }

    fn state_text(&self) -> String {
        let values = self.state.iter().filter_map(|value| value.to_str().ok());
        values.collect::<Vec<_>>().join(",")
    }
}

/// A request comes to a container: what of its trace goes on is put into its extensions. The span
/// is to be ended with the answer.
pub fn enter<B>(traces: Option<&Arc<Traces>>, request: &mut Request<B>) -> Option<Open> {
    let incoming = Context::of(request.headers());
    let Some(traces) = traces else { return pass_on(request, incoming) };
    let hop = match &incoming {
        Some(context) => context.hop.sampled.then(|| traces.tracer.child(context.hop)),
        None => traces.tracer.root(),
    };
    let Some(hop) = hop else { return pass_on(request, incoming) };
    let parent = incoming.as_ref().map(|context| context.hop.span);
    let context = Context { hop, state: incoming.map_or_else(Vec::new, |context| context.state) };
    context.put(request.headers_mut());
    let open = traces.open(SpanKind::Server, &context, parent, request, String::new());
    request.extensions_mut().insert(context);
    Some(open)
}

/// A guest sends a request while it answers one. What it says about traces itself stays.
pub fn leave<B>(
    traces: Option<&Arc<Traces>>,
    context: Option<&Context>,
    request: &mut Request<B>,
) -> Option<Open> {
    let context = context.filter(|_| !request.headers().contains_key(TRACEPARENT))?;
    let Some(traces) = traces.filter(|_| context.hop.sampled) else {
        context.put(request.headers_mut());
        return None;
    };
    let child = Context { hop: traces.tracer.child(context.hop), state: context.state.clone() };
    child.put(request.headers_mut());
    let peer = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    Some(traces.open(SpanKind::Client, &child, Some(context.hop.span), request, peer))
}

/// Passes on what came, without a span.
fn pass_on<B>(request: &mut Request<B>, incoming: Option<Context>) -> Option<Open> {
    if let Some(context) = incoming {
        request.extensions_mut().insert(context);
    }
    None
}

impl Tracer {
    /// `spawn` runs the task that sends spans.
    pub fn start(
        config: TraceConfig,
        clock: Arc<dyn Clock>,
        spawn: impl FnOnce(otlp::Exporting),
    ) -> Self {
        let (spans, queue) = mpsc::channel(QUEUE);
        spawn(Box::pin(otlp::export(config.endpoint, queue)));
        Self { spans, clock, rng: config.rng, ratio: config.ratio }
    }

    fn child(&self, parent: Hop) -> Hop {
        Hop { span: self.rng.next_u64().max(1), ..parent }
    }

    fn root(&self) -> Option<Hop> {
        if self.ratio < 1.0 && self.rng.fraction() >= self.ratio {
            return None;
        }
        let (high, low) = (self.rng.next_u64(), self.rng.next_u64());
        let trace = ((u128::from(high) << 64) | u128::from(low)).max(1);
        Some(self.child(Hop { trace, span: 0, sampled: true }))
    }
}

impl Traces {
    pub fn of(tracer: Tracer, spec: &ContainerSpec) -> Arc<Self> {
        let env = spec.env.iter().find(|(name, _)| name == "OTEL_SERVICE_NAME");
        let named = spec.pod.annotations.get(SERVICE_NAME).or(env.map(|(_, value)| value));
        let resource = Resource {
            service: named.unwrap_or(&spec.name).clone(),
            namespace: spec.pod.namespace.clone(),
            pod: spec.pod.name.clone(),
            pod_uid: spec.pod.uid.clone(),
            container: spec.name.clone(),
        };
        Arc::new(Self { tracer, resource: Arc::new(resource) })
    }

    fn open<B>(
        &self,
        kind: SpanKind,
        context: &Context,
        parent: Option<u64>,
        request: &Request<B>,
        peer: String,
    ) -> Open {
        let path = request.uri().path();
        let cut = (0..=PATH_BYTES.min(path.len())).rev().find(|at| path.is_char_boundary(*at));
        let span = Span {
            resource: self.resource.clone(),
            kind,
            hop: context.hop,
            parent,
            state: context.state_text(),
            began: self.tracer.clock.now(),
            took: Duration::ZERO,
            method: request.method().to_string(),
            path: path[..cut.unwrap_or(0)].to_owned(),
            peer,
            status: None,
        };
        Open { tracer: self.tracer.clone(), span, began: tokio::time::Instant::now() }
    }
}

impl Open {
    /// None: there was no answer.
    pub fn end(mut self, status: Option<StatusCode>) {
        self.span.took = self.began.elapsed();
        self.span.status = status.map(|status| status.as_u16());
        // Spans are worth less than what would be held up for them.
        let _ = self.tracer.spans.try_send(self.span);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn parents_are_read_strictly() {
        let hop: Hop = PARENT.parse().expect("a parent");
        assert_eq!(hop.to_string(), PARENT);
        assert!(hop.sampled);
        let later = format!("cc-{}-what-ever", &PARENT[3..]);
        assert_eq!(later.parse(), Ok(hop));
        for wrong in [
            "",
            "00",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        ] {
            assert_eq!(wrong.parse::<Hop>(), Err(()), "{wrong}");
        }
    }

    fn request(parent: Option<&str>) -> Request<()> {
        let mut request = Request::get("http://shop/cart?id=1");
        if let Some(parent) = parent {
            request = request.header("traceparent", parent).header("tracestate", "a=1");
        }
        request.body(()).expect("a request")
    }

    fn header(request: &Request<()>, name: HeaderName) -> &str {
        request.headers().get(name).map_or("none", |value| value.to_str().expect("text"))
    }

    fn tracer(ratio: f64) -> (Arc<Traces>, mpsc::Receiver<Span>) {
        let (spans, queue) = mpsc::channel(8);
        let clock = Arc::new(windlass_sdk_meta::SystemClock);
        let tracer = Tracer { spans, clock, rng: Rng::seeded(1), ratio };
        let resource = Resource {
            service: "cart".into(),
            namespace: "shop".into(),
            pod: "cart-1".into(),
            pod_uid: "u".into(),
            container: "main".into(),
        };
        (Arc::new(Traces { tracer, resource: Arc::new(resource) }), queue)
    }

    #[test]
    fn without_a_collector_the_context_goes_through() {
        let mut incoming = request(Some(PARENT));
        assert!(enter(None, &mut incoming).is_none());
        assert_eq!(header(&incoming, TRACEPARENT), PARENT);
        let context = incoming.extensions().get::<Context>();
        let mut outgoing = request(None);
        assert!(leave(None, context, &mut outgoing).is_none());
        assert_eq!(header(&outgoing, TRACEPARENT), PARENT);
        assert_eq!(header(&outgoing, TRACESTATE), "a=1");
        let mut plain = request(None);
        assert!(enter(None, &mut plain).is_none());
        let mut outgoing = request(None);
        assert!(leave(None, plain.extensions().get::<Context>(), &mut outgoing).is_none());
        assert_eq!(header(&outgoing, TRACEPARENT), "none");
    }

    #[test]
    fn sampled_requests_have_a_span_in_and_one_out() {
        let (traces, mut queue) = tracer(1.0);
        let mut incoming = request(Some(PARENT));
        let server = enter(Some(&traces), &mut incoming).expect("a span");
        let seen: Hop = header(&incoming, TRACEPARENT).parse().expect("a parent");
        let context = incoming.extensions().get::<Context>().cloned();
        let mut outgoing = request(None);
        let client = leave(Some(&traces), context.as_ref(), &mut outgoing).expect("a span");
        let sent: Hop = header(&outgoing, TRACEPARENT).parse().expect("a parent");
        client.end(Some(StatusCode::NOT_FOUND));
        server.end(Some(StatusCode::OK));
        let (client, server) = (queue.try_recv().expect("told"), queue.try_recv().expect("told"));
        let parent: Hop = PARENT.parse().expect("a parent");
        assert_eq!((server.hop, server.parent), (seen, Some(parent.span)));
        assert_eq!((client.hop, client.parent), (sent, Some(seen.span)));
        assert_eq!((client.hop.trace, server.hop.trace), (parent.trace, parent.trace));
        assert_eq!((client.path.as_str(), client.peer.as_str()), ("/cart", "shop"));
        assert_eq!((server.state.as_str(), client.status), ("a=1", Some(404)));
        // What a guest says itself stays.
        let mut own = request(Some(PARENT));
        assert!(leave(Some(&traces), context.as_ref(), &mut own).is_none());
        assert_eq!(header(&own, TRACEPARENT), PARENT);
    }

    #[test]
    fn what_is_not_sampled_has_no_span() {
        let (traces, _queue) = tracer(0.0);
        let unsampled = PARENT.replace("-01", "-00");
        let mut incoming = request(Some(&unsampled));
        assert!(enter(Some(&traces), &mut incoming).is_none());
        assert_eq!(header(&incoming, TRACEPARENT), unsampled);
        assert!(enter(Some(&traces), &mut request(None)).is_none());
        let (traces, _queue) = tracer(1.0);
        let mut first = request(None);
        assert!(enter(Some(&traces), &mut first).is_some());
        assert!(header(&first, TRACEPARENT).ends_with("-01"));
    }
}
