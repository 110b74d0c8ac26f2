//! `/livez`, `/readyz`, `/healthz` with `?verbose`, `?exclude=` and a path for each check, and
//! `/version`: what people and probes ask first, open to everybody.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::json;
use windlass_sdk_meta::Status;

use crate::{ApiServer, content, request::RequestInfo};

/// What is checked, in order; those of readiness are not liveness' business.
const CHECKS: [Check; 4] = [
    Check { name: "ping", ready_only: false, run: |_| Ok(()) },
    Check { name: "store", ready_only: true, run: store },
    Check { name: "informer-sync", ready_only: true, run: bootstrapped },
    Check { name: "shutdown", ready_only: true, run: shutdown },
];

struct Check {
    name: &'static str,
    ready_only: bool,
    run: fn(&ApiServer) -> Result<(), String>,
}

/// The answer where the path is one of these.
pub(crate) fn serve(
    server: &ApiServer,
    info: &RequestInfo,
) -> Option<Result<Response<Body>, Status>> {
    let mut parts = info.path.trim_matches('/').split('/');
    let (first, check, more) = (parts.next()?, parts.next(), parts.next());
    match (first, check, more) {
        ("version", None, None) => Some(Ok(version())),
        (name @ ("livez" | "readyz" | "healthz"), None, None) => Some(Ok(all(server, info, name))),
        (name @ ("livez" | "readyz" | "healthz"), Some(check), None) => one(server, name, check),
        _ => None,
    }
}

fn applies(check: &Check, endpoint: &str) -> bool {
    !(check.ready_only && endpoint == "livez")
}

fn all(server: &ApiServer, info: &RequestInfo, endpoint: &str) -> Response<Body> {
    let (mut lines, mut failed) = (String::new(), false);
    for check in CHECKS.iter().filter(|check| applies(check, endpoint)) {
        if info.query.all("exclude").any(|excluded| excluded == check.name) {
            lines += &format!("[+]{} excluded: ok\n", check.name);
            continue;
        }
        match (check.run)(server) {
            Ok(()) => lines += &format!("[+]{} ok\n", check.name),
            Err(why) => {
                failed = true;
                lines += &format!("[-]{} failed: {why}\n", check.name);
            }
        }
    }
    match (failed, info.query.get("verbose").is_some()) {
        (true, _) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("{lines}{endpoint} check failed\n"))
        }
        (false, true) => text(StatusCode::OK, format!("{lines}{endpoint} check passed\n")),
        (false, false) => text(StatusCode::OK, "ok".into()),
    }
}

fn one(server: &ApiServer, endpoint: &str, name: &str) -> Option<Result<Response<Body>, Status>> {
    let check = CHECKS.iter().find(|check| check.name == name && applies(check, endpoint))?;
    Some(Ok(match (check.run)(server) {
        Ok(()) => text(StatusCode::OK, "ok".into()),
        Err(why) => {
            text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {why}\n"))
        }
    }))
}

fn text(code: StatusCode, text: String) -> Response<Body> {
    content::plain(code, "text/plain; charset=utf-8", text)
}

fn store(server: &ApiServer) -> Result<(), String> {
    server.cache().store().degraded().map_or(Ok(()), |why| Err(why.to_string()))
}

fn bootstrapped(server: &ApiServer) -> Result<(), String> {
    match server.is_bootstrapped() {
        true => Ok(()),
        false => Err("the objects of an empty cluster are being made".into()),
    }
}

fn shutdown(server: &ApiServer) -> Result<(), String> {
    match server.stopping().is_cancelled() {
        true => Err("process is shutting down".into()),
        false => Ok(()),
    }
}

/// The version of Kubernetes whose API this is; clients derive their skew from it.
fn version() -> Response<Body> {
    let api = windlass_apiserver_schema::Schema::builtin().version();
    let mut numbers = api.trim_start_matches('v').split('.');
    let (major, minor) = (numbers.next().unwrap_or("1"), numbers.next().unwrap_or("37"));
    let platform = format!("{}/{}", std::env::consts::OS, go_arch());
    content::respond_value(
        StatusCode::OK,
        &json!({"major": major, "minor": minor,
            "gitVersion": format!("{api}+windlass.{}", env!("CARGO_PKG_VERSION")),
            "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "",
            "compiler": "rustc", "platform": platform}),
    )
}

/// Go's name of the architecture: clients compare it.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
