//! Watches: what is there, then what happens, one JSON line or protobuf frame an event, until the
//! client goes, the time is up or the watcher lags too far behind.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use http::{Response, StatusCode};
use tokio::time::Instant;
use windlass_sdk_meta::{Object, Reason, Status};

use super::Call;
use crate::{
    ApiServer,
    cache::{Change, Delivery, EventType, Filter, Form, Start, Subscription},
    content,
    negotiate::Shape,
    options::{ListOptions, WatchStart},
    read,
    render::Renderer,
    server::store_status,
};

const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// A watch without `timeoutSeconds` ends between once and twice this, as upstream's.
const DEFAULT_SECONDS: f64 = 1800.0;
/// Events that wait together are sent together, up to about this size.
const PIECE_BYTES: usize = 64 * 1024;

/// A watch under way.
struct Watch {
    server: Arc<ApiServer>,
    renderer: Renderer,
    form: Form,
    filter: Filter,
    subscription: Subscription,
    initial: std::vec::IntoIter<Arc<Object>>,
    missed: VecDeque<Arc<Change>>,
    /// The revision of the initial state, until its closing bookmark is sent.
    initial_end: Option<u64>,
    /// The revision that the client named, if any: nothing up to it is sent.
    after: u64,
    /// Everything up to here has been sent.
    last: u64,
    bookmarks: bool,
    next_bookmark: Instant,
    ends: Instant,
    sent_any: bool,
    over: bool,
}

/// Starts a watch. What can't be watched any more is told by an ERROR event.
pub(crate) async fn serve(
    call: &Call,
    renderer: Renderer,
    filter: Filter,
    options: &ListOptions,
) -> Result<Response<Body>, Status> {
    let server = &call.server;
    let start = options.watch_start()?;
    let cache = server.cache();
    let from = match start {
        WatchStart::After(revision) => Some(revision),
        WatchStart::State { not_older_than, most_recent } => {
            if most_recent {
                cache.fresh().await.map_err(store_status)?;
            } else if let Some(revision) = not_older_than {
                read::not_older_than(cache, revision).await?;
            }
            None
        }
    };
    let resource = read::resource(server, &renderer.kind)?;
    let Some(subscription) = resource.subscribe(filter.clone(), from, cache.reached()) else {
        let old = from.unwrap_or_default();
        let why = format!("too old resource version: {old} ({})", cache.oldest_exact());
        return Ok(stream_of_error(&renderer, &Status::new(Reason::Expired, why)));
    };
    let media = renderer.stream_media();
    let mut watch = Watch::new(call, renderer, filter, subscription, options);
    watch.after = from.unwrap_or(0);
    watch.last = watch.after;
    watch.start(options.send_initial_events == Some(true));
    let stream = futures::stream::unfold(watch, |mut watch| async move {
        watch.next().await.map(|piece| (Ok::<_, axum::Error>(piece), watch))
    });
    let mut response = content::plain(StatusCode::OK, media, Bytes::new());
    *response.body_mut() = Body::from_stream(stream.fuse());
    Ok(response)
}

fn stream_of_error(renderer: &Renderer, status: &Status) -> Response<Body> {
    let mut frame = Vec::new();
    renderer.error(status, &mut frame);
    content::plain(StatusCode::OK, renderer.stream_media(), frame)
}

impl Watch {
    fn new(
        call: &Call,
        renderer: Renderer,
        filter: Filter,
        subscription: Subscription,
        options: &ListOptions,
    ) -> Self {
        let server = call.server.clone();
        let timeout = match options.timeout_seconds {
            Some(seconds) => Duration::from_secs(seconds),
            None => Duration::from_secs_f64(DEFAULT_SECONDS * (1.0 + server.rng().fraction())),
        };
        let now = Instant::now();
        Self {
            form: renderer.form(),
            server,
            renderer,
            filter,
            subscription,
            initial: Vec::new().into_iter(),
            missed: VecDeque::new(),
            initial_end: None,
            after: 0,
            last: 0,
            bookmarks: options.allow_bookmarks,
            next_bookmark: now + BOOKMARK_EVERY,
            ends: now + timeout.min(Duration::from_secs(86_400)),
            sent_any: false,
            over: false,
        }
    }

    fn start(&mut self, announce_end: bool) {
        let start = std::mem::replace(&mut self.subscription.start, Start::Changes(Vec::new()));
        match start {
            Start::Objects(objects, revision) => {
                self.initial = objects.into_iter();
                self.last = revision;
                self.initial_end = (announce_end && self.bookmarks).then_some(revision);
            }
            Start::Changes(changes) => self.missed = changes.into(),
        }
    }

    /// The next piece of the stream: whole events.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        if let Some(piece) = self.backlog() {
            return Some(piece);
        }
        let server = self.server.clone();
        loop {
            let wake = self.ends.min(self.next_bookmark);
            tokio::select! {
                biased;
                () = server.stopping().cancelled() => return None,
                delivery = self.subscription.changes.recv() => {
                    // None: cut, because it lagged. The client resumes from the last it saw.
                    let delivery = delivery?;
                    let first = self.live(&delivery);
                    if let Some(piece) = self.with_waiting(first) {
                        return Some(piece);
                    }
                }
                () = tokio::time::sleep_until(wake) => {
                    self.over = Instant::now() >= self.ends;
                    self.next_bookmark = Instant::now() + BOOKMARK_EVERY;
                    if let Some(piece) = self.bookmark_now() {
                        return Some(piece);
                    }
                    if self.over {
                        return None;
                    }
                }
            }
        }
    }

    /// What was there at the start, or happened since the revision that the client named.
    fn backlog(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        while out.len() < PIECE_BYTES {
            if let Some(object) = self.initial.next() {
                self.line(EventType::Added, &object, object.revision, &mut out);
            } else if let Some(revision) = self.initial_end.take() {
                self.renderer.bookmark(revision, true, &mut out);
            } else if let Some(change) = self.missed.pop_front() {
                if let Some(event) = self.filter.event(&change)
                    && let Some(object) = change.object(event)
                {
                    self.line(event, &object.clone(), change.revision, &mut out);
                }
                self.last = self.last.max(change.revision);
            } else {
                break;
            }
        }
        (!out.is_empty()).then(|| out.into())
    }

    /// The frame of a change that has just happened, shared with watchers of the same form.
    fn live(&mut self, delivery: &Delivery) -> Option<Bytes> {
        let change = &delivery.change;
        if change.revision <= self.after {
            return None;
        }
        self.last = self.last.max(change.revision);
        let event = self.filter.event(change)?;
        let object = change.object(event)?;
        // The first Table of a watch carries the columns, so it is nobody else's.
        if self.renderer.accepted.shape == Shape::Table && !self.sent_any {
            let mut out = Vec::new();
            self.line(event, &object.clone(), change.revision, &mut out);
            return Some(out.into());
        }
        Some(delivery.frame(&self.form, event, || {
            let mut out = Vec::new();
            self.renderer.event(event, object, change.revision, false, &mut out);
            out.into()
        }))
    }

    /// Adds what else is waiting, so that a burst is sent in few pieces.
    fn with_waiting(&mut self, first: Option<Bytes>) -> Option<Bytes> {
        let mut many: Vec<u8> = Vec::new();
        let mut size = first.as_ref().map_or(0, Bytes::len);
        while size < PIECE_BYTES
            && let Ok(delivery) = self.subscription.changes.try_recv()
        {
            if let Some(frame) = self.live(&delivery) {
                if many.is_empty() {
                    many.extend_from_slice(first.as_deref().unwrap_or_default());
                }
                many.extend_from_slice(&frame);
                size = many.len();
            }
        }
        if many.is_empty() { first } else { Some(many.into()) }
    }

    /// A bookmark at the revision that is reached now, behind everything up to it.
    fn bookmark_now(&mut self) -> Option<Bytes> {
        let reached = self.server.cache().reached();
        let mut out = Vec::new();
        // Whatever happened up to `reached` is in the buffer by now.
        while let Ok(delivery) = self.subscription.changes.try_recv() {
            if let Some(frame) = self.live(&delivery) {
                out.extend_from_slice(&frame);
            }
        }
        if self.bookmarks {
            self.last = self.last.max(reached);
            self.renderer.bookmark(self.last, false, &mut out);
        }
        (!out.is_empty()).then(|| out.into())
    }

    fn line(&mut self, event: EventType, object: &Object, revision: u64, out: &mut Vec<u8>) {
        let headers = !std::mem::replace(&mut self.sent_any, true);
        self.renderer.event(event, object, revision, headers, out);
    }
}
