//! The one gRPC call that a probe makes, `grpc.health.v1.Health/Check`: its message, framed as gRPC
//! frames it, and what the answer means in upstream's words. Three fields of protobuf don't need a
//! library. Pure.

use windlass_runtime_api::HttpAnswer;

use crate::call::Outcome;

pub const CHECK: &str = "/grpc.health.v1.Health/Check";
/// Compressed or not, and the length: what stands before each message.
const PREFIX_BYTES: usize = 5;
/// gRPC's code of a method that a server doesn't have.
const UNIMPLEMENTED: u32 = 12;
const NAMES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
const SERVING: u64 = 1;

/// The request, framed: `HealthCheckRequest { string service = 1 }`.
pub fn check_request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(1 << 3 | 2);
        varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    // A name of a service is far from 4 GiB.
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or_default().to_be_bytes());
    framed.extend(message);
    framed
}

/// What the answer says of the service.
pub fn outcome(answer: &HttpAnswer) -> Outcome {
    match (&answer.grpc, answer.status) {
        (Some((0, _)), 200) => {}
        (Some((UNIMPLEMENTED, message)), _) => {
            let what = "this server does not implement the grpc health protocol";
            return Outcome::Failure(format!("{what} (grpc.health.v1.Health): {message}"));
        }
        (Some((code, message)), 200) => {
            let why =
                format!("error: health rpc failed: rpc error: code = {code} desc = {message}");
            return Outcome::Failure(why);
        }
        (None, 200) => {
            let why = "error: health rpc failed: the answer has no grpc-status";
            return Outcome::Failure(why.to_owned());
        }
        (_, status) => {
            let why = format!("error: health rpc failed: unexpected HTTP status code {status}");
            return Outcome::Failure(why);
        }
    }
    match serving_status(&answer.body) {
        Some(SERVING) => Outcome::Success,
        Some(other) => {
            let name = usize::try_from(other).ok().and_then(|at| NAMES.get(at));
            let name = name.map_or(other.to_string(), |name| (*name).to_owned());
            Outcome::Failure(format!("service unhealthy (responded with {name:?})"))
        }
        None => Outcome::Failure("error: health rpc failed: malformed answer".to_owned()),
    }
}

/// `HealthCheckResponse { ServingStatus status = 1 }`; None where the bytes are something else.
fn serving_status(framed: &[u8]) -> Option<u64> {
    let (prefix, rest) = framed.split_at_checked(PREFIX_BYTES)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    let mut message = rest.get(..usize::try_from(length).ok()?)?;
    let mut status = 0;
    while !message.is_empty() {
        let key = take_varint(&mut message)?;
        match key & 7 {
            0 => {
                let value = take_varint(&mut message)?;
                if key >> 3 == 1 {
                    status = value;
                }
            }
            1 => message = message.get(8..)?,
            2 => {
                let length = usize::try_from(take_varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            5 => message = message.get(4..)?,
            _ => return None,
        }
    }
    // A compressed message, which nobody asked for.
    (prefix[0] == 0).then_some(status)
}

fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, grpc: Option<(u32, &str)>, body: &[u8], expected: &str) {
        let answer = HttpAnswer {
            status,
            grpc: grpc.map(|(code, message)| (code, message.to_owned())),
            body: body.to_vec(),
            ..HttpAnswer::default()
        };
        let said = match outcome(&answer) {
            Outcome::Success => "healthy".to_owned(),
            Outcome::Failure(why) | Outcome::Warning(why) | Outcome::Error(why) => why,
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn answers() {
        let serving = [0, 0, 0, 0, 2, 8, 1];
        check(200, Some((0, "")), &serving, "healthy");
        let not = "service unhealthy (responded with \"NOT_SERVING\")";
        check(200, Some((0, "")), &[0, 0, 0, 0, 2, 8, 2], not);
        let unknown = "service unhealthy (responded with \"UNKNOWN\")";
        check(200, Some((0, "")), &[0, 0, 0, 0, 0], unknown);
        // A field that isn't known, before the one that is.
        check(200, Some((0, "")), &[0, 0, 0, 0, 5, 0x12, 1, b'x', 8, 1], "healthy");
        let malformed = "error: health rpc failed: malformed answer";
        check(200, Some((0, "")), &[0, 0, 0, 0, 2, 8], malformed);
        check(200, Some((0, "")), &[], malformed);
        check(200, Some((0, "")), &[1, 0, 0, 0, 2, 8, 1], malformed);
        check(
            200,
            Some((12, "no such method")),
            &[],
            "this server does not implement the grpc health protocol (grpc.health.v1.Health): no such method",
        );
        check(200, Some((5, "x")), &[], "error: health rpc failed: rpc error: code = 5 desc = x");
        let no_status = "error: health rpc failed: the answer has no grpc-status";
        check(200, None, &serving, no_status);
        let status = "error: health rpc failed: unexpected HTTP status code 404";
        check(404, None, &[], status);
    }

    #[test]
    fn requests() {
        assert_eq!(check_request(""), [0, 0, 0, 0, 0]);
        assert_eq!(check_request("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = check_request(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
    }
}
