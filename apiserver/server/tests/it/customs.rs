//! Kinds that come at run time: from their definition to the deletion of the last instance, through
//! the same paths as any other kind.

use std::{sync::Arc, time::Duration};

use expect_test::expect;
use serde_json::{Value, json};
use windlass_apiserver_store::MemoryStore;

use crate::{
    Cluster,
    widgets::{CRDS, WIDGETS, define, registered, state, until, widget, widgets},
};

#[tokio::test(start_paused = true)]
async fn what_is_not_a_definition() {
    let cluster = Cluster::new().await;
    let with = |pointer: &str, value: Value| {
        let mut definition = widgets();
        *definition.pointer_mut(pointer).expect("there") = value;
        format!("POST {CRDS} {definition}")
    };
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    let size = &format!("{spec}/properties/size");
    cluster
        .session(
            &[
                &with("/metadata/name", json!("other")),
                &with("/spec/group", json!("example")),
                &with("/spec/scope", json!("Galaxy")),
                &with("/spec/names/kind", json!("widget_kind")),
                &with("/spec/versions/0/storage", json!(false)),
                &with("/spec/versions/0/name", json!("V1")),
                &with("/spec/versions/0/schema", json!({})),
                &with(size, json!({})),
                &with(size, json!({"type": "integer", "default": "x"})),
                &with(size, json!({"type": "array"})),
                &with(size, json!({"type": "number", "$ref": "x", "uniqueItems": true})),
                &with(size, json!({"type": "string", "pattern": "("})),
                &with(&format!("{spec}/x-kubernetes-validations"), json!([{"rule": "self.nope == 1"}])),
                &with(&format!("{spec}/x-kubernetes-validations"), json!([{"rule": "self.size"}])),
                &with(&format!("{spec}/x-kubernetes-validations"), json!([{"rule": "self.tags.all(a, self.parts.all(b, a.contains(b.id)))"}])),
                &with(&format!("{spec}/properties/tags/x-kubernetes-list-type"), json!("bag")),
                &with(&format!("{spec}/properties/parts/items/required"), json!([])),
                &with("/spec/versions/0/selectableFields", json!([{"jsonPath": ".spec.tags"}, {"jsonPath": ".metadata.name"}])),
                &with("/spec/versions/0/subresources/scale/specReplicasPath", json!(".status.x")),
                &with("/spec/versions/0/additionalPrinterColumns", json!([{"name": "x", "type": "map", "jsonPath": "spec"}])),
                &with("/spec/group", json!("x.k8s.io")),
                &{
                    let mut definition = widgets();
                    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://a.b"}}});
                    format!("POST {CRDS} {definition}")
                },
                &format!("POST {CRDS} {}", json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "a.b.c"}})),
            ],
            expect![[r#"
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "other" is invalid: metadata.name: Invalid value: "other": must be spec.names.plural+"."+spec.group
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: [metadata.name: Invalid value: "widgets.example.com": must be spec.names.plural+"."+spec.group, spec.group: Invalid value: "example": should be a domain with at least one dot]
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced"
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: [spec.names.singular: Invalid value: "widget_kind": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?'), spec.names.kind: Invalid value: "widget_kind": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?'), spec.names.listKind: Invalid value: "widget_kindList": may have mixed case, but should otherwise match: a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')]
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: [spec.versions: Invalid value: [{"name":"v1","served":true,"storage":false,"schema":{"openAPIV3Schema":{"type":"object","required":["spec"],"properties":{"spec":{"type":"object","required":["size"],"properties":{"color":{"type":"string","default":"red","enum":["red","blue"]},"free":{"type":"object","x-kubernetes-preserve-unknown-fields":true},"frozen":{"type":"string","maxLength":10},"inner":{"type":"object","x-kubernetes-preserve-unknown-fields":true,"x-kubernetes-embedded-resource":true},"min":{"type":"integer","default":1},"name":{"type":"string","maxLength":5,"pattern":"^[a-z]+$"},"note":{"type":"string","nullable":true},"parts":{"type":"array","items":{"type":"object","required":["id"],"properties":{"count":{"type":"integer","default":7},"id":{"type":"string"}}},"x-kubernetes-list-map-keys":["id"],"x-kubernetes-list-type":"map"},"port":{"x-kubernetes-int-or-string":true},"replicas":{"type":"integer"},"size":{"type":"integer","maximum":10,"minimum":1},"tags":{"type":"array","maxItems":3,"items":{"type":"string"},"x-kubernetes-list-type":"set"},"when":{"type":"string","format":"date-time"}},"x-kubernetes-validations":[{"rule":"self.min <= self.size","messageExpression":"self.size < 3 ? 'tiny: below ' + 'min' : 'below min'"},{"rule":"!has(oldSelf.frozen) || self.frozen == oldSelf.frozen","message":"frozen can't change","reason":"FieldValueForbidden","fieldPath":".frozen"}]},"status":{"type":"object","properties":{"replicas":{"type":"integer"},"selector":{"type":"string"}}}}}},"subresources":{"status":{},"scale":{"specReplicasPath":".spec.replicas","statusReplicasPath":".status.replicas","labelSelectorPath":".status.selector"}},"additionalPrinterColumns":[{"name":"Size","type":"integer","jsonPath":".spec.size"},{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}],"selectableFields":[{"jsonPath":".spec.color"}]}]: must have exactly one version marked as storage version, status.storedVersions: Invalid value: []: must have at least one stored version]
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.versions[0].name: Invalid value: "V1": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: [spec.versions[0].schema.openAPIV3Schema: Required value, spec.versions[0].selectableFields: Invalid value: "": may only be set when `version.schema.openAPIV3Schema` is not included]
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[size].type: Required value: must not be empty for specified object fields
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[size].default: Invalid value: "string":  in body must be of type integer: "string"
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[size].items: Required value: must be specified
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: [spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[size].$ref: Forbidden: $ref is not supported, spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[size].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic]
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[size].pattern: Invalid value: "(": must be a valid regular expression, but isn't: unclosed group
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: {"Rule":"self.nope == 1","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}: compilation failed: ERROR: <input>:1:5: undefined field 'nope'
                 | self.nope == 1
                 | ....^
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value: {"Rule":"self.size","Message":"","MessageExpression":"","Reason":null,"FieldPath":"","OptionalOldSelf":null}: cel expression must evaluate to a bool
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: [spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared), spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema, spec.versions[0].schema.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)]
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[tags].x-kubernetes-list-type: Unsupported value: "bag": supported values: "atomic", "set", "map"
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.versions[0].schema.openAPIV3Schema.properties[spec].properties[parts].items.properties[id].default: Required value: this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: [spec.versions[0].selectableFields[0].jsonPath: Invalid value: ".spec.tags": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed., spec.versions[0].selectableFields[1].jsonPath: Invalid value: ".metadata.name": is an invalid path: does not refer to a valid field]
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.versions[0].subresources.scale.specReplicasPath: Invalid value: ".status.x": should be a json path under .spec
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: [spec.versions[0].additionalPrinterColumns[0].type: Invalid value: "map": must be one of boolean,date,integer,number,string, spec.versions[0].additionalPrinterColumns[0].JSONPath: Invalid value: "spec": must be a simple json path starting with .]
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: [metadata.name: Invalid value: "widgets.example.com": must be spec.names.plural+"."+spec.group, metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation "api-approved.kubernetes.io", see https://github.com/kubernetes/enhancements/pull/1111]
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "widgets.example.com" is invalid: spec.conversion.strategy: Invalid value: "Webhook": this version of Windlass converts custom resources only by strategy None; webhooks are not called yet
                POST /apis/apiextensions.k8s.io/v1/customresourcedefinitions {"apiVersion":"apiextensions.
                    422 Invalid: CustomResourceDefinition.apiextensions.k8s.io "a.b.c" is invalid: [metadata.name: Invalid value: "a.b.c": must be spec.names.plural+"."+spec.group, spec.group: Required value, spec.scope: Required value, spec.versions: Invalid value: "": must have exactly one version marked as storage version, spec.names.plural: Required value, spec.names.singular: Required value, spec.names.kind: Required value, spec.names.listKind: Required value, status.storedVersions: Invalid value: []: must have at least one stored version]
            "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn the_life_of_a_kind() {
    let cluster = Cluster::new().await;
    define(&cluster, &widgets()).await;
    let crd = cluster.get(&format!("{CRDS}/widgets.example.com")).await;
    expect![[r#"{"conditions":[{"type":"NamesAccepted","status":"True","reason":"NoConflicts","message":"no conflicts found","lastTransitionTime":"2026-11-23T17:20:00Z"},{"type":"Established","status":"True","reason":"InitialNamesAccepted","message":"the initial names have been accepted","lastTransitionTime":"2026-11-23T17:20:00Z"}],"acceptedNames":{"plural":"widgets","kind":"Widget","singular":"widget","shortNames":["wd"],"listKind":"WidgetList","categories":["all"]},"storedVersions":["v1"]}"#]].assert_eq(&crd["status"].to_string());
    cluster
        .session(
            &[
                &widget("a", json!({"size": 3, "unknown": 1, "parts": [{"id": "x"}], "free": {"any": {"thing": 1}}})),
                &format!("GET {WIDGETS}/a"),
                &widget("b", json!({"size": 11})),
                &widget("b", json!({"size": "x", "color": "green", "tags": ["a", "a"]})),
                &widget("b", json!({"size": 1, "min": 2})),
                &widget("b", json!({"size": 1, "name": "UPPER", "when": "soon", "port": true})),
                &widget("b", json!({"size": 1, "name": "abcdefg", "tags": ["a", "b", "c", "d"]})),
                &widget("b", json!({"size": 1, "parts": [{"id": "x"}, {"id": "x"}], "inner": {"kind": "X"}})),
                &widget("b", json!(null)),
                &widget("b", json!({})),
                &format!("POST {WIDGETS}?fieldValidation=Strict {}", json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "b", "nope": 1}, "spec": {"size": 1, "unknown": 1}})),
                &format!("POST {WIDGETS} {}", json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "b", "labels": {"a": 1}}, "spec": {"size": 1}})),
                &format!("POST {WIDGETS} {}", json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": "b"}})),
                &widget("b", json!({"size": 2, "color": "blue", "frozen": "yes"})),
                &format!("PATCH {WIDGETS}/b merge {}", json!({"spec": {"frozen": "no"}})),
                &format!("PATCH {WIDGETS}/b strategic {}", json!({"spec": {"size": 3}})),
                &format!("PATCH {WIDGETS}/b json {}", json!([{"op": "replace", "path": "/spec/size", "value": 4}])),
                &format!("PATCH {WIDGETS}/b/status merge {}", json!({"status": {"replicas": 2, "selector": "app=x"}, "spec": {"size": 9}})),
                &format!("PATCH {WIDGETS}/b/status merge {}", json!({"status": {"replicas": "x"}})),
                &format!("GET {WIDGETS}/b/scale"),
                &format!("PATCH {WIDGETS}/b merge {}", json!({"spec": {"replicas": 1}})),
                &format!("PATCH {WIDGETS}/b/scale merge {}", json!({"spec": {"replicas": 5}})),
                &format!("GET {WIDGETS}?fieldSelector=spec.color=blue"),
                &format!("GET {WIDGETS}?fieldSelector=spec.size=3"),
                "GET /apis/example.com/v1/widgets?limit=1",
                &format!("PUT {WIDGETS}/b {}", json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "b"}, "spec": {"size": 1}})),
                &format!("DELETE {WIDGETS}/a"),
            ],
            expect![[r#"
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind"
                    201 Widget a +4 | 299 - "unknown field \"spec.unknown\""
                GET /apis/example.com/v1/namespaces/default/widgets/a
                    200 Widget a +4
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind"
                    422 Invalid: Widget.example.com "b" is invalid: spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind"
                    422 Invalid: Widget.example.com "b" is invalid: [spec.color: Unsupported value: "green": supported values: "red", "blue", spec.size: Invalid value: "string": spec.size in body must be of type integer: "string", spec.tags[1]: Duplicate value: "a", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind"
                    422 Invalid: Widget.example.com "b" is invalid: spec: Invalid value: tiny: below min
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind"
                    422 Invalid: Widget.example.com "b" is invalid: [spec.name: Invalid value: "UPPER": spec.name in body should match '^[a-z]+$', spec.port: Invalid value: "boolean": spec.port in body must be of type integer,string: "boolean", spec.when: Invalid value: "soon": spec.when in body must be of type date-time: "soon", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind"
                    422 Invalid: Widget.example.com "b" is invalid: [spec.name: Too long: may not be more than 5 bytes, spec.tags: Too many: 4: must have at most 3 items, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind"
                    422 Invalid: Widget.example.com "b" is invalid: [spec.inner.apiVersion: Required value, spec.parts[1]: Duplicate value: {"id":"x"}, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind"
                    422 Invalid: Widget.example.com "b" is invalid: [spec: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind"
                    422 Invalid: Widget.example.com "b" is invalid: [spec.size: Required value, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]
                POST /apis/example.com/v1/namespaces/default/widgets?fieldValidation=Strict {"apiVersion":
                    400 BadRequest: Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "metadata.nope", unknown field "spec.unknown"
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind"
                    400 BadRequest: Widget in version "v1" cannot be handled as a Widget: json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v2","kind"
                    400 BadRequest: the API version in the data (example.com/v2) does not match the expected API version (example.com/v1)
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind"
                    201 Widget b +5
                PATCH /apis/example.com/v1/namespaces/default/widgets/b merge {"spec":{"frozen":"no"}}
                    422 Invalid: Widget.example.com "b" is invalid: spec.frozen: Forbidden: frozen can't change
                PATCH /apis/example.com/v1/namespaces/default/widgets/b strategic {"spec":{"size":3}}
                    415 UnsupportedMediaType: the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml
                PATCH /apis/example.com/v1/namespaces/default/widgets/b json [{"op":"replace","path":"/spe
                    200 Widget b +6
                PATCH /apis/example.com/v1/namespaces/default/widgets/b/status merge {"status":{"replicas"
                    200 Widget b +7
                PATCH /apis/example.com/v1/namespaces/default/widgets/b/status merge {"status":{"replicas"
                    422 Invalid: Widget.example.com "b" is invalid: [status.replicas: Invalid value: "string": replicas in body must be of type integer: "string", .status.replicas: Invalid value: 0: .status.replicas accessor error: "x" is of the type string, expected int64, <nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation]
                GET /apis/example.com/v1/namespaces/default/widgets/b/scale
                    500 InternalError: Internal error occurred: the spec replicas field ".spec.replicas" does not exist
                PATCH /apis/example.com/v1/namespaces/default/widgets/b merge {"spec":{"replicas":1}}
                    200 Widget b +8
                PATCH /apis/example.com/v1/namespaces/default/widgets/b/scale merge {"spec":{"replicas":5}
                    200 Scale b +9
                GET /apis/example.com/v1/namespaces/default/widgets?fieldSelector=spec.color=blue
                    200 WidgetList [b]
                GET /apis/example.com/v1/namespaces/default/widgets?fieldSelector=spec.size=3
                    400 BadRequest: field label not supported: spec.size
                GET /apis/example.com/v1/widgets?limit=1
                    200 WidgetList [a] remaining=1 continues
                PUT /apis/example.com/v1/namespaces/default/widgets/b {"apiVersion":"example.com/v1","kind
                    422 Invalid: widgets.example.com "b" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update
                DELETE /apis/example.com/v1/namespaces/default/widgets/a
                    200 Success
            "#]],
        )
        .await;
    let b = cluster.get(&format!("{WIDGETS}/b")).await;
    expect![[r#"4 {"size":4,"color":"blue","frozen":"yes","min":1,"replicas":5} {"replicas":2,"selector":"app=x"}"#]]
        .assert_eq(&format!("{} {} {}", b["metadata"]["generation"], b["spec"], b["status"]));
}

#[tokio::test(start_paused = true)]
async fn applied_by_several() {
    let cluster = Cluster::new().await;
    define(&cluster, &widgets()).await;
    let apply = |manager: &str, spec: Value| {
        let object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec});
        format!("PATCH {WIDGETS}/a?fieldManager={manager} apply {object}")
    };
    cluster
        .session(
            &[
                &apply(
                    "one",
                    json!({"size": 1, "tags": ["x"], "parts": [{"id": "p", "count": 1}]}),
                ),
                &apply("two", json!({"size": 2})),
                &apply("two", json!({"color": "blue", "tags": ["y"], "parts": [{"id": "q"}]})),
                &apply("two", json!({"parts": [{"id": "p", "count": 3}]})),
                &apply("two", json!({"nope": 1})),
                &apply("one", json!({"size": 1})),
            ],
            expect![[r#"
                PATCH /apis/example.com/v1/namespaces/default/widgets/a?fieldManager=one apply {"apiVersio
                    201 Widget a +4
                PATCH /apis/example.com/v1/namespaces/default/widgets/a?fieldManager=two apply {"apiVersio
                    409 Conflict: Apply failed with 1 conflict: conflict with "one": .spec.size
                PATCH /apis/example.com/v1/namespaces/default/widgets/a?fieldManager=two apply {"apiVersio
                    200 Widget a +5
                PATCH /apis/example.com/v1/namespaces/default/widgets/a?fieldManager=two apply {"apiVersio
                    409 Conflict: Apply failed with 1 conflict: conflict with "one": .spec.parts[id="p"].count
                PATCH /apis/example.com/v1/namespaces/default/widgets/a?fieldManager=two apply {"apiVersio
                    400 BadRequest: failed to create typed patch object (default/a; example.com/v1, Kind=Widget): .spec.nope: field not declared in schema
                PATCH /apis/example.com/v1/namespaces/default/widgets/a?fieldManager=one apply {"apiVersio
                    200 Widget a +6
            "#]],
        )
        .await;
    let a = cluster.get(&format!("{WIDGETS}/a")).await;
    let fields: Vec<String> = a["metadata"]["managedFields"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| format!("{} {} {}", one["manager"], one["apiVersion"], one["fieldsV1"]))
        .collect();
    expect![[r#"
        {"size":1,"tags":["y"],"parts":[{"id":"q","count":7}],"color":"blue","min":1}
        "one" "example.com/v1" {"f:spec":{"f:size":{}}}
        "two" "example.com/v1" {"f:spec":{"f:color":{},"f:parts":{"k:{\"id\":\"q\"}":{".":{},"f:id":{}}},"f:tags":{"v:\"y\"":{}}}}"#]].assert_eq(&format!("{}\n{}", a["spec"], fields.join("\n")));
}

/// Two versions of one kind, with schemas of their own.
fn gears() -> Value {
    let schema = |fields: Value| json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gears.example.com"},
        "spec": {"group": "example.com", "scope": "Cluster", "names": {"plural": "gears", "kind": "Gear"},
            "versions": [
                {"name": "v1beta1", "served": true, "storage": true, "deprecated": true, "schema": schema(json!({"teeth": {"type": "integer"}}))},
                {"name": "v1", "served": true, "storage": false, "schema": schema(json!({"teeth": {"type": "integer"}, "metal": {"type": "string", "default": "iron"}}))}]}})
}

#[tokio::test(start_paused = true)]
async fn several_versions() {
    let cluster = Cluster::new().await;
    define(&cluster, &gears()).await;
    cluster
        .session(
            &[
                r#"POST /apis/example.com/v1beta1/gears {"apiVersion":"example.com/v1beta1","kind":"Gear","metadata":{"name":"a"},"spec":{"teeth":5,"metal":"gold"}}"#,
                "GET /apis/example.com/v1/gears/a",
                "GET /apis/example.com/v1beta1/gears",
            ],
            expect![[r#"
                POST /apis/example.com/v1beta1/gears {"apiVersion":"example.com/v1beta1","kind":"Gear","me
                    201 Gear a +5 | 299 - "unknown field \"spec.metal\"" | 299 - "example.com/v1beta1 Gear is deprecated; use example.com/v1 Gear"
                GET /apis/example.com/v1/gears/a
                    200 Gear a +5
                GET /apis/example.com/v1beta1/gears
                    200 GearList [a] | 299 - "example.com/v1beta1 Gear is deprecated; use example.com/v1 Gear"
            "#]],
        )
        .await;
    let both = |a: &Value, b: &Value| {
        format!("{} {} {} {}", a["apiVersion"], a["spec"], b["apiVersion"], b["spec"])
    };
    let new = cluster.get("/apis/example.com/v1/gears/a").await;
    let old = cluster.get("/apis/example.com/v1beta1/gears/a").await;
    expect![[r#""example.com/v1" {"teeth":5,"metal":"iron"} "example.com/v1beta1" {"teeth":5}"#]]
        .assert_eq(&both(&new, &old));
    let groups = cluster.get("/apis/example.com").await;
    expect![[r#"{"kind":"APIGroup","apiVersion":"v1","name":"example.com","versions":[{"groupVersion":"example.com/v1","version":"v1"},{"groupVersion":"example.com/v1beta1","version":"v1beta1"}],"preferredVersion":{"groupVersion":"example.com/v1","version":"v1"}}"#]].assert_eq(&groups.to_string());
    // A field that a stored version hasn't got is not kept by it.
    let mut definition = cluster.get(&format!("{CRDS}/gears.example.com")).await;
    definition["spec"]["versions"][0]["storage"] = json!(false);
    definition["spec"]["versions"][1]["storage"] = json!(true);
    let answer = cluster.run(&format!("PUT {CRDS}/gears.example.com {definition}")).await;
    expect![[r#"["v1beta1","v1"]"#]]
        .assert_eq(&answer.json()["status"]["storedVersions"].to_string());
    // By the rows that were before, by the new ones, or not at all.
    cluster.run(r#"PATCH /apis/example.com/v1/gears/a merge {"spec":{"metal":"zinc"}}"#).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let old = cluster.get("/apis/example.com/v1beta1/gears/a").await;
    assert_eq!(old["spec"]["metal"], Value::Null);
    cluster.run(r#"PATCH /apis/example.com/v1/gears/a merge {"spec":{"metal":"tin"}}"#).await;
    let new = cluster.get("/apis/example.com/v1/gears/a").await;
    let old = cluster.get("/apis/example.com/v1beta1/gears/a").await;
    expect![[r#""example.com/v1" {"teeth":5,"metal":"tin"} "example.com/v1beta1" {"teeth":5}"#]]
        .assert_eq(&both(&new, &old));
}

#[tokio::test(start_paused = true)]
async fn names_are_taken_once() {
    let cluster = Cluster::new().await;
    define(&cluster, &widgets()).await;
    let mut second = gears();
    second["spec"]["names"] = json!({"plural": "gears", "kind": "Widget", "shortNames": ["wd"]});
    cluster.run(&format!("POST {CRDS} {second}")).await;
    let rival =
        until(&cluster, "gears.example.com", |crd| !state(crd, "NamesAccepted").is_empty()).await;
    expect![[r#"{"conditions":[{"type":"NamesAccepted","status":"False","reason":"ListKindConflict","message":"\"WidgetList\" is already in use","lastTransitionTime":"2026-11-23T17:20:00Z"},{"type":"Established","status":"False","reason":"NotAccepted","message":"not all names are accepted","lastTransitionTime":"2026-11-23T17:20:00Z"}],"acceptedNames":{"plural":"gears","kind":""},"storedVersions":["v1beta1"]}"#]].assert_eq(&rival["status"].to_string());
    cluster
        .session(
            &["GET /apis/example.com/v1/gears"],
            expect![[r#"
        GET /apis/example.com/v1/gears
            404 NotFound: the server could not find the requested resource
    "#]],
        )
        .await;
    cluster.run(&format!("DELETE {CRDS}/widgets.example.com")).await;
    until(&cluster, "gears.example.com", |crd| state(crd, "Established") == "True").await;
    cluster
        .session(
            &["GET /apis/example.com/v1/gears"],
            expect![[r#"
        GET /apis/example.com/v1/gears
            200 WidgetList []
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_definition_takes_its_instances_along() {
    let cluster = Cluster::new().await;
    define(&cluster, &widgets()).await;
    cluster.run(&widget("a", json!({"size": 1}))).await;
    let held = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "b", "finalizers": ["example.com/hold"]}, "spec": {"size": 1}});
    cluster.run(&format!("POST {WIDGETS} {held}")).await;
    let answer = cluster.run(&format!("DELETE {CRDS}/widgets.example.com")).await;
    expect![[r#"["customresourcecleanup.apiextensions.k8s.io"]"#]]
        .assert_eq(&answer.json()["metadata"]["finalizers"].to_string());
    for _ in 0..1000 {
        if cluster.get(&format!("{WIDGETS}/a")).await["code"] == 404 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    cluster
        .session(
            &[
                &format!("GET {WIDGETS}"),
                &widget("c", json!({"size": 1})),
                &format!("PATCH {WIDGETS}/b merge {}", json!({"metadata": {"finalizers": null}})),
            ],
            expect![[r#"
                GET /apis/example.com/v1/namespaces/default/widgets
                    200 WidgetList [b]
                POST /apis/example.com/v1/namespaces/default/widgets {"apiVersion":"example.com/v1","kind"
                    403 Forbidden: widgets.example.com "c" is forbidden: create not allowed while custom resource definition is terminating
                PATCH /apis/example.com/v1/namespaces/default/widgets/b merge {"metadata":{"finalizers":nu
                    200 Widget b +10
            "#]],
        )
        .await;
    until(&cluster, "widgets.example.com", |crd| crd["code"] == 404).await;
    registered(&cluster, &widgets(), false).await;
    cluster
        .session(
            &[&format!("GET {WIDGETS}"), "GET /apis/example.com"],
            expect![[r#"
        GET /apis/example.com/v1/namespaces/default/widgets
            404 NotFound: the server could not find the requested resource
        GET /apis/example.com
            404 NotFound: the server could not find the requested resource
    "#]],
        )
        .await;
    // Another of its name begins empty.
    define(&cluster, &widgets()).await;
    cluster
        .session(
            &[&format!("GET {WIDGETS}")],
            expect![[r#"
        GET /apis/example.com/v1/namespaces/default/widgets
            200 WidgetList []
    "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn options_of_a_deletion_come_in_any_version() {
    let cluster = Cluster::new().await;
    define(&cluster, &widgets()).await;
    for version in ["v1", "meta.k8s.io/v1", "example.com/v1"] {
        cluster.run(&widget("a", json!({"size": 1}))).await;
        let options = json!({"apiVersion": version, "kind": "DeleteOptions",
            "propagationPolicy": "Background"});
        let answer = cluster.run(&format!("DELETE {WIDGETS}/a {options}")).await;
        assert_eq!(answer.code, 200, "{version}: {}", String::from_utf8_lossy(&answer.bytes));
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_and_a_new_default() {
    let store = Arc::new(MemoryStore::new());
    let cluster = Cluster::on(store.clone()).await;
    define(&cluster, &widgets()).await;
    cluster.run(&widget("a", json!({"size": 1}))).await;
    drop(cluster);
    let cluster = Cluster::on(store).await;
    let a = cluster.get(&format!("{WIDGETS}/a")).await;
    expect![[r#"{"size":1,"color":"red","min":1}"#]].assert_eq(&a["spec"].to_string());
    let mut definition = cluster.get(&format!("{CRDS}/widgets.example.com")).await;
    let fields = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let fields = definition.pointer_mut(fields).expect("there");
    fields["added"] = json!({"type": "string", "default": "later"});
    fields.as_object_mut().expect("an object").remove("color");
    definition["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.added"}]);
    cluster.run(&format!("PUT {CRDS}/widgets.example.com {definition}")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let a = cluster.get(&format!("{WIDGETS}/a")).await;
    expect![[r#"{"size":1,"min":1,"added":"later"}"#]].assert_eq(&a["spec"].to_string());
    cluster
        .session(
            &[
                &format!("GET {WIDGETS}?fieldSelector=spec.color=red"),
                &format!("PATCH {WIDGETS}/a merge {}", json!({"spec": {"size": 2}})),
                &format!("GET {WIDGETS}?fieldSelector=spec.added=later"),
            ],
            expect![[r#"
                GET /apis/example.com/v1/namespaces/default/widgets?fieldSelector=spec.color=red
                    400 BadRequest: field label not supported: spec.color
                PATCH /apis/example.com/v1/namespaces/default/widgets/a merge {"spec":{"size":2}}
                    200 Widget a +2
                GET /apis/example.com/v1/namespaces/default/widgets?fieldSelector=spec.added=later
                    200 WidgetList [a]
            "#]],
        )
        .await;
}

#[tokio::test(start_paused = true)]
async fn documents_and_tables() {
    let cluster = Cluster::new().await;
    define(&cluster, &widgets()).await;
    cluster.run(&widget("a", json!({"size": 4}))).await;
    let list = cluster.get("/apis/example.com/v1").await;
    expect![[r#"{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"example.com/v1","resources":[{"name":"widgets","singularName":"widget","namespaced":true,"kind":"Widget","verbs":["delete","deletecollection","get","list","patch","create","update","watch"],"shortNames":["wd"],"categories":["all"],"storageVersionHash":"gIwvi5rymmg="},{"name":"widgets/status","singularName":"","namespaced":true,"kind":"Widget","verbs":["get","patch","update"]},{"name":"widgets/scale","singularName":"","namespaced":true,"kind":"Scale","verbs":["get","patch","update"],"group":"autoscaling","version":"v1"}]}"#]].assert_eq(&list.to_string());
    let index = cluster.get("/openapi/v3").await;
    let index_of = |index: &Value| {
        let path = &index["paths"]["apis/example.com/v1"]["serverRelativeURL"];
        path.as_str().expect("a URL").to_owned()
    };
    let first = index_of(&index);
    let old = cluster.get("/openapi/v2").await;
    let color = &old["definitions"]["com.example.v1.Widget"]["properties"]["spec"]["properties"];
    expect![[r#"{"type":"string","default":"red","enum":["red","blue"]} {}"#]]
        .assert_eq(&format!("{} {}", color["color"], color["note"]));
    let document = cluster.get("/openapi/v3/apis/example.com/v1").await;
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let own: Vec<&String> = schemas.keys().filter(|name| name.starts_with("com.")).collect();
    expect![[r#"["com.example.v1.Widget", "com.example.v1.WidgetList"]"#]]
        .assert_eq(&format!("{own:?}"));
    assert!(schemas.contains_key("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"));
    let color = &schemas["com.example.v1.Widget"]["properties"]["spec"]["properties"]["color"];
    expect![[r#"{"type":"string","default":"red","enum":["red","blue"]}"#]]
        .assert_eq(&color.to_string());
    let patch =
        &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"];
    let types: Vec<&String> =
        patch["requestBody"]["content"].as_object().expect("types").keys().collect();
    expect![[r#""patchExampleComV1NamespacedWidget" ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]"#]].assert_eq(&format!("{} {types:?}", patch["operationId"]));
    // Another schema: another hash.
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/color/enum/-";
    let patch = json!([{"op": "add", "path": path, "value": "green"}]);
    cluster.run(&format!("PATCH {CRDS}/widgets.example.com json {patch}")).await;
    until(&cluster, "widgets.example.com", |crd| crd["metadata"]["generation"] == 2).await;
    let changed = async {
        while index_of(&cluster.get("/openapi/v3").await) == first {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), changed).await.expect("another hash");
    let document = cluster.get("/openapi/v3/apis/example.com/v1").await;
    let spec = &document["components"]["schemas"]["com.example.v1.Widget"]["properties"]["spec"];
    assert_eq!(spec["properties"]["color"]["enum"], json!(["red", "blue", "green"]));
    let request = http::Request::get(WIDGETS)
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(axum::body::Body::empty())
        .expect("a request");
    let table = cluster.read(request).await.json();
    let columns = table["columnDefinitions"].as_array().into_iter().flatten();
    let columns: Vec<&Value> = columns.map(|column| &column["name"]).collect();
    expect![[r#"[String("Name"), String("Size"), String("Age")] ["a",4,"0s"]"#]]
        .assert_eq(&format!("{columns:?} {}", table["rows"][0]["cells"]));
}

#[tokio::test]
async fn a_large_schema_with_deep_rules_is_quick() {
    let cluster = Cluster::new().await;
    let mut fields = serde_json::Map::new();
    let words = "A description as long as those that generators copy out of Go. ".repeat(9);
    for n in 0..400 {
        fields.insert(format!("field{n}"), json!({"type": "object", "description": words, "properties": {
            "a": {"type": "string", "maxLength": 63, "description": "Deep."},
            "list": {"type": "array", "maxItems": 8, "items": {"type": "object", "properties": {"x": {"type": "integer"}}}}}}));
    }
    for n in 0..40 {
        fields[&format!("field{n}")]["x-kubernetes-validations"] = json!([
            {"rule": "!has(self.a) || self.a.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')"},
            {"rule": "!has(self.list) || self.list.all(i, self.list.exists(j, j.x >= i.x))"}]);
    }
    let mut definition = widgets();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        json!({"type": "object", "properties": fields});
    definition["spec"]["versions"][0]["selectableFields"] = json!([]);
    let bytes = definition.to_string().len();
    assert!(bytes > 300_000, "{bytes}");
    #[allow(clippy::disallowed_methods, reason = "it measures real time")]
    let began = std::time::Instant::now();
    define(&cluster, &definition).await;
    let took = began.elapsed();
    // Not optimised, and beside other tests: a released build takes a tenth.
    assert!(took < Duration::from_secs(30), "{took:?}");
    println!("a definition of {bytes} bytes took {took:?}");
}
