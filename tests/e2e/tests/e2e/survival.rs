//! It survives: stops, SIGKILL, a full disk, a neighbour cluster.

use std::{collections::BTreeSet, process::Command, time::Duration};

use anyhow::{Context, ensure};
use windlass_tests_e2e::{
    Cluster, Kubectl, Options, disk::SmallDisk, first_answer, guest, http_get, wait_for,
};

/// `nobody` on Debian.
const NOBODY: u32 = 65534;

#[test]
fn pods_addresses_and_objects_are_back_after_a_stop_and_after_sigkill() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("rollout status deployment/hello --timeout=30s")?;
    let before = identities(&kubectl)?;
    let url = format!("http://{}:8080/", kubectl.jsonpath("service hello", "{.spec.clusterIP}")?);

    let start = std::time::Instant::now();
    ensure!(cluster.stop()? == Some(0), "SIGTERM ends it cleanly");
    ensure!(start.elapsed() < Duration::from_secs(5), "it took {:?} to stop", start.elapsed());
    cluster.resume()?;
    answers_as_before(&kubectl, &url, &before)?;

    cluster.kill()?;
    cluster.resume()?;
    answers_as_before(&kubectl, &url, &before)?;
    let state = kubectl.jsonpath(
        "pods -l app=hello",
        "{.items[0].status.containerStatuses[0].lastState.terminated.reason}",
    )?;
    assert_eq!(state, "NodeRestart");
    Ok(())
}

#[test]
fn a_killed_node_is_a_reboot_for_its_pods() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    let image = "windlass.dev/test/command-exec:1";
    let file = guest("command-exec")?.display().to_string();
    cluster.windlass(&["image", "import", image, &file])?;
    let kubectl = cluster.kubectl(37)?;
    for policy in ["Always", "OnFailure", "Never"] {
        kubectl.apply(&format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {}}}
spec:
  restartPolicy: {policy}
  containers: [{{name: main, image: {image}}}]
",
            policy.to_lowercase()
        ))?;
    }
    let shown = |name: &str| {
        let path = "{.metadata.uid} {.status.podIP}";
        kubectl.jsonpath(&format!("pod {name}"), path)
    };
    for name in ["always", "onfailure", "never"] {
        kubectl.run(&["wait", &format!("pod/{name}"), "--for=condition=Ready", "--timeout=30s"])?;
    }
    let before = [shown("always")?, shown("onfailure")?];
    // The second kill comes early in a life, where a crash would back off.
    for restarts in [1, 2] {
        cluster.kill()?;
        cluster.resume()?;
        for name in ["always", "onfailure"] {
            kubectl.until(
                &format!("pod {name}"),
                "{range .status.containerStatuses[*]}{.restartCount} \
                 {.lastState.terminated.reason} {.ready} {.state.waiting.reason}{end}",
                60,
                |status| {
                    assert!(!status.contains("BackOff"), "{name}: {status}");
                    status.trim_end() == format!("{restarts} NodeRestart true")
                },
            );
        }
        assert_eq!([shown("always")?, shown("onfailure")?], before, "same pods, same addresses");
    }
    let path = "{.status.phase} {.status.containerStatuses[0].state.terminated.reason}";
    wait_for("what never restarts has failed", 10, || {
        (kubectl.jsonpath("pod never", path).ok()? == "Failed NodeRestart").then_some(())
    });
    Ok(())
}

/// Name, uid and address of every pod of the example.
fn identities(kubectl: &Kubectl) -> anyhow::Result<String> {
    kubectl.jsonpath(
        "pods -l app=hello",
        "{range .items[*]}{.metadata.name} {.metadata.uid} {.status.podIP}{\"\\n\"}{end}",
    )
}

fn answers_as_before(kubectl: &Kubectl, url: &str, before: &str) -> anyhow::Result<()> {
    wait_for("the service answers again", 20, || {
        http_get(url).ok().filter(|(code, _)| *code == 200)
    });
    assert_eq!(identities(kubectl)?, before);
    kubectl.sh("rollout status deployment/hello --timeout=30s")?;
    Ok(())
}

#[test]
fn sigkill_amid_an_apply_leaves_each_object_whole_or_absent() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    let filler = "x".repeat(1500);
    let manifests: String = (0..200)
        .map(|n| format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{n}}}\ndata: {{number: \"{n}\", filler: {filler}}}\n"))
        .collect();
    let file = cluster.data_dir().join("two-hundred.yaml");
    std::fs::write(&file, manifests)?;
    let apply =
        kubectl.spawn(&["apply", "--validate=false", "-f", file.to_str().context("UTF-8")?])?;
    wait_for("some objects are there", 60, || {
        let names = kubectl.sh("get configmaps -o name").ok()?;
        (names.lines().count() > 20).then_some(())
    });
    cluster.kill()?;
    let printed = apply.wait_with_output()?;
    let acknowledged: BTreeSet<String> = String::from_utf8_lossy(&printed.stdout)
        .lines()
        .filter_map(|line| {
            line.strip_prefix("configmap/")?.strip_suffix(" created").map(str::to_owned)
        })
        .collect();
    assert!(acknowledged.len() < 200, "the kill came too late to be in the middle");
    cluster.resume()?;
    let list: serde_json::Value = serde_json::from_str(&kubectl.sh("get configmaps -o json")?)?;
    let mut present = BTreeSet::new();
    for item in list["items"].as_array().context("a list")? {
        let name = item["metadata"]["name"].as_str().context("a name")?;
        if let Some(number) = name.strip_prefix('c').filter(|rest| rest.parse::<u32>().is_ok()) {
            assert_eq!(item["data"]["number"], *number, "{name} is torn");
            assert_eq!(item["data"]["filler"], *filler, "{name} is torn");
            present.insert(name.to_owned());
        }
    }
    let lost: Vec<_> = acknowledged.difference(&present).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    Ok(())
}

#[test]
fn two_clusters_as_root_and_as_nobody_do_not_disturb_each_other() -> anyhow::Result<()> {
    let first = Cluster::start()?;
    let second = Cluster::start_with(Options { uid: Some(NOBODY), ..Options::default() })?;
    let mut addresses = Vec::new();
    for cluster in [&first, &second] {
        let kubectl = cluster.kubectl(37)?;
        kubectl.sh("apply -f examples/hello/")?;
        kubectl.sh("rollout status deployment/hello --timeout=30s")?;
        let address = kubectl.jsonpath("service hello", "{.spec.clusterIP}")?;
        let pods = kubectl.jsonpath("pods -l app=hello", "{.items[*].status.podIP}")?;
        addresses.extend(pods.split(' ').map(str::to_owned));
        addresses.push(address);
    }
    let distinct: BTreeSet<_> = addresses.iter().collect();
    assert_eq!(distinct.len(), addresses.len(), "{addresses:?}");
    for address in &addresses {
        assert_eq!(first_answer(&format!("http://{address}:8080/")).0, 200, "{address}");
    }
    Ok(())
}

#[test]
fn a_second_cluster_on_the_same_folder_is_refused_by_name() -> anyhow::Result<()> {
    let first = Cluster::start()?;
    let output =
        Command::new(std::env::var_os("WINDLASS_BIN").context("run by `cargo xtask test`")?)
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(first.data_dir())
            .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains(&first.data_dir().display().to_string()), "{said}");
    assert_eq!(first.kubectl(37)?.sh("get --raw /readyz")?, "ok");
    Ok(())
}

#[test]
fn on_a_full_disk_writes_are_refused_and_pods_go_on() -> anyhow::Result<()> {
    let disk = SmallDisk::mount(160)?;
    let cluster = Cluster::start_with(Options {
        data_dir: Some(disk.path.join("data")),
        ..Options::default()
    })?;
    let kubectl = cluster.kubectl(37)?;
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("rollout status deployment/hello --timeout=30s")?;
    let url = format!("http://{}:8080/", kubectl.jsonpath("service hello", "{.spec.clusterIP}")?);
    first_answer(&url);
    let filler = disk.fill(40)?;
    let refused = kubectl.output(&["create", "configmap", "one-more", "--from-literal=a=b"], "")?;
    assert!(!refused.success && refused.stderr.contains("MiB"), "{refused:?}");
    assert_eq!(http_get(&url)?.0, 200);
    assert!(kubectl.sh("get pods")?.contains("Running"));
    std::fs::remove_file(&filler)?;
    kubectl.sh("create configmap one-more --from-literal=a=b")?;
    Ok(())
}
