//! `cargo xtask lint`: what CI checks beside the tests. The architecture test is an ordinary test
//! of this crate (`tests/architecture.rs`).

use crate::shell::{command, run};

pub fn run_all() -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    run(command(&cargo).args(["fmt", "--all", "--check"]))?;
    run(command(&cargo).args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}
