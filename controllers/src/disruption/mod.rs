//! PodDisruptionBudgets: how many of a budget's pods are healthy, how many have to be, and so how
//! many may be moved away now. Evictions ask the status that this controller keeps.

mod act;
mod plan;

pub use act::Disruptions;
