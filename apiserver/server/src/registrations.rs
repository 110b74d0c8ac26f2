//! APIServices of the versions that CustomResourceDefinitions serve, made and removed by the server
//! as upstream's do: labelled as kept by it, so that those of people are left alone.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;
use windlass_apiserver_access::{Lookup as _, Operation};
use windlass_apiserver_custom::established;
use windlass_apiserver_registry::{
    DeleteOptions, custom_service, is_kept_service, service_name, tree,
};
use windlass_sdk_meta::{GroupResource, Reason, Status};

use crate::{
    ApiServer,
    definitions::{own_user, own_write},
    write::Proposal,
};

const GROUP: &str = "apiregistration.k8s.io";
const PLURAL: &str = "apiservices";

/// Makes what is missing for these definitions, and removes what no definition serves any more.
pub(crate) async fn renew<'a>(
    server: &Arc<ApiServer>,
    definitions: impl Iterator<Item = &'a Value>,
) -> Result<(), Status> {
    let resource = GroupResource::new(GROUP, PLURAL);
    let wanted: BTreeSet<(&str, &str)> = definitions.flat_map(served).collect();
    for &(group, version) in &wanted {
        let name = service_name(group, version);
        if server.cache().get(&resource, "", &name).is_none() {
            create(server, custom_service(group, version)).await?;
        }
    }
    for object in server.cache().list(&resource, "") {
        let tree = object.tree();
        let spec = &tree["spec"];
        let of = (tree::text(spec, "group"), tree::text(spec, "version"));
        if is_kept_service(&tree) && !wanted.contains(&of) {
            write(server, Operation::Delete, &object.name, &|| {
                Proposal::Delete(DeleteOptions::default())
            })
            .await?;
        }
    }
    Ok(())
}

/// Group and version of each version that is served.
fn served(definition: &Value) -> Vec<(&str, &str)> {
    let spec = &definition["spec"];
    let versions = tree::list(spec, "versions").iter();
    versions
        .filter(|version| established(definition) && version["served"] == true)
        .map(|version| (tree::text(spec, "group"), tree::text(version, "name")))
        .collect()
}

async fn create(server: &Arc<ApiServer>, service: Value) -> Result<(), Status> {
    write(server, Operation::Create, "", &|| Proposal::Create(service.clone())).await
}

/// Somebody else may have been as quick.
async fn write(
    server: &Arc<ApiServer>,
    operation: Operation,
    name: &str,
    proposal: &(dyn Fn() -> Proposal + Sync),
) -> Result<(), Status> {
    let kind = server.registry().resource(GROUP, "v1", PLURAL).ok_or_else(Status::unknown_path)?;
    let user = own_user();
    let write = own_write(server, &kind, &user, operation, "", ("", name));
    match write.run(&mut |_| Ok(proposal())).await {
        Err(status) if ![Reason::AlreadyExists, Reason::NotFound].contains(&status.reason) => {
            Err(status)
        }
        _ => Ok(()),
    }
}
