//! A Docker engine that isn't there, comes, goes and comes back.

use windlass_tests_e2e::{
    Cluster, Options,
    docker::{Engine, docker},
    wait_for,
};

use crate::containers::{pod, ready};

#[test]
fn the_engine_comes_goes_and_comes_back() -> anyhow::Result<()> {
    let mut engine = Engine::new()?;
    let arguments = vec!["--docker-host".to_owned(), engine.host()];
    let mut cluster = Cluster::start_with(Options { arguments, ..Options::default() })?;
    let kubectl = cluster.kubectl(37)?;
    // Without an engine WASM runs as ever, and containers say what they wait for.
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("rollout status deployment/hello --timeout=60s")?;
    kubectl.apply(&pod("waits", "exec sleep 1000", "  runtimeClassName: docker\n"))?;
    kubectl.apply(&pod("unknown", "exec sleep 1000", ""))?;
    let said = |what: &str, path: &str, wanted: &str| {
        wait_for(&format!("{what} says {wanted:?}"), 60, || {
            kubectl.jsonpath(what, path).ok()?.contains(wanted).then_some(())
        });
    };
    let scheduled = "{.status.conditions[?(@.type==\"PodScheduled\")].message}";
    said("pod waits", scheduled, "no container engine (Docker) that answers");
    let waiting = "{.status.containerStatuses[0].state.waiting.message}";
    said("pod unknown", waiting, "no Docker engine answers");
    let condition = "{.items[0].status.conditions[?(@.type==\"DockerReady\")].status}";
    assert_eq!(kubectl.jsonpath("nodes", condition)?, "False");

    engine.start()?;
    ready(&kubectl, "waits")?;
    ready(&kubectl, "unknown")?;
    said("nodes", condition, "True");

    // It goes with all that runs in it: that is known when it is back.
    engine.stop()?;
    said("nodes", condition, "False");
    assert_eq!(kubectl.jsonpath("pod waits", "{.status.phase}")?, "Running");
    // A pod's object stays until its containers can be seen to be gone.
    kubectl.sh("delete pod unknown --wait=false")?;
    engine.start()?;
    let restarted =
        "{.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}";
    said("pod waits", restarted, "1 true");
    kubectl.sh("wait --for=delete pod/unknown --timeout=60s")?;

    // What a cluster leaves goes with its folder.
    cluster.stop()?;
    let folder = cluster.data_dir().display().to_string();
    cluster.windlass(&["reset", "--data-dir", &folder, "--docker-host", &engine.host()])?;
    assert_eq!(docker(&engine.host(), &["ps", "-aq"])?, "");
    Ok(())
}
