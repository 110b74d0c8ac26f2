//! Projects to begin with, as data: files of `sdk/templates`, with the name put into them.

use std::{fs, path::Path};

use crate::{ProjectError, at, manifest::wrong_name};

/// Stands for the component's name in the files.
const NAME: &str = "{{name}}";

/// A project to begin with.
#[derive(Debug)]
pub struct Template {
    pub name: &'static str,
    pub about: &'static str,
    /// What a person types in the new folder before it is built, its own tests among it.
    pub steps: &'static [&'static str],
    /// Path below the new folder, and text.
    files: &'static [(&'static str, &'static str)],
}

/// Rows of `Template::files`: the path in the project, and the file below the template's folder
/// where that is called otherwise.
macro_rules! files {
    ($folder:literal: $($path:literal $(= $source:literal)?),* $(,)?) => {
        &[$(($path, files!(@text $folder, $path $(, $source)?))),*]
    };
    (@text $folder:literal, $path:literal) => {
        include_str!(concat!("../../templates/", $folder, "/", $path))
    };
    (@text $folder:literal, $path:literal, $source:literal) => {
        include_str!(concat!("../../templates/", $folder, "/", $source))
    };
}

/// All of them; the first is the default.
pub static TEMPLATES: [Template; 9] = [
    Template {
        name: "http-rust",
        about: "an HTTP microservice in Rust",
        steps: &["cargo test"],
        files: files!("http-rust": "Cargo.toml", "Cargo.lock", "src/lib.rs", "src/component.rs",
            "windlass.toml", "README.md", ".gitignore" = "gitignore"),
    },
    Template {
        name: "command-rust",
        about: "a command in Rust that runs to completion",
        steps: &["cargo test"],
        files: files!("command-rust": "Cargo.toml", "Cargo.lock", "src/lib.rs", "src/component.rs",
            "windlass.toml", "README.md", ".gitignore" = "gitignore"),
    },
    Template {
        name: "http-go",
        about: "an HTTP microservice in Go",
        steps: &["go test ./..."],
        files: files!("http-go": "go.mod", "handler.go", "handler_test.go", "main.go",
            "main_wasm.go", "internal/wasihttp/wasihttp.go", "internal/wasihttp/abi.go",
            "windlass.toml", "README.md", ".gitignore" = "gitignore"),
    },
    Template {
        name: "http-c",
        about: "an HTTP microservice in C",
        steps: &["make test"],
        files: files!("http-c": "Makefile", "src/service.h", "src/service.c", "src/wasihttp.c",
            "tests/service.c", "windlass.toml", "README.md", ".gitignore" = "gitignore"),
    },
    Template {
        name: "http-python",
        about: "an HTTP microservice in Python",
        steps: &[
            "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt",
            "python3 -m unittest discover src",
        ],
        files: files!("http-python": "requirements.txt", "src/service.py", "src/app.py",
            "src/test_service.py", "wit/world.wit" = "../../project/src/handler.wit",
            "windlass.toml", "README.md", ".gitignore" = "gitignore"),
    },
    Template {
        name: "http-js",
        about: "an HTTP microservice in JavaScript",
        steps: &["npm install", "npm test"],
        files: files!("http-js": "package.json", "src/service.js", "src/main.js",
            "src/service.test.js", "wit/world.wit", "windlass.toml", "README.md",
            ".gitignore" = "gitignore"),
    },
    Template {
        name: "keyvalue-rust",
        about: "counts in a key-value store, in Rust",
        steps: &["cargo test"],
        files: files!("keyvalue-rust": "Cargo.toml", "Cargo.lock", "src/lib.rs", "src/store.rs",
            "src/component.rs" = "../http-rust/src/component.rs", "wit/world.wit",
            "wit/deps/keyvalue.wit", "windlass.toml", "README.md", ".gitignore" = "gitignore"),
    },
    Template {
        name: "static-site",
        about: "a static site, whose files are in a component in Rust",
        steps: &["cargo test"],
        files: files!("static-site": "Cargo.toml", "Cargo.lock", "build.rs", "src/lib.rs",
            "src/component.rs" = "../http-rust/src/component.rs", "site/index.html",
            "site/style.css", "windlass.toml", "README.md", ".gitignore" = "gitignore"),
    },
    Template {
        name: "mixed",
        about: "a front end in Rust before a back end in a container",
        steps: &["cargo test", "docker build --tag {{name}}-backend:0.1.0 backend"],
        files: files!("mixed": "Cargo.toml", "Cargo.lock", "src/lib.rs", "src/backend.rs",
            "src/component.rs" = "../http-rust/src/component.rs", "backend/Dockerfile",
            "backend/www/index.html", "windlass.toml", "README.md", ".gitignore" = "gitignore"),
    },
];

impl Template {
    /// Finds one by its name.
    pub fn find(name: &str) -> Result<&'static Self, ProjectError> {
        TEMPLATES.iter().find(|template| template.name == name).ok_or_else(|| {
            let known = TEMPLATES.iter().map(|template| template.name).collect::<Vec<_>>();
            ProjectError::NoTemplate { name: name.to_owned(), known: known.join(", ") }
        })
    }

    /// `steps` of a project with this name.
    pub fn steps_of(&self, name: &str) -> Vec<String> {
        self.steps.iter().map(|step| step.replace(NAME, name)).collect()
    }

    /// Path and text of each file of a project with this name.
    fn filled<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'static str, String)> + 'a {
        self.files.iter().map(move |(path, text)| (*path, text.replace(NAME, name)))
    }
}

/// Makes the project `folder`, which must not be there. What is half written is removed again.
pub fn create(template: &Template, name: &str, folder: &Path) -> Result<(), ProjectError> {
    if let Some(why) = wrong_name(name) {
        return Err(ProjectError::Name { name: name.to_owned(), why });
    }
    match fs::create_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(ProjectError::Exists(folder.to_owned()));
        }
        made => at(made, folder)?,
    }
    let written = template.filled(name).try_for_each(|(path, text)| {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            at(fs::create_dir_all(parent), parent)?;
        }
        at(fs::write(&path, text), &path)
    });
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_dir_all(folder);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Manifest;

    #[test]
    fn every_template_is_a_project() {
        for template in &TEMPLATES {
            let files: Vec<_> = template.filled("my-cart").collect();
            for (path, text) in &files {
                assert!(!text.contains(NAME), "{} {path}", template.name);
                assert!(text.ends_with('\n'), "{} {path}", template.name);
            }
            let text = |path: &str| {
                let found = files.iter().find(|(known, _)| *known == path);
                found.map(|(_, text)| text.as_str()).unwrap_or_default()
            };
            let manifest = Manifest::parse(text("windlass.toml"));
            assert_eq!(manifest.map(|manifest| manifest.name).as_deref(), Ok("my-cart"));
            assert!(text("README.md").lines().count() <= 12, "{}", template.name);
        }
    }

    /// The engine in JavaScript is made for one version of WASI, and its template says which.
    #[test]
    fn worlds_are_the_same_but_for_the_version() {
        let world = |template: &str| {
            let template = Template::find(template).expect("it is there");
            let found = template.files.iter().find(|(path, _)| *path == "wit/world.wit");
            found.expect("it has a world").1
        };
        let expected = world("http-python").replace("@0.2.0", "@0.2.10");
        assert_eq!(world("http-js"), expected);
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().expect("a folder");
        let cart = folder.path().join("cart");
        create(&TEMPLATES[0], "cart", &cart).expect("the first");
        assert!(cart.join(".gitignore").is_file());
        let again = create(&TEMPLATES[0], "cart", &cart).expect_err("it is there");
        assert!(matches!(again, ProjectError::Exists(_)), "{again}");
        let name = create(&TEMPLATES[0], "My Cart", &folder.path().join("x")).expect_err("a name");
        assert!(name.to_string().contains("\"My Cart\""), "{name}");
        let unknown = Template::find("http-cobol").expect_err("no such template");
        assert!(unknown.to_string().contains("http-rust, command-rust, http-go"), "{unknown}");
    }
}
