mod faults;
mod runtime;
pub use faults::{Faults, Faulty};
pub use runtime::FakeRuntime;
