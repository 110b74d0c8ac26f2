//! Nobody may hand out more than they have: whoever writes a role or a binding must hold every
//! permission in it, or be allowed the verbs `escalate` (roles) or `bind` (bindings).

use serde_json::Value;
use windlass_sdk_meta::{GroupResource, Status};

use super::{
    Attributes, Authorizer,
    rbac::{self, RoleRef, Rule},
};
use crate::{AdmissionRequest, Lookup, Operation};

/// Judges a write; requests for anything but roles and bindings pass.
pub(crate) fn check(
    authorizer: &Authorizer,
    request: &AdmissionRequest<'_>,
    lookup: &dyn Lookup,
) -> Result<(), Status> {
    let is_write = matches!(request.operation, Operation::Create | Operation::Update);
    let (Some(object), true) = (request.object.as_deref(), is_write) else { return Ok(()) };
    if request.resource.group != rbac::ROLES.group || request.user.in_group("system:masters") {
        return Ok(());
    }
    let granted = match request.resource.resource.as_str() {
        "roles" | "clusterroles" => granted_by_role(authorizer, request, object, lookup),
        "rolebindings" | "clusterrolebindings" => {
            granted_by_binding(authorizer, request, object, lookup)?
        }
        _ => return Ok(()),
    };
    let held = authorizer.rbac.rules_of(request.user, request.namespace, lookup);
    let missing: Vec<Rule> = granted
        .iter()
        .flat_map(atoms)
        .filter(|atom| !held.iter().any(|own| covers(own, atom)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = missing.iter().map(told).collect();
    let groups: Vec<String> =
        request.user.groups.iter().map(|group| format!("{group:?}")).collect();
    let why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        request.user.name,
        groups.join(" "),
        missing.join("\n")
    );
    Err(Status::forbidden(request.resource, request.target_name(), why))
}

/// What a role newly grants; nothing where its rules stay as they are.
fn granted_by_role(
    authorizer: &Authorizer,
    request: &AdmissionRequest<'_>,
    role: &Value,
    lookup: &dyn Lookup,
) -> Vec<Rule> {
    let unchanged = request.old.is_some_and(|old| {
        old["rules"] == role["rules"] && old["aggregationRule"] == role["aggregationRule"]
    });
    if unchanged
        || may(authorizer, request, "escalate", request.resource, request.target_name(), lookup)
    {
        return Vec::new();
    }
    let mut rules = rbac::rules_in(role);
    if role["aggregationRule"].is_object() {
        // It may gather anything, now or later.
        rules.extend(everything());
    }
    rules
}

fn granted_by_binding(
    authorizer: &Authorizer,
    request: &AdmissionRequest<'_>,
    binding: &Value,
    lookup: &dyn Lookup,
) -> Result<Vec<Rule>, Status> {
    let unchanged = request.old.is_some_and(|old| {
        old["subjects"] == binding["subjects"] && old["roleRef"] == binding["roleRef"]
    });
    let RoleRef { kind, name } = rbac::role_ref_in(binding);
    let (resource, namespace) = match kind.as_str() {
        "ClusterRole" => (&*rbac::CLUSTER_ROLES, ""),
        _ => (&*rbac::ROLES, request.namespace),
    };
    if unchanged || may(authorizer, request, "bind", resource, &name, lookup) {
        return Ok(Vec::new());
    }
    let role = lookup.get(resource, namespace, &name);
    let role = role.ok_or_else(|| Status::not_found(resource, &name))?.tree();
    let mut rules = rbac::rules_in(&role);
    if role["aggregationRule"].is_object() {
        rules = authorizer.rbac.rules_of_cluster_role(&name, lookup);
    }
    Ok(rules)
}

fn may(
    authorizer: &Authorizer,
    request: &AdmissionRequest<'_>,
    verb: &str,
    resource: &GroupResource,
    name: &str,
    lookup: &dyn Lookup,
) -> bool {
    let asked = Attributes {
        namespace: request.namespace,
        name,
        ..Attributes::resource(request.user, verb, &resource.group, &resource.resource)
    };
    authorizer.authorize(&asked, lookup).allowed()
}

fn everything() -> [Rule; 2] {
    let all = || vec!["*".to_owned()];
    [
        Rule { verbs: all(), api_groups: all(), resources: all(), ..Rule::default() },
        Rule { verbs: all(), non_resource_urls: all(), ..Rule::default() },
    ]
}

/// A rule as rules of one verb on one thing each.
fn atoms(rule: &Rule) -> Vec<Rule> {
    let one = |text: &String| vec![text.clone()];
    let mut atoms = Vec::new();
    for verb in &rule.verbs {
        for url in &rule.non_resource_urls {
            atoms.push(Rule { verbs: one(verb), non_resource_urls: one(url), ..Rule::default() });
        }
        for group in &rule.api_groups {
            for resource in &rule.resources {
                let whole = Rule {
                    verbs: one(verb),
                    api_groups: one(group),
                    resources: one(resource),
                    ..Rule::default()
                };
                let named = rule.resource_names.iter();
                let named: Vec<Rule> =
                    named.map(|name| Rule { resource_names: one(name), ..whole.clone() }).collect();
                if named.is_empty() { atoms.push(whole) } else { atoms.extend(named) }
            }
        }
    }
    atoms
}

/// Whether `own` includes all that one atom allows.
fn covers(own: &Rule, atom: &Rule) -> bool {
    let each = |own: &[String], wanted: &[String]| wanted.iter().all(|one| rbac::has(own, one));
    let urls = &atom.non_resource_urls;
    each(&own.verbs, &atom.verbs)
        && urls.iter().all(|url| own.non_resource_urls.iter().any(|own| rbac::url_covers(own, url)))
        && each(&own.api_groups, &atom.api_groups)
        && atom
            .resources
            .iter()
            .all(|wanted| own.resources.iter().any(|own| rbac::resource_covers(own, wanted)))
        && (own.resource_names.is_empty()
            || (!atom.resource_names.is_empty()
                && atom.resource_names.iter().all(|name| own.resource_names.contains(name))))
}

/// The form in which upstream lists rules.
fn told(rule: &Rule) -> String {
    let lists = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
        ("Verbs", &rule.verbs),
    ];
    let told = lists.iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| {
        let list: Vec<String> = list.iter().map(|one| format!("{one:?}")).collect();
        format!("{name}:[{}]", list.join(" "))
    });
    format!("{{{}}}", told.collect::<Vec<_>>().join(", "))
}
