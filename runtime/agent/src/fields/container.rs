//! Rows of containers, their probes and hooks.

use super::{Type, When, honoured, into, refused, so, without};

const NO_KERNEL: &str = "a WASM container has no kernel interface that could hold it";
const NO_USERS: &str = "a guest has no users and groups";
const NO_CALLS: &str = "a guest makes no system calls";
const NO_SELINUX: &str = "this node labels nothing for SELinux";
const NO_WINDOWS: &str = "this node runs linux containers";

pub const TYPES: &[Type] = &[
    Type {
        name: "Container",
        fields: &[
            honoured("name"),
            honoured("image"),
            honoured("command"),
            honoured("args"),
            honoured("workingDir"),
            into("ports", "ContainerPort"),
            into("envFrom", "EnvFromSource"),
            into("env", "EnvVar"),
            into("resources", "ResourceRequirements"),
            into("resizePolicy", "ContainerResizePolicy"),
            honoured("restartPolicy"),
            into("restartPolicyRules", "ContainerRestartRule"),
            into("volumeMounts", "VolumeMount"),
            refused("volumeDevices", When::Set, NO_KERNEL)
                .but_containers_refuse(When::Set, "this node has no such storage"),
            into("livenessProbe", "Probe"),
            into("readinessProbe", "Probe"),
            into("startupProbe", "Probe"),
            into("lifecycle", "Lifecycle"),
            honoured("terminationMessagePath"),
            honoured("terminationMessagePolicy"),
            so("imagePullPolicy", "`Always` takes an imported image as it is")
                .but_containers_so("`Always` takes an image that was built here as it is"),
            into("securityContext", "SecurityContext"),
            honoured("stdin"),
            honoured("stdinOnce"),
            honoured("tty"),
        ],
    },
    Type {
        name: "EphemeralContainer",
        fields: &[
            honoured("name"),
            honoured("image"),
            honoured("command"),
            honoured("args"),
            honoured("workingDir"),
            into("ports", "ContainerPort"),
            into("envFrom", "EnvFromSource"),
            into("env", "EnvVar"),
            into("resources", "ResourceRequirements"),
            without("resizePolicy", "such a container isn't resized"),
            honoured("restartPolicy"),
            into("restartPolicyRules", "ContainerRestartRule"),
            into("volumeMounts", "VolumeMount"),
            refused("volumeDevices", When::Set, NO_KERNEL)
                .but_containers_refuse(When::Set, "this node has no such storage"),
            into("livenessProbe", "Probe"),
            into("readinessProbe", "Probe"),
            into("startupProbe", "Probe"),
            into("lifecycle", "Lifecycle"),
            honoured("terminationMessagePath"),
            honoured("terminationMessagePolicy"),
            so("imagePullPolicy", "`Always` takes an imported image as it is")
                .but_containers_so("`Always` takes an image that was built here as it is"),
            into("securityContext", "SecurityContext"),
            honoured("stdin"),
            honoured("stdinOnce"),
            honoured("tty"),
            so("targetContainerName", "its mounts are seen; a guest has no processes to see")
                .but_containers_so("its mounts and its processes are seen"),
        ],
    },
    Type {
        name: "ContainerPort",
        fields: &[
            honoured("name"),
            so("hostPort", "what the node refuses is an Event; the container runs all the same"),
            honoured("containerPort"),
            refused("protocol", When::NotOneOf(&["", "TCP", "UDP"]), "no pod has SCTP here"),
            honoured("hostIP"),
        ],
    },
    Type {
        name: "EnvFromSource",
        fields: &[
            honoured("prefix"),
            into("configMapRef", "ConfigMapEnvSource"),
            into("secretRef", "SecretEnvSource"),
        ],
    },
    Type { name: "ConfigMapEnvSource", fields: &[honoured("name"), honoured("optional")] },
    Type { name: "SecretEnvSource", fields: &[honoured("name"), honoured("optional")] },
    Type {
        name: "EnvVar",
        fields: &[honoured("name"), honoured("value"), into("valueFrom", "EnvVarSource")],
    },
    Type {
        name: "EnvVarSource",
        fields: &[
            into("fieldRef", "ObjectFieldSelector"),
            into("resourceFieldRef", "ResourceFieldSelector"),
            into("configMapKeyRef", "ConfigMapKeySelector"),
            into("secretKeyRef", "SecretKeySelector"),
            into("fileKeyRef", "FileKeySelector"),
        ],
    },
    Type {
        name: "ObjectFieldSelector",
        fields: &[without("apiVersion", "only v1 is valid"), honoured("fieldPath")],
    },
    Type {
        name: "ResourceFieldSelector",
        fields: &[honoured("containerName"), honoured("resource"), honoured("divisor")],
    },
    Type {
        name: "ConfigMapKeySelector",
        fields: &[honoured("name"), honoured("key"), honoured("optional")],
    },
    Type {
        name: "SecretKeySelector",
        fields: &[honoured("name"), honoured("key"), honoured("optional")],
    },
    Type {
        name: "FileKeySelector",
        fields: &[honoured("volumeName"), honoured("path"), honoured("key"), honoured("optional")],
    },
    Type {
        name: "ResourceRequirements",
        fields: &[
            so("limits", "memory, CPU and ephemeral-storage hold; others count for the scheduler"),
            honoured("requests"),
            refused("claims", When::Set, "this node has no such devices"),
        ],
    },
    Type {
        name: "ContainerResizePolicy",
        fields: &[honoured("resourceName"), honoured("restartPolicy")],
    },
    Type {
        name: "ContainerRestartRule",
        fields: &[
            refused(
                "action",
                When::NotOneOf(&["", "Restart"]),
                "only containers restart, not pods",
            ),
            into("exitCodes", "ContainerRestartRuleOnExitCodes"),
        ],
    },
    Type {
        name: "ContainerRestartRuleOnExitCodes",
        fields: &[honoured("operator"), honoured("values")],
    },
    Type {
        name: "Probe",
        fields: &[
            so("exec", "runs the component's command anew in the container's sandbox")
                .to("ExecAction")
                .but_containers_so("runs in the container"),
            so("httpGet", "calls a handler in process")
                .to("HTTPGetAction")
                .but_containers_so("over the pod's network"),
            into("tcpSocket", "TCPSocketAction"),
            into("grpc", "GRPCAction"),
            honoured("initialDelaySeconds"),
            honoured("timeoutSeconds"),
            honoured("periodSeconds"),
            honoured("successThreshold"),
            honoured("failureThreshold"),
            honoured("terminationGracePeriodSeconds"),
        ],
    },
    Type { name: "ExecAction", fields: &[honoured("command")] },
    Type {
        name: "HTTPGetAction",
        fields: &[
            honoured("path"),
            honoured("port"),
            so("host", "reached as the pod reaches it"),
            refused("scheme", When::OneOf(&["HTTPS"]), "probes and hooks speak plain HTTP"),
            into("httpHeaders", "HTTPHeader"),
            refused("protocol", When::NotOneOf(&["", "HTTP1"]), "probes and hooks speak HTTP/1.1"),
        ],
    },
    Type { name: "HTTPHeader", fields: &[honoured("name"), honoured("value")] },
    Type {
        name: "TCPSocketAction",
        fields: &[honoured("port"), so("host", "reached as the pod reaches it")],
    },
    Type {
        name: "GRPCAction",
        fields: &[
            honoured("port"),
            honoured("service"),
            refused("mode", When::OneOf(&["TLS"]), "probes speak plain HTTP"),
        ],
    },
    Type {
        name: "Lifecycle",
        fields: &[
            into("postStart", "LifecycleHandler"),
            into("preStop", "LifecycleHandler"),
            without("stopSignal", "WASI has no signals").but_containers(),
        ],
    },
    Type {
        name: "LifecycleHandler",
        fields: &[
            into("exec", "ExecAction"),
            into("httpGet", "HTTPGetAction"),
            refused("tcpSocket", When::Set, "a hook has to do something"),
            into("sleep", "SleepAction"),
        ],
    },
    Type { name: "SleepAction", fields: &[honoured("seconds")] },
    Type {
        name: "SecurityContext",
        fields: &[
            into("capabilities", "Capabilities"),
            refused("privileged", When::True, NO_KERNEL).but_containers(),
            refused("seLinuxOptions", When::Set, NO_KERNEL)
                .but_containers_refuse(When::Set, NO_SELINUX),
            refused("windowsOptions", When::Set, NO_KERNEL)
                .but_containers_refuse(When::Set, NO_WINDOWS),
            without("runAsUser", NO_USERS).but_containers(),
            without("runAsGroup", NO_USERS).but_containers(),
            without("runAsNonRoot", NO_USERS).but_containers(),
            without("readOnlyRootFilesystem", "a guest has no root file system, only its mounts")
                .but_containers(),
            without("allowPrivilegeEscalation", "a guest has no privileges").but_containers(),
            refused("procMount", When::OneOf(&["Unmasked"]), NO_KERNEL).but_containers_refuse(
                When::OneOf(&["Unmasked"]),
                "it needs user namespaces of the pod's own",
            ),
            without("seccompProfile", NO_CALLS)
                .to("SeccompProfile")
                .but_containers_so("none: the engine's own profile"),
            without("appArmorProfile", NO_CALLS).to("AppArmorProfile").but_containers(),
        ],
    },
    Type {
        name: "SeccompProfile",
        fields: &[
            without("type", NO_CALLS).but_containers_refuse(
                When::OneOf(&["Localhost"]),
                "profiles are the engine's own",
            ),
            without("localhostProfile", "it is about the type `Localhost`"),
        ],
    },
    Type {
        name: "AppArmorProfile",
        fields: &[
            without("type", NO_CALLS).but_containers(),
            without("localhostProfile", NO_CALLS).but_containers(),
        ],
    },
    Type {
        name: "Capabilities",
        fields: &[
            refused("add", When::Set, NO_KERNEL).but_containers(),
            without("drop", "a guest has none").but_containers(),
        ],
    },
];
