//! The bound on the entries of a namespace's key-value stores. Guests write them, as many as their
//! visitors make them, and the API server keeps every object in memory.

use windlass_sdk_meta::{
    Status,
    keyvalue::{BOUND_CAUSE, ENTRIES_LIMIT, ENTRIES_LIMIT_BYTES},
};

use super::{AdmissionRequest, Operation};
use crate::Lookup;

const ELSEWHERE: &str =
    "delete some, or keep them elsewhere by the pods' annotation windlass.dev/keyvalue";

/// Writes that are under way at the same time aren't counted, so that a few more may get in.
pub(super) fn validate(request: &AdmissionRequest<'_>, lookup: &dyn Lookup) -> Result<(), Status> {
    let grows = match request.operation {
        Operation::Create => true,
        Operation::Update => value_bytes(request.object.as_deref()) > value_bytes(request.old),
        Operation::Delete | Operation::Connect => false,
    };
    if !grows || !request.is("windlass.dev", "keyvalues") {
        return Ok(());
    }
    let entries = lookup.list(request.resource, request.namespace);
    let bytes: usize = entries.iter().map(|entry| entry.encoded().bytes().len()).sum();
    let bytes = bytes + value_bytes(request.object.as_deref());
    let bound = if request.operation == Operation::Create && entries.len() >= ENTRIES_LIMIT {
        format!("{ENTRIES_LIMIT} key-value entries")
    } else if bytes > ENTRIES_LIMIT_BYTES {
        format!("{} MiB of key-value entries", ENTRIES_LIMIT_BYTES >> 20)
    } else {
        return Ok(());
    };
    let why =
        format!("namespace {} has {bound}, which is the bound: {ELSEWHERE}", request.namespace);
    Err(request.forbidden(&why).with_cause(BOUND_CAUSE, why, "metadata.namespace"))
}

/// As it is encoded.
fn value_bytes(object: Option<&serde_json::Value>) -> usize {
    object.and_then(|object| object["spec"]["value"].as_str()).map_or(0, str::len)
}
