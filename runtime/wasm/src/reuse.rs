//! Answers with WASI 0.3: an instance has several requests, at once and one after the other. Requests
//! wait in one queue of the container, and whichever instance has room takes the next. An instance
//! that computes has no room, so requests that compute spread over instances, and those that wait
//! share one. Each instance has a task of its own; who brings a request advances an instance that has
//! room for it there and then.
//!
//! An instance ends when it has answered its number of requests, when it was idle for a moment, or
//! when a request in it fails: wasmtime can't end one call alone. Its other requests fail with it
//! when it traps; they get a while to finish when one only ran over its time or lost its client.

mod lease;
mod work;
mod written;

use std::{
    collections::BTreeMap,
    future::poll_fn,
    ops::Range,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Poll,
    time::Duration,
};

use ::http::{HeaderMap, Request, Response, Uri, header, uri};
use bytes::Bytes;
use futures::{Stream, stream::FuturesUnordered};
use http_body::Body;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::{Instant, sleep, timeout},
};
use wasmtime::{AsContextMut, Store, component::Accessor};
use wasmtime_wasi_http::{
    Error, WasiBody, WasiHttpView,
    p3::{
        self,
        bindings::{Service, ServicePre},
    },
};

use self::lease::{Ending, Lease, Shared, ended};
use self::work::Work;
pub use self::written::Written;
use crate::{
    cpu,
    failure::Failure,
    guest::{Guest, Setup},
    http::{AFTERWARDS, Answer, Deadline, Handler, PATIENCE, Unanswered, busy},
    instance::Instance,
    trace,
};

/// Requests that an instance has at once, and in all; as `wasmtime serve` has it.
pub const AT_ONCE: usize = 16;
const IN_ALL: usize = 128;

/// How long an instance without requests is kept; also how often an instance is looked at.
const IDLE: Duration = Duration::from_secs(1);

/// The instances of one container, and the requests that wait for them.
pub struct Pool {
    pub component: ServicePre<Guest>,
    max_instances: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By age. The handler's turns bound them.
    jobs: BTreeMap<u64, Job>,
    next_job: u64,
    /// Instances that would take a job now, the oldest first: under little load the others idle.
    ready: BTreeMap<u64, Arc<Work>>,
    next_instance: u64,
    /// Instances being made.
    starting: usize,
    /// With those being made.
    alive: usize,
}

/// A request that waits for an instance.
struct Job {
    request: Request<WasiBody>,
    taken: oneshot::Sender<Lease>,
    head: oneshot::Sender<Result<Response<WasiBody>, Unanswered>>,
    /// Tells the guest how the answer's body fared.
    sent: oneshot::Receiver<Result<(), Error>>,
}

/// Returns with the head of the answer.
pub async fn answer<B>(
    handler: &Arc<Handler>,
    pool: &Arc<Pool>,
    request: Request<B>,
    mut deadline: Option<Deadline>,
) -> Result<Response<Answer>, Unanswered>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Error>,
{
    let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    let mut asking = pin!(ask(handler, pool, request));
    let (response, lease, sent, turn) = poll_fn(|cx| {
        let asked = asking.as_mut().poll(cx);
        let Some(deadline) = deadline.as_mut().filter(|_| asked.is_pending()) else { return asked };
        match deadline.has_passed(cx) {
            true => Poll::Ready(Err(deadline.failure().into())),
            false => Poll::Pending,
        }
    })
    .await?;
    let (handler, sent) = (handler.clone(), Some(sent));
    Ok(response
        .map(|body| Answer::Reused(Written { body, handler, lease, sent, deadline, _turn: turn })))
}

/// An answer's head, its instance, who is to be told of its end, and its turn.
type Asked = (Response<WasiBody>, Lease, oneshot::Sender<Result<(), Error>>, OwnedSemaphorePermit);

async fn ask(
    handler: &Arc<Handler>,
    pool: &Arc<Pool>,
    request: Request<WasiBody>,
) -> Result<Asked, Unanswered> {
    let turn = handler.turn().await?;
    {
        let mut admitted = pin!(handler.container.cpu.admit());
        poll_fn(|cx| handler.container.poll(admitted.as_mut(), cx)).await;
    }
    let (taken, was_taken) = oneshot::channel();
    let (head, has_head) = oneshot::channel();
    let (sent, was_sent) = oneshot::channel();
    let job = Job { request: addressed(request), taken, head, sent: was_sent };
    let place = pool.push(handler, job);
    let lease = match timeout(PATIENCE, was_taken).await {
        Ok(lease) => lease.ok(),
        Err(_) => return Err(busy().into()),
    };
    drop(place);
    let Some(mut lease) = lease else {
        // No instance could be made: the answer says why.
        return Err(match has_head.await {
            Ok(Err(unanswered)) => unanswered,
            _ => busy().into(),
        });
    };
    match has_head.await {
        Ok(answered) => {
            lease.headless = false;
            Ok((answered?, lease, sent, turn))
        }
        Err(_) => Err(lease.instance.failure().await.into()),
    }
}

/// WASI wants to know for whom a request is; in HTTP/1.1 that is in a header.
fn addressed(mut request: Request<WasiBody>) -> Request<WasiBody> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(uri::Scheme::HTTP);
    if parts.authority.is_none() {
        parts.authority = host(request.headers());
    }
    // In the form of `OPTIONS *`.
    let path = parts.path_and_query.take();
    parts.path_and_query = path.or(Some(uri::PathAndQuery::from_static("/")));
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    request
}

fn host(headers: &HeaderMap) -> Option<uri::Authority> {
    let host = headers.get(header::HOST)?;
    let host = uri::Authority::try_from(host.as_bytes()).ok();
    host.or(Some(uri::Authority::from_static("localhost")))
}

impl Pool {
    pub fn new(component: ServicePre<Guest>, max_instances: usize) -> Arc<Self> {
        Arc::new(Self { component, max_instances, state: Mutex::default() })
    }

    /// Puts a job in the queue, and sees to it that somebody looks there.
    fn push<'a>(self: &'a Arc<Self>, handler: &Arc<Handler>, job: Job) -> InQueue<'a> {
        let (id, ready) = {
            let mut state = self.state.lock();
            let id = state.next_job;
            state.next_job += 1;
            state.jobs.insert(id, job);
            (id, state.ready.values().next().cloned())
        };
        // Not from within a guest: one inside the other, they would need a stack without a bound.
        if let Some(work) = ready.filter(|_| !cpu::is_computing()) {
            work.advance();
        }
        let lacking = {
            let mut state = self.state.lock();
            match state.jobs.contains_key(&id) {
                true => self.dispatch(handler, &mut state),
                false => 0..0,
            }
        };
        self.start(handler, lacking);
        InQueue { pool: self, id }
    }

    /// Wakes instances for the jobs that wait. Returns the numbers of those that must be started
    /// because there are too few: no more than can be made at once.
    fn dispatch(&self, handler: &Handler, state: &mut State) -> Range<u64> {
        for work in state.ready.values().take(state.jobs.len()) {
            work.wake();
        }
        let lacking = state.jobs.len().saturating_sub(state.ready.len() + state.starting);
        let threads = handler.container.host.threads;
        let lacking = lacking
            .min(threads.saturating_sub(state.starting))
            .min(self.max_instances.saturating_sub(state.alive));
        state.starting += lacking;
        state.alive += lacking;
        let first = state.next_instance;
        state.next_instance += lacking as u64;
        first..state.next_instance
    }

    /// Not under the lock: a runtime that is being shut down drops what it is given.
    fn start(self: &Arc<Self>, handler: &Arc<Handler>, instances: Range<u64>) {
        for id in instances {
            let (handler, pool) = (handler.clone(), self.clone());
            let ending = handler.container.ending.clone();
            let task = Work::new(|work| live(Member { handler, pool, work, id, making: true }));
            let abort = ending.abort.clone();
            ending.tasks.spawn(async move { abort.run_until_cancelled_owned(task).await });
        }
    }
}

/// Takes a job out of the queue when nobody waits for it any more.
struct InQueue<'a> {
    pool: &'a Pool,
    id: u64,
}

impl Drop for InQueue<'_> {
    fn drop(&mut self) {
        self.pool.state.lock().jobs.remove(&self.id);
    }
}

/// An instance's place among the others.
struct Member {
    handler: Arc<Handler>,
    pool: Arc<Pool>,
    work: Arc<Work>,
    id: u64,
    /// The instance is not there yet.
    making: bool,
}

impl Member {
    /// The next job, or a note that this instance wants one.
    fn take(&self) -> Option<Job> {
        let (job, lacking) = {
            let mut state = self.pool.state.lock();
            let Some((_, job)) = state.jobs.pop_first() else {
                state.ready.entry(self.id).or_insert_with(|| self.work.clone());
                return None;
            };
            (job, self.leave_ready(&mut state))
        };
        self.pool.start(&self.handler, lacking);
        Some(job)
    }

    /// This instance has no room.
    fn is_full(&self) {
        let lacking = self.leave_ready(&mut self.pool.state.lock());
        self.pool.start(&self.handler, lacking);
    }

    fn leave_ready(&self, state: &mut State) -> Range<u64> {
        state.ready.remove(&self.id);
        match state.jobs.is_empty() {
            true => 0..0,
            false => self.pool.dispatch(&self.handler, state),
        }
    }

    /// Whether this idle instance may go: not when a job has just come.
    fn may_go(&self) -> bool {
        let mut state = self.pool.state.lock();
        let may = state.jobs.is_empty();
        if may {
            state.ready.remove(&self.id);
        }
        may
    }

    fn made(&mut self) {
        self.making = false;
        self.pool.state.lock().starting -= 1;
    }

    /// No instance could be made. Where others live, the jobs wait for these.
    fn not_made(&self, failure: &Failure) {
        if !matches!(failure, Failure::NoRoom(_)) {
            self.handler.report(failure);
        }
        let mut state = self.pool.state.lock();
        if state.alive > state.starting {
            return;
        }
        for (_, job) in std::mem::take(&mut state.jobs) {
            // Who went away needs no reason.
            let _ = job.head.send(Err(failure.clone().into()));
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let lacking = {
            let mut state = self.pool.state.lock();
            state.alive -= 1;
            if self.making {
                state.starting -= 1;
            }
            let lacking = self.leave_ready(&mut state);
            // Where this one could not be made, another one can't either.
            if self.making || self.handler.container.ending.abort.is_cancelled() {
                let count = lacking.clone().count();
                state.starting -= count;
                state.alive -= count;
                0..0
            } else {
                lacking
            }
        };
        self.pool.start(&self.handler, lacking);
    }
}

/// One instance, from its making to its end.
async fn live(mut member: Member) {
    let handler = member.handler.clone();
    let made = {
        let mut making = pin!(make(&handler, &member.pool));
        poll_fn(|cx| handler.container.poll(making.as_mut(), cx)).await
    };
    let (mut instance, service) = match made {
        Ok(made) => made,
        Err(failure) => return member.not_made(&failure),
    };
    member.made();
    let shared = Arc::new(Shared::default());
    let ending = Ending(&shared);
    if let Err(failure) = run(&member, &shared, &mut instance, &service).await {
        ending.by(failure.clone());
        if !matches!(failure, Failure::NoRoom(_)) {
            handler.report(&failure);
        }
    }
}

type Made = (Instance, Service);

async fn make(handler: &Handler, pool: &Pool) -> Result<Made, Failure> {
    let room = handler.room().await?;
    let mut instance = Guest::instance(&handler.container, Setup::default(), room)?;
    let service = pool.component.instantiate_async(&mut *instance).await?;
    Ok((instance, service))
}

/// What an instance does, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Requests,
    /// Nobody waits for anything; the guest still does something.
    Afterwards(Instant),
    Nothing(Instant),
}

struct Status {
    doing: Mutex<Doing>,
    /// The guest waits; it doesn't compute.
    waits: AtomicBool,
}

/// Lets the instance work until it is to go (Ok) or fails. What ends it is looked at out here: a
/// guest that computes keeps everything inside from being polled.
async fn run(
    member: &Member,
    shared: &Arc<Shared>,
    store: &mut Store<Guest>,
    service: &Service,
) -> Result<(), Failure> {
    let container = &member.handler.container;
    let (host, closing) = (&container.host, &container.ending.closing);
    let status =
        Status { doing: Mutex::new(Doing::Nothing(Instant::now())), waits: AtomicBool::new(true) };
    let mut working = pin!(store.run_concurrent(async |accessor| {
        serve(accessor, member, shared, service, &status).await
    }));
    let (mut alarm, mut doomed_since) = (pin!(sleep(IDLE)), None);
    let (mut closing, mut squeezed) = (pin!(closing.cancelled()), pin!(host.squeezed.notified()));
    poll_fn(|cx| {
        shared.changed.register(cx.waker());
        if shared.is_doomed() && shared.leases() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut polled = container.poll(working.as_mut(), cx);
        if polled.is_pending() && !status.waits.swap(true, SeqCst) {
            // It may have room now.
            polled = container.poll(working.as_mut(), cx);
        }
        if let Poll::Ready(ended) = polled {
            return Poll::Ready(ended.flatten().map_err(Failure::from));
        }
        let doing = *status.doing.lock();
        let mut goes = false;
        while alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if shared.is_doomed() && now - *doomed_since.get_or_insert(now) >= AFTERWARDS {
                return Poll::Ready(Err(ended()));
            }
            goes |= match doing {
                Doing::Requests => false,
                Doing::Afterwards(since) => now - since >= AFTERWARDS,
                Doing::Nothing(since) => now - since >= IDLE,
            };
            alarm.as_mut().reset(now + IDLE);
        }
        if matches!(doing, Doing::Nothing(_)) {
            goes |= host.is_squeezed();
            goes |= closing.as_mut().poll(cx).is_ready();
            goes |= squeezed.as_mut().poll(cx).is_ready();
        }
        if goes && member.may_go() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// The inside of an instance: takes requests while there is room, and waits for their heads.
async fn serve(
    accessor: &Accessor<Guest>,
    member: &Member,
    shared: &Arc<Shared>,
    service: &Service,
    status: &Status,
) -> wasmtime::Result<()> {
    let func = *service.wasi_http_handler().func_handle().func();
    let mut calls = pin!(FuturesUnordered::new());
    let mut taken = 0;
    poll_fn(|cx| {
        loop {
            match calls.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(()))) => continue,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) | Poll::Pending => {}
            }
            let open = accessor.poll_ready_for_concurrent_call(func, cx).is_ready();
            let more = taken < IN_ALL && !shared.is_doomed();
            let quiet = calls.is_empty() || status.waits.load(SeqCst);
            if more && open && quiet && shared.leases() < AT_ONCE {
                if let Some(job) = member.take() {
                    taken += 1;
                    status.waits.store(false, SeqCst);
                    *status.doing.lock() = Doing::Requests;
                    calls.push(call(accessor, shared, service, job));
                    continue;
                }
            } else {
                member.is_full();
            }
            let rests = calls.is_empty() && shared.leases() == 0;
            let idle = rests && accessor.poll_no_interesting_tasks(cx).is_ready();
            if idle && !more {
                return Poll::Ready(Ok(()));
            }
            let mut doing = status.doing.lock();
            *doing = match *doing {
                _ if !rests => Doing::Requests,
                Doing::Nothing(since) if idle => Doing::Nothing(since),
                Doing::Afterwards(since) if !idle => Doing::Afterwards(since),
                _ if idle => Doing::Nothing(Instant::now()),
                _ => Doing::Afterwards(Instant::now()),
            };
            return Poll::Pending;
        }
    })
    .await
}

/// One request, to the head of its answer. An error is the whole instance's.
async fn call(
    accessor: &Accessor<Guest>,
    instance: &Arc<Shared>,
    service: &Service,
    job: Job,
) -> wasmtime::Result<()> {
    let Job { request, taken, head, sent } = job;
    if let Err(mut lease) = taken.send(Lease::new(instance)) {
        // The client went away while it waited: the guest has done nothing for it.
        lease.headless = false;
        return Ok(());
    }
    let handle = service.wasi_http_handler().func_handle();
    let call = accessor.with(|mut access| {
        let trace = request.extensions().get::<trace::Context>().cloned();
        let http = access.data_mut().http();
        // How its body fared is for the connection to know.
        let (request, _) = p3::Request::from_http(http.hooks, request);
        let request = http.table.push(request)?;
        let call = handle.start_call_concurrent(access.as_context_mut(), (request,))?;
        access.data_mut().tasks_mut().begin(call.task(), trace);
        wasmtime::error::Ok(call)
    })?;
    let (answered,) = handle.finish_call_concurrent(accessor, call).await?;
    let answered = match answered {
        Err(code) => Err(Unanswered::Code(format!("{code:?}"))),
        Ok(response) => accessor
            .with(|mut access| {
                let response = access.data_mut().http().table.delete(response)?;
                let sent = async move { sent.await.unwrap_or(Err(Error::ConnectionTerminated)) };
                response.into_http(access.as_context_mut(), sent)
            })
            .map_err(|error| Failure::from(error).into()),
    };
    // Whoever asked may be gone; the guest learns it from its body.
    let _ = head.send(answered);
    Ok(())
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    fn check(uri: &str, host: Option<&str>, expected: &str) {
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let body = Empty::new().map_err(Error::from).boxed_unsync();
        let request = addressed(request.body(body).expect("a request"));
        assert_eq!(request.uri().to_string(), expected);
    }

    #[test]
    fn a_request_says_for_whom_it_is() {
        check("/a?b=c", Some("web:8080"), "http://web:8080/a?b=c");
        check("/", Some("not a host"), "http://localhost/");
        check("http://web/a", Some("other"), "http://web/a");
        check("*", Some("web"), "http://web*");
    }
}
