//! The sandbox of a pod: a container that does nothing but hold the namespaces which the pod's
//! containers share.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
    time::Duration,
};

use bollard::{
    Docker, body_full,
    errors::Error,
    models::{ContainerInspectResponse, ContainerSummaryStateEnum},
    query_parameters::{
        CreateContainerOptionsBuilder, CreateImageOptionsBuilder, RemoveContainerOptionsBuilder,
    },
};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::{Mutex as Gate, OwnedMutexGuard};
use windlass_runtime_api::{RuntimeError, Sandbox};

use crate::{
    create,
    engine::{failed, is_not_found, said, status},
    labels::{self, Labels, Role},
    pause,
    runtime::Inner,
};

const REASON: &str = "FailedCreatePodSandBox";
/// Containers of one pod that are removed at a time.
const REMOVALS: usize = 8;

/// Only one task at a time makes or removes what a pod has.
#[derive(Default)]
pub struct Gates(Mutex<HashMap<String, Weak<Gate<()>>>>);

impl Gates {
    pub async fn pass(&self, pod_uid: &str) -> OwnedMutexGuard<()> {
        let gate = {
            let mut gates = self.0.lock();
            gates.retain(|_, gate| gate.strong_count() > 0);
            let known = gates.get(pod_uid).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let gate = Arc::new(Gate::new(()));
                gates.insert(pod_uid.to_owned(), Arc::downgrade(&gate));
                gate
            })
        };
        gate.lock_owned().await
    }
}

impl Inner {
    /// The pod's sandbox, which runs; made, or started again, where it doesn't.
    pub async fn ensure_sandbox(&self, pod: &Arc<Sandbox>) -> Result<Made, RuntimeError> {
        let _alone = self.gates.pass(&pod.uid).await;
        let docker = self.engine.docker()?;
        let of = |error: Error| failed(REASON, "the pod's sandbox", &error);
        let name = labels::sandbox_name(pod);
        let id = match docker.inspect_container(&name, None).await {
            Ok(found) if is_running(&found) => {
                let joined = self.network.join(pod, pid_of(&found), bridge_of(&found)).await;
                self.publish_again(&docker, pod).await;
                return Ok(Made { id: found.id.unwrap_or_default(), joined });
            }
            Ok(found) => {
                let id = found.id.unwrap_or_default();
                self.end_lonely(&docker, &pod.uid).await?;
                docker.start_container(&id, None).await.map_err(of)?;
                id
            }
            Err(error) if is_not_found(&error) => self.new_sandbox(&docker, pod, &name).await?,
            Err(error) => return Err(of(error)),
        };
        let found = docker.inspect_container(&id, None).await.map_err(of)?;
        let joined = self.network.join(pod, pid_of(&found), bridge_of(&found)).await;
        Ok(Made { id, joined })
    }

    /// The namespaces of a sandbox that ended are gone: what is still in them would be alone there. It
    /// is killed, and how that ended is seen like any other end.
    async fn end_lonely(&self, docker: &Docker, pod_uid: &str) -> Result<(), RuntimeError> {
        for (summary, labels) in self.summaries(docker, Some(pod_uid)).await? {
            let runs = summary.state == Some(ContainerSummaryStateEnum::RUNNING);
            if let Some(id) = summary.id.filter(|_| runs && labels.role != Role::Sandbox) {
                self.stop_one(docker, &id, Duration::ZERO).await?;
            }
        }
        Ok(())
    }

    /// Containers that outlived the agent have their ports again.
    async fn publish_again(&self, docker: &Docker, pod: &Sandbox) {
        if !self.network.lacks_ports(&pod.uid).await {
            return;
        }
        let Ok(all) = self.summaries(docker, Some(&pod.uid)).await else { return };
        for (summary, labels) in all {
            let runs = summary.state == Some(ContainerSummaryStateEnum::RUNNING);
            if let Role::Container { name, ports, .. } = &labels.role
                && runs
            {
                self.network.publish(&pod.uid, name, ports).await;
            }
        }
    }

    /// An engine without CAP_SYS_RESOURCE can't protect a program from the kernel's choice, and says
    /// something else: what fails is tried again without.
    async fn new_sandbox(
        &self,
        docker: &Docker,
        pod: &Sandbox,
        name: &str,
    ) -> Result<String, RuntimeError> {
        let of = |error: Error| failed(REASON, "the pod's sandbox", &error);
        let least = self.least_oom_score.load(Relaxed);
        let id = self.create_sandbox(docker, pod, name, least).await?;
        let Err(error) = docker.start_container(&id, None).await else { return Ok(id) };
        self.remove_container(docker, &id).await?;
        if least >= 0 {
            return Err(of(error));
        }
        let id = self.create_sandbox(docker, pod, name, 0).await?;
        match docker.start_container(&id, None).await {
            Ok(()) => {
                self.least_oom_score.store(0, Relaxed);
                Ok(id)
            }
            Err(error) => {
                self.remove_container(docker, &id).await?;
                Err(of(error))
            }
        }
    }

    async fn create_sandbox(
        &self,
        docker: &Docker,
        pod: &Sandbox,
        name: &str,
        least_oom_score: i64,
    ) -> Result<String, RuntimeError> {
        let body = create::sandbox(&self.node, pod, least_oom_score)?;
        let options = || Some(CreateContainerOptionsBuilder::default().name(name).build());
        let of = |error: Error| failed(REASON, "the pod's sandbox", &error);
        match docker.create_container(options(), body.clone()).await {
            Ok(made) => Ok(made.id),
            // The engine has no image of it yet, or somebody removed it.
            Err(error) if is_not_found(&error) => {
                import_pause(docker).await?;
                Ok(docker.create_container(options(), body).await.map_err(of)?.id)
            }
            Err(error) => Err(of(error)),
        }
    }

    /// Ends and removes everything of a pod.
    pub async fn remove_pod(&self, pod_uid: &str) -> Result<(), RuntimeError> {
        let _alone = self.gates.pass(pod_uid).await;
        let docker = self.engine.docker()?;
        self.remove_containers(&docker, pod_uid).await?;
        self.network.leave(pod_uid).await;
        self.files.remove(pod_uid);
        Ok(())
    }

    /// Removes the pod's containers, also such that run; the sandbox last.
    async fn remove_containers(&self, docker: &Docker, pod_uid: &str) -> Result<(), RuntimeError> {
        let all = self.summaries(docker, Some(pod_uid)).await?;
        let ids = |wanted: bool| -> Vec<String> {
            let is_sandbox = |labels: &Labels| labels.role == Role::Sandbox;
            let of = all.iter().filter(|(_, labels)| is_sandbox(labels) == wanted);
            of.filter_map(|(summary, _)| summary.id.clone()).collect()
        };
        for step in [ids(false), ids(true)] {
            futures::stream::iter(step)
                .map(|id| async move { self.remove_container(docker, &id).await })
                .buffer_unordered(REMOVALS)
                .try_collect::<()>()
                .await?;
        }
        Ok(())
    }

    pub async fn remove_container(&self, docker: &Docker, id: &str) -> Result<(), RuntimeError> {
        let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
        match docker.remove_container(id, Some(options)).await {
            // 409: it is being removed already.
            Err(error) if !matches!(status(&error), Some(404 | 409)) => {
                return Err(failed("KillContainerError", "a container stays", &error));
            }
            _ => {}
        }
        self.logs.forget(id);
        self.seen.lock().remove(id);
        Ok(())
    }
}

/// A sandbox that runs.
pub struct Made {
    pub id: String,
    /// Its network is the pod's.
    pub joined: bool,
}

fn pid_of(found: &ContainerInspectResponse) -> i64 {
    found.state.as_ref().and_then(|state| state.pid).unwrap_or_default()
}

/// Its address on the engine's bridge.
fn bridge_of(found: &ContainerInspectResponse) -> Option<IpAddr> {
    let networks = found.network_settings.as_ref()?.networks.as_ref()?;
    networks.values().find_map(|network| network.ip_address.as_ref()?.parse().ok())
}

pub fn is_running(found: &ContainerInspectResponse) -> bool {
    found.state.as_ref().and_then(|state| state.running).unwrap_or_default()
}

/// Gives the engine the image of the sandboxes' program.
async fn import_pause(docker: &Docker) -> Result<(), RuntimeError> {
    let of = |why: String| RuntimeError::new(REASON, format!("the image of sandboxes: {why}"));
    let version = docker.version().await.map_err(|error| of(said(&error)))?;
    let architecture = version.arch.unwrap_or_default();
    let archive = pause::archive(&architecture)
        .ok_or_else(|| of(format!("there is no program for {architecture:?}")))?
        .map_err(|error| of(error.to_string()))?;
    let (repo, tag) = pause::IMAGE.rsplit_once(':').unwrap_or((pause::IMAGE, "latest"));
    let options = CreateImageOptionsBuilder::default().from_src("-").repo(repo).tag(tag).build();
    let mut steps =
        std::pin::pin!(docker.create_image(Some(options), Some(body_full(archive.into())), None));
    while let Some(step) = steps.next().await {
        step.map_err(|error| of(said(&error)))?;
    }
    Ok(())
}
