//! policy/v1.

mod disruption_budget;

pub use disruption_budget::DisruptionBudget;
