//! A real cluster for tests: the `windlass` binary in a process of its own, real kubectl, plain
//! HTTP. Everything waits for a condition with a deadline; nothing sleeps for a fixed time.
#![allow(clippy::disallowed_methods, reason = "tests watch real processes on the machine's clock")]

mod cluster;
pub mod disk;
pub mod docker;
mod kubectl;
pub mod proxy;
pub mod registry;
pub mod session;
pub mod wire;

pub use cluster::{Cluster, Options};
pub use kubectl::{Kubectl, Output};

use std::{
    path::{Path, PathBuf},
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

/// A guest that nobody else has, with so many bytes in it that nobody compresses; another seed is
/// another file of the folder.
pub fn padded_guest(
    name: &str,
    folder: &Path,
    seed: u64,
    noise_bytes: usize,
) -> anyhow::Result<PathBuf> {
    let (mut state, mut noise) = (seed, Vec::with_capacity(noise_bytes));
    while noise.len() < noise_bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        noise.extend_from_slice(&state.to_be_bytes()[..4]);
    }
    let mut bytes = std::fs::read(guest(name)?)?;
    // A custom section: its id, its length in LEB128, its name with that one's length.
    bytes.push(0);
    let mut length = noise.len() + 6;
    while length >= 0x80 {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(b"\x05noise");
    bytes.extend_from_slice(&noise);
    let file = folder.join(format!("{name}-{seed}.wasm"));
    std::fs::write(&file, bytes)?;
    Ok(file)
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

/// Resident memory of a process, from the kernel.
pub fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("VmRSS")?;
    let kib: f64 = line.split_whitespace().nth(1).context("a number")?.parse()?;
    Ok(kib / 1024.0)
}
