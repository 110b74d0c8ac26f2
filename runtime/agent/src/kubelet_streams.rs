//! `exec`, `attach` and `port-forward` at the kubelet's paths: requests that are upgraded and then
//! carry byte streams between a client and what runs in a pod.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use axum::{
    Router,
    extract::{Path, Request, State},
    response::Response,
    routing::any,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use windlass_runtime_api::{Attached, BoxAsyncWrite, ExecIo, ExecSpec, RuntimeError};
use windlass_runtime_net::PodNet;
use windlass_runtime_streams::{
    Forward, Forwards, Outcome, Session, Wanted, open, session_over_spdy, session_over_websocket,
    tunnel,
};
use windlass_sdk_meta::{Reason, Status};
use windlass_sdk_types::Kind as _;

use crate::{
    agent::Agent,
    kubelet::{answer, is_running, newest_log},
    kubelet_upgrade::{Query, Upgrade},
    logs::{self, Filter, LogOptions},
};

/// Upgraded requests at once.
const SESSIONS: usize = 1024;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Streams {
    agent: Arc<Agent>,
    net: PodNet,
    sessions: Arc<Semaphore>,
    stop: CancellationToken,
}

/// The paths of streams.
pub(crate) fn routes(agent: Arc<Agent>, net: PodNet, stop: CancellationToken) -> Router {
    let sessions = Arc::new(Semaphore::new(SESSIONS));
    Router::new()
        .route("/exec/{namespace}/{pod}/{container}", any(exec))
        .route("/attach/{namespace}/{pod}/{container}", any(attach))
        .route("/portForward/{namespace}/{pod}", any(port_forward))
        .with_state(Streams { agent, net, sessions, stop })
}

async fn exec(
    State(streams): State<Streams>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let command = query.all("command");
    if command.is_empty() {
        return answer(&Status::bad_request("you must specify a command"));
    }
    let uid = match streams.running(&namespace, &pod, &container) {
        Ok((uid, _)) => uid,
        Err(status) => return answer(&status),
    };
    let wanted = wanted(&query);
    let spec = ExecSpec { command, tty: wanted.tty };
    let runtime = streams.agent.runtime_of(&uid, &container);
    streams.session(request, wanted, move |mut session: Session| async move {
        let io = io(&mut session, wanted);
        tokio::select! {
            biased;
            () = session.gone.cancelled() => {}
            ended = runtime.exec(&uid, &container, spec, io) => {
                session.end.tell(exec_outcome(ended)).await;
            }
        }
    })
}

async fn attach(
    State(streams): State<Streams>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    request: Request,
) -> Response {
    let (uid, attempt) = match streams.running(&namespace, &pod, &container) {
        Ok(found) => found,
        Err(status) => return answer(&status),
    };
    let wanted = wanted(&Query::parse(request.uri().query().unwrap_or_default()));
    let Some(object) = streams.agent.pods.get(&namespace, &pod) else {
        return answer(&no_pod(&pod));
    };
    let agent = streams.agent.clone();
    let folder = agent.log_folder(&windlass_sdk_client::Key::of(&*object), &uid);
    let log = Log { path: folder.join(&container).join(format!("{attempt}.log")), attempt };
    streams.session(request, wanted, move |mut session: Session| async move {
        let io = io(&mut session, wanted);
        let attaching = async {
            match agent.runtime_of(&uid, &container).attach(&uid, &container, io).await {
                Ok(Attached::Ended) => success(),
                Ok(Attached::ByLog(io)) => log.attach(&agent, &uid, &container, io).await,
                Err(error) => failure("InternalError", error.message, json!({})),
            }
        };
        tokio::select! {
            biased;
            () = session.gone.cancelled() => {}
            outcome = attaching => session.end.tell(outcome).await,
        }
    })
}

/// The log of a container's attempt, for those who attach where there are no streams.
struct Log {
    path: PathBuf,
    attempt: u32,
}

impl Log {
    /// Passes on what is written from now on, until the attempt ends.
    async fn attach(self, agent: &Arc<Agent>, uid: &str, container: &str, io: ExecIo) -> Outcome {
        let ExecIo { stdin, stdout, stderr, .. } = io;
        // As far as it goes to one of the container's streams.
        let follow = |stream: Option<&str>| {
            let options = LogOptions {
                follow: true,
                tail_lines: Some(0),
                stream: stream.map(str::to_owned),
                ..LogOptions::default()
            };
            let filter = Filter::new(&options, agent.clock.now());
            let watched = self.path.parent().map(|folder| agent.log_watch.watch(folder));
            let (agent, uid, container) = (agent.clone(), uid.to_owned(), container.to_owned());
            let attempt = self.attempt;
            let ended = move || !is_running(&agent, &uid, &container, attempt);
            filter.map(|filter| logs::read(self.path.clone(), options, filter, ended, watched))
        };
        let out = follow(stderr.is_some().then_some("stdout"));
        let (Ok(out), Ok(err)) = (out, follow(Some("stderr"))) else {
            return failure("InternalError", "the log can't be followed".to_owned(), json!({}));
        };
        let outputs = async {
            match stderr {
                Some(stderr) => drop(tokio::join!(pass_on(out, stdout), pass_on(err, stderr))),
                None => pass_on(out, stdout).await,
            }
        };
        // Nobody reads it; what is sent is dropped, so that the sender isn't held up.
        let ignored = async {
            if let Some(mut stdin) = stdin {
                let _ = tokio::io::copy(&mut stdin, &mut tokio::io::sink()).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = outputs => {}
            () = ignored => {}
        }
        success()
    }
}

async fn port_forward(
    State(streams): State<Streams>,
    Path((namespace, pod)): Path<(String, String)>,
    mut request: Request,
) -> Response {
    let Some(object) = streams.agent.pods.get(&namespace, &pod) else {
        return answer(&no_pod(&pod));
    };
    let uid = object.uid().to_owned();
    let address = {
        let entries = streams.agent.entries.lock();
        entries.by_uid.get(&uid).and_then(|entry| entry.state.address)
    };
    let Some(address) = address else {
        let why = format!("unable to forward port because pod {pod} is not running");
        return answer(&Status::bad_request(why));
    };
    let upgrade = match Upgrade::to_forward(request.headers()) {
        Ok(upgrade) => upgrade,
        Err(status) => return answer(&status),
    };
    let is_websocket = upgrade.is_websocket();
    let net = streams.net.clone();
    streams.upgraded(&mut request, &upgrade, move |wire| async move {
        let forwards = match is_websocket {
            true => Forwards::start(tunnel(open(wire).await)),
            false => Forwards::start(wire),
        };
        forward_all(forwards, net, address, &format!("pod {pod}, uid {uid}")).await;
    })
}

impl Streams {
    /// The pod's uid and the container's attempt, where it runs.
    fn running(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
    ) -> Result<(String, u32), Status> {
        let object = self.agent.pods.get(namespace, pod).ok_or_else(|| no_pod(pod))?;
        let uid = object.uid().to_owned();
        let attempt = newest_log(&self.agent, &uid, pod, container, false);
        let attempt = attempt.map_err(Status::bad_request)?;
        match is_running(&self.agent, &uid, container, attempt) {
            true => Ok((uid, attempt)),
            false => {
                let why = format!("cannot exec in a stopped container: {container} of pod {pod}");
                Err(Status::bad_request(why))
            }
        }
    }

    /// Answers with an upgrade, after which `work` has the client's streams.
    fn session<F>(
        &self,
        mut request: Request,
        wanted: Wanted,
        work: impl FnOnce(Session) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send,
    {
        if !(wanted.stdin || wanted.stdout || wanted.stderr) {
            let why = "you must specify at least 1 of stdin, stdout, stderr";
            return answer(&Status::bad_request(why));
        }
        let upgrade = match Upgrade::to_session(request.headers()) {
            Ok(upgrade) => upgrade,
            Err(status) => return answer(&status),
        };
        let channels = upgrade.channels();
        self.upgraded(&mut request, &upgrade, move |wire| async move {
            let session = match channels {
                Some(protocol) => session_over_websocket(open(wire).await, protocol, wanted),
                None => match session_over_spdy(wire, wanted).await {
                    Ok(session) => session,
                    Err(error) => {
                        tracing::debug!(%error, "kubelet API: no session");
                        return;
                    }
                },
            };
            work(session).await;
        })
    }

    /// Grants an upgrade, and runs `work` with the connection until it ends or the agent does.
    fn upgraded<F>(
        &self,
        request: &mut Request,
        upgrade: &Upgrade,
        work: impl FnOnce(TokioIo<Upgraded>) -> F + Send + 'static,
    ) -> Response
    where
        F: Future<Output = ()> + Send,
    {
        let Ok(permit) = self.sessions.clone().try_acquire_owned() else {
            let why = format!("this node has {SESSIONS} streaming sessions already");
            return answer(&Status::new(Reason::TooManyRequests, why));
        };
        let (upgrading, stop) = (hyper::upgrade::on(request), self.stop.clone());
        tokio::spawn(async move {
            let _held = permit;
            let running = async {
                // An error: the client hung up before it read the answer.
                if let Ok(upgraded) = upgrading.await {
                    work(TokioIo::new(upgraded)).await;
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = running => {}
            }
        });
        upgrade.answer()
    }
}

/// Serves the connections of one client until it hangs up.
async fn forward_all(mut forwards: Forwards, net: PodNet, pod: IpAddr, whom: &str) {
    let gone = forwards.gone();
    while let Some(forward) = forwards.next().await {
        let (net, gone, whom) = (net.clone(), gone.clone(), whom.to_owned());
        // As many at once as the client may have streams open.
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = gone.cancelled() => {}
                () = forward_one(forward, net, pod, &whom) => {}
            }
        });
    }
}

async fn forward_one(forward: Forward, net: PodNet, pod: IpAddr, whom: &str) {
    let Forward { port, mut data, mut error } = forward;
    let failed = match net.connect_from_node(SocketAddr::new(pod, port)).await {
        Ok(mut conn) => {
            // Either side may break off at any time: that is no failure of the forwarding.
            let _ = tokio::io::copy_bidirectional(&mut data, &mut conn).await;
            return;
        }
        Err(failed) => failed,
    };
    let why = format!("error forwarding port {port} to {whom}: {failed}");
    let _ = error.write_all(why.as_bytes()).await;
}

/// Passes a log on; without a reader it is still followed, because its end is the session's.
async fn pass_on(log: impl Stream<Item = io::Result<Bytes>>, mut to: BoxAsyncWrite) {
    let (mut log, mut is_read) = (std::pin::pin!(log), true);
    while let Some(Ok(bytes)) = log.next().await {
        is_read = is_read && to.write_all(&bytes).await.is_ok();
    }
}

/// The session's streams as a runtime takes them; a terminal has one output.
fn io(session: &mut Session, wanted: Wanted) -> ExecIo {
    let sink = || -> BoxAsyncWrite { Box::pin(tokio::io::sink()) };
    ExecIo {
        stdin: session.stdin.take(),
        stdout: session.stdout.take().unwrap_or_else(sink),
        stderr: (!wanted.tty).then(|| session.stderr.take().unwrap_or_else(sink)),
        resize: session.resize.take(),
    }
}

fn wanted(query: &Query) -> Wanted {
    let tty = query.flag("tty");
    Wanted {
        stdin: query.flag("input"),
        stdout: query.flag("output"),
        stderr: query.flag("error") && !tty,
        tty,
    }
}

fn no_pod(name: &str) -> Status {
    Status::new(Reason::NotFound, format!("pod {name:?} is not on this node"))
}

fn success() -> Outcome {
    let status = json!({"metadata": {}, "status": "Success"});
    Outcome { status: status.to_string(), error: String::new() }
}

/// How a program ended, as clients of `exec` are told.
fn exec_outcome(ended: Result<i32, RuntimeError>) -> Outcome {
    match ended {
        Ok(0) => success(),
        Ok(code) => failure(
            "NonZeroExitCode",
            format!("command terminated with non-zero exit code: {code}"),
            json!({"causes": [{"reason": "ExitCode", "message": code.to_string()}]}),
        ),
        Err(error) => failure(
            "InternalError",
            format!("error executing command in container: {error}"),
            json!({"causes": [{"message": error.to_string()}]}),
        ),
    }
}

fn failure(reason: &str, message: String, details: Value) -> Outcome {
    let status = json!({"metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "details": details, "code": 500});
    Outcome { status: status.to_string(), error: message }
}
