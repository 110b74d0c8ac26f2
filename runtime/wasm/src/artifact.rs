//! What a wasm file is, decided by its bytes and exports, never by what its image says: a handler
//! of HTTP requests, or a command that runs to completion (a component, or a module of WASI
//! preview 1, which is linked as it is: no adapter shares its memory).

use std::sync::Arc;

use wasmtime::{
    ExternType, InstancePre, Module, ResourcesRequired, Store, TypedFunc, component::Component,
};
use wasmtime_wasi::{p2, p3};
use wasmtime_wasi_http::{p2::bindings::ProxyPre, p3::bindings::ServicePre};
use windlass_runtime_api::RuntimeError;

use crate::guest::{Guest, Linkers};

/// A compiled and linked component or module. Clones share it.
#[derive(Clone)]
pub struct Artifact {
    pub program: Program,
    /// Slots of the pool that one instance takes.
    pub weight: u32,
}

#[derive(Clone)]
pub enum Program {
    /// Answers HTTP requests, and perhaps has something to run beside.
    Handler(Serve, Option<Run>),
    Command(Run),
}

/// What answers HTTP requests.
#[derive(Clone)]
pub enum Serve {
    /// Exports `wasi:http/incoming-handler` 0.2.
    Once(ProxyPre<Guest>),
    /// Exports `wasi:http/handler` 0.3.
    Reused(ServicePre<Guest>),
}

/// What runs to completion.
#[derive(Clone)]
pub enum Run {
    /// Exports `wasi:cli/run` 0.2.
    Component(p2::bindings::CommandPre<Guest>),
    /// Exports `wasi:cli/run` 0.3.
    Concurrent(p3::bindings::CommandPre<Guest>),
    /// A core module, and its exported function that runs.
    Module(InstancePre<Guest>, Arc<str>),
}

/// What the compiler makes of an image's bytes.
pub enum Compiled {
    Component(Component),
    Module(Module),
}

/// The reason of a waiting container whose image can't run here.
pub const CREATE_ERROR: &str = "CreateContainerError";

const START: &str = "_start";
/// What a module without `_start` may want to be called first (tool-conventions, BasicModuleAbi).
const INITIALIZE: &str = "_initialize";

/// Whether bytes are a core module (true) or a component. Refuses the rest before time is spent on
/// compiling it. `name` is the image's.
pub fn is_module(name: &str, bytes: &[u8]) -> Result<bool, RuntimeError> {
    // https://github.com/WebAssembly/component-model: the layer field tells components (1) from
    // core modules (0).
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(false),
        Some([0, b'a', b's', b'm', _, _, 0, 0]) => Ok(true),
        _ => {
            let why = format!("image {name} holds no WebAssembly file");
            Err(RuntimeError::new(CREATE_ERROR, why))
        }
    }
}

impl Artifact {
    /// `function` is what runs of a module; empty: `_start`.
    pub fn link(
        name: &str,
        function: &str,
        compiled: &Compiled,
        linkers: &Linkers,
    ) -> Result<Self, RuntimeError> {
        let linked = match compiled {
            Compiled::Component(component) => Self::component(component, linkers),
            Compiled::Module(module) => Self::module(module, function, linkers),
        };
        linked.map_err(|why| RuntimeError::new(CREATE_ERROR, format!("image {name} {why}")))
    }

    fn component(component: &Component, linkers: &Linkers) -> Result<Self, String> {
        let pre = linkers.components.instantiate_pre(component).map_err(|error| {
            let text = format!("{error:#}");
            match unmet_import(component, &text) {
                Some(import) => format!("imports {import}, which this node does not provide"),
                None => format!("can't be linked: {text}"),
            }
        })?;
        let exports = exports(component);
        let has = |prefix: &str| exports.iter().any(|export| export.starts_with(prefix));
        let wrong = |error: wasmtime::Error| format!("{error:#}");
        let run = if has("wasi:cli/run@0.2") {
            let command = p2::bindings::CommandPre::new(pre.clone()).map_err(wrong)?;
            Some(Run::Component(command))
        } else if has("wasi:cli/run@0.3") {
            let command = p3::bindings::CommandPre::new(pre.clone()).map_err(wrong)?;
            Some(Run::Concurrent(command))
        } else {
            None
        };
        // Who exports both is served by the older one, as `wasmtime serve` does.
        let program = if has("wasi:http/incoming-handler@0.2") {
            Program::Handler(Serve::Once(ProxyPre::new(pre).map_err(wrong)?), run)
        } else if has("wasi:http/handler@0.3") {
            Program::Handler(Serve::Reused(ServicePre::new(pre).map_err(wrong)?), run)
        } else if let Some(run) = run {
            Program::Command(run)
        } else {
            let listed = if exports.is_empty() { "nothing".into() } else { exports.join(", ") };
            return Err(format!(
                "exports none of wasi:http/incoming-handler (WASI 0.2), wasi:http/handler (0.3) and wasi:cli/run, but {listed}"
            ));
        };
        Ok(Self { program, weight: weight(component.resources_required()) })
    }

    fn module(module: &Module, function: &str, linkers: &Linkers) -> Result<Self, String> {
        let function = if function.is_empty() { START } else { function };
        match module.get_export(function) {
            Some(ExternType::Func(ty)) if ty.params().len() + ty.results().len() == 0 => {}
            None if function == START => {
                let why = "is a core module without _start: only commands of WASI preview 1 and components run here";
                return Err(why.into());
            }
            _ => {
                return Err(format!(
                    "is a core module without a function {function} that takes and returns nothing"
                ));
            }
        }
        for import in module.imports() {
            let (from, name) = (import.module(), import.name());
            if from != "wasi_snapshot_preview1" && from != "wasi_unstable" {
                return Err(format!("imports {from}::{name}, which this node does not provide"));
            }
        }
        let pre = linkers.modules.instantiate_pre(module);
        let pre = pre.map_err(|error| format!("can't be linked: {error:#}"))?;
        let weight = weight(Some(module.resources_required()));
        Ok(Self { program: Program::Command(Run::Module(pre, function.into())), weight })
    }
}

/// An instance that has not run yet.
pub enum Runnable {
    Component(p2::bindings::Command),
    Concurrent(p3::bindings::Command),
    Module(TypedFunc<(), ()>),
}

impl Run {
    pub fn is_module(&self) -> bool {
        matches!(self, Self::Module(..))
    }

    pub async fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Runnable> {
        Ok(match self {
            Self::Component(pre) => Runnable::Component(pre.instantiate_async(store).await?),
            Self::Concurrent(pre) => Runnable::Concurrent(pre.instantiate_async(store).await?),
            Self::Module(pre, function) => {
                let instance = pre.instantiate_async(&mut *store).await?;
                if **function != *START
                    && let Ok(initialize) =
                        instance.get_typed_func::<(), ()>(&mut *store, INITIALIZE)
                {
                    initialize.call_async(&mut *store, ()).await?;
                }
                Runnable::Module(instance.get_typed_func(store, function)?)
            }
        })
    }
}

impl Runnable {
    /// To its end. The inner error is what the program itself returns.
    pub async fn run(&self, store: &mut Store<Guest>) -> wasmtime::Result<Result<(), ()>> {
        match self {
            Self::Component(command) => command.wasi_cli_run().call_run(store).await,
            Self::Concurrent(command) => {
                let run = command.wasi_cli_run();
                store.run_concurrent(async |accessor| run.call_run(accessor).await).await?
            }
            Self::Module(start) => start.call_async(store, ()).await.map(Ok),
        }
    }
}

/// An instance takes one slot for each of its memories, and for each two of its tables.
fn weight(needs: Option<ResourcesRequired>) -> u32 {
    let Some(needs) = needs else { return 1 };
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
        let kind = is_module("acme/web:v1", bytes).map_err(|error| error.message);
        expected.assert_eq(&format!("{kind:?}"));
    }

    #[test]
    fn bytes_tell_components_from_the_rest() {
        check(b"\0asm\x0d\0\x01\0", expect!["Ok(false)"]);
        check(b"\0asm\x01\0\0\0", expect!["Ok(true)"]);
        check(b"#!/bin/sh", expect![[r#"Err("image acme/web:v1 holds no WebAssembly file")"#]]);
        check(b"", expect![[r#"Err("image acme/web:v1 holds no WebAssembly file")"#]]);
    }
}
