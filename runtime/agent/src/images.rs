//! The images of this node as the agent needs them: found, listed, imported, pulled. A trait, because
//! the simulation has none on disk. What the agent decides about a container's image is here too:
//! whether it is pulled, with whose credentials, and what is said of it.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use async_trait::async_trait;
use tokio::io::AsyncRead;
use windlass_runtime_api::{Availability, Image, Nature, RuntimeError};
use windlass_runtime_image::{
    ContainerArchive, Credentials, ImageError, ImageStore, Inspected, Listed, Origin, Pulled,
    Removed, loaded_name, says_wasm as says_wasm_by,
};
use windlass_sdk_client::{EventType, Key};
use windlass_sdk_types::{
    Kind, ObjectReference, Pod, RuntimeClass, Secret, api::core::v1::Container,
};

use crate::{agent::Agent, runtimes::NO_ENGINE};

/// An image on its way in.
pub type Upload = Pin<Box<dyn AsyncRead + Send>>;

const PULL_ERROR: &str = "ErrImagePull";
/// The image is no wasm, but one for the container engine.
const IS_CONTAINER: &str = "ContainerImage";
/// Where a Secret keeps Docker's configuration: `kubernetes.io/dockerconfigjson` and `.../dockercfg`.
const PULL_SECRET_KEYS: [&str; 2] = [".dockerconfigjson", ".dockercfg"];

#[async_trait]
pub trait Images: Send + Sync {
    /// The image where it is on this node. The error's reason is what a waiting container shows.
    async fn find(&self, reference: &str) -> Result<Option<Image>, RuntimeError>;

    /// The same for a pod whose annotation says that its images hold wasm.
    async fn find_wasm(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        self.find(reference).await
    }

    /// What the Node's status lists.
    async fn list(&self) -> Vec<Listed>;

    /// Takes in at most `bound_bytes` of an image under a name.
    async fn import(
        &self,
        reference: &str,
        upload: Upload,
        bound_bytes: u64,
    ) -> Result<Image, ImageError>;

    /// What is known of an image, where it is here.
    async fn inspect(&self, reference: &str) -> Result<Option<Inspected>, ImageError> {
        let _ = reference;
        Ok(None)
    }

    /// Returns when an image came that the agent didn't bring: level-triggered, for one listener.
    async fn came(&self) {
        std::future::pending().await
    }

    /// Takes a name away, and content that nothing else needs. None: there is no such image.
    async fn remove(&self, reference: &str) -> Result<Option<Removed>, ImageError> {
        let _ = reference;
        Ok(None)
    }

    /// Came the image of this name from a registry?
    fn was_pulled(&self, reference: &str) -> bool {
        let _ = reference;
        false
    }

    /// Gets an image from its registry.
    async fn pull(
        &self,
        reference: &str,
        credentials: Credentials,
    ) -> Result<Pulled, RuntimeError> {
        let _ = credentials;
        let message = format!("image {reference:?} is not on this node, which pulls none");
        Err(RuntimeError::new(PULL_ERROR, message))
    }

    /// The same for a pod whose annotation says that its images hold wasm.
    async fn pull_wasm(
        &self,
        reference: &str,
        credentials: Credentials,
    ) -> Result<Pulled, RuntimeError> {
        self.pull(reference, credentials).await
    }

    /// Whether the node's configuration says how the image's registry is reached: then the node
    /// fetches what is for the container engine too.
    fn configures(&self, reference: &str) -> bool {
        let _ = reference;
        false
    }

    /// Fetches a container's image for the engine.
    async fn fetch_container(
        &self,
        reference: &str,
        credentials: Credentials,
    ) -> Result<ContainerArchive, RuntimeError> {
        let _ = credentials;
        let message = format!("image {reference:?} is not on this node, which pulls none");
        Err(RuntimeError::new(PULL_ERROR, message))
    }
}

#[async_trait]
impl Images for ImageStore {
    async fn find(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        find(self, reference, false).await
    }

    async fn find_wasm(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        find(self, reference, true).await
    }

    async fn list(&self) -> Vec<Listed> {
        ImageStore::list(self)
    }

    async fn import(
        &self,
        reference: &str,
        upload: Upload,
        bound_bytes: u64,
    ) -> Result<Image, ImageError> {
        ImageStore::import(self, reference, upload, bound_bytes).await
    }

    async fn inspect(&self, reference: &str) -> Result<Option<Inspected>, ImageError> {
        let (store, name) = (self.clone(), reference.to_owned());
        let found = tokio::task::spawn_blocking(move || store.inspect(&name)).await;
        found.unwrap_or_else(|error| Err(ImageError::Interrupted(std::io::Error::other(error))))
    }

    async fn came(&self) {
        self.pushed().await;
    }

    async fn remove(&self, reference: &str) -> Result<Option<Removed>, ImageError> {
        let (store, name) = (self.clone(), reference.to_owned());
        let removed = tokio::task::spawn_blocking(move || store.remove_image(&name)).await;
        removed.unwrap_or_else(|error| Err(ImageError::Interrupted(std::io::Error::other(error))))
    }

    fn was_pulled(&self, reference: &str) -> bool {
        matches!(self.origin(reference), Some(Origin::Pulled | Origin::Left))
    }

    async fn pull(
        &self,
        reference: &str,
        credentials: Credentials,
    ) -> Result<Pulled, RuntimeError> {
        pull(self, reference, credentials, false).await
    }

    async fn pull_wasm(
        &self,
        reference: &str,
        credentials: Credentials,
    ) -> Result<Pulled, RuntimeError> {
        pull(self, reference, credentials, true).await
    }

    fn configures(&self, reference: &str) -> bool {
        ImageStore::configures(self, reference)
    }

    async fn fetch_container(
        &self,
        reference: &str,
        mut credentials: Credentials,
    ) -> Result<ContainerArchive, RuntimeError> {
        credentials.extend(Credentials::of_node(reference).await);
        let fetched = ImageStore::fetch_container(self, reference, &credentials).await;
        fetched.map_err(|error| RuntimeError::new(PULL_ERROR, error.to_string()))
    }
}

async fn find(
    store: &ImageStore,
    reference: &str,
    pod_says_wasm: bool,
) -> Result<Option<Image>, RuntimeError> {
    let (store, name) = (store.clone(), reference.to_owned());
    // Content is hashed at its first use.
    let found = tokio::task::spawn_blocking(move || store.find_for(&name, pod_says_wasm)).await;
    match found {
        Ok(Ok(image)) => Ok(image),
        Ok(Err(ImageError::Reference { name, source })) => Err(RuntimeError::new(
            "InvalidImageName",
            format!(
                "Failed to apply default image tag {name:?}: couldn't parse image name {name:?}: \
                 {source}"
            ),
        )),
        // Another pod's annotation brought it here: for this one it is a container's.
        Ok(Err(error)) if error.is_container() => Ok(None),
        Ok(Err(error)) => Err(RuntimeError::new(PULL_ERROR, error.to_string())),
        Err(error) => Err(RuntimeError::new(PULL_ERROR, error.to_string())),
    }
}

async fn pull(
    store: &ImageStore,
    reference: &str,
    mut credentials: Credentials,
    pod_says_wasm: bool,
) -> Result<Pulled, RuntimeError> {
    credentials.extend(Credentials::of_node(reference).await);
    let pulled = store.pull_for(reference, &credentials, pod_says_wasm).await;
    pulled.map_err(|error| {
        let reason = if error.is_container() { IS_CONTAINER } else { PULL_ERROR };
        RuntimeError::new(reason, error.to_string())
    })
}

/// Whether the pod says, by one of crun's annotations, that its images hold wasm. What they start
/// is then looked at, and decides.
fn says_wasm(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    says_wasm_by(|key| annotations?.get(key).map(String::as_str)).is_some()
}

impl Agent {
    /// A pod of this node that runs, or will run, an image that is known as one of those.
    pub(crate) async fn user_of_image(&self, is_meant: impl Fn(&Inspected) -> bool) -> Option<Key> {
        let mut by_image: BTreeMap<String, Key> = BTreeMap::new();
        for pod in self.pods.list() {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            let spec = pod.spec.as_ref().filter(|_| !matches!(phase, Some("Succeeded" | "Failed")));
            let first = spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
            let others = spec.iter().flat_map(|spec| &spec.containers);
            for image in first.chain(others).filter_map(|container| container.image.clone()) {
                by_image.entry(image).or_insert_with(|| Key::of(&*pod));
            }
        }
        for (image, key) in by_image {
            // One that can't be told has nothing to lose.
            let known = self.images.inspect(&image).await;
            if known.is_ok_and(|known| known.is_some_and(|known| is_meant(&known))) {
                return Some(key);
            }
        }
        None
    }

    /// The image of a container, pulled where its policy asks for that. What a person imported, or
    /// built in the engine, has no registry to be asked, so `Always` takes it as it is.
    pub(crate) async fn image_of(
        &self,
        pod: &Pod,
        container: &Container,
    ) -> Result<Image, RuntimeError> {
        let name = container.image.as_deref().unwrap_or_default();
        let policy = container.image_pull_policy.as_deref();
        let about = self.about(&Key::of(pod), pod.uid(), Some(&container.name));
        let say = |reason: &str, message: String| {
            self.recorder.record(&about, EventType::Normal, reason, message);
        };
        let class = self.class_of(pod).await?;
        match self.found(name, class, says_wasm(pod)).await? {
            Some((image, again)) if policy != Some("Always") || !again => {
                let what = format!("Container image {name:?} already present on machine");
                let message = format!("{what} and can be accessed by the pod");
                say("Pulled", with_reason(message, &image));
                return Ok(image);
            }
            None if policy == Some("Never") => {
                let message =
                    format!("Container image {name:?} is not present with pull policy of Never");
                let message = format!("{message}{}", self.engine_hint(class));
                return Err(RuntimeError::new("ErrImageNeverPull", message));
            }
            _ => {}
        }
        say("Pulling", format!("Pulling image {name:?}"));
        let begun = self.clock.now();
        let credentials = self.pull_secrets(pod, &about).await;
        let (image, size_bytes) = self.pull(name, class, says_wasm(pod), credentials).await?;
        let took: Duration = self.clock.now().duration_since(begun).try_into().unwrap_or_default();
        let took = duration(took);
        let message = format!(
            "Successfully pulled image {name:?} in {took} ({took} including waiting). Image size: \
             {size_bytes} bytes."
        );
        say("Pulled", with_reason(message, &image));
        Ok(image)
    }

    /// The image where it is on this node, in one store or the other, and whether it came from a
    /// registry, which can be asked again.
    async fn found(
        &self,
        name: &str,
        class: Option<Nature>,
        said_wasm: bool,
    ) -> Result<Option<(Image, bool)>, RuntimeError> {
        if class != Some(Nature::Container) {
            let again = self.images.was_pulled(name);
            let found = match said_wasm {
                true => self.images.find_wasm(name).await,
                false => self.images.find(name).await,
            };
            match found {
                // A pulled image that is damaged is pulled again.
                Err(error) if again && error.reason == PULL_ERROR => {}
                Err(error) => return Err(error),
                Ok(Some(image)) => return Ok(Some((image, again))),
                Ok(None) => {}
            }
        }
        let engine = match class {
            Some(Nature::Wasm) => None,
            Some(Nature::Container) => Some(self.runtimes.of(Nature::Container)?),
            // Without its answer the image may be there; a pull then says what is missing.
            None => self.runtimes.ready_engine(),
        };
        let Some(engine) = engine else { return Ok(None) };
        let found = match engine.find_image(name).await? {
            // One that was fetched by its digest has it as a tag.
            None if name.contains('@') => engine.find_image(&loaded_name(name)).await?,
            found => found,
        };
        let Some(found) = found else { return Ok(None) };
        match (found.image.nature, class) {
            (Nature::Wasm, None) => {
                // It was built or loaded there, but needs no engine to run.
                let archive = engine.export_image(name).await?;
                let bound = windlass_runtime_image::IMAGE_LIMIT_BYTES;
                let taken = self.images.import(name, archive, bound).await;
                let image = taken.map_err(|error| {
                    RuntimeError::new(PULL_ERROR, format!("{name} in the engine's store: {error}"))
                })?;
                Ok(Some((image, false)))
            }
            _ => {
                let image = Image { reference: name.to_owned(), ..found.image };
                Ok(Some((image, found.pulled)))
            }
        }
    }

    /// From its registry; which store takes it is told by what it is.
    async fn pull(
        &self,
        name: &str,
        class: Option<Nature>,
        said_wasm: bool,
        credentials: Credentials,
    ) -> Result<(Image, u64), RuntimeError> {
        let hint = |error: RuntimeError| {
            let hint = format!("a file of yours comes by: windlass image import {name} FILE");
            let engine = self.engine_hint(class);
            RuntimeError::new(error.reason, format!("{} ({hint}){engine}", error.message))
        };
        if class != Some(Nature::Container) {
            let pulled = match said_wasm {
                true => self.images.pull_wasm(name, credentials.clone()).await,
                false => self.images.pull(name, credentials.clone()).await,
            };
            match pulled {
                Ok(pulled) => return Ok((pulled.image, pulled.size_bytes)),
                Err(error) if error.reason != IS_CONTAINER => return Err(hint(error)),
                Err(error) if class.is_some() => {
                    return Err(RuntimeError::new(PULL_ERROR, error.message));
                }
                Err(error) => {
                    if let Some(why) = self.engine_absent() {
                        return Err(RuntimeError::new(
                            NO_ENGINE,
                            format!("{}; {why}", error.message),
                        ));
                    }
                }
            }
        }
        let engine = self.runtimes.of(Nature::Container)?;
        if self.images.configures(name) {
            let fetched = self.images.fetch_container(name, credentials).await?;
            let ContainerArchive { name: loaded, size_bytes, archive, .. } = fetched;
            let image = engine.load_image(name, &loaded, archive).await?.image;
            return Ok((image, size_bytes));
        }
        let mut credentials = credentials;
        credentials.extend(Credentials::of_node(name).await);
        let pulled = engine.pull_image(name, credentials.for_image(name)).await?;
        Ok((pulled.image, pulled.size_bytes))
    }

    /// Why no container can run here now; None where one can.
    fn engine_absent(&self) -> Option<String> {
        let needs = "containers need a container engine";
        match self.runtimes.engine().and_then(|engine| engine.availability()) {
            None if self.runtimes.engine().is_some() => None,
            None => Some(format!("{needs}, and this node has none")),
            Some(availability) => match &*availability.borrow() {
                Availability::Ready { .. } => None,
                Availability::Absent { why } => Some(format!("{needs}: {why}")),
            },
        }
    }

    /// What is to be said beside "not found" while the engine's store can't be looked into.
    fn engine_hint(&self, class: Option<Nature>) -> String {
        let silent = self.runtimes.engine().is_some() && class != Some(Nature::Wasm);
        match self.engine_absent().filter(|_| silent) {
            Some(why) => format!("; {why}"),
            None => String::new(),
        }
    }

    /// What the pod's RuntimeClass asks for; None where it has none, and the image decides.
    pub(crate) async fn class_of(&self, pod: &Pod) -> Result<Option<Nature>, RuntimeError> {
        let name = pod.spec.as_ref().and_then(|spec| spec.runtime_class_name.as_deref());
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
        let failed = |why: String| RuntimeError::new("CreateContainerConfigError", why);
        let class = self.api.get::<RuntimeClass>("", name).await.map_err(|error| {
            failed(match error.is_not_found() {
                true => format!("RuntimeClass {name:?} not found"),
                false => format!("RuntimeClass {name:?}: {error}"),
            })
        })?;
        let natures = [Nature::Wasm, Nature::Container];
        let nature = natures.into_iter().find(|nature| nature.runtime() == class.handler);
        nature.map(Some).ok_or_else(|| {
            failed(format!(
                "RuntimeClass {name:?} has the handler {:?}; this node knows wasm and docker",
                class.handler
            ))
        })
    }

    /// The credentials of the pod's `imagePullSecrets`. One that can't be had is told and left out:
    /// the image may need none.
    async fn pull_secrets(&self, pod: &Pod, about: &ObjectReference) -> Credentials {
        let mut all = Credentials::default();
        let named = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
        let mut lacking = Vec::new();
        for name in named.map(|secret| &secret.name) {
            let secret = match self.api.get::<Secret>(pod.namespace(), name).await {
                Ok(secret) => secret,
                Err(_) => {
                    lacking.push(name.as_str());
                    continue;
                }
            };
            let data = secret.data.unwrap_or_default();
            let read = PULL_SECRET_KEYS.iter().find_map(|key| data.get(*key));
            match read.and_then(|bytes| Credentials::parse(&bytes.0).ok()) {
                Some(credentials) => all.extend(credentials),
                None => lacking.push(name.as_str()),
            }
        }
        if !lacking.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may \
                 not succeed.",
                lacking.join(", ")
            );
            let reason = "FailedToRetrieveImagePullSecret";
            self.recorder.record(about, EventType::Warning, reason, message);
        }
        all
    }
}

fn with_reason(message: String, image: &Image) -> String {
    match image.config.why.as_str() {
        "" => message,
        why => format!("{message} {why}"),
    }
}

/// As Go prints one, to the millisecond.
fn duration(of: Duration) -> String {
    match of.as_millis() {
        millis @ 0..1000 => format!("{millis}ms"),
        millis @ 1000..60_000 => format!("{}.{:03}s", millis / 1000, millis % 1000),
        millis => {
            let (seconds, millis) = (millis / 1000, millis % 1000);
            format!("{}m{}.{millis:03}s", seconds / 60, seconds % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_as_go_does() {
        for (millis, expected) in
            [(0, "0ms"), (999, "999ms"), (1002, "1.002s"), (61_500, "1m1.500s")]
        {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
    }
}
