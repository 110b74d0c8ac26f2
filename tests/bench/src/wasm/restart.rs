//! A handler that is restarted because a request trapped.

use std::time::{Duration, Instant};

use windlass_tests_e2e::{Cluster, first_answer, guest, http_get, wait_for};

use crate::report::{Figure, Report, percentile};

/// Each is a pod of its own: from the second restart on there is a back-off, as everywhere.
const PODS: usize = 15;

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    let component = guest("http-traps")?;
    let file = component.to_string_lossy();
    cluster.windlass(&["image", "import", "bench.test/traps:v1", &file])?;
    let mut samples = Vec::new();
    for n in 0..PODS {
        kubectl.apply(&format!(
            r#"{{"apiVersion": "v1", "kind": "Pod",
                "metadata": {{"name": "traps-{n}", "annotations": {{"windlass.dev/on-trap": "restart"}}}},
                "spec": {{"containers": [{{"name": "main", "image": "bench.test/traps:v1"}}]}}}}"#
        ))?;
        kubectl.sh(&format!("wait pod/traps-{n} --for=condition=Ready --timeout=30s"))?;
        let address = kubectl.jsonpath(&format!("pod traps-{n}"), "{.status.podIP}")?;
        let url = format!("http://{address}:8080");
        assert_eq!(first_answer(&url).0, 200);
        let (status, _) = http_get(&format!("{url}/trap"))?;
        assert_eq!(status, 500);
        let took = serving_again(&url);
        samples.push(took.as_secs_f64() * 1000.0);
        wait_for("the restart is counted", 10, || {
            let count = kubectl
                .jsonpath(&format!("pod traps-{n}"), "{.status.containerStatuses[0].restartCount}")
                .ok()?;
            (count == "1").then_some(())
        });
    }
    report.add(&Figure {
        bench: "wasm",
        metric: "restart_ms",
        value: percentile(&mut samples, 50),
        unit: "ms",
        peer: None,
        how: "from the 500 of the request that trapped (windlass.dev/on-trap: restart) to the first answer of the next attempt, by a client that connects anew without pause after the port was closed; median of 15 pods",
    })
}

/// From now until the port answers again, having been closed in between: an answer before that may
/// be the old attempt's.
fn serving_again(url: &str) -> Duration {
    let trapped = Instant::now();
    let mut closed = false;
    loop {
        match http_get(url) {
            Ok((200, _)) if closed => return trapped.elapsed(),
            Ok(_) => {}
            Err(_) => closed = true,
        }
        assert!(trapped.elapsed() < Duration::from_secs(10), "{url}: closed {closed}, no answer");
    }
}
