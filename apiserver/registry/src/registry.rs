//! The table of all kinds, looked up by the path of a request or by the kind of a body. Kinds that
//! are compiled in come first; those that came at run time are behind them, replaced all at once. A
//! reader takes a snapshot and is never held up by a change.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock},
};

use windlass_sdk_meta::{GroupVersionKind, GroupVersionResource};

use crate::{kind::Kind, rows};

/// All kinds that are served.
#[derive(Debug)]
pub struct Registry {
    builtin: Vec<Arc<Kind>>,
    rows: RwLock<Arc<Rows>>,
}

/// The table as it was at one moment.
#[derive(Debug, Default)]
pub struct Rows {
    rows: Vec<Arc<Kind>>,
    by_resource: HashMap<GroupVersionResource, Arc<Kind>>,
    by_kind: HashMap<GroupVersionKind, Arc<Kind>>,
    /// Grows with each change.
    pub generation: u64,
}

impl Registry {
    /// The kinds that are compiled in.
    pub fn builtin() -> Self {
        Self::new(rows::builtin())
    }

    /// As `builtin`, with one more.
    pub fn builtin_with(kind: Kind) -> Self {
        let mut all = rows::builtin();
        all.push(kind);
        Self::new(all)
    }

    pub fn new(kinds: Vec<Kind>) -> Self {
        let builtin: Vec<Arc<Kind>> = kinds.into_iter().map(Arc::new).collect();
        let rows = RwLock::new(Arc::new(Rows::of(builtin.clone(), 0)));
        Self { builtin, rows }
    }

    /// The table as it is now.
    pub fn rows(&self) -> Arc<Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the kinds that came at run time. One whose resource is compiled in is left out.
    pub fn set_custom(&self, kinds: Vec<Arc<Kind>>) {
        let known: HashSet<_> = self.builtin.iter().map(|kind| kind.group_resource()).collect();
        let kinds = kinds.into_iter().filter(|kind| !known.contains(&kind.group_resource()));
        let all: Vec<Arc<Kind>> = self.builtin.iter().cloned().chain(kinds).collect();
        let mut rows = self.rows.write().unwrap_or_else(PoisonError::into_inner);
        *rows = Arc::new(Rows::of(all, rows.generation + 1));
    }

    /// The row behind a path such as `/apis/apps/v1/.../deployments`.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        self.rows().resource(group, version, plural).cloned()
    }

    pub fn by_kind(&self, kind: &GroupVersionKind) -> Option<Arc<Kind>> {
        self.rows().by_kind.get(kind).cloned()
    }

    /// The kinds that are compiled in, one row a stored kind.
    pub fn builtin_kinds(&self) -> &[Arc<Kind>] {
        &self.builtin
    }
}

impl Rows {
    fn of(rows: Vec<Arc<Kind>>, generation: u64) -> Self {
        let served = || rows.iter().flat_map(|row| row.served.iter().map(move |at| (row, at)));
        Self {
            by_resource: served().map(|(row, at)| (row.gvr_in(at), row.clone())).collect(),
            by_kind: served().map(|(row, at)| (row.gvk_in(at), row.clone())).collect(),
            rows,
            generation,
        }
    }

    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.by_resource.get(&GroupVersionResource::new(group, version, plural))
    }

    /// In the order of the table: one row a stored kind, or a served version of a custom one.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.rows.iter()
    }
}
