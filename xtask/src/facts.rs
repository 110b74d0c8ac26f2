//! Regenerates what the repository keeps of upstream's knowledge about its own API types.
//!
//! The Go program in `xtask/facts` is built from the Kubernetes modules, so this takes minutes and a
//! network the first time; it runs when the Kubernetes version changes, never in CI.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// Writes `apiserver/schema/src/facts.txt` and `apiserver/schema/tests/corpus`. Takes no arguments.
///
/// # Errors
/// When Go is missing, or the program fails; the files are then as they were.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    if let Some(extra) = args.first() {
        bail!("facts takes no arguments, got {extra:?}");
    }
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
    let program = build(root)?;
    let table = Command::new(&program)
        .arg("table")
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("run {}", program.display()))?;
    if !table.status.success() {
        bail!("facts table: {}", table.status);
    }
    let schema = root.join("apiserver/schema");
    write(&schema.join("src/facts.txt"), &table.stdout)?;
    let corpus = schema.join("tests/corpus");
    let status = Command::new(&program).arg("corpus").arg(&corpus).status()?;
    if !status.success() {
        bail!("facts corpus: {status}");
    }
    println!("{} and {} are written", schema.join("src/facts.txt").display(), corpus.display());
    Ok(())
}

/// Builds the Go program into the target folder and returns its path.
fn build(root: &Path) -> anyhow::Result<PathBuf> {
    let program = root.join("target/xtask/facts");
    std::fs::create_dir_all(root.join("target/xtask"))?;
    println!("building xtask/facts (the first time takes about five minutes)");
    let status = Command::new("go")
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(root.join("xtask/facts"))
        .status()
        .context("run go (xtask/facts needs Go 1.26)")?;
    if !status.success() {
        bail!("go build in xtask/facts: {status}");
    }
    Ok(program)
}

/// Replaces a file as a whole.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension("partial");
    std::fs::write(&partial, bytes).with_context(|| format!("write {}", partial.display()))?;
    std::fs::rename(&partial, path).with_context(|| format!("write {}", path.display()))
}
