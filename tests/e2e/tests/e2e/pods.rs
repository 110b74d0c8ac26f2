//! What pods do: handlers that trap, commands that end, limits that hold, services that call each
//! other, and what the API's other verbs make of them.

use anyhow::Context;
use windlass_tests_e2e::{Cluster, Kubectl, first_answer, guest, http_get, wait_for};

use crate::shared;

/// A Deployment of one handler, with a Service on port 8080.
fn handler(name: &str, image: &str, annotations: &str, limits: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata:
      labels: {{app: {name}}}
      annotations: {{{annotations}}}
    spec:
      containers:
      - name: main
        image: {image}
        resources: {{limits: {{{limits}}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{port: 8080}}]
"
    )
}

pub fn deploy(
    cluster: &Cluster,
    kubectl: &Kubectl,
    name: &str,
    guest_name: &str,
    annotations: &str,
    limits: &str,
) -> anyhow::Result<String> {
    let image = format!("windlass.dev/test/{guest_name}:1");
    import(cluster, &image, guest_name)?;
    kubectl.apply(&handler(name, &image, annotations, limits))?;
    kubectl.run(&["rollout", "status", &format!("deployment/{name}"), "--timeout=60s"])?;
    let address = kubectl.jsonpath(&format!("service {name}"), "{.spec.clusterIP}")?;
    let url = format!("http://{address}:8080");
    first_answer(&url);
    Ok(url)
}

pub fn import(cluster: &Cluster, image: &str, guest_name: &str) -> anyhow::Result<()> {
    let file = guest(guest_name)?;
    cluster.windlass(&["image", "import", image, file.to_str().context("a path in UTF-8")?])?;
    Ok(())
}

#[test]
fn a_trap_fails_only_its_own_request() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("traps")?;
    let url = deploy(cluster, &kubectl, "traps", "http-traps", "", "")?;
    let slow = {
        let url = format!("{url}/slow?ms=1000");
        std::thread::spawn(move || http_get(&url))
    };
    for _ in 0..5 {
        assert_eq!(http_get(&format!("{url}/trap"))?.0, 500);
        assert_eq!(http_get(&format!("{url}/"))?.0, 200);
    }
    assert_eq!(slow.join().expect("the slow client ends")?.0, 200);
    let path = "{range .items[?(@.reason==\"TrappedRequests\")]}{.count} {.message}{\"\\n\"}{end}";
    wait_for("one event counts the five traps", 30, || {
        let events = kubectl.jsonpath("events", path).ok()?;
        assert!(events.lines().count() <= 1, "more than one event: {events}");
        events.starts_with("5 ").then_some(())
    });
    assert_eq!(
        kubectl.jsonpath(
            "pods -l app=traps",
            "{.items[0].status.containerStatuses[0].restartCount}"
        )?,
        "0"
    );
    Ok(())
}

#[test]
fn a_trap_restarts_the_container_where_that_is_asked_for() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("trap-restart")?;
    let url =
        deploy(cluster, &kubectl, "traps", "http-traps", "windlass.dev/on-trap: restart", "")?;
    assert_eq!(http_get(&format!("{url}/trap"))?.0, 500);
    let start = std::time::Instant::now();
    wait_for("it serves again", 5, || http_get(&url).ok().filter(|(code, _)| *code == 200));
    assert!(start.elapsed().as_millis() < 1000, "it took {:?}", start.elapsed());
    wait_for("the restart is counted", 10, || {
        let count = kubectl
            .jsonpath("pods -l app=traps", "{.items[0].status.containerStatuses[0].restartCount}")
            .ok()?;
        (count == "1").then_some(())
    });
    Ok(())
}

#[test]
fn a_command_ends_with_its_exit_code_and_its_log() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(30)?.in_new_namespace("commands")?;
    import(cluster, "windlass.dev/test/command-exit:1", "command-exit")?;
    kubectl.sh("create configmap settings --from-literal=greeting=hello-from-configmap")?;
    kubectl.sh("create secret generic keys --from-literal=token=hello-from-secret")?;
    kubectl.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: once, labels: {app: once}}
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: windlass.dev/test/command-exit:1
    args: [\"3\", \"$(PLAIN)-expanded\"]
    env:
    - {name: PLAIN, value: plain}
    - {name: GREETING, valueFrom: {configMapKeyRef: {name: settings, key: greeting}}}
    - {name: TOKEN, valueFrom: {secretKeyRef: {name: keys, key: token}}}
    - {name: MY_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
    - {name: MY_LABEL, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['app']\"}}}
",
    )?;
    kubectl.sh("wait pod/once --for=jsonpath={.status.phase}=Failed --timeout=30s")?;
    let exit =
        kubectl.jsonpath("pod once", "{.status.containerStatuses[0].state.terminated.exitCode}")?;
    assert_eq!(exit, "3");
    let log = kubectl.sh("logs once")?;
    for word in [
        "plain-expanded",
        "GREETING=hello-from-configmap",
        "TOKEN=hello-from-secret",
        "MY_NAME=once",
        "MY_LABEL=once",
    ] {
        assert!(log.contains(word), "no {word} in:\n{log}");
    }
    let table = kubectl.sh("get pod once")?;
    assert!(table.contains("Error") && table.contains("0/1"), "{table}");
    Ok(())
}

#[test]
fn a_guest_past_its_memory_limit_is_contained() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("memory")?;
    let url = deploy(cluster, &kubectl, "memory", "http-memory", "", "memory: 64Mi")?;
    assert_eq!(http_get(&format!("{url}/grow?mib=16"))?.0, 200);
    let (code, _) = http_get(&format!("{url}/grow?mib=200"))?;
    assert_eq!(code, 500, "an allocation of 200 MiB under a limit of 64 MiB");
    assert_eq!(http_get(&format!("{url}/grow?mib=16"))?.0, 200);
    Ok(())
}

#[test]
fn a_guest_calls_another_service_by_its_name() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("calls")?;
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("rollout status deployment/hello --timeout=30s")?;
    let url = deploy(cluster, &kubectl, "caller", "http-caller", "", "")?;
    for host in ["hello", "hello.calls", "hello.calls.svc.cluster.local"] {
        let (code, body) = http_get(&format!("{url}/?url=http://{host}:8080/"))?;
        assert_eq!(code, 200, "{host}: {body}");
        assert!(body.contains("v1"), "{host}: {body}");
    }
    let (code, body) =
        http_get(&format!("{url}/?url=http://nowhere.calls.svc.cluster.local:8080/"))?;
    assert_eq!(code, 502, "{body}");
    Ok(())
}

#[test]
fn current_kubectl_creates_every_kind_it_knows_by_protobuf() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("protobuf")?;
    for command in [
        "create configmap c --from-literal=a=b",
        "create secret generic s --from-literal=a=b",
        "create serviceaccount sa",
        "create deployment d --image=windlass.dev/hello:v1 --replicas=2",
        "create service clusterip svc --tcp=80:8080",
        "create role r --verb=get,list --resource=pods,configmaps",
        "create rolebinding rb --role=r --serviceaccount=protobuf:sa",
        "create clusterrole protobuf-cr --verb=get --resource=nodes",
        "create clusterrolebinding protobuf-crb --clusterrole=protobuf-cr --serviceaccount=protobuf:sa",
    ] {
        let printed = kubectl.sh(command)?;
        assert!(printed.contains("created"), "{command}: {printed}");
    }
    assert_eq!(kubectl.jsonpath("configmap c", "{.data.a}")?, "b");
    kubectl.sh("rollout status deployment/d --timeout=30s")?;
    assert_eq!(kubectl.jsonpath("deployment d", "{.spec.template.spec.restartPolicy}")?, "Always");
    Ok(())
}

#[test]
fn patches_labels_and_replace_work() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("patches")?;
    kubectl.sh("create deployment d --image=windlass.dev/hello:v1")?;
    kubectl.sh("label deployment d tier=web")?;
    kubectl.sh("annotate deployment d note=yes")?;
    kubectl.sh("set env deployment/d COLOUR=green")?;
    assert_eq!(
        kubectl.jsonpath("deployment d", "{.spec.template.spec.containers[0].env[0].value}")?,
        "green"
    );
    kubectl.run(&[
        "patch",
        "deployment",
        "d",
        "--type=json",
        "-p",
        r#"[{"op":"replace","path":"/spec/replicas","value":2}]"#,
    ])?;
    kubectl.run(&[
        "patch",
        "deployment",
        "d",
        "--type=merge",
        "-p",
        r#"{"metadata":{"labels":{"tier":null}}}"#,
    ])?;
    kubectl.run(&["patch", "deployment", "d", "-p", r#"{"spec":{"template":{"spec":{"containers":[{"name":"hello","imagePullPolicy":"Never"}]}}}}"#])?;
    assert_eq!(kubectl.jsonpath("deployment d", "{.spec.replicas} {.metadata.labels.tier} {.spec.template.spec.containers[*].name} {.spec.template.spec.containers[0].imagePullPolicy}")?, "2  hello Never");
    let object = kubectl.sh("get deployment d -o json")?;
    let replaced = kubectl.output(&["replace", "-f", "-"], &object)?;
    assert!(replaced.success || replaced.stderr.contains("Conflict"), "{replaced:?}");
    kubectl.sh("rollout status deployment/d --timeout=30s")?;
    Ok(())
}

#[test]
fn dependents_go_with_their_owner_and_namespaces_with_their_content() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("collected")?;
    kubectl.sh("create deployment d --image=windlass.dev/hello:v1 --replicas=3")?;
    kubectl.sh("rollout status deployment/d --timeout=30s")?;
    kubectl.sh("delete deployment d")?;
    wait_for("replica sets and pods are collected", 30, || {
        kubectl.sh("get replicasets,pods -o name").ok().filter(|names| names.trim().is_empty())
    });
    kubectl.sh("create deployment e --image=windlass.dev/hello:v1 --replicas=3")?;
    kubectl.sh("delete namespace collected --timeout=60s")?;
    let gone = kubectl.output(&["get", "namespace", "collected"], "")?;
    assert!(!gone.success && gone.stderr.contains("NotFound"), "{gone:?}");
    Ok(())
}
