//! What a wasm file is, decided by its bytes and exports, never by what its image says: a handler
//! of HTTP requests or a command that runs to completion.

use wasmtime::component::{Component, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use windlass_runtime_api::RuntimeError;

use crate::guest::Guest;

/// A compiled and linked component. Clones share it.
#[derive(Clone)]
pub struct Artifact {
    pub program: Program,
    /// Slots of the pool that one instance takes.
    pub weight: u32,
}

#[derive(Clone)]
pub enum Program {
    /// Exports `wasi:http/incoming-handler` 0.2.
    Handler(ProxyPre<Guest>),
    /// Exports `wasi:cli/run` 0.2.
    Command(CommandPre<Guest>),
}

/// The reason of a waiting container whose image can't run here.
pub const CREATE_ERROR: &str = "CreateContainerError";

/// Refuses what can't be a component before time is spent on compiling it. `name` is the image's.
pub fn check_bytes(name: &str, bytes: &[u8]) -> Result<(), RuntimeError> {
    // https://github.com/WebAssembly/component-model: the layer field tells components (1) from
    // core modules (0).
    let why = match bytes.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => return Ok(()),
        Some([0, b'a', b's', b'm', _, _, 0, 0]) => {
            "a core WebAssembly module; only components (WASI 0.2) run here"
        }
        _ => "no WebAssembly file",
    };
    Err(RuntimeError::new(CREATE_ERROR, format!("image {name} holds {why}")))
}

impl Artifact {
    pub fn link(
        name: &str,
        component: &Component,
        linker: &Linker<Guest>,
    ) -> Result<Self, RuntimeError> {
        let refused = |why: String| RuntimeError::new(CREATE_ERROR, format!("image {name} {why}"));
        let pre = linker.instantiate_pre(component).map_err(|error| {
            let text = format!("{error:#}");
            refused(match unmet_import(component, &text) {
                Some(import) => format!("imports {import}, which this node does not provide"),
                None => format!("can't be linked: {text}"),
            })
        })?;
        let exports = exports(component);
        let has = |prefix: &str| exports.iter().any(|export| export.starts_with(prefix));
        let program = if has("wasi:http/incoming-handler@0.2") {
            Program::Handler(ProxyPre::new(pre).map_err(|error| refused(format!("{error:#}")))?)
        } else if has("wasi:cli/run@0.2") {
            Program::Command(CommandPre::new(pre).map_err(|error| refused(format!("{error:#}")))?)
        } else {
            let listed = if exports.is_empty() { "nothing".into() } else { exports.join(", ") };
            return Err(refused(format!(
                "exports neither wasi:http/incoming-handler nor wasi:cli/run of WASI 0.2, but {listed}"
            )));
        };
        Ok(Self { program, weight: weight(component) })
    }
}

/// An instance takes one slot for each of its memories, and for each two of its tables.
fn weight(component: &Component) -> u32 {
    let Some(needs) = component.resources_required() else { return 1 };
    needs.num_memories.max(needs.num_tables.div_ceil(2)).max(1)
}

fn exports(component: &Component) -> Vec<String> {
    let ty = component.component_type();
    ty.exports(component.engine()).map(|(name, _)| name.to_string()).collect()
}

/// The import that the linker's error speaks of.
fn unmet_import(component: &Component, error: &str) -> Option<String> {
    let ty = component.component_type();
    let mut imports = ty.imports(component.engine()).map(|(name, _)| name.to_string());
    imports.find(|name| error.contains(&format!("`{name}`")))
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(bytes: &[u8], expected: Expect) {
        let checked = check_bytes("acme/web:v1", bytes);
        expected.assert_eq(&checked.err().map(|error| error.message).unwrap_or_default());
    }

    #[test]
    fn bytes_tell_components_from_the_rest() {
        check(b"\0asm\x0d\0\x01\0", expect![""]);
        check(
            b"\0asm\x01\0\0\0",
            expect![
                "image acme/web:v1 holds a core WebAssembly module; only components (WASI 0.2) run here"
            ],
        );
        check(b"#!/bin/sh", expect!["image acme/web:v1 holds no WebAssembly file"]);
        check(b"", expect!["image acme/web:v1 holds no WebAssembly file"]);
    }
}
