//! Rows of the pod itself and of what the scheduler reads.

use super::{Type, When, honoured, into, refused, so, without};

const NO_KERNEL: &str = "a WASM container has no kernel interface that could hold it";
const NO_USERS: &str = "a guest has no users and groups";
const NO_CALLS: &str = "a guest makes no system calls";
const OTHER_PODS: &str = "the scheduler doesn't look at other pods yet";
const A_WISH: &str = "a wish, and the scheduler doesn't look at other pods yet";

pub const TYPES: &[Type] = &[
    Type {
        name: "PodSpec",
        fields: &[
            into("volumes", "Volume"),
            into("initContainers", "Container"),
            into("containers", "Container"),
            into("ephemeralContainers", "EphemeralContainer"),
            honoured("restartPolicy"),
            so(
                "terminationGracePeriodSeconds",
                "handlers drain; a command may end by itself, since WASI has no signals, and is ended then",
            ),
            honoured("activeDeadlineSeconds"),
            refused(
                "dnsPolicy",
                When::OneOf(&["None"]),
                "names are answered in the node's process, which asks no other nameserver",
            ),
            honoured("nodeSelector"),
            honoured("serviceAccountName"),
            honoured("serviceAccount"),
            honoured("automountServiceAccountToken"),
            honoured("nodeName"),
            refused("hostNetwork", When::True, "WASM containers have addresses of their own"),
            refused("hostPID", When::True, NO_KERNEL),
            refused("hostIPC", When::True, NO_KERNEL),
            refused("shareProcessNamespace", When::True, NO_KERNEL),
            into("securityContext", "PodSecurityContext"),
            into("imagePullSecrets", "LocalObjectReference"),
            so("hostname", "in the variable `HOSTNAME` and in names"),
            so("subdomain", "in the pod's own name; other pods don't find it yet"),
            into("affinity", "Affinity"),
            honoured("schedulerName"),
            into("tolerations", "Toleration"),
            into("hostAliases", "HostAlias"),
            without("priorityClassName", "no PriorityClass is served"),
            so("priority", "in the order of scheduling"),
            into("dnsConfig", "PodDNSConfig"),
            into("readinessGates", "PodReadinessGate"),
            refused("runtimeClassName", When::Set, "no RuntimeClass is known here"),
            honoured("enableServiceLinks"),
            without("preemptionPolicy", "nothing is preempted"),
            honoured("overhead"),
            into("topologySpreadConstraints", "TopologySpreadConstraint"),
            honoured("setHostnameAsFQDN"),
            into("os", "PodOS"),
            without("hostUsers", NO_USERS),
            into("schedulingGates", "PodSchedulingGate"),
            refused("resourceClaims", When::Set, "this node has no such devices"),
            refused("resources", When::Set, "limits hold for each container"),
            honoured("hostnameOverride"),
            refused("schedulingGroup", When::Set, "no PodGroup is served"),
            without("evictionResponders", "no eviction is requested of anybody"),
        ],
    },
    Type {
        name: "PodSecurityContext",
        fields: &[
            refused("seLinuxOptions", When::Set, NO_KERNEL),
            refused("windowsOptions", When::Set, NO_KERNEL),
            without("runAsUser", NO_USERS),
            without("runAsGroup", NO_USERS),
            without("runAsNonRoot", NO_USERS),
            without("supplementalGroups", NO_USERS),
            without("supplementalGroupsPolicy", NO_USERS),
            without("fsGroup", NO_USERS),
            refused("sysctls", When::Set, NO_KERNEL),
            without("fsGroupChangePolicy", NO_USERS),
            without("seccompProfile", NO_CALLS),
            without("appArmorProfile", NO_CALLS),
            without("seLinuxChangePolicy", NO_CALLS),
        ],
    },
    Type { name: "LocalObjectReference", fields: &[honoured("name")] },
    Type {
        name: "Affinity",
        fields: &[
            into("nodeAffinity", "NodeAffinity"),
            into("podAffinity", "PodAffinity"),
            into("podAntiAffinity", "PodAntiAffinity"),
        ],
    },
    Type {
        name: "NodeAffinity",
        fields: &[
            into("requiredDuringSchedulingIgnoredDuringExecution", "NodeSelector"),
            into("preferredDuringSchedulingIgnoredDuringExecution", "PreferredSchedulingTerm"),
        ],
    },
    Type { name: "NodeSelector", fields: &[into("nodeSelectorTerms", "NodeSelectorTerm")] },
    Type {
        name: "NodeSelectorTerm",
        fields: &[
            into("matchExpressions", "NodeSelectorRequirement"),
            into("matchFields", "NodeSelectorRequirement"),
        ],
    },
    Type {
        name: "NodeSelectorRequirement",
        fields: &[honoured("key"), honoured("operator"), honoured("values")],
    },
    Type {
        name: "PreferredSchedulingTerm",
        fields: &[honoured("weight"), into("preference", "NodeSelectorTerm")],
    },
    Type {
        name: "PodAffinity",
        fields: &[
            refused("requiredDuringSchedulingIgnoredDuringExecution", When::Set, OTHER_PODS),
            without("preferredDuringSchedulingIgnoredDuringExecution", A_WISH),
        ],
    },
    Type {
        name: "PodAntiAffinity",
        fields: &[
            refused("requiredDuringSchedulingIgnoredDuringExecution", When::Set, OTHER_PODS),
            without("preferredDuringSchedulingIgnoredDuringExecution", A_WISH),
        ],
    },
    Type {
        name: "TopologySpreadConstraint",
        fields: &[
            without("maxSkew", A_WISH),
            without("topologyKey", A_WISH),
            refused("whenUnsatisfiable", When::OneOf(&["DoNotSchedule"]), OTHER_PODS),
            without("labelSelector", A_WISH),
            without("minDomains", A_WISH),
            without("nodeAffinityPolicy", A_WISH),
            without("nodeTaintsPolicy", A_WISH),
            without("matchLabelKeys", A_WISH),
        ],
    },
    Type {
        name: "Toleration",
        fields: &[
            honoured("key"),
            honoured("operator"),
            honoured("value"),
            honoured("effect"),
            honoured("tolerationSeconds"),
        ],
    },
    Type { name: "HostAlias", fields: &[honoured("ip"), honoured("hostnames")] },
    Type {
        name: "PodDNSConfig",
        fields: &[
            refused(
                "nameservers",
                When::Set,
                "names are answered in the node's process, which asks no other nameserver",
            ),
            honoured("searches"),
            into("options", "PodDNSConfigOption"),
        ],
    },
    Type {
        name: "PodDNSConfigOption",
        fields: &[
            so("name", "`ndots`; the others are about asking nameservers, which no guest does"),
            honoured("value"),
        ],
    },
    Type { name: "PodReadinessGate", fields: &[honoured("conditionType")] },
    Type { name: "PodSchedulingGate", fields: &[honoured("name")] },
    Type {
        name: "PodOS",
        fields: &[refused("name", When::NotOneOf(&["", "linux"]), "this node runs linux pods")],
    },
];
