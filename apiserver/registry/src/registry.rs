//! The table of all kinds, looked up by the path of a request or by the kind of a body.

use std::{collections::HashMap, sync::Arc};

use windlass_sdk_meta::{GroupVersionKind, GroupVersionResource};

use crate::{kind::Kind, rows};

/// All kinds that are served.
#[derive(Debug)]
pub struct Registry {
    rows: Vec<Arc<Kind>>,
    by_resource: HashMap<GroupVersionResource, Arc<Kind>>,
    by_kind: HashMap<GroupVersionKind, Arc<Kind>>,
}

impl Registry {
    /// The kinds that are compiled in.
    pub fn builtin() -> Self {
        Self::new(rows::builtin())
    }

    pub fn new(kinds: Vec<Kind>) -> Self {
        let rows: Vec<Arc<Kind>> = kinds.into_iter().map(Arc::new).collect();
        let served = || rows.iter().flat_map(|row| row.served.iter().map(move |at| (row, at)));
        Self {
            by_resource: served().map(|(row, at)| (row.gvr_in(at), row.clone())).collect(),
            by_kind: served().map(|(row, at)| (row.gvk_in(at), row.clone())).collect(),
            rows,
        }
    }

    /// The row behind a path such as `/apis/apps/v1/.../deployments`.
    pub fn resource(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        self.by_resource.get(&GroupVersionResource::new(group, version, plural)).cloned()
    }

    pub fn by_kind(&self, kind: &GroupVersionKind) -> Option<Arc<Kind>> {
        self.by_kind.get(kind).cloned()
    }

    /// One row a stored kind, in the order of the table.
    pub fn kinds(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.rows.iter()
    }
}
