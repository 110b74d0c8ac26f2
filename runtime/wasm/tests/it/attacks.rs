//! What a hostile guest can do to its neighbours: each attack runs while a neighbour's answers are
//! timed, and the neighbour must not notice more than DESIGN.md allows.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::{io::AsyncWriteExt, time::Instant};
use windlass_runtime_api::{ContainerSpec, Limits, Runtime};

use crate::node::{Node, committed, guest, until};

/// Requests that are timed.
const SAMPLES: usize = 300;
/// Pause between them.
const PAUSE: Duration = Duration::from_millis(2);
/// On top of what is allowed: the tests run beside others, unoptimised.
const TOLERANCE: Duration = Duration::from_millis(25);

/// The 99th percentile of how long the neighbour takes to answer.
async fn p99(node: &Node, neighbour: &ContainerSpec) -> Duration {
    let mut took = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let began = Instant::now();
        assert_eq!(node.get(neighbour, "/").await.expect("answers").status, 200);
        took.push(began.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    took.sort();
    took[SAMPLES * 99 / 100]
}

async fn attack(paths: &[&str], at_once: usize, limits: Limits) {
    let node = Arc::new(Node::in_folder(Node::new().folder, Some(2)));
    let neighbour = node.started(node.pod("neighbour", &committed("v1"))).await;
    let mut attacker = node.pod("attacker", &guest("http-attacks"));
    attacker.limits = limits;
    let attacker = node.started(attacker).await;
    // Both are warm.
    assert_eq!(node.get(&attacker, "/").await.expect("answers").status, 200);
    let baseline = p99(&node, &neighbour).await;
    let attacks: Vec<_> = (0..at_once)
        .map(|n| {
            let (node, attacker) = (node.clone(), attacker.clone());
            let path = paths[n % paths.len()].to_string();
            tokio::spawn(async move {
                loop {
                    // It is refused, fails, or never ends.
                    let _ = node.get(&attacker, &path).await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    // The attack is under way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let attacked = p99(&node, &neighbour).await;
    println!("{paths:?} x {at_once}: p99 {baseline:?} alone, {attacked:?} attacked");
    for attack in attacks {
        attack.abort();
    }
    let allowed = (baseline * 2).max(baseline + Duration::from_millis(5)) + TOLERANCE;
    assert!(attacked <= allowed, "{paths:?}: {attacked:?}, allowed {allowed:?} after {baseline:?}");
    let began = Instant::now();
    node.runtime.remove_sandbox(&attacker.pod.uid).await.expect("the attacker is removed");
    assert!(began.elapsed() < Duration::from_secs(5), "removal took {:?}", began.elapsed());
}

fn memory(mib: u64) -> Limits {
    Limits { memory_bytes: Some(mib << 20), ..Limits::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_guest_that_spins() {
    attack(&["/spin"], 40, Limits::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_guest_that_allocates_recurses_and_opens_handles() {
    attack(&["/allocate", "/recurse", "/handles", "/head"], 4, memory(64)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_guest_that_logs_at_full_speed() {
    attack(&["/log"], 4, memory(64)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_guest_that_holds_what_it_gets() {
    attack(&["/never", "/hang"], 300, Limits::default()).await;
}

#[tokio::test]
async fn each_attack_ends_its_own_request_only() {
    let node = Node::new();
    let mut spec = node.pod("attacker", &guest("http-attacks"));
    spec.limits = memory(64);
    let spec = node.started(spec).await;
    for (path, logged) in [
        ("/allocate", "memory limit of 67108864 bytes exceeded"),
        ("/recurse", "wasm trap"),
        ("/handles", "request failed"),
        ("/requests", "request failed"),
        ("/bodies", "request failed"),
        ("/streams", "request failed"),
        ("/pollables", "request failed"),
        ("/log-unasked", "more was written than check-write permitted"),
        ("/head", "limit"),
    ] {
        let answer = node.get(&spec, path).await.expect("answers");
        if path != "/head" {
            assert_eq!(answer.status, 500, "{path}");
            until(logged, || {
                let log = std::fs::read(&spec.log_path).ok()?;
                String::from_utf8_lossy(&log).contains(logged).then_some(())
            })
            .await;
        }
        assert_eq!(node.get(&spec, "/").await.expect("answers").status, 200, "after {path}");
    }
    let stats = node.runtime.stats().await;
    let stats = &stats[0].containers[0];
    assert_eq!(stats.instances, 0);
    assert_eq!(stats.memory_bytes, 0);
    assert!(stats.traps >= 3, "{stats:?}");
}

#[tokio::test]
async fn limits_cpu_is_held() {
    let node = Node::in_folder(Node::new().folder, Some(2));
    let mut spec = node.pod("limited", &guest("http-attacks"));
    spec.limits = Limits { cpu_millis: Some(200), ..Limits::default() };
    let spec = node.started(spec).await;
    let used = || async { node.runtime.stats().await[0].containers[0].cpu_nanos };
    let spinning = join_all((0..4).map(|_| node.get(&spec, "/spin")));
    let measured = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (before, began) = (used().await, Instant::now());
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let computed = used().await - before;
        computed as f64 / began.elapsed().as_nanos() as f64
    };
    let share = tokio::select! {
        biased;
        share = measured => share,
        _ = spinning => unreachable!("they spin for ever"),
    };
    println!("share of a core at a limit of 0.2: {share:.3}");
    assert!((0.1..0.3).contains(&share), "{share}");
}

#[tokio::test]
async fn cores_are_shared_by_weight() {
    let node = Node::in_folder(Node::new().folder, Some(1));
    let mut pods = Vec::new();
    for (name, weight, spinners) in [("light", 100, 8), ("heavy", 300, 2)] {
        let mut spec = node.pod(name, &guest("http-attacks"));
        spec.limits = Limits { cpu_weight_millis: Some(weight), ..Limits::default() };
        pods.push((node.started(spec).await, spinners));
    }
    let spinning = pods.iter().flat_map(|(spec, spinners)| {
        (0..*spinners).map(|_| node.get(spec, "/spin")).collect::<Vec<_>>()
    });
    let spinning = join_all(spinning.collect::<Vec<_>>());
    let measured = async {
        // All of them spin, and what they could catch up with is used up.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let before = used(&node).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let after = used(&node).await;
        (after["heavy"] - before["heavy"]) as f64 / (after["light"] - before["light"]) as f64
    };
    let ratio = tokio::select! {
        biased;
        ratio = measured => ratio,
        _ = spinning => unreachable!("they spin for ever"),
    };
    println!("weights 300 to 100: {ratio:.2}");
    assert!((2.0..4.5).contains(&ratio), "{ratio}");
}

/// Nanoseconds of CPU by pod.
async fn used(node: &Node) -> BTreeMap<String, u64> {
    let stats = node.runtime.stats().await;
    stats.into_iter().map(|pod| (pod.name, pod.containers[0].cpu_nanos)).collect()
}

/// A guest that would compute on, but whose client doesn't read, is not polled: what others wait
/// for must not be given to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn guests_whose_clients_do_not_read_hold_no_place() {
    let node = Arc::new(Node::in_folder(Node::new().folder, Some(2)));
    let computing = node.started(node.pod("computing", &guest("http-traps"))).await;
    let attacker = node.started(node.pod("attacker", &guest("http-attacks"))).await;
    let mut unread = Vec::new();
    for n in 0..200 {
        let mut conn = node.connect(&attacker).await.expect("connects");
        conn.write_all(b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("is asked");
        unread.push(conn);
        let answered =
            tokio::time::timeout(Duration::from_secs(2), node.get(&computing, "/spin?ms=5"));
        let answered = answered.await.unwrap_or_else(|_| panic!("no answer beside {n} floods"));
        assert_eq!(answered.expect("answers").status, 200);
    }
}
