//! Which compilers this machine has, found without flags. What is missing is told with the command
//! that installs it; nothing is installed here.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{ProjectError, at};

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
/// The linker that makes components; rustup's toolchains carry it.
const COMPONENT_LINKER: &str = "wasm-component-ld";
/// The first Go that exports functions (`//go:wasmexport`).
const FIRST_GO: u32 = 24;

const NO_RUST: &str = "get it from https://rustup.rs, then `rustup target add wasm32-wasip2`";
const NO_TARGET: &str = "`rustup target add wasm32-wasip2`; where rustup can't fetch, \
     `apt-get install --no-install-recommends rustc-web cargo-web rust-web-src` as root";
const NO_GO: &str = "`apt-get install golang-go` as root, or https://go.dev/dl for the newest";

/// A Rust toolchain that makes components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rust {
    /// rustup's, with the target `wasm32-wasip2`.
    Wasip2 { sysroot: PathBuf },
    /// Debian's compiler, which builds std from source, with the linker of rustup's toolchain.
    Debian { sysroot: PathBuf, linkers: PathBuf },
}

/// A Go toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Go {
    pub version: String,
    /// Its own sources are below.
    pub root: PathBuf,
}

/// What was found on the machine, for the choice.
#[derive(Clone, Debug, Default)]
struct Found {
    sysroot: Option<PathBuf>,
    has_wasip2: bool,
    /// The folder with `wasm-component-ld`.
    linkers: Option<PathBuf>,
    has_debian: bool,
}

impl Rust {
    /// Looks as a build in `folder` would: a `rust-toolchain.toml` there counts.
    pub fn find(folder: &Path) -> Result<Self, ProjectError> {
        let ask = |what: &[&str]| {
            output(Command::new("rustc").arg("--print").args(what).current_dir(folder))
        };
        let mut found = Found {
            has_debian: Path::new(DEBIAN_RUSTC).is_file()
                && Path::new(DEBIAN_CARGO).is_file()
                && has_debian_sources(),
            ..Found::default()
        };
        if let Some(sysroot) = ask(&["sysroot"]).map(PathBuf::from) {
            let rustlib = sysroot.join("lib/rustlib");
            found.has_wasip2 = rustlib.join("wasm32-wasip2/lib").is_dir();
            let linkers = ask(&["host-tuple"]).map(|host| rustlib.join(host).join("bin"));
            found.linkers = linkers.filter(|folder| folder.join(COMPONENT_LINKER).is_file());
            found.sysroot = Some(sysroot);
        }
        found.choose()
    }

    pub fn target(&self) -> &'static str {
        match self {
            Self::Wasip2 { .. } => "wasm32-wasip2",
            Self::Debian { .. } => "wasm32-unknown-unknown",
        }
    }

    /// `cargo build` of the release, as far as the toolchain decides it. Paths of this machine
    /// become those of `remap`, so that two machines build the same bytes.
    pub fn build(
        &self,
        folder: &Path,
        remap: &[(PathBuf, String)],
    ) -> Result<Command, ProjectError> {
        let mut flags: Vec<OsString> = Vec::new();
        let mut cargo = match self {
            Self::Wasip2 { .. } => Command::new("cargo"),
            Self::Debian { linkers, .. } => {
                let mut linker = OsString::from("-Clinker=");
                linker.push(linkers.join(COMPONENT_LINKER));
                flags.extend([linker, "-Clinker-flavor=wasm-ld".into()]);
                let mut cargo = Command::new(DEBIAN_CARGO);
                cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                cargo.env("PATH", at(path_with(linkers), linkers)?).env_remove("RUSTUP_TOOLCHAIN");
                cargo
            }
        };
        let (Self::Wasip2 { sysroot } | Self::Debian { sysroot, .. }) = self;
        for (from, to) in
            remap.iter().map(|(from, to)| (from, to.as_str())).chain([(sysroot, "/rust")])
        {
            let mut flag = OsString::from("--remap-path-prefix=");
            flag.push(from);
            flag.push(format!("={to}"));
            flags.push(flag);
        }
        cargo.args(["build", "--release", "--target", self.target()]);
        if matches!(self, Self::Debian { .. }) {
            cargo.arg("-Zbuild-std=std,panic_abort");
        }
        // Flags of the caller's own builds would be part of the bytes.
        for inherited in ["CARGO_BUILD_TARGET", "RUSTFLAGS"] {
            cargo.env_remove(inherited);
        }
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join(OsStr::new("\u{1f}")));
        cargo.env("CARGO_TERM_COLOR", "never").current_dir(folder);
        Ok(cargo)
    }
}

impl Found {
    fn choose(self) -> Result<Rust, ProjectError> {
        let missing = |what: &str, way_out: &str| ProjectError::Toolchain {
            what: what.to_owned(),
            way_out: way_out.to_owned(),
        };
        let sysroot = self.sysroot.ok_or_else(|| missing("Rust", NO_RUST))?;
        match (self.has_wasip2, self.linkers, self.has_debian) {
            (true, _, _) => Ok(Rust::Wasip2 { sysroot }),
            (false, Some(linkers), true) => Ok(Rust::Debian { sysroot, linkers }),
            _ => Err(missing("the Rust target wasm32-wasip2", NO_TARGET)),
        }
    }
}

impl Go {
    pub fn find(folder: &Path) -> Result<Self, ProjectError> {
        let mut go = Command::new("go");
        go.args(["env", "GOVERSION", "GOROOT"]).env("GOTOOLCHAIN", "local").current_dir(folder);
        let said = output(&mut go).unwrap_or_default();
        let (version, root) = said.split_once('\n').unwrap_or_default();
        go_of(version, root)
    }
}

fn go_of(version: &str, root: &str) -> Result<Go, ProjectError> {
    let minor = version.strip_prefix("go1.").and_then(|rest| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse::<u32>().ok())
    });
    let what = match minor {
        Some(minor) if minor >= FIRST_GO => {
            return Ok(Go { version: version.to_owned(), root: root.into() });
        }
        Some(_) => format!("Go 1.{FIRST_GO} (this is {version})"),
        None => "Go".to_owned(),
    };
    Err(ProjectError::Toolchain { what, way_out: NO_GO.to_owned() })
}

/// Debian keeps the sources of std below its compiler's sysroot.
fn has_debian_sources() -> bool {
    let sysroot = output(Command::new(DEBIAN_RUSTC).args(["--print", "sysroot"]));
    sysroot.is_some_and(|sysroot| {
        Path::new(&sysroot).join("lib/rustlib/src/rust/library/std").is_dir()
    })
}

fn path_with(linkers: &Path) -> std::io::Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = [linkers.to_path_buf(), linkers.join("gcc-ld")];
    env::join_paths(folders.into_iter().chain(env::split_paths(&path)))
        .map_err(std::io::Error::other)
}

/// What a program printed; None where it isn't there or failed.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(sysroot: bool, wasip2: bool, linkers: bool, debian: bool, expected: Expect) {
        let found = Found {
            sysroot: sysroot.then(|| "/rustup".into()),
            has_wasip2: wasip2,
            linkers: linkers.then(|| "/rustup/bin".into()),
            has_debian: debian,
        };
        let shown = match found.choose() {
            Ok(rust) => format!("{rust:?}"),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn rustup_first_then_debian() {
        check(true, true, true, true, expect![[r#"Wasip2 { sysroot: "/rustup" }"#]]);
        check(
            true,
            false,
            true,
            true,
            expect![[r#"Debian { sysroot: "/rustup", linkers: "/rustup/bin" }"#]],
        );
        check(
            true,
            false,
            false,
            true,
            expect![
                "the Rust target wasm32-wasip2 is missing: `rustup target add wasm32-wasip2`; where rustup can't fetch, `apt-get install --no-install-recommends rustc-web cargo-web rust-web-src` as root"
            ],
        );
        check(
            true,
            false,
            true,
            false,
            expect![
                "the Rust target wasm32-wasip2 is missing: `rustup target add wasm32-wasip2`; where rustup can't fetch, `apt-get install --no-install-recommends rustc-web cargo-web rust-web-src` as root"
            ],
        );
        check(
            false,
            false,
            false,
            true,
            expect![
                "Rust is missing: get it from https://rustup.rs, then `rustup target add wasm32-wasip2`"
            ],
        );
    }

    fn check_go(version: &str, expected: Expect) {
        let shown = match go_of(version, "/go") {
            Ok(go) => format!("{go:?}"),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn a_go_that_exports_functions() {
        check_go("go1.26.8", expect![[r#"Go { version: "go1.26.8", root: "/go" }"#]]);
        check_go("go1.24rc1", expect![[r#"Go { version: "go1.24rc1", root: "/go" }"#]]);
        check_go(
            "go1.22",
            expect![
                "Go 1.24 (this is go1.22) is missing: `apt-get install golang-go` as root, or https://go.dev/dl for the newest"
            ],
        );
        check_go(
            "",
            expect![
                "Go is missing: `apt-get install golang-go` as root, or https://go.dev/dl for the newest"
            ],
        );
    }
}
