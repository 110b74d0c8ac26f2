//! Objects that don't live forever: Events go an hour after they were last written. What age that
//! is follows from revisions, so nothing is decoded to find out.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
use tokio_util::sync::CancellationToken;
use windlass_apiserver_access::{Operation, User};
use windlass_apiserver_registry::{DeleteOptions, Kind};
use windlass_sdk_meta::{Object, Reason};

use crate::{
    ApiServer,
    bootstrap::OWN_NAME,
    cache::{Filter, PageRequest, ResourceCache},
    write::{Proposal, Write},
};

const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Deletions under way at once, so that they share flushes, and a sweep's bound.
const AT_ONCE: usize = 32;
const A_SWEEP: usize = 20_000;

/// Sweeps until told to end, or until the server is gone.
pub(crate) async fn run(server: Weak<ApiServer>, end: CancellationToken) {
    loop {
        tokio::select! {
            biased;
            () = end.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
        let Some(server) = server.upgrade() else { return };
        for resource in server.cache().resources().values() {
            if let Some(lifetime) = resource.kind().strategy.lifetime() {
                sweep(&server, resource, lifetime).await;
            }
        }
    }
}

async fn sweep(server: &Arc<ApiServer>, resource: &ResourceCache, lifetime: Duration) {
    let cutoff = server.cache().reached_before(lifetime);
    let filter = Filter::default();
    let all = PageRequest { filter: &filter, after: None, limit: 0 };
    let (page, _) = resource.page_of_newest(&all);
    let old: Vec<Arc<Object>> =
        page.objects.into_iter().filter(|o| o.revision <= cutoff).take(A_SWEEP).collect();
    let kind = resource.kind();
    for objects in old.chunks(AT_ONCE) {
        let mut deletions: Vec<BoxFuture<'_, ()>> = Vec::with_capacity(objects.len());
        for object in objects {
            deletions.push(Box::pin(remove(server, &kind, object, cutoff)));
        }
        join_all(deletions).await;
    }
}

async fn remove(server: &ApiServer, kind: &Arc<Kind>, object: &Object, cutoff: u64) {
    let user = User::authenticated(OWN_NAME, &["system:masters"]);
    let write = Write {
        server,
        kind,
        user: &user,
        operation: Operation::Delete,
        subresource: "",
        namespace: &object.namespace,
        admission_namespace: &object.namespace,
        name: &object.name,
        dry_run: false,
        manager: "",
        applies: false,
        at: None,
        told: None,
    };
    let gone = || windlass_sdk_meta::Status::not_found(&kind.group_resource(), &object.name);
    let outcome = write
        .run(&mut |stored| {
            // Written again meanwhile: it lives on.
            let version = stored.and_then(|stored| stored["metadata"]["resourceVersion"].as_str());
            match version.and_then(|version| version.parse::<u64>().ok()) {
                Some(version) if version <= cutoff => {
                    Ok(Proposal::Delete(DeleteOptions::default()))
                }
                _ => Err(gone()),
            }
        })
        .await;
    if let Err(status) = outcome
        && status.reason != Reason::NotFound
    {
        tracing::warn!(%status, kind = %kind.kind, name = %object.name, "an expired object stays");
    }
}
