//! The table of built-in kinds. What upstream calls them, their verbs and columns are facts; a row
//! adds what is ours to say: which subresources we serve, what selectors may name, the strategy.

mod rest;

use std::{borrow::Cow, sync::Arc};

use windlass_apiserver_schema::{ResourceFacts, Schema};

use crate::{
    computed::{Computed, Source},
    kind::{Column, GroupVersion, Kind, Selectable, Subresource},
    strategies::{
        apps,
        authorization::{self, Question},
        batch, coordination, core, discovery, metrics, networking, node, policy, rbac, scheduling,
        windlass,
    },
    strategy::Strategy,
};

const RBAC: &str = "rbac.authorization.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const METRICS: &str = "metrics.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// How a kind takes writes that upstream treats differently from kind to kind.
#[derive(Clone, Copy, Default)]
struct Flags {
    create_on_update: bool,
    /// Updates must carry a resourceVersion.
    conditional_update_only: bool,
    returns_deleted: bool,
    /// See `Kind::inert`.
    inert: bool,
}

const PLAIN: Flags = Flags {
    create_on_update: false,
    conditional_update_only: false,
    returns_deleted: false,
    inert: false,
};
const INERT: Flags = Flags { inert: true, ..PLAIN };
const INERT_UPSERT: Flags = Flags { create_on_update: true, ..INERT };
const INERT_RETURNS: Flags = Flags { returns_deleted: true, ..INERT };
const CONDITIONAL: Flags = Flags { conditional_update_only: true, ..PLAIN };
const CONDITIONAL_UPSERT: Flags = Flags { create_on_update: true, ..CONDITIONAL };
const UPSERT: Flags = Flags { create_on_update: true, ..PLAIN };
const RETURNS: Flags = Flags { returns_deleted: true, ..PLAIN };

/// Kinds whose update upstream judges as a whole, names included.
const JUDGE_BASE_ON_UPDATE: [&str; 19] = [
    "configmaps",
    "csistoragecapacities",
    "endpointslices",
    "ipaddresses",
    "limitranges",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "mutatingwebhookconfigurations",
    "namespaces",
    "persistentvolumeclaims",
    "pods",
    "prioritylevelconfigurations",
    "resourceclaims",
    "runtimeclasses",
    "serviceaccounts",
    "storageclasses",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
];

/// All kinds that are compiled in.
pub fn builtin() -> Vec<Kind> {
    let mut rows: Vec<Option<Kind>> = core_rows();
    rows.extend(rest::rows());
    rows.extend([
        row("apps", "v1", "controllerrevisions", &[], PLAIN, &[], apps::ControllerRevision),
        row("apps", "v1", "daemonsets", &["status"], INERT, &[], apps::DaemonSet),
        row("apps", "v1", "deployments", &["scale", "status"], PLAIN, &[], apps::Deployment),
        row("apps", "v1", "replicasets", &["scale", "status"], PLAIN, &[], apps::ReplicaSet),
        row("apps", "v1", "statefulsets", &["scale", "status"], INERT, &[], apps::StatefulSet),
        row("batch", "v1", "cronjobs", &["status"], INERT, &[], batch::CronJob),
        row("batch", "v1", "jobs", &["status"], INERT, &[], batch::Job).map(|kind| Kind {
            selectable: vec![Selectable::new("status.successful", "status.succeeded", "0")],
            ..kind
        }),
        row(
            "coordination.k8s.io",
            "v1",
            "leases",
            &[],
            Flags { conditional_update_only: true, ..UPSERT },
            &[],
            coordination::Lease,
        ),
        row("discovery.k8s.io", "v1", "endpointslices", &[], PLAIN, &[], discovery::EndpointSlice),
        row(NETWORKING, "v1", "ingressclasses", &[], INERT, &[], networking::IngressClass),
        row(NETWORKING, "v1", "ingresses", &["status"], INERT, &[], networking::Ingress),
        row(NETWORKING, "v1", "networkpolicies", &[], INERT, &[], networking::NetworkPolicy),
        row(
            "node.k8s.io",
            "v1",
            "runtimeclasses",
            &[],
            CONDITIONAL_UPSERT,
            &[],
            node::RuntimeClass,
        ),
        row(
            "policy",
            "v1",
            "poddisruptionbudgets",
            &["status"],
            CONDITIONAL,
            &[],
            policy::DisruptionBudget,
        ),
        row(RBAC, "v1", "clusterroles", &[], UPSERT, &[], rbac::Role { namespaced: false }),
        row(
            RBAC,
            "v1",
            "clusterrolebindings",
            &[],
            UPSERT,
            &[],
            rbac::Binding { namespaced: false },
        ),
        row(RBAC, "v1", "roles", &[], UPSERT, &[], rbac::Role { namespaced: true }),
        row(RBAC, "v1", "rolebindings", &[], UPSERT, &[], rbac::Binding { namespaced: true }),
        row(
            "scheduling.k8s.io",
            "v1",
            "priorityclasses",
            &[],
            PLAIN,
            &[],
            scheduling::PriorityClass,
        ),
        row(
            "windlass.dev",
            "v1",
            "keyvalues",
            &[],
            UPSERT,
            &[("spec.store", ""), ("spec.key", "")],
            windlass::KeyValue,
        ),
    ]);
    let access = |named, local| Question::Access { named, local };
    rows.extend(
        [
            ("authentication.k8s.io", "selfsubjectreviews", Question::Identity),
            ("authentication.k8s.io", "tokenreviews", Question::Token),
            (AUTHORIZATION, "localsubjectaccessreviews", access(true, true)),
            (AUTHORIZATION, "selfsubjectaccessreviews", access(false, false)),
            (AUTHORIZATION, "selfsubjectrulesreviews", Question::Rules),
            (AUTHORIZATION, "subjectaccessreviews", access(true, false)),
        ]
        .map(|(group, plural, question)| {
            let review = authorization::Review(Some(question));
            let kind = row(group, "v1", plural, &[], PLAIN, &[], review)?;
            Some(Kind { virtual_only: true, ..kind })
        }),
    );
    rows.push(Some(computed("nodes", "NodeMetrics", false, metrics::NodeMetrics)));
    rows.push(Some(computed("pods", "PodMetrics", true, metrics::PodMetrics)));
    rows.into_iter().flatten().collect()
}

fn core_rows() -> Vec<Option<Kind>> {
    let events = row("", "v1", "events", &[], UPSERT, &[], core::Event).map(|kind| Kind {
        served: vec![GroupVersion::new("", "v1"), GroupVersion::new("events.k8s.io", "v1")],
        selectable: core::event_selectable(),
        ..kind
    });
    let mut pods = row(
        "",
        "v1",
        "pods",
        &[
            "attach",
            "binding",
            "ephemeralcontainers",
            "eviction",
            "exec",
            "log",
            "portforward",
            "proxy",
            "resize",
            "status",
        ],
        RETURNS,
        &[
            ("spec.nodeName", ""),
            ("spec.restartPolicy", ""),
            ("spec.schedulerName", ""),
            ("spec.serviceAccountName", ""),
            ("spec.hostNetwork", "false"),
            ("status.phase", ""),
            ("status.podIP", ""),
            ("status.nominatedNodeName", ""),
        ],
        core::Pod,
    );
    if let Some(pods) = &mut pods {
        pods.selectable.push(Selectable::new("spec.host", "spec.nodeName", ""));
        pods.selectable.push(Selectable::new("status.podIPs", "status.podIPs.ip", ""));
    }
    vec![
        row("", "v1", "configmaps", &[], PLAIN, &[], core::ConfigMap),
        row("", "v1", "endpoints", &[], INERT_UPSERT, &[], core::Endpoints),
        events,
        row("", "v1", "limitranges", &[], UPSERT, &[], core::LimitRange),
        row(
            "",
            "v1",
            "namespaces",
            &["finalize", "status"],
            RETURNS,
            &[("status.phase", "")],
            core::Namespace,
        ),
        row(
            "",
            "v1",
            "nodes",
            &["proxy", "status"],
            PLAIN,
            &[("spec.unschedulable", "false")],
            core::Node,
        ),
        row("", "v1", "persistentvolumeclaims", &["status"], INERT_RETURNS, &[], core::VolumeClaim),
        pods,
        row("", "v1", "podtemplates", &[], RETURNS, &[], core::PodTemplate),
        row(
            "",
            "v1",
            "replicationcontrollers",
            &["scale", "status"],
            INERT,
            &[("status.replicas", "0")],
            core::ReplicationController,
        ),
        row("", "v1", "resourcequotas", &["status"], RETURNS, &[], core::ResourceQuota),
        row("", "v1", "secrets", &[], PLAIN, &[("type", "")], core::Secret),
        row("", "v1", "serviceaccounts", &["token"], RETURNS, &[], core::ServiceAccount),
        row(
            "",
            "v1",
            "services",
            &["proxy", "status"],
            Flags { create_on_update: true, ..RETURNS },
            &[("spec.clusterIP", ""), ("spec.type", "")],
            core::Service,
        ),
    ]
}

/// A row from the facts about a resource; None where the facts table lacks it, which a test over
/// this table would show.
fn row(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    subresources: &[&str],
    flags: Flags,
    selectable: &[(&'static str, &'static str)],
    strategy: impl Strategy + 'static,
) -> Option<Kind> {
    let schema = Schema::builtin();
    let facts = schema.resource(group, version, plural, None)?;
    let subresources = subresources
        .iter()
        .filter_map(|name| schema.resource(group, version, plural, Some(name)))
        .map(subresource)
        .collect();
    Some(Kind {
        served: vec![GroupVersion::new(group, version)],
        kind: facts.kind.into(),
        list_kind: facts.list_kind.unwrap_or_default().into(),
        plural: plural.into(),
        singular: facts.singular.into(),
        short_names: borrowed(&facts.short_names),
        categories: borrowed(&facts.categories),
        namespaced: facts.namespaced,
        verbs: borrowed(&facts.verbs),
        subresources,
        selectable: selectable
            .iter()
            .map(|(path, absent)| Selectable::new(*path, *path, absent))
            .collect(),
        columns: columns(facts),
        create_on_update: flags.create_on_update,
        unconditional_update: !flags.conditional_update_only,
        judges_base_on_update: JUDGE_BASE_ON_UPDATE.contains(&plural),
        returns_deleted: flags.returns_deleted,
        virtual_only: false,
        inert: flags.inert,
        warning: None,
        computed: None,
        strategy: Arc::new(strategy),
    })
}

/// A kind of metrics.k8s.io. It is no part of Kubernetes' own API, so the facts table has nothing
/// of it.
fn computed(
    plural: &'static str,
    kind: &'static str,
    namespaced: bool,
    strategy: impl Strategy + Computed + Copy + 'static,
) -> Kind {
    let column = |name: &'static str, format: &'static str| Column {
        name: name.into(),
        data_type: "string".into(),
        format: format.into(),
        description: "".into(),
        priority: 0,
    };
    Kind {
        served: vec![GroupVersion::new(METRICS, "v1beta1"), GroupVersion::new(METRICS, "v1")],
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        plural: plural.into(),
        singular: "".into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        namespaced,
        verbs: borrowed(&["get", "list"]),
        subresources: Vec::new(),
        selectable: Vec::new(),
        columns: vec![
            column("Name", "name"),
            column("cpu", ""),
            column("memory", ""),
            column("Window", "duration"),
        ],
        create_on_update: false,
        unconditional_update: false,
        judges_base_on_update: false,
        returns_deleted: false,
        virtual_only: true,
        inert: false,
        warning: None,
        computed: Some(Source::Nodes(Arc::new(strategy))),
        strategy: Arc::new(strategy),
    }
}

fn subresource(facts: &'static ResourceFacts) -> Subresource {
    Subresource {
        name: facts.subresource.unwrap_or_default().into(),
        group: facts.kind_group.into(),
        version: facts.kind_version.into(),
        kind: facts.kind.into(),
        verbs: borrowed(&facts.verbs),
    }
}

fn columns(facts: &'static ResourceFacts) -> Vec<Column> {
    let columns = facts.columns.iter().map(|column| Column {
        name: column.name.into(),
        data_type: column.ty.into(),
        format: column.format.into(),
        description: "".into(),
        priority: column.priority,
    });
    columns.collect()
}

fn borrowed(names: &[&'static str]) -> Vec<Cow<'static, str>> {
    names.iter().map(|name| Cow::Borrowed(*name)).collect()
}
