//! The simulation's runs. A seed that fails is printed with its script; to look at it again:
//! `SIM_SEED=N cargo test -p windlass-tests-sim one_seed -- --nocapture`.

use std::{
    env,
    fmt::Write as _,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use windlass_sdk_meta::Rng;
use windlass_tests_sim::{Outcome, Script, run};

const SEEDS: u64 = 100;

/// A release: two apps, one grows and changes while both nodes come and go.
const ROLLOUT: &str = "
    deploy default/web 2 v1
    expose default/web
    wait 2500
    image default/web v2
    wait 700
    detach node-a
    scale default/web 4
    wait 1500
    image default/web v3
    start node-a
    wait 1200
    kill node-b
    wait 400
    restart controllers
    scale default/web 3
    wait 2000
    start node-b
    wait 1000
";

/// A namespace that is filled and goes while its node is away.
const NAMESPACE: &str = "
    namespace shop
    deploy shop/cart 2 v1
    expose shop/cart
    pod shop/job once
    deploy default/web 1 flaky
    expose default/web
    wait 3000
    stop node-b
    delete namespace shop
    wait 2000
    image default/web v2
    wait 3000
    start node-b
    wait 500
    namespace shop
    deploy shop/cart 2 v2
    expose shop/cart
    wait 1000
";

/// A bad release that is taken back, and everything restarts.
const TAKEN_BACK: &str = "
    deploy default/web 3 v1
    deploy default/api 1 v1
    expose default/web
    expose default/api
    wait 2000
    image default/web absent
    wait 1500
    restart server
    wait 1500
    image default/web v1
    restart scheduler
    wait 300
    delete deployment default/api Foreground
    wait 800
    restart server
    deploy default/api 1 v2
    cordon node-a
    wait 1000
    kill node-b
    start node-b
    scale default/web 0
    wait 900
    scale default/web 2
    uncordon node-a
    wait 400
";

/// Every fourth seed plays each of these, every fourth something that it draws itself.
fn script(seed: u64) -> Script {
    let texts = [ROLLOUT, NAMESPACE, TAKEN_BACK];
    match texts.get((seed % 4) as usize) {
        Some(text) => text.parse().expect("the scripts above are right"),
        None => Script::any(&Rng::seeded(seed)),
    }
}

/// What a person needs to know of a run that went wrong.
fn told(outcome: &Outcome) -> Option<String> {
    if outcome.wrong.is_empty() {
        return None;
    }
    let mut out = format!("seed {}, {} changes\n", outcome.seed, outcome.log.len());
    for wrong in outcome.wrong.iter().take(12) {
        writeln!(out, "  {wrong}").expect("a string takes it");
    }
    Some(out + &script(outcome.seed).to_string().replace('\n', "; ") + "\n")
}

#[test]
fn one_seed_is_one_history() {
    for seed in [3, 4, 5, 6] {
        let (first, second) = (run(seed, &script(seed), false), run(seed, &script(seed), false));
        let differs = first.log.iter().zip(&second.log).position(|(a, b)| a != b);
        if let Some(at) = differs {
            let from = at.saturating_sub(5);
            let part = |log: &[String]| log[from..log.len().min(at + 5)].join("\n");
            panic!("seed {seed}: line {at}\n{}\n\n{}", part(&first.log), part(&second.log));
        }
        assert_eq!(first.log.len(), second.log.len(), "seed {seed}");
        assert_eq!(first.wrong, second.wrong, "seed {seed}");
        assert!(first.log.len() > 200, "seed {seed}: only {} changes", first.log.len());
    }
}

#[test]
fn a_hundred_seeds_come_to_rest() {
    let (next, failures) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let longest = Mutex::new(Duration::ZERO);
    // Each world is on one thread; worlds know nothing of each other.
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= SEEDS {
                        return;
                    }
                    let outcome = run(seed, &script(seed), false);
                    let mut longest = longest.lock().expect("nobody panics with it");
                    *longest = outcome.rest_after.max(*longest);
                    failures.lock().expect("nobody panics with it").extend(told(&outcome));
                }
            });
        }
    });
    let failures = failures.into_inner().expect("nobody panics with it");
    println!("the longest way to rest took {:?} of virtual time", longest.into_inner());
    assert!(failures.is_empty(), "{} seeds failed\n{}", failures.len(), failures.join("\n"));
}

/// For people: the history of `SIM_SEED`, with what the components say on `RUST_LOG`'s level.
#[test]
fn one_seed() {
    let Some(seed) = env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) else { return };
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .init();
    let outcome = run(seed, &script(seed), true);
    outcome.log.iter().for_each(|line| println!("{line}"));
    println!("at rest after {:?}", outcome.rest_after);
    if let Some(told) = told(&outcome) {
        panic!("{told}");
    }
}
