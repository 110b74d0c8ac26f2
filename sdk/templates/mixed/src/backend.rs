//! Asks the container by `wasi:http`. Where it is, Windlass says in the variable `BACKEND`.

use wasip2::{
    cli::environment,
    http::{
        outgoing_handler,
        types::{ErrorCode, Fields, IncomingBody, IncomingResponse, OutgoingRequest, Scheme},
    },
};

use crate::Backend;

const VARIABLE: &str = "BACKEND";
/// A longer answer is none.
const MOST_BODY_BYTES: usize = 1 << 20;
/// What one read asks for.
const READ_BYTES: u64 = 64 << 10;

pub struct Container;

impl Backend for Container {
    fn get(&self, path: &str) -> Result<(u16, Vec<u8>), String> {
        let mut variables = environment::get_environment().into_iter();
        let url = variables.find(|(name, _)| name == VARIABLE).map(|(_, value)| value);
        let url = url.unwrap_or_default();
        let authority = url.strip_prefix("http://").ok_or("BACKEND is no http:// URL")?;
        let request = OutgoingRequest::new(Fields::new());
        let is_set = request
            .set_scheme(Some(&Scheme::Http))
            .and_then(|()| request.set_authority(Some(authority)))
            .and_then(|()| request.set_path_with_query(Some(path)));
        is_set.map_err(|()| format!("{url}{path} is no URL"))?;
        let coming = outgoing_handler::handle(request, None).map_err(told)?;
        coming.subscribe().block();
        let Some(Ok(Ok(response))) = coming.get() else { return Err("no answer came".to_owned()) };
        Ok((response.status(), body(&response)?))
    }
}

fn body(response: &IncomingResponse) -> Result<Vec<u8>, String> {
    let body: IncomingBody = response.consume().map_err(|()| "it has no body")?;
    let stream = body.stream().map_err(|()| "it has no body")?;
    let mut bytes = Vec::new();
    while let Ok(part) = stream.blocking_read(READ_BYTES) {
        bytes.extend(part);
        if bytes.len() > MOST_BODY_BYTES {
            return Err("its answer is too long".to_owned());
        }
    }
    Ok(bytes)
}

fn told(error: ErrorCode) -> String {
    format!("{error:?}")
}
