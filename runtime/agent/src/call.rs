//! What probes and hooks do to a container: an HTTP request, a connection, a gRPC health check or a
//! program. What is asked is read from the pod, and what came of it is told in upstream's words,
//! purely; only `run` waits.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::io::AsyncWrite;
use windlass_runtime_api::{
    ExecIo, ExecSpec, HttpAnswer, HttpProbe, Runtime, RuntimeError, TcpProbe,
};
use windlass_sdk_types::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::grpc;

/// Of a program's output, as much is kept as the kubelet keeps.
const OUTPUT_BYTES: usize = 10 << 10;
/// Redirects that are followed, as upstream's client does.
const REDIRECTS: usize = 10;
const PROBE_AGENT: &str = "kube-probe/1.37";
const HOOK_AGENT: &str = "kube-lifecycle/1.37";

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Http(HttpProbe),
    Tcp {
        to: Option<String>,
        port: u16,
    },
    Grpc {
        port: u16,
        service: String,
    },
    Exec(Vec<String>),
    /// It can't be done, whenever it is tried.
    Wrong(String),
}

/// What came of it; the texts are those of Events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// It counts as a success.
    Warning(String),
    Failure(String),
    /// Nothing came of it, which counts as a failure.
    Error(String),
}

impl Call {
    /// What a probe does; None where it says nothing.
    pub fn of_probe(container: &Container, probe: &Probe) -> Option<Self> {
        Some(if let Some(get) = &probe.http_get {
            Self::get(container, get, PROBE_AGENT)
        } else if let Some(socket) = &probe.tcp_socket {
            match port(container, &socket.port) {
                Ok(port) => Self::Tcp { to: given(socket.host.as_deref()), port },
                Err(why) => Self::Wrong(why),
            }
        } else if let Some(grpc) = &probe.grpc {
            match u16::try_from(grpc.port) {
                Ok(port) => Self::Grpc { port, service: grpc.service.clone().unwrap_or_default() },
                Err(_) => Self::Wrong(format!("invalid port number: {}", grpc.port)),
            }
        } else {
            Self::Exec(probe.exec.as_ref()?.command.clone().unwrap_or_default())
        })
    }

    /// The request of a hook.
    pub fn of_hook(container: &Container, get: &HTTPGetAction) -> Self {
        Self::get(container, get, HOOK_AGENT)
    }

    fn get(container: &Container, get: &HTTPGetAction, agent: &str) -> Self {
        let port = match port(container, &get.port) {
            Ok(port) => port,
            Err(why) => return Self::Wrong(why),
        };
        let all = get.http_headers.iter().flatten();
        let is = |wanted: &str, name: &str| name.eq_ignore_ascii_case(wanted);
        let host = all.clone().find(|header| is("host", &header.name));
        let mut headers: Vec<(String, String)> = all
            .filter(|header| !is("host", &header.name))
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect();
        for (name, value) in [("User-Agent", agent), ("Accept", "*/*")] {
            match headers.iter().position(|(other, _)| is(name, other)) {
                None => headers.push((name.to_owned(), value.to_owned())),
                // An empty one is how a pod says that it wants none.
                Some(at) if headers[at].1.is_empty() => drop(headers.remove(at)),
                Some(_) => {}
            }
        }
        Self::Http(HttpProbe {
            container: container.name.clone(),
            to: given(get.host.as_deref()),
            port,
            path: given(get.path.as_deref()).unwrap_or("/".into()),
            host: host.map(|header| header.value.clone()),
            headers,
            ..HttpProbe::default()
        })
    }

    /// Does it, within the timeout. `address` is the pod's.
    pub async fn run(
        &self,
        runtime: &dyn Runtime,
        pod_uid: &str,
        container: &str,
        address: IpAddr,
        timeout: Duration,
    ) -> Outcome {
        let work = async {
            match self {
                Self::Http(get) => http(runtime, pod_uid, get, address, timeout).await,
                Self::Tcp { to, port } => {
                    let probe = TcpProbe {
                        container: container.to_owned(),
                        to: to.clone(),
                        port: *port,
                        timeout,
                    };
                    match runtime.tcp_probe(pod_uid, probe).await {
                        Ok(()) => Outcome::Success,
                        Err(error) => Outcome::Failure(error.message),
                    }
                }
                Self::Grpc { port, service } => {
                    let probe = health_check(container, *port, service, timeout);
                    match runtime.http_probe(pod_uid, probe).await {
                        Ok(answer) => grpc::outcome(&answer),
                        Err(error) => Outcome::Failure(unreached(&error, *port, address, timeout)),
                    }
                }
                Self::Exec(command) => exec(runtime, pod_uid, container, command).await,
                Self::Wrong(why) => Outcome::Error(why.clone()),
            }
        };
        // Runtimes keep the timeout of requests themselves; this holds one that doesn't, and
        // programs.
        match tokio::time::timeout(timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::Failure(self.late(timeout)),
        }
    }

    fn late(&self, timeout: Duration) -> String {
        let seconds = timeout.as_secs();
        match self {
            Self::Exec(command) => {
                format!("command timed out: {:?} timed out after {seconds}s", command.join(" "))
            }
            _ => format!("no answer within {seconds}s"),
        }
    }
}

fn given(text: Option<&str>) -> Option<String> {
    text.filter(|text| !text.is_empty()).map(str::to_owned)
}

/// A port given by name is looked up in the container's ports.
fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(port) => *port,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            let found = ports.find(|port| port.name.as_deref() == Some(name));
            let found = found.map(|port| port.container_port).or_else(|| name.parse().ok());
            found.ok_or_else(|| format!("port not found: {name:?}"))?
        }
    };
    let valid = u16::try_from(number).ok().filter(|port| *port > 0);
    valid.ok_or_else(|| format!("invalid port number: {number}"))
}

/// Follows redirects to the same host, as upstream does; others are a warning.
async fn http(
    runtime: &dyn Runtime,
    pod_uid: &str,
    get: &HttpProbe,
    address: IpAddr,
    timeout: Duration,
) -> Outcome {
    let host = get.to.clone().unwrap_or_else(|| address.to_string());
    let mut asked = HttpProbe { timeout, ..get.clone() };
    for _ in 0..=REDIRECTS {
        let url = format!("http://{host}:{}{}", asked.port, asked.path);
        let answer = match runtime.http_probe(pod_uid, asked.clone()).await {
            Ok(answer) => answer,
            Err(error) => return Outcome::Failure(format!("Get {url:?}: {}", error.message)),
        };
        match next(&answer, &host, asked.port) {
            Some((port, path)) => (asked.port, asked.path) = (port, path),
            None => return of_answer(&answer),
        }
    }
    Outcome::Failure(format!("stopped after {REDIRECTS} redirects"))
}

/// Where a redirect leads, if it stays on this host.
fn next(answer: &HttpAnswer, host: &str, port: u16) -> Option<(u16, String)> {
    let to = answer.location.as_deref().filter(|_| (300..400).contains(&answer.status))?;
    if to.starts_with('/') && !to.starts_with("//") {
        return Some((port, to.to_owned()));
    }
    let uri: http::Uri = to.parse().ok()?;
    let is_here = uri.host() == Some(host) && uri.scheme_str() == Some("http");
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    is_here.then(|| (uri.port_u16().unwrap_or(80), path.to_owned()))
}

fn of_answer(answer: &HttpAnswer) -> Outcome {
    match answer.status {
        200..300 => Outcome::Success,
        300..400 => {
            let body = String::from_utf8_lossy(&answer.body);
            Outcome::Warning(format!("Probe terminated redirects, Response body: {body}"))
        }
        code => Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
    }
}

fn health_check(container: &str, port: u16, service: &str, timeout: Duration) -> HttpProbe {
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let mut headers: Vec<(String, String)> =
        headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    headers.push(("user-agent".to_owned(), PROBE_AGENT.to_owned()));
    HttpProbe {
        container: container.to_owned(),
        port,
        path: grpc::CHECK.to_owned(),
        headers,
        grpc: Some(grpc::check_request(service)),
        timeout,
        ..HttpProbe::default()
    }
}

fn unreached(error: &RuntimeError, port: u16, address: IpAddr, timeout: Duration) -> String {
    let seconds = timeout.as_secs();
    match error.reason {
        "ProbeTimeout" => format!(
            "timeout: health rpc did not complete within {seconds}s: {}",
            "context deadline exceeded"
        ),
        _ => format!(
            "timeout: failed to connect service \"{address}:{port}\" within {seconds}s: {}",
            error.message
        ),
    }
}

async fn exec(
    runtime: &dyn Runtime,
    pod_uid: &str,
    container: &str,
    command: &[String],
) -> Outcome {
    let output = Output::default();
    let io = ExecIo { stdin: None, stdout: Box::pin(output.clone()), stderr: None, resize: None };
    let spec = ExecSpec { command: command.to_vec(), tty: false };
    match runtime.exec(pod_uid, container, spec, io).await {
        Ok(0) => Outcome::Success,
        Ok(_) => Outcome::Failure(String::from_utf8_lossy(&output.0.lock()).into_owned()),
        Err(error) => Outcome::Error(format!("rpc error: {}", error.message)),
    }
}

/// Keeps the beginning of what is written and drops the rest.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut kept = self.0.lock();
        let room = OUTPUT_BYTES.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(probe: Value, expected: Expect) {
        let container = json!({"name": "c", "readinessProbe": probe,
            "ports": [{"name": "web", "containerPort": 8080}]});
        let container: Container = serde_json::from_value(container).expect("container");
        let probe = container.readiness_probe.as_ref().expect("a probe");
        let shown = match Call::of_probe(&container, probe) {
            Some(Call::Http(get)) => format!(
                "{:?}:{}{} host {:?} {:?}",
                get.to, get.port, get.path, get.host, get.headers
            ),
            other => format!("{other:?}"),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn what_probes_ask() {
        check(
            json!({"httpGet": {"port": "web", "httpHeaders": [
                {"name": "Host", "value": "h"}, {"name": "X", "value": "y"}]}}),
            expect![[
                r#"None:8080/ host Some("h") [("X", "y"), ("User-Agent", "kube-probe/1.37"), ("Accept", "*/*")]"#
            ]],
        );
        check(
            json!({"httpGet": {"port": 80, "path": "/up?x", "host": "example.com", "httpHeaders": [
                {"name": "user-agent", "value": ""}, {"name": "accept", "value": "text/plain"}]}}),
            expect![[r#"Some("example.com"):80/up?x host None [("accept", "text/plain")]"#]],
        );
        check(
            json!({"httpGet": {"port": "unknown"}}),
            expect![[r#"Some(Wrong("port not found: \"unknown\""))"#]],
        );
        check(
            json!({"tcpSocket": {"port": "9000"}}),
            expect!["Some(Tcp { to: None, port: 9000 })"],
        );
        check(
            json!({"grpc": {"port": 5000, "service": "s"}}),
            expect![[r#"Some(Grpc { port: 5000, service: "s" })"#]],
        );
        check(json!({"exec": {"command": ["a", "b"]}}), expect![[r#"Some(Exec(["a", "b"]))"#]]);
        check(json!({}), expect!["None"]);
    }

    #[test]
    fn what_answers_mean() {
        let answer = |status, location: Option<&str>| HttpAnswer {
            status,
            location: location.map(str::to_owned),
            body: b"moved".to_vec(),
            grpc: None,
        };
        for (status, expected) in [
            (200, Outcome::Success),
            (204, Outcome::Success),
            (302, Outcome::Warning("Probe terminated redirects, Response body: moved".into())),
            (404, Outcome::Failure("HTTP probe failed with statuscode: 404".into())),
            (503, Outcome::Failure("HTTP probe failed with statuscode: 503".into())),
        ] {
            assert_eq!(of_answer(&answer(status, None)), expected);
        }
        for (location, expected) in [
            ("/there?x=1", Some((8080, "/there?x=1"))),
            ("http://10.0.0.1:9090/x", Some((9090, "/x"))),
            ("http://10.0.0.1", Some((80, "/"))),
            ("https://10.0.0.1/x", None),
            ("http://example.com/", None),
            ("//example.com/", None),
        ] {
            let found = next(&answer(302, Some(location)), "10.0.0.1", 8080);
            let expected = expected.map(|(port, path)| (port, path.to_owned()));
            assert_eq!(found, expected, "{location}");
        }
        assert_eq!(next(&answer(200, Some("/there")), "10.0.0.1", 8080), None);
    }
}
