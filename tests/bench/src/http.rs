//! Requests a second through a pod's address and through its Service, against `wasmtime serve` of
//! the same major version with the same component, alternating in one run.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use windlass_tests_e2e::{Cluster, http_get, root, wait_for};

use crate::report::{Figure, Report, percentile};

const ROUNDS: usize = 5;
const SECONDS: u32 = 4;
const CONNECTIONS: u32 = 32;

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("scale deployment/hello --replicas=1")?;
    kubectl.sh("rollout status deployment/hello --timeout=30s")?;
    let pod = kubectl.jsonpath("pods -l app=hello", "{.items[0].status.podIP}")?;
    let service = kubectl.jsonpath("service hello", "{.spec.clusterIP}")?;
    let peer = Peer::start()?;
    let targets =
        [format!("http://{pod}:8080/"), format!("http://{service}:8080/"), peer.url.clone()];
    let mut rates: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (target, rates) in targets.iter().zip(&mut rates) {
            rates.push(wrk(target)?);
        }
    }
    let [pod, service, peer] = &mut rates;
    let serve = percentile(peer, 50);
    let how = "`wrk -t1 -c32 -d4s` on the same machine, GET / of examples/hello, answers of a few bytes; median of 5 alternating rounds; the guest logs nothing to disk in either";
    for (metric, rates) in [
        ("http_rps_vs_wasmtime_serve", pod),
        ("http_rps_through_service_vs_wasmtime_serve", service),
    ] {
        let value = percentile(rates, 50);
        let peer = Some(("wasmtime serve", serve));
        report.add(&Figure { bench: "main", metric, value, unit: "requests/s", peer, how })?;
    }
    Ok(())
}

/// Requests a second as wrk counts them; any error it saw fails the measurement.
fn wrk(url: &str) -> anyhow::Result<f64> {
    let output = Command::new("wrk")
        .args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-d{SECONDS}s"), url])
        .output()
        .context("can't start wrk (Debian package wrk)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk on {url}: {text}");
    let rate = text.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    Ok(rate.with_context(|| format!("wrk printed: {text}"))?.trim().parse()?)
}

/// `wasmtime serve` with the component of examples/hello.
struct Peer {
    child: Child,
    url: String,
}

impl Peer {
    fn start() -> anyhow::Result<Self> {
        let program =
            std::env::var_os("WINDLASS_WASMTIME").map_or_else(|| "wasmtime".into(), PathBuf::from);
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new(program)
            .args(["serve", "-Scli", "--addr", &address.to_string()])
            .arg(root().join("examples/hello/hello-v1.wasm"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start wasmtime: `cargo install wasmtime-cli --locked --version 48.0.8`, or name it in WINDLASS_WASMTIME")?;
        let peer = Self { child, url: format!("http://{address}/") };
        wait_for("wasmtime serve answers", 30, || http_get(&peer.url).ok());
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
