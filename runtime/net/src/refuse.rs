//! Services that nobody serves refuse whoever calls them, also from inside a joined pod. What our
//! listener in there accepted can only be reset, and a program that waits until a port can be
//! connected to would take that for an answer: so such ports are led to one where nothing listens,
//! and the kernel refuses.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use crate::{
    namespace::Namespace,
    podnet::PodNet,
    rules::{self, Refused},
};

/// Ports of services that are refused in one pod; callers of more see their connection reset.
const ROWS: usize = 512;
/// Changes of services come together.
const TOGETHER: Duration = Duration::from_millis(50);
/// Before it is tried again where the rules couldn't be set.
const AGAIN: Duration = Duration::from_secs(5);

/// Keeps the rows of one pod as the services are, for as long as it is polled.
pub(crate) async fn follow(net: PodNet, namespace: Namespace, closed_port: u16) {
    let mut changes = net.table_changes();
    let mut told = BTreeSet::new();
    loop {
        changes.borrow_and_update();
        let now = idle(&net);
        if now != told {
            let rows = Refused { services: &now, closed_port };
            if let Err(error) = rules::refuse(&namespace, &rows).await {
                tracing::warn!(%error, "services without endpoints are not refused at once");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            told = now;
        }
        if changes.changed().await.is_err() {
            return;
        }
        tokio::time::sleep(TOGETHER).await;
    }
}

fn idle(net: &PodNet) -> BTreeSet<SocketAddr> {
    let table = net.table();
    let idle = table
        .ports
        .iter()
        .filter(|(address, to)| to.is_empty() && address.is_ipv4() && net.is_cluster(address.ip()));
    idle.map(|(address, _)| *address).take(ROWS).collect()
}
