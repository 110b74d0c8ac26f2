use super::*;
use expect_test::{Expect, expect};

fn check_as(target: (&str, &str, &str), body: &str, validation: FieldValidation, expected: Expect) {
    let (group, version, kind) = target;
    let format = if body.starts_with('\n') { Format::Yaml } else { Format::Json };
    let target = Target::new(group, version, kind);
    let text = match decode(body.as_bytes(), format, &target, validation) {
        Ok(decoded) => {
            let mut lines = vec![decoded.value.to_string()];
            lines.extend(decoded.warnings.iter().map(|w| format!("warning: {w}")));
            lines.join("\n")
        }
        Err(error) => {
            let status = Status::from(error);
            format!("{}: {}", status.code, status.message)
        }
    };
    expected.assert_eq(&text);
}

fn check(body: &str, expected: Expect) {
    check_as(("apps", "v1", "Deployment"), body, FieldValidation::Strict, expected);
}

fn check_pod(body: &str, expected: Expect) {
    check_as(("", "v1", "Pod"), body, FieldValidation::Strict, expected);
}

fn check_map(body: &str, expected: Expect) {
    check_as(("", "v1", "ConfigMap"), body, FieldValidation::Strict, expected);
}

#[test]
fn strict_errors() {
    check(
        r#"{"spec":{"foo":1,"template":{"spec":{"containers":[{"name":"a","imag":"b"}]}}}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.foo", unknown field "spec.template.spec.containers[0].imag""#
        ]],
    );
    check(
        r#"{"spec":{"replicas":1,"replicas":2},"spec":{}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: duplicate field "spec.replicas", duplicate field "spec""#
        ]],
    );
    check(
        r#"{"metadata":{"labels":{"a":"1","a":"2"}},"Spec":{}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: duplicate field "metadata.labels.a", unknown field "Spec""#
        ]],
    );
    check(
        "\napiVersion: apps/v1\nkind: Deployment\nspec:\n  replicas: 1\n  replicas: 2\n",
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: duplicate field "spec.replicas""#
        ]],
    );
    let body = r#"{"spec":{"foo":1},"spec":{}}"#;
    check_as(
        ("apps", "v1", "Deployment"),
        body,
        FieldValidation::Warn,
        expect![[r#"
        {"kind":"Deployment","apiVersion":"apps/v1","metadata":{},"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"strategy":{}},"status":{}}
        warning: unknown field "spec.foo"
        warning: duplicate field "spec""#]],
    );
    check_as(
        ("apps", "v1", "Deployment"),
        body,
        FieldValidation::Ignore,
        expect![[
            r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{},"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"strategy":{}},"status":{}}"#
        ]],
    );
    let unknown = r#"{"spec":{"a":null,"a":[{"b":1,"b":2}]}}"#;
    check_as(
        ("example.com", "v1", "Widget"),
        unknown,
        FieldValidation::Strict,
        expect![[
            r#"400: Widget in version "v1" cannot be handled as a Widget: strict decoding error: duplicate field "spec.a", duplicate field "spec.a[0].b""#
        ]],
    );
    check_as(
        ("example.com", "v1", "Widget"),
        unknown,
        FieldValidation::Warn,
        expect![[r#"
        {"kind":"Widget","apiVersion":"example.com/v1","spec":{"a":[{"b":2}]}}
        warning: duplicate field "spec.a"
        warning: duplicate field "spec.a[0].b""#]],
    );
}

#[test]
fn wrong_types() {
    check(
        r#"{"spec":{"replicas":"3"}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"#
        ]],
    );
    check(
        r#"{"spec":{"replicas":1.5}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32"#
        ]],
    );
    check(
        r#"{"spec":{"replicas":99999999999}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number 99999999999 into Go struct field DeploymentSpec.spec.replicas of type int32"#
        ]],
    );
    check(
        r#"{"spec":"x"}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field Deployment.spec of type v1.DeploymentSpec"#
        ]],
    );
    check(
        r#"{"spec":{"template":{"spec":{"containers":{}}}}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container"#
        ]],
    );
    check(
        r#"{"spec":{"template":{"spec":{"containers":[{"ports":[{"protocol":1}]}]}}}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number into Go struct field ContainerPort.spec.template.spec.containers.ports.protocol of type v1.Protocol"#
        ]],
    );
    check(
        r#"{"metadata":{"labels":{"a":1}}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"#
        ]],
    );
    check(
        r#"{"metadata":{"labels":[]}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal array into Go struct field ObjectMeta.metadata.labels of type map[string]string"#
        ]],
    );
    check(
        r#"{"metadata":{"finalizers":"x"}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field ObjectMeta.metadata.finalizers of type []string"#
        ]],
    );
    check(
        r#"{"metadata":{"creationTimestamp":1}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string"#
        ]],
    );
    check(
        r#"{"metadata":{"creationTimestamp":"today"}}"#,
        expect![[
            r#"400: Deployment in version "v1" cannot be handled as a Deployment: parsing time "today" as "2006-01-02T15:04:05Z07:00": cannot parse "today" as "2006""#
        ]],
    );
    check_pod(
        r#"{"spec":{"volumes":[{"emptyDir":1}]}}"#,
        expect![[
            r#"400: Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal number into Go struct field Volume.spec.volumes.VolumeSource.emptyDir of type v1.EmptyDirVolumeSource"#
        ]],
    );
    check_pod(
        r#"{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":true}}}]}}"#,
        expect![[
            r#"400: Pod in version "v1" cannot be handled as a Pod: json: cannot unmarshal bool into Go struct field HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32"#
        ]],
    );
    check_pod(
        r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"a"}}}]}}"#,
        expect![[
            r#"400: Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"#
        ]],
    );
    check_as(
        ("", "v1", "Secret"),
        r#"{"data":{"a":"YWJjZG"}}"#,
        FieldValidation::Strict,
        expect![[
            r#"400: Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 4"#
        ]],
    );
    check_as(
        ("", "v1", "Secret"),
        r#"{"data":{"a":"%%%"}}"#,
        FieldValidation::Strict,
        expect![[
            r#"400: Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0"#
        ]],
    );
}

#[test]
fn unrecognized_bodies() {
    check_map(
        "",
        expect![
            "400: the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: EOF while parsing a value at line 1 column 0 (<empty>)"
        ],
    );
    check_map(
        "{",
        expect![
            "400: the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: EOF while parsing an object at line 1 column 1 ({)"
        ],
    );
    check_map(
        "[]",
        expect![[
            r#"400: the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal array into Go value of type struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" } (5b5d)"#
        ]],
    );
    check_map(
        r#"{"kind":1}"#,
        expect![[
            r#"400: the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: json: cannot unmarshal number into Go struct field .kind of type string ({"kind":1})"#
        ]],
    );
    check_map(
        r#"{"apiVersion":"a/b/c"}"#,
        expect![[
            r#"400: the object provided is unrecognized (must be of type ConfigMap): unexpected GroupVersion string: a/b/c ({"apiVersion":"a/b/c"})"#
        ]],
    );
    check_map(
        r#"{"apiVersion":"apps/v1","kind":"ConfigMap"}"#,
        expect![[
            r#"400: ConfigMap in version "v1" cannot be handled as a ConfigMap: no kind "ConfigMap" is registered for version "apps/v1" in scheme "pkg/runtime/scheme.go:111""#
        ]],
    );
    check_map(
        r#"{"apiVersion":"v1","kind":"Pod"}"#,
        expect![[
            r#"400: Pod in version "v1" cannot be handled as a ConfigMap: converting (v1.Pod) to (v1.ConfigMap): unknown conversion"#
        ]],
    );
    check_map(
        r#"{"apiVersion":"v1","kind":"ConfigMop"}"#,
        expect![[
            r#"400: ConfigMop in version "v1" cannot be handled as a ConfigMap: no kind "ConfigMop" is registered for version "v1" in scheme "pkg/runtime/scheme.go:111""#
        ]],
    );
    check_map(
        &format!("{}{}", "[".repeat(500), "]".repeat(500)),
        expect![
            "400: the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: recursion limit exceeded at line 1 column 128 (5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b5b ...)"
        ],
    );
    check_as(
        ("", "v1", "DeleteOptions"),
        r#"{"apiVersion":"example.com/v1","kind":"DeleteOptions","gracePeriodSeconds":0}"#,
        FieldValidation::Strict,
        expect![[r#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":0}"#]],
    );
}

#[test]
fn go_form() {
    check(
        r#"{"metadata":{"name":"a","labels":{"b":null,"a":"x"},"annotations":{}},"spec":{"replicas":null,"paused":false}}"#,
        expect![[
            r#"{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"a","labels":{"a":"x","b":""}},"spec":{"selector":null,"template":{"metadata":{},"spec":{"containers":null}},"strategy":{}},"status":{}}"#
        ]],
    );
    check_pod(
        r#"{"spec":{"containers":[{"name":"a","resources":{"limits":{"memory":"1024Ki","cpu":0.5}},"command":null}],"terminationGracePeriodSeconds":0}}"#,
        expect![[
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{},"spec":{"containers":[{"name":"a","resources":{"limits":{"cpu":"500m","memory":"1Mi"}}}],"terminationGracePeriodSeconds":0},"status":{}}"#
        ]],
    );
    check_map(
        r#"{"data":{"b":"1","a":"2"},"binaryData":{"x":"AA=="}}"#,
        expect![[
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{},"data":{"a":"2","b":"1"},"binaryData":{"x":"AA=="}}"#
        ]],
    );
    check_as(
        ("", "v1", "Event"),
        r#"{"eventTime":"2026-11-23T17:20:00.000001+01:00","firstTimestamp":null,"involvedObject":{}}"#,
        FieldValidation::Strict,
        expect![[
            r#"{"kind":"Event","apiVersion":"v1","metadata":{},"involvedObject":{},"source":{},"firstTimestamp":null,"lastTimestamp":null,"eventTime":"2026-11-23T16:20:00.000001Z","reportingComponent":"","reportingInstance":""}"#
        ]],
    );
}

#[test]
fn yaml_aliases_are_bounded() {
    let mut body = String::from("\na0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for level in 1..12 {
        let inner = format!("*a{},", level - 1).repeat(10);
        body += &format!("a{level}: &a{level} [{inner}]\n");
    }
    let target = Target::new("", "v1", "ConfigMap");
    assert!(decode(body.as_bytes(), Format::Yaml, &target, FieldValidation::Ignore).is_err());
}

#[test]
fn structs_are_bounded() {
    let body = format!(r#"{{"spec":{{"containers":[{}null]}}}}"#, "null,".repeat(200_000));
    let target = Target::new("", "v1", "Pod");
    let error =
        decode(body.as_bytes(), Format::Json, &target, FieldValidation::Ignore).unwrap_err();
    assert_eq!(error.cause(), "the body holds too many objects");
}
