//! What becomes of CustomResourceDefinitions after they were written: their names are accepted and
//! they are served, and one that is deleted takes its instances along. Level-triggered: any change of
//! any definition leads to a look at those that changed, all by the server's own writes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use windlass_apiserver_access::{Lookup as _, Operation, User};
use windlass_apiserver_custom::{CLEANUP, GROUP, PLURAL, conditions, established, names_status};
use windlass_apiserver_registry::{DeleteOptions, Kind, tree};
use windlass_sdk_meta::{GroupResource, Object, Reason, Status};

use crate::{
    ApiServer,
    bootstrap::OWN_NAME,
    cache::Filter,
    registrations,
    write::{Proposal, Write},
};

/// Upstream's name in managedFields.
const MANAGER: &str = "kube-apiserver";
/// How soon instances that wait for their finalizers, and writes that failed, are looked at again.
const AGAIN: Duration = Duration::from_millis(500);
/// Deletions of instances under way at once.
const AT_ONCE: usize = 32;

/// A definition as it was last looked at, without its schemas.
struct Known {
    revision: u64,
    /// Nothing is to be done until it changes, or a peer does.
    settled: bool,
    tree: Value,
}

type All = BTreeMap<Arc<str>, Known>;

/// Looks after definitions until told to end, or until the server is gone.
pub(crate) async fn run(server: Weak<ApiServer>, end: CancellationToken) {
    let resource = GroupResource::new(GROUP, PLURAL);
    let Some(mut changes) = server.upgrade().and_then(|server| {
        let definitions = server.cache().resource(&resource)?;
        definitions.subscribe(Filter::default(), None, server.cache().reached())
    }) else {
        return;
    };
    let mut known = All::new();
    loop {
        let settled = {
            let Some(server) = server.upgrade() else { return };
            look(&server, &resource, &mut known).await
        };
        tokio::select! {
            biased;
            () = end.cancelled() => return,
            () = tokio::time::sleep(AGAIN), if !settled => {}
            change = changes.changes.recv() => match change {
                // A burst is one look.
                Some(_) => while changes.changes.try_recv().is_ok() {},
                // It lagged: whatever happened, the next look sees it.
                None => {
                    let Some(server) = server.upgrade() else { return };
                    let Some(again) = server.cache().resource(&resource).and_then(|definitions| {
                        definitions.subscribe(Filter::default(), None, server.cache().reached())
                    }) else {
                        return;
                    };
                    changes = again;
                }
            },
        }
    }
}

/// Looks at all definitions once; tells whether nothing is left to do.
async fn look(server: &Arc<ApiServer>, resource: &GroupResource, known: &mut All) -> bool {
    let objects = server.cache().list(resource, "");
    let freed = known.len();
    known.retain(|name, _| objects.iter().any(|object| object.name == *name));
    let mut renewed = known.len() < freed;
    for object in &objects {
        let revision = object.revision;
        if known.get(&object.name).is_none_or(|known| known.revision != revision) {
            let tree = without_schemas(object.tree());
            known.insert(object.name.clone(), Known { revision, settled: false, tree });
            renewed = true;
        }
    }
    if renewed {
        // A name that one gave up may be another's now.
        known.values_mut().for_each(|one| one.settled = false);
    }
    let names: Vec<Arc<str>> = known.keys().cloned().collect();
    for name in names {
        if known.get(&name).is_some_and(|one| !one.settled) {
            let settled = settle(server, &name, known).await.unwrap_or_else(|status| {
                if status.reason != Reason::NotFound {
                    tracing::warn!(%status, %name, "a definition could not be settled yet");
                }
                status.reason == Reason::NotFound
            });
            if let Some(one) = known.get_mut(&name) {
                one.settled = settled;
            }
        }
    }
    let mut settled = known.values().all(|one| one.settled);
    if renewed || !settled {
        let registered = registrations::renew(server, known.values().map(|one| &one.tree)).await;
        if let Err(status) = registered {
            tracing::warn!(%status, "versions of definitions could not be registered yet");
            settled = false;
        }
    }
    settled
}

/// Does what there is to do about one definition; false where it must be looked at again.
async fn settle(server: &Arc<ApiServer>, name: &str, known: &mut All) -> Result<bool, Status> {
    let Some(one) = known.get(name) else { return Ok(true) };
    let metadata = &one.tree["metadata"];
    let finalizers = tree::list(metadata, "finalizers");
    if tree::has(metadata, "deletionTimestamp") {
        return match finalizers.iter().any(|one| one == CLEANUP) {
            true => finish(server, name, &one.tree).await,
            false => Ok(true),
        };
    }
    let peers: Vec<Value> = known.values().map(|known| known.tree.clone()).collect();
    let now = server.clock().now();
    if names_status(&one.tree, &peers, now).is_none() {
        return Ok(true);
    }
    let written = set_status(server, name, &|tree| names_status(tree, &peers, now)).await?;
    // The next of this look sees the names that were accepted.
    if let (Some(one), Some(written)) = (known.get_mut(name), written) {
        one.tree = without_schemas(written);
    }
    Ok(true)
}

/// Deletes what there is of a kind, and lets its definition go when nothing is left.
async fn finish(server: &Arc<ApiServer>, name: &str, definition: &Value) -> Result<bool, Status> {
    let now = server.clock().now();
    let terminating = |status: &str, reason: &str, message: &str| json!({"type": "Terminating", "status": status, "reason": reason, "message": message});
    let condition = if established(definition) {
        let spec = &definition["spec"];
        let plural = tree::text(&definition["status"]["acceptedNames"], "plural");
        let resource = GroupResource::new(tree::text(spec, "group"), plural);
        let under_way = terminating(
            "True",
            "InstanceDeletionInProgress",
            "CustomResource deletion is in progress",
        );
        let set = |tree: &Value| Some(conditions(tree, std::slice::from_ref(&under_way), now));
        set_status(server, name, &set).await?;
        if !delete_all(server, &resource).await? {
            return Ok(false);
        }
        terminating("False", "InstanceDeletionCompleted", "removed all instances")
    } else {
        terminating("False", "NeverEstablished", "resource was never established")
    };
    let let_go = |old: &Value| {
        let mut new = old.clone();
        let status = conditions(old, std::slice::from_ref(&condition), now);
        tree::set(&mut new, "status", status);
        let left = tree::list(&old["metadata"], "finalizers").iter();
        let left: Vec<Value> = left.filter(|one| *one != CLEANUP).cloned().collect();
        tree::set(&mut new["metadata"], "finalizers", left);
        new
    };
    write_status(server, name, &|old| Some(let_go(old))).await?;
    Ok(true)
}

/// Deletes all objects of a custom kind; tells whether none is left.
async fn delete_all(server: &Arc<ApiServer>, resource: &GroupResource) -> Result<bool, Status> {
    let rows = server.registry().rows();
    let Some(kind) = rows.kinds().find(|kind| kind.group_resource() == *resource).cloned() else {
        return Ok(true);
    };
    let objects = server.cache().list(resource, "");
    for some in objects.chunks(AT_ONCE) {
        let mut deletions: Vec<BoxFuture<'_, _>> = Vec::with_capacity(some.len());
        for object in some.iter().filter(|object| !object.deleting) {
            deletions.push(Box::pin(delete(server, &kind, object)));
        }
        for deleted in join_all(deletions).await {
            match deleted {
                Err(status) if status.reason != Reason::NotFound => return Err(status),
                _ => {}
            }
        }
    }
    server.cache().fresh().await.map_err(crate::server::store_status)?;
    Ok(server.cache().list(resource, "").is_empty())
}

async fn delete(server: &ApiServer, kind: &Arc<Kind>, object: &Object) -> Result<(), Status> {
    let user = own_user();
    let at = (&*object.namespace, &*object.name);
    let write = own_write(server, kind, &user, Operation::Delete, "", at);
    write.run(&mut |_| Ok(Proposal::Delete(DeleteOptions::default()))).await.map(drop)
}

/// Writes a status that follows from what is stored; None from `next`: it is right as it is.
async fn set_status(
    server: &Arc<ApiServer>,
    name: &str,
    next: &(dyn Fn(&Value) -> Option<Value> + Sync),
) -> Result<Option<Value>, Status> {
    let whole = |old: &Value| {
        let mut new = old.clone();
        tree::set(&mut new, "status", next(old)?);
        Some(new)
    };
    write_status(server, name, &whole).await
}

async fn write_status(
    server: &Arc<ApiServer>,
    name: &str,
    next: &(dyn Fn(&Value) -> Option<Value> + Sync),
) -> Result<Option<Value>, Status> {
    let kind = server.registry().resource(GROUP, "v1", PLURAL).ok_or_else(Status::unknown_path)?;
    let user = own_user();
    let write = own_write(server, &kind, &user, Operation::Update, "status", ("", name));
    let written = write
        .run(&mut |old| {
            let old = old.ok_or_else(|| Status::not_found(&kind.group_resource(), name))?;
            Ok(Proposal::Update(next(old).unwrap_or_else(|| old.clone())))
        })
        .await?;
    Ok(Some(written.tree))
}

pub(crate) fn own_user() -> User {
    User::authenticated(OWN_NAME, &["system:masters"])
}

pub(crate) fn own_write<'a>(
    server: &'a ApiServer,
    kind: &'a Arc<Kind>,
    user: &'a User,
    operation: Operation,
    subresource: &'a str,
    (namespace, name): (&'a str, &'a str),
) -> Write<'a> {
    Write {
        server,
        kind,
        user,
        operation,
        subresource,
        namespace,
        admission_namespace: namespace,
        name,
        dry_run: false,
        manager: MANAGER,
        applies: false,
        at: None,
        told: None,
    }
}

/// Schemas are most of a definition, and nothing here looks at them.
fn without_schemas(mut tree: Value) -> Value {
    if let Some(versions) = tree["spec"]["versions"].as_array_mut() {
        for version in versions {
            tree::remove(version, "schema");
        }
    }
    tree
}
