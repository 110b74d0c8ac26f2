//! Deployments: from the template that runs to the one that is wanted, at the pace that the
//! strategy allows, with the revisions that a rollback goes back to.

mod act;
#[cfg(test)]
mod converge;
pub mod plan;
mod revision;
mod scale;
mod status;
#[cfg(test)]
mod tests;

pub use act::Deployments;
