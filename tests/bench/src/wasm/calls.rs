//! What a call costs from one WASM pod to another of the same node, against the same call made by a
//! native program over the loopback device.

use std::time::Instant;

use anyhow::Context;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use windlass_tests_e2e::{Cluster, first_answer, guest, http_get, root};

use crate::report::{Figure, Report, percentile};

const ROUNDS: usize = 9;
const CALLS: u32 = 500;

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    let hello = root().join("examples/hello/hello-v1.wasm");
    let mut addresses = Vec::new();
    for (name, file) in [("called", hello), ("caller", guest("http-caller")?)] {
        let image = format!("bench.test/{name}:v1");
        cluster.windlass(&["image", "import", &image, &file.to_string_lossy()])?;
        kubectl.sh(&format!("run {name} --image={image} --port=8080"))?;
        kubectl.sh(&format!("wait pod/{name} --for=condition=Ready --timeout=60s"))?;
        let address = kubectl.jsonpath(&format!("pod {name}"), "{.status.podIP}")?;
        first_answer(&format!("http://{address}:8080"));
        addresses.push(address);
    }
    let [called, caller] = &addresses[..] else { anyhow::bail!("two pods") };
    let loops = format!("http://{caller}:8080/loop?times={CALLS}&url=http://{called}:8080/");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let (status, text) = http_get(&loops)?;
        anyhow::ensure!(status == 200, "{text}");
        inside.push(text.trim().parse::<f64>().context("nanoseconds")? / f64::from(CALLS) / 1e3);
        outside.push(runtime.block_on(over_loopback(called))?);
    }
    report.add(&Figure {
        bench: "wasm",
        metric: "in_node_call_us",
        value: percentile(&mut inside, 50),
        unit: "us",
        peer: Some(("the same call by hyper over loopback", percentile(&mut outside, 50))),
        how: "GET of examples/hello by a guest (WASI 0.2) of the same node through its pod address, measured by the guest's clock, against a native client that keeps one connection alive over TCP; 500 calls one after the other, median of 9 alternating rounds",
    })
}

/// Microseconds a call takes on one kept connection.
async fn over_loopback(address: &str) -> anyhow::Result<f64> {
    let stream = tokio::net::TcpStream::connect((address, 8080)).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let began = Instant::now();
    for _ in 0..CALLS {
        let request = Request::get("/").header("host", address).body(Empty::<Bytes>::new())?;
        sender.ready().await?;
        sender.send_request(request).await?.into_body().collect().await?;
    }
    let took = began.elapsed();
    connection.abort();
    Ok(took.as_secs_f64() * 1e6 / f64::from(CALLS))
}
