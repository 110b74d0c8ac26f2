//! The tour of the README: deploy, look, scale, update without losing a request, roll back, delete.

use std::{
    io::{BufRead, BufReader},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use anyhow::Context;
use windlass_tests_e2e::{Cluster, Kubectl, first_answer, http_get, wait_for};

#[test]
fn tour_with_kubectl_1_30() -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    tour(&cluster.kubectl(30)?)
}

#[test]
fn tour_with_kubectl_1_37() -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    tour(&cluster.kubectl(37)?)
}

fn tour(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("rollout status deployment/hello --timeout=30s")?;
    let url = service_url(kubectl)?;
    let (code, body) = first_answer(&url);
    assert_eq!(code, 200, "{body}");
    assert!(body.contains("v1"), "{body}");

    look(kubectl, &url)?;

    kubectl.sh("scale deployment/hello --replicas=5")?;
    kubectl.sh("rollout status deployment/hello --timeout=30s")?;
    assert_eq!(kubectl.jsonpath("deployment hello", "{.status.readyReplicas}")?, "5");

    let client = Client::start(url.clone());
    kubectl.sh("set image deployment/hello hello=windlass.dev/hello:v2")?;
    kubectl.sh("rollout status deployment/hello --timeout=60s")?;
    wait_for("the new version answers", 10, || {
        http_get(&url).ok().filter(|(_, body)| body.contains("v2"))
    });
    client.stop_and_expect_no_failure();

    let history = kubectl.sh("rollout history deployment/hello")?;
    assert!(history.contains('1') && history.contains('2'), "{history}");
    kubectl.sh("rollout undo deployment/hello")?;
    kubectl.sh("rollout status deployment/hello --timeout=60s")?;
    wait_for("the old version answers again", 10, || {
        http_get(&url).ok().filter(|(_, body)| body.contains("v1"))
    });

    kubectl.sh("delete -f examples/hello/ --timeout=60s")?;
    wait_for("the pods are gone", 30, || {
        kubectl.sh("get pods -o name").ok().filter(|names| names.trim().is_empty())
    });
    assert!(http_get(&url).is_err(), "the service's address still answers");
    Ok(())
}

/// get, describe, logs and explain show what is there.
fn look(kubectl: &Kubectl, url: &str) -> anyhow::Result<()> {
    let pods = kubectl.sh("get pods -o wide")?;
    let mut lines = pods.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    assert_eq!(header[..7], ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"], "{pods}");
    let first: Vec<&str> = lines.next().context("a pod")?.split_whitespace().collect();
    assert_eq!(first[1..3], ["1/1", "Running"], "{pods}");

    let described = kubectl.run(&["describe", "pod", first[0]])?;
    for word in
        ["Scheduled", "Pulled", "Created", "Started", "windlass.dev/hello:v1", "Ready             "]
    {
        assert!(described.contains(word), "no {word:?} in:\n{described}");
    }

    let mut follow = kubectl.spawn(&["logs", "-f", "--tail=1", &format!("pod/{}", first[0])])?;
    let stdout = follow.stdout.take().context("stdout is piped")?;
    let (lines, received) = std::sync::mpsc::channel();
    thread::spawn(move || {
        BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .for_each(|line| drop(lines.send(line)));
    });
    let line = wait_for("a request shows in the followed log", 20, || {
        let _ = http_get(&format!("{url}followed"));
        received.try_iter().find(|line| line.contains("/followed"))
    });
    assert!(!line.starts_with("20"), "the log's own prefix leaks: {line}");
    follow.kill()?;
    follow.wait()?;

    let explained = kubectl.sh("explain deployment.spec")?;
    assert!(explained.contains("replicas") && explained.contains("FIELDS"), "{explained}");
    Ok(())
}

fn service_url(kubectl: &Kubectl) -> anyhow::Result<String> {
    let address = kubectl.jsonpath("service hello", "{.spec.clusterIP}")?;
    Ok(format!("http://{address}:8080/"))
}

/// Requests one after the other, each on a new connection, until it is stopped.
struct Client {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<(usize, Vec<String>)>,
}

impl Client {
    fn start(url: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let thread = thread::spawn(move || {
            let (mut answered, mut failures) = (0, Vec::new());
            while !asked.load(Ordering::Relaxed) {
                match http_get(&url) {
                    Ok((200, _)) => answered += 1,
                    other => failures.push(format!("after {answered} answers: {other:?}")),
                }
            }
            (answered, failures)
        });
        Self { stop, thread }
    }

    fn stop_and_expect_no_failure(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (answered, failures) = self.thread.join().expect("the client's thread ends");
        assert!(
            failures.is_empty(),
            "{} of {answered} requests failed: {failures:?}",
            failures.len()
        );
        assert!(answered > 10, "only {answered} requests were made");
    }
}
