//! Counts in a store of `wasi:keyvalue`, which outlives the component and is shared by its replicas.

use crate::Counts;

wit_bindgen::generate!({ path: "wit", world: "counts", generate_all });

use wasi::keyvalue::{
    atomics,
    store::{self, Error},
};

/// The store that `windlass.toml` grants.
const STORE: &str = "default";

pub struct Kept;

impl Counts for Kept {
    fn count(&self, name: &str) -> Result<i64, String> {
        let value = store::open(STORE).and_then(|store| store.get(name)).map_err(told)?;
        let Some(value) = value else { return Ok(0) };
        let number = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
        number.ok_or_else(|| format!("{name} is no number"))
    }

    fn add(&self, name: &str, more: i64) -> Result<i64, String> {
        let store = store::open(STORE).map_err(told)?;
        atomics::increment(&store, name, more).map_err(told)
    }
}

fn told(error: Error) -> String {
    match error {
        Error::NoSuchStore => format!("there is no store {STORE:?}"),
        Error::AccessDenied => format!("windlass.toml grants no store {STORE:?}"),
        Error::Other(why) => why,
    }
}
