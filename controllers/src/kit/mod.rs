//! What every controller stands on.

pub mod error;
pub mod object;
pub mod write;

pub use error::Error;
