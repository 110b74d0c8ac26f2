//! `/N` answers with N bytes, as fast as they are taken; anything else with none.

use guests::Target;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Bytes;

wasip2::http::proxy::export!(Bytes);

static BLOCK: [u8; 64 << 10] = [b'x'; 64 << 10];

impl wasip2::exports::http::incoming_handler::Guest for Bytes {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        let wanted = Target::of(&request).path;
        let mut left = wanted.trim_start_matches('/').parse::<usize>().unwrap_or(0);
        let headers = Fields::new();
        let _ = headers.set("content-length", &[left.to_string().into_bytes()]);
        let response = OutgoingResponse::new(headers);
        let body = response.body().expect("taken once");
        ResponseOutparam::set(to, Ok(response));
        let stream = body.write().expect("taken once");
        while left > 0 {
            stream.subscribe().block();
            let Ok(room) = stream.check_write() else { break };
            let now = left.min(room as usize).min(BLOCK.len());
            if stream.write(&BLOCK[..now]).is_err() {
                break;
            }
            left -= now;
        }
        let _ = stream.flush();
        stream.subscribe().block();
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}
