//! The bill of materials of a component: CycloneDX 1.5 as JSON, made of what a language's own tool
//! wrote down. Nothing in it tells when or where it was made, so the same sources give the same
//! bytes.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

/// The name of a compiler or another maker, and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    pub name: String,
    pub version: String,
}

impl Tool {
    pub fn new(name: &str, version: impl Into<String>) -> Self {
        Self { name: name.to_owned(), version: version.into() }
    }
}

/// A library that a component is made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    name: String,
    version: String,
    /// As package-url names it (<https://github.com/package-url/purl-spec>).
    purl: String,
    /// Of the package as its registry serves it: CycloneDX's name of the algorithm, and hex.
    hash: Option<(&'static str, String)>,
}

impl Part {
    fn new(kind: &str, name: &str, version: &str) -> Self {
        let purl = format!("pkg:{kind}/{}@{version}", name.replace('@', "%40"));
        Self { name: name.to_owned(), version: version.to_owned(), purl, hash: None }
    }
}

/// The document about a component.
pub fn document(name: &str, version: &str, tool: Option<&Tool>, mut parts: Vec<Part>) -> Value {
    parts.sort();
    parts.dedup();
    let mut metadata = json!({
        "component": {"type": "application", "bom-ref": name, "name": name, "version": version},
    });
    if let Some(Tool { name, version }) = tool {
        let tool = json!({"type": "application", "name": name, "version": version});
        metadata["tools"] = json!({"components": [tool]});
    }
    let components = parts.into_iter().map(|Part { name, version, purl, hash }| {
        let mut part = json!({"type": "library", "bom-ref": purl, "name": name,
            "version": version, "purl": purl});
        if let Some((algorithm, hex)) = hash {
            part["hashes"] = json!([{"alg": algorithm, "content": hex}]);
        }
        part
    });
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": metadata,
        "components": components.collect::<Vec<_>>(),
    })
}

#[derive(Deserialize)]
struct CargoLock {
    #[serde(default)]
    package: Vec<CargoPackage>,
}

#[derive(Deserialize)]
struct CargoPackage {
    name: String,
    version: String,
    /// None: it is a folder of the project.
    source: Option<String>,
    checksum: Option<String>,
}

/// What `Cargo.lock` names, for whichever target.
pub fn of_cargo(lock: &str) -> Vec<Part> {
    let lock: Option<CargoLock> = toml::from_str(lock).ok();
    let packages = lock.map(|lock| lock.package).unwrap_or_default();
    let foreign = packages.into_iter().filter(|package| package.source.is_some());
    let part = |package: CargoPackage| Part {
        hash: package.checksum.map(|hex| ("SHA-256", hex)),
        ..Part::new("cargo", &package.name, &package.version)
    };
    foreign.map(part).collect()
}

/// What `go.sum` has the content of, which may be more than is linked. Its hashes are of a form that
/// CycloneDX has no name for.
pub fn of_go(sum: &str) -> Vec<Part> {
    let module = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, version) = (words.next()?, words.next()?);
        (!version.ends_with("/go.mod")).then(|| Part::new("golang", name, version))
    };
    sum.lines().filter_map(module).collect()
}

#[derive(Default, Deserialize)]
struct NpmLock {
    #[serde(default)]
    packages: BTreeMap<String, NpmPackage>,
}

#[derive(Deserialize)]
struct NpmPackage {
    #[serde(default)]
    version: String,
    /// It makes the component, and isn't in it.
    #[serde(default)]
    dev: bool,
}

/// What `package-lock.json` names, by the folder that npm puts it into.
pub fn of_npm(lock: &str) -> Vec<Part> {
    let lock: NpmLock = serde_json::from_str(lock).unwrap_or_default();
    let part = |(folder, package): (&String, &NpmPackage)| {
        let (_, name) = folder.rsplit_once("node_modules/")?;
        (!package.dev).then(|| Part::new("npm", name, &package.version))
    };
    lock.packages.iter().filter_map(part).collect()
}

/// What makes the component, or installs what makes it.
const PYTHON_TOOLS: [&str; 4] = ["componentize-py", "pip", "setuptools", "wheel"];

#[derive(Deserialize)]
struct PipPackage {
    name: String,
    version: String,
}

/// What `pip list --format json` prints.
pub fn of_pip(list: &str) -> Vec<Part> {
    let list: Vec<PipPackage> = serde_json::from_str(list).unwrap_or_default();
    let foreign = list.iter().filter(|package| !PYTHON_TOOLS.contains(&&*package.name));
    let normal = |name: &str| name.to_lowercase().replace('_', "-");
    foreign.map(|package| Part::new("pypi", &normal(&package.name), &package.version)).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(parts: Vec<Part>, expected: Expect) {
        let shown = parts.iter().map(|part| format!("{} {:?}\n", part.purl, part.hash));
        expected.assert_eq(&shown.collect::<String>());
    }

    #[test]
    fn each_tool_s_own_list_is_read() {
        check(
            of_cargo(
                "version = 4\n[[package]]\nname = 'cart'\nversion = '1'\n\
                 [[package]]\nname = 'serde'\nversion = '1.0.1'\nchecksum = 'abc'\n\
                 source = 'registry+example'\n",
            ),
            expect![[r#"
                pkg:cargo/serde@1.0.1 Some(("SHA-256", "abc"))
            "#]],
        );
        check(
            of_go("example.com/a/b v1.2.0 h1:x=\nexample.com/a/b v1.2.0/go.mod h1:y=\n"),
            expect![[r#"
                pkg:golang/example.com/a/b@v1.2.0 None
            "#]],
        );
        let lock = json!({"packages": {
            "": {"name": "cart"},
            "node_modules/@scope/a": {"version": "1.0.0"},
            "node_modules/x/node_modules/b": {"version": "2.0.0"},
            "node_modules/c": {"version": "3.0.0", "dev": true},
        }});
        check(
            of_npm(&lock.to_string()),
            expect![[r#"
            pkg:npm/%40scope/a@1.0.0 None
            pkg:npm/b@2.0.0 None
        "#]],
        );
        let list = json!([{"name": "Some_Thing", "version": "1"}, {"name": "pip", "version": "2"}]);
        check(
            of_pip(&list.to_string()),
            expect![[r#"
            pkg:pypi/some-thing@1 None
        "#]],
        );
        for nothing in [of_cargo("]"), of_go(""), of_npm("]"), of_pip("")] {
            assert!(nothing.is_empty());
        }
    }

    #[test]
    fn a_document_tells_what_is_in_it() {
        let parts = of_go("example.com/b v1 h1:x=\nexample.com/a v1 h1:x=\n");
        let document = document("cart", "0.1.0", Some(&Tool::new("go", "1.26.0")), parts);
        expect![[r#"
            {
              "bomFormat": "CycloneDX",
              "specVersion": "1.5",
              "version": 1,
              "metadata": {
                "component": {
                  "type": "application",
                  "bom-ref": "cart",
                  "name": "cart",
                  "version": "0.1.0"
                },
                "tools": {
                  "components": [
                    {
                      "type": "application",
                      "name": "go",
                      "version": "1.26.0"
                    }
                  ]
                }
              },
              "components": [
                {
                  "type": "library",
                  "bom-ref": "pkg:golang/example.com/a@v1",
                  "name": "example.com/a",
                  "version": "v1",
                  "purl": "pkg:golang/example.com/a@v1"
                },
                {
                  "type": "library",
                  "bom-ref": "pkg:golang/example.com/b@v1",
                  "name": "example.com/b",
                  "version": "v1",
                  "purl": "pkg:golang/example.com/b@v1"
                }
              ]
            }"#]]
        .assert_eq(&format!("{document:#}"));
    }
}
