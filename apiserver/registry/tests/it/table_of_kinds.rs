//! The kind table itself.

use expect_test::expect;
use serde_json::{Value, json};
use windlass_apiserver_registry::Registry;
use windlass_sdk_meta::Encoded;

use crate::{kind_of, served, stored};

#[test]
fn every_row_is_there() {
    let registry = Registry::builtin();
    let lines: Vec<String> = registry
        .builtin_kinds()
        .iter()
        .map(|kind| {
            let subs: Vec<&str> = kind.subresources.iter().map(|sub| sub.name.as_ref()).collect();
            let versions: Vec<_> =
                kind.served.iter().map(|at| at.api_version().into_owned()).collect();
            format!(
                "{} {} {} {} [{}] {} {}",
                versions.join(","),
                kind.plural,
                kind.kind,
                kind.short_names.join(","),
                subs.join(","),
                kind.columns.len(),
                if kind.namespaced { "namespaced" } else { "cluster" }
            )
        })
        .collect();
    expect![[r#"
        v1 configmaps ConfigMap cm [] 3 namespaced
        v1 endpoints Endpoints ep [] 3 namespaced
        v1,events.k8s.io/v1 events Event ev [] 10 namespaced
        v1 limitranges LimitRange limits [] 2 namespaced
        v1 namespaces Namespace ns [finalize,status] 3 cluster
        v1 nodes Node no [proxy,status] 10 cluster
        v1 persistentvolumeclaims PersistentVolumeClaim pvc [status] 9 namespaced
        v1 pods Pod po [attach,binding,ephemeralcontainers,eviction,exec,log,portforward,proxy,status] 9 namespaced
        v1 podtemplates PodTemplate  [] 4 namespaced
        v1 replicationcontrollers ReplicationController rc [scale,status] 8 namespaced
        v1 resourcequotas ResourceQuota quota [status] 4 namespaced
        v1 secrets Secret  [] 4 namespaced
        v1 serviceaccounts ServiceAccount sa [token] 2 namespaced
        v1 services Service svc [proxy,status] 7 namespaced
        v1 persistentvolumes PersistentVolume pv [status] 11 cluster
        v1 bindings Binding  [] 0 namespaced
        v1 componentstatuses ComponentStatus cs [] 4 cluster
        autoscaling/v2,autoscaling/v1 horizontalpodautoscalers HorizontalPodAutoscaler hpa [status] 7 namespaced
        networking.k8s.io/v1 ipaddresses IPAddress ip [] 2 cluster
        networking.k8s.io/v1 servicecidrs ServiceCIDR  [status] 3 cluster
        storage.k8s.io/v1 csidrivers CSIDriver  [] 8 cluster
        storage.k8s.io/v1 csinodes CSINode  [status] 3 cluster
        storage.k8s.io/v1 csistoragecapacities CSIStorageCapacity  [] 2 namespaced
        storage.k8s.io/v1 storageclasses StorageClass sc [] 6 cluster
        storage.k8s.io/v1 volumeattachments VolumeAttachment  [status] 6 cluster
        storage.k8s.io/v1 volumeattributesclasses VolumeAttributesClass vac [] 3 cluster
        certificates.k8s.io/v1 certificatesigningrequests CertificateSigningRequest csr [approval,status] 6 cluster
        certificates.k8s.io/v1 clustertrustbundles ClusterTrustBundle  [] 2 cluster
        certificates.k8s.io/v1 podcertificaterequests PodCertificateRequest  [status] 7 namespaced
        admissionregistration.k8s.io/v1 mutatingwebhookconfigurations MutatingWebhookConfiguration  [] 3 cluster
        admissionregistration.k8s.io/v1 validatingwebhookconfigurations ValidatingWebhookConfiguration  [] 3 cluster
        admissionregistration.k8s.io/v1 mutatingadmissionpolicies MutatingAdmissionPolicy  [] 4 cluster
        admissionregistration.k8s.io/v1 validatingadmissionpolicies ValidatingAdmissionPolicy  [status] 4 cluster
        admissionregistration.k8s.io/v1 mutatingadmissionpolicybindings MutatingAdmissionPolicyBinding  [] 4 cluster
        admissionregistration.k8s.io/v1 validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding  [] 4 cluster
        resource.k8s.io/v1 deviceclasses DeviceClass  [] 2 cluster
        resource.k8s.io/v1 devicetaintrules DeviceTaintRule  [status] 6 cluster
        resource.k8s.io/v1 resourceclaims ResourceClaim  [status] 3 namespaced
        resource.k8s.io/v1 resourceclaimtemplates ResourceClaimTemplate  [] 2 namespaced
        resource.k8s.io/v1 resourceslices ResourceSlice  [] 5 cluster
        flowcontrol.apiserver.k8s.io/v1 flowschemas FlowSchema  [status] 6 cluster
        flowcontrol.apiserver.k8s.io/v1 prioritylevelconfigurations PriorityLevelConfiguration  [status] 7 cluster
        apiregistration.k8s.io/v1 apiservices APIService  [status] 4 cluster
        storagemigration.k8s.io/v1 storageversionmigrations StorageVersionMigration  [status] 3 cluster
        apps/v1 controllerrevisions ControllerRevision  [] 4 namespaced
        apps/v1 daemonsets DaemonSet ds [status] 11 namespaced
        apps/v1 deployments Deployment deploy [scale,status] 8 namespaced
        apps/v1 replicasets ReplicaSet rs [scale,status] 8 namespaced
        apps/v1 statefulsets StatefulSet sts [scale,status] 5 namespaced
        batch/v1 cronjobs CronJob cj [status] 10 namespaced
        batch/v1 jobs Job  [status] 8 namespaced
        coordination.k8s.io/v1 leases Lease  [] 3 namespaced
        discovery.k8s.io/v1 endpointslices EndpointSlice  [] 5 namespaced
        networking.k8s.io/v1 ingressclasses IngressClass  [] 4 cluster
        networking.k8s.io/v1 ingresses Ingress ing [status] 6 namespaced
        networking.k8s.io/v1 networkpolicies NetworkPolicy netpol [] 3 namespaced
        node.k8s.io/v1 runtimeclasses RuntimeClass  [] 3 cluster
        policy/v1 poddisruptionbudgets PodDisruptionBudget pdb [status] 5 namespaced
        rbac.authorization.k8s.io/v1 clusterroles ClusterRole  [] 2 cluster
        rbac.authorization.k8s.io/v1 clusterrolebindings ClusterRoleBinding  [] 6 cluster
        rbac.authorization.k8s.io/v1 roles Role  [] 2 namespaced
        rbac.authorization.k8s.io/v1 rolebindings RoleBinding  [] 6 namespaced
        scheduling.k8s.io/v1 priorityclasses PriorityClass pc [] 5 cluster
        windlass.dev/v1 keyvalues KeyValue kv [] 5 namespaced
        authentication.k8s.io/v1 selfsubjectreviews SelfSubjectReview  [] 0 cluster
        authentication.k8s.io/v1 tokenreviews TokenReview  [] 0 cluster
        authorization.k8s.io/v1 localsubjectaccessreviews LocalSubjectAccessReview  [] 0 namespaced
        authorization.k8s.io/v1 selfsubjectaccessreviews SelfSubjectAccessReview  [] 0 cluster
        authorization.k8s.io/v1 selfsubjectrulesreviews SelfSubjectRulesReview  [] 0 cluster
        authorization.k8s.io/v1 subjectaccessreviews SubjectAccessReview  [] 0 cluster
        metrics.k8s.io/v1beta1,metrics.k8s.io/v1 nodes NodeMetrics  [] 4 cluster
        metrics.k8s.io/v1beta1,metrics.k8s.io/v1 pods PodMetrics  [] 4 namespaced"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn selectable_fields_have_values_also_when_absent() {
    let registry = Registry::builtin();
    let pods = registry.resource("", "v1", "pods").expect("pods");
    let tree = stored(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: a}]}}",
    );
    let object = pods.object(Encoded::from_tree(&tree), &tree, 1);
    let get =
        |label: &str| pods.field_path("", label).map(|path| object.field(path).map(str::to_owned));
    assert_eq!(get("spec.hostNetwork"), Some(Some("false".to_owned())));
    assert_eq!(get("spec.host"), Some(Some(String::new())));
    assert_eq!(get("status.phase"), Some(Some("Pending".to_owned())));
    assert_eq!(get("metadata.namespace"), Some(Some("default".to_owned())));
    assert_eq!(get("spec.nope"), None);
    let nodes = registry.resource("", "v1", "nodes").expect("nodes");
    assert_eq!(nodes.field_path("", "metadata.namespace"), None);
}

#[test]
fn events_have_two_faces() {
    let event = stored(
        "{apiVersion: v1, kind: Event, metadata: {name: a, namespace: default}, involvedObject: {kind: Pod, name: p, namespace: default}, reason: R, message: m, source: {component: c}, count: 2}",
    );
    let kind = kind_of(&event);
    let mut other = event.clone();
    kind.convert(&mut other, &served("events.k8s.io", "v1"));
    let shown = |key: &str| other[key].clone();
    assert_eq!(shown("apiVersion"), "events.k8s.io/v1");
    assert_eq!(shown("note"), "m");
    assert_eq!(shown("deprecatedCount"), json!(2));
    assert_eq!(shown("regarding")["name"], "p");
    assert_eq!(shown("message"), Value::Null);
    kind.convert(&mut other, &served("", "v1"));
    assert_eq!(other, event);
    assert_eq!(kind.field_path("events.k8s.io", "regarding.name"), Some("involvedObject.name"));
    assert_eq!(kind.field_path("", "regarding.name"), None);
    assert_eq!(kind.field_path("", "source"), Some("source.component"));
    assert!(Registry::builtin().resource("events.k8s.io", "v1", "events").is_some());
}
