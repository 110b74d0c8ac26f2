//! HorizontalPodAutoscaler in both versions.

use expect_test::{Expect, expect};
use serde_json::json;
use windlass_apiserver_registry::GroupVersion;

use super::{changed, created, printed, refused};
use crate::{kind_of, stored, text, yaml};

const TARGET: &str = "scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: d}";

fn autoscaler(spec: &str) -> String {
    format!(
        "{{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {{name: a}}, spec: {{{TARGET}, {spec}}}}}"
    )
}

#[test]
fn autoscalers() {
    created(
        &autoscaler("maxReplicas: 3, behavior: {scaleDown: {stabilizationWindowSeconds: 5}}"),
        expect![[r#"
            kind: HorizontalPodAutoscaler
            apiVersion: autoscaling/v2
            metadata:
              name: a
              generation: 1
            spec:
              scaleTargetRef:
                kind: Deployment
                name: d
                apiVersion: apps/v1
              maxReplicas: 3
              behavior:
                scaleDown:
                  stabilizationWindowSeconds: 5
                  selectPolicy: Max
                  policies:
                  - type: Percent
                    value: 100
                    periodSeconds: 15
                scaleUp:
                  selectPolicy: Max
                  stabilizationWindowSeconds: 0
                  policies:
                  - type: Pods
                    value: 4
                    periodSeconds: 15
                  - type: Percent
                    value: 100
                    periodSeconds: 15
              minReplicas: 1
              metrics:
              - type: Resource
                resource:
                  name: cpu
                  target:
                    type: Utilization
                    averageUtilization: 80
            status:
              desiredReplicas: 0
              currentMetrics: null
        "#]],
    );
    refused(
        &autoscaler(
            "minReplicas: 5, maxReplicas: 2, metrics: [{type: Resource}, {type: X}, {type: Pods, pods: {metric: {name: ''}, target: {type: Y}}, resource: {name: cpu, target: {type: Value}}}, {type: ContainerResource, containerResource: {name: cpu, container: c, target: {type: Utilization, averageUtilization: 0}}}]",
        ),
        expect![[r#"
            422 HorizontalPodAutoscaler.autoscaling "a" is invalid: [spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`, spec.metrics[0].resource: Required value: must populate information for the given metric source, spec.metrics[1].type: Unsupported value: "X": supported values: "ContainerResource", "External", "Object", "Pods", "Resource", spec.metrics[1].type: Unsupported value: "X": supported values: "ContainerResource", "External", "Object", "Pods", "Resource", spec.metrics[2].pods.metric.name: Required value: must specify a metric name, spec.metrics[2].pods.target.type: Invalid value: "Y": must be either Utilization, Value, or AverageValue, spec.metrics[2].pods.target.averageValue: Required value: must specify a positive target averageValue, spec.metrics[2].resource: Forbidden: must populate the given metric source only, spec.metrics[3].containerResource.target.averageUtilization: Invalid value: 0: must be greater than 0]
              FieldValueInvalid spec.maxReplicas
              FieldValueRequired spec.metrics[0].resource
              FieldValueNotSupported spec.metrics[1].type
              FieldValueNotSupported spec.metrics[1].type
              FieldValueRequired spec.metrics[2].pods.metric.name
              FieldValueInvalid spec.metrics[2].pods.target.type
              FieldValueRequired spec.metrics[2].pods.target.averageValue
              FieldValueForbidden spec.metrics[2].resource
              FieldValueInvalid spec.metrics[3].containerResource.target.averageUtilization
        "#]],
    );
    refused(
        &autoscaler(
            "minReplicas: 0, maxReplicas: 0, behavior: {scaleUp: {policies: [{type: X, value: 0, periodSeconds: 2000}], stabilizationWindowSeconds: 4000, selectPolicy: Y}, scaleDown: {policies: []}}",
        ),
        expect![[r#"
            422 HorizontalPodAutoscaler.autoscaling "a" is invalid: [spec.maxReplicas: Required value, spec.metrics: Forbidden: must specify at least one Object or External metric to support scaling to zero replicas, spec.behavior.scaleUp.stabilizationWindowSeconds: Invalid value: 4000: must be less than or equal to 3600, spec.behavior.scaleUp.selectPolicy: Unsupported value: "Y": supported values: "Disabled", "Max", "Min", spec.behavior.scaleUp.policies[0].type: Unsupported value: "X": supported values: "Percent", "Pods", spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero, spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 2000: must be less than or equal to 1800]
              FieldValueRequired spec.maxReplicas
              FieldValueForbidden spec.metrics
              FieldValueInvalid spec.behavior.scaleUp.stabilizationWindowSeconds
              FieldValueNotSupported spec.behavior.scaleUp.selectPolicy
              FieldValueNotSupported spec.behavior.scaleUp.policies[0].type
              FieldValueInvalid spec.behavior.scaleUp.policies[0].value
              FieldValueInvalid spec.behavior.scaleUp.policies[0].periodSeconds
        "#]],
    );
    refused(
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: a}, spec: {scaleTargetRef: {apiVersion: v1, kind: '', name: a/b}, maxReplicas: 1}}",
        expect![[r#"
            422 HorizontalPodAutoscaler.autoscaling "a" is invalid: [spec.scaleTargetRef.kind: Required value, spec.scaleTargetRef.name: Invalid value: "a/b": may not contain '/', spec.scaleTargetRef.apiVersion: Invalid value: "v1": apiVersion must specify API group]
              FieldValueRequired spec.scaleTargetRef.kind
              FieldValueInvalid spec.scaleTargetRef.name
              FieldValueInvalid spec.scaleTargetRef.apiVersion
        "#]],
    );
    let one = stored(&autoscaler("maxReplicas: 3"));
    changed(
        "status",
        &one,
        |one| {
            one["status"]["currentReplicas"] = json!(-1);
            one["spec"]["maxReplicas"] = json!(9);
        },
        &[],
        expect![[r#"
            422 HorizontalPodAutoscaler.autoscaling "a" is invalid: status.currentReplicas: Invalid value: -1: must be greater than or equal to 0
              FieldValueInvalid status.currentReplicas
        "#]],
    );
    printed(
        &autoscaler(
            "maxReplicas: 3, metrics: [{type: Resource, resource: {name: memory, target: {type: AverageValue, averageValue: 1Gi}}}, {type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}, {type: External, external: {metric: {name: m}, target: {type: Value, value: 1}}}]",
        ),
        "{currentReplicas: 2, currentMetrics: [null, {type: Resource, resource: {name: cpu, current: {averageUtilization: 30}}}]}",
        expect![
            "a | Deployment/d | memory: <unknown>/1Gi, cpu: 30%/50% + 1 more... | 1 | 3 | 2 | 5m"
        ],
    );
}

/// There and back.
fn converted(v1: &str, expected: Expect) {
    let mut object = yaml(v1);
    let kind = kind_of(&object);
    let before = object.clone();
    kind.convert(&mut object, &GroupVersion::new("autoscaling", "v2"));
    let shown = text(&object);
    kind.convert(&mut object, &GroupVersion::new("autoscaling", "v1"));
    assert_eq!(object, before);
    expected.assert_eq(&shown);
}

#[test]
fn versions() {
    converted(
        "{kind: HorizontalPodAutoscaler, apiVersion: autoscaling/v1, metadata: {name: a}, spec: {maxReplicas: 3, targetCPUUtilizationPercentage: 60}}",
        expect![[r#"
            kind: HorizontalPodAutoscaler
            apiVersion: autoscaling/v2
            metadata:
              name: a
            spec:
              maxReplicas: 3
              metrics:
              - type: Resource
                resource:
                  name: cpu
                  target:
                    type: Utilization
                    averageUtilization: 60
        "#]],
    );
    converted(
        r#"{kind: HorizontalPodAutoscaler, apiVersion: autoscaling/v1, metadata: {name: a, annotations: {x: "y", autoscaling.alpha.kubernetes.io/metrics: '[{"type":"Pods","pods":{"metricName":"m","targetAverageValue":"5"}}]', autoscaling.alpha.kubernetes.io/behavior: '{"scaleUp":{"selectPolicy":"Min"}}'}}, spec: {maxReplicas: 3, targetCPUUtilizationPercentage: 60}}"#,
        expect![[r#"
            kind: HorizontalPodAutoscaler
            apiVersion: autoscaling/v2
            metadata:
              name: a
              annotations:
                x: y
            spec:
              maxReplicas: 3
              metrics:
              - type: Pods
                pods:
                  metric:
                    name: m
                  target:
                    averageValue: '5'
                    type: AverageValue
              - type: Resource
                resource:
                  name: cpu
                  target:
                    type: Utilization
                    averageUtilization: 60
              behavior:
                scaleUp:
                  selectPolicy: Min
        "#]],
    );
}
