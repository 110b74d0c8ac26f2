//! Pods: what is refused, kept, merged and warned of, in upstream's words.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::{create, kind_of, refusal, stored, update};

/// `more` are members of the specification besides one container `c`.
fn pod(more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p, labels: {{a: b}}}}, \
         spec: {{serviceAccountName: s, containers: [{{name: c, image: i}}], {more}}}}}"
    )
}

/// `more` are members of the container.
fn container(more: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: p}}, spec: {{containers: [{{name: c, image: i, {more}}}]}}}}"
    )
}

fn check(bodies: &[String], expected: Expect) {
    let all: Vec<String> = bodies.iter().map(|body| refusal(create(body))).collect();
    expected.assert_eq(&all.join(""));
}

#[test]
fn volumes() {
    let volume = |source: &str| pod(&format!("volumes: [{{name: v, {source}}}]"));
    check(
        &[
            volume("emptyDir: {sizeLimit: '-1'}, hostPath: {path: /a}"),
            volume("hostPath: {path: /a/../b, type: Nope}"),
            volume("nfs: {path: a}"),
            volume("iscsi: {iqn: x, lun: 256, chapAuthSession: true}"),
            volume("configMap: {defaultMode: 512, items: [{path: ../x}]}"),
            volume("csi: {driver: a_b, nodePublishSecretRef: {}}"),
            volume("ephemeral: {}"),
            volume("persistentVolumeClaim: {}"),
        ],
        expect![[r#"
            422 Pod "p" is invalid: [spec.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity, spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type]
              FieldValueForbidden spec.volumes[0].emptyDir.sizeLimit
              FieldValueForbidden spec.volumes[0].hostPath
            422 Pod "p" is invalid: [spec.volumes[0].hostPath.path: Invalid value: "/a/../b": must not contain '..', spec.volumes[0].hostPath.type: Unsupported value: "Nope": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"]
              FieldValueInvalid spec.volumes[0].hostPath.path
              FieldValueNotSupported spec.volumes[0].hostPath.type
            422 Pod "p" is invalid: [spec.volumes[0].nfs.server: Required value, spec.volumes[0].nfs.path: Invalid value: "a": must be an absolute path]
              FieldValueRequired spec.volumes[0].nfs.server
              FieldValueInvalid spec.volumes[0].nfs.path
            422 Pod "p" is invalid: [spec.volumes[0].iscsi.targetPortal: Required value, spec.volumes[0].iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive, spec.volumes[0].iscsi.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa, spec.volumes[0].iscsi.secretRef: Required value]
              FieldValueRequired spec.volumes[0].iscsi.targetPortal
              FieldValueInvalid spec.volumes[0].iscsi.lun
              FieldValueInvalid spec.volumes[0].iscsi.iqn
              FieldValueRequired spec.volumes[0].iscsi.secretRef
            422 Pod "p" is invalid: [spec.volumes[0].configMap.name: Required value, spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive, spec.volumes[0].configMap.items[0].key: Required value, spec.volumes[0].configMap.items[0].path: Invalid value: "../x": must not contain '..']
              FieldValueRequired spec.volumes[0].configMap.name
              FieldValueInvalid spec.volumes[0].configMap.defaultMode
              FieldValueRequired spec.volumes[0].configMap.items[0].key
              FieldValueInvalid spec.volumes[0].configMap.items[0].path
            422 Pod "p" is invalid: [spec.volumes[0].csi.driver: Invalid value: "a_b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'), spec.volumes[0].csi.nodePublishSecretRef.name: Required value]
              FieldValueInvalid spec.volumes[0].csi.driver
              FieldValueRequired spec.volumes[0].csi.nodePublishSecretRef.name
            422 Pod "p" is invalid: spec.volumes[0].ephemeral.volumeClaimTemplate: Required value
              FieldValueRequired spec.volumes[0].ephemeral.volumeClaimTemplate
            422 Pod "p" is invalid: spec.volumes[0].persistentVolumeClaim.claimName: Required value
              FieldValueRequired spec.volumes[0].persistentVolumeClaim.claimName
        "#]],
    );
}

#[test]
fn projected_files() {
    let sources =
        |all: &str| pod(&format!("volumes: [{{name: v, projected: {{sources: [{all}]}}}}]"));
    check(
        &[
            sources("{configMap: {name: a, items: [{key: a, path: x}]}, secret: {name: b}}"),
            sources(
                "{configMap: {name: a, items: [{key: a, path: x}]}}, {secret: {name: b, items: [{key: a, path: x}]}}",
            ),
            sources("{serviceAccountToken: {expirationSeconds: 5, path: ..x}}"),
            sources(
                "{downwardAPI: {items: [{path: a, resourceFieldRef: {resource: limits.cpu}}, {path: b, fieldRef: {fieldPath: status.podIP}}]}}",
            ),
        ],
        expect![[r#"
            422 Pod "p" is invalid: spec.volumes[0].projected.sources[0]: Forbidden: may not specify more than 1 volume type per source
              FieldValueForbidden spec.volumes[0].projected.sources[0]
            422 Pod "p" is invalid: spec.volumes[0].projected: Invalid value: "b": conflicting duplicate paths
              FieldValueInvalid spec.volumes[0].projected
            422 Pod "p" is invalid: [spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes, spec.volumes[0].projected.path: Invalid value: "..x": must not start with '..']
              FieldValueInvalid spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds
              FieldValueInvalid spec.volumes[0].projected.path
            422 Pod "p" is invalid: [spec.volumes[0].projected.sources[0].downwardAPI.resourceFieldRef.containerName: Required value, spec.volumes[0].projected.sources[0].downwardAPI.fieldRef.fieldPath: Unsupported value: "status.podIP": supported values: "metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"]
              FieldValueRequired spec.volumes[0].projected.sources[0].downwardAPI.resourceFieldRef.containerName
              FieldValueNotSupported spec.volumes[0].projected.sources[0].downwardAPI.fieldRef.fieldPath
        "#]],
    );
}

#[test]
fn mounts_and_devices() {
    check(
        &[
            container(
                "volumeMounts: [{name: v, mountPath: /a}, {name: v, mountPath: /a, subPath: /x}]",
            ),
            container("volumeDevices: [{name: v, devicePath: ../a}]"),
            pod(
                "volumes: [{name: v, emptyDir: {}}], initContainers: [{name: d, image: i, volumeMounts: [{name: v, mountPath: /a, mountPropagation: Bidirectional, recursiveReadOnly: Enabled}]}]",
            ),
        ],
        expect![[r#"
            422 Pod "p" is invalid: [spec.containers[0].volumeMounts[0].name: Not found: "v", spec.containers[0].volumeMounts[1].name: Not found: "v", spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique, spec.containers[0].volumeMounts.subPath: Invalid value: "/x": must be a relative path]
              FieldValueNotFound spec.containers[0].volumeMounts[0].name
              FieldValueNotFound spec.containers[0].volumeMounts[1].name
              FieldValueInvalid spec.containers[0].volumeMounts[1].mountPath
              FieldValueInvalid spec.containers[0].volumeMounts.subPath
            422 Pod "p" is invalid: [spec.containers[0].volumeDevices[0].name: Not found: "v", spec.containers[0].volumeDevices[0].devicePath: Invalid value: "../a": can not contain backsteps ('..')]
              FieldValueNotFound spec.containers[0].volumeDevices[0].name
              FieldValueInvalid spec.containers[0].volumeDevices[0].devicePath
            422 Pod "p" is invalid: [spec.initContainers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers, spec.initContainers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true, spec.initContainers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified]
              FieldValueForbidden spec.initContainers[0].volumeMounts.mountPropagation
              FieldValueForbidden spec.initContainers[0].volumeMounts.recursiveReadOnly
              FieldValueForbidden spec.initContainers[0].volumeMounts.recursiveReadOnly
        "#]],
    );
}

#[test]
fn security() {
    check(
        &[
            container(
                "securityContext: {runAsUser: -1, procMount: Nope, allowPrivilegeEscalation: false, privileged: true}",
            ),
            container(
                "securityContext: {seccompProfile: {type: Localhost}, appArmorProfile: {type: Nope}}",
            ),
            pod(
                "securityContext: {fsGroup: -1, sysctls: [{name: a..b}, {name: net.a}], supplementalGroupsPolicy: Nope}, hostNetwork: true",
            ),
            pod("os: {name: linux}, securityContext: {windowsOptions: {runAsUserName: ''}}"),
            pod("os: {name: windows}, hostPID: true, securityContext: {runAsUser: 1}"),
            pod("hostUsers: false, hostPID: true"),
        ],
        expect![[r#"
            422 Pod "p" is invalid: [spec.containers[0].securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive, spec.containers[0].securityContext.procMount: Unsupported value: "Nope": supported values: "Default", "Unmasked", spec.containers[0].securityContext: Invalid value: {"Capabilities":null,"Privileged":true,"SELinuxOptions":null,"WindowsOptions":null,"RunAsUser":-1,"RunAsGroup":null,"RunAsNonRoot":null,"ReadOnlyRootFilesystem":null,"AllowPrivilegeEscalation":false,"ProcMount":"Nope","SeccompProfile":null,"AppArmorProfile":null}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true]
              FieldValueInvalid spec.containers[0].securityContext.runAsUser
              FieldValueNotSupported spec.containers[0].securityContext.procMount
              FieldValueInvalid spec.containers[0].securityContext
            422 Pod "p" is invalid: [spec.containers[0].securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost, spec.containers[0].securityContext.appArmorProfile.type: Unsupported value: "Nope": supported values: "Localhost", "RuntimeDefault", "Unconfined"]
              FieldValueRequired spec.containers[0].securityContext.seccompProfile.localhostProfile
              FieldValueNotSupported spec.containers[0].securityContext.appArmorProfile.type
            422 Pod "p" is invalid: [spec.securityContext.fsGroup: Invalid value: -1: must be between 0 and 2147483647, inclusive, spec.securityContext.sysctls[0].name: Invalid value: "a..b": must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$, spec.securityContext.sysctls[1].name: Invalid value: "net.a": may not be specified when 'hostNetwork' is true, spec.securityContext.supplementalGroupsPolicy: Unsupported value: "Nope": supported values: "Merge", "Strict"]
              FieldValueInvalid spec.securityContext.fsGroup
              FieldValueInvalid spec.securityContext.sysctls[0].name
              FieldValueInvalid spec.securityContext.sysctls[1].name
              FieldValueNotSupported spec.securityContext.supplementalGroupsPolicy
            422 Pod "p" is invalid: [spec.securityContext.windowsOptions.runAsUserName: Invalid value: "": runAsUserName cannot be an empty string, spec.securityContext.windowsOptions: Forbidden: windows options cannot be set for a linux pod]
              FieldValueInvalid spec.securityContext.windowsOptions.runAsUserName
              FieldValueForbidden spec.securityContext.windowsOptions
            422 Pod "p" is invalid: [spec.securityContext.runAsUser: Forbidden: cannot be set for a windows pod, spec.hostPID: Forbidden: cannot be set for a windows pod]
              FieldValueForbidden spec.securityContext.runAsUser
              FieldValueForbidden spec.hostPID
            422 Pod "p" is invalid: spec.HostPID: Forbidden: when `hostUsers` is false
              FieldValueForbidden spec.HostPID
        "#]],
    );
}

#[test]
fn resources_and_claims() {
    check(
        &[
            container(
                "resources: {limits: {bogus: '1', cpu: '-1'}, requests: {example.com/a: 1500m}}",
            ),
            container("resources: {limits: {hugepages-2Mi: 3Mi}, claims: [{name: x}, {name: x}]}"),
            pod(
                "resourceClaims: [{name: a}, {name: a, resourceClaimName: b, resourceClaimTemplateName: c}]",
            ),
        ],
        expect![[r#"
            422 Pod "p" is invalid: [spec.containers[0].resources.limits[bogus]: Invalid value: "bogus": must be a standard resource type or fully qualified, spec.containers[0].resources.limits[bogus]: Invalid value: "bogus": must be a standard resource for containers, spec.containers[0].resources.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0, spec.containers[0].resources.requests[example.com/a]: Invalid value: "1500m": must be an integer, spec.containers[0].resources.requests[bogus]: Invalid value: "bogus": must be a standard resource type or fully qualified, spec.containers[0].resources.requests[bogus]: Invalid value: "bogus": must be a standard resource for containers, spec.containers[0].resources.requests[cpu]: Invalid value: "-1": must be greater than or equal to 0, spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources]
              FieldValueInvalid spec.containers[0].resources.limits[bogus]
              FieldValueInvalid spec.containers[0].resources.limits[bogus]
              FieldValueInvalid spec.containers[0].resources.limits[cpu]
              FieldValueInvalid spec.containers[0].resources.requests[example.com/a]
              FieldValueInvalid spec.containers[0].resources.requests[bogus]
              FieldValueInvalid spec.containers[0].resources.requests[bogus]
              FieldValueInvalid spec.containers[0].resources.requests[cpu]
              FieldValueRequired spec.containers[0].resources.limits
            422 Pod "p" is invalid: [spec.containers[0].resources.limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi, spec.containers[0].resources.requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi, spec.containers[0].resources: Forbidden: HugePages require cpu or memory, spec.containers[0].resources.claims[0]: Not found: "x": must be one of the names in pod.spec.resourceClaims which is empty, spec.containers[0].resources.claims[1]: Duplicate value: "x", spec.containers[0].resources.claims[1]: Not found: "x": must be one of the names in pod.spec.resourceClaims which is empty]
              FieldValueInvalid spec.containers[0].resources.limits[hugepages-2Mi]
              FieldValueInvalid spec.containers[0].resources.requests[hugepages-2Mi]
              FieldValueForbidden spec.containers[0].resources
              FieldValueNotFound spec.containers[0].resources.claims[0]
              FieldValueDuplicate spec.containers[0].resources.claims[1]
              FieldValueNotFound spec.containers[0].resources.claims[1]
            422 Pod "p" is invalid: [spec.resourceClaims[0]: Invalid value: {"Name":"a","ResourceClaimName":null,"ResourceClaimTemplateName":null}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`, spec.resourceClaims[1].name: Duplicate value: "a", spec.resourceClaims[1]: Invalid value: {"Name":"a","ResourceClaimName":"b","ResourceClaimTemplateName":"c"}: at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified]
              FieldValueInvalid spec.resourceClaims[0]
              FieldValueDuplicate spec.resourceClaims[1].name
              FieldValueInvalid spec.resourceClaims[1]
        "#]],
    );
}

#[test]
fn restarts_and_hooks() {
    check(
        &[
            container(
                "restartPolicyRules: [{action: Nope}], resizePolicy: [{resourceName: disk, restartPolicy: Nope}]",
            ),
            container(
                "lifecycle: {preStop: {sleep: {seconds: 50}}}, livenessProbe: {httpGet: {port: 0, httpHeaders: [{name: 'a b'}]}, successThreshold: 2}",
            ),
        ],
        expect![[r#"
            422 Pod "p" is invalid: [spec.containers[0].resizePolicy: Unsupported value: "disk": supported values: "cpu", "memory", spec.containers[0].resizePolicy: Unsupported value: "Nope": supported values: "NotRequired", "RestartContainer", spec.containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used, spec.containers[0].restartPolicyRules[0].action: Unsupported value: "Nope": supported values: "Restart", "RestartAllContainers", spec.containers[0].restartPolicyRules[0].exitCodes: Required value: must be specified]
              FieldValueNotSupported spec.containers[0].resizePolicy
              FieldValueNotSupported spec.containers[0].resizePolicy
              FieldValueRequired spec.containers[0].restartPolicy
              FieldValueNotSupported spec.containers[0].restartPolicyRules[0].action
              FieldValueRequired spec.containers[0].restartPolicyRules[0].exitCodes
            422 Pod "p" is invalid: [spec.containers[0].livenessProbe.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive, spec.containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: "a b": a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+'), spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1, spec.containers[0].lifecycle.preStop.sleep: Invalid value: 50: must be non-negative and less than terminationGracePeriodSeconds (30)]
              FieldValueInvalid spec.containers[0].livenessProbe.httpGet.port
              FieldValueInvalid spec.containers[0].livenessProbe.httpGet.httpHeaders
              FieldValueInvalid spec.containers[0].livenessProbe.successThreshold
              FieldValueInvalid spec.containers[0].lifecycle.preStop.sleep
        "#]],
    );
}

#[test]
fn scheduling() {
    check(
        &[
            pod(
                "topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway, minDomains: 0, nodeTaintsPolicy: Nope, matchLabelKeys: [k]}]",
            ),
            pod(
                "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: '', namespaces: [A]}]}}",
            ),
            pod(
                "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: a, operator: In, values: [b]}]}]}}}",
            ),
        ],
        expect![[r#"
            422 Pod "p" is invalid: [spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: must be greater than zero, spec.topologySpreadConstraints[0].minDomains: Invalid value: 0: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway, spec.topologySpreadConstraints[0].nodeTaintsPolicy: Unsupported value: "Nope": supported values: "Honor", "Ignore", spec.topologySpreadConstraints[0].matchLabelKeys: Forbidden: must not be specified when labelSelector is not set]
              FieldValueInvalid spec.topologySpreadConstraints[0].minDomains
              FieldValueInvalid spec.topologySpreadConstraints[0].minDomains
              FieldValueNotSupported spec.topologySpreadConstraints[0].nodeTaintsPolicy
              FieldValueForbidden spec.topologySpreadConstraints[0].matchLabelKeys
            422 Pod "p" is invalid: [spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespace: Invalid value: "A": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty, spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must be non-empty, spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')]
              FieldValueInvalid spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespace
              FieldValueRequired spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey
              FieldValueInvalid spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey
              FieldValueInvalid spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey
            422 Pod "p" is invalid: spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key: Invalid value: "a": not a valid field selector key
              FieldValueInvalid spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key
        "#]],
    );
}

#[test]
fn label_keys_become_part_of_selectors() {
    let made = create(&pod(
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: z, whenUnsatisfiable: DoNotSchedule, labelSelector: {}, matchLabelKeys: [a, missing]}]",
    ))
    .unwrap();
    assert_eq!(
        made["spec"]["topologySpreadConstraints"][0]["labelSelector"],
        json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]})
    );
}

#[test]
fn warnings() {
    let made = create(&container(
        "env: [{name: A, value: x}, {name: A, value: y}], ports: [{containerPort: 80}, {containerPort: 80}], resources: {requests: {memory: 100m}}",
    ))
    .unwrap();
    let found = kind_of(&made).strategy.warnings("", &made, None);
    expect![[r#"
        spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer
        spec.containers[0].env[1]: hides previous definition of "A", which may be dropped when using apply
        spec.containers[0].ports[1]: duplicate port definition with spec.containers[0].ports[0]"#]].assert_eq(&found.join("\n"));
}

#[test]
fn fields_of_features_that_are_off_go_with_a_warning() {
    let mut object: Value = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {
            "containers": [{"name": "c", "image": "i", "lifecycle": {"stopSignal": "SIGTERM"}}],
            "volumes": [{"name": "v", "emptyDir": {"mode": 1}}],
        },
    }))
    .unwrap();
    let found = kind_of(&object).drop_disabled(&mut object);
    assert_eq!(
        object["spec"],
        json!({
            "containers": [{"name": "c", "image": "i"}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        })
    );
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn status_updates() {
    let old = stored(&pod("restartPolicy: Never"));
    let ended = json!([{"name": "c", "state": {"terminated": {"exitCode": 0}}}]);
    let old = update("status", &old, |pod| pod["status"]["containerStatuses"] = ended).unwrap();
    let running = json!([{"name": "c", "state": {"running": {}}}]);
    let cases: [(&str, Value); 4] = [
        ("containerStatuses", running),
        ("podIPs", json!([{"ip": "1.2.3.4"}, {"ip": "1.2.3.5"}])),
        ("conditions", json!([{"type": "a b", "status": "True"}])),
        ("observedGeneration", json!(-1)),
    ];
    let all: Vec<String> = cases
        .into_iter()
        .map(|(key, value)| refusal(update("status", &old, |pod| pod["status"][key] = value)))
        .collect();
    expect![[r#"
        422 Pod "p" is invalid: status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state
          FieldValueForbidden status.containerStatuses[0].state
        422 Pod "p" is invalid: status.podIPs: Invalid value: [{"IP":"1.2.3.4"},{"IP":"1.2.3.5"}]: may specify no more than one IP for each IP family
          FieldValueInvalid status.podIPs
        422 Pod "p" is invalid: status.conditions[0].Type: Invalid value: "a b": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
          FieldValueInvalid status.conditions[0].Type
        422 Pod "p" is invalid: status.observedGeneration: Invalid value: -1: must be a non-negative integer
          FieldValueInvalid status.observedGeneration
    "#]].assert_eq(&all.join(""));
}
