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
const NO_C: &str = "`apt-get install --no-install-recommends clang lld wasi-libc \
     libclang-rt-dev-wasm32` as root (on Debian 12 libclang-rt-14-dev-wasm32), or a wasi-sdk in \
     WASI_SDK_PATH";
const NO_PYTHON: &str = "`python3 -m venv .venv && .venv/bin/pip install -r requirements.txt` in the \
     project's folder";
const NO_NODE: &str = "`apt-get install nodejs npm` as root, or https://nodejs.org for the newest";
const NO_COMPONENTIZE_JS: &str = "`npm install` in the project's folder";
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

/// A clang with a libc for WASI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct C {
    pub clang: PathBuf,
    pub version: String,
}

/// What puts a program in Python into a component, of the project's own environment or the machine's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    pub componentize: PathBuf,
    pub version: String,
}

/// The same for JavaScript, of the project's own packages; node runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JavaScript {
    pub version: String,
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

    /// Of the compiler that builds in `folder`.
    pub fn version(&self, folder: &Path) -> Option<String> {
        let rustc = match self {
            Self::Wasip2 { .. } => "rustc",
            Self::Debian { .. } => DEBIAN_RUSTC,
        };
        let said = output(Command::new(rustc).arg("--version").current_dir(folder))?;
        said.split_whitespace().nth(1).map(str::to_owned)
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

impl C {
    pub fn find() -> Result<Self, ProjectError> {
        let sdk = env::var_os("WASI_SDK_PATH").map(|sdk| Path::new(&sdk).join("bin/clang"));
        let clang = sdk.unwrap_or_else(|| "clang".into());
        let ask = |what: &str| output(Command::new(&clang).args(["--target=wasm32-wasi", what]));
        // Where clang has no such file, it says just the name.
        let has = |what: &str| ask(what).is_some_and(|path| Path::new(&path).is_file());
        let version = ask("-dumpversion").ok_or_else(|| missing("clang", NO_C))?;
        if !has("-print-file-name=crt1-reactor.o") {
            return Err(missing("the C library for wasm32-wasi", NO_C));
        }
        if !has("-print-libgcc-file-name") {
            return Err(missing("clang's runtime library for wasm32", NO_C));
        }
        Ok(Self { clang, version })
    }
}

impl Python {
    /// The project's own environment, below its folder.
    pub const FOLDER: &str = ".venv";

    pub fn find(folder: &Path) -> Result<Self, ProjectError> {
        let own = folder.join(Self::FOLDER).join("bin/componentize-py");
        let componentize = if own.is_file() { own } else { "componentize-py".into() };
        let said = output(Command::new(&componentize).arg("--version"));
        let said = said.ok_or_else(|| missing("componentize-py", NO_PYTHON))?;
        let version = said.split_whitespace().last().unwrap_or_default().to_owned();
        Ok(Self { componentize, version })
    }
}

impl JavaScript {
    pub fn find(folder: &Path) -> Result<Self, ProjectError> {
        output(Command::new("node").arg("--version")).ok_or_else(|| missing("Node.js", NO_NODE))?;
        let package = "node_modules/@bytecodealliance/componentize-js/package.json";
        let package = std::fs::read_to_string(folder.join(package)).ok();
        let package =
            package.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        let version = package.and_then(|package| package["version"].as_str().map(str::to_owned));
        let version = version.ok_or_else(|| missing("componentize-js", NO_COMPONENTIZE_JS))?;
        Ok(Self { version })
    }
}

fn missing(what: &str, way_out: &str) -> ProjectError {
    ProjectError::Toolchain { what: what.to_owned(), way_out: way_out.to_owned() }
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
    Err(missing(&what, NO_GO))
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
pub(crate) fn output(command: &mut Command) -> Option<String> {
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

    #[test]
    fn what_a_project_lacks_is_named_with_its_command() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = JavaScript::find(folder.path()).expect_err("nothing is there").to_string();
        expect!["componentize-js is missing: `npm install` in the project's folder"]
            .assert_eq(&told);
        let packages = folder.path().join("node_modules/@bytecodealliance/componentize-js");
        std::fs::create_dir_all(&packages).expect("made");
        std::fs::write(packages.join("package.json"), r#"{"version": "0.23.0"}"#).expect("made");
        let found = JavaScript::find(folder.path()).map_err(|error| error.to_string());
        assert_eq!(found, Ok(JavaScript { version: "0.23.0".into() }));
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
