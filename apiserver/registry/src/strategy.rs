//! What is particular about a kind. The generic stages (`stages`) call these in their order; a
//! strategy sees trees of the stored version only and changes nothing but the tree it is given.

use std::fmt;

use serde_json::Value;
use windlass_sdk_meta::{Object, Rng, Timestamp};

use crate::{
    cause::Causes, expression::Expression, kind::GroupVersion, names::NameRule, ownership::Owned,
    strategies::authorization::Question, table::Cells,
};

/// The particular rules of one kind.
pub trait Strategy: Send + Sync + fmt::Debug {
    /// Looks at what the object leaves open before the defaults that are data hide it.
    fn default_first(&self, _object: &mut Value) {}

    /// Fills in what the object leaves open. Idempotent: it runs before and after admission.
    fn default(&self, _object: &mut Value) {}

    /// Sets what a new object starts with; the status that a client sent is already gone.
    fn prepare_for_create(&self, _object: &mut Value, _cx: &Context<'_>) {}

    /// After the generic separation of spec and status: keeps what this update may not touch.
    fn prepare_for_update(&self, _sub: &str, _new: &mut Value, _old: &Value, _cx: &Context<'_>) {}

    /// Which part of an object the main resource and `/status` write, and whether a change of it
    /// counts as a new generation.
    fn separation(&self) -> Separation {
        Separation::None
    }

    /// A new object keeps the status that came with it (a Node's).
    fn status_on_create(&self) -> bool {
        false
    }

    /// Finalizers need not be known or of a domain: newer kinds of upstream's ask only for their form.
    fn takes_any_finalizer(&self) -> bool {
        false
    }

    /// Updates leave `spec` as it was created, so that nobody owns it.
    fn spec_stays(&self) -> bool {
        false
    }

    /// A base is the whole name: nothing is appended to it.
    fn names_by_base(&self) -> bool {
        false
    }

    /// What `metadata.name` must look like.
    fn name_rule(&self) -> NameRule {
        NameRule::Subdomain
    }

    /// Rules of a whole object (spec); metadata has been looked at.
    fn validate(&self, _object: &Value, _causes: &mut Causes) {}

    /// Rules of a change through the main resource (`sub` empty) or a subresource.
    fn validate_update(&self, _sub: &str, new: &Value, _old: &Value, causes: &mut Causes) {
        self.validate(new, causes);
    }

    /// Expressions in CEL of a whole object, which must compile before it is stored; those that were
    /// compiled when `old` was written may be left out.
    fn expressions(&self, _object: &Value, _old: Option<&Value>) -> Vec<Expression> {
        Vec::new()
    }

    /// Rules that depend on the version that the writer speaks, the whole object's being in the
    /// stored one; `old` is None on create.
    fn validate_at(
        &self,
        _at: &GroupVersion,
        _new: &Value,
        _old: Option<&Value>,
        _causes: &mut Causes,
    ) {
    }

    /// What is legal and most likely not meant, or will go: one text each for a Warning header.
    /// `old` is None on create.
    fn warnings(&self, _sub: &str, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// What every answer about the kind warns of: it will go, and what takes its place.
    fn deprecation(&self) -> Option<&'static str> {
        None
    }

    /// The cells of a Table row, in the order of the kind's columns.
    fn cells(&self, object: &Value, now: Timestamp) -> Cells;

    /// Names that must be unique in the cluster, such as `clusterip/127.96.0.5`; committed with the
    /// object and released with it.
    fn claims(&self, _object: &Value) -> Vec<String> {
        Vec::new()
    }

    /// Gives the object what only the cluster can give: service addresses.
    fn allocate(
        &self,
        _object: &mut Value,
        _old: Option<&Value>,
        _allocator: &dyn Allocator,
        _causes: &mut Causes,
    ) {
    }

    /// Turns an object of one served version into another.
    fn convert(&self, _object: &mut Value, _to: &GroupVersion) {}

    /// Why a selector may not ask for this field, where the kind has words of its own.
    fn unknown_label(&self, _label: &str) -> Option<String> {
        None
    }

    /// Seconds that a deletion waits; None: the kind has no graceful deletion. `asked` is what the
    /// client wants.
    fn grace_seconds(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Something other than `metadata.finalizers` holds the object (a Namespace's spec.finalizers).
    fn held(&self, _object: &Value) -> bool {
        false
    }

    /// The object is about to be deleted but stays for now (a Namespace turns Terminating).
    fn prepare_for_deletion(&self, _object: &mut Value) {}

    /// Upstream's storage of the kind marks what is to be deleted itself: without a period of grace,
    /// and not as a new generation.
    fn owns_deletion(&self) -> bool {
        false
    }

    /// How long an object stays after it was last written; None: until somebody deletes it.
    fn lifetime(&self) -> Option<std::time::Duration> {
        None
    }

    /// A deletion that doesn't say what becomes of dependents leaves them (kinds from before there
    /// was garbage collection).
    fn orphans_by_default(&self) -> bool {
        false
    }

    /// What a deletion warns of that doesn't say what becomes of dependents.
    fn deletion_warning(&self) -> Option<&'static str> {
        None
    }

    /// Paths of the replica count and the pod selector where the kind has `/scale`.
    fn scale(&self) -> Option<ScalePaths<'_>> {
        None
    }

    /// Rules take so long that they are not looked at on a thread that serves.
    fn is_slow(&self) -> bool {
        false
    }

    /// How fields are owned of a kind whose type came at run time; None: the facts table knows it.
    fn owned(&self) -> Option<&Owned> {
        None
    }

    /// Holds a body to a type that came at run time: what it doesn't know goes, and is named. Errors:
    /// why the body can't be of this kind.
    fn coerce(&self, _object: &mut Value) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }

    /// The strategy itself, for whoever made it to find it again.
    fn as_any(&self) -> Option<&dyn std::any::Any> {
        None
    }

    /// What a create asks the server, of a kind of which nothing is stored.
    fn question(&self) -> Option<Question> {
        None
    }

    /// Why no object is made any more, while those that there are may still be changed.
    fn refuses_new(&self) -> Option<&'static str> {
        None
    }

    /// The row isn't in the table any more: nothing is written by it.
    fn is_replaced(&self) -> bool {
        false
    }

    /// The stored bytes are what readers of this row get.
    fn serves_stored(&self, _object: &Object) -> bool {
        true
    }

    /// Makes of a stored object what readers of this row get.
    fn read_stored(&self, _object: &mut Value) {}

    /// Makes of an object of this row what is stored.
    fn to_stored(&self, _object: &mut Value) {}
}

/// Time, chance and the requester, as the stages hand them to strategies.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub now: Timestamp,
    pub rng: &'a Rng,
    /// The name of the user; empty where nobody asked.
    pub user: &'a str,
}

/// How writes through the main resource and through `/status` share an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Separation {
    /// One whole: no status, or none that is kept apart, and no generation.
    None,
    /// `status` belongs to `/status`, the rest to the main resource; no generation is counted.
    Status,
    /// As `Status`, and a change outside metadata and status is a new generation.
    StatusAndGeneration,
    /// No status, and a change outside metadata is a new generation.
    Generation,
}

/// Where `/scale` finds its values (dotted paths).
#[derive(Clone, Copy, Debug)]
pub struct ScalePaths<'a> {
    pub spec_replicas: &'a str,
    pub status_replicas: &'a str,
    /// A `metav1.LabelSelector`, a text, or a map of labels where `plain_selector` is set.
    pub selector: &'a str,
    pub plain_selector: bool,
}

/// Ports of nodes that lead to services: upstream's default.
pub const NODE_PORTS: std::ops::RangeInclusive<i64> = 30_000..=32_767;

/// Addresses of services, as the server gives them out.
pub trait Allocator {
    /// An address that nobody has claimed.
    fn next_free(&self) -> Result<std::net::IpAddr, String>;
    /// Whether the address may be given out at all.
    fn in_range(&self, address: std::net::IpAddr) -> bool;
    /// The range in CIDR form, for messages.
    fn range(&self) -> String;
    /// A port of [`NODE_PORTS`] that nobody has claimed and that is none of `taken`.
    fn next_node_port(&self, taken: &[i64]) -> Result<i64, String>;
}
