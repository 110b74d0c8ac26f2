//! What a container sees of its pod's volumes. Most volumes are made when its first container
//! starts, so that what is missing is told then; those that can always be made wait for the first
//! use of a container.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use windlass_runtime_api::{LateMounts, Mount, RuntimeError};
use windlass_runtime_volume as volume;
use windlass_sdk_client::{EventType, Key};
use windlass_sdk_types::{
    Kind, Pod,
    api::core::v1::{Container, Volume},
};

use crate::{
    agent::Agent,
    env, order,
    volumes::{FAILED_MOUNT, mount_of},
};

/// Of a file with variables, as upstream has it.
const ENV_FILE_BYTES: u64 = 64 << 10;

/// The ConfigMap that every namespace has.
const ROOT_CERTIFICATE: &str = "kube-root-ca.crt";

/// The text of a file in a volume, by their names, or why it can't be read.
pub(crate) type EnvFiles = BTreeMap<(String, String), Result<String, String>>;

impl Agent {
    /// The container's mounts, with the pod's volumes made where they aren't yet.
    pub(crate) async fn mounts(
        self: &Arc<Self>,
        pod: &Pod,
        container: &Container,
        env: &[(String, String)],
        attempt: u32,
        address: IpAddr,
    ) -> Result<Vec<Mount>, RuntimeError> {
        if self.volumes.dir.is_none() {
            return Ok(Vec::new());
        }
        let failed = |message| RuntimeError::new(FAILED_MOUNT, message);
        self.ensure_volumes(pod, address, false).await.map_err(failed)?;
        self.watch_storage(pod);
        let env = env.iter().cloned().collect();
        let mut mounts = Vec::new();
        for (number, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let failed = |message: String| RuntimeError::new("CreateContainerConfigError", message);
            let of = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
            let Some(source) = of.clone().find(|of| of.name == mount.name) else {
                return Err(failed(format!("volume {:?} is not in the pod", mount.name)));
            };
            let sub_path = match (&mount.sub_path_expr, &mount.sub_path) {
                (Some(expression), _) if !expression.is_empty() => {
                    env::expand_strictly(expression, &env).map_err(failed)?
                }
                (_, sub_path) => sub_path.clone().unwrap_or_default(),
            };
            let folder = self.volume_source(pod.uid(), source);
            let mut host_path = match is_late(pod, source) {
                true => folder,
                false => volume::mount_source(&folder, &sub_path).map_err(failed)?,
            };
            let fixed = volume::is_read_only(source);
            if fixed && !sub_path.is_empty() {
                // A file mounted by itself stays as it was, as upstream's does.
                let place = format!("{}.{number}", container.name);
                let kept = self.volumes.dir.as_ref().map(|dir| dir.join(pod.uid()).join(place));
                if let Some(kept) = kept {
                    host_path = volume::keep(&host_path, &kept)
                        .map_err(|error| failed(format!("subPath {sub_path:?}: {error}")))?;
                }
            }
            mounts.push(Mount {
                host_path,
                container_path: mount.mount_path.clone(),
                read_only: fixed || mount.read_only == Some(true),
                resolved: !sub_path.is_empty(),
                limit_bytes: self.size_limit(pod, source).map(|limit| limit.units().unsigned_abs()),
            });
        }
        let path = env::termination_path(container);
        // Where one of the container's volumes holds the message's folder the file is there.
        if let Some(file) = self.volumes.termination_file(pod.uid(), &container.name, attempt)
            && mount_of(path, &mounts).is_none()
        {
            let container_path = path.to_owned();
            mounts.push(Mount { host_path: file, container_path, ..Mount::default() });
        }
        Ok(mounts)
    }

    /// Makes the pod's volumes where they aren't yet; `late` ones only where they are to be.
    async fn ensure_volumes(
        self: &Arc<Self>,
        pod: &Pod,
        address: IpAddr,
        late: bool,
    ) -> Result<(), String> {
        let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let made = self.volumes.pods.lock().get(pod.uid()).map(|made| made.late);
        let is_made = made.is_some_and(|with_late| with_late || !late);
        if is_made || !volumes.any(|source| late || !is_late(pod, source)) {
            return Ok(());
        }
        self.make_volumes(pod, address, late).await?;
        if !self.entries.lock().by_uid.contains_key(pod.uid()) {
            // Forgotten meanwhile.
            self.volumes.forget(pod.uid());
        }
        Ok(())
    }

    /// What is made when the container is used first. Ten thousand pods that nobody calls leave no
    /// file and ask for no token.
    pub(crate) fn late_mounts(
        self: &Arc<Self>,
        pod: &Pod,
        container: &Container,
        attempt: u32,
        address: IpAddr,
    ) -> Option<LateMounts> {
        self.volumes.dir.as_ref()?;
        // Not the pod itself: it would keep an old version of it in memory.
        let (agent, key, uid) = (Arc::downgrade(self), Key::of(pod), pod.uid().to_owned());
        let name: Arc<str> = container.name.as_str().into();
        // What is begun here goes on, so it must not be on the threads of guests.
        let threads = tokio::runtime::Handle::current();
        Some(LateMounts::new(move || {
            let (agent, key, uid, name) = (agent.clone(), key.clone(), uid.clone(), name.clone());
            let making = threads.spawn(async move {
                let gone = || RuntimeError::new(FAILED_MOUNT, "the pod is gone");
                let agent = agent.upgrade().ok_or_else(gone)?;
                let pod = agent.pods.find(&key).filter(|pod| pod.uid() == uid);
                let pod = pod.ok_or_else(gone)?;
                let made = agent.make_late(&pod, &name, attempt, address).await;
                made.map_err(|message| {
                    let about = agent.about(&key, &uid, None);
                    let sort = EventType::Warning;
                    agent.recorder.record(&about, sort, FAILED_MOUNT, message.clone());
                    RuntimeError::new(FAILED_MOUNT, message)
                })
            });
            async move {
                let ended = |error: tokio::task::JoinError| {
                    RuntimeError::new(FAILED_MOUNT, error.to_string())
                };
                making.await.map_err(ended)?
            }
        }))
    }

    async fn make_late(
        self: &Arc<Self>,
        pod: &Pod,
        container: &str,
        attempt: u32,
        address: IpAddr,
    ) -> Result<(), String> {
        self.ensure_volumes(pod, address, true).await?;
        let file = self.volumes.termination_file(pod.uid(), container, attempt);
        let made = file.map_or(Ok(()), |file| volume::termination_file(&file));
        made.map_err(|error| format!("terminationMessagePath: {error}"))
    }

    /// The files that the container's variables come from.
    pub(crate) async fn env_files(
        self: &Arc<Self>,
        pod: &Pod,
        container: &Container,
        address: IpAddr,
    ) -> Result<EnvFiles, RuntimeError> {
        let wanted = env::needs(container).files;
        if wanted.is_empty() {
            return Ok(EnvFiles::new());
        }
        let failed = |message| RuntimeError::new(FAILED_MOUNT, message);
        self.ensure_volumes(pod, address, false).await.map_err(failed)?;
        let read = |(name, path): (String, String)| {
            let folder = self.volumes.volume_folder(pod.uid(), &name).unwrap_or_default();
            let text = volume::read_inside(&folder, &path, ENV_FILE_BYTES);
            ((name, path), text.map_err(|error| error.to_string()))
        };
        Ok(wanted.into_iter().map(read).collect())
    }
}

/// Volumes that wait for the pod's first use: a token and what stands beside it in every pod, which
/// is always there to be made. Others are made at the start, so that what is missing is told then.
pub(crate) fn is_late(pod: &Pod, source: &Volume) -> bool {
    let Some(projected) = &source.projected else { return false };
    let sources = || projected.sources.iter().flatten();
    let is_certain = sources().all(|source| {
        source.secret.is_none()
            && source.config_map.as_ref().is_none_or(|map| map.name == ROOT_CERTIFICATE)
    });
    let is_partly_mounted = || {
        let mut mounts = order::containers(pod).flat_map(|of| of.volume_mounts.iter().flatten());
        mounts.any(|mount| {
            mount.name == source.name && (mount.sub_path.is_some() || mount.sub_path_expr.is_some())
        })
    };
    is_certain
        && sources().any(|source| source.service_account_token.is_some())
        && !is_partly_mounted()
}
