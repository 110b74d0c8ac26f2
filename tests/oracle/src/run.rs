//! The run as a whole: start both, send every session to both, count.

use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{Request, header};
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;
use serde_json::{Value, json};
use tower::Service as _;
use windlass_apiserver_access::pki::Authority;
use windlass_sdk_meta::SystemClock;
use windlass_tests_oracle::upstream::{Durability, Upstream, is_reset};

use crate::{
    Cli,
    compare::Answer,
    corpus, discovery, lifecycle, mutate,
    ours::Ours,
    report::Report,
    session::{Body, JSON, Names, Session, Step},
};

/// Sessions under way at a time: both servers share two cores.
const CONCURRENT: usize = 4;
/// Kinds whose objects upstream's server writes to itself: what was stored last is read again before
/// it is changed, or every change would be a conflict.
const WRITTEN_BY_SERVERS: [&str; 5] = [
    "APIService",
    "CustomResourceDefinition",
    "FlowSchema",
    "PriorityLevelConfiguration",
    "ServiceCIDR",
];
const MOST_BODY_BYTES: usize = 64 << 20;

struct Sides {
    ours: Ours,
    theirs: Upstream,
}

/// An answer as it came.
struct Raw {
    code: u16,
    headers: http::HeaderMap,
    body: Bytes,
}

/// Returns how many requests differ.
pub async fn run(cli: &Cli) -> anyhow::Result<usize> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::open_or_create(&folder.path().join("pki"), Arc::new(SystemClock))?;
    let (apiserver, etcd, at) = (&cli.apiserver, &cli.etcd, folder.path());
    let durability = Durability::Unsynced;
    let sides = Sides {
        ours: Ours::start(at, &authority).await?,
        theirs: Upstream::start(apiserver, etcd, at, &authority, durability).await?,
    };
    let sides = &sides;
    let rows = corpus::rows(&cli.kinds)?;
    let mut order = vec![discovery::KIND.to_owned()];
    order.extend(rows.iter().map(|row| row.kind.clone()));
    let mut report = Report::new(order, cli.verbose, cli.json.as_deref())?;
    if cli.kinds.is_empty() || cli.kinds.iter().any(|kind| kind == discovery::KIND) {
        for (step, ours, theirs) in discovery::split(&discovery_documents(sides).await?) {
            report.add(discovery::KIND, &step, &ours, &theirs)?;
        }
    }
    let mut sessions = Vec::new();
    for row in &rows {
        let known = sides.ours.registry.resource(&row.group, &row.version, &row.plural).is_some();
        sessions.extend(lifecycle::sessions(row));
        // One that isn't served is told by its lifecycle; hundreds of 404 would say no more.
        if known {
            sessions.extend(mutate::sessions(row));
        }
        sessions.extend(corpus::written(&row.kind)?);
    }
    for session in &mut sessions {
        select(session, cli);
    }
    sessions.retain(|session| session.steps.iter().any(|step| !step.set_up));
    let mut running = stream::iter(sessions.iter().enumerate())
        .map(|(number, session)| async move { (session, play(sides, session, number).await) })
        .buffered(CONCURRENT);
    while let Some((session, (answers, ended))) = running.next().await {
        for (step, (ours, theirs)) in session.steps.iter().zip(answers) {
            report.add(&session.kind, step, &ours, &theirs)?;
        }
        if let Some(why) = ended {
            report.cut_short(session, &why)?;
        }
    }
    report.finish()
}

/// Leaves out what isn't asked for; what others need stays.
fn select(session: &mut Session, cli: &Cli) {
    let wanted = |step: &Step| cli.filter.as_ref().is_none_or(|text| step.label.contains(text));
    let mut seen = 0;
    session.steps.retain(|step| {
        let generated = step.path.contains("dryRun=All");
        seen += u64::from(generated);
        step.set_up
            || step.stores()
            || step.method == "DELETE" && cli.filter.is_none()
            || wanted(step) && (!generated || seen % cli.sample == 0)
    });
}

/// Sends all of a session to both sides; returns the answers and why there aren't more of them.
async fn play(
    sides: &Sides,
    session: &Session,
    number: usize,
) -> (Vec<(Answer, Answer)>, Option<anyhow::Error>) {
    let mut answers = Vec::with_capacity(session.steps.len());
    let ended = play_into(sides, session, number, &mut answers).await.err();
    (answers, ended)
}

async fn play_into(
    sides: &Sides,
    session: &Session,
    number: usize,
    answers: &mut Vec<(Answer, Answer)>,
) -> anyhow::Result<()> {
    let names = Names::new(number);
    prepare(sides, &names).await?;
    let mut last = [Value::Null, Value::Null];
    let moves = WRITTEN_BY_SERVERS.contains(&session.kind.as_str());
    let mut object = String::new();
    for step in &session.steps {
        if moves && !object.is_empty() && matches!(step.body, Body::Last(_) | Body::Conditional(_))
        {
            read_again(sides, &object, &mut last).await?;
        }
        let context = || format!("{}: {}", session.kind, step.label);
        let (ours, theirs) = tokio::join!(
            send(sides, true, request(step, &names, &last[0])?),
            send(sides, false, request(step, &names, &last[1])?)
        );
        let now = Timestamp::now();
        let both = [ours.with_context(context)?, theirs.with_context(context)?];
        for (last, raw) in last.iter_mut().zip(&both) {
            if step.stores() && (200..300).contains(&raw.code) && !step.path.contains("/scale") {
                *last = serde_json::from_slice(&raw.body).unwrap_or_default();
            }
        }
        if step.method == "POST" && step.stores() {
            let name = last[1]["metadata"]["name"].as_str().unwrap_or_default();
            object = format!("{}/{name}", names.fill(&step.path));
        }
        let [ours, theirs] = both.map(|raw| Answer::new(raw.code, &raw.headers, &raw.body, now));
        answers.push((ours, theirs));
    }
    Ok(())
}

/// The object as each side has it now.
async fn read_again(sides: &Sides, path: &str, last: &mut [Value; 2]) -> anyhow::Result<()> {
    for (ours, last) in [true, false].into_iter().zip(last) {
        let raw = send(sides, ours, Request::get(path).body(Bytes::new())?).await?;
        if raw.code == 200 {
            *last = serde_json::from_slice(&raw.body)?;
        }
    }
    Ok(())
}

fn request(step: &Step, names: &Names, last: &Value) -> anyhow::Result<Request<Bytes>> {
    let mut request = Request::builder()
        .method(step.method)
        .uri(names.fill(&step.path))
        .header(header::ACCEPT, &step.accept)
        .header(header::USER_AGENT, "oracle/1.0");
    if !matches!(step.body, Body::None) {
        request = request.header(header::CONTENT_TYPE, step.media);
    }
    Ok(request.body(step.encode(names, last))?)
}

/// The session's namespace, with the account that pods run as.
async fn prepare(sides: &Sides, names: &Names) -> anyhow::Result<()> {
    let namespace = json!({"metadata": {"name": names.namespace}});
    let account = json!({"metadata": {"name": "default"}});
    let accounts = format!("/api/v1/namespaces/{}/serviceaccounts", names.namespace);
    for (path, body) in [("/api/v1/namespaces", namespace), (accounts.as_str(), account)] {
        for ours in [true, false] {
            let request = Request::post(path)
                .header(header::CONTENT_TYPE, JSON)
                .body(Bytes::from(body.to_string()))?;
            let raw = send(sides, ours, request).await?;
            let text = String::from_utf8_lossy(&raw.body);
            // 409: made by a request whose answer was lost with its connection.
            let made = [201, 409].contains(&raw.code);
            anyhow::ensure!(made, "set-up of {path}: {} {text}", raw.code);
        }
    }
    Ok(())
}

async fn discovery_documents(sides: &Sides) -> anyhow::Result<Vec<(Step, Answer, Answer)>> {
    let mut all = Vec::new();
    for step in discovery::steps() {
        let names = Names::new(0);
        let ours = send(sides, true, request(&step, &names, &Value::Null)?).await?;
        let theirs = send(sides, false, request(&step, &names, &Value::Null)?).await?;
        let now = Timestamp::now();
        let [ours, theirs] =
            [ours, theirs].map(|raw| Answer::new(raw.code, &raw.headers, &raw.body, now));
        all.push((step, ours, theirs));
    }
    Ok(all)
}

async fn send(sides: &Sides, ours: bool, request: Request<Bytes>) -> anyhow::Result<Raw> {
    if ours {
        // What stands in for HTTP here has no server that takes the body off.
        let bodiless = request.method() == http::Method::HEAD;
        let Ok(response) = sides.ours.service.clone().call(request.map(Full::new)).await;
        let (parts, body) = response.into_parts();
        let body = http_body_util::Limited::new(body, MOST_BODY_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("our body: {error}"))?.to_bytes();
        let body = if bodiless { Bytes::new() } else { body };
        return Ok(Raw { code: parts.status.as_u16(), headers: parts.headers, body });
    }
    match sides.theirs.exchange(request).await {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            Ok(Raw { code: parts.status.as_u16(), headers: parts.headers, body })
        }
        // A handler of upstream's that panics: that is its answer.
        Err(error) if is_reset(&error) => Ok(Raw {
            code: 0,
            headers: http::HeaderMap::new(),
            body: Bytes::from_static(b"\"the handler ended without an answer\""),
        }),
        Err(error) => Err(error),
    }
}
