//! The rows of groups that nothing in this version acts on, or of which little does: storage,
//! autoscaling, certificates, flow control, admission registration, devices, API registration.

use super::{Flags, INERT, INERT_RETURNS, PLAIN, row};
use crate::{
    computed::Source,
    kind::{GroupVersion, Kind},
    strategies::{
        admissionregistration as admission, apiregistration, authorization, autoscaling,
        certificates, core, flowcontrol, networking, resource, storage, storagemigration,
    },
};

const ADMISSION: &str = "admissionregistration.k8s.io";
const AUTOSCALING: &str = "autoscaling";
const CERTIFICATES: &str = "certificates.k8s.io";
const FLOW_CONTROL: &str = "flowcontrol.apiserver.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const RESOURCE: &str = "resource.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const INERT_CONDITIONAL: Flags = Flags { conditional_update_only: true, ..INERT };
const INERT_CONDITIONAL_RETURNS: Flags = Flags { conditional_update_only: true, ..INERT_RETURNS };
const STATUS: &[&str] = &["status"];
const NONE: &[&str] = &[];

pub(super) fn rows() -> Vec<Option<Kind>> {
    let autoscalers = row(
        AUTOSCALING,
        "v2",
        "horizontalpodautoscalers",
        STATUS,
        INERT,
        &[],
        autoscaling::PodAutoscaler,
    );
    let mut rows = vec![
        row("", "v1", "persistentvolumes", STATUS, INERT_RETURNS, &[], core::Volume),
        row("", "v1", "bindings", NONE, PLAIN, &[], authorization::Review(None))
            .map(|kind| Kind { virtual_only: true, ..kind }),
        row("", "v1", "componentstatuses", NONE, PLAIN, &[], core::ComponentStatus).map(|kind| {
            Kind {
                virtual_only: true,
                computed: Some(Source::Components(core::component_report)),
                ..kind
            }
        }),
        autoscalers.map(|kind| Kind {
            served: vec![
                GroupVersion::new(AUTOSCALING, "v2"),
                GroupVersion::new(AUTOSCALING, "v1"),
            ],
            ..kind
        }),
        row(NETWORKING, "v1", "ipaddresses", NONE, INERT, &[], networking::IpAddress),
        row(NETWORKING, "v1", "servicecidrs", STATUS, INERT, &[], networking::ServiceCidr),
    ];
    rows.extend(storage_rows());
    rows.extend(certificate_rows());
    rows.extend(admission_rows());
    rows.extend(device_rows());
    rows.extend([
        row(FLOW_CONTROL, "v1", "flowschemas", STATUS, INERT, &[], flowcontrol::FlowSchema),
        row(
            FLOW_CONTROL,
            "v1",
            "prioritylevelconfigurations",
            STATUS,
            INERT,
            &[],
            flowcontrol::PriorityLevel,
        ),
        row(
            "apiregistration.k8s.io",
            "v1",
            "apiservices",
            STATUS,
            // A reference to another server leads nowhere yet.
            INERT_CONDITIONAL,
            &[],
            apiregistration::ApiService,
        ),
        row(
            "storagemigration.k8s.io",
            "v1",
            "storageversionmigrations",
            STATUS,
            INERT_CONDITIONAL,
            &[],
            storagemigration::VersionMigration,
        ),
    ]);
    rows
}

fn storage_rows() -> Vec<Option<Kind>> {
    vec![
        row(STORAGE, "v1", "csidrivers", NONE, INERT_CONDITIONAL_RETURNS, &[], storage::CsiDriver),
        row(STORAGE, "v1", "csinodes", STATUS, INERT_CONDITIONAL_RETURNS, &[], storage::CsiNode),
        row(
            STORAGE,
            "v1",
            "csistoragecapacities",
            NONE,
            INERT_CONDITIONAL,
            &[],
            storage::CsiStorageCapacity,
        ),
        row(STORAGE, "v1", "storageclasses", NONE, INERT_RETURNS, &[], storage::StorageClass),
        row(
            STORAGE,
            "v1",
            "volumeattachments",
            STATUS,
            INERT_CONDITIONAL_RETURNS,
            &[],
            storage::VolumeAttachment,
        ),
        row(
            STORAGE,
            "v1",
            "volumeattributesclasses",
            NONE,
            INERT_RETURNS,
            &[],
            storage::VolumeAttributesClass,
        ),
    ]
}

fn certificate_rows() -> Vec<Option<Kind>> {
    vec![
        row(
            CERTIFICATES,
            "v1",
            "certificatesigningrequests",
            &["approval", "status"],
            INERT,
            &[("spec.signerName", "")],
            certificates::SigningRequest,
        ),
        row(
            CERTIFICATES,
            "v1",
            "clustertrustbundles",
            NONE,
            INERT_CONDITIONAL,
            &[("spec.signerName", "")],
            certificates::ClusterTrustBundle,
        ),
        row(
            CERTIFICATES,
            "v1",
            "podcertificaterequests",
            STATUS,
            INERT_CONDITIONAL,
            &[("spec.signerName", ""), ("spec.podName", ""), ("spec.nodeName", "")],
            certificates::PodCertificateRequest,
        ),
    ]
}

fn admission_rows() -> Vec<Option<Kind>> {
    let plain =
        |plural, strategy| row(ADMISSION, "v1", plural, NONE, INERT_CONDITIONAL, &[], strategy);
    let policy = |plural, subresources: &[&str], mutating| {
        let strategy = admission::Policy { mutating };
        row(ADMISSION, "v1", plural, subresources, INERT_CONDITIONAL, &[], strategy)
    };
    let binding = |plural, mutating| {
        let strategy = admission::PolicyBinding { mutating };
        row(ADMISSION, "v1", plural, NONE, INERT_CONDITIONAL, &[], strategy)
    };
    vec![
        plain("mutatingwebhookconfigurations", admission::Webhooks { mutating: true }),
        plain("validatingwebhookconfigurations", admission::Webhooks { mutating: false }),
        policy("mutatingadmissionpolicies", NONE, true),
        policy("validatingadmissionpolicies", STATUS, false),
        binding("mutatingadmissionpolicybindings", true),
        binding("validatingadmissionpolicybindings", false),
    ]
}

fn device_rows() -> Vec<Option<Kind>> {
    vec![
        row(RESOURCE, "v1", "deviceclasses", NONE, INERT_RETURNS, &[], resource::DeviceClass),
        row(
            RESOURCE,
            "v1",
            "devicetaintrules",
            STATUS,
            INERT_CONDITIONAL,
            &[],
            resource::TaintRule,
        ),
        row(RESOURCE, "v1", "resourceclaims", STATUS, INERT_RETURNS, &[], resource::Claim),
        row(
            RESOURCE,
            "v1",
            "resourceclaimtemplates",
            NONE,
            INERT_RETURNS,
            &[],
            resource::ClaimTemplate,
        ),
        row(
            RESOURCE,
            "v1",
            "resourceslices",
            NONE,
            INERT_RETURNS,
            &[("spec.nodeName", ""), ("spec.driver", ""), ("spec.pool.name", "")],
            resource::Slice,
        ),
    ]
}
