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
                "handlers drain; a command reads the end of its stdin, since WASI has no signals, and is ended when the period is over",
            )
            .but_containers(),
            honoured("activeDeadlineSeconds"),
            refused(
                "dnsPolicy",
                When::OneOf(&["None"]),
                "names are answered in the node's process, which asks no other nameserver",
            )
            .but_containers(),
            honoured("nodeSelector"),
            honoured("serviceAccountName"),
            honoured("serviceAccount"),
            honoured("automountServiceAccountToken"),
            honoured("nodeName"),
            refused("hostNetwork", When::True, "WASM containers have addresses of their own")
                .but_containers(),
            refused("hostPID", When::True, NO_KERNEL).but_containers(),
            refused("hostIPC", When::True, NO_KERNEL).but_containers(),
            refused("shareProcessNamespace", When::True, NO_KERNEL).but_containers(),
            into("securityContext", "PodSecurityContext"),
            into("imagePullSecrets", "LocalObjectReference"),
            so("hostname", "in the variable `HOSTNAME` and in names").but_containers(),
            so("subdomain", "in the pod's own name; other pods don't find it yet"),
            into("affinity", "Affinity"),
            honoured("schedulerName"),
            into("tolerations", "Toleration"),
            into("hostAliases", "HostAlias"),
            without("priorityClassName", "no PriorityClass is looked up yet"),
            so("priority", "in the order of scheduling"),
            into("dnsConfig", "PodDNSConfig"),
            into("readinessGates", "PodReadinessGate"),
            so("runtimeClassName", "with the handler `wasm`; `docker` is for containers")
                .but_containers_so("with the handler `docker`; `wasm` is for WASM"),
            honoured("enableServiceLinks"),
            without("preemptionPolicy", "nothing is preempted"),
            honoured("overhead"),
            into("topologySpreadConstraints", "TopologySpreadConstraint"),
            honoured("setHostnameAsFQDN"),
            into("os", "PodOS"),
            without("hostUsers", NO_USERS)
                .but_containers_refuse(When::False, "containers have the host's users"),
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
            refused("seLinuxOptions", When::Set, NO_KERNEL)
                .but_containers_refuse(When::Set, "this node labels nothing for SELinux"),
            refused("windowsOptions", When::Set, NO_KERNEL)
                .but_containers_refuse(When::Set, "this node runs linux containers"),
            without("runAsUser", NO_USERS).but_containers(),
            without("runAsGroup", NO_USERS).but_containers(),
            without("runAsNonRoot", NO_USERS).but_containers(),
            without("supplementalGroups", NO_USERS).but_containers(),
            without("supplementalGroupsPolicy", NO_USERS).but_containers_refuse(
                When::OneOf(&["Strict"]),
                "the engine adds the groups that the image names",
            ),
            without("fsGroup", NO_USERS).but_containers(),
            refused("sysctls", When::Set, NO_KERNEL)
                .to("Sysctl")
                .but_containers_so("those that hold for one pod alone"),
            without("fsGroupChangePolicy", NO_USERS).but_for_containers_without(
                "volumes are given to the group when they are made, and are new then",
            ),
            without("seccompProfile", NO_CALLS)
                .to("SeccompProfile")
                .but_containers_so("none: the engine's own profile"),
            without("appArmorProfile", NO_CALLS).to("AppArmorProfile").but_containers(),
            without("seLinuxChangePolicy", NO_CALLS)
                .but_for_containers_without("this node labels nothing for SELinux"),
        ],
    },
    Type {
        name: "Sysctl",
        fields: &[
            without("name", NO_KERNEL).but_containers(),
            without("value", NO_KERNEL).but_containers(),
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
            )
            .but_containers(),
            honoured("searches"),
            into("options", "PodDNSConfigOption"),
        ],
    },
    Type {
        name: "PodDNSConfigOption",
        fields: &[
            so("name", "`ndots`; the others are about asking nameservers, which no guest does")
                .but_containers(),
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
