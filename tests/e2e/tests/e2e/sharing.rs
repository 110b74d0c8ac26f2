//! What containers share with their node and with each other: network, processes, IPC.

use windlass_tests_e2e::{docker::busybox, first_answer, wait_for};

use crate::containers::{namespace, pod, ready};

#[test]
fn a_pod_may_share_what_the_node_has() -> anyhow::Result<()> {
    let kubectl = namespace("host-shared")?;
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.apply(&pod("none", "exec sleep 1000", ""))?;
    let all = "  hostNetwork: true\n  hostPID: true\n  hostIPC: true\n";
    kubectl.apply(&pod("all", "exec sleep 1000", all))?;
    ready(&kubectl, "none")?;
    ready(&kubectl, "all")?;
    // The tests run where the engine does.
    for sort in ["net", "pid", "ipc"] {
        let link = format!("/proc/self/ns/{sort}");
        let own = std::fs::read_link(&link)?.display().to_string();
        let seen = |pod: &str| kubectl.run(&["exec", pod, "--", "readlink", &link]);
        assert_eq!(seen("all")?.trim(), own, "{sort}");
        assert_ne!(seen("none")?.trim(), own, "{sort}");
    }
    let path = "{.status.podIP} {.status.hostIP}";
    let addresses = kubectl.jsonpath("pod all", path)?;
    let (pod_ip, host_ip) = addresses.split_once(' ').unwrap_or_default();
    assert_eq!(pod_ip, host_ip);
    // The node's own way to services is its way too.
    kubectl.sh("rollout status deployment/hello --timeout=60s")?;
    let service = kubectl.jsonpath("service hello", "{.spec.clusterIP}")?;
    first_answer(&format!("http://{service}:8080/"));
    let url = format!("http://{service}:8080/");
    let said = kubectl.run(&["exec", "all", "--", "wget", "-qO-", &url])?;
    assert!(said.starts_with("Hello"), "{said}");
    Ok(())
}

#[test]
fn containers_of_a_pod_may_see_each_other_s_processes() -> anyhow::Result<()> {
    let kubectl = namespace("processes")?;
    let second = "  - name: second
    image: windlass.test/busybox:v1
    command: [sleep, '4321']
";
    let shared = format!("{second}  shareProcessNamespace: true\n");
    kubectl.apply(&pod("shared", "exec sleep 1234", &shared))?;
    kubectl.apply(&pod("apart", "exec sleep 1234", second))?;
    ready(&kubectl, "shared")?;
    ready(&kubectl, "apart")?;
    let processes = |pod: &str| kubectl.run(&["exec", pod, "-c", "main", "--", "ps", "-o", "args"]);
    let seen = processes("shared")?;
    assert!(seen.contains("sleep 4321") && seen.contains("/pause"), "{seen}");
    assert!(!processes("apart")?.contains("sleep 4321"));
    // IPC is a pod's in any case.
    let ipc = |container: &str| {
        kubectl.run(&["exec", "apart", "-c", container, "--", "readlink", "/proc/self/ns/ipc"])
    };
    assert_eq!(ipc("main")?, ipc("second")?);
    Ok(())
}

#[test]
fn a_debug_container_sees_the_processes_of_its_target() -> anyhow::Result<()> {
    let kubectl = namespace("debugged")?;
    let image = busybox()?;
    kubectl.apply(&pod("target", "exec sleep 7777", ""))?;
    ready(&kubectl, "target")?;
    for (container, target) in [("look", "--target=main"), ("alone", "")] {
        let of = format!("--container={container}");
        let image = format!("--image={image}");
        let mut words = vec!["debug", "target", &of, &image, "--attach=false"];
        words.extend((!target.is_empty()).then_some(target));
        words.extend(["--", "sh", "-c", "ps -o args; echo end; exec sleep 1000"]);
        kubectl.run(&words)?;
        let log = wait_for("it looked", 30, || {
            let log = kubectl.run(&["logs", "target", "-c", container]).ok()?;
            log.contains("end\n").then_some(log)
        });
        assert_eq!(log.contains("sleep 7777"), !target.is_empty(), "{container}: {log}");
    }
    Ok(())
}
