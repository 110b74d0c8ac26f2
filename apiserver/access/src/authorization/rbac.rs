//! RBAC (rbac.authorization.k8s.io/v1): roles are sets of rules, bindings give them to subjects.
//! Everything is compiled into one table by subject, kept until one of the four resources changes;
//! then only the objects that changed are read again. A request then looks at the few grants of
//! its user and groups.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use windlass_sdk_meta::{GroupResource, Labels, Object, Selector};

use super::{Attributes, Decision};
use crate::{Lookup, User};

const GROUP: &str = "rbac.authorization.k8s.io";

pub(crate) static CLUSTER_ROLES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new(GROUP, "clusterroles"));
pub(crate) static ROLES: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new(GROUP, "roles"));
static CLUSTER_ROLE_BINDINGS: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new(GROUP, "clusterrolebindings"));
static ROLE_BINDINGS: LazyLock<GroupResource> =
    LazyLock::new(|| GroupResource::new(GROUP, "rolebindings"));

/// The RBAC authoriser with its compiled table.
#[derive(Default)]
pub(crate) struct Rbac(Mutex<State>);

/// One rule of a role (`PolicyRule`).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    pub verbs: Vec<String>,
    pub api_groups: Vec<String>,
    pub resources: Vec<String>,
    pub resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

#[derive(Default)]
struct State {
    /// Of cluster roles, roles, cluster role bindings, role bindings.
    revisions: [u64; 4],
    compiled: Arc<Compiled>,
    /// What was read from each object, with the revision it was read at; roles and bindings apart.
    roles: Parsed<Role>,
    bindings: Parsed<Binding>,
}

/// By resource, namespace and name.
type Parsed<T> = HashMap<(usize, Arc<str>, Arc<str>), (u64, Arc<T>)>;

/// Who is granted what.
#[derive(Default)]
pub(crate) struct Compiled {
    /// The rules of each cluster role, those of aggregating ones gathered.
    cluster_roles: HashMap<String, Arc<[Rule]>>,
    cluster: Subjects,
    namespaces: HashMap<String, Subjects>,
}

#[derive(Default)]
struct Subjects {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

/// A role given to one subject.
#[derive(Clone)]
struct Grant {
    rules: Result<Arc<[Rule]>, String>,
    /// For the reason: binding, role and subject.
    told: Arc<str>,
}

#[derive(Default)]
struct Role {
    rules: Arc<[Rule]>,
    /// Set where the rules are gathered from other roles by their labels.
    selectors: Option<Vec<Selector>>,
    labels: Labels,
}

#[derive(Default)]
struct Binding {
    role_ref: RoleRef,
    subjects: Vec<Subject>,
}

/// `roleRef` of a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct RoleRef {
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

impl Rbac {
    pub fn authorize(&self, asked: &Attributes<'_>, lookup: &dyn Lookup) -> Decision {
        let compiled = self.compiled(lookup);
        let mut missing = Vec::new();
        let full_resource = asked.full_resource();
        for grant in compiled.grants(asked.user, asked.namespace) {
            match &grant.rules {
                Ok(rules) if rules.iter().any(|rule| rule.allows(asked, &full_resource)) => {
                    return Decision::Allow(format!("RBAC: allowed by {}", grant.told));
                }
                Ok(_) => {}
                Err(why) if !missing.contains(why) => missing.push(why.clone()),
                Err(_) => {}
            }
        }
        Decision::NoOpinion(match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// All rules that a user has in a namespace, or cluster-wide where it is empty.
    pub fn rules_of(&self, user: &User, namespace: &str, lookup: &dyn Lookup) -> Vec<Rule> {
        let compiled = self.compiled(lookup);
        let granted = compiled.grants(user, namespace);
        granted.filter_map(|grant| grant.rules.as_ref().ok()).flat_map(|r| r.to_vec()).collect()
    }

    /// The rules of a cluster role, those of an aggregating one gathered.
    pub fn rules_of_cluster_role(&self, name: &str, lookup: &dyn Lookup) -> Vec<Rule> {
        let compiled = self.compiled(lookup);
        compiled.cluster_roles.get(name).map(|rules| rules.to_vec()).unwrap_or_default()
    }

    fn compiled(&self, lookup: &dyn Lookup) -> Arc<Compiled> {
        let resources = [&*CLUSTER_ROLES, &ROLES, &CLUSTER_ROLE_BINDINGS, &ROLE_BINDINGS];
        // Before reading: what changes meanwhile is seen by the next request.
        let revisions = resources.map(|resource| lookup.revision(resource));
        let mut state = self.0.lock();
        if state.revisions != revisions {
            let [cluster_roles, roles, cluster_bindings, bindings] =
                resources.map(|resource| lookup.list(resource, ""));
            let roles = refresh(&mut state.roles, [&cluster_roles, &roles], read_role);
            let bindings =
                refresh(&mut state.bindings, [&cluster_bindings, &bindings], read_binding);
            state.compiled = Arc::new(compile(&roles, &bindings));
            state.revisions = revisions;
        }
        state.compiled.clone()
    }
}

impl Compiled {
    fn grants<'a>(&'a self, user: &'a User, namespace: &str) -> impl Iterator<Item = &'a Grant> {
        let in_namespace = match namespace {
            "" => None,
            namespace => self.namespaces.get(namespace),
        };
        [Some(&self.cluster), in_namespace].into_iter().flatten().flat_map(|subjects| {
            let of_groups = user.groups.iter().filter_map(|group| subjects.groups.get(group));
            subjects.users.get(&user.name).into_iter().chain(of_groups).flatten()
        })
    }
}

impl Rule {
    /// `full_resource` is [`Attributes::full_resource`], made once for all rules.
    fn allows(&self, asked: &Attributes<'_>, full_resource: &str) -> bool {
        has(&self.verbs, asked.verb)
            && if asked.is_resource {
                has(&self.api_groups, asked.group)
                    && self.resources.iter().any(|own| resource_covers(own, full_resource))
                    && (self.resource_names.is_empty()
                        || self.resource_names.iter().any(|name| name == asked.name))
            } else {
                self.non_resource_urls.iter().any(|own| url_covers(own, asked.path))
            }
    }
}

/// Does the static rule list allow it: for roles that are not stored.
pub(crate) fn rules_allow(rules: &[Rule], asked: &Attributes<'_>) -> bool {
    let full_resource = asked.full_resource();
    rules.iter().any(|rule| rule.allows(asked, &full_resource))
}

pub(crate) fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == "*" || own == wanted)
}

/// `*` covers everything, `*/scale` that subresource of everything.
pub(crate) fn resource_covers(own: &str, wanted: &str) -> bool {
    own == "*"
        || own == wanted
        || own.strip_prefix("*/").is_some_and(|subresource| {
            wanted.split_once('/').is_some_and(|(_, asked)| asked == subresource)
        })
}

/// A trailing `*` covers every path that begins so.
pub(crate) fn url_covers(own: &str, wanted: &str) -> bool {
    own == wanted
        || own
            .strip_suffix('*')
            .is_some_and(|prefix| wanted.starts_with(prefix.trim_end_matches('*')))
}

/// The rules as they stand in a role's JSON.
pub(crate) fn rules_in(role: &Value) -> Vec<Rule> {
    Vec::deserialize(&role["rules"]).unwrap_or_default()
}

/// The role that a binding's JSON refers to.
pub(crate) fn role_ref_in(binding: &Value) -> RoleRef {
    RoleRef::deserialize(&binding["roleRef"]).unwrap_or_default()
}

fn read_role(object: &Object) -> Role {
    let tree = object.tree();
    let selectors = tree["aggregationRule"]["clusterRoleSelectors"].as_array();
    Role {
        rules: rules_in(&tree).into(),
        selectors: selectors
            .map(|all| all.iter().filter_map(|one| Selector::from_json(one).ok()).collect()),
        labels: object.labels.clone(),
    }
}

fn read_binding(object: &Object) -> Binding {
    let tree = object.tree();
    Binding {
        role_ref: role_ref_in(&tree),
        subjects: Vec::deserialize(&tree["subjects"]).unwrap_or_default(),
    }
}

/// An object's namespace and name, and what was read from it.
type Named<T> = (Arc<Object>, Arc<T>);

/// Reads what is new or changed, takes the rest from last time, and forgets what is gone.
fn refresh<T>(
    known: &mut Parsed<T>,
    lists: [&Vec<Arc<Object>>; 2],
    read: impl Fn(&Object) -> T,
) -> [Vec<Named<T>>; 2] {
    let mut fresh = Parsed::new();
    let mut at = 0;
    let named = lists.map(|list| {
        let named = list.iter().map(|object| {
            let key = (at, object.namespace.clone(), object.name.clone());
            let unchanged = known.remove(&key).filter(|(revision, _)| *revision == object.revision);
            let (revision, parsed) =
                unchanged.unwrap_or_else(|| (object.revision, Arc::new(read(object))));
            fresh.insert(key, (revision, parsed.clone()));
            (object.clone(), parsed)
        });
        let named: Vec<_> = named.collect();
        at += 1;
        named
    });
    *known = fresh;
    named
}

fn compile(roles: &[Vec<Named<Role>>; 2], bindings: &[Vec<Named<Binding>>; 2]) -> Compiled {
    let cluster_roles: BTreeMap<&str, &Role> =
        roles[0].iter().map(|(object, role)| (&*object.name, &**role)).collect();
    let gathered = |name: &&str| ((*name).to_owned(), aggregate(name, &cluster_roles));
    let gathered = cluster_roles.keys().map(gathered).collect();
    let local: HashMap<(&str, &str), &Role> =
        roles[1].iter().map(|(at, role)| ((&*at.namespace, &*at.name), &**role)).collect();

    let mut compiled = Compiled { cluster_roles: gathered, ..Compiled::default() };
    for (object, binding) in bindings.iter().flatten() {
        let RoleRef { kind, name } = &binding.role_ref;
        let rules = match kind.as_str() {
            "ClusterRole" => compiled.cluster_roles.get(name).cloned(),
            _ => local.get(&(&*object.namespace, name)).map(|role| role.rules.clone()),
        };
        let rules =
            rules.ok_or_else(|| format!("{}.{GROUP} {name:?} not found", kind.to_lowercase()));
        let (of, told) = match &*object.namespace {
            "" => (&mut compiled.cluster, format!("ClusterRoleBinding {:?}", object.name)),
            namespace => (
                compiled.namespaces.entry(namespace.to_owned()).or_default(),
                format!("RoleBinding \"{}/{namespace}\"", object.name),
            ),
        };
        for subject in &binding.subjects {
            let told = format!("{told} of {kind} {name:?} to {}", subject.told()).into();
            of.grant(subject, &object.namespace, Grant { rules: rules.clone(), told });
        }
    }
    compiled
}

/// The rules of a cluster role; of an aggregating one those of all roles that its selectors find,
/// through any number of steps.
fn aggregate(name: &str, roles: &BTreeMap<&str, &Role>) -> Arc<[Rule]> {
    let Some(Role { selectors: Some(_), .. }) = roles.get(name) else {
        return roles.get(name).map(|role| role.rules.clone()).unwrap_or_default();
    };
    let (mut seen, mut open, mut rules) = (vec![name], vec![name], Vec::new());
    while let Some(role) = open.pop().and_then(|name| roles.get(name)) {
        let Some(selectors) = &role.selectors else {
            rules.extend(role.rules.iter().cloned());
            continue;
        };
        for (name, role) in roles {
            let is_chosen = selectors.iter().any(|selector| selector.matches_labels(&role.labels));
            if is_chosen && !seen.contains(name) {
                seen.push(name);
                open.push(name);
            }
        }
    }
    rules.into()
}

impl Subjects {
    /// Adds a grant; a service account without a namespace is one of the binding's.
    fn grant(&mut self, subject: &Subject, namespace: &str, grant: Grant) {
        let by_name = match subject.kind.as_str() {
            "User" => self.users.entry(subject.name.clone()),
            "Group" => self.groups.entry(subject.name.clone()),
            "ServiceAccount" => {
                let own = subject.namespace.as_str();
                let namespace = if own.is_empty() { namespace } else { own };
                self.users.entry(format!("system:serviceaccount:{namespace}:{}", subject.name))
            }
            _ => return,
        };
        by_name.or_default().push(grant);
    }
}

impl Subject {
    fn told(&self) -> String {
        match self.kind.as_str() {
            "ServiceAccount" => format!("ServiceAccount \"{}/{}\"", self.name, self.namespace),
            kind => format!("{kind} {:?}", self.name),
        }
    }
}
