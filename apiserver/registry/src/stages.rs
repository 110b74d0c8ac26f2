//! The generic stages of a write, in the order in which the server runs them around admission:
//! `identify`, `default`, (mutating admission), `default`, `prepare_*`, `allocate`, `validate_*`,
//! (validating admission), `managed::record`, commit. They are pure: a conflict makes the server
//! read again and run all of them anew.

use serde_json::{Value, json};
use windlass_apiserver_schema::{apply_defaults, drop_empty_lists};
use windlass_sdk_meta::{GroupVersionKind, Reason, Status, format_time};

use crate::{
    cause::{Causes, Path},
    kind::{GroupVersion, Kind},
    metadata, semantic,
    strategies::core::service_ports,
    strategy::{Allocator, Context, Separation},
    tree,
};

/// Characters of a generated name before the five random ones.
const MAX_GENERATED_BASE: usize = 58;

impl Kind {
    /// Holds a body to the request it came with: its kind and version, its namespace (filled in
    /// where absent) and its name (`name` is the URL's; None on create). Errors: 400.
    pub fn identify(
        &self,
        object: &mut Value,
        at: &GroupVersion,
        namespace: &str,
        name: Option<&str>,
    ) -> Result<(), Status> {
        let wanted = self.gvk_in(at);
        let api_version = wanted.api_version();
        let said = (tree::text(object, "apiVersion"), tree::text(object, "kind"));
        if !said.0.is_empty() && !said.1.is_empty() && said != (&api_version, &wanted.kind) {
            let message = format!(
                "{} in version {:?} cannot be handled as a {}: expected {}",
                said.1, said.0, wanted.kind, wanted
            );
            return Err(Status::bad_request(message));
        }
        tree::set(object, "apiVersion", api_version);
        tree::set(object, "kind", wanted.kind);
        let metadata = tree::child(object, "metadata");
        if namespace.is_empty() && !self.namespaced {
            // A kind without namespaces has none, whatever the body says.
            tree::remove(metadata, "namespace");
        }
        let own = tree::text(metadata, "namespace");
        if own.is_empty() && !namespace.is_empty() {
            tree::set(metadata, "namespace", namespace);
        } else if own != namespace {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        let own = tree::text(metadata, "name");
        match name {
            Some(name) if own.is_empty() => tree::set(metadata, "name", name),
            Some(name) if own != name => {
                return Err(Status::bad_request(format!(
                    "the name of the object ({own}) does not match the name on the URL ({name})"
                )));
            }
            _ => {}
        }
        Ok(())
    }

    /// Fills in what the (stored) form leaves open: first what is data, then what needs thought.
    pub fn default(&self, object: &mut Value) {
        if let Some(of) = self.schema() {
            apply_defaults(object, of);
        }
        self.strategy.default(object);
    }

    /// The form in which an object comes back from the store.
    pub fn settle(&self, object: &mut Value) {
        if let Some(of) = self.schema() {
            drop_empty_lists(object, of);
        }
    }

    /// Takes what only the server sets out of the body of a create. A generation stays where the
    /// kind has none of its own.
    pub fn forget_system_metadata(&self, object: &mut Value) {
        let metadata = tree::child(object, "metadata");
        for key in ["selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"] {
            tree::remove(metadata, key);
        }
    }

    /// Makes a body the object it will be: system metadata, the generated name, no status of the
    /// client's. To be run again on the body where the generated name is taken (8 attempts).
    pub fn prepare_create(&self, object: &mut Value, cx: &Context<'_>) -> Result<(), Status> {
        let separation = self.strategy.separation();
        let metadata = tree::child(object, "metadata");
        if !tree::text(metadata, "resourceVersion").is_empty() {
            return Err(Status::bad_request(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        tree::remove(metadata, "resourceVersion");
        self.forget_system_metadata(object);
        let metadata = tree::child(object, "metadata");
        let base = tree::text(metadata, "generateName");
        if tree::text(metadata, "name").is_empty() && !base.is_empty() {
            let cut = base.char_indices().nth(MAX_GENERATED_BASE).map_or(base.len(), |(at, _)| at);
            let name = match self.strategy.names_by_base() {
                true => base.to_owned(),
                false => format!("{}{}", &base[..cut], cx.rng.name_suffix(5)),
            };
            tree::set(metadata, "name", name);
        }
        tree::set(metadata, "uid", cx.rng.uid());
        tree::set(metadata, "creationTimestamp", format_time(cx.now));
        if matches!(separation, Separation::StatusAndGeneration | Separation::Generation) {
            tree::set(metadata, "generation", 1);
        }
        let has_status = matches!(separation, Separation::Status | Separation::StatusAndGeneration);
        if has_status && self.is_custom() {
            tree::remove(object, "status");
        } else if has_status && !self.strategy.status_on_create() {
            tree::set(object, "status", json!({}));
        }
        self.strategy.prepare_for_create(object, cx);
        Ok(())
    }

    /// Makes a body the next state of `old` (both with `resourceVersion`): `sub` is the subresource,
    /// empty for the main one. Errors: 409 where the body is of an older state or another object.
    pub fn prepare_update(
        &self,
        sub: &str,
        new: &mut Value,
        old: &Value,
        cx: &Context<'_>,
    ) -> Result<(), Status> {
        self.hold_to_old(new, old)?;
        let separation = self.strategy.separation();
        let has_status = matches!(separation, Separation::Status | Separation::StatusAndGeneration);
        match sub {
            "status" => keep_but_status(new, old),
            "" if has_status => tree::keep(new, old, "status"),
            _ => {}
        }
        self.strategy.prepare_for_update(sub, new, old, cx);
        let counts = matches!(separation, Separation::StatusAndGeneration | Separation::Generation);
        // A binding is no change of what its user wants.
        let wishes = sub != "status" && sub != "binding";
        if counts && wishes && self.differs_outside_metadata(new, old, has_status) {
            let generation = tree::number(&old["metadata"], "generation").unwrap_or(0);
            tree::set(&mut new["metadata"], "generation", generation + 1);
        }
        Ok(())
    }

    /// Upstream's storage asks for it before any rule does, and names the resource as a kind.
    fn without_version(&self, metadata: &Value) -> Status {
        let mut causes = Causes::default();
        let (path, why) = (Path::Root.child("metadata"), "must be specified for an update");
        causes.invalid(path.child("resourceVersion"), &0.into(), why);
        let gvk = GroupVersionKind { kind: self.plural.clone().into_owned(), ..self.gvk() };
        Status::invalid(&gvk, tree::text(metadata, "name"), causes.into_vec())
    }

    /// Metadata that no update changes, and the checks that make it a conflict.
    fn hold_to_old(&self, new: &mut Value, old: &Value) -> Result<(), Status> {
        let before = &old["metadata"];
        let metadata = tree::child(new, "metadata");
        let uid = tree::text(metadata, "uid");
        if !uid.is_empty() && uid != tree::text(before, "uid") {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                tree::text(before, "uid")
            );
            return Err(Status::conflict(&self.group_resource(), tree::text(before, "name"), why));
        }
        match tree::text(metadata, "resourceVersion") {
            "" if !self.unconditional_update => return Err(self.without_version(before)),
            "" => tree::keep(metadata, before, "resourceVersion"),
            said if said != tree::text(before, "resourceVersion") => {
                return Err(Status::modified(&self.group_resource(), tree::text(before, "name")));
            }
            _ => {}
        }
        for key in ["uid", "creationTimestamp", "generation"] {
            tree::keep(metadata, before, key);
        }
        for key in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            if tree::has(before, key) {
                tree::keep(metadata, before, key);
            }
        }
        Ok(())
    }

    /// Something besides metadata, and besides a status that is kept apart, changed.
    fn differs_outside_metadata(&self, new: &Value, old: &Value, has_status: bool) -> bool {
        let skip = |key: &str| {
            ["metadata", "apiVersion", "kind"].contains(&key) || (has_status && key == "status")
        };
        if let Some(of) = self.schema() {
            let mut fields = of.properties().filter(|field| !skip(field.json));
            return !fields.all(|field| semantic::same_field(new, old, field));
        }
        let keys = |of: &Value| -> Vec<String> {
            of.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
        };
        let mut all = keys(new);
        all.extend(keys(old));
        all.iter().any(|key| !skip(key) && !tree::same(&new[key.as_str()], &old[key.as_str()]))
    }

    /// Gives the object its addresses. `old` is None on create.
    pub fn allocate(
        &self,
        object: &mut Value,
        old: Option<&Value>,
        allocator: &dyn Allocator,
    ) -> Result<(), Status> {
        let mut causes = Causes::default();
        self.strategy.allocate(object, old, allocator, &mut causes);
        self.refused(object, causes)
    }

    /// All rules of a new object. Errors: 422 with one cause a field.
    /// `at` is the version that the writer speaks; `causes` is what is known to be wrong already.
    pub fn validate_create(
        &self,
        at: &GroupVersion,
        object: &Value,
        mut causes: Causes,
    ) -> Result<(), Status> {
        metadata::validate(self, object, &mut causes);
        self.strategy.validate(object, &mut causes);
        self.strategy.validate_at(at, object, None, &mut causes);
        self.refused(object, causes)
    }

    /// All rules of a review. Errors: 422, which names its group but, as upstream's, not its kind.
    pub fn validate_review(&self, review: &Value) -> Result<(), Status> {
        let mut causes = Causes::default();
        self.strategy.validate(review, &mut causes);
        match causes.is_empty() {
            true => Ok(()),
            false => {
                let unnamed = GroupVersionKind { kind: String::new(), ..self.gvk() };
                Err(Status::invalid(&unnamed, "", causes.into_vec()))
            }
        }
    }

    /// All rules of a change, with `at` and `causes` as above. Errors: 422 with one cause a field.
    pub fn validate_update(
        &self,
        at: &GroupVersion,
        sub: &str,
        new: &Value,
        old: &Value,
        mut causes: Causes,
    ) -> Result<(), Status> {
        metadata::validate_update(self, new, old, &mut causes);
        self.strategy.validate_update(sub, new, old, &mut causes);
        self.strategy.validate_at(at, new, Some(old), &mut causes);
        self.refused(new, causes)
    }

    /// The 422 for a claim (see `Strategy::claims`) that another object holds.
    pub fn claim_taken(&self, object: &Value, claim: &str) -> Status {
        let mut causes = Causes::default();
        if let Some(number) = service_ports::claimed(claim) {
            service_ports::taken(&object["spec"], number, &mut causes);
        } else {
            let what = claim.rsplit('/').next().unwrap_or(claim);
            let path = Path::Root.child("spec");
            let value = Value::from(vec![what]);
            let detail = format!("failed to allocate IP {what}: provided IP is already allocated");
            causes.invalid(path.child("clusterIPs"), &value, detail);
        }
        Status::invalid(&self.gvk(), tree::text(&object["metadata"], "name"), causes.into_vec())
    }

    /// Turns an object into another served version; the storage version's is also known here.
    pub fn convert(&self, object: &mut Value, to: &GroupVersion) {
        if tree::text(object, "apiVersion") != to.api_version() {
            self.strategy.convert(object, to);
            tree::set(object, "apiVersion", to.api_version().into_owned());
        }
    }

    fn refused(&self, object: &Value, causes: Causes) -> Result<(), Status> {
        if causes.is_empty() {
            return Ok(());
        }
        let name = tree::text(&object["metadata"], "name");
        Err(Status::invalid(&self.gvk(), name, causes.into_vec()))
    }
}

/// The 409 for a generated name that is taken also after the last attempt.
pub fn generated_name_taken(kind: &Kind, name: &str) -> Status {
    let resource = kind.group_resource();
    let message = format!(
        "{resource} {name:?} already exists, the server was not able to generate a unique name for the object"
    );
    Status::new(Reason::AlreadyExists, message).about(&resource, name)
}

/// `/status` writes status and metadata that isn't the system's; all else stays.
fn keep_but_status(new: &mut Value, old: &Value) {
    let status = tree::remove(new, "status");
    let metadata = tree::remove(new, "metadata");
    *new = Value::Object(
        old.as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| *key != "metadata" && *key != "status")
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    );
    tree::object(new).extend(metadata.map(|value| ("metadata".to_owned(), value)));
    tree::object(new).extend(status.map(|value| ("status".to_owned(), value)));
}
