//! Kinds of flow control, admission registration, devices, and API registration.

use expect_test::expect;
use serde_json::{Value, json};
use windlass_apiserver_registry::{GroupVersion, flow_control_objects, local_services};

use super::{changed, created, printed, refused};
use crate::{create, stored, text};

#[test]
fn flow_control() {
    for object in flow_control_objects() {
        create(&text(&object)).unwrap_or_else(|status| panic!("{}", status.message));
    }
    refused(
        "{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: FlowSchema, metadata: {name: a}, spec: {matchingPrecedence: 1, priorityLevelConfiguration: {name: ''}, distinguisherMethod: {type: X}, rules: [{subjects: [{kind: User, group: {name: g}}, {kind: Y}, {kind: ServiceAccount, serviceAccount: {name: '*', namespace: ''}}], resourceRules: [{verbs: [fly], apiGroups: ['*', a], resources: [], namespaces: [A]}], nonResourceRules: [{verbs: [], nonResourceURLs: [x, '/a//b', '/*/c']}]}, {subjects: []}]}}",
        expect![[r#"
            422 FlowSchema.flowcontrol.apiserver.k8s.io "a" is invalid: [spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1, spec.distinguisherMethod.type: Unsupported value: {"Type":"X"}: supported values: "ByNamespace", "ByUser", spec.priorityLevelConfiguration.name: Required value: must reference a priority level, spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User', spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group', spec.rules[0].subjects[1].kind: Unsupported value: "Y": supported values: "Group", "ServiceAccount", "User", spec.rules[0].subjects[2].serviceAccount.namespace: Required value: must specify namespace for service account, spec.rules[0].resourceRules[0].verbs: Unsupported value: ["fly"]: supported values: "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch", spec.rules[0].resourceRules[0].apiGroups: Invalid value: ["*","a"]: if '*' is present, must not specify other api groups, spec.rules[0].resourceRules[0].resources: Required value: resource rules must supply at least one resource, spec.rules[0].resourceRules[0].namespaces[0]: Invalid value: "A": each member of this list must be '*' or a DNS-1123 label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), spec.rules[0].nonResourceRules[0].verbs: Required value: verbs must contain at least one value, spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "x": must start with slash, spec.rules[0].nonResourceRules[0].nonResourceURLs[1]: Invalid value: "/a//b": must not contain double slash, spec.rules[0].nonResourceRules[0].nonResourceURLs[2]: Invalid value: "/*/c": wildcard can only do suffix matching, spec.rules[1].subjects: Required value: subjects must contain at least one value, spec.rules[1]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty]
              FieldValueInvalid spec.matchingPrecedence
              FieldValueNotSupported spec.distinguisherMethod.type
              FieldValueRequired spec.priorityLevelConfiguration.name
              FieldValueRequired spec.rules[0].subjects[0].user
              FieldValueForbidden spec.rules[0].subjects[0].group
              FieldValueNotSupported spec.rules[0].subjects[1].kind
              FieldValueRequired spec.rules[0].subjects[2].serviceAccount.namespace
              FieldValueNotSupported spec.rules[0].resourceRules[0].verbs
              FieldValueInvalid spec.rules[0].resourceRules[0].apiGroups
              FieldValueRequired spec.rules[0].resourceRules[0].resources
              FieldValueInvalid spec.rules[0].resourceRules[0].namespaces[0]
              FieldValueRequired spec.rules[0].nonResourceRules[0].verbs
              FieldValueInvalid spec.rules[0].nonResourceRules[0].nonResourceURLs[0]
              FieldValueInvalid spec.rules[0].nonResourceRules[0].nonResourceURLs[1]
              FieldValueInvalid spec.rules[0].nonResourceRules[0].nonResourceURLs[2]
              FieldValueRequired spec.rules[1].subjects
              FieldValueRequired spec.rules[1]
        "#]],
    );
    refused(
        "{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: FlowSchema, metadata: {name: exempt}, spec: {matchingPrecedence: 1, priorityLevelConfiguration: {name: exempt}}}",
        expect![[r#"
            422 FlowSchema.flowcontrol.apiserver.k8s.io "exempt" is invalid: spec: Invalid value: {"priorityLevelConfiguration":{"name":"exempt"},"matchingPrecedence":1}: spec of 'exempt' must equal the fixed value
              FieldValueInvalid spec
        "#]],
    );
    let level = |spec: &str| {
        format!(
            "{{apiVersion: flowcontrol.apiserver.k8s.io/v1, kind: PriorityLevelConfiguration, metadata: {{name: a}}, spec: {spec}}}"
        )
    };
    created(
        &level("{type: Limited, limited: {limitResponse: {type: Queue, queuing: {}}}}"),
        expect![[r#"
            kind: PriorityLevelConfiguration
            apiVersion: flowcontrol.apiserver.k8s.io/v1
            metadata:
              name: a
              generation: 1
            spec:
              type: Limited
              limited:
                nominalConcurrencyShares: 30
                limitResponse:
                  type: Queue
                  queuing:
                    queues: 64
                    handSize: 8
                    queueLengthLimit: 50
                lendablePercent: 0
            status: {}
        "#]],
    );
    refused(
        &level("{type: Exempt, limited: {limitResponse: {type: Reject}}}"),
        expect![[r#"
            422 PriorityLevelConfiguration.flowcontrol.apiserver.k8s.io "a" is invalid: [spec.type: Invalid value: "Exempt": must be 'Exempt' if and only if `name` is 'exempt', spec.limited: Forbidden]
              FieldValueInvalid spec.type
              FieldValueForbidden spec.limited
        "#]],
    );
    refused(
        &level(
            "{type: Limited, limited: {lendablePercent: 101, borrowingLimitPercent: -1, limitResponse: {type: Queue, queuing: {queues: 4, handSize: 5, queueLengthLimit: -1}}}}",
        ),
        expect![[r#"
            422 PriorityLevelConfiguration.flowcontrol.apiserver.k8s.io "a" is invalid: [spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: -1: must be positive, spec.limited.limitResponse.queuing.handSize: Invalid value: 5: should not be greater than queues (4), spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive, spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer]
              FieldValueInvalid spec.limited.limitResponse.queuing.queueLengthLimit
              FieldValueInvalid spec.limited.limitResponse.queuing.handSize
              FieldValueInvalid spec.limited.lendablePercent
              FieldValueInvalid spec.limited.borrowingLimitPercent
        "#]],
    );
    printed(
        &level("{type: Limited, limited: {limitResponse: {type: Reject}}}"),
        "",
        expect!["a | Limited | 30 | <none> | <none> | <none> | 5m"],
    );
}

#[test]
fn webhooks() {
    let hooks = |kind: &str, hook: &str| {
        format!(
            "{{apiVersion: admissionregistration.k8s.io/v1, kind: {kind}WebhookConfiguration, metadata: {{name: a}}, webhooks: [{hook}]}}"
        )
    };
    let good = "{name: a.b.c, sideEffects: None, admissionReviewVersions: [v1], clientConfig: {service: {name: s, namespace: n}}, rules: [{operations: [CREATE], apiGroups: [''], apiVersions: [v1], resources: [pods]}]}";
    created(
        &hooks("Mutating", good),
        expect![[r#"
        kind: MutatingWebhookConfiguration
        apiVersion: admissionregistration.k8s.io/v1
        metadata:
          name: a
          generation: 1
        webhooks:
        - name: a.b.c
          clientConfig:
            service:
              namespace: n
              name: s
              port: 443
          rules:
          - operations:
            - CREATE
            apiGroups:
            - ''
            apiVersions:
            - v1
            resources:
            - pods
            scope: '*'
          sideEffects: None
          admissionReviewVersions:
          - v1
          failurePolicy: Fail
          matchPolicy: Equivalent
          namespaceSelector: {}
          objectSelector: {}
          reinvocationPolicy: Never
          timeoutSeconds: 10
    "#]],
    );
    refused(
        &hooks(
            "Validating",
            "{name: a.b, sideEffects: Some, admissionReviewVersions: [v2, v2], failurePolicy: X, timeoutSeconds: 31, clientConfig: {url: 'http://u@h/p?q'}, rules: [{operations: ['*', X], apiGroups: [], apiVersions: ['', '*'], resources: ['*', pods, 'pods/*', pods/log, '']}], matchConditions: [{name: a, expression: ' '}]}, {name: a.b, clientConfig: {}}",
        ),
        expect![[r#"
            422 ValidatingWebhookConfiguration.admissionregistration.k8s.io "a" is invalid: [webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots, webhooks[0].rules[0].operations: Invalid value: ["*","X"]: if '*' is present, must not specify other operations, webhooks[0].rules[0].operations[1]: Unsupported value: "X": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE", webhooks[0].rules[0].apiGroups: Required value, webhooks[0].rules[0].apiVersions: Invalid value: ["","*"]: if '*' is present, must not specify other API versions, webhooks[0].rules[0].apiVersions[0]: Required value, webhooks[0].rules[0].resources[3]: Invalid value: "pods/log": if 'pods/*' is present, must not specify pods/log, webhooks[0].rules[0].resources[4]: Required value, webhooks[0].rules[0].resources: Invalid value: ["*","pods","pods/*","pods/log",""]: if '*' is present, must not specify other resources without subresources, webhooks[0].failurePolicy: Unsupported value: "X": supported values: "Fail", "Ignore", webhooks[0].sideEffects: Unsupported value: "Some": supported values: "None", "NoneOnDryRun", webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds, webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path], webhooks[0].clientConfig.url: Invalid value: "u": user information is not permitted in the URL, webhooks[0].clientConfig.url: Invalid value: "q": query parameters are not permitted in the URL, webhooks[0].matchConditions[0].expression: Required value, webhooks[0].admissionReviewVersions[1]: Invalid value: "v2": duplicate version, webhooks[0].admissionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of v1, v1beta1, webhooks[1].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots, webhooks[1].sideEffects: Required value: must specify one of None, NoneOnDryRun, webhooks[1].clientConfig: Required value: exactly one of url or service is required, webhooks[1].admissionReviewVersions: Required value: must specify one of v1, v1beta1, webhooks[1].name: Duplicate value: "a.b"]
              FieldValueInvalid webhooks[0].name
              FieldValueInvalid webhooks[0].rules[0].operations
              FieldValueNotSupported webhooks[0].rules[0].operations[1]
              FieldValueRequired webhooks[0].rules[0].apiGroups
              FieldValueInvalid webhooks[0].rules[0].apiVersions
              FieldValueRequired webhooks[0].rules[0].apiVersions[0]
              FieldValueInvalid webhooks[0].rules[0].resources[3]
              FieldValueRequired webhooks[0].rules[0].resources[4]
              FieldValueInvalid webhooks[0].rules[0].resources
              FieldValueNotSupported webhooks[0].failurePolicy
              FieldValueNotSupported webhooks[0].sideEffects
              FieldValueInvalid webhooks[0].timeoutSeconds
              FieldValueInvalid webhooks[0].clientConfig.url
              FieldValueInvalid webhooks[0].clientConfig.url
              FieldValueInvalid webhooks[0].clientConfig.url
              FieldValueRequired webhooks[0].matchConditions[0].expression
              FieldValueInvalid webhooks[0].admissionReviewVersions[1]
              FieldValueInvalid webhooks[0].admissionReviewVersions
              FieldValueInvalid webhooks[1].name
              FieldValueRequired webhooks[1].sideEffects
              FieldValueRequired webhooks[1].clientConfig
              FieldValueRequired webhooks[1].admissionReviewVersions
              FieldValueDuplicate webhooks[1].name
        "#]],
    );
}

#[test]
fn policies() {
    let policy = |kind: &str, spec: &str| {
        format!(
            "{{apiVersion: admissionregistration.k8s.io/v1, kind: {kind}, metadata: {{name: a}}, spec: {{{spec}}}}}"
        )
    };
    let rules = "matchConstraints: {resourceRules: [{operations: [CREATE], apiGroups: [apps], apiVersions: [v1], resources: [deployments]}]}";
    created(
        &policy(
            "ValidatingAdmissionPolicy",
            &format!("{rules}, validations: [{{expression: 'true'}}]"),
        ),
        expect![[r#"
            kind: ValidatingAdmissionPolicy
            apiVersion: admissionregistration.k8s.io/v1
            metadata:
              name: a
              generation: 1
            spec:
              matchConstraints:
                resourceRules:
                - operations:
                  - CREATE
                  apiGroups:
                  - apps
                  apiVersions:
                  - v1
                  resources:
                  - deployments
                  scope: '*'
                matchPolicy: Equivalent
                namespaceSelector: {}
                objectSelector: {}
              validations:
              - expression: 'true'
              failurePolicy: Fail
            status: {}
        "#]],
    );
    refused(
        &policy(
            "ValidatingAdmissionPolicy",
            "paramKind: {apiVersion: a/b/c, kind: -}, variables: [{name: if, expression: ''}], matchConstraints: {}",
        ),
        expect![[r#"
            422 ValidatingAdmissionPolicy.admissionregistration.k8s.io "a" is invalid: [spec.paramKind.apiVersion: Invalid value: "a/b/c": unexpected GroupVersion string: a/b/c, spec.paramKind.kind: Invalid value: "-": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?'), spec.matchConstraints.resourceRules: Required value, spec.variables[0].name: Invalid value: "if": must be a valid CEL identifier, spec.variables[0].expression: Required value: expression is not specified, spec.validations: Required value: validations or auditAnnotations must contain at least one item, spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item]
              FieldValueInvalid spec.paramKind.apiVersion
              FieldValueInvalid spec.paramKind.kind
              FieldValueRequired spec.matchConstraints.resourceRules
              FieldValueInvalid spec.variables[0].name
              FieldValueRequired spec.variables[0].expression
              FieldValueRequired spec.validations
              FieldValueRequired spec.auditAnnotations
        "#]],
    );
    refused(
        &policy(
            "MutatingAdmissionPolicy",
            &format!(
                "{}, mutations: [{{patchType: JSONPatch, applyConfiguration: {{expression: x}}}}]",
                rules.replace("CREATE", "DELETE")
            ),
        ),
        expect![[r#"
            422 MutatingAdmissionPolicy.admissionregistration.k8s.io "a" is invalid: [spec.matchConstraints.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE", spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch, spec.mutations[0].applyConfiguration: Invalid value: "{applyConfiguration}": must not be specified when patchType is JSONPatch, spec.reinvocationPolicy: Required value]
              FieldValueNotSupported spec.matchConstraints.resourceRules.operations
              FieldValueRequired spec.mutations[0].jsonPatch
              FieldValueInvalid spec.mutations[0].applyConfiguration
              FieldValueRequired spec.reinvocationPolicy
        "#]],
    );
    refused(
        &policy(
            "MutatingAdmissionPolicyBinding",
            "policyName: a, matchResources: {resourceRules: [{apiGroups: [a], apiVersions: [v1], resources: [b], operations: [UPDATE, DELETE]}]}",
        ),
        expect![[r#"
            422 MutatingAdmissionPolicyBinding.admissionregistration.k8s.io "a" is invalid: spec.matchResources.resourceRules.operations: Unsupported value: "DELETE": supported values: "*", "CONNECT", "CREATE", "UPDATE"
              FieldValueNotSupported spec.matchResources.resourceRules.operations
        "#]],
    );
    let binding = stored(&policy("MutatingAdmissionPolicyBinding", "policyName: a"));
    changed(
        "",
        &binding,
        |one| one["metadata"]["generateName"] = json!("-a"),
        &[],
        expect![[r#"
            422 MutatingAdmissionPolicyBinding.admissionregistration.k8s.io "a" is invalid: metadata.generateName: Invalid value: "-a": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
              FieldValueInvalid metadata.generateName
        "#]],
    );
    refused(
        &policy(
            "ValidatingAdmissionPolicyBinding",
            "policyName: '', paramRef: {name: a, selector: {}}, validationActions: [Deny, Warn, Deny]",
        ),
        expect![[r#"
            422 ValidatingAdmissionPolicyBinding.admissionregistration.k8s.io "a" is invalid: [spec.policyName: Required value, spec.paramRef.name: Forbidden: name and selector are mutually exclusive, spec.paramRef.selector: Forbidden: name and selector are mutually exclusive, spec.paramRef.parameterNotFoundAction: Required value, spec.validationActions[2]: Duplicate value: "Deny", spec.validationActions: Invalid value: ["Deny","Warn","Deny"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)]
              FieldValueRequired spec.policyName
              FieldValueForbidden spec.paramRef.name
              FieldValueForbidden spec.paramRef.selector
              FieldValueRequired spec.paramRef.parameterNotFoundAction
              FieldValueDuplicate spec.validationActions[2]
              FieldValueInvalid spec.validationActions
        "#]],
    );
    printed(
        &policy(
            "ValidatingAdmissionPolicyBinding",
            "policyName: p, paramRef: {name: c, parameterNotFoundAction: Deny}, validationActions: [Deny]",
        ),
        "",
        expect!["a | p | */c | 5m"],
    );
}

#[test]
fn devices() {
    let of = |kind: &str, spec: &str| {
        format!(
            "{{apiVersion: resource.k8s.io/v1, kind: {kind}, metadata: {{name: a}}, spec: {{{spec}}}}}"
        )
    };
    let claim =
        of("ResourceClaim", "devices: {requests: [{name: r, exactly: {deviceClassName: c}}]}");
    created(
        &claim,
        expect![[r#"
        kind: ResourceClaim
        apiVersion: resource.k8s.io/v1
        metadata:
          name: a
        spec:
          devices:
            requests:
            - name: r
              exactly:
                deviceClassName: c
                allocationMode: ExactCount
                count: 1
        status: {}
    "#]],
    );
    printed(&claim, "", expect!["a | pending | 5m"]);
    refused(
        &of(
            "ResourceClaim",
            "devices: {requests: [{name: R}, {name: r, exactly: {deviceClassName: c}, firstAvailable: [{name: s, deviceClassName: ''}]}, {name: r, firstAvailable: [{name: s, deviceClassName: c, allocationMode: All, count: 2}]}], constraints: [{requests: [x, r/s], matchAttribute: bare}, {}], config: [{requests: [r], opaque: {driver: d, parameters: 5}}]}",
        ),
        expect![[r#"
            422 ResourceClaim.resource.k8s.io "a" is invalid: [spec.devices.requests[0].name: Invalid value: "R": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required, spec.devices.requests[1]: Invalid value: null: exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set, spec.devices.requests[1].firstAvailable[0].deviceClassName: Required value, spec.devices.requests[2].firstAvailable[0].count: Invalid value: 2: must not be specified when allocationMode is 'All', spec.devices.requests[2]: Duplicate value: {"name":"r","firstAvailable":[{"name":"s","deviceClassName":"c","allocationMode":"All","count":2}]}, spec.devices.constraints[0].requests[0]: Invalid value: "x": must be the name of a request in the claim or the name of a request and a subrequest separated by '/', spec.devices.constraints[0].matchAttribute: Invalid value: "bare": a fully qualified name must be a domain and a name separated by a slash, spec.devices.constraints[1]: Required value: exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set, spec.devices.config[0].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object]
              FieldValueInvalid spec.devices.requests[0].name
              FieldValueRequired spec.devices.requests[0]
              FieldValueInvalid spec.devices.requests[1]
              FieldValueRequired spec.devices.requests[1].firstAvailable[0].deviceClassName
              FieldValueInvalid spec.devices.requests[2].firstAvailable[0].count
              FieldValueDuplicate spec.devices.requests[2]
              FieldValueInvalid spec.devices.constraints[0].requests[0]
              FieldValueInvalid spec.devices.constraints[0].matchAttribute
              FieldValueRequired spec.devices.constraints[1]
              FieldValueInvalid spec.devices.config[0].opaque.parameters
        "#]],
    );
    let one = stored(&claim);
    let allocation = json!({"devices": {"results": [{"request": "r", "driver": "d", "pool": "p", "device": "e"}]}});
    changed(
        "status",
        &one,
        |one| {
            one["status"] = json!({"allocation": allocation, "reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]});
            one["spec"]["devices"]["requests"] = json!([]);
        },
        &["status", "spec"],
        expect![[r#"
            status: {"allocation":{"devices":{"results":[{"request":"r","driver":"d","pool":"p","device":"e"}]}},"reservedFor":[{"resource":"pods","name":"p","uid":"u"}]}
            spec: {"devices":{"requests":[{"name":"r","exactly":{"deviceClassName":"c","allocationMode":"ExactCount","count":1}}]}}
        "#]],
    );
    changed(
        "status",
        &one,
        |one| {
            one["status"] = json!({"devices": [{"driver": "d", "pool": "", "device": "X"}], "reservedFor": [{"resource": "pods"}]});
        },
        &[],
        expect![[r#"
            422 ResourceClaim.resource.k8s.io "a" is invalid: [status.reservedFor[0].name: Required value, status.reservedFor[0].uid: Required value, status.devices[0].pool: Required value, status.devices[0].device: Invalid value: "X": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), status.devices[0]: Invalid value: {"Driver":"d","Pool":"","Device":"X","ShareID":""}: must be an allocated device in the claim, status.reservedFor: Forbidden: may not be specified when `allocated` is not set]
              FieldValueRequired status.reservedFor[0].name
              FieldValueRequired status.reservedFor[0].uid
              FieldValueRequired status.devices[0].pool
              FieldValueInvalid status.devices[0].device
              FieldValueInvalid status.devices[0]
              FieldValueForbidden status.reservedFor
        "#]],
    );
    refused(
        &of(
            "ResourceSlice",
            "driver: d, pool: {name: p, resourceSliceCount: 0, generation: -1}, nodeName: n, allNodes: true, devices: [{name: e, attributes: {a: {version: '1.0'}, 'b/c': {}}, capacity: {m: {value: 1, requestPolicy: {}}}, taints: [{key: k}], bindingConditions: [a]}, {name: e, nodeName: n}]",
        ),
        expect![[r#"
            422 ResourceSlice.resource.k8s.io "a" is invalid: [spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero, spec.pool.generation: Invalid value: -1: must be greater than or equal to zero, spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set, spec.devices[0].attributes[a].version: Invalid value: "1.0": must be a string compatible with semver.org spec 2.0.0, spec.devices[0].attributes[b/c]: Invalid value: "": must specify one of: `int`, `bool`, `string`, `version`, `ints`, `bools`, `strings`, `versions`, spec.devices[0].capacity[m].requestPolicy: Forbidden: allowMultipleAllocations must be true, spec.devices[0].taints[0].effect: Required value, spec.devices[0].bindingFailureConditions: Invalid value: null: bindingFailureConditions are required to use bindingConditions, spec.devices[1]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec, spec.devices[1]: Duplicate value: "e"]
              FieldValueInvalid spec.pool.resourceSliceCount
              FieldValueInvalid spec.pool.generation
              FieldValueInvalid spec
              FieldValueInvalid spec.devices[0].attributes[a].version
              FieldValueInvalid spec.devices[0].attributes[b/c]
              FieldValueForbidden spec.devices[0].capacity[m].requestPolicy
              FieldValueRequired spec.devices[0].taints[0].effect
              FieldValueInvalid spec.devices[0].bindingFailureConditions
              FieldValueInvalid spec.devices[1]
              FieldValueDuplicate spec.devices[1]
        "#]],
    );
    refused(
        &of("DeviceTaintRule", "taint: {key: '', effect: X}"),
        expect![[r#"
        422 DeviceTaintRule.resource.k8s.io "a" is invalid: [spec.taint.key: Invalid value: "": name part must be non-empty, spec.taint.key: Invalid value: "": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), spec.taint.effect: Unsupported value: "X": supported values: "NoExecute", "NoSchedule", "None"]
          FieldValueInvalid spec.taint.key
          FieldValueInvalid spec.taint.key
          FieldValueNotSupported spec.taint.effect
    "#]],
    );
    refused(
        &of("DeviceClass", "selectors: [{}], config: [{}], extendedResourceName: cpu"),
        expect![[r#"
            422 DeviceClass.resource.k8s.io "a" is invalid: [spec.selectors[0].cel: Required value, spec.config[0].opaque: Required value, spec.extendedResourceName: Invalid value: "cpu": a name must be a domain-prefixed path, such as 'example.com/my-prop']
              FieldValueRequired spec.selectors[0].cel
              FieldValueRequired spec.config[0].opaque
              FieldValueInvalid spec.extendedResourceName
        "#]],
    );
}

#[test]
fn services_of_the_api() {
    let served = [
        GroupVersion::new("", "v1"),
        GroupVersion::new("apps", "v1"),
        GroupVersion::new("apps", "v1"),
    ];
    let all = local_services(served.iter());
    assert_eq!(all.len(), 2);
    created(
        &text(&all[1]),
        expect![[r#"
        kind: APIService
        apiVersion: apiregistration.k8s.io/v1
        metadata:
          name: v1.apps
          labels:
            kube-aggregator.kubernetes.io/automanaged: onstart
        spec:
          group: apps
          version: v1
          groupPriorityMinimum: 17800
          versionPriority: 15
        status:
          conditions:
          - type: Available
            status: 'True'
            lastTransitionTime: 2026-11-23T17:00:00Z
            reason: Local
            message: Local APIServices are always available
    "#]],
    );
    refused(
        "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, metadata: {name: a}, spec: {group: g.io, version: V, caBundle: aGVsbG8=, insecureSkipTLSVerify: true, groupPriorityMinimum: 0, versionPriority: 1001}}",
        expect![[r#"
            422 APIService.apiregistration.k8s.io "a" is invalid: [metadata.name: Invalid value: "a": must be `spec.version+"."+spec.group`: "V.g.io", spec.version: Invalid value: "V": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?'), spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000, spec.versionPriority: Invalid value: 1001: must be positive and less than 1000, spec.caBundle: Invalid value: "5 bytes": local APIServices may not have a caBundle, spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify]
              FieldValueInvalid metadata.name
              FieldValueInvalid spec.version
              FieldValueInvalid spec.groupPriorityMinimum
              FieldValueInvalid spec.versionPriority
              FieldValueInvalid spec.caBundle
              FieldValueInvalid spec.insecureSkipTLSVerify
        "#]],
    );
    printed(
        &text(&all[0]),
        "{conditions: [{type: Available, status: 'False', reason: R}]}",
        expect!["v1. | Local | False (R) | 5m"],
    );
}

#[test]
fn addresses() {
    refused(
        "{apiVersion: networking.k8s.io/v1, kind: IPAddress, metadata: {name: 1.2.3}, spec: {parentRef: {resource: '', name: a/b}}}",
        expect![[r#"
            422 IPAddress.networking.k8s.io "1.2.3" is invalid: [metadata.name: Invalid value: "1.2.3": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff), spec.parentRef.resource: Required value, spec.parentRef.name: Invalid value: "a/b": may not contain '/']
              FieldValueInvalid metadata.name
              FieldValueRequired spec.parentRef.resource
              FieldValueInvalid spec.parentRef.name
        "#]],
    );
    refused(
        "{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: a}, spec: {cidrs: [10.0.0.1/8, 10.0.0.0/8]}}",
        expect![[r#"
            422 ServiceCIDR.networking.k8s.io "a" is invalid: [spec.cidrs[0]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length, spec.cidrs: Invalid value: ["10.0.0.1/8","10.0.0.0/8"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64]
              FieldValueInvalid spec.cidrs[0]
              FieldValueInvalid spec.cidrs
        "#]],
    );
    let range = stored(
        "{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: a}, spec: {cidrs: [10.0.0.0/8]}}",
    );
    changed(
        "",
        &range,
        |one| one["spec"]["cidrs"] = json!(["11.0.0.0/8"]),
        &[],
        expect![[r#"
        422 ServiceCIDR.networking.k8s.io "a" is invalid: spec.cidrs[0]: Invalid value: "11.0.0.0/8": field is immutable
          FieldValueInvalid spec.cidrs[0]
    "#]],
    );
    changed(
        "",
        &range,
        |one| one["spec"]["cidrs"] = json!(["10.0.0.0/8", "fd00::/64"]),
        &["spec"],
        expect![[r#"
            spec: {"cidrs":["10.0.0.0/8","fd00::/64"]}
        "#]],
    );
    refused(
        "{apiVersion: storagemigration.k8s.io/v1, kind: StorageVersionMigration, metadata: {name: a}, spec: {resource: {group: -, resource: ''}}}",
        expect![[r#"
            422 StorageVersionMigration.storagemigration.k8s.io "a" is invalid: [spec.resource.resource: Required value: resource is required to be set, spec.resource.group: Invalid value: "-": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')]
              FieldValueRequired spec.resource.resource
              FieldValueInvalid spec.resource.group
        "#]],
    );
    let migration = stored(
        "{apiVersion: storagemigration.k8s.io/v1, kind: StorageVersionMigration, metadata: {name: a}, spec: {resource: {group: b.c, resource: d}}}",
    );
    changed(
        "",
        &migration,
        |one| one["spec"]["resource"]["resource"] = json!("e"),
        &[],
        expect![[r#"
            422 StorageVersionMigration.storagemigration.k8s.io "a" is invalid: spec: Invalid value: {"Resource":{"group":"b.c","resource":"e"}}: field is immutable
              FieldValueInvalid spec
        "#]],
    );
    for (version, expected) in [
        (
            "17",
            expect![[r#"
            status.resourceVersion: "17"
        "#]],
        ),
        (
            "017",
            expect![[r#"
            422 StorageVersionMigration.storagemigration.k8s.io "a" is invalid: status.resourceVersion: Invalid value: "017": resource version is not well formed: 017
              FieldValueInvalid status.resourceVersion
        "#]],
        ),
    ] {
        let change = |one: &mut Value| one["status"]["resourceVersion"] = json!(version);
        changed("status", &migration, change, &["status.resourceVersion"], expected);
    }
}
