//! One run: the script under faults, then healing, then the wait for rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use http::Method;
use serde_json::Value;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    rest::{Rest, problems},
    rivals::Rival,
    runtime::ABSENT,
    script::{Script, Step},
    user::{User, Wanted},
    world::{NODES, World},
};

const RIVALS: usize = 2;
/// How long the cluster may take to come to rest once all is healed: less than a minute for
/// back-offs that grew meanwhile, and the rest is margin.
const REST_WITHIN: Duration = Duration::from_secs(180);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long it must then stay so, with nothing written but signs of life.
const QUIET: Duration = Duration::from_secs(24);

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    pub seed: u64,
    /// One line a change of the store.
    pub log: Vec<String>,
    /// Virtual time from healing to rest.
    pub rest_after: Duration,
    /// Rules that were broken on the way; then what is not at rest, if it isn't.
    pub wrong: Vec<String>,
}

/// Plays a script in a world of its own. The same seed and script give the same outcome.
/// `in_detail`: the log says what changed, for people.
pub fn run(seed: u64, script: &Script, in_detail: bool) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    match runtime {
        Ok(runtime) => runtime.block_on(play(seed, script, in_detail)),
        Err(error) => failed(seed, format!("no runtime: {error}")),
    }
}

fn failed(seed: u64, why: String) -> Outcome {
    Outcome { seed, log: Vec::new(), rest_after: Duration::ZERO, wrong: vec![why] }
}

async fn play(seed: u64, script: &Script, in_detail: bool) -> Outcome {
    let mut world = match World::new(seed, in_detail).await {
        Ok(world) => world,
        Err(why) => return failed(seed, why),
    };
    let mut rivals = JoinSet::new();
    for at in 0..RIVALS {
        let name = format!("rival-{at}");
        let (api, rng) = (world.api(&name), world.rng(&name));
        rivals.spawn(Rival { api, rng, history: world.history.clone() }.run());
    }
    let mut user =
        User { api: world.api("user"), rng: world.rng("user"), wanted: Wanted::default() };
    // A person begins when the cluster is there: a node that is killed before it ever joined would
    // be waited for in vain.
    for node in NODES {
        if let Err(why) = user.sees(&format!("/api/v1/nodes/{node}")).await {
            world.history.breaks(why);
        }
    }
    for step in &script.0 {
        if let Err(why) = take(&mut world, &mut user, step).await {
            world.history.breaks(why);
        }
    }
    drop(rivals);
    if let Err(why) = heal(&mut world, &mut user).await {
        world.history.breaks(why);
    }
    let healed = Instant::now();
    let mut wrong = until_rest(&world, &user.wanted).await;
    let rest_after = healed.elapsed();
    if wrong.is_empty() {
        wrong = stays_at_rest(&world, &user.wanted).await;
    }
    let told = NODES.iter().filter_map(|node| world.runtime(node)).flat_map(|r| r.wrongs());
    let wrong = world.history.broken().into_iter().chain(told).chain(wrong).collect();
    Outcome { seed, log: world.history.lines(), rest_after, wrong }
}

async fn take(world: &mut World, user: &mut User, step: &Step) -> Result<(), String> {
    if user.carry_out(step).await? {
        return Ok(());
    }
    match step {
        Step::Wait(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
        Step::Stop(node) => world.stop_agent(node).await,
        Step::Kill(node) => world.kill_agent(node, true),
        Step::Detach(node) => world.kill_agent(node, false),
        Step::Start(node) => world.start_agent(node),
        Step::Restart(what) => match what.as_str() {
            "server" => world.restart_server().await?,
            "scheduler" => world.start_scheduler(),
            "controllers" => world.start_controllers(),
            other => return Err(format!("the simulation restarts no {other}")),
        },
        other => return Err(format!("nobody carries out {other}")),
    }
    Ok(())
}

/// Ends faults, brings every node back, and lets the user put right what can't come to rest.
async fn heal(world: &mut World, user: &mut User) -> Result<(), String> {
    world.faults.heal();
    for node in NODES {
        world.start_agent(node);
        user.carry_out(&Step::Cordon { node: node.into(), on: false }).await?;
    }
    let deployments = user.wanted.deployments.iter();
    let broken: Vec<String> =
        deployments.filter(|(_, it)| it.image == ABSENT).map(|(name, _)| name.clone()).collect();
    for name in broken {
        user.carry_out(&Step::Image { name, image: "v1".into() }).await?;
    }
    Ok(())
}

/// Empty once all is at rest; what isn't, where it takes too long.
async fn until_rest(world: &World, wanted: &Wanted) -> Vec<String> {
    let begun = Instant::now();
    loop {
        let found = look(world, wanted);
        if found.is_empty() || begun.elapsed() > REST_WITHIN {
            return found;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn stays_at_rest(world: &World, wanted: &Wanted) -> Vec<String> {
    // Whoever still writes down that all is well may do so.
    tokio::time::sleep(QUIET / 4).await;
    let begun = Instant::now();
    tokio::time::sleep(QUIET).await;
    let mut found = look(world, wanted);
    if world.history.changed() > begun {
        let last: Vec<String> = world.history.lines().into_iter().rev().take(5).collect();
        found.push(format!("it was at rest, but something went on: {last:#?}"));
    }
    found.extend(served_as_stored(world).await);
    found
}

fn look(world: &World, wanted: &Wanted) -> Vec<String> {
    let running = NODES.iter().filter_map(|node| Some((*node, world.runtime(node)?.running())));
    let running: BTreeMap<_, _> = running.collect();
    world.history.look(|objects| problems(&Rest { objects, wanted, running }))
}

/// What a list answers is what is stored, to the revision.
async fn served_as_stored(world: &World) -> Vec<String> {
    let api = world.calm_api();
    let rows = [
        ("core/pods", "/api/v1/pods"),
        ("core/services", "/api/v1/services"),
        ("apps/deployments", "/apis/apps/v1/deployments"),
        ("apps/replicasets", "/apis/apps/v1/replicasets"),
        ("discovery.k8s.io/endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ];
    let mut found = Vec::new();
    for (resource, path) in rows {
        let stored: BTreeSet<(String, String)> = world.history.look(|objects| {
            let each = objects.under(resource, "");
            each.map(|(_, revision, object)| identity(object, revision.to_string())).collect()
        });
        let listed = match api.request(Method::GET, path, "", Vec::new()).await {
            Ok(body) => serde_json::from_slice::<Value>(&body).unwrap_or_default(),
            Err(error) => {
                found.push(format!("{path}: {error}"));
                continue;
            }
        };
        let items = listed["items"].as_array().into_iter().flatten();
        let listed: BTreeSet<(String, String)> = items
            .map(|item| {
                let version = item["metadata"]["resourceVersion"].as_str().unwrap_or_default();
                identity(item, version.to_owned())
            })
            .collect();
        if stored != listed {
            let difference: Vec<_> = stored.symmetric_difference(&listed).collect();
            found.push(format!("{path} answers something else than is stored: {difference:?}"));
        }
    }
    found
}

fn identity(object: &Value, version: String) -> (String, String) {
    (object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(), version)
}
