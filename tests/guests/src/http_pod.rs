//! What a pod gives its container: `/write/V/F` makes the file `/V/F`, `/remove/V/F` removes it,
//! `/env` tells the environment, `/healthz` answers 500 while there is a file `/v/sick`, as the
//! health service of gRPC answers NOT_SERVING, below `/api` the API server answers, called with the
//! pod's token, and any other path is a file to read.

use guests::{answer, write};
use wasip2::{
    cli::environment::get_environment,
    filesystem::{
        preopens::get_directories,
        types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags},
    },
    http::{
        outgoing_handler,
        types::{
            Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse,
            ResponseOutparam, Scheme,
        },
    },
};

const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";
const FOLLOW: PathFlags = PathFlags::SYMLINK_FOLLOW;

struct Pod;

wasip2::http::proxy::export!(Pod);

impl wasip2::exports::http::incoming_handler::Guest for Pod {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        if path == "/grpc.health.v1.Health/Check" {
            return health(to);
        }
        if path.starts_with("/api") {
            return match call(&path) {
                Ok((status, body)) => answer(to, status, &body),
                Err(error) => answer(to, 502, error.as_bytes()),
            };
        }
        let done = match path.split_once('/').map(|(_, rest)| rest.split_once('/')) {
            Some(Some(("write", file))) => make(&format!("/{file}")).map(|()| Vec::new()),
            Some(Some(("remove", file))) => remove(&format!("/{file}")).map(|()| Vec::new()),
            _ if path == "/env" => Ok(environment()),
            _ if path == "/healthz" => {
                let sick = read("/v/sick").is_ok();
                return answer(to, if sick { 500 } else { 200 }, b"");
            }
            _ => read(&path),
        };
        match done {
            Ok(bytes) => answer(to, 200, &bytes),
            Err(code) => answer(to, 404, code.name().as_bytes()),
        }
    }
}

fn call(path: &str) -> Result<(u16, Vec<u8>), String> {
    let token = read(TOKEN).map_err(|code| code.name().to_string())?;
    let head = Fields::new();
    let _ = head.append("authorization", &[b"Bearer ", token.as_slice()].concat());
    let request = OutgoingRequest::new(head);
    let _ = request.set_scheme(Some(&Scheme::Https));
    let _ = request.set_authority(Some("kubernetes.default.svc"));
    let _ = request.set_path_with_query(Some(path));
    let answer = outgoing_handler::handle(request, None).map_err(|error| format!("{error:?}"))?;
    answer.subscribe().block();
    let response = answer.get().expect("is ready").expect("taken once");
    let response = response.map_err(|error| format!("{error:?}"))?;
    let body = response.consume().expect("taken once");
    let stream = body.stream().expect("taken once");
    let mut bytes = Vec::new();
    while let Ok(chunk) = stream.blocking_read(64 * 1024) {
        bytes.extend(chunk);
    }
    Ok((response.status(), bytes))
}

/// HealthCheckResponse, framed, and `grpc-status` in the trailers.
fn health(to: ResponseOutparam) {
    let status = if read("/v/sick").is_ok() { 2 } else { 1 };
    let head = Fields::new();
    let _ = head.append("content-type", b"application/grpc");
    let response = OutgoingResponse::new(head);
    let body = response.body().expect("taken once");
    ResponseOutparam::set(to, Ok(response));
    if let Ok(stream) = body.write() {
        write(&stream, &[0, 0, 0, 0, 2, 8, status]);
    }
    let trailers = Fields::new();
    let _ = trailers.append("grpc-status", b"0");
    let _ = OutgoingBody::finish(body, Some(trailers));
}

fn environment() -> Vec<u8> {
    let lines = get_environment().into_iter().map(|(name, value)| format!("{name}={value}\n"));
    lines.collect::<String>().into_bytes()
}

/// The folder that holds a path, and the rest of the path.
fn folder(path: &str) -> Result<(Descriptor, String), ErrorCode> {
    for (folder, name) in get_directories() {
        let inside = path.strip_prefix(&name).and_then(|rest| rest.strip_prefix('/'));
        if let Some(inside) = inside {
            return Ok((folder, inside.to_string()));
        }
    }
    Err(ErrorCode::NoEntry)
}

fn read(path: &str) -> Result<Vec<u8>, ErrorCode> {
    let (folder, inside) = folder(path)?;
    let file = folder.open_at(FOLLOW, &inside, OpenFlags::empty(), DescriptorFlags::READ)?;
    file.read(1 << 20, 0).map(|(bytes, _)| bytes)
}

fn make(path: &str) -> Result<(), ErrorCode> {
    let (folder, inside) = folder(path)?;
    let write = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let file = folder.open_at(FOLLOW, &inside, OpenFlags::CREATE, write)?;
    file.write(b"here\n", 0).map(|_| ())
}

fn remove(path: &str) -> Result<(), ErrorCode> {
    let (folder, inside) = folder(path)?;
    folder.unlink_file_at(&inside)
}
