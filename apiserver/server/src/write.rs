//! The one write path. Create, update, patch, delete and every subresource are the same stages
//! over a different proposal: read, mutate, default, mutating admission, default, prepare,
//! validate, validating admission, managed fields, compare and commit. A conflict runs all of them
//! again on what is stored then; whoever named a resourceVersion is refused there instead.

use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use windlass_apiserver_access::{AdmissionRequest, Charge, Operation, User, charge};
use windlass_apiserver_registry::{
    Context, DeleteOptions, Deletion, GroupVersion, Kind, Manager, generated_name_taken,
    record_manager_at,
};
use windlass_apiserver_store::{Compare, Op, Txn, TxnOutcome};
use windlass_sdk_meta::{GroupResource, GroupVersionKind, Object, Reason, Status, Timestamp};

use crate::{
    ApiServer,
    cache::{CLAIMS, ResourceCache, store_key},
    charges, claims,
    content::BODY_BYTES,
    expressions, read,
    server::store_status,
    services::FreeAddresses,
};

/// How often a write is run again because the object had changed meanwhile.
const ATTEMPTS: usize = 64;
/// How many generated names are tried, as upstream does.
const NAME_ATTEMPTS: usize = 8;

/// What a write has been through; the in-process answer carries it, for tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages(pub Vec<Stage>);

/// One stage of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Read,
    Mutate,
    Default,
    MutatingAdmission,
    DefaultAfterAdmission,
    Prepare,
    Validate,
    ValidatingAdmission,
    ManagedFields,
    Commit,
}

/// A write of one object: everything but what it does to it.
pub(crate) struct Write<'a> {
    pub server: &'a ApiServer,
    pub kind: &'a Arc<Kind>,
    pub user: &'a User,
    pub operation: Operation,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// Empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// As admission sees it: a Namespace is in itself.
    pub admission_namespace: &'a str,
    /// Empty on create: the object says it.
    pub name: &'a str,
    pub dry_run: bool,
    pub manager: &'a str,
    /// By server-side apply.
    pub applies: bool,
    /// The version that the writer speaks; None: the stored one.
    pub at: Option<&'a GroupVersion>,
    /// Takes the warnings where the write is refused after all that it was warned of.
    pub told: Option<&'a Mutex<Vec<String>>>,
}

/// What a write wants, given what is stored.
pub(crate) enum Proposal {
    /// A new object.
    Create(Value),
    /// What the object shall be, in the stored version.
    Update(Value),
    /// An object of another kind that acts on the stored one once it is admitted.
    Review {
        kind: GroupVersionKind,
        object: Value,
        apply: Apply,
    },
    Delete(DeleteOptions),
}

/// Carries a review (Scale, Binding) into a copy of the stored object.
pub(crate) type Apply = fn(&Kind, &mut Value, &Value, &Context<'_>) -> Result<(), Status>;

/// Makes the proposal; called anew on every attempt, with the stored object if there is one.
pub(crate) type Propose<'p> =
    &'p mut (dyn FnMut(Option<&Value>) -> Result<Proposal, Status> + Send);

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created,
    Updated,
    /// Already so; nothing was written.
    Unchanged,
    Removed,
}

/// A finished write.
pub(crate) struct Written {
    /// The object as it is now, or was when it went.
    pub object: Object,
    pub tree: Value,
    pub outcome: Outcome,
    pub warnings: Vec<String>,
    pub stages: Stages,
}

/// One run through the stages.
enum Attempt {
    Done(Box<Written>),
    /// Somebody else wrote first.
    Conflict,
    /// The generated name exists.
    NameTaken(String),
}

/// What one attempt has gathered so far.
struct Run<'a> {
    write: &'a Write<'a>,
    now: Timestamp,
    operation: Operation,
    stages: Stages,
    warnings: Vec<String>,
    /// What quotas become with this write.
    charges: Vec<Charge>,
}

/// What is stored under the name, if anything.
struct Stored {
    object: Arc<Object>,
    tree: Value,
}

impl Write<'_> {
    /// Runs the write until it is committed, refused, or has met too many conflicts.
    pub async fn run(&self, propose: Propose<'_>) -> Result<Written, Status> {
        let mut names = 0;
        let mut turn = None;
        for _ in 0..ATTEMPTS {
            match self.attempt(propose).await? {
                Attempt::Done(written) => return Ok(*written),
                Attempt::Conflict => {
                    self.server.metrics().write_conflicts.inc();
                    // All writes of a namespace meet at its quotas: who has lost once queues up.
                    if turn.is_none() && charges::is_bounded(self.server, self.namespace) {
                        turn = Some(self.server.quota_turns().take(self.namespace).await);
                    }
                }
                Attempt::NameTaken(name) => {
                    names += 1;
                    if names >= NAME_ATTEMPTS {
                        return Err(generated_name_taken(self.kind, &name));
                    }
                }
            }
        }
        Err(Status::modified(&self.kind.group_resource(), self.name))
    }

    async fn attempt(&self, propose: Propose<'_>) -> Result<Attempt, Status> {
        let mut run = Run {
            write: self,
            now: self.server.clock().now(),
            operation: self.operation,
            stages: Stages::default(),
            warnings: Vec::new(),
            charges: Vec::new(),
        };
        let stored = run.read().await?;
        let old = stored.as_ref().map(|stored| &stored.tree);
        let proposal = propose(old)?;
        run.ran(Stage::Mutate);
        match (proposal, stored) {
            (Proposal::Create(object), _) => run.create(object).await,
            (Proposal::Update(object), Some(stored)) => run.update(object, &stored).await,
            (Proposal::Review { kind, object, apply }, Some(stored)) => {
                run.review(kind, object, apply, &stored).await
            }
            (Proposal::Delete(options), Some(stored)) => run.delete(&options, &stored).await,
            (_, None) => Err(Status::not_found(&self.kind.group_resource(), self.name)),
        }
    }

    /// Who writes.
    pub fn by(&self) -> Manager<'_> {
        Manager { name: self.manager, subresource: self.subresource, applies: self.applies }
    }

    fn key(&self, name: &str) -> Arc<str> {
        store_key(&self.kind.group_resource(), self.namespace, name).into()
    }

    fn resource(&self) -> Result<Arc<ResourceCache>, Status> {
        read::resource(self.server, self.kind)
    }
}

impl Run<'_> {
    fn ran(&mut self, stage: Stage) {
        self.stages.0.push(stage);
    }

    fn context(&self) -> Context<'_> {
        let write = self.write;
        Context { now: self.now, rng: write.server.rng(), user: &write.user.name }
    }

    /// What is stored, as of now: admission and checks must see what was acknowledged before.
    async fn read(&mut self) -> Result<Option<Stored>, Status> {
        let write = self.write;
        write.server.cache().fresh().await.map_err(store_status)?;
        let found = match write.name {
            "" => None,
            name => write.resource()?.get(write.namespace, name),
        };
        self.ran(Stage::Read);
        Ok(found.map(|object| Stored { tree: write.kind.tree_of(&object), object }))
    }

    async fn create(mut self, mut object: Value) -> Result<Attempt, Status> {
        // A PUT may create too; the version it asks for is of nothing that is there.
        if self.operation == Operation::Update
            && let Some(metadata) = object["metadata"].as_object_mut()
        {
            metadata.remove("resourceVersion");
        }
        self.operation = Operation::Create;
        let kind = self.write.kind;
        if let Some(why) = kind.strategy.refuses_new() {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            return Err(Status::forbidden(&kind.group_resource(), name, why));
        }
        self.warn_of_inert();
        kind.forget_system_metadata(&mut object);
        let generated = object["metadata"]["name"].as_str().is_none_or(str::is_empty);
        self.default_and_admit(&mut object, None).await?;
        self.warnings.extend(kind.drop_disabled(&mut object));
        kind.prepare_create(&mut object, &self.context())?;
        self.check_claims_and_allocate(&mut object, None)?;
        self.ran(Stage::Prepare);
        object = self.validate(object, None).await?;
        self.validating_admission(&kind.gvk(), Some(&mut object), None).await?;
        self.charge(Some(&mut object), None)?;
        self.record_late(&mut object, None);
        kind.settle(&mut object);
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        if let Some(existing) = self.write.resource()?.get(self.write.namespace, &name) {
            if generated {
                return Ok(Attempt::NameTaken(name));
            }
            return Err(self.exists(&existing));
        }
        self.commit(object, None, Outcome::Created).await
    }

    fn exists(&self, existing: &Object) -> Status {
        let mut status = Status::already_exists(&self.write.kind.group_resource(), &existing.name);
        if existing.deleting {
            status.message = format!("object is being deleted: {}", status.message);
        }
        status
    }

    async fn update(mut self, mut object: Value, stored: &Stored) -> Result<Attempt, Status> {
        if self.write.subresource.is_empty() {
            self.warn_of_inert();
        }
        self.default_and_admit(&mut object, Some(&stored.tree)).await?;
        self.settle(object, stored, None).await
    }

    /// Whoever writes an object that nothing acts on should not have to find that out by waiting.
    fn warn_of_inert(&mut self) {
        let kind = self.write.kind;
        if kind.inert {
            self.warnings.push(format!(
                "no controller acts on {} objects in this version of Windlass: they are only stored",
                kind.kind
            ));
        }
    }

    /// Admission sees the review; what it does to the stored object then passes the other stages.
    async fn review(
        mut self,
        kind: GroupVersionKind,
        mut review: Value,
        apply: Apply,
        stored: &Stored,
    ) -> Result<Attempt, Status> {
        self.mutating_admission(&kind, Some(&mut review), Some(&stored.tree)).await?;
        let mut object = stored.tree.clone();
        apply(self.write.kind, &mut object, &review, &self.context())?;
        self.write.kind.default(&mut object);
        self.ran(Stage::Default);
        self.ran(Stage::DefaultAfterAdmission);
        self.settle(object, stored, Some((kind, review))).await
    }

    /// From an admitted object to its commit.
    async fn settle(
        mut self,
        mut object: Value,
        stored: &Stored,
        review: Option<(GroupVersionKind, Value)>,
    ) -> Result<Attempt, Status> {
        let (kind, sub) = (self.write.kind, self.write.subresource);
        let old = &stored.tree;
        self.warnings.extend(kind.drop_disabled(&mut object));
        kind.prepare_update(sub, &mut object, old, &self.context())?;
        self.check_claims_and_allocate(&mut object, Some(old))?;
        self.ran(Stage::Prepare);
        object = self.validate(object, Some(old)).await?;
        match review {
            Some((review_kind, mut review)) => {
                self.validating_admission(&review_kind, Some(&mut review), Some(old)).await?;
            }
            None => self.validating_admission(&kind.gvk(), Some(&mut object), Some(old)).await?,
        }
        if kind.removed_by_update(&object, old) {
            return self.remove(object, stored).await;
        }
        self.record_late(&mut object, Some(old));
        kind.settle(&mut object);
        if object == *old {
            return Ok(self.unchanged(object, stored));
        }
        self.charge(Some(&mut object), Some(old))?;
        self.commit(object, Some(stored), Outcome::Updated).await
    }

    async fn delete(mut self, options: &DeleteOptions, stored: &Stored) -> Result<Attempt, Status> {
        let (kind, old) = (self.write.kind, &stored.tree);
        self.mutating_admission(&kind.gvk(), None, Some(old)).await?;
        self.validating_admission(&kind.gvk(), None, Some(old)).await?;
        match kind.delete(old, options, &self.context())? {
            Deletion::Remove(tree) => self.remove(tree, stored).await,
            Deletion::Mark(tree) => self.commit(tree, Some(stored), Outcome::Updated).await,
            Deletion::Pending(tree) => Ok(self.unchanged(tree, stored)),
        }
    }

    fn unchanged(mut self, tree: Value, stored: &Stored) -> Attempt {
        self.ran(Stage::Commit);
        self.done((*stored.object).clone(), tree, Outcome::Unchanged)
    }

    async fn default_and_admit(
        &mut self,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let kind = self.write.kind;
        kind.default(object);
        self.ran(Stage::Default);
        if self.records_early() {
            self.record(object, old);
        }
        self.mutating_admission(&kind.gvk(), Some(object), old).await?;
        kind.default(object);
        self.ran(Stage::DefaultAfterAdmission);
        Ok(())
    }

    async fn mutating_admission(
        &mut self,
        kind: &GroupVersionKind,
        object: Option<&mut Value>,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let (server, resource) = (self.write.server, self.write.kind.group_resource());
        let mut request = self.admission(kind, &resource, object, old);
        let warnings = server.admission().mutate(&mut request, &**server.cache()).await?;
        self.warnings.extend(warnings);
        self.ran(Stage::MutatingAdmission);
        Ok(())
    }

    async fn validating_admission(
        &mut self,
        kind: &GroupVersionKind,
        object: Option<&mut Value>,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let (server, resource) = (self.write.server, self.write.kind.group_resource());
        let request = self.admission(kind, &resource, object, old);
        let admitted = server.admission().validate(&request, &**server.cache()).await;
        if let (Err(_), Some(told)) = (&admitted, self.write.told) {
            told.lock().append(&mut self.warnings);
        }
        self.warnings.extend(admitted?);
        self.ran(Stage::ValidatingAdmission);
        Ok(())
    }

    /// What the write costs the quotas of its namespace; without an object: it goes.
    fn charge(&mut self, object: Option<&mut Value>, old: Option<&Value>) -> Result<(), Status> {
        let (kind, resource) = (self.write.kind.gvk(), self.write.kind.group_resource());
        let gone = object.is_none();
        let request = self.admission(&kind, &resource, object, old);
        self.charges = charge(&request, gone, self.now, &**self.write.server.cache())?;
        Ok(())
    }

    fn admission<'r>(
        &self,
        kind: &'r GroupVersionKind,
        resource: &'r GroupResource,
        object: Option<&'r mut Value>,
        old: Option<&'r Value>,
    ) -> AdmissionRequest<'r>
    where
        Self: 'r,
    {
        // The write outlives every run of it.
        let write = self.write;
        AdmissionRequest {
            operation: self.operation,
            kind,
            resource,
            subresource: write.subresource,
            namespace: write.admission_namespace,
            name: write.name,
            object,
            old,
            user: write.user,
            dry_run: write.dry_run,
        }
    }

    /// Rules that take long are looked at on a thread of their own: whoever serves must not wait
    /// behind them.
    async fn validate(&mut self, object: Value, old: Option<&Value>) -> Result<Value, Status> {
        let Write { server, kind, subresource, at, .. } = *self.write;
        let at = at.unwrap_or(kind.storage()).clone();
        let written = match subresource {
            "" => kind.strategy.expressions(&object, old),
            _ => Vec::new(),
        };
        let is_slow = kind.strategy.is_slow() || !written.is_empty();
        let rules = move |kind: &Kind, sub: &str, object: &Value, old: Option<&Value>| {
            let found = expressions::compile(&written);
            match old {
                None => kind.validate_create(&at, object, found),
                Some(old) => kind.validate_update(&at, sub, object, old, found),
            }
        };
        let object = if is_slow {
            let _turn = server.slow_turn().await?;
            let (kind, sub, old) = (kind.clone(), subresource.to_owned(), old.cloned());
            let task = tokio::task::spawn_blocking(move || {
                rules(&kind, &sub, &object, old.as_ref()).map(|()| object)
            });
            task.await.map_err(Status::internal)??
        } else {
            rules(kind, subresource, &object, old)?;
            object
        };
        self.warnings.extend(kind.strategy.warnings(subresource, &object, old));
        self.ran(Stage::Validate);
        Ok(object)
    }

    /// Names that the client chose must be free; what it left open is given out.
    fn check_claims_and_allocate(
        &mut self,
        object: &mut Value,
        old: Option<&Value>,
    ) -> Result<(), Status> {
        let Write { server, kind, .. } = *self.write;
        let held: Vec<String> = old.map(|old| kind.strategy.claims(old)).unwrap_or_default();
        let asked = kind.strategy.claims(object);
        for claim in asked.iter().filter(|claim| !held.contains(*claim)) {
            if server.cache().claim(&format!("{CLAIMS}{claim}")).is_some() {
                return Err(kind.claim_taken(object, claim));
            }
        }
        let free =
            FreeAddresses { range: server.services(), cache: server.cache(), rng: server.rng() };
        kind.allocate(object, old, &free)
    }

    /// A client owns what it said, not what admission and the server made of it: that is recorded
    /// before they come. An apply brings its ownership along, and what a subresource writes is
    /// known only when its strategy has put the rest back.
    fn records_early(&self) -> bool {
        !self.write.applies && self.write.subresource.is_empty()
    }

    fn record_late(&mut self, object: &mut Value, old: Option<&Value>) {
        if !self.records_early() {
            self.record(object, old);
        }
    }

    fn record(&mut self, object: &mut Value, old: Option<&Value>) {
        let write = self.write;
        record_manager_at(write.kind, write.at, object, old, write.by(), self.now);
        self.ran(Stage::ManagedFields);
    }

    /// Puts the object where nothing but `stored` is.
    async fn commit(
        mut self,
        tree: Value,
        stored: Option<&Stored>,
        outcome: Outcome,
    ) -> Result<Attempt, Status> {
        let Write { server, kind, dry_run, .. } = *self.write;
        let encoded = kind.encode(&tree);
        if encoded.bytes().len() > BODY_BYTES {
            let why = format!("Request entity too large: limit is {BODY_BYTES}");
            return Err(Status::new(Reason::RequestEntityTooLarge, why));
        }
        let mut object = kind.object(encoded.clone(), &tree, 0);
        let before = stored.map_or(0, |stored| stored.object.revision);
        self.ran(Stage::Commit);
        if dry_run {
            object.revision = before;
            return Ok(self.done(object, tree, outcome));
        }
        let key = self.write.key(&object.name);
        let mut txn =
            claims::changed(self.write.kind, &key, stored.map(|stored| &stored.tree), Some(&tree));
        txn.compare.insert(0, Compare { key: key.clone(), mod_revision: before });
        charges::add(&self.charges, &mut txn);
        txn.ops.push(Op::Put { key, value: encoded.bytes().clone() });
        let prepared = server.cache().prepare(object.clone());
        match self.transact(txn).await? {
            Some(revision) => {
                prepared.committed(revision);
                object.revision = revision;
                Ok(self.done(object, tree, outcome))
            }
            None => Ok(Attempt::Conflict),
        }
    }

    /// Takes the object out of the store; `tree` is its last state.
    async fn remove(mut self, tree: Value, stored: &Stored) -> Result<Attempt, Status> {
        let kind = self.write.kind;
        let mut object = kind.object(kind.encode(&tree), &tree, stored.object.revision);
        self.charge(None, Some(&stored.tree))?;
        self.ran(Stage::Commit);
        if self.write.dry_run {
            return Ok(self.done(object, tree, Outcome::Removed));
        }
        let key = self.write.key(&object.name);
        let mut txn = claims::changed(self.write.kind, &key, Some(&stored.tree), None);
        let mod_revision = stored.object.revision;
        txn.compare.insert(0, Compare { key: key.clone(), mod_revision });
        charges::add(&self.charges, &mut txn);
        txn.ops.push(Op::Delete { key });
        match self.transact(txn).await? {
            Some(revision) => {
                object.revision = revision;
                Ok(self.done(object, tree, Outcome::Removed))
            }
            None => Ok(Attempt::Conflict),
        }
    }

    /// The revision of the commit; None where a comparison failed, once the cache knows why.
    async fn transact(&self, txn: Txn) -> Result<Option<u64>, Status> {
        let (cache, kind) = (self.write.server.cache(), self.write.kind);
        let guard = if kind.is_custom() { Some(cache.writing_custom().await) } else { None };
        if kind.strategy.is_replaced() {
            let why = "the definition of this kind has just changed, please try again";
            let mut status = Status::new(Reason::TooManyRequests, why);
            status.details.get_or_insert_default().retry_after_seconds = 1;
            return Err(status);
        }
        let outcome = cache.store().txn(txn).await.map_err(store_status)?;
        drop(guard);
        match outcome {
            TxnOutcome::Committed(revision) => Ok(Some(revision)),
            TxnOutcome::Failed { revision, .. } => {
                cache.wait_for(revision).await;
                Ok(None)
            }
        }
    }

    fn done(self, object: Object, tree: Value, outcome: Outcome) -> Attempt {
        let (warnings, stages) = (self.warnings, self.stages);
        Attempt::Done(Box::new(Written { object, tree, outcome, warnings, stages }))
    }
}
