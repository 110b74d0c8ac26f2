//! The life of one container: made, started, asked to stop, killed.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use bollard::{
    Docker,
    errors::Error,
    query_parameters::{
        CreateContainerOptionsBuilder, KillContainerOptionsBuilder, WaitContainerOptionsBuilder,
    },
};
use futures::StreamExt;
use windlass_runtime_api::{ContainerSpec, ContainerState, Limits, RuntimeError, Started};

use crate::{
    create,
    engine::{failed, is_not_found, said, status},
    labels::{self, Role},
    observe::{START_ERROR, START_ERROR_CODE},
    runtime::Inner,
    sandbox::{Made, is_running},
};

const CREATE_ERROR: &str = "CreateContainerError";
const STOP_ERROR: &str = "KillContainerError";
const RESIZE_ERROR: &str = "ResizeError";
/// How long a container may still be there after it was killed.
const KILLED: Duration = Duration::from_secs(30);

impl Inner {
    pub async fn start(self: &Arc<Self>, spec: ContainerSpec) -> Result<Started, RuntimeError> {
        if let Some(late) = &spec.late_mounts {
            late.make().await?;
        }
        let sandbox = self.ensure_sandbox(&spec.pod).await?;
        let _alone = self.gates.pass(&spec.pod.uid).await;
        let docker = self.engine.docker()?;
        let (id, runs) = self.create(&docker, &spec, &sandbox).await?;
        self.network.publish(&spec.pod.uid, &spec.name, &spec.ports).await;
        if !runs && let Err(error) = docker.start_container(&id, None).await {
            return self.not_started(&spec, id, &error);
        }
        self.pulled.touch(&spec.image.digest, self.clock.now());
        self.logs.follow(&id, &spec.log_path, spec.console.tty);
        self.remove_attempts_before(&docker, &spec).await;
        Ok(Started::new(id))
    }

    /// The container's id, and whether it runs already.
    async fn create(
        &self,
        docker: &Docker,
        spec: &ContainerSpec,
        sandbox: &Made,
    ) -> Result<(String, bool), RuntimeError> {
        let of = |error: Error| failed(CREATE_ERROR, "the container", &error);
        let files = self.files.make(&spec.pod, sandbox.joined).map_err(|error| {
            RuntimeError::new(CREATE_ERROR, format!("the pod's files in /etc: {error}"))
        })?;
        let image = docker.inspect_image(&spec.image.digest).await.map_err(of)?;
        let user = image.config.and_then(|config| config.user).unwrap_or_default();
        let around = create::Around {
            node: &self.node,
            sandbox_id: &sandbox.id,
            target_id: match &spec.linux.target {
                Some(target) => Some(self.newest(docker, &spec.pod.uid, target).await?),
                None => None,
            },
            image_user: &user,
            own_files: files,
            least_oom_score: self.least_oom_score.load(Relaxed),
        };
        let body = create::container(spec, &around)?;
        let name = labels::container_name(spec);
        let options = || Some(CreateContainerOptionsBuilder::default().name(&name).build());
        match docker.create_container(options(), body.clone()).await {
            Ok(made) => return Ok((made.id, false)),
            // This attempt was begun before, by an agent that ended in between.
            Err(error) if status(&error) == Some(409) => {}
            Err(error) => return Err(of(error)),
        }
        match docker.inspect_container(&name, None).await {
            Ok(found) if is_running(&found) => return Ok((found.id.unwrap_or_default(), true)),
            Ok(found) => {
                self.remove_container(docker, found.id.as_deref().unwrap_or(&name)).await?;
            }
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(of(error)),
        }
        Ok((docker.create_container(options(), body).await.map_err(of)?.id, false))
    }

    /// An attempt whose program can't be started is one that failed: the pod's restart policy says
    /// what follows.
    fn not_started(
        &self,
        spec: &ContainerSpec,
        id: String,
        error: &Error,
    ) -> Result<Started, RuntimeError> {
        if !matches!(status(error), Some(400 | 500)) {
            return Err(failed("RunContainerError", "the container", error));
        }
        let message = said(error);
        let now = self.clock.now();
        let ended = ContainerState::Exited {
            started_at: now,
            finished_at: now,
            exit_code: START_ERROR_CODE,
            reason: START_ERROR.to_owned(),
            message: message.clone(),
        };
        self.seen.lock().insert(id.clone(), ended);
        tracing::debug!(container = spec.name, id, message, "container not started");
        Ok(Started { id, failed: Some(message) })
    }

    /// What earlier attempts left in the engine is of no use: their logs are with the node.
    async fn remove_attempts_before(&self, docker: &Docker, spec: &ContainerSpec) {
        let Ok(all) = self.summaries(docker, Some(&spec.pod.uid)).await else { return };
        for (summary, labels) in all {
            let Role::Container { name, attempt, .. } = &labels.role else { continue };
            if *name == spec.name && *attempt < spec.attempt {
                let id = summary.id.unwrap_or_default();
                if let Err(error) = self.remove_container(docker, &id).await {
                    tracing::warn!(id, %error, "an old attempt stays until its pod goes");
                }
            }
        }
    }

    /// Ends the running attempts of a container.
    pub async fn stop(
        &self,
        pod_uid: &str,
        container: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let docker = self.engine.docker()?;
        for (summary, labels) in self.summaries(&docker, Some(pod_uid)).await? {
            let is_it = matches!(&labels.role, Role::Container { name, .. } if name == container);
            if let Some(id) = summary.id.filter(|_| is_it) {
                self.stop_one(&docker, &id, grace).await?;
            }
        }
        Ok(())
    }

    /// Other amounts of memory and CPU for the newest attempt, if it runs.
    pub async fn resize(
        &self,
        pod_uid: &str,
        container: &str,
        limits: &Limits,
    ) -> Result<(), RuntimeError> {
        let docker = self.engine.docker()?;
        let id = self.newest(&docker, pod_uid, container).await?;
        let of = |error: Error| failed(RESIZE_ERROR, "the container can't be resized", &error);
        let found = docker.inspect_container(&id, None).await.map_err(of)?;
        match is_running(&found) {
            true => docker.update_container(&id, create::amounts(limits)).await.map_err(of),
            false => Ok(()),
        }
    }

    pub async fn stop_one(
        &self,
        docker: &Docker,
        id: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let of = |error: Error| failed(STOP_ERROR, "the container can't be stopped", &error);
        let found = match docker.inspect_container(id, None).await {
            Err(error) if is_not_found(&error) => return Ok(()),
            found => found.map_err(of)?,
        };
        if !is_running(&found) {
            return Ok(());
        }
        if !grace.is_zero() {
            let own = found.config.and_then(|config| config.stop_signal);
            let signal = own.filter(|name| !name.is_empty()).unwrap_or("SIGTERM".to_owned());
            kill(docker, id, &signal).await.map_err(of)?;
            if ended_within(docker, id, grace).await.map_err(of)? {
                return Ok(());
            }
        }
        kill(docker, id, "SIGKILL").await.map_err(of)?;
        match ended_within(docker, id, KILLED).await.map_err(of)? {
            true => Ok(()),
            false => Err(RuntimeError::new(
                STOP_ERROR,
                format!("the container still runs {} s after SIGKILL", KILLED.as_secs()),
            )),
        }
    }
}

/// A container that has ended meanwhile is no error.
async fn kill(docker: &Docker, id: &str, signal: &str) -> Result<(), Error> {
    let options = KillContainerOptionsBuilder::default().signal(signal).build();
    match docker.kill_container(id, Some(options)).await {
        Err(error) if matches!(status(&error), Some(404 | 409)) => Ok(()),
        done => done,
    }
}

/// Whether the container ends within this time.
async fn ended_within(docker: &Docker, id: &str, time: Duration) -> Result<bool, Error> {
    let options = WaitContainerOptionsBuilder::default().condition("not-running").build();
    let mut waiting = std::pin::pin!(docker.wait_container(id, Some(options)));
    match tokio::time::timeout(time, waiting.next()).await {
        Err(_) => Ok(false),
        // An exit code other than 0 comes as an error.
        Ok(None | Some(Ok(_) | Err(Error::DockerContainerWaitError { .. }))) => Ok(true),
        Ok(Some(Err(error))) if is_not_found(&error) => Ok(true),
        Ok(Some(Err(error))) => Err(error),
    }
}
