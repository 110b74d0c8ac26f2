//! Services: how what the cluster gave is kept, dropped and defended.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use crate::{kind_of, refusal, stored, update};

const BALANCED: &str = "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}]}}";

fn check(old: &Value, changes: &[(&str, Value)], expected: Expect) {
    let all = changes.iter().map(|(key, value)| {
        let result = update("", old, |service| service["spec"][*key] = value.clone());
        format!("{key}: {}", refusal(result))
    });
    expected.assert_eq(&all.collect::<String>());
}

#[test]
fn what_was_given_is_defended() {
    let old = stored(BALANCED);
    assert!(old["spec"]["healthCheckNodePort"].is_number(), "{old}");
    check(
        &old,
        &[
            ("clusterIP", json!("127.96.0.9")),
            ("clusterIPs", json!([])),
            ("healthCheckNodePort", json!(30_500)),
            ("loadBalancerClass", json!("example.com/a")),
            ("ipFamilies", json!(["IPv6"])),
            ("sessionAffinity", json!("ClientIP")),
        ],
        expect![[r#"
            clusterIP: 422 Service "a" is invalid: spec.clusterIPs[0]: Invalid value: ["127.96.0.9"]: may not change once set
              FieldValueInvalid spec.clusterIPs[0]
            clusterIPs: accepted
            healthCheckNodePort: 422 Service "a" is invalid: spec.healthCheckNodePort: Forbidden: field is immutable
              FieldValueForbidden spec.healthCheckNodePort
            loadBalancerClass: 422 Service "a" is invalid: spec.loadBalancerClass: Invalid value: "example.com/a": may not change once set
              FieldValueInvalid spec.loadBalancerClass
            ipFamilies: 422 Service "a" is invalid: spec.clusterIPs[0]: Invalid value: "127.96.0.5": expected an IPv6 value as indicated by `ipFamilies[0]`
              FieldValueInvalid spec.clusterIPs[0]
            sessionAffinity: accepted
        "#]],
    );
}

#[test]
fn what_the_new_type_has_no_use_for_goes() {
    let old = stored(BALANCED);
    let new = update("", &old, |service| service["spec"]["type"] = json!("ClusterIP")).unwrap();
    for key in ["healthCheckNodePort", "allocateLoadBalancerNodePorts", "externalTrafficPolicy"] {
        assert!(new["spec"][key].is_null(), "{key}: {}", new["spec"]);
    }
    assert!(new["spec"]["ports"][0]["nodePort"].is_null());
    assert_eq!(new["spec"]["clusterIP"], old["spec"]["clusterIP"]);
}

#[test]
fn status_and_warnings() {
    let old = stored(BALANCED);
    let ingress = |value: Value| {
        refusal(update("status", &old, |service| {
            service["status"]["loadBalancer"]["ingress"] = value
        }))
    };
    let all = [
        ingress(json!([{"ip": "1.2.3.4"}])),
        ingress(json!([{"ip": "x"}, {"hostname": "1.2.3.4"}, {"ipMode": "VIP"}])),
    ];
    expect![[r#"
        accepted
        422 Service "a" is invalid: [status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff), status.loadBalancer.ingress[1].hostname: Invalid value: "1.2.3.4": must be a DNS name, not an IP address, status.loadBalancer.ingress[2].ipMode: Forbidden: may not be specified when `ip` is not set]
          FieldValueInvalid status.loadBalancer.ingress[0].ip
          FieldValueInvalid status.loadBalancer.ingress[1].hostname
          FieldValueForbidden status.loadBalancer.ingress[2].ipMode
    "#]].assert_eq(&all.join(""));
    let headless = stored(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: None, externalIPs: [1.2.3.4], externalName: x}}",
    );
    let found = kind_of(&headless).strategy.warnings("", &headless, None);
    expect![[r#"
        spec.externalIPs is ignored for headless services
        spec.externalName is ignored when spec.type is not "ExternalName""#]]
    .assert_eq(&found.join("\n"));
}
