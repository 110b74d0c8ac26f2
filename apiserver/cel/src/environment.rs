//! What expressions outside of schemas see: those of admission policies and of conditions of webhooks
//! (KEP-3488, KEP-3716), and selectors of devices (KEP-4381).

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    decl::{Decl, Field, Form, ListKind},
    scope::Scope,
    size::UNBOUNDED,
};

/// Characters of a driver's name, of a domain and of a name in attributes and capacities of devices.
const DRIVER: u64 = 63;
const DOMAIN: u64 = 63;
const NAME: u64 = 32;
/// Attributes and capacities of a device, and characters of an attribute's value.
const ENTRIES: u64 = 32;
const VALUE: u64 = 64;

/// What of the variables of admission an expression sees; `object`, `oldObject`, `request` and
/// `namespaceObject` are always there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Admission<'v> {
    /// `params`: the policy has parameters.
    pub params: bool,
    /// `authorizer` and `authorizer.requestResource`.
    pub authorizer: bool,
    /// `variables` that stand before the expression: names and types.
    pub variables: Option<&'v [(Arc<str>, Arc<Decl>)]>,
    /// It makes patches.
    pub patches: bool,
}

/// The variables of an expression of admission.
pub fn admission(sees: Admission<'_>) -> Scope {
    let mut scope = Scope::default()
        .with("object", of(Form::Dyn))
        .with("oldObject", of(Form::Dyn))
        .with("namespaceObject", namespace())
        .with("request", request());
    if sees.params {
        scope = scope.with("params", of(Form::Dyn));
    }
    if sees.authorizer {
        scope =
            scope.with("authorizer", of(Form::Opaque("kubernetes.authorization.Authorizer"))).with(
                "authorizer.requestResource",
                of(Form::Opaque("kubernetes.authorization.ResourceCheck")),
            );
    }
    if let Some(variables) = sees.variables {
        let variables = variables.iter().map(|(name, decl)| (&**name, decl.clone()));
        scope = scope.with("variables", object("kubernetes.variables", variables));
    }
    if sees.patches { scope.making_patches() } else { scope }
}

/// The variable of a device's selector. All sizes are bounded, so that it has a worst case.
pub fn device() -> Scope {
    let sized = |form, most| Decl::new(form, most, 0);
    let map = |key, inner| Decl::map(key, inner, ENTRIES);
    let attributes = map(DOMAIN, map(NAME, sized(Form::Any, VALUE)));
    let capacity = map(DOMAIN, map(NAME, sized(Form::Opaque("kubernetes.Quantity"), 0)));
    let device = object(
        "kubernetes.DRADevice",
        [
            ("driver", sized(Form::String, DRIVER)),
            ("allowMultipleAllocations", sized(Form::Bool, 1)),
            ("attributes", attributes),
            ("capacity", capacity),
        ],
    );
    Scope::default().with("device", device).binding()
}

fn of(form: Form) -> Arc<Decl> {
    Decl::new(form, UNBOUNDED, 0)
}

fn text() -> Arc<Decl> {
    of(Form::String)
}

fn texts() -> Arc<Decl> {
    list(text())
}

fn list(inner: Arc<Decl>) -> Arc<Decl> {
    of(Form::List(inner, ListKind::Atomic))
}

fn map(inner: Arc<Decl>) -> Arc<Decl> {
    of(Form::Map(inner))
}

fn object<'n>(
    name: &'static str,
    fields: impl IntoIterator<Item = (&'n str, Arc<Decl>)>,
) -> Arc<Decl> {
    let fields = fields.into_iter().map(|(name, decl)| {
        let name: Arc<str> = name.into();
        (name.clone(), Field { json: name, decl })
    });
    Decl::named(name, fields.collect::<BTreeMap<_, _>>())
}

/// An AdmissionRequest without what has variables of its own.
fn request() -> Arc<Decl> {
    let kind = object(
        "kubernetes.GroupVersionKind",
        ["group", "version", "kind"].map(|name| (name, text())),
    );
    let resource = object(
        "kubernetes.GroupVersionResource",
        ["group", "version", "resource"].map(|name| (name, text())),
    );
    let user = object(
        "kubernetes.UserInfo",
        [("username", text()), ("uid", text()), ("groups", texts()), ("extra", map(texts()))],
    );
    let texts = ["subResource", "requestSubResource", "name", "namespace", "operation"];
    let others = [
        ("kind", kind.clone()),
        ("requestKind", kind),
        ("resource", resource.clone()),
        ("requestResource", resource),
        ("userInfo", user),
        ("dryRun", of(Form::Bool)),
        ("options", of(Form::Dyn)),
    ];
    object(
        "kubernetes.AdmissionRequest",
        texts.map(|name| (name, text())).into_iter().chain(others),
    )
}

fn namespace() -> Arc<Decl> {
    let condition = ["status", "type", "message", "reason"].map(|name| (name, text()));
    let at = [("lastTransitionTime", of(Form::Timestamp))];
    let condition = object("kubernetes.NamespaceCondition", condition.into_iter().chain(at));
    let status =
        object("kubernetes.NamespaceStatus", [("conditions", list(condition)), ("phase", text())]);
    let plain =
        ["name", "generateName", "namespace", "UID", "resourceVersion"].map(|name| (name, text()));
    let others = [
        ("labels", map(text())),
        ("annotations", map(text())),
        ("creationTimestamp", of(Form::Timestamp)),
        ("deletionTimestamp", of(Form::Timestamp)),
        ("deletionGracePeriodSeconds", of(Form::Int)),
        ("generation", of(Form::Int)),
        ("finalizers", texts()),
    ];
    object(
        "kubernetes.Namespace",
        [
            ("metadata", object("kubernetes.NamespaceMetadata", plain.into_iter().chain(others))),
            ("spec", object("kubernetes.NamespaceSpec", [("finalizers", texts())])),
            ("status", status),
        ],
    )
}
