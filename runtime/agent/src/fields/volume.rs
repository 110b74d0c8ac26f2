//! Rows of volumes and mounts.

use super::{Type, When, honoured, into, refused, so, without};

const NO_STORAGE: &str = "this node has no such storage";
const NO_USERS: &str = "a guest has no users and groups";
const NO_OWNERS: &str = "files of volumes belong to root, and to the group that fsGroup names";

pub const TYPES: &[Type] = &[
    Type {
        name: "Volume",
        fields: &[
            honoured("name"),
            into("hostPath", "HostPathVolumeSource"),
            into("emptyDir", "EmptyDirVolumeSource"),
            refused("gcePersistentDisk", When::Set, NO_STORAGE),
            refused("awsElasticBlockStore", When::Set, NO_STORAGE),
            refused("gitRepo", When::Set, NO_STORAGE),
            into("secret", "SecretVolumeSource"),
            refused("nfs", When::Set, NO_STORAGE),
            refused("iscsi", When::Set, NO_STORAGE),
            refused("glusterfs", When::Set, NO_STORAGE),
            refused("persistentVolumeClaim", When::Set, NO_STORAGE),
            refused("rbd", When::Set, NO_STORAGE),
            refused("flexVolume", When::Set, NO_STORAGE),
            refused("cinder", When::Set, NO_STORAGE),
            refused("cephfs", When::Set, NO_STORAGE),
            refused("flocker", When::Set, NO_STORAGE),
            into("downwardAPI", "DownwardAPIVolumeSource"),
            refused("fc", When::Set, NO_STORAGE),
            refused("azureFile", When::Set, NO_STORAGE),
            into("configMap", "ConfigMapVolumeSource"),
            refused("vsphereVolume", When::Set, NO_STORAGE),
            refused("quobyte", When::Set, NO_STORAGE),
            refused("azureDisk", When::Set, NO_STORAGE),
            refused("photonPersistentDisk", When::Set, NO_STORAGE),
            into("projected", "ProjectedVolumeSource"),
            refused("portworxVolume", When::Set, NO_STORAGE),
            refused("scaleIO", When::Set, NO_STORAGE),
            refused("storageos", When::Set, NO_STORAGE),
            refused("csi", When::Set, NO_STORAGE),
            refused("ephemeral", When::Set, NO_STORAGE),
            refused("image", When::Set, NO_STORAGE),
        ],
    },
    Type { name: "HostPathVolumeSource", fields: &[honoured("path"), honoured("type")] },
    Type {
        name: "EmptyDirVolumeSource",
        fields: &[
            refused("medium", When::NotOneOf(&["", "Memory"]), "no huge pages are kept here"),
            so(
                "sizeLimit",
                "measured every 10 seconds, in memory every 2; past it the pod is evicted",
            ),
            honoured("mode"),
        ],
    },
    Type {
        name: "SecretVolumeSource",
        fields: &[
            honoured("secretName"),
            into("items", "KeyToPath"),
            honoured("defaultMode"),
            honoured("optional"),
            without("defaultUser", NO_USERS).but_containers_refuse(When::Set, NO_OWNERS),
        ],
    },
    Type {
        name: "ConfigMapVolumeSource",
        fields: &[
            honoured("name"),
            into("items", "KeyToPath"),
            honoured("defaultMode"),
            honoured("optional"),
            without("defaultUser", NO_USERS).but_containers_refuse(When::Set, NO_OWNERS),
        ],
    },
    Type {
        name: "KeyToPath",
        fields: &[
            honoured("key"),
            honoured("path"),
            honoured("mode"),
            without("user", NO_USERS).but_containers_refuse(When::Set, NO_OWNERS),
        ],
    },
    Type {
        name: "DownwardAPIVolumeSource",
        fields: &[
            into("items", "DownwardAPIVolumeFile"),
            honoured("defaultMode"),
            without("defaultUser", NO_USERS).but_containers_refuse(When::Set, NO_OWNERS),
        ],
    },
    Type {
        name: "DownwardAPIVolumeFile",
        fields: &[
            honoured("path"),
            into("fieldRef", "ObjectFieldSelector"),
            into("resourceFieldRef", "ResourceFieldSelector"),
            honoured("mode"),
            without("user", NO_USERS).but_containers_refuse(When::Set, NO_OWNERS),
        ],
    },
    Type {
        name: "ProjectedVolumeSource",
        fields: &[
            into("sources", "VolumeProjection"),
            honoured("defaultMode"),
            without("defaultUser", NO_USERS).but_containers_refuse(When::Set, NO_OWNERS),
        ],
    },
    Type {
        name: "VolumeProjection",
        fields: &[
            into("secret", "SecretProjection"),
            into("downwardAPI", "DownwardAPIProjection"),
            into("configMap", "ConfigMapProjection"),
            into("serviceAccountToken", "ServiceAccountTokenProjection"),
            refused("clusterTrustBundle", When::Set, "no ClusterTrustBundle is served"),
            refused("podCertificate", When::Set, "no PodCertificateRequest is served"),
        ],
    },
    Type {
        name: "SecretProjection",
        fields: &[honoured("name"), into("items", "KeyToPath"), honoured("optional")],
    },
    Type {
        name: "ConfigMapProjection",
        fields: &[honoured("name"), into("items", "KeyToPath"), honoured("optional")],
    },
    Type { name: "DownwardAPIProjection", fields: &[into("items", "DownwardAPIVolumeFile")] },
    Type {
        name: "ServiceAccountTokenProjection",
        fields: &[
            honoured("audience"),
            honoured("expirationSeconds"),
            honoured("path"),
            without("user", NO_USERS).but_containers_refuse(When::Set, NO_OWNERS),
        ],
    },
    Type {
        name: "VolumeMount",
        fields: &[
            honoured("name"),
            honoured("readOnly"),
            so("recursiveReadOnly", "a read-only mount is so as a whole"),
            honoured("mountPath"),
            honoured("subPath"),
            refused(
                "mountPropagation",
                When::OneOf(&["Bidirectional"]),
                "a WASM container has no kernel interface that could hold it",
            )
            .but_containers_refuse(
                When::OneOf(&["Bidirectional", "HostToContainer"]),
                "what is mounted later is not passed on",
            ),
            honoured("subPathExpr"),
            without("bindMountOptions", "a guest executes nothing from a mount")
                .but_containers_refuse(When::Set, "the engine's mounts have no such options"),
        ],
    },
];
