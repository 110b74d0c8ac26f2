//! Builds the WASM components that tests run, from source. Rust's `wasm32-wasip2` target is used
//! where it is installed or can be had from rustup; elsewhere Debian's `rustc-web`, which carries
//! the sources of std, with the linker of the installed Rust toolchain. Both give components that
//! behave alike, because the guests call WASI directly.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::languages;

/// `cargo xtask guests`.
pub fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent")?;
    build(root, false)
}

/// Builds every guest of `tests/guests` and both versions of `examples/hello` into
/// `target/guests/*.wasm` under `root`, the workspace's folder; tests find them there, or in
/// `WINDLASS_GUESTS`. Cargo decides what is out of date. With `keep_hello` the two demo components
/// are also written beside their source, which is what gets committed.
pub fn build(root: &Path, keep_hello: bool) -> Result<()> {
    let toolchain = Toolchain::find(root)?;
    let out = root.join("target/guests");
    fs::create_dir_all(&out).with_context(|| format!("make {}", out.display()))?;

    let guests = Package { folder: root.join("tests/guests"), what: &["--examples"] };
    let built = toolchain.build(&guests, &out)?;
    for guest in example_names(&guests.folder)? {
        let file = built.join("examples").join(format!("{}.wasm", guest.replace('-', "_")));
        place(&file, &out.join(format!("{guest}.wasm")))?;
    }

    languages::build(&out)?;

    let folder = root.join("examples/hello");
    for (version, features) in HELLO {
        let hello = Package { folder: folder.clone(), what: features };
        let file = toolchain.build(&hello, &out)?.join("hello.wasm");
        let name = format!("hello-{version}.wasm");
        place(&file, &out.join(&name))?;
        if keep_hello {
            place(&file, &folder.join(&name))?;
        }
    }
    Ok(())
}

const HELLO: [(&str, &[&str]); 2] = [("v1", &["--lib"]), ("v2", &["--lib", "--features", "v2"])];

/// How long rustup may take before Debian's compiler is used instead.
const RUSTUP_PATIENCE: Duration = Duration::from_secs(120);

const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

struct Package<'a> {
    folder: PathBuf,
    /// Cargo's arguments that select what is built.
    what: &'a [&'a str],
}

enum Toolchain {
    /// `cargo build --target wasm32-wasip2`.
    Wasip2,
    /// Debian's compiler with `-Zbuild-std`, linked by `wasm-component-ld` of this folder.
    Debian { linkers: PathBuf },
}

impl Toolchain {
    fn find(root: &Path) -> Result<Self> {
        let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(root))
            .context("guests need a Rust toolchain; rustc did not answer")?;
        let rustlib = Path::new(sysroot.trim()).join("lib/rustlib");
        if rustlib.join("wasm32-wasip2/lib").is_dir() || rustup_add(root, "wasm32-wasip2") {
            return Ok(Self::Wasip2);
        }
        let host = output(Command::new("rustc").args(["--print", "host-tuple"]).current_dir(root))?;
        let linkers = rustlib.join(host.trim()).join("bin");
        ensure!(
            linkers.join("wasm-component-ld").is_file(),
            "guests need wasm-component-ld, which {} lacks, or the target wasm32-wasip2",
            linkers.display()
        );
        install_debian()?;
        Ok(Self::Debian { linkers })
    }

    /// Returns the folder with what cargo built.
    fn build(&self, package: &Package<'_>, out: &Path) -> Result<PathBuf> {
        let target_dir = out.join("build");
        let (mut command, target) = match self {
            Self::Wasip2 => (Command::new("cargo"), "wasm32-wasip2"),
            Self::Debian { linkers } => (debian_cargo(linkers)?, "wasm32-unknown-unknown"),
        };
        for inherited in ["CARGO_BUILD_TARGET", "CARGO_ENCODED_RUSTFLAGS"] {
            command.env_remove(inherited);
        }
        if matches!(self, Self::Wasip2) {
            command.env_remove("RUSTFLAGS");
        }
        command
            .args(["build", "--release", "--locked", "--target", target])
            .args(match self {
                Self::Wasip2 => &[][..],
                Self::Debian { .. } => &["-Zbuild-std=std,panic_abort"],
            })
            .args(package.what)
            .env("CARGO_TARGET_DIR", &target_dir)
            .current_dir(&package.folder);
        let status = command.status().with_context(|| format!("start {command:?}"))?;
        ensure!(status.success(), "building the guests of {} failed", package.folder.display());
        Ok(target_dir.join(target).join("release"))
    }
}

fn debian_cargo(linkers: &Path) -> Result<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [linkers.to_path_buf(), linkers.join("gcc-ld")];
    let path: OsString = env::join_paths(folders.into_iter().chain(env::split_paths(&path)))?;
    let linker = linkers.join("wasm-component-ld");
    let flags = format!("-C linker={} -C linker-flavor=wasm-ld", linker.display());
    let mut command = Command::new(DEBIAN_CARGO);
    command
        .env("PATH", path)
        .env("RUSTC", DEBIAN_RUSTC)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", flags)
        .env_remove("RUSTUP_TOOLCHAIN");
    Ok(command)
}

#[allow(clippy::disallowed_methods, reason = "waits for a process of the real machine")]
/// True once the target is installed. A rustup that is absent or can't fetch is no error.
fn rustup_add(root: &Path, target: &str) -> bool {
    eprintln!("xtask: installing the Rust target {target} with rustup");
    let started = Instant::now();
    let child = Command::new("rustup").args(["target", "add", target]).current_dir(root).spawn();
    let Ok(mut child) = child else { return false };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if started.elapsed() < RUSTUP_PATIENCE => {
                thread::sleep(Duration::from_millis(200));
            }
            _ => {
                // It may end by itself in between, which is as good.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

fn install_debian() -> Result<()> {
    if Path::new(DEBIAN_RUSTC).is_file() && Path::new(DEBIAN_CARGO).is_file() {
        return Ok(());
    }
    eprintln!("xtask: installing the Debian packages {}", DEBIAN_PACKAGES.join(", "));
    let status = Command::new("apt-get")
        .args(["install", "-y", "--no-install-recommends"])
        .args(DEBIAN_PACKAGES)
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => bail!(
            "guests need the Rust target wasm32-wasip2 or the Debian packages {}: neither could be installed",
            DEBIAN_PACKAGES.join(", ")
        ),
    }
}

/// The `[[example]]` names of a manifest.
fn example_names(folder: &Path) -> Result<Vec<String>> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
    let examples = manifest.split("[[example]]").skip(1);
    let name = |text: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix("name = "))?;
        Some(line.trim_matches('"').to_string())
    };
    Ok(examples.filter_map(name).collect())
}

/// Copies a file whose bytes differ, so that unchanged guests keep their time.
fn place(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("read {}", from.display()))?;
    if fs::read(to).is_ok_and(|present| present == bytes) {
        return Ok(());
    }
    fs::write(to, bytes).with_context(|| format!("write {}", to.display()))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(String::from_utf8(output.stdout)?)
}
