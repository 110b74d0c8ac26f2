//! Short forms for the tests.

use std::sync::Arc;

use windlass_apiserver_store::{
    Op, RangeRequest, RangeResponse, Revision, Store, StoreError, Txn, TxnOutcome,
};

pub fn put(key: &str, value: impl AsRef<[u8]>) -> Txn {
    let op = Op::Put { key: key.into(), value: Arc::from(value.as_ref()) };
    Txn { compare: Vec::new(), ops: vec![op] }
}

pub async fn commit(store: &dyn Store, txn: Txn) -> Result<Revision, StoreError> {
    match store.txn(txn).await? {
        TxnOutcome::Committed(revision) => Ok(revision),
        failed => panic!("not committed: {failed:?}"),
    }
}

pub async fn all(store: &dyn Store) -> RangeResponse {
    store.range(RangeRequest::default()).await.expect("range")
}
