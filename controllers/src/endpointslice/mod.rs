//! EndpointSlices: where the pods behind each Service answer.

mod act;
pub mod plan;
#[cfg(test)]
mod tests;

pub use act::EndpointSlices;
