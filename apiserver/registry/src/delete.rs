//! What a DELETE does to an object: gone at once, marked and left for finalizers or a node to
//! finish, or nothing because it is already on its way. Decided from the object and the options
//! alone; the server carries it out.

use serde::Deserialize;
use serde_json::Value;
use windlass_sdk_meta::{
    GroupResource, GroupVersionKind, Status, Timestamp, format_time, parse_time,
};

use crate::{
    cause::{Causes, Path},
    kind::Kind,
    strategy::Context,
    tree,
};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// `metav1.DeleteOptions`, as far as it says how to delete.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub preconditions: Option<Preconditions>,
    pub orphan_dependents: Option<bool>,
    pub propagation_policy: Option<String>,
    pub dry_run: Vec<String>,
}

/// What the object must be for the deletion to go on.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Deletion {
    /// Take it out of the store; the tree is its last state.
    Remove(Value),
    /// Write this and leave the rest to whoever holds it.
    Mark(Value),
    /// It is already being deleted: answer with it as it is.
    Pending(Value),
}

impl DeleteOptions {
    /// Errors: 422 where they contradict themselves.
    pub fn check(&self) -> Result<(), Status> {
        let mut causes = Causes::default();
        let path = Path::Root.child("propagationPolicy");
        if let Some(policy) = &self.propagation_policy {
            if self.orphan_dependents.is_some() {
                let why = "orphanDependents and deletionPropagation cannot be both set";
                causes.invalid_text(path, policy, why);
            }
            let known = ["Foreground", "Background", "Orphan"];
            if !known.contains(&policy.as_str()) {
                causes.not_supported(
                    path,
                    &Value::from(policy.as_str()),
                    &["Foreground", "Background", "Orphan", "nil"],
                );
            }
        }
        let dry_run = Path::Root.child("dryRun");
        if self.dry_run.iter().any(|what| what != "All") {
            causes.not_supported(dry_run, &Value::from(self.dry_run.clone()), &["All"]);
        }
        if causes.is_empty() {
            return Ok(());
        }
        let kind = GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions");
        Err(Status::invalid(&kind, "", causes.into_vec()))
    }
}

impl Kind {
    /// Plans the deletion of `old` (with `resourceVersion`). Errors: 409 where a precondition fails,
    /// 422 where the options contradict themselves.
    pub fn delete(
        &self,
        old: &Value,
        options: &DeleteOptions,
        cx: &Context<'_>,
    ) -> Result<Deletion, Status> {
        options.check()?;
        self.check_preconditions(old, options)?;
        let mut object = old.clone();
        let deleting = tree::has(&old["metadata"], "deletionTimestamp");
        if deleting && self.strategy.held(old) {
            return Ok(Deletion::Pending(object));
        }
        let graceful = match self.grace(&mut object, options, cx) {
            Grace::Pending => return Ok(Deletion::Pending(object)),
            Grace::None => None,
            Grace::Seconds(seconds) => Some(seconds),
        };
        set_finalizers(&mut object, options, self.strategy.orphans_by_default());
        let held = self.strategy.held(&object);
        let finalizers = !tree::list(&object["metadata"], "finalizers").is_empty();
        match graceful {
            Some(0) | None if !finalizers && !held => return Ok(Deletion::Remove(object)),
            Some(_) => {}
            None => {
                mark(&mut object, self.strategy.owns_deletion(), cx.now);
                self.strategy.prepare_for_deletion(&mut object);
            }
        }
        let unchanged = tree::same(&object, old);
        Ok(if unchanged { Deletion::Pending(object) } else { Deletion::Mark(object) })
    }

    /// Whether an update has let go of the last thing that held a deleted object.
    pub fn removed_by_update(&self, new: &Value, old: &Value) -> bool {
        let before = &old["metadata"];
        tree::list(&new["metadata"], "finalizers").is_empty()
            && tree::has(before, "deletionTimestamp")
            && tree::number(before, "deletionGracePeriodSeconds").unwrap_or(0) == 0
            && !self.strategy.held(new)
    }

    /// Errors: 409 where the object is not, or no longer, the one that the options are about.
    pub fn check_preconditions(&self, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
        let Some(wanted) = &options.preconditions else { return Ok(()) };
        let metadata = &old["metadata"];
        let (uid, version) = (tree::text(metadata, "uid"), tree::text(metadata, "resourceVersion"));
        let plainly = self.strategy.owns_deletion();
        // The two of upstream's storages that do so say it in different cases.
        let failed = if self.storage().group.is_empty() { "Precondition" } else { "precondition" };
        let told = |what: &str, wanted: &str, own: &str| {
            format!(
                "{failed} failed: {what} in precondition: {wanted}, {what} in object meta: {own}"
            )
        };
        let why = match (&wanted.uid, &wanted.resource_version) {
            (Some(wanted), _) if wanted != uid && plainly => told("UID", wanted, uid),
            (_, Some(wanted)) if wanted != version && plainly => {
                told("ResourceVersion", wanted, version)
            }
            (Some(wanted), _) if wanted != uid => format!(
                "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
            ),
            (_, Some(wanted)) if wanted != version => format!(
                "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({version}). The object might have been modified"
            ),
            _ => return Ok(()),
        };
        // Upstream names the kind here, where it names the resource everywhere else.
        let what = if plainly { &self.plural } else { &self.kind };
        let named = GroupResource::new(&self.storage().group, what);
        Err(Status::conflict(&named, tree::text(metadata, "name"), why))
    }

    /// Graceful deletion: a first request sets when it ends, a later one may only shorten it.
    fn grace(&self, object: &mut Value, options: &DeleteOptions, cx: &Context<'_>) -> Grace {
        let asked =
            options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
        let Some(seconds) = self.strategy.grace_seconds(object, asked) else { return Grace::None };
        let metadata = tree::child(object, "metadata");
        let Some(ends) = parse_time(tree::text(metadata, "deletionTimestamp")) else {
            set_end(metadata, seconds_after(cx.now, seconds), seconds);
            if let Some(generation) = tree::number(metadata, "generation").filter(|now| *now > 0) {
                tree::set(metadata, "generation", generation + 1);
            }
            return Grace::Seconds(seconds);
        };
        let current = match tree::number(metadata, "deletionGracePeriodSeconds").unwrap_or(0) {
            0 => return Grace::Seconds(0),
            seconds => seconds.max(1),
        };
        match asked {
            Some(asked) if asked < current => {
                let earlier = seconds_after(ends, asked - current);
                // It can't end in the past: the node still gets to see a graceful deletion.
                let (ends, seconds) =
                    if earlier < cx.now { (cx.now, asked.min(1)) } else { (earlier, asked) };
                set_end(metadata, ends, seconds);
                Grace::Seconds(seconds)
            }
            _ => Grace::Pending,
        }
    }
}

enum Grace {
    /// The kind knows no grace.
    None,
    /// The end is set; 0 is at once.
    Seconds(i64),
    /// Nothing shorter was asked for.
    Pending,
}

/// Garbage collection's finalizers, as the options want them; without a wish they stay.
fn deletes_in_foreground(object: &Value) -> bool {
    tree::list(&object["metadata"], "finalizers").iter().any(|one| one == FOREGROUND)
}

fn set_finalizers(object: &mut Value, options: &DeleteOptions, orphans_by_default: bool) {
    let wanted = match (options.orphan_dependents, options.propagation_policy.as_deref()) {
        (Some(true), _) | (_, Some("Orphan")) => Some(ORPHAN),
        (_, Some("Foreground")) => Some(FOREGROUND),
        (Some(false), _) | (_, Some("Background")) => None,
        // What the object itself says comes before the kind's default.
        _ if orphans_by_default && !deletes_in_foreground(object) => Some(ORPHAN),
        _ => return,
    };
    let metadata = tree::child(object, "metadata");
    let before = tree::list(metadata, "finalizers");
    let mut finalizers: Vec<Value> = before
        .iter()
        .filter(|one| {
            let own = *one == ORPHAN || *one == FOREGROUND;
            !own || wanted.is_some_and(|wanted| *one == wanted)
        })
        .cloned()
        .collect();
    finalizers
        .extend(wanted.filter(|wanted| !before.iter().any(|one| one == wanted)).map(Value::from));
    if finalizers.is_empty() {
        tree::remove(metadata, "finalizers");
    } else {
        tree::set(metadata, "finalizers", finalizers);
    }
}

/// Marks an object that knows no grace but can't go yet.
/// `plainly`: with the time and nothing else.
fn mark(object: &mut Value, plainly: bool, now: Timestamp) {
    let metadata = tree::child(object, "metadata");
    let is_marked = parse_time(tree::text(metadata, "deletionTimestamp")).is_some();
    if !is_marked && plainly {
        tree::set(metadata, "deletionTimestamp", format_time(now));
    } else if !is_marked {
        set_end(metadata, now, 0);
        if let Some(generation) = tree::number(metadata, "generation").filter(|now| *now > 0) {
            tree::set(metadata, "generation", generation + 1);
        }
    }
}

fn set_end(metadata: &mut Value, at: Timestamp, seconds: i64) {
    tree::set(metadata, "deletionTimestamp", format_time(at));
    tree::set(metadata, "deletionGracePeriodSeconds", seconds);
}

/// A time so many seconds later, as far as times go.
fn seconds_after(at: Timestamp, seconds: i64) -> Timestamp {
    at.saturating_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or(at)
}
