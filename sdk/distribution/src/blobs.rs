//! Blobs on their way out (distribution-spec, "Pulling blobs"), whole or in part.

use std::{io::SeekFrom, sync::Arc};

use axum::{body::Body, response::Response};
use http::{
    HeaderMap, Method, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE},
    request::Parts,
};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};
use tokio_util::io::ReaderStream;

use crate::{
    CONTENT_DIGEST, Content, Registry, Repository,
    error::{Code, Refused},
    header,
};

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// end-2: the content; with `Range` a part of it.
pub(crate) async fn get(
    registry: &Arc<Registry>,
    at: &Repository,
    digest: String,
    parts: &Parts,
) -> Result<Response, Refused> {
    let found = find(registry, at, &digest).await?;
    let wanted = wanted(&parts.headers, found.size_bytes)?;
    let (status, first, length) = match wanted {
        None => (StatusCode::OK, 0, found.size_bytes),
        Some((first, last)) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
    };
    let mut answer = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, length)
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_DIGEST, &digest);
    if let Some((first, last)) = wanted {
        answer = answer.header(CONTENT_RANGE, format!("bytes {first}-{last}/{}", found.size_bytes));
    }
    let body = match parts.method {
        Method::HEAD => Body::empty(),
        _ => {
            let mut file = File::open(&found.path).await.map_err(Refused::failed)?;
            file.seek(SeekFrom::Start(first)).await.map_err(Refused::failed)?;
            Body::from_stream(ReaderStream::with_capacity(file.take(length), PIECE_BYTES))
        }
    };
    answer.body(body).map_err(Refused::failed)
}

/// end-10: takes content from a repository that no manifest of it needs. The store drops it when
/// nobody else has it.
pub(crate) async fn delete(
    registry: &Arc<Registry>,
    at: &Repository,
    digest: String,
) -> Result<Response, Refused> {
    let (of, at) = (digest, at.clone());
    let deleted = registry.blocking(move |registry| {
        if let Some(manifest) = registry.named_by(&at, &of) {
            let why = format!("the manifest {manifest} needs it: delete that one");
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return Err(Refused::new(status, Code::Unsupported, why));
        }
        match registry.links.remove(&at, &of) {
            true => Ok(()),
            false => Err(unknown(&at, &of)),
        }
    });
    deleted.await?;
    registry.untidy.notify_one();
    let answer = Response::builder().status(StatusCode::ACCEPTED);
    answer.body(Body::empty()).map_err(Refused::failed)
}

async fn find(registry: &Arc<Registry>, at: &Repository, digest: &str) -> Result<Content, Refused> {
    let (at, of) = (at.clone(), digest.to_owned());
    let find = move |registry: &Registry| {
        let found = registry.has_blob(&at, &of).then(|| registry.storage.content(&of)).flatten();
        found.ok_or_else(|| unknown(&at, &of))
    };
    registry.blocking(find).await
}

fn unknown(at: &Repository, digest: &str) -> Refused {
    Refused::not_found(Code::BlobUnknown, format!("{at} has no blob {digest}"))
}

/// First and last byte of the one range that is asked for (RFC 9110, 14.2); None: all of it, also
/// where several are.
fn wanted(headers: &HeaderMap, size_bytes: u64) -> Result<Option<(u64, u64)>, Refused> {
    let text = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let Some(range) = text.and_then(|text| text.strip_prefix("bytes=")) else { return Ok(None) };
    let Some((first, last)) = range.split_once('-').filter(|_| !range.contains(',')) else {
        return Ok(None);
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    let end = size_bytes.checked_sub(1);
    let bounds = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => end.map(|end| (first, last.min(end))),
        (Some(first), None) if last.trim().is_empty() => end.map(|end| (first, end)),
        (None, Some(count)) if first.trim().is_empty() && count > 0 => {
            end.map(|end| (size_bytes.saturating_sub(count), end))
        }
        (None, Some(_)) if first.trim().is_empty() => None,
        _ => return Ok(None),
    };
    match bounds.filter(|(first, last)| first <= last) {
        Some(bounds) => Ok(Some(bounds)),
        None => {
            let why = format!("there is no {range:?} in {size_bytes} bytes");
            let refused = Refused::new(StatusCode::RANGE_NOT_SATISFIABLE, Code::SizeInvalid, why);
            Err(refused.with(CONTENT_RANGE, header(&format!("bytes */{size_bytes}"))?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, expected) in [
            ("bytes=0-3", Ok(Some((0, 3)))),
            ("bytes=4-", Ok(Some((4, 9)))),
            ("bytes=4-100", Ok(Some((4, 9)))),
            ("bytes=-3", Ok(Some((7, 9)))),
            ("bytes=-30", Ok(Some((0, 9)))),
            ("bytes=0-1,3-4", Ok(None)),
            ("bytes=3-1", Ok(None)),
            ("lines=1-2", Ok(None)),
            ("bytes=10-", Err(())),
            ("bytes=12-14", Err(())),
            ("bytes=-0", Err(())),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, text.parse().expect("a header"));
            assert_eq!(wanted(&headers, 10).map_err(drop), expected, "{text}");
        }
    }
}
