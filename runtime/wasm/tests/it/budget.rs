//! The memory that all guests of a node share.

use std::{sync::Arc, time::Duration};

use windlass_runtime_api::Runtime;

use crate::node::{Node, committed, guest, until};

const BUDGET: u64 = 64 << 20;

#[tokio::test]
async fn guests_are_refused_what_the_node_does_not_have() {
    let folder = Arc::new(tempfile::tempdir().expect("temporary folder"));
    let node = Node::with(folder, |config| config.guest_memory_bytes = Some(BUDGET));
    let budget = || node.runtime.memory_budget().expect("a budget");
    assert_eq!((budget().limit_bytes, budget().used_bytes), (BUDGET, 0));
    let low = tokio::time::timeout(Duration::from_millis(10), node.runtime.low_memory()).await;
    assert!(low.is_err(), "{:?}", budget());

    // A command without a limit of its own ends by the node's, and says so.
    let mut hungry = node.pod("hungry", &guest("command-exit"));
    hungry.args = vec!["grow".into(), "200".into()];
    let hungry = node.started(hungry).await;
    let (code, reason, message) = node.exit(&hungry).await;
    assert_eq!((code, reason.as_str()), (137, "OOMKilled"));
    assert!(message.contains("the node's memory for guests is full"), "{message}");

    // A handler loses the request, and others go on.
    let greedy = node.started(node.pod("greedy", &guest("http-memory"))).await;
    let hello = node.started(node.pod("hello", &committed("v1"))).await;
    assert_eq!(node.get(&greedy, "/grow?mib=200").await.expect("answers").status, 500);
    assert_eq!(node.get(&hello, "/").await.expect("answers").status, 200);
    assert_eq!(node.get(&greedy, "/grow?mib=8").await.expect("answers").status, 200);
    // Large instances end after their answers.
    until("an end of all instances", || (budget().used_bytes == 0).then_some(())).await;
}
