//! Ordinary containers beside WASM: the same kubectl, the same semantics, one network.

use std::{collections::BTreeSet, io::Write as _, process::Stdio};

use anyhow::Context;
use windlass_tests_e2e::{
    Cluster, Kubectl,
    docker::{busybox, docker, host},
    first_answer, http_get, wait_for,
};

use crate::{pods::import, shared, streams::forward};

/// A pod with one container that runs a script.
pub fn pod(name: &str, script: &str, more: &str) -> String {
    let script = serde_json::json!(script);
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 2
  containers:
  - name: main
    image: windlass.test/busybox:v1
    command: [sh, -c, {script}]
{more}"
    )
}

pub fn ready(kubectl: &Kubectl, name: &str) -> anyhow::Result<()> {
    kubectl.run(&["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=60s"])?;
    Ok(())
}

/// Waits until a field is as wanted.
pub fn until(kubectl: &Kubectl, what: &str, path: &str, wanted: &str) {
    wait_for(&format!("{path} of {what} is {wanted}"), 60, || {
        (kubectl.jsonpath(what, path).ok()? == wanted).then_some(())
    });
}

pub fn namespace(name: &str) -> anyhow::Result<Kubectl> {
    busybox()?;
    shared().kubectl(37)?.in_new_namespace(name)
}

/// Everything that the engine has of a pod.
fn left(uid: &str) -> anyhow::Result<String> {
    docker(&host()?, &["ps", "-aq", "--filter", &format!("label=io.kubernetes.pod.uid={uid}")])
}

#[test]
fn a_container_runs_is_looked_into_and_leaves_nothing() -> anyhow::Result<()> {
    let kubectl = namespace("container")?;
    let script = "echo hello; trap 'echo bye; exit 0' TERM; while :; do sleep 1 & wait; done";
    kubectl.apply(&pod("one", script, ""))?;
    ready(&kubectl, "one")?;
    wait_for("the log", 10, || (kubectl.sh("logs one").ok()? == "hello\n").then_some(()));
    let id = kubectl.jsonpath("pod one", "{.status.containerStatuses[0].containerID}")?;
    assert!(id.starts_with("docker://"), "{id}");
    assert_eq!(kubectl.run(&["exec", "one", "--", "echo", "in there"])?, "in there\n");
    let failed = kubectl.output(&["exec", "one", "--", "sh", "-c", "exit 6"], "")?;
    assert!(failed.stderr.contains("exit code 6"), "{}", failed.stderr);
    let labels = kubectl.jsonpath("nodes", "{.items[0].metadata.labels}")?;
    assert!(labels.contains("\"windlass.dev/runtime.docker\":\"true\""), "{labels}");
    let uid = kubectl.jsonpath("pod one", "{.metadata.uid}")?;
    assert_eq!(left(&uid)?.lines().count(), 2);
    kubectl.sh("delete pod one")?;
    assert_eq!(left(&uid)?, "");
    Ok(())
}

#[test]
fn a_terminal_and_a_copy() -> anyhow::Result<()> {
    let kubectl = namespace("terminal")?;
    kubectl.apply(&pod("t", "exec sleep 1000", ""))?;
    ready(&kubectl, "t")?;
    // `script` gives kubectl a terminal.
    let words = kubectl.words(&["exec", "-it", "t", "--", "sh"]);
    let mut child = std::process::Command::new("script")
        .args(["-qec", &words.join(" "), "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("script of util-linux")?;
    let mut stdin = child.stdin.take().context("piped")?;
    stdin.write_all(b"tty; exit 5\n")?;
    let output = child.wait_with_output()?;
    drop(stdin);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("/dev/pts/"), "{said}");
    let folder = tempfile::tempdir()?;
    let (from, to) = (folder.path().join("a"), folder.path().join("b"));
    std::fs::write(&from, "copied")?;
    kubectl.run(&["cp", from.to_str().context("UTF-8")?, "t:/tmp/a"])?;
    kubectl.run(&["cp", "t:/tmp/a", to.to_str().context("UTF-8")?])?;
    assert_eq!(std::fs::read_to_string(&to)?, "copied");
    Ok(())
}

#[test]
fn how_containers_end_is_told_as_kubernetes_tells_it() -> anyhow::Result<()> {
    let kubectl = namespace("ends")?;
    let never = "  restartPolicy: Never\n";
    kubectl.apply(&pod("done", "exit 0", never))?;
    kubectl.apply(&pod("failed", "echo why > /dev/termination-log; exit 3", never))?;
    let limits = format!("    resources: {{limits: {{memory: 16Mi}}}}\n{never}");
    kubectl.apply(&pod("greedy", "x=a; while :; do x=$x$x; done", &limits))?;
    kubectl.apply(&pod("absent", "", never).replace("[sh, -c, \"\"]", "[/no/such]"))?;
    kubectl.apply(&pod("again", "echo attempt; exit 1", ""))?;
    let state = "{.status.containerStatuses[0].state.terminated";
    for (name, phase, code, reason) in [
        ("done", "Succeeded", "0", "Completed"),
        ("failed", "Failed", "3", "Error"),
        ("greedy", "Failed", "137", "OOMKilled"),
        ("absent", "Failed", "128", "StartError"),
    ] {
        let what = format!("pod {name}");
        until(&kubectl, &what, "{.status.phase}", phase);
        assert_eq!(kubectl.jsonpath(&what, &format!("{state}.exitCode}}"))?, code, "{name}");
        assert_eq!(kubectl.jsonpath(&what, &format!("{state}.reason}}"))?, reason, "{name}");
    }
    assert_eq!(kubectl.jsonpath("pod failed", &format!("{state}.message}}"))?, "why\n");
    let waiting = "{.status.containerStatuses[0].state.waiting.reason}";
    until(&kubectl, "pod again", waiting, "CrashLoopBackOff");
    assert_eq!(kubectl.sh("logs again --previous")?, "attempt\n");
    Ok(())
}

#[test]
fn what_a_container_writes_counts_for_its_storage() -> anyhow::Result<()> {
    let kubectl = namespace("written")?;
    let limits = "    resources: {limits: {ephemeral-storage: 1Mi}}\n";
    kubectl.apply(&pod("writer", "head -c 8m /dev/zero > /grown; exec sleep 1000", limits))?;
    kubectl.apply(&pod("modest", "head -c 8k /dev/zero > /small; exec sleep 1000", limits))?;
    until(&kubectl, "pod writer", "{.status.reason}", "Evicted");
    let message = kubectl.jsonpath("pod writer", "{.status.message}")?;
    assert!(message.contains("ephemeral"), "{message}");
    assert_eq!(kubectl.jsonpath("pod modest", "{.status.phase}")?, "Running");
    Ok(())
}

#[test]
fn volumes_are_there_and_belong_to_the_pod_s_group() -> anyhow::Result<()> {
    let kubectl = namespace("volumes-c")?;
    kubectl.sh("create configmap settings --from-literal=a=one")?;
    kubectl.sh("create secret generic keys --from-literal=k=hidden")?;
    let script = "cat /config/a; echo; cat /keys/k; echo; id -u; id -G; \
                  echo mine > /empty/x && cat /empty/x; stat -c %g /empty /memory; \
                  cat /info/labels; echo; \
                  test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo token; \
                  touch /config/b 2>/dev/null || echo fixed; cat /sub";
    let more = "    securityContext: {runAsUser: 1000}
    volumeMounts:
    - {name: config, mountPath: /config}
    - {name: config, mountPath: /sub, subPath: a}
    - {name: keys, mountPath: /keys}
    - {name: empty, mountPath: /empty}
    - {name: memory, mountPath: /memory}
    - {name: info, mountPath: /info}
  securityContext: {fsGroup: 2500}
  restartPolicy: Never
  volumes:
  - {name: config, configMap: {name: settings}}
  - {name: keys, secret: {secretName: keys, defaultMode: 0400}}
  - {name: empty, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: info, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
";
    kubectl.apply(&pod("v", script, more))?;
    until(&kubectl, "pod v", "{.status.phase}", "Succeeded");
    let log = kubectl.sh("logs v")?;
    let expected = "one\nhidden\n1000\n1000 2500\nmine\n2500\n2500\napp=\"v\"\ntoken\nfixed\none";
    assert_eq!(log.trim_end(), expected);
    Ok(())
}

#[test]
fn probes_and_hooks() -> anyhow::Result<()> {
    let kubectl = namespace("probes-c")?;
    let script = "mkdir -p /www; echo up > /www/index.html; exec httpd -f -p 8080 -h /www";
    let more = "    ports: [{containerPort: 8080}]
    startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
    readinessProbe: {httpGet: {path: /index.html, port: 8080}, periodSeconds: 1}
    livenessProbe:
      exec: {command: [test, -e, /www/index.html]}
      periodSeconds: 1
      failureThreshold: 1
    lifecycle: {postStart: {exec: {command: [touch, /hooked]}}}
";
    kubectl.apply(&pod("p", script, more))?;
    ready(&kubectl, "p")?;
    kubectl.sh("exec p -- ls /hooked")?;
    kubectl.sh("exec p -- rm /www/index.html")?;
    until(&kubectl, "pod p", "{.status.containerStatuses[0].restartCount}", "1");
    ready(&kubectl, "p")?;
    Ok(())
}

const MIXED: &str = "apiVersion: v1
kind: Pod
metadata: {name: both, labels: {app: both}}
spec:
  terminationGracePeriodSeconds: 2
  initContainers:
  - name: prepare
    image: windlass.test/busybox:v1
    command: [sh, -c, 'echo prepared > /shared/from-init']
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: database
    image: windlass.test/busybox:v1
    command: [sh, -c, 'cp /shared/from-init /www/row; exec httpd -f -p 127.0.0.1:5432 -h /www']
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: front
    image: windlass.dev/test/http-caller:1
    ports: [{containerPort: 8080}]
  - name: files
    image: windlass.dev/test/http-pod:1
    ports: [{containerPort: 8081}]
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes:
  - {name: shared, emptyDir: {}}
---
apiVersion: v1
kind: Service
metadata: {name: both}
spec:
  selector: {app: both}
  ports: [{name: front, port: 80, targetPort: 8080}, {name: files, port: 81, targetPort: 8081}]
";

#[test]
fn a_mixed_pod_shares_localhost_services_and_a_volume() -> anyhow::Result<()> {
    let kubectl = namespace("mixed")?;
    import(shared(), "windlass.dev/test/http-caller:1", "http-caller")?;
    import(shared(), "windlass.dev/test/http-pod:1", "http-pod")?;
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.apply(MIXED)?;
    ready(&kubectl, "both")?;
    kubectl.sh("rollout status deployment/hello --timeout=60s")?;
    let inside =
        |script: &str| kubectl.run(&["exec", "both", "-c", "database", "--", "sh", "-c", script]);
    // The container calls the WASM on localhost, and a WASM service by its names.
    assert_eq!(inside("wget -qO- http://localhost:8081/shared/from-init")?, "prepared\n");
    let hello =
        wait_for("the service answers inside", 20, || inside("wget -qO- http://hello:8080/").ok());
    assert!(hello.starts_with("Hello"), "{hello}");
    assert_eq!(inside("wget -qO- http://hello.mixed.svc.cluster.local:8080/")?, hello);
    // The WASM calls the container on localhost, and both see one volume.
    let address = kubectl.jsonpath("service both", "{.spec.clusterIP}")?;
    first_answer(&format!("http://{address}/"));
    let (code, body) = http_get(&format!("http://{address}/?url=http://localhost:5432/row"))?;
    assert_eq!((code, body.as_str()), (200, "prepared\n"));
    let written = http_get(&format!("http://{address}:81/write/shared/by-wasm"))?;
    assert_eq!(written.0, 200, "{}", written.1);
    assert!(inside("ls /shared")?.contains("by-wasm"));
    Ok(())
}

#[test]
fn a_deployment_of_containers_serves_behind_a_service() -> anyhow::Result<()> {
    let kubectl = namespace("served")?;
    kubectl.apply(
        "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      runtimeClassName: docker
      containers:
      - name: main
        image: windlass.test/busybox:v1
        command: [sh, -c, 'hostname > /www/index.html; exec httpd -f -p 8080 -h /www']
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
",
    )?;
    kubectl.sh("rollout status deployment/web --timeout=90s")?;
    let address = kubectl.jsonpath("service web", "{.spec.clusterIP}")?;
    let mut seen = BTreeSet::new();
    wait_for("both answer", 20, || {
        let (code, body) = http_get(&format!("http://{address}/")).ok()?;
        assert_eq!(code, 200);
        seen.insert(body);
        (seen.len() == 2).then_some(())
    });
    kubectl.sh("scale deployment web --replicas=0")?;
    wait_for("they are gone", 30, || {
        kubectl.jsonpath("pods", "{.items[*].metadata.name}").ok()?.is_empty().then_some(())
    });
    Ok(())
}

#[test]
fn ports_lead_to_containers_and_to_wasm_alike() -> anyhow::Result<()> {
    let kubectl = namespace("ports-c")?;
    let free = || -> anyhow::Result<u16> {
        Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
    };
    let (first, second) = (free()?, free()?);
    let script = "echo here > /www/index.html; exec httpd -f -p 8080 -h /www";
    let ports = format!("    ports: [{{containerPort: 8080, hostPort: {first}}}]\n");
    kubectl.apply(&pod("server", script, &ports))?;
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: hello}}
spec:
  containers:
  - {{name: main, image: 'windlass.dev/hello:v1', ports: [{{containerPort: 8080, hostPort: {second}}}]}}
"
    ))?;
    ready(&kubectl, "server")?;
    ready(&kubectl, "hello")?;
    assert_eq!(first_answer(&format!("http://127.0.0.1:{first}/")), (200, "here\n".into()));
    assert!(first_answer(&format!("http://127.0.0.1:{second}/")).1.starts_with("Hello"));
    let (_background, port) = forward(&kubectl, "pod/server")?;
    assert_eq!(http_get(&format!("http://127.0.0.1:{port}/"))?, (200, "here\n".into()));
    kubectl.sh("delete pod server")?;
    wait_for("its host port is closed", 20, || {
        http_get(&format!("http://127.0.0.1:{first}/")).is_err().then_some(())
    });
    Ok(())
}

#[test]
fn classes_and_fields_that_can_t_be_given_are_told() -> anyhow::Result<()> {
    let kubectl = namespace("classes")?;
    assert_eq!(kubectl.jsonpath("runtimeclasses", "{.items[*].handler}")?, "docker wasm");
    let unknown = kubectl.apply(&pod("x", "true", "  runtimeClassName: none\n"));
    let why = unknown.expect_err("refused").to_string();
    assert!(why.contains("RuntimeClass \"none\" not found"), "{why}");
    let more = "    securityContext: {seccompProfile: {type: Localhost, localhostProfile: p}}\n";
    kubectl.apply(&pod("strict", "true", more))?;
    kubectl.apply(&pod("root", "true", "    securityContext: {runAsNonRoot: true}\n"))?;
    for (name, message) in [
        ("strict", "seccompProfile.type is not supported"),
        ("root", "container has runAsNonRoot and image will run as root"),
    ] {
        wait_for(&format!("{name} says why it waits"), 60, || {
            let path = "{.status.containerStatuses[0].state.waiting}";
            let waiting = kubectl.jsonpath(&format!("pod {name}"), path).ok()?;
            let reason = waiting.contains("CreateContainerConfigError");
            (reason && waiting.contains(message)).then_some(())
        });
    }
    Ok(())
}

#[test]
fn containers_outlive_the_agent() -> anyhow::Result<()> {
    busybox()?;
    let mut cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done";
    kubectl.apply(&pod("lasting", script, "    ports: [{containerPort: 7000}]\n"))?;
    ready(&kubectl, "lasting")?;
    let what = "pod lasting";
    let id = "{.status.containerStatuses[0].containerID} {.status.podIP}";
    let before = kubectl.jsonpath(what, id)?;
    cluster.kill()?;
    cluster.resume()?;
    let kubectl = cluster.kubectl(37)?;
    let count = |log: &str| log.lines().count();
    let now = count(&kubectl.sh("logs lasting")?);
    wait_for("its log goes on", 20, || {
        (count(&kubectl.sh("logs lasting").ok()?) > now + 20).then_some(())
    });
    assert_eq!(kubectl.jsonpath(what, id)?, before);
    let restarts = kubectl.jsonpath(what, "{.status.containerStatuses[0].restartCount}")?;
    assert_eq!(restarts, "0");
    // SIGTERM leaves it running as well.
    cluster.stop()?;
    cluster.resume()?;
    let kubectl = cluster.kubectl(37)?;
    until(&kubectl, what, id, &before);
    let log = kubectl.sh("logs lasting")?;
    let numbers: Vec<usize> = log.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(numbers.iter().copied().eq(0..numbers.len()), "lines are lost or doubled");
    let uid = kubectl.jsonpath(what, "{.metadata.uid}")?;
    kubectl.sh("delete pod lasting")?;
    assert_eq!(left(&uid)?, "");
    Ok(())
}
