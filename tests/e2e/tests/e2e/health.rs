//! Probes, hooks, names and tokens, as people see them with kubectl.

use serde_json::Value;
use windlass_tests_e2e::{Cluster, Kubectl, guest, http_get, wait_for};

use crate::{shared, tokens::with_token};

const IMAGE: &str = "windlass.dev/test/http-pod:1";

fn import(cluster: &Cluster, image: &str, name: &str) -> anyhow::Result<()> {
    cluster.windlass(&["image", "import", image, &guest(name)?.display().to_string()])?;
    Ok(())
}

/// A namespace with the image at hand.
fn namespace(name: &str) -> anyhow::Result<Kubectl> {
    let cluster = shared();
    import(cluster, IMAGE, "http-pod")?;
    cluster.kubectl(37)?.in_new_namespace(name)
}

/// A pod with one container, `main`, and an emptyDir at `/v`.
fn pod(kubectl: &Kubectl, name: &str, container: &str) -> anyhow::Result<()> {
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 5
  volumes: [{{name: v, emptyDir: {{}}}}]
  containers:
  - name: main
    image: {IMAGE}
    volumeMounts: [{{name: v, mountPath: /v}}]
{container}
"
    ))?;
    Ok(())
}

/// Where a pod that runs is called.
fn url(kubectl: &Kubectl, name: &str) -> String {
    let address = wait_for("the pod runs", 30, || {
        let path = "{.status.phase} {.status.podIP}";
        let shown = kubectl.jsonpath(&format!("pod {name}"), path).ok()?;
        shown.strip_prefix("Running ").map(str::to_owned)
    });
    format!("http://{address}:8080")
}

fn status(kubectl: &Kubectl, name: &str) -> anyhow::Result<Value> {
    let pod: Value = serde_json::from_str(&kubectl.sh(&format!("get pod {name} -o json"))?)?;
    Ok(pod["status"]["containerStatuses"][0].clone())
}

fn described(kubectl: &Kubectl, name: &str, texts: &[&str]) -> anyhow::Result<()> {
    wait_for("the events are told", 10, || {
        let shown = kubectl.sh(&format!("describe pod {name}")).ok()?;
        texts.iter().all(|text| shown.contains(text)).then_some(())
    });
    Ok(())
}

#[test]
fn a_sick_container_is_restarted_and_backs_off() -> anyhow::Result<()> {
    let kubectl = namespace("liveness")?;
    pod(
        &kubectl,
        "sick",
        "    readinessProbe: {grpc: {port: 8080}, periodSeconds: 1}
    livenessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1, failureThreshold: 1}",
    )?;
    kubectl.sh("wait pod/sick --for=condition=Ready --timeout=30s")?;
    assert_eq!(http_get(&format!("{}/write/v/sick", url(&kubectl, "sick")))?.0, 200);
    wait_for("it backs off", 30, || {
        let shown = kubectl.sh("get pod sick").ok()?;
        shown.contains("CrashLoopBackOff").then_some(())
    });
    let status = status(&kubectl, "sick")?;
    assert!(status["restartCount"].as_u64() >= Some(1), "{status}");
    described(
        &kubectl,
        "sick",
        &[
            "http-get http://:8080/healthz delay=0s timeout=1s period=1s",
            "Liveness probe failed: HTTP probe failed with statuscode: 500",
            "Container main failed liveness probe, will be restarted",
            "Back-off restarting failed container main in pod sick_liveness",
        ],
    )
}

#[test]
fn a_container_that_starts_slowly_gets_its_time() -> anyhow::Result<()> {
    let kubectl = namespace("startup")?;
    pod(
        &kubectl,
        "slow",
        "    startupProbe: {httpGet: {path: /v/started, port: 8080}, periodSeconds: 1, failureThreshold: 60}
    livenessProbe: {httpGet: {path: /v/started, port: 8080}, periodSeconds: 1, failureThreshold: 1}",
    )?;
    let url = url(&kubectl, "slow");
    described(&kubectl, "slow", &["Startup probe failed: HTTP probe failed with statuscode: 404"])?;
    let before = status(&kubectl, "slow")?;
    assert_eq!((&before["started"], &before["ready"]), (&false.into(), &false.into()));
    assert_eq!(http_get(&format!("{url}/write/v/started"))?.0, 200);
    kubectl.sh("wait pod/slow --for=condition=Ready --timeout=30s")?;
    let after = status(&kubectl, "slow")?;
    assert_eq!((&after["started"], &after["restartCount"]), (&true.into(), &0.into()));
    Ok(())
}

#[test]
fn a_program_of_the_container_is_its_probe() -> anyhow::Result<()> {
    let kubectl = namespace("exec-probe")?;
    let image = "windlass.dev/test/command-exec:1";
    import(shared(), image, "command-exec")?;
    let command = |name: &str, code: u32| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: {image}
    readinessProbe: {{exec: {{command: [\"{code}\"]}}, periodSeconds: 1, timeoutSeconds: 5}}
"
        )
    };
    kubectl.apply(&command("good", 0))?;
    kubectl.apply(&command("bad", 3))?;
    kubectl.sh("wait pod/good --for=condition=Ready --timeout=30s")?;
    described(&kubectl, "bad", &["Readiness probe failed:"])?;
    assert_eq!(status(&kubectl, "bad")?["ready"], false);
    Ok(())
}

#[test]
fn hooks_run_after_the_start_and_before_the_end() -> anyhow::Result<()> {
    let kubectl = namespace("hooks")?;
    pod(&kubectl, "witness", "")?;
    let witness = url(&kubectl, "witness");
    let address = witness.trim_start_matches("http://").trim_end_matches(":8080");
    pod(
        &kubectl,
        "hooked",
        &format!(
            "    lifecycle:
      postStart: {{httpGet: {{path: /write/v/hello, port: 8080}}}}
      preStop: {{httpGet: {{host: {address}, path: /write/v/bye, port: 8080}}}}"
        ),
    )?;
    kubectl.sh("wait pod/hooked --for=condition=Ready --timeout=30s")?;
    assert_eq!(http_get(&format!("{}/v/hello", url(&kubectl, "hooked")))?.0, 200);
    assert_eq!(http_get(&format!("{witness}/v/bye"))?.0, 404);
    kubectl.sh("delete pod hooked --timeout=20s")?;
    assert_eq!(http_get(&format!("{witness}/v/bye"))?.0, 200);
    // A handler has no program to run.
    pod(&kubectl, "failing", "    lifecycle: {postStart: {exec: {command: [x]}}}")?;
    described(&kubectl, "failing", &["FailedPostStartHook", "PostStartHook failed"])
}

#[test]
fn a_pod_knows_its_names() -> anyhow::Result<()> {
    let kubectl = namespace("names")?;
    let image = "windlass.dev/test/http-caller:1";
    import(shared(), image, "http-caller")?;
    pod(&kubectl, "server", "")?;
    let server = url(&kubectl, "server");
    let address = server.trim_start_matches("http://").trim_end_matches(":8080");
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: caller}}
spec:
  hostname: desk
  hostAliases: [{{ip: {address}, hostnames: [backend, backend.example]}}]
  containers: [{{name: main, image: {image}}}]
"
    ))?;
    let caller = url(&kubectl, "caller");
    for host in ["backend", "backend.example"] {
        let (code, body) = http_get(&format!("{caller}/?url=http://{host}:8080/env"))?;
        assert!(code == 200 && body.contains("HOSTNAME=server\n"), "{host}: {code} {body}");
    }
    let (code, body) = http_get(&format!("{caller}/?url=http://desk:8080/"))?;
    // It calls itself, and there with no URL.
    assert!(code == 502 && body.contains("HttpRequestUriInvalid"), "{code} {body}");
    Ok(())
}

#[test]
fn a_guest_finds_a_token_that_the_api_server_takes() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = namespace("guest-token")?;
    let folder = "var/run/secrets/kubernetes.io/serviceaccount";
    let trusts = format!("    env: [{{name: SSL_CERT_FILE, value: /{folder}/ca.crt}}]");
    pod(&kubectl, "holder", &trusts)?;
    let url = url(&kubectl, "holder");
    let uid = kubectl.jsonpath("pod holder", "{.metadata.uid}")?;
    let volume = |name: &str| {
        let name = kubectl.jsonpath("pod holder", name).unwrap_or_default();
        cluster.data_dir().join("node/volumes").join(&uid).join("volumes").join(name)
    };
    let (empty, token) = ("{.spec.volumes[0].name}", "{.spec.volumes[1].name}");
    assert!(volume(empty).is_dir(), "volumes are where this test looks");
    assert!(!volume(token).exists(), "nobody has called the pod yet");
    // The guest itself calls the API server.
    let maps = format!("{url}/api/v1/namespaces/guest-token/configmaps");
    let (code, said) = http_get(&maps)?;
    let who = "User \\\"system:serviceaccount:guest-token:default\\\" cannot list";
    assert!(code == 403 && said.contains(who), "{code} {said}");
    kubectl.sh("create role reader --verb=list --resource=configmaps")?;
    let account = "--serviceaccount=guest-token:default";
    kubectl.run(&["create", "rolebinding", "reader", "--role=reader", account])?;
    let (code, said) = http_get(&maps)?;
    assert!(code == 200 && said.contains("kube-root-ca.crt"), "{code} {said}");
    let (code, token) = http_get(&format!("{url}/{folder}/token"))?;
    assert_eq!(code, 200, "{token}");
    let (_, namespace) = http_get(&format!("{url}/{folder}/namespace"))?;
    assert_eq!(namespace, "guest-token");
    let (_, ca) = http_get(&format!("{url}/{folder}/ca.crt"))?;
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"), "{ca}");
    let server = format!("https://127.0.0.1:{}", cluster.port());
    let (ok, who) = with_token(&kubectl, &server, &token, &["auth", "whoami", "-o", "json"]);
    assert!(ok, "{who}");
    let user = &serde_json::from_str::<Value>(&who)?["status"]["userInfo"];
    assert_eq!(user["username"], "system:serviceaccount:guest-token:default");
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"][0], "holder");
    kubectl.sh("patch serviceaccount default -p {\"automountServiceAccountToken\":false}")?;
    pod(&kubectl, "without", "")?;
    let volumes = kubectl.jsonpath("pod without", "{.spec.volumes[*].name}")?;
    assert_eq!(volumes, "v");
    kubectl.sh("delete pod holder --timeout=20s")?;
    let (ok, said) = with_token(&kubectl, &server, &token, &["auth", "whoami"]);
    assert!(!ok, "a token ends with its pod: {said}");
    Ok(())
}
