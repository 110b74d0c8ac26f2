//! What containers use, as the engine measures it.

use bollard::{
    Docker,
    models::{ContainerMemoryStats, ContainerSummary, ContainerSummaryStateEnum},
    query_parameters::StatsOptionsBuilder,
};
use futures::StreamExt;
use windlass_runtime_api::{ContainerState, ContainerStats, RuntimeError, SandboxStats};

use crate::{labels::Role, runtime::Inner};

/// Containers that the engine is asked about at a time.
const AT_A_TIME: usize = 8;
/// A limit beyond this is the kernel's way to say that there is none.
const NO_LIMIT: u64 = 1 << 62;

impl Inner {
    /// Containers that run; none where the engine can't be asked.
    pub async fn usage(&self) -> Vec<SandboxStats> {
        let Ok(docker) = self.engine.docker() else { return Vec::new() };
        let Ok(all) = self.summaries(&docker, None).await else { return Vec::new() };
        let running = all.into_iter().filter_map(|(summary, labels)| {
            let runs = summary.state == Some(ContainerSummaryStateEnum::RUNNING);
            Some((summary.id?, labels)).filter(|_| runs)
        });
        let docker = &docker;
        let measured: Vec<_> =
            futures::stream::iter(running)
                .map(|(id, labels)| async move {
                    (self.measure(docker, &id, &labels.role).await, labels)
                })
                .buffer_unordered(AT_A_TIME)
                .collect()
                .await;
        let mut pods: Vec<SandboxStats> = Vec::new();
        for (stats, labels) in measured {
            let Some(stats) = stats else { continue };
            match pods.iter_mut().find(|pod| pod.pod_uid == labels.pod_uid) {
                Some(pod) => pod.containers.push(stats),
                None => pods.push(SandboxStats {
                    pod_uid: labels.pod_uid,
                    name: labels.pod_name,
                    namespace: labels.pod_namespace,
                    containers: vec![stats],
                }),
            }
        }
        pods
    }

    /// What the pod's containers wrote to their own file systems. The engine counts for that, so it
    /// is asked for one pod at a time.
    pub async fn written(&self, pod_uid: &str) -> Result<Vec<(String, u64)>, RuntimeError> {
        let docker = self.engine.docker()?;
        let all = self.list(&docker, Some(pod_uid), true).await?;
        let bytes = |summary: &ContainerSummary| summary.size_rw?.try_into().ok();
        let written = all.into_iter().filter_map(|(summary, labels)| match labels.role {
            Role::Container { name, .. } => Some((name, bytes(&summary)?)),
            Role::Sandbox => None,
        });
        Ok(written.collect())
    }

    async fn measure(&self, docker: &Docker, id: &str, role: &Role) -> Option<ContainerStats> {
        let Role::Container { name, attempt, .. } = role else { return None };
        let options = StatsOptionsBuilder::default().stream(false).one_shot(true).build();
        let stats = std::pin::pin!(docker.stats(id, Some(options))).next().await?.ok()?;
        let started_at = match self.seen.lock().get(id) {
            Some(ContainerState::Running { started_at }) => Some(*started_at),
            _ => None,
        };
        let memory = stats.memory_stats.unwrap_or_default();
        Some(ContainerStats {
            name: name.clone(),
            attempt: *attempt,
            started_at,
            cpu_nanos: stats.cpu_stats?.cpu_usage?.total_usage?,
            memory_bytes: working_set(&memory),
            memory_limit_bytes: memory.limit.filter(|limit| *limit < NO_LIMIT),
            instances: 1,
            ..ContainerStats::default()
        })
    }
}

/// What can't be taken back without harm: all but the files that nobody read lately. The members are
/// called differently by the two versions of the kernel's control groups.
fn working_set(memory: &ContainerMemoryStats) -> u64 {
    let stats = memory.stats.as_ref();
    let member = |name: &str| stats.and_then(|stats| stats.get(name)).copied();
    let idle = member("total_inactive_file").or(member("inactive_file")).unwrap_or_default();
    memory.usage.unwrap_or_default().saturating_sub(idle)
}
