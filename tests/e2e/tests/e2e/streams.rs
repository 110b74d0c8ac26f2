//! exec, attach, port-forward and the API server's proxy, with both generations of kubectl: 1.30
//! speaks SPDY, 1.37 WebSocket.

use std::{
    io::{BufRead as _, BufReader},
    process::Child,
};

use anyhow::Context;
use tempfile::TempDir;
use windlass_tests_e2e::{Cluster, Kubectl, guest, http_get};

use crate::shared;

/// Loads a guest of the tests under a name that pods can use.
fn load(cluster: &Cluster, name: &str) -> anyhow::Result<String> {
    let image = format!("windlass.dev/test/{name}:1");
    let file = guest(name)?;
    cluster.windlass(&["image", "import", &image, file.to_str().context("a path in UTF-8")?])?;
    Ok(image)
}

/// A kubectl in the background; it is ended when this is dropped.
pub struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Forwards a free local port; returns it once kubectl says that it listens.
pub fn forward(kubectl: &Kubectl, to: &str) -> anyhow::Result<(Background, u16)> {
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
    let image = load(cluster, "command-exec")?;
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

const WITH_VOLUMES: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {mode: fast}
---
apiVersion: v1
kind: Pod
metadata: {name: web}
spec:
  volumes:
  - {name: data, emptyDir: {sizeLimit: 8Mi}}
  - {name: settings, configMap: {name: settings}}
  containers:
  - name: web
    image: windlass.dev/hello:v1
    volumeMounts:
    - {name: data, mountPath: /data}
    - {name: settings, mountPath: /etc/settings}
";

/// The component serves HTTP and has nothing that could be run: its volumes are copied to and from.
#[test]
fn files_are_copied_both_ways() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("copy")?;
    kubectl.apply(WITH_VOLUMES)?;
    kubectl.sh("wait pod/web --for=condition=Ready --timeout=60s")?;
    let here = TempDir::new()?;
    let text = |path: &str| here.path().join(path).to_str().map(str::to_owned).context("UTF-8");
    std::fs::create_dir_all(here.path().join("site/deep"))?;
    let binary: Vec<u8> = (0..3 << 20).map(|n: u32| (n % 251) as u8).collect();
    std::fs::write(here.path().join("site/deep/binary"), &binary)?;
    std::fs::write(here.path().join("site/page"), "hello")?;
    for minor in [30, 37] {
        let kubectl = cluster.kubectl(minor)?.in_namespace("copy");
        let back = format!("back-{minor}");
        kubectl.run(&["cp", &text("site")?, "web:/data/"])?;
        kubectl.run(&["cp", "web:/data/site", &text(&back)?])?;
        let copied = |name: &str| std::fs::read(here.path().join(&back).join(name));
        assert!(copied("deep/binary")? == binary, "kubectl 1.{minor}");
        assert_eq!(copied("page")?, b"hello", "kubectl 1.{minor}");
        let renamed = format!("web:/data/renamed-{minor}");
        kubectl.run(&["cp", &text("site/page")?, &renamed])?;
        kubectl.run(&["cp", &renamed, &text("renamed")?])?;
        assert_eq!(std::fs::read(here.path().join("renamed"))?, b"hello", "kubectl 1.{minor}");
        kubectl.run(&["cp", "--retries=2", "web:/etc/settings", &text("settings")?])?;
        assert_eq!(std::fs::read(here.path().join("settings/mode"))?, b"fast", "1.{minor}");
        for (from, to, why) in [
            (text("site/page")?, "web:/etc/settings/mode", "Read-only file system"),
            (text("site/page")?, "web:/etc/passwd", "no files of its own, only its volumes: /data"),
        ] {
            let refused = kubectl.output(&["cp", &from, to], "")?;
            let said = format!("{}{}", refused.stdout, refused.stderr);
            assert!(said.contains(why), "1.{minor} {from} {to}: {refused:?}");
            assert!(!refused.success, "1.{minor} {from}: {refused:?}");
        }
        // kubectl takes an archive of nothing for a success, and may end before it is told more: so
        // what it runs is asked.
        kubectl.output(&["cp", "web:/etc/passwd", &text("stolen")?], "")?;
        assert!(!here.path().join("stolen").exists(), "1.{minor}");
        let refused =
            kubectl.output(&["exec", "web", "--", "tar", "cf", "-", "/etc/passwd"], "")?;
        assert!(refused.stderr.contains("No such file or directory"), "1.{minor} {refused:?}");
        assert!(!refused.success, "1.{minor} {refused:?}");
    }
    // A volume takes no more than it may hold, and the pod isn't evicted for the attempt.
    kubectl.run(&["cp", &text("site/deep/binary")?, "web:/data/again"])?;
    let refused = kubectl.output(&["cp", &text("site/deep/binary")?, "web:/data/too-much"], "")?;
    assert!(!refused.success && refused.stderr.contains("size limit"), "{refused:?}");
    Ok(())
}

#[test]
fn a_command_is_attached_to_with_its_stdin() -> anyhow::Result<()> {
    let cluster = shared();
    cluster.kubectl(37)?.in_new_namespace("attach")?;
    let image = load(cluster, "command-exec")?;
    for minor in [30, 37] {
        let kubectl = cluster.kubectl(minor)?.in_namespace("attach");
        let name = format!("cat-{minor}");
        kubectl.apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  containers:
  - {{name: main, image: {image}, args: [cat], stdin: true, stdinOnce: true}}
"
        ))?;
        kubectl.sh(&format!("wait pod/{name} --for=condition=Ready --timeout=60s"))?;
        let attached = kubectl.output(&["attach", "-i", &name], "typed by hand")?;
        assert_eq!(attached.stdout, "typed by hand", "kubectl 1.{minor}: {attached:?}");
        assert!(attached.stderr.contains("copied 13"), "kubectl 1.{minor}: {attached:?}");
        kubectl.sh(&format!("wait pod/{name} --for=jsonpath={{.status.phase}}=Succeeded"))?;
        // Its output is its log, whoever was attached.
        let log = kubectl.sh(&format!("logs {name}"))?;
        assert!(log.contains("typed by hand"), "kubectl 1.{minor}: {log}");

        let image = format!("--image={image}");
        let run = ["run", "asked", "-i", "--rm", "--restart=Never", &image, "--", "ask"];
        let asked = kubectl.output(&run, "me\n")?;
        assert!(asked.success && asked.stdout.contains("hello me"), "1.{minor}: {asked:?}");
        let run = ["run", "failing", "-i", "--rm", "--restart=Never", &image, "--", "3"];
        let code = kubectl.spawn(&run)?.wait()?.code();
        assert_eq!(code, Some(3), "kubectl 1.{minor}");
    }
    Ok(())
}

#[test]
fn a_running_pod_is_debugged_with_another_component() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("debug")?;
    let image = load(cluster, "command-files")?;
    kubectl.apply(WITH_VOLUMES)?;
    kubectl.sh("wait pod/web --for=condition=Ready --timeout=60s")?;
    for minor in [30, 37] {
        let kubectl = cluster.kubectl(minor)?.in_namespace("debug");
        let (image, name) = (format!("--image={image}"), format!("tool-{minor}"));
        let debug = ["debug", "web", "-i", &image, "--target=web", "-c", &name, "--"];
        let command = ["command-files", "/etc/settings", "ro"];
        let debugged = kubectl.output(&[&debug[..], &command].concat(), "")?;
        assert!(debugged.success, "kubectl 1.{minor}: {debugged:?}");
        let ended = format!(
            "{{.status.ephemeralContainerStatuses[?(@.name==\"{name}\")].state.terminated.reason}}"
        );
        let done = format!("--for=jsonpath={ended}=Completed");
        kubectl.run(&["wait", "pod/web", &done, "--timeout=60s"])?;
        let log = kubectl.sh(&format!("logs web -c {name}"))?;
        let folders = log.lines().next().unwrap_or_default();
        // Its target's volumes, where its target has them.
        assert!(folders.contains("/data") && folders.contains("/etc/settings"), "{log}");
        assert!(log.contains("open create: not-permitted"), "kubectl 1.{minor}: {log}");
    }
    let status =
        kubectl.jsonpath("pod web", "{.status.phase} {.status.containerStatuses[0].ready}")?;
    assert_eq!(status, "Running true");
    let patch = r#"{"spec":{"ephemeralContainers":[{"name":"tool-37","image":"other"}]}}"#;
    let changing = ["patch", "pod", "web", "--subresource=ephemeralcontainers", "-p", patch];
    let refused = kubectl.output(&changing, "")?;
    assert!(!refused.success && refused.stderr.contains("may not be changed"), "{refused:?}");
    Ok(())
}
