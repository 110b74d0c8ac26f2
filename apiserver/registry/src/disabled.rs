//! Fields of features that upstream has off by default: their values are taken away before anything
//! is stored, as upstream does, and the writer is told, which upstream doesn't.

use serde_json::Value;
use windlass_apiserver_schema::{Shape, Type};

use crate::kind::Kind;

/// A type by Go's name without its package, the field, and the feature that it belongs to.
const FIELDS: [(&str, &str, &str); 34] = [
    ("ClusterTrustBundleProjection", "user", "AtomicWriteVolumeUserFields"),
    ("ConfigMapVolumeSource", "defaultUser", "AtomicWriteVolumeUserFields"),
    ("Device", "nodeAllocatableResources", "DRANodeAllocatableResources"),
    ("DeviceAttribute", "bools", "DRAListTypeAttributes"),
    ("DeviceAttribute", "ints", "DRAListTypeAttributes"),
    ("DeviceAttribute", "strings", "DRAListTypeAttributes"),
    ("DeviceAttribute", "versions", "DRAListTypeAttributes"),
    ("DownwardAPIVolumeFile", "user", "AtomicWriteVolumeUserFields"),
    ("DownwardAPIVolumeSource", "defaultUser", "AtomicWriteVolumeUserFields"),
    ("EmptyDirVolumeSource", "mode", "EmptyDirVolumeMode"),
    ("GRPCAction", "mode", "GRPCContainerProbeTLS"),
    ("DeviceSubRequest", "derivedAttributes", "DRADerivedAttributes"),
    ("ExactDeviceRequest", "derivedAttributes", "DRADerivedAttributes"),
    ("HTTPGetAction", "protocol", "H2CContainerProbe"),
    ("KeyToPath", "user", "AtomicWriteVolumeUserFields"),
    ("LeaseSpec", "preferredHolder", "CoordinatedLeaderElection"),
    ("LeaseSpec", "strategy", "CoordinatedLeaderElection"),
    ("Lifecycle", "stopSignal", "ContainerStopSignals"),
    ("NodeSpec", "configSource", "DynamicKubeletConfig"),
    ("NodeSpec", "podPreemptionPolicy", "InPlacePodVerticalScalingSchedulerPreemption"),
    ("NodeStatus", "config", "DynamicKubeletConfig"),
    ("PodCertificateProjection", "user", "AtomicWriteVolumeUserFields"),
    ("PodSpec", "evictionResponders", "EvictionRequestAPI"),
    ("PodSpec", "schedulingGroup", "GenericWorkload"),
    ("PodStatus", "nodeAllocatableResourceClaimStatuses", "DRANodeAllocatableResources"),
    ("PodStatus", "volumeHealth", "CSIVolumeHealth"),
    ("ProjectedVolumeSource", "defaultUser", "AtomicWriteVolumeUserFields"),
    ("ResourceSliceSpec", "partitionTypeAttribute", "DRAPartitionableDevicesType"),
    ("ResourceSliceSpec", "skipNodeOperations", "DRAOptionalNodeOperations"),
    ("SecretVolumeSource", "defaultUser", "AtomicWriteVolumeUserFields"),
    ("ServiceAccountTokenProjection", "user", "AtomicWriteVolumeUserFields"),
    ("VolumeMount", "bindMountOptions", "VolumeBindMountOptions"),
    ("VolumeMountStatus", "volumeStatus", "ImageVolumeWithDigest"),
    ("PersistentVolumeClaimStatus", "healthStatus", "CSIVolumeHealth"),
];

impl Kind {
    /// Takes such values away; returns one warning for each.
    pub fn drop_disabled(&self, object: &mut Value) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(of) = self.schema() {
            walk(object, of, "", &mut warnings);
        }
        warnings
    }
}

fn walk(tree: &mut Value, of: &'static Type, path: &str, warnings: &mut Vec<String>) {
    let Value::Object(map) = tree else { return };
    for (_, key, feature) in FIELDS.iter().filter(|(name, ..)| *name == of.short_name()) {
        if map.get(*key).is_some_and(|value| !value.is_null()) {
            map.shift_remove(*key);
            warnings.push(format!(
                "{path}{key}: not stored: it belongs to the feature {feature}, which is off in Kubernetes and not in this version of Windlass"
            ));
        }
    }
    let mut emptied = None;
    for (key, value) in map.iter_mut().filter(|(_, value)| value.is_object() || value.is_array()) {
        let Some(field) = of.field(key) else { continue };
        let Some(target) = field.target() else { continue };
        let before = warnings.len();
        descend(value, &field.shape, target, &format!("{path}{key}"), warnings);
        // A lifecycle of nothing but its signal goes with it.
        let empty = value.as_object().is_some_and(|map| map.is_empty());
        if warnings.len() > before && empty && key == "lifecycle" {
            emptied = Some(key.clone());
        }
    }
    if let Some(key) = emptied {
        map.shift_remove(&key);
    }
}

fn descend(
    value: &mut Value,
    shape: &Shape,
    target: &'static Type,
    path: &str,
    warnings: &mut Vec<String>,
) {
    match (shape, value) {
        (Shape::List(_) | Shape::Wrapped(_), Value::Array(items)) => {
            for (at, item) in items.iter_mut().enumerate() {
                walk(item, target, &format!("{path}[{at}]."), warnings);
            }
        }
        (Shape::Map(_), Value::Object(map)) => {
            for (key, item) in map.iter_mut() {
                walk(item, target, &format!("{path}[{key}]."), warnings);
            }
        }
        (_, value) => walk(value, target, &format!("{path}."), warnings),
    }
}

#[cfg(test)]
mod tests {
    use windlass_apiserver_schema::Schema;

    use super::FIELDS;

    #[test]
    fn every_field_of_the_table_exists() {
        let types = Schema::builtin().types();
        for (name, field, _) in FIELDS {
            let known = types.iter().any(|ty| ty.short_name() == name && ty.field(field).is_some());
            assert!(known, "{name}.{field}");
        }
    }
}
