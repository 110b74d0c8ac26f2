//! A real cluster for tests: the `windlass` binary in a process of its own, real kubectl, plain
//! HTTP. Everything waits for a condition with a deadline; nothing sleeps for a fixed time.
#![allow(clippy::disallowed_methods, reason = "tests watch real processes on the machine's clock")]

mod cluster;
pub mod docker;
mod kubectl;
pub mod proxy;
pub mod registry;
pub mod session;

pub use cluster::{Cluster, Options};
pub use kubectl::{Kubectl, Output};

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// Calls `probe` until it answers Some; after `seconds` the test fails with `what`.
pub fn wait_for<T>(what: &str, seconds: u64, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// One GET on a connection of its own: status and body.
pub fn http_get(url: &str) -> anyhow::Result<(u16, String)> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(15)))
        .http_status_as_error(false)
        .max_idle_connections(0)
        .build();
    let mut response = ureq::Agent::new_with_config(config).get(url).call()?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

/// One POST on a connection of its own: status and body.
pub fn http_post(url: &str, body: &[u8]) -> anyhow::Result<(u16, String)> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs(60)))
        .http_status_as_error(false)
        .max_idle_connections(0)
        .build();
    let mut response = ureq::Agent::new_with_config(config).post(url).send(body)?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

/// The first answer of a service that was just made: what a rollout says and what the proxy of a
/// node has heard are told apart by moments, in Kubernetes too.
pub fn first_answer(url: &str) -> (u16, String) {
    wait_for(&format!("{url} answers"), 10, || http_get(url).ok())
}

/// A WASM guest that `cargo xtask guests` built.
pub fn guest(name: &str) -> anyhow::Result<PathBuf> {
    let path = root().join("target/guests").join(format!("{name}.wasm"));
    if !path.is_file() {
        bail!("the guest {name}.wasm is missing: run `cargo xtask guests`");
    }
    Ok(path)
}

/// A program that `cargo xtask` told through the environment.
pub fn tool(variable: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    path.with_context(|| format!("{variable} is not set: run the tests by `cargo xtask test`"))
}

/// The root of the checkout.
pub fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).map(PathBuf::from).unwrap_or(manifest)
}
