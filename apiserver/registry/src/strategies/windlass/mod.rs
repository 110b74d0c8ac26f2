//! windlass.dev/v1: the kinds of this project's own.

mod key_value;

pub use key_value::KeyValue;
