//! The images in the engine's own store: what was built or loaded there is found without a registry.
//! What isn't there the engine pulls; only where the node's configuration says how a registry is
//! reached the node fetches the image, and the engine loads it.

use bollard::{
    auth::DockerCredentials,
    errors::Error,
    models::ImageInspect,
    query_parameters::{
        CreateImageOptionsBuilder, ImportImageOptionsBuilder, ListImagesOptionsBuilder,
    },
};
use futures::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;
use windlass_runtime_api::{
    BoxAsyncRead, EngineImage, Image, ImageConfig, Nature, PulledImage, RegistryAuth, RuntimeError,
};

use crate::{
    engine::{failed, is_not_found, said},
    runtime::Inner,
};

const PULL_ERROR: &str = "ErrImagePull";
/// Of an image that is on its way to another store.
const EXPORT_BYTES: usize = 256 << 10;

impl Inner {
    /// None where the engine hasn't got it. An image of wasm is told as one: it needs no engine.
    pub async fn find(&self, reference: &str) -> Result<Option<EngineImage>, RuntimeError> {
        let docker = self.engine.docker()?;
        let found = match docker.inspect_image(reference).await {
            Err(error) if is_not_found(&error) => return Ok(None),
            // A name that the engine refuses; the node's own store says why.
            Err(error) if crate::engine::status(&error) == Some(400) => return Ok(None),
            found => found.map_err(|error| failed(PULL_ERROR, reference, &error))?,
        };
        let mut image = image(reference, found);
        image.pulled |= self.pulled.knows(&image.image.digest);
        Ok(Some(image))
    }

    /// Takes in an archive. It counts as pulled: its registry can be asked again, and it goes when
    /// the disk is short.
    pub async fn load(
        &self,
        reference: &str,
        name: &str,
        archive: BoxAsyncRead,
    ) -> Result<PulledImage, RuntimeError> {
        let docker = self.engine.docker()?;
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let pieces = ReaderStream::with_capacity(archive, EXPORT_BYTES);
        let mut steps = std::pin::pin!(docker.import_image_stream(options, pieces, None));
        while let Some(step) = steps.next().await {
            step.map_err(|error| pull_failed(reference, &error))?;
        }
        let found = self.find(name).await?.ok_or_else(|| {
            let why = format!("{reference} was loaded, and is not in the engine's store");
            RuntimeError::new(PULL_ERROR, why)
        })?;
        self.pulled.add(&found.image.digest, self.clock.now());
        let image = Image { reference: reference.to_owned(), ..found.image };
        Ok(PulledImage { size_bytes: found.size_bytes, image })
    }

    /// The image as an archive, as `docker save` writes it.
    pub async fn export(&self, reference: &str) -> Result<BoxAsyncRead, RuntimeError> {
        let docker = self.engine.docker()?;
        let name = reference.to_owned();
        let (near, mut far) = tokio::io::duplex(EXPORT_BYTES);
        tokio::spawn(async move {
            let mut pieces = std::pin::pin!(docker.export_image(&name));
            while let Some(piece) = pieces.next().await {
                // An archive that breaks off is told by its reader.
                let Ok(piece) = piece else { return };
                if far.write_all(&piece).await.is_err() {
                    return;
                }
            }
        });
        Ok(Box::pin(near))
    }

    pub async fn pull(
        &self,
        reference: &str,
        credentials: Vec<RegistryAuth>,
    ) -> Result<PulledImage, RuntimeError> {
        let mut ways: Vec<Option<DockerCredentials>> =
            credentials.into_iter().map(|auth| Some(credential(auth))).collect();
        if ways.is_empty() {
            ways.push(None);
        }
        let mut last = None;
        for way in ways {
            let mut done = self.pull_as(reference, way.clone()).await;
            if self.made_room(&done).await {
                done = self.pull_as(reference, way).await;
            }
            match done {
                Ok(()) => {
                    let found = self.find(reference).await?.ok_or_else(|| {
                        let why = format!("{reference} was pulled, and is gone again");
                        RuntimeError::new(PULL_ERROR, why)
                    })?;
                    self.pulled.add(&found.image.digest, self.clock.now());
                    return Ok(PulledImage { size_bytes: found.size_bytes, image: found.image });
                }
                Err(error) => last = Some(error),
            }
        }
        // There was at least one way.
        Err(last.unwrap_or_else(|| RuntimeError::new(PULL_ERROR, reference)))
    }

    async fn pull_as(
        &self,
        reference: &str,
        credential: Option<DockerCredentials>,
    ) -> Result<(), RuntimeError> {
        let docker = self.engine.docker()?;
        let (name, tag) = split(reference);
        let options = CreateImageOptionsBuilder::default().from_image(name).tag(tag).build();
        let mut steps = std::pin::pin!(docker.create_image(Some(options), None, credential));
        while let Some(step) = steps.next().await {
            step.map_err(|error| pull_failed(reference, &error))?;
        }
        Ok(())
    }

    pub async fn images(&self) -> Vec<EngineImage> {
        let Ok(docker) = self.engine.docker() else { return Vec::new() };
        let options = ListImagesOptionsBuilder::default().build();
        let listed = docker.list_images(Some(options)).await.unwrap_or_else(|error| {
            tracing::debug!(error = said(&error), "images of the engine unknown");
            Vec::new()
        });
        let each = listed.into_iter().filter(|summary| !summary.repo_tags.is_empty());
        each.map(|summary| EngineImage {
            pulled: !summary.repo_digests.is_empty() || self.pulled.knows(&summary.id),
            image: container(String::new(), summary.id, String::new()),
            names: summary.repo_tags,
            size_bytes: summary.size.try_into().unwrap_or_default(),
        })
        .collect()
    }
}

fn pull_failed(reference: &str, error: &Error) -> RuntimeError {
    failed(PULL_ERROR, &format!("failed to pull image {reference:?}"), error)
}

/// An entrypoint that is wasm, or a platform that is: rules of `windlass_sdk_package`, as far as the
/// engine's store tells.
fn holds_wasm(found: &ImageInspect) -> bool {
    let config = found.config.as_ref();
    let first = config.and_then(|config| {
        let entrypoint = config.entrypoint.iter().flatten().next();
        entrypoint.or(config.cmd.iter().flatten().next())
    });
    first.is_some_and(|path| path.split('#').next().unwrap_or(path).ends_with(".wasm"))
        || found.architecture.as_deref().is_some_and(|name| name.starts_with("wasm"))
}

fn image(reference: &str, found: ImageInspect) -> EngineImage {
    let os = found.os.as_deref().unwrap_or("linux");
    let platform = format!("{os}/{}", found.architecture.as_deref().unwrap_or_default());
    let why = format!("It is a container image for {platform}, in the engine's store");
    let nature = if holds_wasm(&found) { Nature::Wasm } else { Nature::Container };
    let image = container(reference.to_owned(), found.id.unwrap_or_default(), why);
    EngineImage {
        pulled: found.repo_digests.is_some_and(|digests| !digests.is_empty()),
        image: Image { nature, ..image },
        names: found.repo_tags.unwrap_or_default(),
        size_bytes: found.size.and_then(|size| size.try_into().ok()).unwrap_or_default(),
    }
}

fn container(reference: String, digest: String, why: String) -> Image {
    Image {
        nature: Nature::Container,
        reference,
        digest,
        wasm_digest: String::new(),
        wasm_path: Default::default(),
        config: ImageConfig { why, ..ImageConfig::default() },
    }
}

/// Name, and tag or digest: without one the engine would pull all of them.
fn split(reference: &str) -> (&str, &str) {
    if let Some((name, digest)) = reference.split_once('@') {
        // A tag beside a digest says nothing more.
        return (without_tag(name).0, digest);
    }
    let (name, tag) = without_tag(reference);
    (name, tag.unwrap_or("latest"))
}

/// A colon before a slash belongs to a registry's port.
fn without_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((name, tag)) => (name, Some(tag)),
        None => (name, None),
    }
}

fn credential(auth: RegistryAuth) -> DockerCredentials {
    match auth {
        RegistryAuth::Basic { username, password } => DockerCredentials {
            username: Some(username),
            password: Some(password),
            ..DockerCredentials::default()
        },
        RegistryAuth::Token(token) => {
            DockerCredentials { registrytoken: Some(token), ..DockerCredentials::default() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags() {
        for (reference, expected) in [
            ("a", ("a", "latest")),
            ("a:v1", ("a", "v1")),
            ("localhost:5000/a/b", ("localhost:5000/a/b", "latest")),
            ("localhost:5000/a:v1", ("localhost:5000/a", "v1")),
            ("a:v1@sha256:0", ("a", "sha256:0")),
            ("localhost:5000/a@sha256:0", ("localhost:5000/a", "sha256:0")),
        ] {
            assert_eq!(split(reference), expected);
        }
    }

    #[test]
    fn wasm_is_told_from_a_container() {
        let is = |entrypoint: &str, architecture: &str| {
            let found = serde_json::json!({"Architecture": architecture,
                "Config": {"Entrypoint": [entrypoint]}});
            holds_wasm(&serde_json::from_value(found).expect("inspected"))
        };
        assert!(is("/app.wasm", "amd64") && is("/app.wasm#run", "amd64") && is("/app", "wasm"));
        assert!(!is("/app", "amd64") && !is("/wasm", "arm64"));
    }
}
