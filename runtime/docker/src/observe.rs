//! What the engine has of this node's pods. The agent decides from this, also after a restart of
//! either, so nothing here depends on what was made by whom.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bollard::{
    Docker,
    models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum},
    query_parameters::ListContainersOptionsBuilder,
};
use windlass_runtime_api::{ContainerState, ObservedContainer, ObservedSandbox, RuntimeError};
use windlass_sdk_meta::Timestamp;

use crate::{
    engine::{failed, is_not_found},
    labels::{self, Labels, Role},
    runtime::Inner,
};

/// An attempt whose program could not be started, as containerd tells it.
pub const START_ERROR: &str = "StartError";
pub const START_ERROR_CODE: i32 = 128;
const OUT_OF_MEMORY: &str = "OOMKilled";
/// The kernel tells the engine why it killed a container apart from its end, at times later.
const OUT_OF_MEMORY_WITHIN: Duration = Duration::from_millis(250);
/// The exit code of a container that was killed (SIGKILL).
const KILLED_CODE: i64 = 137;

impl Inner {
    /// The containers of one pod, or of all, with what their labels say.
    pub async fn summaries(
        &self,
        docker: &Docker,
        pod_uid: Option<&str>,
    ) -> Result<Vec<(ContainerSummary, Labels)>, RuntimeError> {
        self.list(docker, pod_uid, false).await
    }

    /// The same with what each wrote, which the engine has to count for.
    pub async fn list(
        &self,
        docker: &Docker,
        pod_uid: Option<&str>,
        sizes: bool,
    ) -> Result<Vec<(ContainerSummary, Labels)>, RuntimeError> {
        let mut wanted = vec![labels::of_node(&self.node)];
        wanted.extend(pod_uid.map(labels::of_pod));
        let filters = HashMap::from([("label".to_owned(), wanted)]);
        let options = ListContainersOptionsBuilder::default();
        let options = options.all(true).size(sizes).filters(&filters).build();
        let listed = docker.list_containers(Some(options)).await;
        let listed = listed.map_err(|error| failed("ListError", "the containers", &error))?;
        let read = |summary: ContainerSummary| {
            let labels = Labels::read(summary.labels.as_ref()?)?;
            Some((summary, labels))
        };
        Ok(listed.into_iter().filter_map(read).collect())
    }

    pub async fn observed(
        &self,
        pod_uid: Option<&str>,
    ) -> Result<Vec<ObservedSandbox>, RuntimeError> {
        let docker = self.engine.docker()?;
        let mut pods: BTreeMap<String, ObservedSandbox> = BTreeMap::new();
        for (summary, labels) in self.summaries(&docker, pod_uid).await? {
            let Some(address) = labels.address else { continue };
            let pod = pods.entry(labels.pod_uid.clone()).or_insert_with(|| ObservedSandbox {
                pod_uid: labels.pod_uid,
                name: labels.pod_name,
                namespace: labels.pod_namespace,
                address,
                containers: Vec::new(),
            });
            let Role::Container { name, attempt, log_path, tty, .. } = labels.role else {
                continue;
            };
            let newer = |known: &ObservedContainer| known.name == name && known.attempt > attempt;
            if pod.containers.iter().any(newer) {
                continue;
            }
            let id = summary.id.clone().unwrap_or_default();
            // Whoever comes back goes on with the log, also with the rest of one that has ended.
            // One that was not started yet has none, and would be taken for read to its end.
            if summary.state != Some(ContainerSummaryStateEnum::CREATED) {
                self.logs.follow(&id, &log_path, tty);
            }
            let Some(state) = self.state(&docker, &summary, &id).await? else { continue };
            pod.containers.retain(|known| known.name != name);
            pod.containers.push(ObservedContainer { name, id, attempt, state });
        }
        Ok(pods.into_values().collect())
    }

    /// None for a container that was never started, or that is just going.
    async fn state(
        &self,
        docker: &Docker,
        summary: &ContainerSummary,
        id: &str,
    ) -> Result<Option<ContainerState>, RuntimeError> {
        use ContainerSummaryStateEnum as State;
        let has_ended = match summary.state {
            Some(State::RUNNING | State::PAUSED | State::RESTARTING | State::STOPPING) => false,
            Some(State::EXITED | State::DEAD | State::CREATED) => true,
            _ => return Ok(None),
        };
        let known = self.seen.lock().get(id).cloned();
        let fits =
            |state: &ContainerState| matches!(state, ContainerState::Exited { .. }) == has_ended;
        if let Some(known) = known.filter(fits) {
            return Ok(Some(known));
        }
        let Some(mut found) = inspected(docker, id).await? else { return Ok(None) };
        if may_be_out_of_memory(&found) {
            tokio::time::sleep(OUT_OF_MEMORY_WITHIN).await;
            let Some(again) = inspected(docker, id).await? else { return Ok(None) };
            found = again;
        }
        let Some(state) = state_of(&found) else { return Ok(None) };
        // It may have ended since it was listed.
        if matches!(state, ContainerState::Exited { .. }) {
            // Who is told of an end may read the whole log.
            self.logs.settled(id).await;
        }
        self.seen.lock().insert(id.to_owned(), state.clone());
        Ok(Some(state))
    }
}

/// None: it is gone.
async fn inspected(
    docker: &Docker,
    id: &str,
) -> Result<Option<ContainerInspectResponse>, RuntimeError> {
    match docker.inspect_container(id, None).await {
        Err(error) if is_not_found(&error) => Ok(None),
        found => found.map(Some).map_err(|error| failed("ListError", "a container", &error)),
    }
}

/// It has a limit and was killed, and the engine knows of no reason.
fn may_be_out_of_memory(found: &ContainerInspectResponse) -> bool {
    let limited = found.host_config.as_ref().and_then(|host| host.memory).unwrap_or(0) > 0;
    let killed = found.state.as_ref().is_some_and(|state| {
        state.running != Some(true)
            && state.exit_code == Some(KILLED_CODE)
            && state.oom_killed != Some(true)
    });
    limited && killed
}

/// What an inspection says. None: it was made, and not started yet.
fn state_of(found: &ContainerInspectResponse) -> Option<ContainerState> {
    let state = found.state.as_ref()?;
    let time = |text: &Option<String>| {
        let at = text.as_deref()?.parse::<Timestamp>().ok()?;
        (at > Timestamp::UNIX_EPOCH).then_some(at)
    };
    let error = state.error.clone().unwrap_or_default();
    let started_at = time(&state.started_at);
    if state.running == Some(true) {
        return Some(ContainerState::Running { started_at: started_at? });
    }
    let code = state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or_default();
    let Some(started_at) = started_at else {
        let created = time(&found.created).unwrap_or(Timestamp::UNIX_EPOCH);
        return (!error.is_empty()).then(|| ContainerState::Exited {
            started_at: created,
            finished_at: created,
            exit_code: START_ERROR_CODE,
            reason: START_ERROR.to_owned(),
            message: error,
        });
    };
    let reason = if state.oom_killed == Some(true) { OUT_OF_MEMORY } else { "" };
    Some(ContainerState::Exited {
        started_at,
        finished_at: time(&state.finished_at).unwrap_or(started_at),
        exit_code: code,
        reason: reason.to_owned(),
        message: error,
    })
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(state: Value, expected: Expect) {
        let found = json!({"Created": "2026-01-01T00:00:00Z", "State": state});
        let found: ContainerInspectResponse = serde_json::from_value(found).expect("inspected");
        let shown = match state_of(&found) {
            None => "none".to_owned(),
            Some(ContainerState::Running { started_at }) => format!("running since {started_at}"),
            Some(ContainerState::Exited {
                started_at,
                finished_at,
                exit_code,
                reason,
                message,
            }) => {
                format!("{started_at} {finished_at} {exit_code} {reason:?} {message:?}")
            }
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn states() {
        let (start, end, never) =
            ("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z", "0001-01-01T00:00:00Z");
        check(
            json!({"Running": true, "StartedAt": start, "FinishedAt": never}),
            expect!["running since 2026-01-01T00:00:01Z"],
        );
        check(
            json!({"ExitCode": 3, "StartedAt": start, "FinishedAt": end}),
            expect![[r#"2026-01-01T00:00:01Z 2026-01-01T00:00:02Z 3 "" """#]],
        );
        check(
            json!({"ExitCode": 137, "OOMKilled": true, "StartedAt": start, "FinishedAt": end}),
            expect![[r#"2026-01-01T00:00:01Z 2026-01-01T00:00:02Z 137 "OOMKilled" """#]],
        );
        check(json!({"StartedAt": never, "FinishedAt": never}), expect!["none"]);
        check(
            json!({"ExitCode": 127, "Error": "no such file", "StartedAt": never}),
            expect![[
                r#"2026-01-01T00:00:00Z 2026-01-01T00:00:00Z 128 "StartError" "no such file""#
            ]],
        );
    }
}
