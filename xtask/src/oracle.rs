//! `cargo xtask oracle`: builds what the API server is compared with, then compares.
//!
//! Upstream's kube-apiserver and etcd are built from their Go modules, minutes and 2 GB of cache the
//! first time: never in CI. What is compared and how is in `tests/oracle`.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::shell::{cache, command, has, root, run};

const KUBERNETES: &str = "1.37.2";
const ETCD: &str = "3.7.3";

/// Arguments go to the comparison: kinds, `--json FILE`, `--verbose`, `--filter TEXT`.
pub fn run_all(args: &[String]) -> anyhow::Result<()> {
    let mut compare = command("cargo");
    compare.args(["run", "--quiet", "--package", "windlass-tests-oracle", "--"]).args(args);
    compare.envs(install()?);
    run(&mut compare)
}

/// Builds both programs where they are missing; returns the variables that name them.
pub fn install() -> anyhow::Result<[(String, PathBuf); 2]> {
    ensure!(
        has("go") || go().is_absolute(),
        "the oracle is built with Go 1.26, which isn't on the path"
    );
    let stamp = |name: &str| format!("-X k8s.io/component-base/version.{name}");
    let mut minor = KUBERNETES.split('.');
    let (major, minor) = (minor.next().unwrap_or_default(), minor.next().unwrap_or_default());
    // Without these, clients can't parse its version.
    let version = format!(
        "{}=v{KUBERNETES} {}={major} {}={minor}",
        stamp("gitVersion"),
        stamp("gitMajor"),
        stamp("gitMinor")
    );
    let etcd = build("etcd", &format!("etcd-{ETCD}"), "")?;
    let apiserver = build("apiserver", &format!("kube-apiserver-{KUBERNETES}"), &version)?;
    Ok([("WINDLASS_ORACLE_ETCD".into(), etcd), ("WINDLASS_ORACLE_APISERVER".into(), apiserver)])
}

/// Builds the program of `xtask/oracle/NAME`, unless that version is there.
fn build(name: &str, file: &str, flags: &str) -> anyhow::Result<PathBuf> {
    let program = cache("oracle").join(file);
    if program.is_file() {
        return Ok(program);
    }
    eprintln!("xtask: building {file} from Go modules (minutes the first time)");
    std::fs::create_dir_all(cache("oracle"))?;
    let partial = program.with_extension("partial");
    let mut go = command(go());
    go.current_dir(root().join("xtask/oracle").join(name));
    go.args(["build", "-ldflags", &format!("-s -w {flags}"), "-o"]).arg(&partial).arg(".");
    run(&mut go)?;
    std::fs::rename(&partial, &program).with_context(|| program.display().to_string())?;
    Ok(program)
}

/// Go's own installer puts it where no path leads.
fn go() -> PathBuf {
    let installed = Path::new("/usr/local/go/bin/go");
    if !has("go") && installed.is_file() { installed.into() } else { "go".into() }
}
