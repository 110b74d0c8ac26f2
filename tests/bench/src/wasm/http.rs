//! Requests a second and their latency through a pod's address and through its Service, against
//! `wasmtime serve` of the same major version with the same component, alternating in one run.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use windlass_tests_e2e::{Cluster, Kubectl, first_answer, guest, http_get, root, wait_for};

use crate::report::{Figure, Report, percentile};

const ROUNDS: usize = 5;
const SECONDS: u32 = 4;

/// One comparison.
struct Case {
    /// Names the metric: `http_rps_NAMEvs_wasmtime_serve`.
    name: &'static str,
    component: fn() -> anyhow::Result<PathBuf>,
    path: &'static str,
    connections: u32,
    what: &'static str,
}

const CASES: [Case; 4] = [
    Case {
        name: "",
        component: || Ok(root().join("examples/hello/hello-v1.wasm")),
        path: "/",
        connections: 32,
        what: "examples/hello (WASI 0.2), answers of 32 bytes",
    },
    Case {
        name: "1kb_",
        component: || guest("http-bytes"),
        path: "/1024",
        connections: 32,
        what: "guest http-bytes (WASI 0.2), answers of 1 KiB",
    },
    Case {
        name: "1mb_",
        component: || guest("http-bytes"),
        path: "/1048576",
        connections: 8,
        what: "guest http-bytes (WASI 0.2), answers of 1 MiB",
    },
    Case {
        name: "p3_",
        component: || guest("http3"),
        path: "/count",
        connections: 32,
        what: "guest http3 (WASI 0.3), answers of a few bytes",
    },
];

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    for case in &CASES {
        compare(report, &cluster, &kubectl, case)?;
    }
    Ok(())
}

fn compare(
    report: &mut Report,
    cluster: &Cluster,
    kubectl: &Kubectl,
    case: &Case,
) -> anyhow::Result<()> {
    let component = (case.component)()?;
    let Deployed { pod, service } = deploy(cluster, kubectl, &component)?;
    let peer = Peer::start(&component)?;
    let targets = [pod, service, peer.url.clone()].map(|url| format!("{url}{}", case.path));
    let mut measured: [Vec<Load>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (target, loads) in targets.iter().zip(&mut measured) {
            loads.push(wrk(target, case.connections)?);
        }
    }
    let median = |loads: &[Load], of: fn(&Load) -> f64| {
        percentile(&mut loads.iter().map(of).collect::<Vec<_>>(), 50)
    };
    let how = format!(
        "`wrk -t1 -c{} -d{SECONDS}s` on the same machine, {}; median of {ROUNDS} alternating rounds",
        case.connections, case.what
    );
    let [through_pod, through_service, by_peer] = &measured;
    for (way, loads) in [("", through_pod), ("through_service_", through_service)] {
        for (figure, unit, of) in ROWS {
            report.add(&Figure {
                bench: "wasm",
                metric: &format!("http_{figure}_{way}{}vs_wasmtime_serve", case.name),
                value: median(loads, of),
                unit,
                peer: Some(("wasmtime serve", median(by_peer, of))),
                how: &how,
            })?;
        }
    }
    Ok(())
}

type Row = (&'static str, &'static str, fn(&Load) -> f64);

const ROWS: [Row; 3] = [
    ("rps", "requests/s", |load| load.rate),
    ("p50_ms", "ms", |load| load.p50_ms),
    ("p99_ms", "ms", |load| load.p99_ms),
];

/// What answers at a pod's own address and at its Service's.
struct Deployed {
    pod: String,
    service: String,
}

/// One pod of the component behind a Service.
fn deploy(cluster: &Cluster, kubectl: &Kubectl, component: &Path) -> anyhow::Result<Deployed> {
    let stem = component.file_stem().and_then(|stem| stem.to_str()).context("a name")?;
    let name = format!("bench-{stem}");
    if kubectl.sh(&format!("get deployment {name}")).is_err() {
        let image = format!("bench.test/{stem}:v1");
        let file = component.to_str().context("a path in UTF-8")?;
        cluster.windlass(&["image", "import", &image, file])?;
        kubectl.sh(&format!("create deployment {name} --image={image} --port=8080"))?;
        kubectl.sh(&format!("expose deployment {name} --port=8080"))?;
        kubectl.sh(&format!("rollout status deployment/{name} --timeout=60s"))?;
    }
    let pod = kubectl.jsonpath(&format!("pods -l app={name}"), "{.items[0].status.podIP}")?;
    let service = kubectl.jsonpath(&format!("service {name}"), "{.spec.clusterIP}")?;
    let deployed =
        Deployed { pod: format!("http://{pod}:8080"), service: format!("http://{service}:8080") };
    first_answer(&deployed.service);
    Ok(deployed)
}

/// What wrk saw.
struct Load {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
}

/// Any error that wrk saw fails the measurement.
fn wrk(url: &str, connections: u32) -> anyhow::Result<Load> {
    let output = Command::new("wrk")
        .args(["-t1", "--latency", &format!("-c{connections}"), &format!("-d{SECONDS}s"), url])
        .output()
        .context("can't start wrk (Debian package wrk)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "wrk on {url}: {text}");
    let after = |label: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label));
        line.map(|rest| rest.trim().to_owned()).with_context(|| format!("wrk printed: {text}"))
    };
    Ok(Load {
        rate: after("Requests/sec:")?.parse()?,
        p50_ms: milliseconds(&after("50%")?)?,
        p99_ms: milliseconds(&after("99%")?)?,
    })
}

/// `1.25ms`, `830.00us` or `1.02s` in milliseconds.
fn milliseconds(text: &str) -> anyhow::Result<f64> {
    let at = text.find(|c: char| c.is_ascii_alphabetic()).context("a unit")?;
    let number: f64 = text[..at].parse()?;
    Ok(match &text[at..] {
        "us" => number / 1000.0,
        "ms" => number,
        "s" => number * 1000.0,
        unit => anyhow::bail!("wrk printed the unit {unit}"),
    })
}

/// `wasmtime serve` with a component.
struct Peer {
    child: Child,
    url: String,
}

impl Peer {
    fn start(component: &Path) -> anyhow::Result<Self> {
        let program =
            std::env::var_os("WINDLASS_WASMTIME").map_or_else(|| "wasmtime".into(), PathBuf::from);
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let child = Command::new(program)
            .args(["serve", "-Scli", "--addr", &address.to_string()])
            .arg(component)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("can't start wasmtime: `cargo install wasmtime-cli --locked --version 48.0.8`, or name it in WINDLASS_WASMTIME")?;
        let peer = Self { child, url: format!("http://{address}") };
        wait_for("wasmtime serve answers", 60, || http_get(&peer.url).ok());
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
