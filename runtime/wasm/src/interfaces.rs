//! Host interfaces beyond WASI's core: `wasi:config` reads the container's environment,
//! `wasi:logging` writes to its log.

use wasmtime::{
    StoreContextMut,
    component::{ComponentType, Lift, Linker, Lower},
};

use crate::{container::Container, guest::Guest};

/// The drafts of one interface that components in use were built for.
const CONFIG: [&str; 3] = [
    "wasi:config/store@0.2.0-rc.1",
    "wasi:config/store@0.2.0-draft",
    "wasi:config/store@0.2.0-draft-2024-09-27",
];
const LOGGING: [&str; 2] = ["wasi:logging/logging@0.1.0-draft", "wasi:logging/logging"];
/// A longer message is cut.
const MAX_MESSAGE_BYTES: usize = 64 << 10;

/// `wasi:config/store`'s `error`. An environment has none.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[allow(dead_code, reason = "the interface names them; reading an environment can't fail")]
enum ConfigError {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

#[derive(Clone, Copy, Debug, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "guests make them")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

type Store<'a> = StoreContextMut<'a, Guest>;
type Values<T> = wasmtime::Result<(Result<T, ConfigError>,)>;

pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    for name in CONFIG {
        let mut config = linker.instance(name)?;
        config.func_wrap("get", |store: Store<'_>, (key,): (String,)| {
            let answer: Values<Option<String>> = Ok((Ok(setting(store.data().container(), &key)),));
            answer
        })?;
        config.func_wrap("get-all", |store: Store<'_>, (): ()| {
            let answer: Values<Vec<(String, String)>> =
                Ok((Ok(settings(store.data().container())),));
            answer
        })?;
    }
    for name in LOGGING {
        let mut logging = linker.instance(name)?;
        logging.func_wrap("log", |store: Store<'_>, said: (Level, String, String)| {
            let (level, context, message) = said;
            store.data().container().log.note(&line(level, &context, &message));
            Ok(())
        })?;
    }
    Ok(())
}

/// What `wasi:config` reads: the variables of a Spin application's component; else the environment.
fn settings(container: &Container) -> Vec<(String, String)> {
    match &container.part {
        Some(part) => part.variables.clone().into_iter().collect(),
        None => container.spec.env.clone(),
    }
}

fn setting(container: &Container, key: &str) -> Option<String> {
    if let Some(part) = &container.part {
        return part.variables.get(key).cloned();
    }
    let found = container.spec.env.iter().rev().find(|(name, _)| name == key);
    found.map(|(_, value)| value.clone())
}

fn line(level: Level, context: &str, message: &str) -> String {
    let cut = |text: &str| text[..text.floor_char_boundary(MAX_MESSAGE_BYTES)].to_string();
    let level = format!("{level:?}").to_uppercase();
    match context {
        "" => format!("{level} {}", cut(message)),
        context => format!("{level} {}: {}", cut(context), cut(message)),
    }
}
