//! `/eviction`: a deletion that asks a disruption budget first. The registry decides
//! (`windlass_apiserver_registry::eviction`); here the pod and its budgets are read, the budget's
//! status and the pod's are written, and the pod is deleted, each by the one write path.

use axum::body::Body;
use http::{Response, StatusCode};
use serde_json::Value;
use windlass_apiserver_access::{AdmissionRequest, Operation, User};
use windlass_apiserver_registry::{
    Context, DeleteOptions,
    eviction::{self, Eviction},
};
use windlass_sdk_meta::{Reason, Status};

use super::{Call, Target, change, success};
use crate::{
    body::WriteOptions,
    bootstrap::OWN_NAME,
    content, read,
    server::store_status,
    write::{Proposal, Write},
};

/// How often an eviction starts anew because its pod changed meanwhile; upstream's bound.
const ATTEMPTS: usize = 20;

/// Evicts the pod that the path names.
pub(super) async fn create(
    call: &Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    let options = WriteOptions::parse(&call.info.query, "CreateOptions")?;
    let (mut review, warnings) =
        change::read_tree(call, body, eviction::kind(), options.validation).await?;
    let name = call.info.name.as_str();
    if review["metadata"]["name"].as_str() != Some(name) {
        let why = "name in URL does not match name in Eviction object";
        return Err(Status::bad_request(why));
    }
    let wanted = delete_options(&review, options.dry_run)?;
    admit(call, target, &mut review, options.dry_run).await?;
    let evicting = Evicting { call, target, name, options: wanted };
    evicting.run().await?;
    let mut response = success(call, StatusCode::CREATED, None);
    content::add_warnings(&mut response, &warnings);
    Ok(response)
}

/// How the pod is to be deleted; a dry run may be asked for in both places, but not differently.
fn delete_options(review: &Value, dry_run: bool) -> Result<DeleteOptions, Status> {
    let mut options = match &review["deleteOptions"] {
        Value::Null => DeleteOptions::default(),
        said => serde_json::from_value(said.clone())
            .map_err(|error| Status::bad_request(format!("deleteOptions: {error}")))?,
    };
    if dry_run {
        options.dry_run = vec!["All".to_owned()];
    }
    Ok(options)
}

async fn admit(
    call: &Call,
    target: &Target,
    review: &mut Value,
    dry_run: bool,
) -> Result<(), Status> {
    let (kind, resource) = (eviction::kind(), target.kind.group_resource());
    let lookup = &**call.server.cache();
    let admission = call.server.admission();
    for validating in [false, true] {
        let mut request = AdmissionRequest {
            operation: Operation::Create,
            kind: &kind,
            resource: &resource,
            subresource: &call.info.subresource,
            namespace: &target.namespace,
            name: &call.info.name,
            object: Some(&mut *review),
            old: None,
            user: &call.user,
            dry_run,
        };
        if validating {
            admission.validate(&request, lookup).await?;
        } else {
            admission.mutate(&mut request, lookup).await?;
        }
    }
    Ok(())
}

/// One eviction under way.
struct Evicting<'a> {
    call: &'a Call,
    target: &'a Target,
    name: &'a str,
    options: DeleteOptions,
}

impl Evicting<'_> {
    async fn run(&self) -> Result<(), Status> {
        let held =
            self.options.preconditions.as_ref().and_then(|one| one.resource_version.as_ref());
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let (pod, plan) = self.plan().await?;
            let (hold, budget) = match plan {
                Eviction::Free { hold_revision, budget } => (hold_revision, budget),
                Eviction::Spend { budget } => {
                    self.spend(&budget).await?;
                    (false, Some(budget))
                }
            };
            let mut options = self.options.clone();
            if hold && held.is_none() {
                let revision = pod["metadata"]["resourceVersion"].as_str().map(str::to_owned);
                options.preconditions.get_or_insert_default().resource_version = revision;
            }
            match self.delete(options).await {
                // The budget may think otherwise about the pod as it is now.
                Err(status) if status.reason == Reason::Conflict && hold && held.is_none() => {
                    if let Some(budget) = budget {
                        return Err(eviction::still_processed(&budget));
                    }
                    last = Some(status);
                }
                done => return done,
            }
        }
        Err(last.unwrap_or_else(|| Status::internal("the pod kept changing")))
    }

    /// The pod and what its budgets say.
    async fn plan(&self) -> Result<(Value, Eviction), Status> {
        let server = &self.call.server;
        server.cache().fresh().await.map_err(store_status)?;
        let namespace = self.target.namespace.as_str();
        let pod = read::resource(server, &self.target.kind)?
            .get(namespace, self.name)
            .ok_or_else(|| Status::not_found(&self.target.kind.group_resource(), self.name))?
            .tree();
        let of = self.budgets()?;
        let all = read::resource(server, &of.kind)?.all(namespace);
        let budgets: Vec<Value> = all.iter().map(|budget| budget.tree()).collect();
        let plan = eviction::plan(&pod, &budgets)?;
        Ok((pod, plan))
    }

    fn budgets(&self) -> Result<Target, Status> {
        let (group, version, plural) = eviction::budgets();
        Target::of(self.call, group, version, plural)
    }

    /// The budget gives way, or says why not. Its status is the cluster's to write, whoever evicts.
    async fn spend(&self, budget: &str) -> Result<(), Status> {
        let (of, server) = (self.budgets()?, &self.call.server);
        let user = User::authenticated(OWN_NAME, &["system:masters"]);
        let write = Write {
            user: &user,
            subresource: "status",
            ..self.write(&of, Operation::Update, budget)
        };
        let now = server.clock().now();
        let cx = Context { now, rng: server.rng(), user: OWN_NAME };
        write
            .run(&mut |old| {
                let old =
                    old.ok_or_else(|| Status::not_found(&of.kind.group_resource(), budget))?;
                let mut tree = old.clone();
                eviction::spend(&mut tree, self.name, &cx)?;
                Ok(Proposal::Update(tree))
            })
            .await
            .map(drop)
    }

    /// Says in the pod's status what is happening to it, and deletes it.
    async fn delete(&self, mut options: DeleteOptions) -> Result<(), Status> {
        let kind = &self.target.kind;
        if !self.dry_run() {
            let user = User::authenticated(OWN_NAME, &["system:masters"]);
            let write = Write {
                user: &user,
                subresource: "status",
                ..self.write(self.target, Operation::Update, self.name)
            };
            let now = self.call.server.clock().now();
            let written = write
                .run(&mut |old| {
                    let old =
                        old.ok_or_else(|| Status::not_found(&kind.group_resource(), self.name))?;
                    kind.check_preconditions(old, &options)?;
                    let mut tree = old.clone();
                    eviction::mark(&mut tree, now);
                    Ok(Proposal::Update(tree))
                })
                .await?;
            // It is this write that moved the revision.
            if let Some(held) = &mut options.preconditions
                && held.resource_version.is_some()
            {
                held.resource_version = Some(written.object.revision.to_string());
            }
        }
        let write = self.write(self.target, Operation::Delete, self.name);
        write.run(&mut |_| Ok(Proposal::Delete(options.clone()))).await.map(drop)
    }

    fn dry_run(&self) -> bool {
        self.options.dry_run.iter().any(|what| what == "All")
    }

    fn write<'w>(&'w self, of: &'w Target, operation: Operation, name: &'w str) -> Write<'w> {
        let write = self.call.write(of, operation, name, "windlass", self.dry_run());
        Write { subresource: "", ..write }
    }
}
