//! `cargo xtask test` and `cargo xtask bench`: the tools, the guests, the binary, then cargo.

use std::{path::PathBuf, process::Command, time::Instant};

use crate::{
    docker, guests, oracle,
    shell::{self, command, root},
    tools::{self, Kubectls},
};

/// The variable that names the templates which the test of them goes through, and all that answer
/// HTTP.
const TEMPLATES: (&str, &str) = (
    "WINDLASS_TEMPLATES",
    "http-rust,http-go,static-site,keyvalue-rust,mixed,http-c,http-python,http-js",
);

/// Runs every test with everything they need in place; `args` go to `cargo test`.
#[allow(clippy::disallowed_methods, reason = "prints how long the parts took")]
pub fn run(kubectls: Kubectls, every_template: bool, args: &[String]) -> anyhow::Result<()> {
    let start = Instant::now();
    let environment = tools::install_all(kubectls)?;
    let engine = docker::Engine::start()?;
    guests::run()?;
    eprintln!("xtask: tools and guests are there after {} s", start.elapsed().as_secs());
    // This makes the binary as well: it has a test of its own (tests/cli.rs).
    shell::run(cargo().args(["test", "--workspace", "--no-run"]))?;
    eprintln!("xtask: built after {} s", start.elapsed().as_secs());
    let mut test = cargo();
    test.args(["test", "--workspace"]).args(args);
    test.env("WINDLASS_BIN", binary("debug")).envs(environment).envs([engine.environment()]);
    if every_template {
        tools::install_for_templates()?;
        test.env(TEMPLATES.0, TEMPLATES.1);
    }
    shell::run(&mut test)?;
    eprintln!("xtask: all tests passed after {} s", start.elapsed().as_secs());
    Ok(())
}

/// Builds in release mode and measures; `args` go to the bench program.
pub fn bench(args: &[String]) -> anyhow::Result<()> {
    shell::run(cargo().args([
        "build",
        "--release",
        "--package",
        "windlass",
        "--package",
        "windlass-tests-bench",
    ]))?;
    let mut bench = command(root().join("target/release/windlass-tests-bench"));
    bench.args(args).env("WINDLASS_BIN", binary("release")).envs(tools::install_for_bench()?);
    if args.iter().any(|arg| arg == "api") {
        bench.envs(oracle::install()?);
    }
    let engine = docker::Engine::start()?;
    shell::run(bench.envs([engine.environment()]))
}

fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn binary(profile: &str) -> PathBuf {
    root().join("target").join(profile).join("windlass")
}
