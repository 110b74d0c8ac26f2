//! Every template, built by the real compilers of this machine.

use std::{collections::BTreeSet, fs, path::Path};

use windlass_sdk_project::{Allowed, Built, Project, TEMPLATES, Template, create};

fn build(folder: &Path) -> Built {
    let project = Project::open(folder).expect("a project");
    let mut said = Vec::new();
    let built = project.build(&mut |line| said.push(line.to_owned()));
    built.unwrap_or_else(|error| panic!("{error}\n{}", said.join("\n")))
}

/// The same bytes in two folders, what they are, and the stores that they may open.
fn check(template: &str, exports: &str, keyvalue: &[&str]) {
    let template = Template::find(template).expect("it is there");
    let folder = tempfile::tempdir().expect("a folder");
    let (here, there) = (folder.path().join("here"), folder.path().join("there"));
    for place in [&here, &there] {
        create(template, "cart", place).expect("it is made");
    }
    let built = build(&here);
    assert!(built.inspection.exports.iter().any(|name| name.starts_with(exports)), "{built:?}");
    let keyvalue = keyvalue.iter().map(ToString::to_string).collect();
    assert_eq!(built.allowed, Allowed { keyvalue, ..Allowed::default() });
    assert_eq!(build(&there).digest, built.digest, "{}", template.name);
    // It says nothing about the machine that built it.
    let bytes = fs::read(&built.file).expect("it is there");
    let root = folder.path().canonicalize().expect("it is there");
    let root = root.to_string_lossy().into_owned();
    assert!(!bytes.windows(root.len()).any(|part| part == root.as_bytes()), "{}", template.name);
}

#[test]
fn a_handler_in_rust() {
    check("http-rust", "wasi:http/incoming-handler@0.2", &[]);
}

#[test]
fn a_handler_in_rust_that_keeps_something() {
    check("keyvalue-rust", "wasi:http/incoming-handler@0.2", &["default"]);
}

#[test]
fn a_static_site() {
    check("static-site", "wasi:http/incoming-handler@0.2", &[]);
}

#[test]
fn a_command_in_rust() {
    check("command-rust", "wasi:cli/run@0.2", &[]);
}

#[test]
fn a_handler_in_go() {
    check("http-go", "wasi:http/incoming-handler@0.2", &[]);
}

/// The end-to-end suite goes through the others: `mixed` always, and by `--every-template` those whose
/// compilers nothing else needs.
#[test]
fn no_template_is_left_out() {
    let here = ["http-rust", "command-rust", "http-go", "keyvalue-rust", "static-site"];
    let there = ["mixed", "http-c", "http-python", "http-js"];
    let known: BTreeSet<&str> = here.into_iter().chain(there).collect();
    let names: BTreeSet<&str> = TEMPLATES.iter().map(|template| template.name).collect();
    assert_eq!(names, known);
}
