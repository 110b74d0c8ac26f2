//! The driver: Services and EndpointSlices in, table and listeners out.

use windlass_sdk_client::Informers;
use windlass_sdk_types::api::{core::v1::Service, discovery::v1::EndpointSlice};

use tokio_util::sync::CancellationToken;

use crate::{PodNet, dns::HostDns, plan, proxy::Proxy};

/// Keeps the net's services as the cluster has them for the node of this name, and serves their
/// addresses and node ports on this machine, until told to stop.
pub async fn run(net: PodNet, node: String, informers: Informers, shutdown: CancellationToken) {
    let services = informers.of::<Service>();
    let slices = informers.of::<EndpointSlice>();
    let (mut service_changes, mut slice_changes) = (services.changes(), slices.changes());
    let mut proxy = Proxy::new(net.clone(), net.node_address());
    let _dns = HostDns::start(&net).await;
    services.synced().await;
    slices.synced().await;
    loop {
        // Changes carry no data: however many there are, the newest state decides.
        let (known, behind) = (services.list(), slices.list());
        let table = plan(known.iter().map(AsRef::as_ref), behind.iter().map(AsRef::as_ref), &node);
        if table != *net.table() {
            proxy.apply(table).await;
        }
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = service_changes.next() => {}
            _ = slice_changes.next() => {}
        }
        while service_changes.try_next().is_some() {}
        while slice_changes.try_next().is_some() {}
    }
}
