//! Running other programs: one line that says what is run, one error that names what failed.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

/// The root of the checkout.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// Where everything that a task downloads or builds is kept between runs.
pub fn cache(name: &str) -> PathBuf {
    root().join("target").join("xtask").join(name)
}

/// A program with the checkout as its working folder.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// Runs to the end; the program's output goes to ours.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = show(command);
    eprintln!("xtask: {shown}");
    let status = command.status().with_context(|| format!("can't start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs to the end and returns what it printed; on failure its error output is in the error.
pub fn capture(command: &mut Command) -> anyhow::Result<String> {
    let shown = show(command);
    let output = command.output().with_context(|| format!("can't start `{shown}`"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}` failed ({}): {}", output.status, why.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Is there such a program on the path?
pub fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}

/// Installs Debian packages (as root), unless `present` says they are there.
pub fn apt(packages: &[&str], present: bool) -> anyhow::Result<()> {
    if present {
        return Ok(());
    }
    eprintln!("xtask: installing Debian packages: {}", packages.join(" "));
    let missing = || {
        format!(
            "the tests need the Debian packages {0}: `apt-get install {0}` as root",
            packages.join(" ")
        )
    };
    let install = || {
        let mut apt = command("apt-get");
        apt.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        capture(&mut apt)
    };
    // A first try without `update` is faster where the lists are fresh.
    if install().is_err() {
        capture(command("apt-get").args(["update", "-qq"])).with_context(missing)?;
        install().with_context(missing)?;
    }
    Ok(())
}

fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
