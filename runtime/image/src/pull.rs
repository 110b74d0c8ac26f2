//! Pulling from registries. The manifest is asked for first, so that a name's digest is known before
//! anything is written; what can't run here is refused before its layers are fetched; two pods that
//! want one image make one pull. Content goes to the disk as it comes, is hashed on the way, and is
//! seen by nobody until all of it is there.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use oci_client::{
    Client, Reference as Remote, RegistryOperation,
    client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol},
    errors::{OciDistributionError, OciErrorCode},
    secrets::RegistryAuth,
};
use parking_lot::Mutex;
use tokio::{
    io::AsyncWriteExt,
    sync::{Mutex as Gate, Semaphore},
};
use windlass_runtime_api::Image;
use windlass_sdk_package::{
    DOCKER_INDEX_MEDIA_TYPE, DOCKER_MANIFEST_MEDIA_TYPE, Descriptor, Hasher, INDEX_MEDIA_TYPE,
    MANIFEST_MEDIA_TYPE, Manifest, digest, resolve_for,
};

use crate::{
    container::ContainerArchive,
    credentials::{Credential, Credentials},
    distribution::is_of_cluster,
    error::ImageError,
    reference::Reference,
    registries::Endpoint,
    settle::{Next, step},
    staging::Staging,
    store::{IMAGE_LIMIT_BYTES, ImageStore, Origin, parse},
};

/// Images that are pulled at a time.
const AT_A_TIME: usize = 8;
/// Attempts at one request, and the pause after the first, which doubles.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(300);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a registry may say nothing.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const ACCEPTED: [&str; 4] =
    [MANIFEST_MEDIA_TYPE, INDEX_MEDIA_TYPE, DOCKER_MANIFEST_MEDIA_TYPE, DOCKER_INDEX_MEDIA_TYPE];

/// Pulls under way.
pub(crate) struct Pulls {
    room: Semaphore,
    by_digest: Mutex<BTreeMap<String, Weak<Gate<()>>>>,
}

impl Default for Pulls {
    fn default() -> Self {
        Self { room: Semaphore::new(AT_A_TIME), by_digest: Mutex::default() }
    }
}

impl Pulls {
    fn gate(&self, digest: &str) -> Arc<Gate<()>> {
        let mut gates = self.by_digest.lock();
        gates.retain(|_, gate| gate.strong_count() > 0);
        if let Some(gate) = gates.get(digest).and_then(Weak::upgrade) {
            return gate;
        }
        let gate = Arc::new(Gate::new(()));
        gates.insert(digest.to_owned(), Arc::downgrade(&gate));
        gate
    }
}

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    pub image: Image,
    /// Config and layers; the wasm alone where all of it was here.
    pub size_bytes: u64,
}

impl ImageStore {
    /// Gets an image from its registry: with each of the credentials that are for it, or as nobody
    /// where there is none.
    pub async fn pull(
        &self,
        reference: &str,
        credentials: &Credentials,
    ) -> Result<Pulled, ImageError> {
        self.pull_for(reference, credentials, false).await
    }

    /// The same for a pod that may say that the image holds wasm.
    pub async fn pull_for(
        &self,
        reference: &str,
        credentials: &Credentials,
        pod_says_wasm: bool,
    ) -> Result<Pulled, ImageError> {
        let wanted = parse(reference)?;
        let pull = move |pull: Pull| async move { pull.run(pod_says_wasm).await };
        let pulled = match is_of_cluster(&wanted) {
            true => self.of_cluster(wanted, pod_says_wasm).await?,
            false => self.ask(reference, credentials, pull).await?,
        };
        Ok(Pulled { image: Image { reference: reference.to_owned(), ..pulled.image }, ..pulled })
    }

    /// Whether the node fetches an image also where an engine could: its configuration says how the
    /// registry is reached, or the registry is the cluster's own.
    pub fn configures(&self, reference: &str) -> bool {
        let Ok(wanted) = parse(reference) else { return false };
        let remote = wanted.to_string().parse();
        let named = remote.is_ok_and(|remote: Remote| self.registries().names(&remote));
        named || is_of_cluster(&wanted)
    }

    /// Fetches the image of an ordinary container as an archive for the engine.
    pub async fn fetch_container(
        &self,
        reference: &str,
        credentials: &Credentials,
    ) -> Result<ContainerArchive, ImageError> {
        let wanted = parse(reference)?;
        match is_of_cluster(&wanted) {
            true => self.container_of_cluster(wanted).await,
            false => self.ask(reference, credentials, Pull::container).await,
        }
    }

    /// Asks the places where an image may be, one after the other, until one has it.
    async fn ask<T: Send + 'static, F>(
        &self,
        reference: &str,
        credentials: &Credentials,
        how: impl Fn(Pull) -> F,
    ) -> Result<T, ImageError>
    where
        F: Future<Output = Result<T, Refused>> + Send + 'static,
    {
        let wanted = parse(reference)?;
        let failed = |why: String| ImageError::Pull { image: reference.to_owned(), why };
        let remote: Remote = wanted
            .to_string()
            .parse()
            .map_err(|error| failed(format!("{wanted} is no name a registry knows: {error}")))?;
        // The semaphore is never closed.
        let _room = self.pulls().room.acquire().await;
        let mut mirrors = Vec::new();
        let mut last = None;
        for endpoint in self.registries().endpoints(&remote) {
            let mut remote = remote.clone();
            if endpoint.is_mirror {
                remote.set_mirror_registry(endpoint.place.host.clone());
            }
            for auth in ways(&endpoint, &remote, credentials) {
                let (store, wanted, remote) = (self.clone(), wanted.clone(), remote.clone());
                let pull = Pull { store, wanted, remote, auth, endpoint: endpoint.clone() };
                // A task of its own: what a registry sends must not end the caller's by a panic.
                let refused = match AbortOnDrop(tokio::spawn(how(pull))).join().await {
                    Ok(Ok(done)) => return Ok(done),
                    Ok(Err(Refused::Image(error))) => return Err(error),
                    Ok(Err(refused)) => refused,
                    Err(error) => return Err(failed(error.to_string())),
                };
                let goes_on = matches!(refused, Refused::Denied(_));
                last = Some(refused);
                if !goes_on {
                    break;
                }
            }
            if endpoint.is_mirror
                && let Some(refused) = &last
            {
                tracing::debug!(reference, mirror = endpoint.place.host, "not from this mirror");
                mirrors.push(format!("{}: {}", endpoint.place.host, refused.say(reference)));
            }
        }
        let mut why = last.map_or_else(String::new, |refused| refused.say(reference));
        if !mirrors.is_empty() {
            why += &format!(" (mirrors: {})", mirrors.join("; "));
        }
        Err(failed(why))
    }
}

/// The credentials for a place, those of the pod first, or nobody's where there is none. A mirror
/// sees those that are for it only.
pub(crate) fn ways(
    endpoint: &Endpoint,
    remote: &Remote,
    credentials: &Credentials,
) -> Vec<RegistryAuth> {
    let known = credentials.matching(remote.resolve_registry(), remote.repository());
    let ways = known.into_iter().chain(endpoint.config.credential.clone());
    let mut ways: Vec<RegistryAuth> = ways
        .map(|credential| match credential {
            Credential::Basic { username, password } => RegistryAuth::Basic(username, password),
            Credential::Token(token) => RegistryAuth::Bearer(token),
        })
        .collect();
    if ways.is_empty() {
        ways.push(RegistryAuth::Anonymous);
    }
    ways
}

/// A pull that nobody waits for ends.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    async fn join(mut self) -> Result<T, tokio::task::JoinError> {
        (&mut self.0).await
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Why a registry didn't give what was asked for.
pub(crate) enum Refused {
    NotFound,
    Denied(String),
    /// Worth another try.
    Passing(String),
    Other(String),
    Image(ImageError),
}

impl Refused {
    /// As containerd says it: people and their tools know these words.
    pub fn say(&self, reference: &str) -> String {
        let resolve = format!("failed to resolve reference {reference:?}");
        match self {
            Self::NotFound => format!("{resolve}: {reference}: not found"),
            Self::Denied(why) => format!(
                "{resolve}: pull access denied, repository does not exist or may require \
                 authorization: {why}"
            ),
            Self::Passing(why) | Self::Other(why) => format!("{resolve}: {why}"),
            Self::Image(error) => error.to_string(),
        }
    }
}

impl From<ImageError> for Refused {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

/// One image from one place with one credential.
pub(crate) struct Pull {
    pub store: ImageStore,
    pub wanted: Reference,
    pub remote: Remote,
    auth: RegistryAuth,
    endpoint: Endpoint,
}

impl Pull {
    /// A client that was let in.
    pub async fn sign_in(&self) -> Result<Client, Refused> {
        let client = client(&self.endpoint)?;
        let auth = || client.auth(&self.remote, &self.auth, RegistryOperation::Pull).boxed();
        again(auth).await?;
        Ok(client)
    }

    async fn run(self, by_pod: bool) -> Result<Pulled, Refused> {
        let client = self.sign_in().await?;
        let top = self.document(&client, &self.remote).await?;
        let digest = digest(&top);
        let gate = self.store.pulls().gate(&digest);
        let _alone = gate.lock().await;
        let (store, wanted, of) = (self.store.clone(), self.wanted.clone(), digest.clone());
        let here = move || {
            let _held = store.hold();
            let Some(settled) = store.whole(&of, by_pod) else { return Ok(None) };
            let image = store.name(&wanted, &of, &settled, Origin::Pulled)?;
            Ok(Some((image, settled)))
        };
        if let Some((image, settled)) = self.store.blocking(here).await? {
            return Ok(Pulled { image, size_bytes: settled.wasm_size });
        }
        self.fetch(&client, digest, top, by_pod).await
    }

    async fn fetch(
        &self,
        client: &Client,
        top_digest: String,
        top: Vec<u8>,
        by_pod: bool,
    ) -> Result<Pulled, Refused> {
        let staging = self.store.staging()?;
        let (mut passed, mut why) = (Vec::new(), Vec::new());
        let (mut digest, mut bytes) = (top_digest.clone(), top);
        let manifest = loop {
            staging.put(&bytes)?;
            match step(&digest, &bytes, &mut passed, &mut why)? {
                Next::Manifest(manifest) => break manifest,
                Next::Follow(next) => {
                    let entry = self.remote.clone_with_digest(next.clone());
                    bytes = self.document(client, &entry).await?;
                    digest = next;
                }
            }
        };
        let size_bytes = size(&manifest, IMAGE_LIMIT_BYTES)?;
        self.content(client, &manifest.config, &staging).await?;
        let config = crate::staging::document(
            &staging.path(&manifest.config.digest),
            &manifest.config.digest,
        )?;
        // What can't run here isn't fetched.
        resolve_for(&manifest, &config, by_pod).map_err(ImageError::from)?;
        for layer in &manifest.layers {
            if !staging.path(&layer.digest).is_file() {
                self.content(client, layer, &staging).await?;
            }
        }
        let (store, wanted) = (self.store.clone(), self.wanted.clone());
        let commit = move || store.commit(staging, &wanted, &top_digest, by_pod, Origin::Pulled);
        let image = self.store.blocking(commit).await?;
        Ok(Pulled { image, size_bytes })
    }

    /// A manifest or an index; compared with the digest that was asked for, where one was.
    pub async fn document(&self, client: &Client, of: &Remote) -> Result<Vec<u8>, Refused> {
        let (bytes, _) =
            again(|| client.pull_manifest_raw(of, &self.auth, &ACCEPTED).boxed()).await?;
        match of.digest().is_some_and(|wanted| wanted != digest(&bytes)) {
            true => {
                Err(Refused::Other(unexpected(&digest(&bytes), of.digest().unwrap_or_default())))
            }
            false => Ok(bytes.to_vec()),
        }
    }

    /// One blob into the staging folder; tried again from its beginning.
    pub async fn content(
        &self,
        client: &Client,
        blob: &Descriptor,
        staging: &Staging,
    ) -> Result<(), Refused> {
        let mut pause = PAUSE;
        self.store.registries().meter().expect(blob.size);
        for attempt in 1.. {
            match self.stream(client, blob, staging).await {
                Err(Refused::Passing(_)) if attempt < ATTEMPTS => tokio::time::sleep(pause).await,
                done => return done,
            }
            pause *= 2;
        }
        Ok(())
    }

    async fn stream(
        &self,
        client: &Client,
        blob: &Descriptor,
        staging: &Staging,
    ) -> Result<(), Refused> {
        let wanted = blob.digest.as_str();
        let mut stream =
            client.pull_blob_stream(&self.remote, wanted).await.map_err(refused)?.stream;
        let path = staging.incoming();
        let io = |error| Refused::Image(ImageError::io(&path, error));
        let mut file = tokio::fs::File::create(&path).await.map_err(io)?;
        let (mut hasher, mut size) = (Hasher::default(), 0);
        while let Some(piece) = stream.next().await {
            // The stream compares digests too, and says so in this error.
            let piece = piece.map_err(|error| match error.to_string() {
                text if text.to_lowercase().contains("digest") => {
                    Refused::Other(format!("failed commit on ref {wanted:?}: {text}"))
                }
                _ => Refused::Passing(chain(&error)),
            })?;
            size += piece.len() as u64;
            if size > blob.size {
                let why = format!("{wanted} is longer than the {} bytes announced", blob.size);
                return Err(Refused::Other(why));
            }
            hasher.add(&piece);
            file.write_all(&piece).await.map_err(io)?;
            self.store.registries().meter().done(piece.len() as u64);
        }
        if size < blob.size {
            return Err(Refused::Passing(format!(
                "{wanted} ended after {size} of {} bytes",
                blob.size
            )));
        }
        file.sync_all().await.map_err(io)?;
        let found = hasher.finish();
        if found != wanted {
            return Err(Refused::Other(unexpected(&found, wanted)));
        }
        Ok(staging.keep(wanted)?)
    }
}

/// Bytes of config and layers together, refused where they are too many before one is fetched.
pub(crate) fn size(manifest: &Manifest, bound_bytes: u64) -> Result<u64, ImageError> {
    let parts = std::iter::once(&manifest.config).chain(&manifest.layers);
    let size = parts.fold(0u64, |sum, part| sum.saturating_add(part.size));
    match size > bound_bytes {
        true => Err(ImageError::TooLarge { bound_bytes }),
        false => Ok(size),
    }
}

fn unexpected(found: &str, wanted: &str) -> String {
    format!("failed commit on ref {wanted:?}: unexpected commit digest {found}, expected {wanted}")
}

/// A client for one pull or push: no credential is ever seen by another pod's.
pub(crate) fn client(endpoint: &Endpoint) -> Result<Client, Refused> {
    let authority = endpoint.config.authority.clone();
    let trusted = authority.map(|data| Certificate { encoding: CertificateEncoding::Pem, data });
    let config = ClientConfig {
        protocol: match endpoint.place.plain {
            true => ClientProtocol::Http,
            false => ClientProtocol::Https,
        },
        accept_invalid_certificates: endpoint.config.any_certificate,
        extra_root_certificates: trusted.into_iter().collect(),
        connect_timeout: Some(CONNECT_TIMEOUT),
        read_timeout: Some(READ_TIMEOUT),
        user_agent: concat!("windlass/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    Client::try_from(config).map_err(|error| Refused::Other(chain(&error)))
}

/// Asks up to [`ATTEMPTS`] times while the reason may pass.
pub(crate) async fn again<'a, T>(
    ask: impl Fn() -> BoxFuture<'a, Result<T, OciDistributionError>>,
) -> Result<T, Refused> {
    let mut pause = PAUSE;
    for _ in 1..ATTEMPTS {
        match ask().await.map_err(refused) {
            Err(Refused::Passing(_)) => tokio::time::sleep(pause).await,
            done => return done,
        }
        pause *= 2;
    }
    ask().await.map_err(refused)
}

fn refused(error: OciDistributionError) -> Refused {
    use OciDistributionError as Oci;
    match &error {
        Oci::UnauthorizedError { .. } => Refused::Denied("authentication required".into()),
        Oci::AuthenticationFailure(why) => Refused::Denied(first_line(why)),
        Oci::ImageManifestNotFoundError(_) | Oci::ServerError { code: 404, .. } => {
            Refused::NotFound
        }
        Oci::ServerError { code, .. } if *code >= 500 || *code == 429 => {
            Refused::Passing(first_line(&error.to_string()))
        }
        Oci::ServerError { code: 401 | 403, .. } => Refused::Denied(first_line(&error.to_string())),
        Oci::RegistryError { envelope, .. } => {
            let text = envelope.errors.iter().map(|error| error.message.clone());
            let text = first_line(&text.collect::<Vec<_>>().join("; "));
            match envelope.errors.first().map(|error| &error.code) {
                Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => Refused::Denied(text),
                Some(OciErrorCode::Toomanyrequests) => Refused::Passing(text),
                Some(
                    OciErrorCode::ManifestUnknown
                    | OciErrorCode::NameUnknown
                    | OciErrorCode::NotFound,
                ) => Refused::NotFound,
                _ => Refused::Other(text),
            }
        }
        Oci::RequestError(request) => match request.status().map(|status| status.as_u16()) {
            Some(401 | 403) => Refused::Denied(chain(request)),
            Some(400..500) => Refused::Other(chain(request)),
            _ => Refused::Passing(chain(request)),
        },
        Oci::IoError(_) => Refused::Passing(chain(&error)),
        _ => Refused::Other(chain(&error)),
    }
}

/// An error with its reasons, each said once.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    first_line(&text)
}

/// What a server says goes into Events: one line of it.
fn first_line(text: &str) -> String {
    const CHARACTERS: usize = 400;
    text.lines().next().unwrap_or_default().chars().take(CHARACTERS).collect()
}
