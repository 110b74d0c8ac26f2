//! Distils what `kubectl explain` prints from the sources of k8s-openapi: for every type and field
//! its description, as one sorted text. The crate's own way to them (feature `schemars`) nearly
//! doubles its compile time and adds megabytes of code that builds JSON at run time.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// Ends a record, and parts its type, field and description. Descriptions contain neither.
const RECORD: char = '\u{1e}';
const UNIT: char = '\u{1f}';

/// Descriptions by (type, field); the field is empty for the type itself.
type Table = BTreeMap<(String, String), String>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var("OUT_DIR")?).join("descriptions.txt");
    let mut table = Table::new();
    match sources() {
        Some(folder) => read_folder(&folder, &mut table)?,
        None => println!(
            "cargo::warning=k8s-openapi's sources weren't found: kubectl explain will show no descriptions"
        ),
    }
    let mut text = String::new();
    for ((name, field), description) in table {
        text.push_str(&format!("{name}{UNIT}{field}{UNIT}{description}{RECORD}"));
    }
    Ok(fs::write(out, text)?)
}

/// `src/v1_37` of the k8s-openapi that is built.
fn sources() -> Option<PathBuf> {
    let lock = Path::new(&env::var("CARGO_MANIFEST_DIR").ok()?).join("../../Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let lock = fs::read_to_string(lock).ok()?;
    let version = lock.split("name = \"k8s-openapi\"\nversion = \"").nth(1)?.split('"').next()?;
    let package = in_registry(version).or_else(|| by_metadata(version))?;
    let folder = package.join("src/v1_37");
    folder.is_dir().then_some(folder)
}

fn in_registry(version: &str) -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry/src")).ok()?.flatten();
    registries
        .map(|registry| registry.path().join(format!("k8s-openapi-{version}")))
        .find(|package| package.is_dir())
}

/// Vendored or replaced sources: cargo knows where.
fn by_metadata(version: &str) -> Option<PathBuf> {
    let answer = Command::new(env::var_os("CARGO")?)
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform"])
        .arg(env::var_os("TARGET")?)
        .output()
        .ok()?;
    let json = String::from_utf8(answer.stdout).ok()?;
    let end = format!("k8s-openapi-{version}/Cargo.toml");
    let at = json.find(&end).or_else(|| json.find("k8s-openapi/Cargo.toml"))?;
    let start = json[..at].rfind('"')? + 1;
    let manifest = &json[start..at + json[at..].find('"')?];
    Path::new(manifest).parent().map(Path::to_path_buf)
}

fn read_folder(folder: &Path, table: &mut Table) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_folder(&path, table)?;
        } else {
            read_source(&fs::read_to_string(path)?, table);
        }
    }
    Ok(())
}

/// The sources are generated, so their indentation tells what a line belongs to: the schema's own
/// members stand at 12 columns, its properties at 16, and a property's description below at 20.
fn read_source(source: &str, table: &mut Table) {
    let (mut name, mut field) = (String::new(), String::new());
    let mut named = false;
    for line in source.lines() {
        let text = line.trim_start();
        let columns = line.len() - text.len();
        if text.starts_with("fn schema_name()") {
            named = true;
        } else if std::mem::take(&mut named) {
            name = literal(text).unwrap_or_default();
        } else if name.is_empty() {
            continue;
        } else if columns == 12 && text.starts_with("\"description\": ") {
            add(table, &name, "", &text["\"description\": ".len()..]);
        } else if columns == 16 && text.starts_with('"') {
            field = literal(text).unwrap_or_default();
        } else if columns == 20 && text.starts_with("\"description\": ") {
            add(table, &name, &field, &text["\"description\": ".len()..]);
        } else if columns == 20
            && let Some((_, rest)) = text.split_once("insert(\"description\".into(), ")
        {
            add(table, &name, &field, rest);
        } else if columns == 0 && text == "}" {
            name.clear();
        }
    }
}

fn add(table: &mut Table, name: &str, field: &str, text: &str) {
    if let Some(description) = literal(text) {
        table.insert((name.into(), field.into()), description);
    }
}

/// The string literal at the start of the text.
fn literal(text: &str) -> Option<String> {
    let mut characters = text.strip_prefix('"')?.chars();
    let mut out = String::new();
    loop {
        match characters.next()? {
            '"' => return Some(out),
            '\\' => match characters.next()? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                'r' => out.push('\r'),
                'u' => {
                    let code: String =
                        characters.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    out.push(char::from_u32(u32::from_str_radix(&code, 16).ok()?)?);
                }
                other => out.push(other),
            },
            other => out.push(other),
        }
    }
}
