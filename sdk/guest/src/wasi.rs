//! The node as a host, by WASI 0.2. WASI is called directly and `std::io` never, so this builds for
//! every Rust target that makes components.

pub use wasip2;
use wasip2::http::{
    outgoing_handler,
    types::{
        ErrorCode, Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest,
        OutgoingResponse, ResponseOutparam, Scheme,
    },
};

use crate::{
    Answer, Call, Config, Fault, Fetch, HostError, KeyValue, Level, Log, Request, Response, Router,
    Store,
};

wit_bindgen::generate!({
    inline: "
        package windlass:guest;
        world guest {
            import wasi:config/store@0.2.0-rc.1;
            import wasi:keyvalue/store@0.2.0-draft2;
            import wasi:keyvalue/atomics@0.2.0-draft2;
            import wasi:logging/logging@0.1.0-draft;
        }
        package wasi:config@0.2.0-rc.1 {
            interface store {
                variant error { upstream(string), io(string) }
                get: func(key: string) -> result<option<string>, error>;
            }
        }
        package wasi:keyvalue@0.2.0-draft2 {
            interface store {
                variant error { no-such-store, access-denied, other(string) }
                open: func(identifier: string) -> result<bucket, error>;
                resource bucket {
                    get: func(key: string) -> result<option<list<u8>>, error>;
                    set: func(key: string, value: list<u8>) -> result<_, error>;
                    delete: func(key: string) -> result<_, error>;
                }
            }
            interface atomics {
                use store.{bucket, error};
                increment: func(bucket: borrow<bucket>, key: string, delta: s64)
                    -> result<s64, error>;
            }
        }
        package wasi:logging@0.1.0-draft {
            interface logging {
                enum level { trace, debug, info, warn, error, critical }
                log: func(level: level, context: string, message: string);
            }
        }
    ",
    generate_all,
});

use self::wasi::{
    config::store as config,
    keyvalue::{atomics, store},
    logging::logging,
};

/// A longer body of a request is answered with 413; a longer one of an answer is an error.
const MOST_BODY_BYTES: usize = 4 << 20;
/// What one read asks for, and what one write may hold.
const READ_BYTES: u64 = 64 << 10;
const WRITE_BYTES: usize = 4096;

/// The node that the component runs on.
pub struct Wasi;

impl Config for Wasi {
    fn config(&self, name: &str) -> Result<Option<String>, HostError> {
        config::get(name).map_err(|error| {
            let (config::Error::Upstream(why) | config::Error::Io(why)) = error;
            HostError(format!("{name} can't be read: {why}"))
        })
    }
}

impl KeyValue for Wasi {
    type Store = Bucket;

    fn open(&self, name: &str) -> Result<Bucket, HostError> {
        store::open(name).map(Bucket).map_err(|error| match error {
            store::Error::NoSuchStore => HostError(format!("there is no store {name:?}")),
            store::Error::AccessDenied => {
                HostError(format!("windlass.toml grants no store {name:?}"))
            }
            store::Error::Other(why) => HostError(why),
        })
    }
}

/// A store of the node's.
pub struct Bucket(store::Bucket);

impl Store for Bucket {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.0.get(key).map_err(told)
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), HostError> {
        self.0.set(key, value).map_err(told)
    }

    fn delete(&self, key: &str) -> Result<(), HostError> {
        self.0.delete(key).map_err(told)
    }

    fn increment(&self, key: &str, more: i64) -> Result<i64, HostError> {
        atomics::increment(&self.0, key, more).map_err(told)
    }
}

fn told(error: store::Error) -> HostError {
    match error {
        store::Error::Other(why) => HostError(why),
        error => HostError(format!("{error:?}")),
    }
}

impl Log for Wasi {
    fn log(&self, level: Level, message: &str) {
        let level = match level {
            Level::Debug => logging::Level::Debug,
            Level::Info => logging::Level::Info,
            Level::Warn => logging::Level::Warn,
            Level::Error => logging::Level::Error,
        };
        logging::log(level, "", message);
    }
}

impl Fetch for Wasi {
    fn fetch(&self, call: &Call) -> Result<Answer, HostError> {
        let failed = |error: ErrorCode| HostError(format!("{}: {error:?}", call.url));
        let request = outgoing(call)?;
        let body = request.body().map_err(|()| HostError("a request has one body".into()))?;
        let coming = outgoing_handler::handle(request, None).map_err(failed)?;
        write(body, &call.body);
        coming.subscribe().block();
        let response = match coming.get() {
            Some(Ok(answered)) => answered.map_err(failed)?,
            _ => return Err(HostError(format!("{}: no answer", call.url))),
        };
        let body = response.consume().ok().map_or(Some(Vec::new()), read);
        let body = body.ok_or_else(|| HostError(format!("{}: too long an answer", call.url)))?;
        Ok(Answer { status: response.status(), headers: texts(&response.headers()), body })
    }
}

fn outgoing(call: &Call) -> Result<OutgoingRequest, HostError> {
    let wrong = || HostError(format!("{:?} is no URL that can be called", call.url));
    let (scheme, rest) = call.url.split_once("://").ok_or_else(wrong)?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return Err(wrong()),
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(fields(&call.headers)?);
    request
        .set_method(&method(&call.method))
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(if path.is_empty() { "/" } else { path })))
        .map_err(|()| wrong())?;
    Ok(request)
}

/// Answers one request of the node's.
pub fn handle(router: &Router<Wasi>, incoming: IncomingRequest, to: ResponseOutparam) {
    let body = incoming.consume().ok().map_or(Some(Vec::new()), read);
    let response = match body {
        Some(body) => router.answer(
            Request {
                headers: texts(&incoming.headers()),
                ..Request::of(
                    &name(incoming.method()),
                    &incoming.path_with_query().unwrap_or_default(),
                    body,
                )
            },
            &Wasi,
        ),
        None => Fault::new(413, "the body is too long").into(),
    };
    answer(to, &response);
}

fn answer(to: ResponseOutparam, response: &Response) {
    // A header that isn't one is left out: the answer is worth more.
    let headers = Fields::new();
    for (name, value) in &response.headers {
        let _ = headers.append(name, value.as_bytes());
    }
    let outgoing = OutgoingResponse::new(headers);
    let _ = outgoing.set_status_code(response.status);
    let Ok(body) = outgoing.body() else { return };
    ResponseOutparam::set(to, Ok(outgoing));
    write(body, &response.body);
}

fn write(body: OutgoingBody, content: &[u8]) {
    if let Ok(stream) = body.write() {
        for part in content.chunks(WRITE_BYTES) {
            // Who should read it is gone.
            if stream.blocking_write_and_flush(part).is_err() {
                break;
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

/// None where it is too long.
fn read(body: IncomingBody) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let Ok(stream) = body.stream() else { return Some(bytes) };
    while let Ok(part) = stream.blocking_read(READ_BYTES) {
        bytes.extend(part);
        if bytes.len() > MOST_BODY_BYTES {
            return None;
        }
    }
    Some(bytes)
}

fn fields(headers: &[(String, String)]) -> Result<Fields, HostError> {
    let fields = Fields::new();
    for (name, value) in headers {
        let is_set = fields.append(name, value.as_bytes());
        is_set.map_err(|error| HostError(format!("header {name:?}: {error:?}")))?;
    }
    Ok(fields)
}

fn texts(fields: &Fields) -> Vec<(String, String)> {
    let entries = fields.entries().into_iter();
    let text = |(name, value): (String, Vec<u8>)| {
        (name.to_lowercase(), String::from_utf8_lossy(&value).into_owned())
    };
    entries.map(text).collect()
}

const METHODS: [(&str, Method); 9] = [
    ("GET", Method::Get),
    ("HEAD", Method::Head),
    ("POST", Method::Post),
    ("PUT", Method::Put),
    ("DELETE", Method::Delete),
    ("PATCH", Method::Patch),
    ("OPTIONS", Method::Options),
    ("CONNECT", Method::Connect),
    ("TRACE", Method::Trace),
];

fn method(name: &str) -> Method {
    let known = METHODS.into_iter().find(|(known, _)| *known == name);
    known.map_or_else(|| Method::Other(name.to_owned()), |(_, method)| method)
}

fn name(method: Method) -> String {
    if let Method::Other(name) = method {
        return name;
    }
    let same = |known: &Method| std::mem::discriminant(known) == std::mem::discriminant(&method);
    let known = METHODS.iter().find(|(_, known)| same(known));
    known.map(|(name, _)| *name).unwrap_or_default().to_owned()
}
