//! IngressClass: which controller looks after an Ingress.

use serde_json::Value;
use windlass_sdk_meta::Timestamp;

use super::ingress::reference;
use crate::{
    cause::{Causes, Path},
    names,
    strategy::{Separation, Strategy},
    table::{Cells, age},
    tree,
};

const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const MAX_CONTROLLER: usize = 250;
const SCOPES: [&str; 2] = ["Cluster", "Namespace"];

#[derive(Debug)]
pub struct IngressClass;

impl Strategy for IngressClass {
    fn separation(&self) -> Separation {
        Separation::Generation
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let (spec, path) = (&object["spec"], Path::Root.child("spec"));
        let (controller, field) = (tree::text(spec, "controller"), path.child("controller"));
        if controller.len() > MAX_CONTROLLER {
            causes.too_long(field, MAX_CONTROLLER);
        }
        names::domain_prefixed_path(controller, field, causes);
        if tree::has(spec, "parameters") {
            parameters(&spec["parameters"], path.child("parameters"), causes);
        }
    }

    fn validate_update(&self, _sub: &str, new: &Value, old: &Value, causes: &mut Causes) {
        let (after, before) = (&new["spec"]["controller"], &old["spec"]["controller"]);
        if !tree::same(after, before) {
            let path = Path::Root.child("spec");
            causes.immutable(path.child("controller"), after);
        }
        self.validate(new, causes);
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Cells {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let default = tree::text(&metadata["annotations"], DEFAULT) == "true";
        let mark = if default { " (default)" } else { "" };
        let to = &spec["parameters"];
        let shown = match (to, to["apiGroup"].as_str()) {
            (Value::Null, _) => "<none>".to_owned(),
            (_, Some(group)) => {
                format!("{}.{group}/{}", tree::text(to, "kind"), tree::text(to, "name"))
            }
            (_, None) => format!("{}/{}", tree::text(to, "kind"), tree::text(to, "name")),
        };
        vec![
            format!("{}{mark}", tree::text(metadata, "name")).into(),
            tree::text(spec, "controller").into(),
            shown.into(),
            age(object, now),
        ]
    }
}

fn parameters(to: &Value, path: Path<'_>, causes: &mut Causes) {
    reference(to, path, causes);
    let (scope, field) = (tree::text(to, "scope"), path.child("namespace"));
    match (scope, to["namespace"].as_str()) {
        ("Namespace", None) => {
            causes.required(field, "`parameters.scope` is set to 'Namespace'");
        }
        ("Namespace", Some(namespace)) => {
            causes.complaints(field, namespace, names::label(namespace));
        }
        ("Cluster", Some(_)) => causes.forbidden(field, "`parameters.scope` is set to 'Cluster'"),
        ("Cluster", None) => {}
        _ => causes.not_supported(path.child("scope"), &to["scope"], &SCOPES),
    }
}
