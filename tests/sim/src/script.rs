//! What happens in a run, as text that a person can read, write and paste: one step a line, in the
//! words of kubectl where it has one.

use std::{fmt, str::FromStr};

use windlass_sdk_meta::Rng;

/// Steps in order; `#` begins a comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script(pub Vec<Step>);

/// `name` is `namespace/name`; `image` is a tag of the simulation's images, see `runtime.rs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `wait MS`
    Wait(u64),
    /// `namespace NAME`
    Namespace(String),
    /// `deploy NAME REPLICAS IMAGE`
    Deploy { name: String, replicas: i64, image: String },
    /// `scale NAME REPLICAS`
    Scale { name: String, replicas: i64 },
    /// `image NAME IMAGE`: a rolling update.
    Image { name: String, image: String },
    /// `expose NAME`: a Service of the Deployment's name, for its pods.
    Expose(String),
    /// `pod NAME IMAGE`: without owner, restartPolicy OnFailure.
    Pod { name: String, image: String },
    /// `delete KIND NAME [POLICY]`
    Delete { kind: String, name: String, policy: String },
    /// `cordon NODE`, `uncordon NODE`
    Cordon { node: String, on: bool },
    /// `stop NODE`: the agent is asked to end; its containers finish and end with it.
    Stop(String),
    /// `kill NODE`: agent and containers die together, as the WASM runtime does.
    Kill(String),
    /// `detach NODE`: the agent dies, its containers go on, as Docker's do.
    Detach(String),
    /// `start NODE`: an agent that is away comes back.
    Start(String),
    /// `restart server`, `restart scheduler`, `restart controllers`
    Restart(String),
}

impl FromStr for Script {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        let steps = lines.filter(|line| !line.is_empty()).map(|line| {
            parse(line).ok_or_else(|| format!("the simulation doesn't understand {line:?}"))
        });
        steps.collect::<Result<_, _>>().map(Self)
    }
}

fn parse(line: &str) -> Option<Step> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let own = |word: &&str| (*word).to_owned();
    Some(match &words[..] {
        ["wait", ms] => Step::Wait(ms.parse().ok()?),
        ["namespace", name] => Step::Namespace(own(name)),
        ["deploy", name, replicas, image] => {
            Step::Deploy { name: own(name), replicas: replicas.parse().ok()?, image: own(image) }
        }
        ["scale", name, replicas] => {
            Step::Scale { name: own(name), replicas: replicas.parse().ok()? }
        }
        ["image", name, image] => Step::Image { name: own(name), image: own(image) },
        ["expose", name] => Step::Expose(own(name)),
        ["pod", name, image] => Step::Pod { name: own(name), image: own(image) },
        ["delete", kind, name] => {
            Step::Delete { kind: own(kind), name: own(name), policy: "Background".into() }
        }
        ["delete", kind, name, policy] => {
            Step::Delete { kind: own(kind), name: own(name), policy: own(policy) }
        }
        ["cordon", node] => Step::Cordon { node: own(node), on: true },
        ["uncordon", node] => Step::Cordon { node: own(node), on: false },
        ["stop", node] => Step::Stop(own(node)),
        ["kill", node] => Step::Kill(own(node)),
        ["detach", node] => Step::Detach(own(node)),
        ["start", node] => Step::Start(own(node)),
        ["restart", what] => Step::Restart(own(what)),
        _ => return None,
    })
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(ms) => write!(f, "wait {ms}"),
            Self::Namespace(name) => write!(f, "namespace {name}"),
            Self::Deploy { name, replicas, image } => write!(f, "deploy {name} {replicas} {image}"),
            Self::Scale { name, replicas } => write!(f, "scale {name} {replicas}"),
            Self::Image { name, image } => write!(f, "image {name} {image}"),
            Self::Expose(name) => write!(f, "expose {name}"),
            Self::Pod { name, image } => write!(f, "pod {name} {image}"),
            Self::Delete { kind, name, policy } => write!(f, "delete {kind} {name} {policy}"),
            Self::Cordon { node, on: true } => write!(f, "cordon {node}"),
            Self::Cordon { node, on: false } => write!(f, "uncordon {node}"),
            Self::Stop(node) => write!(f, "stop {node}"),
            Self::Kill(node) => write!(f, "kill {node}"),
            Self::Detach(node) => write!(f, "detach {node}"),
            Self::Start(node) => write!(f, "start {node}"),
            Self::Restart(what) => write!(f, "restart {what}"),
        }
    }
}

/// Steps of a generated script, waits aside.
const STEPS: usize = 9;
/// The longest wait between two of them.
const PAUSE_MS: usize = 2200;
/// Kept small, so that everything fits on the nodes.
const MOST_REPLICAS: usize = 3;
const APPS: [&str; 4] = ["default/web", "default/api", "shop/cart", "shop/pay"];
const NODES: [&str; 2] = ["node-a", "node-b"];

impl Script {
    /// Anything that may happen, in any order.
    pub fn any(rng: &Rng) -> Self {
        let mut steps = vec![Step::Namespace("shop".into())];
        let mut deployed: Vec<&str> = Vec::new();
        while steps.len() < 2 * STEPS {
            steps.push(any_step(rng, &mut deployed));
            steps.push(Step::Wait(rng.below(PAUSE_MS) as u64));
        }
        Self(steps)
    }
}

fn any_step(rng: &Rng, deployed: &mut Vec<&'static str>) -> Step {
    let pick = |from: &[&str]| from[rng.below(from.len())].to_owned();
    let image = || pick(&["v1", "v2", "v3", "flaky", "absent"]);
    let replicas = || rng.below(MOST_REPLICAS + 1) as i64;
    let fresh: Vec<&'static str> = APPS.into_iter().filter(|app| !deployed.contains(app)).collect();
    if deployed.is_empty() || (!fresh.is_empty() && rng.below(4) == 0) {
        let name = fresh[rng.below(fresh.len())];
        deployed.push(name);
        // A rollout to an image that isn't there never ends, and no step may put it right.
        return Step::Deploy { name: name.into(), replicas: 1 + replicas(), image: "v1".into() };
    }
    let name = pick(deployed);
    match rng.below(16) {
        0..3 => Step::Scale { name, replicas: replicas() },
        3..6 => Step::Image { name, image: image() },
        6..8 => Step::Expose(name),
        8 => {
            deployed.retain(|known| *known != name);
            let policy = pick(&["Background", "Foreground"]);
            Step::Delete { kind: "deployment".into(), name, policy }
        }
        9 => Step::Delete { kind: "service".into(), name, policy: "Background".into() },
        10 => Step::Pod {
            name: pick(&["default/job", "shop/job"]),
            image: pick(&["once", "v1", "flaky"]),
        },
        11 => Step::Cordon { node: pick(&NODES), on: rng.below(2) == 0 },
        12 => Step::Restart(pick(&["server", "scheduler", "controllers"])),
        13 => Step::Start(pick(&NODES)),
        _ => match rng.below(3) {
            0 => Step::Stop(pick(&NODES)),
            1 => Step::Kill(pick(&NODES)),
            _ => Step::Detach(pick(&NODES)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let rng = Rng::seeded(7);
        let script = Script::any(&rng);
        assert_eq!(script.to_string().parse(), Ok(script));
        let unknown = "scale default/web many".parse::<Script>();
        assert_eq!(
            unknown,
            Err(r#"the simulation doesn't understand "scale default/web many""#.into())
        );
    }
}
