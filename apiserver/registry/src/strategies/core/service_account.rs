//! ServiceAccount: an identity of pods; a name is all it must have.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use crate::{
    strategy::Strategy,
    table::{Cells, age, name},
};

#[derive(Debug)]
pub struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        vec![name(object), age(object, now)]
    }
}
