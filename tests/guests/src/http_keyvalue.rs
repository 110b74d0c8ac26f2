//! Uses `wasi:keyvalue` as the path says, on the query's `store` (else `default`) and `key`. Answers
//! with what came of it.

use guests::{Target, answer};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

wit_bindgen::generate!({
    path: "../../runtime/wasm/wit",
    world: "keyvalue",
    generate_all,
});

use wasi::keyvalue::{
    atomics::{self, Cas, CasError},
    batch,
    store::{self, Bucket, Error},
};

struct Handler;

wasip2::http::proxy::export!(Handler);

impl wasip2::exports::http::incoming_handler::Guest for Handler {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        let target = Target::of(&request);
        match run(&target) {
            Ok(text) => answer(to, 200, text.as_bytes()),
            Err(error) => answer(to, 500, format!("{error:?}").as_bytes()),
        }
    }
}

fn run(target: &Target) -> Result<String, Error> {
    let bucket = store::open(target.get("store").unwrap_or("default"))?;
    let key = target.get("key").unwrap_or_default();
    let value = || target.get("value").unwrap_or_default().as_bytes().to_vec();
    Ok(match target.path.as_str() {
        "/get" => shown(bucket.get(key)?),
        "/set" => format!("{:?}", bucket.set(key, &value())?),
        "/large" => {
            format!("{:?}", bucket.set(key, &vec![b'x'; target.number("bytes") as usize])?)
        }
        "/delete" => format!("{:?}", bucket.delete(key)?),
        "/exists" => format!("{:?}", bucket.exists(key)?),
        "/keys" => {
            let (mut all, mut cursor, mut pages) = (Vec::new(), None, 0);
            loop {
                let page = bucket.list_keys(cursor.as_deref())?;
                all.extend(page.keys);
                pages += 1;
                cursor = page.cursor;
                if cursor.is_none() {
                    break;
                }
            }
            all.sort();
            match target.get("count") {
                Some(_) => format!("{} in {pages}", all.len()),
                None => format!("{all:?}"),
            }
        }
        "/increment" => {
            let by = target.get("by").and_then(|by| by.parse().ok()).unwrap_or(1);
            atomics::increment(&bucket, key, by)?.to_string()
        }
        "/swap" => swap(&bucket, key, &value())?,
        "/fill" => {
            let entries: Vec<_> =
                (0..target.number("count")).map(|n| (format!("n{n:05}"), vec![b'v'])).collect();
            batch::set_many(&bucket, &entries)?;
            let keys: Vec<_> = ["n00000", "n00001", "none"].map(str::to_string).to_vec();
            let got = batch::get_many(&bucket, &keys)?;
            let got = got.into_iter().map(|(key, value)| format!("{key}={}", shown(value)));
            batch::delete_many(&bucket, &keys[..2])?;
            got.collect::<Vec<_>>().join(" ")
        }
        other => format!("no such path: {other}"),
    })
}

/// Swaps once too late and once in time.
fn swap(bucket: &Bucket, key: &str, value: &[u8]) -> Result<String, Error> {
    let seen = Cas::new(bucket, key)?;
    let first = shown(seen.current()?);
    bucket.set(key, b"meanwhile")?;
    let late = match atomics::swap(seen, value) {
        Ok(()) => return Ok("swapped what had changed".to_string()),
        Err(CasError::StoreError(error)) => return Err(error),
        Err(CasError::CasFailed(again)) => again,
    };
    let second = shown(late.current()?);
    Ok(match atomics::swap(late, value) {
        Ok(()) => format!("{first}, {second}, {}", shown(bucket.get(key)?)),
        Err(error) => format!("{error:?}"),
    })
}

fn shown(value: Option<Vec<u8>>) -> String {
    match value {
        Some(bytes) if bytes.len() > 100 => format!("{} bytes", bytes.len()),
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => "nothing".to_string(),
    }
}
