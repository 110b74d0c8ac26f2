//! What every part of Windlass agrees on: names of kinds, the stored form of an object, errors as
//! clients see them, selectors, quantities, and the two things that tests must control: time and
//! chance. Nothing here does I/O or knows an async runtime, so every crate can use it.

mod backoff;
mod clock;
mod gvk;
pub mod keyvalue;
mod object;
mod quantity;
pub mod quota;
mod rng;
mod selector;
mod status;

pub use backoff::Backoff;
pub use clock::{Clock, SystemClock, Timestamp, format_micro_time, format_time, parse_time};
pub use gvk::{GroupResource, GroupVersionKind, GroupVersionResource};
pub use object::{Encoded, Object, OwnerReference};
pub use quantity::{ParseQuantityError, Quantity};
pub use rng::Rng;
pub use selector::{FieldSelector, Labels, Requirement, Selector, SelectorError};
pub use status::{Cause, Details, Reason, Status};
