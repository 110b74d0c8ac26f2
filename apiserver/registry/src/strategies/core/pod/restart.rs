//! Rules of how a container is restarted, resized and stopped.

use serde_json::{Value, json};

use crate::{
    cause::{Causes, Path},
    tree,
};

const POLICIES: [&str; 3] = ["Always", "Never", "OnFailure"];
const ACTIONS: [&str; 2] = ["Restart", "RestartAllContainers"];
const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;
/// Signals of Linux by name, without the real-time ones between the ends.
const SIGNALS: [&str; 36] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMIN",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];
const FROM_LAST: u8 = 14;
const FROM_FIRST: u8 = 15;

const NO_POLICY: &str = "must specify restartPolicy when restart rules are used";

/// Rules of `restartPolicy` and `restartPolicyRules`.
pub fn validate(container: &Value, path: Path<'_>, causes: &mut Causes) {
    let here = path.child("restartPolicy");
    let rules = tree::list(container, "restartPolicyRules");
    if !tree::has(container, "restartPolicy") {
        if !rules.is_empty() {
            causes.required(here, NO_POLICY);
        }
    } else if !POLICIES.contains(&tree::text(container, "restartPolicy")) {
        causes.not_supported(here, &container["restartPolicy"], &POLICIES);
    }
    let all = path.child("restartPolicyRules");
    if rules.len() > MOST_RULES {
        causes.too_many(all, rules.len(), MOST_RULES);
    }
    for (at, rule) in rules.iter().enumerate() {
        let item = all.index(at);
        if !ACTIONS.contains(&tree::text(rule, "action")) {
            causes.not_supported(item.child("action"), &rule["action"], &ACTIONS);
        }
        let (codes, here) = (&rule["exitCodes"], item.child("exitCodes"));
        if codes.is_null() {
            causes.required(here, "must be specified");
            continue;
        }
        let known = ["In", "NotIn"];
        if !known.contains(&tree::text(codes, "operator")) {
            causes.not_supported(here.child("operator"), &codes["operator"], &known);
        }
        let values = tree::list(codes, "values").len();
        if values > MOST_CODES {
            causes.too_many(here.child("values"), values, MOST_CODES);
        }
    }
}

/// The same of an init container: without a policy its rules are not looked at.
pub fn validate_init(container: &Value, path: Path<'_>, causes: &mut Causes) {
    if tree::has(container, "restartPolicy") {
        return validate(container, path, causes);
    }
    if !tree::list(container, "restartPolicyRules").is_empty() {
        causes.required(path.child("restartPolicy"), NO_POLICY);
    }
}

/// Rules of `resizePolicy`. The paths of unknown values lack the index, as upstream's.
pub fn resize(container: &Value, spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let all = tree::list(container, "resizePolicy");
    for (at, policy) in all.iter().enumerate() {
        let resource = tree::text(policy, "resourceName");
        if all[..at].iter().any(|other| tree::text(other, "resourceName") == resource) {
            causes.duplicate(path.index(at), &resource.into());
        }
        for (key, known) in [
            ("resourceName", ["cpu", "memory"]),
            ("restartPolicy", ["NotRequired", "RestartContainer"]),
        ] {
            match tree::text(policy, key) {
                "" => causes.required(path, ""),
                value if !known.contains(&value) => {
                    causes.not_supported(path, &policy[key], &known);
                }
                _ => {}
            }
        }
        let wish = tree::text(policy, "restartPolicy");
        if spec["restartPolicy"] == "Never" && wish != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            causes.invalid_text(path, wish, why);
        }
    }
}

/// Rules of `lifecycle.stopSignal`, which depend on the operating system.
pub fn stop_signal(lifecycle: &Value, spec: &Value, path: Path<'_>, causes: &mut Causes) {
    let signal = tree::text(lifecycle, "stopSignal");
    if !tree::has(lifecycle, "stopSignal") {
        return;
    }
    let known = match tree::text(&spec["os"], "name") {
        _ if !tree::has(spec, "os") => {
            let why = "may not be set for containers with empty `spec.os.name`";
            return causes.forbidden(path, why);
        }
        "windows" => vec!["SIGKILL".to_owned(), "SIGTERM".to_owned()],
        "linux" => linux_signals(),
        _ => return,
    };
    if !known.iter().any(|name| name == signal) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        causes.not_supported(path, &json!(signal), &known);
    }
}

/// Whether something starts a container again that ended with that code.
pub fn should_restart(container: &Value, spec: &Value, code: i64) -> bool {
    let policy = |of: &Value| match tree::text(of, "restartPolicy") {
        "Always" => Some(true),
        "OnFailure" => Some(code != 0),
        "Never" => Some(false),
        _ => None,
    };
    let matches = |rule: &&Value| {
        let codes = &rule["exitCodes"];
        let listed = tree::list(codes, "values").iter().any(|one| *one == code);
        match tree::text(codes, "operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    let rule = tree::list(container, "restartPolicyRules").iter().find(matches);
    let by_rule = rule.is_some_and(|rule| ACTIONS.contains(&tree::text(rule, "action")));
    by_rule || policy(container).or_else(|| policy(spec)).unwrap_or(true)
}

fn linux_signals() -> Vec<String> {
    let mut all: Vec<String> = SIGNALS.iter().map(|name| (*name).to_owned()).collect();
    all.extend((1..=FROM_LAST).map(|number| format!("SIGRTMAX-{number}")));
    all.extend((1..=FROM_FIRST).map(|number| format!("SIGRTMIN+{number}")));
    all.sort();
    all
}
