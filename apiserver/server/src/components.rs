//! How the components of the control plane are, as far as this process knows: it runs them, and says
//! here how to ask.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use crate::ApiServer;

/// The components that every cluster has, by upstream's names.
const KNOWN: [&str; 2] = ["controller-manager", "scheduler"];
/// The store, whatever it is.
const STORE: &str = "etcd-0";

/// Answers whether a component does its work, and if not, why.
pub type Health = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// The components of this process.
#[derive(Default)]
pub(crate) struct Components(RwLock<BTreeMap<&'static str, Health>>);

impl Components {
    pub fn set(&self, name: &'static str, health: Health) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name, health);
    }

    /// All components with what is wrong with them.
    pub fn all(&self, server: &ApiServer) -> Vec<(&'static str, Result<(), String>)> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let run = |name: &&'static str| match known.get(name) {
            Some(health) => health(),
            None => Err(format!("no {name} runs in the API server's process")),
        };
        let mut all: Vec<_> = KNOWN.iter().map(|name| (*name, run(name))).collect();
        let store = server.cache().store().degraded();
        all.push((STORE, store.map_or(Ok(()), |why| Err(why.to_string()))));
        all
    }
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(known.keys()).finish()
    }
}
