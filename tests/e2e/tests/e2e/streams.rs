//! exec, attach, port-forward and the API server's proxy, with both generations of kubectl: 1.30
//! speaks SPDY, 1.37 WebSocket.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
};

use anyhow::Context;
use windlass_tests_e2e::{Kubectl, guest, http_get};

use crate::shared;

/// A kubectl in the background; it is ended when this is dropped.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Forwards a free local port; returns it once kubectl says that it listens.
fn forward(kubectl: &Kubectl, to: &str) -> anyhow::Result<(Background, u16)> {
    let mut child = kubectl.spawn(&["port-forward", to, ":8080"])?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let background = Background(child);
    let mut lines = BufReader::new(stdout).lines();
    let line = lines.next().context("kubectl says where it listens")??;
    let port = line.strip_prefix("Forwarding from 127.0.0.1:");
    let port = port.and_then(|rest| rest.split(' ').next()).context(line.clone())?.parse()?;
    // kubectl goes on writing a line a connection.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Ok((background, port))
}

#[test]
fn ports_are_forwarded_and_twenty_connections_at_once() -> anyhow::Result<()> {
    let cluster = shared();
    for minor in [30, 37] {
        let kubectl = cluster.kubectl(minor)?.in_new_namespace(&format!("forward-{minor}"))?;
        kubectl.sh("apply -f examples/hello/")?;
        kubectl.sh("rollout status deployment/hello --timeout=60s")?;
        let pod = kubectl.jsonpath("pods", "{.items[0].metadata.name}")?;
        for to in [format!("pod/{pod}"), "deployment/hello".into(), "service/hello".into()] {
            let (_background, port) = forward(&kubectl, &to)?;
            let url = format!("http://127.0.0.1:{port}/");
            let (code, body) = http_get(&url)?;
            assert_eq!(code, 200, "kubectl 1.{minor}, {to}: {body}");
            let asking: Vec<_> = (0..20)
                .map(|_| {
                    let url = url.clone();
                    std::thread::spawn(move || http_get(&url))
                })
                .collect();
            for asked in asking {
                let answered = asked.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
                assert_eq!(answered?.0, 200, "kubectl 1.{minor}, {to}");
            }
        }
    }
    Ok(())
}

#[test]
fn pods_and_services_are_reached_through_the_api_server() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("proxied")?;
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("rollout status deployment/hello --timeout=60s")?;
    let pod = kubectl.jsonpath("pods", "{.items[0].metadata.name}")?;
    let base = "/api/v1/namespaces/proxied";
    for path in [
        format!("{base}/services/hello:8080/proxy/"),
        format!("{base}/services/http:hello:8080/proxy/"),
        format!("{base}/pods/{pod}:8080/proxy/"),
        format!("{base}/pods/{pod}/proxy/"),
    ] {
        let body = kubectl.run(&["get", "--raw", &path])?;
        assert!(body.contains("v1"), "{path}: {body}");
    }
    let refused =
        kubectl.output(&["get", "--raw", &format!("{base}/services/hello:9/proxy/")], "")?;
    assert!(!refused.success && refused.stderr.contains("no service port"), "{refused:?}");
    Ok(())
}

#[test]
fn a_command_is_run_anew_in_its_container() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("exec")?;
    let image = "windlass.dev/test/command-exec:1";
    let file = guest("command-exec")?;
    cluster.windlass(&["image", "import", image, file.to_str().context("a path in UTF-8")?])?;
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: tool}}
spec:
  containers:
  - {{name: main, image: {image}, env: [{{name: GREETING, value: good day}}]}}
"
    ))?;
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("rollout status deployment/hello --timeout=60s")?;
    kubectl.sh("wait pod/tool --for=condition=Ready --timeout=60s")?;
    for minor in [30, 37] {
        let kubectl = cluster.kubectl(minor)?.in_namespace("exec");
        let env = kubectl.sh("exec tool -- env --flag a")?;
        assert!(env.contains("env --flag a\n"), "kubectl 1.{minor}: {env}");
        assert!(env.contains("GREETING=good day"), "kubectl 1.{minor}: {env}");
        let echoed = kubectl.output(&["exec", "-i", "tool", "--", "cat"], "over and out")?;
        assert_eq!((echoed.stdout.as_str(), echoed.success), ("over and out", true), "{echoed:?}");
        assert!(echoed.stderr.contains("copied 12"), "kubectl 1.{minor}: {echoed:?}");
        let mut failing = kubectl.spawn(&["exec", "tool", "--", "3"])?;
        assert_eq!(failing.wait()?.code(), Some(3), "kubectl 1.{minor}");
        let flood = kubectl.sh("exec tool -- flood 2000")?;
        assert_eq!(flood.len(), 2000 * 1024, "kubectl 1.{minor}");
        let refused = kubectl.output(&["exec", "deployment/hello", "--", "a"], "")?;
        assert!(!refused.success && refused.stderr.contains("run"), "1.{minor}: {refused:?}");
    }
    Ok(())
}
