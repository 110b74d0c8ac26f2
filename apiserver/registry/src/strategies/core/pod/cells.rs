//! What `kubectl get pods` shows. The status column is one word for the whole pod, found from what
//! its containers say, in upstream's order of precedence.

use serde_json::Value;
use windlass_sdk_meta::{Timestamp, parse_time};

use crate::{
    table::{Cells, age, human_duration, name},
    tree,
};

pub fn cells(pod: &Value, now: Timestamp) -> Cells {
    let summary = Summary::of(pod);
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let or_none = |text: &str| Value::from(if text.is_empty() { "<none>" } else { text });
    let address = tree::list(status, "podIPs").first().map_or("", |first| tree::text(first, "ip"));
    vec![
        name(pod),
        Value::from(format!("{}/{}", summary.ready, summary.total)),
        Value::from(summary.reason),
        Value::from(summary.restarts.text(now)),
        age(pod, now),
        or_none(address),
        or_none(tree::text(spec, "nodeName")),
        or_none(tree::text(status, "nominatedNodeName")),
        readiness_gates(pod),
    ]
}

struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: Restarts,
}

/// How often containers were restarted, and when last.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += tree::number(container, "restartCount").unwrap_or(0);
        let finished = &container["lastState"]["terminated"]["finishedAt"];
        self.last = self.last.max(finished.as_str().and_then(parse_time));
    }

    fn text(&self, now: Timestamp) -> String {
        match self.last {
            Some(last) if self.count != 0 => {
                let ago = human_duration(now.as_second() - last.as_second());
                format!("{} ({ago} ago)", self.count)
            }
            _ => self.count.to_string(),
        }
    }
}

impl Summary {
    fn of(pod: &Value) -> Self {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let init = tree::list(spec, "initContainers");
        let sidecars =
            init.iter().filter(|one| tree::text(one, "restartPolicy") == "Always").count();
        let mut summary = Self {
            reason: first_reason(status),
            ready: 0,
            total: tree::list(spec, "containers").len() + sidecars,
            restarts: Restarts::default(),
        };
        let sidecar_restarts = summary.initialize(init, status);
        if let Some(restarts) = sidecar_restarts {
            summary.restarts = restarts;
            summary.run(status);
        }
        let deleting = tree::has(&pod["metadata"], "deletionTimestamp");
        let phase = tree::text(status, "phase");
        if deleting && tree::text(status, "reason") == "NodeLost" {
            summary.reason = "Unknown".to_owned();
        } else if deleting && phase != "Failed" && phase != "Succeeded" {
            summary.reason = "Terminating".to_owned();
        }
        summary
    }

    /// Looks at the init containers. None while one of them is what the pod waits for; else the
    /// restarts of those that run on.
    fn initialize(&mut self, init: &[Value], status: &Value) -> Option<Restarts> {
        let mut sidecars = Restarts::default();
        for (at, container) in tree::list(status, "initContainerStatuses").iter().enumerate() {
            let runs_on = init.iter().any(|one| {
                one["name"] == container["name"] && tree::text(one, "restartPolicy") == "Always"
            });
            self.restarts.add(container);
            if runs_on {
                sidecars.add(container);
            }
            let (ended, waiting) =
                (&container["state"]["terminated"], &container["state"]["waiting"]);
            if ended.is_object() && exit_code(ended) == 0 {
                continue;
            }
            if runs_on && tree::flag(container, "started") {
                self.ready += usize::from(tree::flag(container, "ready"));
                continue;
            }
            let waits_for = tree::text(waiting, "reason");
            self.reason = if ended.is_object() {
                format!("Init:{}", end_reason(ended))
            } else if !waits_for.is_empty() && waits_for != "PodInitializing" {
                format!("Init:{waits_for}")
            } else {
                format!("Init:{at}/{}", init.len())
            };
            return has_condition(status, "Initialized").then_some(sidecars);
        }
        Some(sidecars)
    }

    fn run(&mut self, status: &Value) {
        let mut running = false;
        let mut error = None;
        for container in tree::list(status, "containerStatuses").iter().rev() {
            self.restarts.add(container);
            let state = &container["state"];
            let waits_for = tree::text(&state["waiting"], "reason");
            let ended = &state["terminated"];
            if !waits_for.is_empty() {
                self.reason = waits_for.to_owned();
            } else if ended.is_object() {
                self.reason = end_reason(ended);
                if exit_code(ended) != 0 {
                    error = Some(self.reason.clone());
                }
            } else if tree::flag(container, "ready") && state["running"].is_object() {
                running = true;
                self.ready += 1;
            }
        }
        if self.reason == "Completed" {
            if running && has_condition(status, "Ready") {
                self.reason = "Running".to_owned();
            } else if let Some(error) = error {
                self.reason = error;
            } else if running {
                self.reason = "NotReady".to_owned();
            }
        }
    }
}

/// The phase, unless the pod says something more particular of itself.
fn first_reason(status: &Value) -> String {
    let conditions = tree::list(status, "conditions");
    let gated = |one: &Value| one["type"] == "PodScheduled" && one["reason"] == "SchedulingGated";
    if conditions.iter().any(gated) {
        return "SchedulingGated".to_owned();
    }
    match tree::text(status, "reason") {
        "" => tree::text(status, "phase").to_owned(),
        reason => reason.to_owned(),
    }
}

fn exit_code(ended: &Value) -> i64 {
    tree::number(ended, "exitCode").unwrap_or(0)
}

fn end_reason(ended: &Value) -> String {
    match (tree::text(ended, "reason"), tree::number(ended, "signal").unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", exit_code(ended)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn has_condition(status: &Value, kind: &str) -> bool {
    let conditions = tree::list(status, "conditions");
    conditions.iter().any(|one| one["type"] == kind && one["status"] == "True")
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = tree::list(&pod["spec"], "readinessGates");
    if gates.is_empty() {
        return Value::from("<none>");
    }
    let open = gates
        .iter()
        .filter(|gate| has_condition(&pod["status"], tree::text(gate, "conditionType")))
        .count();
    Value::from(format!("{open}/{}", gates.len()))
}
