//! Blobs on their way in (distribution-spec, "Pushing Blobs"): whole by POST, or in pieces of an upload
//! that has a name. Bytes are hashed as they come. A request that breaks off leaves the upload at the
//! byte it came to, from where the client may go on; what it doesn't go on with is dropped.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    body::{Body, BodyDataStream, Bytes},
    response::Response,
};
use futures::StreamExt;
use http::{
    HeaderMap, HeaderName, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, LOCATION, RANGE},
    request::Parts,
};
use parking_lot::Mutex;
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncWriteExt, BufWriter},
    sync::{Mutex as Gate, OwnedMutexGuard},
    time::Instant,
};
use windlass_sdk_meta::Rng;
use windlass_sdk_package::Hasher;

use crate::{
    CONTENT_DIGEST, Registry, Repository, StorageError, Verdict,
    access::Action,
    error::{Code, Refused},
    header,
    query::parameter,
    route,
};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// Bytes that are gathered before they are written.
const PIECE_BYTES: usize = 256 * 1024;
/// How long a client may send nothing within a request.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a request waits for one before it that broke off.
const TURN: Duration = Duration::from_secs(10);

pub(crate) struct Uploads {
    rng: Rng,
    open: Mutex<BTreeMap<String, Open>>,
}

struct Open {
    repository: Repository,
    touched: Instant,
    session: Arc<Gate<Session>>,
}

/// What came so far.
struct Session {
    /// None once it is in its place: who waited for a turn comes too late.
    file: Option<NamedTempFile>,
    hasher: Hasher,
    size_bytes: u64,
}

impl Uploads {
    pub fn new(rng: Rng) -> Self {
        Self { rng, open: Mutex::default() }
    }

    /// Drops those without a request for `idle`; returns how many are left. One that a request holds
    /// isn't idle, however long that takes.
    pub fn expire(&self, idle: Duration) -> usize {
        let mut open = self.open.lock();
        open.retain(|_, upload| {
            upload.touched.elapsed() < idle || Arc::strong_count(&upload.session) > 1
        });
        open.len()
    }

    fn add(&self, at: &Repository, session: Session, most: usize) -> Result<String, Refused> {
        let mut open = self.open.lock();
        if open.len() >= most {
            let why = format!("{most} uploads are open: come again later");
            return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests, why));
        }
        let id = format!("{:016x}{:016x}", self.rng.next_u64(), self.rng.next_u64());
        let session = Arc::new(Gate::new(session));
        let upload = Open { repository: at.clone(), touched: Instant::now(), session };
        open.insert(id.clone(), upload);
        Ok(id)
    }

    fn get(&self, at: &Repository, id: &str) -> Result<Arc<Gate<Session>>, Refused> {
        let mut open = self.open.lock();
        let found = open.get_mut(id).filter(|upload| upload.repository == *at);
        let found = found.ok_or_else(over)?;
        found.touched = Instant::now();
        Ok(found.session.clone())
    }

    /// The upload, for one request at a time.
    async fn turn(&self, at: &Repository, id: &str) -> Result<OwnedMutexGuard<Session>, Refused> {
        let session = self.get(at, id)?;
        tokio::time::timeout(TURN, session.lock_owned()).await.map_err(|_| {
            let why = "another request writes to this upload";
            Refused::new(StatusCode::CONFLICT, Code::BlobUploadInvalid, why)
        })
    }

    /// False: it was closed before.
    fn close(&self, id: &str) -> bool {
        self.open.lock().remove(id).is_some()
    }

    /// Drops those to a namespace.
    pub fn clear(&self, namespace: &str) {
        self.open.lock().retain(|_, upload| upload.repository.namespace() != namespace);
    }
}

fn over() -> Refused {
    let why = "there is no such upload: it ended, or was left for too long";
    Refused::not_found(Code::BlobUploadUnknown, why)
}

/// end-4a, 4b and 11: begins an upload; with `digest` it is all of it, with `mount` and `from` the
/// content is taken from another repository where that is possible.
pub(crate) async fn begin(
    registry: &Arc<Registry>,
    at: &Repository,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refused> {
    if let Some(mounted) = mount(registry, at, parts).await? {
        return Ok(mounted);
    }
    let file = registry.blocking(|registry| Ok(registry.storage.incoming()?)).await?;
    let session = Session { file: Some(file), hasher: Hasher::default(), size_bytes: 0 };
    let wanted = parameter(parts, "digest").map(|text| route::digest(&text)).transpose()?;
    let id = registry.uploads.add(at, session, registry.limits.uploads)?;
    registry.untidy.notify_one();
    let Some(digest) = wanted else { return progress(StatusCode::ACCEPTED, at, &id, 0) };
    write(registry, at, &id, parts, body, Then::KeepAll(digest)).await
}

/// None: there is nothing to mount, or not for this client; it is to be uploaded then.
async fn mount(
    registry: &Arc<Registry>,
    at: &Repository,
    parts: &Parts,
) -> Result<Option<Response>, Refused> {
    let (Some(digest), Some(from)) = (parameter(parts, "mount"), parameter(parts, "from")) else {
        return Ok(None);
    };
    let digest = route::digest(&digest)?;
    // A name of another registry's sort is of no repository that is here.
    let Ok(from) = Repository::parse(&from) else { return Ok(None) };
    if registry.access.may(&parts.extensions, Action::Pull, &from) != Verdict::Yes {
        return Ok(None);
    }
    let entered = registry.enter(parts, Action::Create, at).await?;
    let (to, of) = (at.clone(), digest.clone());
    let mounted = registry.blocking(move |registry| {
        let _entered = entered;
        let there = registry.has_blob(&from, &of) && registry.storage.content(&of).is_some();
        if there {
            registry.storage.renew(&of)?;
            registry.link(&to, &of)?;
        }
        Ok(there)
    });
    mounted.await?.then(|| created(at, &digest)).transpose()
}

/// end-5: a piece of an upload.
pub(crate) async fn append(
    registry: &Arc<Registry>,
    at: &Repository,
    id: &str,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refused> {
    write(registry, at, id, parts, body, Then::GoOn).await
}

/// end-6: the last piece, which may be empty, and the digest of all.
pub(crate) async fn finish(
    registry: &Arc<Registry>,
    at: &Repository,
    id: &str,
    parts: &Parts,
    body: Body,
) -> Result<Response, Refused> {
    let digest = parameter(parts, "digest").ok_or_else(|| {
        Refused::bad(Code::DigestInvalid, "the parameter digest says what was uploaded")
    })?;
    write(registry, at, id, parts, body, Then::Keep(route::digest(&digest)?)).await
}

/// end-13: how far an upload has come.
pub(crate) async fn status(
    registry: &Arc<Registry>,
    at: &Repository,
    id: &str,
) -> Result<Response, Refused> {
    let size_bytes = registry.uploads.turn(at, id).await?.size_bytes;
    progress(StatusCode::NO_CONTENT, at, id, size_bytes)
}

/// end-14: the client doesn't want it any more.
pub(crate) fn cancel(registry: &Registry, at: &Repository, id: &str) -> Result<Response, Refused> {
    registry.uploads.get(at, id)?;
    registry.uploads.close(id);
    let answer = Response::builder().status(StatusCode::NO_CONTENT);
    answer.body(Body::empty()).map_err(Refused::failed)
}

/// What follows when the bytes of a request are there.
enum Then {
    GoOn,
    Keep(String),
    /// The same; the client doesn't know the upload, and can't go on with it.
    KeepAll(String),
}

/// Takes the bytes of a request in. In a task of its own: a client that hangs up ends its bytes, and
/// not the counting of those that came.
async fn write(
    registry: &Arc<Registry>,
    at: &Repository,
    id: &str,
    parts: &Parts,
    body: Body,
    then: Then,
) -> Result<Response, Refused> {
    let mut session = registry.uploads.turn(at, id).await?;
    let announced = announced(&parts.headers, at, id, session.size_bytes)?;
    let (registry, at, id) = (registry.clone(), at.clone(), id.to_owned());
    let writing = async move {
        let taken = session.take_in(body, registry.limits.blob_bytes, announced).await;
        match (taken, then) {
            (Ok(()), Then::GoOn) => progress(StatusCode::ACCEPTED, &at, &id, session.size_bytes),
            (Ok(()), Then::Keep(digest) | Then::KeepAll(digest)) => {
                keep(&registry, &at, &id, session, digest).await
            }
            (Err(Broken::Off(refused)), Then::GoOn | Then::Keep(_)) => Err(refused),
            (Err(Broken::Off(refused) | Broken::Wrong(refused)), _) => {
                registry.uploads.close(&id);
                Err(refused)
            }
        }
    };
    tokio::spawn(writing).await.map_err(Refused::failed)?
}

/// Moves what was uploaded to its place, if it is what the client says.
async fn keep(
    registry: &Arc<Registry>,
    at: &Repository,
    id: &str,
    mut session: OwnedMutexGuard<Session>,
    digest: String,
) -> Result<Response, Refused> {
    let entered = registry.gate.clone().read_owned().await;
    // Its namespace may have been cleared while it came, or its client have cancelled it.
    if !registry.uploads.close(id) {
        return Err(over());
    }
    let found = session.hasher.clone().finish();
    if found != digest {
        let why = format!("what was uploaded has the digest {found}, not {digest}");
        return Err(Refused::bad(Code::DigestInvalid, why));
    }
    let Some(file) = session.file.take() else { return Err(over()) };
    let (to, of) = (at.clone(), digest.clone());
    let kept = registry.blocking(move |registry| {
        let _entered = entered;
        registry.storage.keep(&of, file)?;
        registry.link(&to, &of)
    });
    kept.await?;
    created(at, &digest)
}

/// Why bytes are not all there.
enum Broken {
    /// The client may go on where it broke off.
    Off(Refused),
    /// The upload is of no use any more.
    Wrong(Refused),
}

impl Session {
    /// Adds the bytes of a body. `announced`: how many there must be, where the client said that.
    async fn take_in(
        &mut self,
        body: Body,
        most_bytes: u64,
        announced: Option<u64>,
    ) -> Result<(), Broken> {
        let mut pieces = body.into_data_stream();
        let taken = self.add_all(&mut pieces, most_bytes, announced).await;
        if let Err(Broken::Wrong(_)) = &taken {
            // Its room is free at once, however long the client goes on.
            self.file = None;
            drain(&mut pieces, most_bytes.saturating_sub(self.size_bytes)).await;
        }
        taken
    }

    async fn add_all(
        &mut self,
        pieces: &mut BodyDataStream,
        most_bytes: u64,
        announced: Option<u64>,
    ) -> Result<(), Broken> {
        let failed = |error| Broken::Wrong(StorageError::io("an upload", error).into());
        let Some(file) = &self.file else { return Err(Broken::Wrong(over())) };
        let file = file.as_file().try_clone().map_err(failed)?;
        let mut file = BufWriter::with_capacity(PIECE_BYTES, tokio::fs::File::from_std(file));
        let before = self.size_bytes;
        let broke_off = loop {
            let piece = match next(pieces).await {
                Ok(Some(piece)) => piece,
                Ok(None) => break None,
                Err(why) => break Some(why),
            };
            let size_bytes = self.size_bytes + piece.len() as u64;
            if size_bytes > most_bytes {
                let why = format!("the blob is larger than {most_bytes} bytes");
                let status = StatusCode::PAYLOAD_TOO_LARGE;
                return Err(Broken::Wrong(Refused::new(status, Code::SizeInvalid, why)));
            }
            file.write_all(&piece).await.map_err(failed)?;
            self.hasher.add(&piece);
            self.size_bytes = size_bytes;
        };
        file.flush().await.map_err(failed)?;
        if let Some(why) = broke_off {
            let why = format!("the upload was interrupted: {why}");
            return Err(Broken::Off(Refused::bad(Code::BlobUploadInvalid, why)));
        }
        match announced.filter(|announced| *announced != self.size_bytes - before) {
            Some(announced) => {
                let came = self.size_bytes - before;
                let why = format!("{announced} bytes were announced, and {came} came");
                Err(Broken::Wrong(Refused::bad(Code::SizeInvalid, why)))
            }
            None => Ok(()),
        }
    }
}

/// The next bytes of a body; None at its end.
async fn next(pieces: &mut BodyDataStream) -> Result<Option<Bytes>, String> {
    match tokio::time::timeout(SILENCE, pieces.next()).await {
        Ok(Some(Ok(piece))) => Ok(Some(piece)),
        Ok(None) => Ok(None),
        Ok(Some(Err(error))) => Err(error.to_string()),
        Err(_) => Err(format!("nothing came for {} s", SILENCE.as_secs())),
    }
}

/// Takes what a client still sends, and leaves it: many read no answer before they have sent all, and
/// see a broken connection instead of why.
async fn drain(pieces: &mut BodyDataStream, mut most_bytes: u64) {
    while let Ok(Some(piece)) = next(pieces).await {
        most_bytes = match most_bytes.checked_sub(piece.len() as u64) {
            Some(left) => left,
            None => return,
        };
    }
}

/// How many bytes the request says that it brings: by `Content-Range` (`first-last`), which must begin
/// where the upload ends, or by `Content-Length`.
fn announced(
    headers: &HeaderMap,
    at: &Repository,
    id: &str,
    size_bytes: u64,
) -> Result<Option<u64>, Refused> {
    let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let length = text(&CONTENT_LENGTH).and_then(|text| text.parse::<u64>().ok());
    let Some(range) = headers.get(CONTENT_RANGE) else { return Ok(length) };
    let range = range.to_str().unwrap_or_default();
    let bounds = range.split_once('-').and_then(|(first, last)| {
        let (first, last) = (first.trim().parse::<u64>().ok()?, last.trim().parse::<u64>().ok()?);
        (first <= last).then_some((first, last))
    });
    let out_of_order = |why: String| {
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        let refused = Refused::new(status, Code::BlobUploadInvalid, why);
        let at_byte = header(&range_of(size_bytes))?;
        Ok::<_, Refused>(refused.with(LOCATION, header(&place(at, id))?).with(RANGE, at_byte))
    };
    let Some((first, last)) = bounds else {
        return Err(out_of_order(format!("the range {range:?} is not FIRST-LAST"))?);
    };
    if first != size_bytes {
        let why = format!("the piece begins at byte {first}, but the upload is at {size_bytes}");
        return Err(out_of_order(why)?);
    }
    let bytes = (last - first).saturating_add(1);
    if length.is_some_and(|length| length != bytes) {
        let why = format!("the range {range:?} and the length of the request differ");
        return Err(Refused::bad(Code::SizeInvalid, why));
    }
    Ok(Some(bytes))
}

impl Registry {
    /// The repository has this content from now, though no manifest names it yet.
    fn link(&self, at: &Repository, digest: &str) -> Result<(), Refused> {
        self.untidy.notify_one();
        match self.links.add(at, digest) {
            true => Ok(()),
            false => {
                let why = "too much was uploaded that no manifest names: come again later";
                let status = StatusCode::TOO_MANY_REQUESTS;
                Err(Refused::new(status, Code::TooManyRequests, why))
            }
        }
    }
}

fn place(at: &Repository, id: &str) -> String {
    format!("/v2/{at}/blobs/uploads/{id}")
}

/// The bytes that are there, as `first-last`; nothing is `0-0`, too, as everywhere.
fn range_of(size_bytes: u64) -> String {
    format!("0-{}", size_bytes.saturating_sub(1))
}

fn progress(
    status: StatusCode,
    at: &Repository,
    id: &str,
    size_bytes: u64,
) -> Result<Response, Refused> {
    let answer = Response::builder().status(status);
    let answer = answer.header(LOCATION, place(at, id)).header(RANGE, range_of(size_bytes));
    answer.header(UPLOAD_ID, id).body(Body::empty()).map_err(Refused::failed)
}

fn created(at: &Repository, digest: &str) -> Result<Response, Refused> {
    let place = format!("/v2/{at}/blobs/{digest}");
    let answer = Response::builder().status(StatusCode::CREATED).header(LOCATION, place);
    answer.header(CONTENT_DIGEST, digest).body(Body::empty()).map_err(Refused::failed)
}
