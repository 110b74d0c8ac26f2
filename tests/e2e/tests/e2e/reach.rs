//! Which hosts pods may call: annotations of the pod and of its namespace, and what a denial looks
//! like to the people who own it.

use anyhow::Context;
use windlass_tests_e2e::{Kubectl, first_answer, guest, http_get, wait_for};

use crate::shared;

const IMAGE: &str = "windlass.dev/test/http-caller:1";

/// A pod that calls what it is asked to, and its address once it is Ready.
fn caller(kubectl: &Kubectl, name: &str, annotations: &str) -> anyhow::Result<String> {
    kubectl.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata:
  name: {name}
  annotations: {{{annotations}}}
spec:
  containers:
  - name: main
    image: {IMAGE}
"
    ))?;
    kubectl.sh(&format!("wait pod/{name} --for=condition=Ready --timeout=60s"))?;
    kubectl.jsonpath(&format!("pod {name}"), "{.status.podIP}")
}

fn call(address: &str, url: &str) -> anyhow::Result<(u16, String)> {
    http_get(&format!("http://{address}:8080/?url={url}"))
}

#[test]
fn allowed_hosts_narrow_what_a_pod_may_call() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("reach")?;
    let file = guest("http-caller")?;
    cluster.windlass(&["image", "import", IMAGE, file.to_str().context("a path in UTF-8")?])?;
    kubectl.sh("create deployment hello --image=windlass.dev/hello:v1")?;
    kubectl.sh("expose deployment hello --port=8080")?;
    kubectl.run(&["rollout", "status", "deployment/hello", "--timeout=60s"])?;
    let service = kubectl.jsonpath("service hello", "{.spec.clusterIP}")?;
    first_answer(&format!("http://{service}:8080"));

    let open = caller(&kubectl, "open", "")?;
    let named = caller(&kubectl, "named", "windlass.dev/allowed-hosts: 'a.example, hello:8080'")?;
    let denied = caller(&kubectl, "denied", "windlass.dev/allowed-hosts: 'a.example, hello:81'")?;
    for url in ["http://hello:8080/", "http://hello.reach.svc.cluster.local:8080/"] {
        for address in [&open, &named] {
            let (status, body) = call(address, url)?;
            assert!(status == 200 && body.contains("Hello from Windlass"), "{url}: {body}");
        }
        let (status, body) = call(&denied, url)?;
        assert!(status == 502 && body.contains("DestinationIpProhibited"), "{url}: {body}");
    }
    // What no pod may reach, with whatever annotation.
    for url in ["http://169.254.169.254/", "http://127.0.0.2:6443/"] {
        assert!(call(&open, url)?.1.contains("DestinationIpProhibited"), "{url}");
    }

    let path = "{range .items[?(@.reason==\"HostDenied\")]}{.involvedObject.name}: {.message}{\"\\n\"}{end}";
    let rule = "annotation windlass.dev/allowed-hosts of the pod doesn't name it";
    let line = format!("denied: hello ({service}:8080) is not reachable for pods: {rule}");
    wait_for("an event names the host and the rule", 30, || {
        let events = kubectl.jsonpath("events", path).ok()?;
        events.lines().any(|event| event == line).then_some(())
    });
    let log = kubectl.sh("logs denied")?;
    assert!(log.contains(rule), "{log}");

    // The namespace's owner narrows all of its pods; both must allow.
    kubectl.run(&[
        "annotate",
        "namespace",
        "reach",
        "windlass.dev/allowed-hosts=*.svc.cluster.local",
    ])?;
    let within = caller(&kubectl, "within", "windlass.dev/allowed-hosts: '*'")?;
    assert_eq!(call(&within, "http://hello:8080/")?.0, 200);
    let (status, body) = call(&within, "http://192.0.2.1/")?;
    assert!(status == 502 && body.contains("DestinationIpProhibited"), "{body}");
    wait_for("an event names the namespace's rule", 30, || {
        let events = kubectl.jsonpath("events", path).ok()?;
        events.contains("within: 192.0.2.1:80").then(|| {
            assert!(events.contains("allowed-hosts of namespace reach doesn't name it"));
        })
    });

    // A list that can't be read starts nothing.
    kubectl.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: wrong, annotations: \
         {{windlass.dev/allowed-hosts: 'a.example/path'}}}}, spec: {{containers: \
         [{{name: main, image: {IMAGE}}}]}}}}"
    ))?;
    wait_for("the pod says what is wrong", 30, || {
        let waiting = "{.status.containerStatuses[0].state.waiting.reason}: \
                       {.status.containerStatuses[0].state.waiting.message}";
        let said = kubectl.jsonpath("pod wrong", waiting).ok()?;
        (said.starts_with("CreateContainerConfigError") && said.contains("\"a.example/path\""))
            .then_some(())
    });
    Ok(())
}

#[test]
fn commands_of_two_pods_talk_over_sockets() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("sockets")?;
    for name in ["command-echo", "http-sockets"] {
        let (image, file) = (format!("windlass.dev/test/{name}:1"), guest(name)?);
        cluster.windlass(&[
            "image",
            "import",
            &image,
            file.to_str().context("a path in UTF-8")?,
        ])?;
    }
    kubectl.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  containers:
  - {name: tcp, image: 'windlass.dev/test/command-echo:1', args: [tcp, '0.0.0.0:7000']}
  - name: udp
    image: windlass.dev/test/command-echo:1
    args: [udp, '0.0.0.0:7000']
    ports: [{name: echo, containerPort: 7000, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports:
  - {name: tcp, port: 7, targetPort: 7000}
  - {name: udp, port: 7, targetPort: echo, protocol: UDP}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  containers:
  - {name: main, image: 'windlass.dev/test/http-sockets:1'}
",
    )?;
    kubectl.sh("wait pod/echo pod/client --for=condition=Ready --timeout=60s")?;
    let client = kubectl.jsonpath("pod client", "{.status.podIP}")?;
    let service = kubectl.jsonpath("service echo", "{.spec.clusterIP}")?;
    let ask = |path: &str| http_get(&format!("http://{client}:8080{path}"));
    assert_eq!(ask("/name?name=echo")?, (200, format!("{service}\n")));
    for path in ["tcp", "udp"] {
        wait_for("the service answers", 20, || {
            let (status, body) = ask(&format!("/{path}?to={service}:7&send=ping")).ok()?;
            (status == 200 && body.starts_with("ping|")).then_some(())
        });
    }
    Ok(())
}
