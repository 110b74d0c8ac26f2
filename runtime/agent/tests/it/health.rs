//! Probes and hooks, in virtual time.

use std::time::Duration;

use serde_json::{Value, json};
use windlass_sdk_meta::Clock;

use crate::lifecycle::{POD, VirtualClock, World, is_ready};

fn with(container: Value) -> Value {
    let mut all = json!({"name": "c", "image": "hello"});
    for (key, value) in container.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    json!({"containers": [all]})
}

fn restarts(status: &Value) -> &Value {
    &status["containerStatuses"][0]["restartCount"]
}

impl World {
    fn answers(&self, code: u16) {
        self.runtime.state.lock().expect("lock").probe_code = code;
    }

    fn asked(&self) -> Vec<String> {
        self.runtime.state.lock().expect("lock").asked.clone()
    }

    async fn until_said(&self, event: &str) {
        let said = |_: &Value| self.api.events().iter().any(|known| known == event);
        self.until(event, said).await;
    }
}

fn seconds_since(before: windlass_sdk_meta::Timestamp) -> i64 {
    VirtualClock.now().duration_since(before).as_secs()
}

#[tokio::test(start_paused = true)]
async fn a_failed_liveness_probe_restarts_the_container() {
    let world = World::new().await;
    world.create(with(json!({"livenessProbe": {"httpGet": {"port": 80, "path": "/up"},
        "periodSeconds": 2, "failureThreshold": 2, "terminationGracePeriodSeconds": 7}})));
    world.until("ready", is_ready).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.asked(), [":80/up"; 3]);
    world.answers(500);
    let before = VirtualClock.now();
    world.until("restarted", |status| restarts(status) == 1).await;
    assert!((2..=5).contains(&seconds_since(before)), "{}", seconds_since(before));
    world.answers(200);
    world
        .until_said("Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 500")
        .await;
    world.until_said("Killing: Container c failed liveness probe, will be restarted").await;
    let stops = world.runtime.state.lock().expect("lock").stops.clone();
    assert_eq!(stops, [("c".to_owned(), Duration::from_secs(7))]);
    // It ended with 0, and is started anew nevertheless; the next attempt is probed too.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let status = world.until("ready", is_ready).await;
    assert_eq!(restarts(&status), 1);
}

#[tokio::test(start_paused = true)]
async fn what_never_restarts_ends_with_its_liveness() {
    let world = World::new().await;
    let mut spec = with(json!({"livenessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1,
        "failureThreshold": 1}}));
    spec["restartPolicy"] = "Never".into();
    world.create(spec);
    world.until("ready", is_ready).await;
    world.answers(500);
    world.until("ended", |status| status["phase"] == "Succeeded").await;
    world.until_said("Killing: Container c failed liveness probe").await;
    let refused = "Unhealthy: Liveness probe failed: dial tcp: connect: connection refused";
    world.until_said(refused).await;
}

#[tokio::test(start_paused = true)]
async fn the_startup_probe_comes_first() {
    let world = World::new().await;
    world.answers(503);
    world.create(with(json!({
        "startupProbe": {"grpc": {"port": 1}, "periodSeconds": 1, "failureThreshold": 5},
        "livenessProbe": {"httpGet": {"port": 2}, "periodSeconds": 1},
        "readinessProbe": {"tcpSocket": {"port": 3}, "initialDelaySeconds": 4}})));
    world.until("running", |status| status["phase"] == "Running").await;
    let before = VirtualClock.now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = world.asked();
    assert!(asked.iter().all(|asked| asked == ":1/grpc.health.v1.Health/Check"), "{asked:?}");
    let status = &world.api.get(POD).expect("pod")["status"]["containerStatuses"][0];
    assert_eq!((&status["started"], &status["ready"]), (&json!(false), &json!(false)));
    world.answers(200);
    let status = world.until("ready", is_ready).await;
    assert_eq!(status["containerStatuses"][0]["started"], true);
    // The delay counts from the container's start, not from the end of the startup probe.
    assert!((3..=4).contains(&seconds_since(before)), "{}", seconds_since(before));
    let asked = world.asked();
    let count = |what: &str| asked.iter().filter(|asked| *asked == what).count();
    assert_eq!(count("tcp:3"), 1);
    assert!(count(":2/") >= 1 && count(":1/grpc.health.v1.Health/Check") <= 4, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_startup_probe_that_never_passes_restarts_the_container() {
    let world = World::new().await;
    world.create(with(json!({"startupProbe": {"exec": {"command": ["1", "x"]},
        "periodSeconds": 1, "failureThreshold": 3}})));
    world.until("restarted", |status| restarts(status) == 1).await;
    world.until_said("Unhealthy: Startup probe failed: ").await;
    world.until_said("Killing: Container c failed startup probe, will be restarted").await;
    let backs_off = |status: &Value| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    };
    world.until("backs off", backs_off).await;
}

#[tokio::test(start_paused = true)]
async fn a_program_that_takes_too_long_has_failed() {
    let world = World::new().await;
    world.create(with(json!({"readinessProbe": {"exec": {"command": ["forever", "x"]},
        "timeoutSeconds": 2, "periodSeconds": 5}})));
    let late = "command timed out: \"forever x\" timed out after 2s";
    world.until_said(&format!("Unhealthy: Readiness probe failed: {late}")).await;
    let status = &world.api.get(POD).expect("pod")["status"];
    assert!(!is_ready(status));
}

#[tokio::test(start_paused = true)]
async fn hooks_run_after_the_start_and_before_the_end() {
    let world = World::new().await;
    world.create(with(json!({
        "lifecycle": {"postStart": {"sleep": {"seconds": 3}}, "preStop": {"exec": {"command": ["0", "bye"]}}},
        "livenessProbe": {"httpGet": {"port": 2}}})));
    world.until("started", |_| !world.runtime.state.lock().expect("lock").started.is_empty()).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let status = &world.api.get(POD).expect("pod")["status"];
    assert_eq!(
        status["containerStatuses"][0]["state"]["waiting"]["reason"], "ContainerCreating",
        "the hook still runs"
    );
    assert_eq!(world.asked(), [""; 0], "no probe before the hook is done");
    world.until("ready", is_ready).await;
    delete(&world, 30);
    world.until("removed", |_| world.api.get(POD).is_none()).await;
    assert!(world.asked().contains(&"0 bye".to_owned()), "{:?}", world.asked());
    let state = world.runtime.state.lock().expect("lock");
    assert!(state.stops[0].1 > Duration::from_secs(28), "{:?}", state.stops);
}

#[tokio::test(start_paused = true)]
async fn a_pre_stop_hook_counts_in_the_grace_period() {
    let world = World::new().await;
    world.create(with(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 20}}}})));
    world.until("ready", is_ready).await;
    let before = VirtualClock.now();
    delete(&world, 10);
    world.until("removed", |_| world.api.get(POD).is_none()).await;
    assert!((10..=12).contains(&seconds_since(before)), "{}", seconds_since(before));
    let stops = world.runtime.state.lock().expect("lock").stops.clone();
    assert_eq!(stops, [("c".to_owned(), Duration::from_secs(2))], "a moment is left");
}

#[tokio::test(start_paused = true)]
async fn a_post_start_hook_that_fails_ends_its_container() {
    let world = World::new().await;
    world.create(with(json!({"lifecycle": {"postStart": {"exec": {"command": ["4"]}}}})));
    world.until_said("FailedPostStartHook: PostStartHook failed").await;
    world.until_said("Killing: FailedPostStartHook").await;
    world.until("restarted", |status| restarts(status) == 1).await;
    let backs_off = |status: &Value| {
        status["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    };
    world.until("backs off", backs_off).await;
}

#[tokio::test(start_paused = true)]
async fn hooks_that_hang_or_fail_dont_keep_a_pod() {
    let world = World::new().await;
    world.create(with(json!({"lifecycle": {"postStart": {"exec": {"command": ["forever"]}},
        "preStop": {"exec": {"command": ["missing"]}}}})));
    world.until("started", |_| !world.asked().is_empty()).await;
    delete(&world, 5);
    let before = VirtualClock.now();
    world.until("removed", |_| world.api.get(POD).is_none()).await;
    assert!(seconds_since(before) <= 5);
    world.until_said("FailedPreStopHook: PreStopHook failed").await;
}

fn delete(world: &World, seconds: i64) {
    world.api.change(POD, |pod| {
        let by = VirtualClock.now() + Duration::from_secs(seconds.unsigned_abs());
        pod["metadata"]["deletionTimestamp"] = windlass_sdk_meta::format_time(by).into();
        pod["metadata"]["deletionGracePeriodSeconds"] = seconds.into();
    });
}
