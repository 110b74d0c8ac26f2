//! An engine that is slow, full, silent, on another machine, or used without root: what can't work is
//! said, what can goes on, and when it is well again everything is.

use std::{
    fs,
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use windlass_tests_e2e::{
    Cluster, Kubectl, Options,
    docker::{busybox, docker, host},
    first_answer,
    proxy::{Mood, Proxy},
    wait_for,
};

use crate::{
    containers::{pod, ready},
    images::events,
    pods::import,
    shared,
};

/// Nobody's user id.
const NOBODY: u32 = 65534;
const DOCKER_READY: &str = "{.items[0].status.conditions[?(@.type==\"DockerReady\")]}";
const NODE_READY: &str = "{.items[0].status.conditions[?(@.type==\"Ready\")].status}";

fn cluster(host: &str, uid: Option<u32>) -> anyhow::Result<(Cluster, Kubectl)> {
    let arguments = vec!["--docker-host".to_owned(), host.to_owned()];
    let cluster = Cluster::start_with(Options { arguments, uid, ..Options::default() })?;
    let kubectl = cluster.kubectl(37)?;
    Ok((cluster, kubectl))
}

/// Waits until a field holds a text.
fn said(kubectl: &Kubectl, what: &str, path: &str, wanted: &str) {
    wait_for(&format!("{what} says {wanted:?}"), 60, || {
        kubectl.jsonpath(what, path).ok()?.contains(wanted).then_some(())
    });
}

fn waiting() -> &'static str {
    "{.status.containerStatuses[0].state.waiting}"
}

/// Ids of running containers of a pod, its sandbox included.
fn running(uid: &str) -> anyhow::Result<usize> {
    let filter = format!("label=io.kubernetes.pod.uid={uid}");
    Ok(docker(&host()?, &["ps", "-q", "--filter", &filter])?.lines().count())
}

const SERVER: &str = "echo here > /www/index.html; exec httpd -f -p 8080 -h /www";

#[test]
fn an_engine_that_is_full_slow_or_silent_holds_up_nobody_else() -> anyhow::Result<()> {
    busybox()?;
    let proxy = Proxy::start(&host()?)?;
    let (cluster, kubectl) = cluster(&proxy.host(), None)?;
    kubectl.apply(&pod("steady", "exec sleep 1000", ""))?;
    ready(&kubectl, "steady")?;
    let uid = kubectl.jsonpath("pod steady", "{.metadata.uid}")?;
    let status = "{.status.phase} {.status.containerStatuses[0].restartCount}";

    proxy.is(Mood::Full);
    kubectl.apply(&pod("full", "exec sleep 1000", ""))?;
    said(&kubectl, "events", "{.items[*].message}", "no space left on device");
    ensure!(kubectl.jsonpath("pod steady", status)? == "Running 0");
    proxy.is(Mood::Well);
    ready(&kubectl, "full")?;

    // Each answer takes half a second: it takes long, but it works, and only once.
    proxy.is(Mood::Slow(Duration::from_millis(500)));
    kubectl.apply(&pod("slow", "exec sleep 1000", ""))?;
    ready(&kubectl, "slow")?;
    let slow = kubectl.jsonpath("pod slow", "{.metadata.uid}")?;
    ensure!(running(&slow)? == 2);
    ensure!(kubectl.jsonpath("pod slow", status)? == "Running 0");

    // One that takes requests and never answers is known for that soon.
    proxy.is(Mood::Silent);
    let since = Instant::now();
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("rollout status deployment/hello --timeout=30s")?;
    said(&kubectl, "nodes", DOCKER_READY, "stopped answering");
    ensure!(since.elapsed() < Duration::from_secs(40), "{:?}", since.elapsed());
    kubectl.apply(&pod("late", "exec sleep 1000", ""))?;
    said(&kubectl, "pod late", waiting(), "no answer within");
    ensure!(kubectl.jsonpath("nodes", NODE_READY)? == "True");
    ensure!(kubectl.jsonpath("pod steady", "{.status.phase}")? == "Running");

    proxy.is(Mood::Well);
    ready(&kubectl, "late")?;
    ensure!(kubectl.jsonpath("pod steady", status)? == "Running 0");
    ensure!(running(&uid)? == 2);
    kubectl.sh("delete pods --all --force --grace-period=0")?;
    wait_for("nothing is left", 30, || (running(&uid).ok()? == 0).then_some(()));
    drop(cluster);
    Ok(())
}

#[test]
fn an_engine_of_another_machine_is_told_as_one() -> anyhow::Result<()> {
    busybox()?;
    let (_cluster, kubectl) = cluster("tcp://192.0.2.1:2375", None)?;
    said(&kubectl, "nodes", DOCKER_READY, "\"status\":\"False\"");
    said(&kubectl, "nodes", DOCKER_READY, "it may be another machine's");
    kubectl.apply(&pod("waits", "exec sleep 1000", ""))?;
    said(&kubectl, "pod waits", waiting(), "Docker engine at tcp://192.0.2.1:2375 is not used");
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("rollout status deployment/hello --timeout=30s")?;

    // A socket that leads elsewhere: containers run, and what they lack is said.
    let proxy = Proxy::start(&host()?)?;
    proxy.is(Mood::Elsewhere);
    let (_cluster, kubectl) = self::cluster(&proxy.host(), None)?;
    said(&kubectl, "nodes", DOCKER_READY, "runs on another machine");
    said(&kubectl, "nodes", DOCKER_READY, "\"reason\":\"DockerLimited\"");
    kubectl.apply(&pod("remote", "exec sleep 1000", ""))?;
    ready(&kubectl, "remote")?;
    let told = events(&kubectl, "remote");
    ensure!(told.contains("PodNetworkLimited: ") && told.contains("another machine"), "{told}");
    kubectl.sh("delete pod remote")?;
    Ok(())
}

#[test]
fn without_root_containers_run_and_what_they_lack_is_told() -> anyhow::Result<()> {
    busybox()?;
    let proxy = Proxy::start(&host()?)?;
    let (_cluster, kubectl) = cluster(&proxy.host(), Some(NOBODY))?;
    said(&kubectl, "nodes", DOCKER_READY, "\"reason\":\"DockerLimited\"");
    said(&kubectl, "nodes", DOCKER_READY, "which takes root");
    let ports = "    ports: [{containerPort: 8080}]
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes: [{name: shared, emptyDir: {}}]
";
    kubectl.apply(&pod("server", SERVER, ports))?;
    kubectl.sh("expose pod server --port=8081 --target-port=8080")?;
    ready(&kubectl, "server")?;
    let told = events(&kubectl, "server");
    ensure!(told.contains("PodNetworkLimited: ") && told.contains("takes root"), "{told}");
    // Its declared port is reached all the same, by its address and by its service.
    let address = kubectl.jsonpath("pod server", "{.status.podIP}")?;
    ensure!(first_answer(&format!("http://{address}:8080/")) == (200, "here\n".into()));
    let service = kubectl.jsonpath("service server", "{.spec.clusterIP}")?;
    ensure!(first_answer(&format!("http://{service}:8081/")) == (200, "here\n".into()));
    ensure!(kubectl.run(&["exec", "server", "--", "ls", "/shared"])?.is_empty());
    // Who needs none of it is told nothing.
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("rollout status deployment/hello --timeout=30s")?;
    let hello = kubectl.jsonpath("pods -l app=hello", "{.items[0].metadata.name}")?;
    ensure!(!events(&kubectl, &hello).contains("PodNetworkLimited"));
    let uid = kubectl.jsonpath("pod server", "{.metadata.uid}")?;
    kubectl.sh("delete pod server")?;
    ensure!(running(&uid)? == 0);
    Ok(())
}

/// Paths below a folder whose names hold a text.
fn paths(folder: &Path, text: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.to_string_lossy().contains(text) {
            found.push(path.display().to_string());
        } else if path.is_dir() && !path.is_symlink() {
            paths(&path, text, found);
        }
    }
}

/// Sockets of the host that listen on an address, TCP and UDP.
fn listeners(address: &str) -> anyhow::Result<usize> {
    let IpAddr::V4(ip) = address.parse()? else { anyhow::bail!("{address} is not IPv4") };
    let hex = format!("{:08X}:", u32::from_le_bytes(ip.octets()));
    let mut count = 0;
    for (table, state) in [("/proc/net/tcp", "0A"), ("/proc/net/udp", "07")] {
        let text = fs::read_to_string(table)?;
        count += text
            .lines()
            .filter(|line| {
                let columns: Vec<&str> = line.split_whitespace().collect();
                matches!(columns[..], [_, local, _, now, ..] if local.starts_with(&hex) && now == state)
            })
            .count();
    }
    Ok(count)
}

/// What a process has open of a namespace.
fn descriptors(pid: u32, namespace: &str) -> usize {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links
        .filter(|link| fs::read_link(link.path()).is_ok_and(|to| to.to_string_lossy() == namespace))
        .count()
}

#[test]
fn nothing_of_a_deleted_pod_is_left_behind() -> anyhow::Result<()> {
    busybox()?;
    let kubectl = shared().kubectl(37)?.in_new_namespace("left-behind")?;
    import(shared(), "windlass.dev/test/http-pod:1", "http-pod")?;
    let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let more = format!(
        "    ports: [{{containerPort: 8080, hostPort: {free}}}, {{containerPort: 5353, protocol: UDP}}]
    volumeMounts: [{{name: disk, mountPath: /disk}}, {{name: memory, mountPath: /memory}}]
  - name: wasm
    image: windlass.dev/test/http-pod:1
    ports: [{{containerPort: 8081}}]
    volumeMounts: [{{name: disk, mountPath: /disk}}]
  volumes: [{{name: disk, emptyDir: {{}}}}, {{name: memory, emptyDir: {{medium: Memory}}}}]
"
    );
    let script = format!("mkdir -p /disk/a/b; echo x > /disk/a/b/c; echo x > /memory/y; {SERVER}");
    kubectl.apply(&pod("all", &script, &more))?;
    ready(&kubectl, "all")?;
    let uid = kubectl.jsonpath("pod all", "{.metadata.uid}")?;
    let address = kubectl.jsonpath("pod all", "{.status.podIP}")?;
    first_answer(&format!("http://127.0.0.1:{free}/"));
    let filter = format!("label=io.kubernetes.pod.uid={uid}");
    let sandbox = docker(
        &host()?,
        &["ps", "-q", "--filter", &filter, "--filter", "label=io.kubernetes.container.name=POD"],
    )?;
    let pid = docker(&host()?, &["inspect", "-f", "{{.State.Pid}}", sandbox.trim()])?;
    let namespace = fs::read_link(format!("/proc/{}/ns/net", pid.trim()))?;
    let namespace = namespace.to_string_lossy().into_owned();
    let windlass = shared().pid().context("it runs")?;
    let left = || -> anyhow::Result<[usize; 5]> {
        let mut found = Vec::new();
        paths(shared().data_dir(), &uid, &mut found);
        let mounts = fs::read_to_string(format!("/proc/{windlass}/mounts"))?;
        Ok([
            docker(&host()?, &["ps", "-aq", "--filter", &filter])?.lines().count(),
            found.len(),
            mounts.lines().filter(|line| line.contains(&uid)).count(),
            listeners(&address)?,
            descriptors(windlass, &namespace),
        ])
    };
    let before = left()?;
    ensure!(before[0] == 2 && before[1] > 0 && before[3] >= 2 && before[4] > 0, "{before:?}");
    let networks = docker(&host()?, &["network", "ls", "-q"])?;
    kubectl.sh("delete pod all")?;
    wait_for("nothing is left", 20, || (left().ok()? == [0; 5]).then_some(()));
    ensure!(docker(&host()?, &["network", "ls", "-q"])? == networks);
    ensure!(std::net::TcpListener::bind(("127.0.0.1", free)).is_ok());
    Ok(())
}
