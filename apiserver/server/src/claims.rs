//! Names that are unique in the cluster (`Strategy::claims`): kept as keys of their own, which change
//! in the transaction of the object that claims them.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;
use windlass_apiserver_registry::Kind;
use windlass_apiserver_store::{Compare, Op, Txn};

use crate::cache::CLAIMS;

/// The names that are claimed or released along with a change of the object with the key `holder`.
pub fn changed(kind: &Kind, holder: &str, old: Option<&Value>, new: Option<&Value>) -> Txn {
    let of = |tree: Option<&Value>| -> BTreeSet<String> {
        tree.map(|tree| kind.strategy.claims(tree)).into_iter().flatten().collect()
    };
    let (before, now) = (of(old), of(new));
    let mut txn = Txn::default();
    for claim in before.difference(&now) {
        txn.ops.push(Op::Delete { key: format!("{CLAIMS}{claim}").into() });
    }
    for claim in now.difference(&before) {
        let key: Arc<str> = format!("{CLAIMS}{claim}").into();
        txn.compare.push(Compare { key: key.clone(), mod_revision: 0 });
        txn.ops.push(Op::Put { key, value: holder.as_bytes().into() });
    }
    txn
}
