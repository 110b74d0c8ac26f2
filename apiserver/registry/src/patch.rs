//! JSON Patch (RFC 6902) and JSON merge patch (RFC 7386) on trees, with upstream's bounds and
//! errors. Strategic merge patch needs the facts about types and lives with them.

use serde_json::Value;
use windlass_sdk_meta::{Reason, Status};

/// Operations that one JSON patch may hold.
const MAX_OPERATIONS: usize = 10_000;

/// Applies a JSON patch. Errors: 400 where it is not one, 422 where it doesn't apply.
pub fn json_patch(target: &mut Value, patch: &Value) -> Result<(), Status> {
    let operations = patch.as_array().map_or(0, Vec::len);
    if operations > MAX_OPERATIONS {
        return Err(Status::new(
            Reason::RequestEntityTooLarge,
            format!(
                "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {operations}"
            ),
        ));
    }
    if !patch.is_array() {
        let why = "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp";
        return Err(Status::bad_request(why));
    }
    let patch: json_patch::Patch =
        serde_json::from_value(patch.clone()).map_err(|_| Status::rejected())?;
    json_patch::patch(target, &patch).map_err(|_| Status::rejected())
}

/// Applies a merge patch. Errors: 400 where the patch is not an object.
pub fn merge_patch(target: &mut Value, patch: &Value) -> Result<(), Status> {
    if !patch.is_object() {
        return Err(Status::bad_request(
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}",
        ));
    }
    json_patch::merge(target, patch);
    Ok(())
}
