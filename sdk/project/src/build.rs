//! Builds a project with its language's own tool, and looks at what came out. Two builds of the same
//! sources give the same bytes, in whichever folder they lie.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use windlass_sdk_package::{Artifact, Inspection, digest, inspect};

use crate::{Allowed, Language, Manifest, Project, ProjectError, at, languages::Made};

/// Below the project's folder: what is built, and what is needed in between.
const OUT: &str = "target/windlass";
/// Lines that are kept of what a tool says on stderr, and bytes of what it prints.
const MOST_LINES: usize = 400;
const MOST_PRINTED_BYTES: usize = 64 << 20;
/// A larger file is no microservice.
const MOST_WASM_BYTES: u64 = 256 << 20;
/// Hex digits of the digest that become the image's tag.
const TAG_DIGITS: usize = 12;

/// A component that was built.
#[derive(Clone, Debug)]
pub struct Built {
    pub file: PathBuf,
    /// Of the file.
    pub digest: String,
    pub size_bytes: u64,
    pub inspection: Inspection,
    pub allowed: Allowed,
}

impl Built {
    /// The name of its image in the cluster's registry. It names the bytes, so another build is
    /// another image.
    pub fn image(&self, namespace: &str, manifest: &Manifest) -> String {
        let artifact = Artifact::build(&self.inspection, &self.digest, self.size_bytes);
        format!("windlass.local/{namespace}/{}@{}", manifest.name, artifact.digest)
    }

    /// The name that it is pushed under.
    pub fn tagged(&self, namespace: &str, manifest: &Manifest) -> String {
        format!("windlass.local/{namespace}/{}:{}", manifest.name, tag_of(&self.digest))
    }

    /// Whether a build whose file has this digest would be pushed under this tag: what a person named
    /// themselves is nothing to tidy up.
    pub fn is_tag_of(tag: &str, digest: &str) -> bool {
        tag.len() == TAG_DIGITS && tag_of(digest) == tag
    }
}

fn tag_of(digest: &str) -> &str {
    let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
    hex.get(..TAG_DIGITS).unwrap_or(hex)
}

impl Project {
    /// Runs the language's tool, whose lines go to `tell` as they come.
    pub fn build(&self, tell: &mut dyn FnMut(&str)) -> Result<Built, ProjectError> {
        let out = self.folder.join(OUT);
        at(fs::create_dir_all(&out), &out)?;
        let file = out.join(format!("{}.wasm", self.manifest.name));
        let made = match self.manifest.build.language {
            Some(Language::Rust) => self.build_rust(tell)?,
            Some(Language::Go) => self.build_go(&out, tell)?,
            Some(Language::C) => self.build_c(&out, tell)?,
            Some(Language::Python) => self.build_python(&out, tell)?,
            Some(Language::JavaScript) => self.build_javascript(&out, tell)?,
            None => self.build_by(tell)?,
        };
        let wrong = |why| ProjectError::Component { file: file.clone(), why };
        let wasm = read_wasm(&made.file)?;
        let look = |wasm: &[u8]| {
            inspect(&mut std::io::Cursor::new(wasm)).map_err(|error| wrong(error.to_string()))
        };
        look(&wasm)?;
        let wasm = self.describe(&made, &wasm)?;
        // Renamed, so that nobody ever sees half a component.
        let part = file.with_extension("part");
        at(fs::write(&part, &wasm), &part)?;
        at(fs::rename(&part, &file), &file)?;
        let inspection = look(&wasm)?;
        let allowed = Allowed::judge(&self.manifest, &inspection).map_err(wrong)?;
        let (digest, size_bytes) = (digest(&wasm), wasm.len() as u64);
        Ok(Built { file, digest, size_bytes, inspection, allowed })
    }

    fn build_by(&self, tell: &mut dyn FnMut(&str)) -> Result<Made, ProjectError> {
        let command = self.manifest.build.command.as_deref().unwrap_or_default();
        // The manifest was read: there is a program, and there is a file.
        let (program, arguments) =
            command.split_first().ok_or(ProjectError::Nothing { command: String::new() })?;
        let mut tool = Command::new(program);
        run(tool.args(arguments).current_dir(&self.folder), tell)?;
        let file = self.manifest.build.file.clone().unwrap_or_default();
        Ok(Made { file: self.folder.join(file), tool: None })
    }
}

pub(crate) fn read_wasm(file: &Path) -> Result<Vec<u8>, ProjectError> {
    let mut bytes = Vec::new();
    let opened = at(File::open(file), file)?;
    at(opened.take(MOST_WASM_BYTES + 1).read_to_end(&mut bytes), file)?;
    if bytes.len() as u64 > MOST_WASM_BYTES {
        let why = format!("it has more than {} MiB", MOST_WASM_BYTES >> 20);
        return Err(ProjectError::Component { file: file.to_owned(), why });
    }
    Ok(bytes)
}

/// Runs a tool to its end; returns what it printed on stdout.
pub(crate) fn run(
    command: &mut Command,
    tell: &mut dyn FnMut(&str),
) -> Result<String, ProjectError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = shown(command);
    let io = |source| ProjectError::Io { what: format!("can't run `{name}`"), source };
    let mut child = command.spawn().map_err(io)?;
    let stdout = child.stdout.take();
    let printing = thread::spawn(move || stdout.map(read_printed).unwrap_or_default());
    let mut said = VecDeque::new();
    for line in
        child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).split(b'\n'))
    {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        tell(&line);
        if said.len() == MOST_LINES {
            said.pop_front();
        }
        said.push_back(line);
    }
    let status = child.wait();
    let printed = printing.join().unwrap_or_default();
    let status = status.map_err(io)?;
    if status.success() {
        return Ok(printed);
    }
    let said = Vec::from(said).join("\n");
    Err(ProjectError::Tool { command: name, status: status.to_string(), said })
}

/// All of it is read, lest the tool waits for ever; so much is kept.
fn read_printed(mut from: impl Read) -> String {
    let mut kept = Vec::new();
    let mut chunk = [0; 16 << 10];
    while let Ok(read) = from.read(&mut chunk) {
        if read == 0 {
            break;
        }
        let room = MOST_PRINTED_BYTES - kept.len();
        kept.extend_from_slice(&chunk[..read.min(room)]);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn project(folder: &Path, build: &str) -> Project {
        let text = format!("name = 'cart'\nversion = '1'\nkind = 'command'\nbuild = {build}\n");
        fs::write(folder.join("windlass.toml"), text).expect("written");
        Project::open(folder).expect("a project")
    }

    /// A module that exports `_start` and does nothing.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\
        \x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";

    #[test]
    fn by_a_command_of_ones_own() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("given.wasm"), MODULE).expect("written");
        let make = "{command = ['sh', '-c', 'echo copying >&2; cp given.wasm made.wasm'], \
                    file = 'made.wasm'}";
        let (project, mut told) = (project(folder.path(), make), Vec::new());
        let built = project.build(&mut |line| told.push(line.to_owned())).expect("it builds");
        assert_eq!(told, ["copying"]);
        assert!(built.file.ends_with("target/windlass/cart.wasm"));
        assert!(fs::read(&built.file).expect("it is there").starts_with(MODULE));
        expect!["windlass.local/shop/cart:de9e3109c643"]
            .assert_eq(&built.tagged("shop", &project.manifest));
        expect!["windlass.local/shop/cart@sha256:4490cf4ec100f1b0cb2a79297e93572df0f6b78a5da464e8528044f68a991672"]
            .assert_eq(&built.image("shop", &project.manifest));
    }

    #[test]
    fn what_fails_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let fails = |build: &str| {
            let error = project(folder.path(), build).build(&mut |_| {}).expect_err("it fails");
            let error = match &error {
                ProjectError::Tool { said, .. } => format!("{error}: {said}"),
                _ => error.to_string(),
            };
            let root = folder.path().canonicalize().expect("it is there");
            error.replace(&root.display().to_string(), "")
        };
        let of = |command: &str| format!("{{command = [{command}], file = 'made.wasm'}}");
        expect!["`sh -c echo no such thing >&2; exit 3` failed (exit status: 3): no such thing"]
            .assert_eq(&fails(&of("'sh', '-c', 'echo no such thing >&2; exit 3'")));
        expect!["/made.wasm: No such file or directory (os error 2)"]
            .assert_eq(&fails(&of("'true'")));
        expect!["can't run `no-such-tool`: No such file or directory (os error 2)"]
            .assert_eq(&fails(&of("'no-such-tool'")));
        expect!["/target/windlass/cart.wasm: not a WebAssembly binary: it is shorter than 8 bytes"]
            .assert_eq(&fails(&of("'sh', '-c', 'echo text > made.wasm'")));
    }
}
