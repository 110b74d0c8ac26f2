//! Tokens of service accounts, from TokenRequest to what their holder may do.

use axum::body::Body;
use expect_test::{Expect, expect};
use http::header;
use serde_json::{Value, json};
use windlass_apiserver_access::User;

use crate::{Cluster, network::Network};

const NAMESPACE: &str = "/api/v1/namespaces/default";
const ROBOT: &str = "/api/v1/namespaces/default/serviceaccounts/robot/token";

/// An account, and a pod of it on the node `n` with volumes for two audiences.
async fn prepare(cluster: &Cluster) {
    let pod = json!({"metadata": {"name": "p"}, "spec": {
        "nodeName": "n", "serviceAccountName": "robot",
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "t", "projected": {"sources": [
            {"serviceAccountToken": {"path": "token"}},
            {"serviceAccountToken": {"path": "vault", "audience": "vault"}},
        ]}}],
    }});
    let account = |name: &str| {
        format!(r#"POST {NAMESPACE}/serviceaccounts {{"metadata":{{"name":"{name}"}}}}"#)
    };
    for write in [
        r#"POST /api/v1/nodes {"metadata":{"name":"n"}}"#.to_owned(),
        account("robot"),
        account("other"),
        format!("POST {NAMESPACE}/pods {pod}"),
    ] {
        let answer = cluster.run(&write).await;
        assert_eq!(answer.code, 201, "{}", answer.summary());
    }
}

async fn token(cluster: &Cluster, spec: Value) -> String {
    let answer = cluster.run(&format!("POST {ROBOT} {}", json!({ "spec": spec }))).await;
    assert_eq!(answer.code, 201, "{}", answer.summary());
    answer.json()["status"]["token"].as_str().expect("a token").to_owned()
}

/// `METHOD /path [body]` with a token: code and what the answer says.
async fn run_as(network: &Network, token: &str, line: &str) -> (u16, String) {
    let mut parts = line.splitn(3, ' ');
    let request = http::Request::builder()
        .method(parts.next().expect("a method"))
        .uri(parts.next().expect("a path"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .body(Body::from(parts.next().unwrap_or_default().to_owned()));
    network.ask(None, request.expect("a request")).await
}

#[tokio::test]
async fn a_token_is_a_user_with_rights() {
    let network = Network::new().await;
    let cluster = &network.cluster;
    prepare(cluster).await;
    let bound = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}});
    let (plain, of_pod) = (token(cluster, json!({})).await, token(cluster, bound).await);
    let whoami = "POST /apis/authentication.k8s.io/v1/selfsubjectreviews {}";
    let (code, text) = run_as(&network, &of_pod, whoami).await;
    let user = &serde_json::from_str::<Value>(&text).expect("JSON")["status"]["userInfo"];
    assert_eq!((code, &user["username"]), (201, &json!("system:serviceaccount:default:robot")));
    assert_eq!(user["extra"]["authentication.kubernetes.io/pod-name"], json!(["p"]));
    assert_eq!(user["extra"]["authentication.kubernetes.io/node-name"], json!(["n"]));
    assert_eq!(user["uid"].as_str().map(str::len), Some(36));

    let list = format!("GET {NAMESPACE}/configmaps");
    let (code, text) = run_as(&network, &plain, &list).await;
    assert!(
        code == 403 && text.contains(r#"system:serviceaccount:default:robot\" cannot list"#),
        "{code} {text}"
    );
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let binding = json!({"metadata": {"name": "v"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": "default"}]});
    assert_eq!(cluster.run(&format!("POST {rbac} {binding}")).await.code, 201);
    assert_eq!(run_as(&network, &plain, &list).await.0, 200);
    assert_eq!(run_as(&network, &plain, "GET /.well-known/openid-configuration").await.0, 200);
    assert_eq!(run_as(&network, &plain, "GET /openid/v1/jwks").await.0, 200);
    assert_eq!(
        network
            .ask(
                None,
                http::Request::get("/openid/v1/jwks").body(Body::empty()).expect("a request")
            )
            .await
            .0,
        403
    );

    let vault = token(cluster, json!({"audiences": ["vault"]})).await;
    assert_eq!(run_as(&network, &vault, &list).await.0, 401, "for somebody else");
    cluster.run(&format!(r#"DELETE {NAMESPACE}/pods/p {{"gracePeriodSeconds":0}}"#)).await;
    assert_eq!(run_as(&network, &of_pod, &list).await.0, 401, "its pod is gone");
    cluster.clock.advance(3600 + 61);
    assert_eq!(run_as(&network, &plain, &list).await.0, 401, "it has expired");
}

#[tokio::test(start_paused = true)]
async fn reviews_and_requests() {
    let cluster = Cluster::new().await;
    prepare(&cluster).await;
    let vault = token(&cluster, json!({"audiences": ["vault"]})).await;
    let review = |spec: Value| {
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        format!("POST {path} {}", json!({ "spec": spec }))
    };
    let mut out = String::new();
    for spec in [
        json!({"token": vault, "audiences": ["vault", "other"]}),
        json!({"token": vault}),
        json!({"token": "nonsense"}),
        json!({}),
    ] {
        let answer = cluster.run(&review(spec)).await;
        let mut json = answer.json();
        if let Some(Value::Object(user)) = json.pointer_mut("/status/user") {
            user.remove("uid");
            user.remove("extra");
        }
        let status = &json["status"];
        out += &match status.is_object() {
            true => format!("{} {status}\n", answer.code),
            false => format!("{}\n", answer.summary()),
        };
    }
    expect![[r#"
        201 {"authenticated":true,"user":{"username":"system:serviceaccount:default:robot","groups":["system:serviceaccounts","system:serviceaccounts:default","system:authenticated"]},"audiences":["vault"]}
        201 {"user":{},"error":"[invalid bearer token, token audiences [\"vault\"] is invalid for the target audiences [\"https://kubernetes.default.svc.cluster.local\"]]"}
        201 {"user":{},"error":"invalid bearer token"}
        400 BadRequest: token is required for TokenReview in authentication
    "#]].assert_eq(&out);
    cluster
        .session(
            &[
                &format!(r#"POST {ROBOT} {{"spec":{{"expirationSeconds":60}}}}"#),
                &format!(r#"POST {ROBOT} {{"metadata":{{"name":"other"}}}}"#),
                &format!("POST {NAMESPACE}/serviceaccounts/nobody/token {{}}"),
                &format!("GET {ROBOT}"),
                &format!(r#"POST {ROBOT} {{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1"}}"#),
            ],
            expect![[r#"
                POST /api/v1/namespaces/default/serviceaccounts/robot/token {"spec":{"expirationSeconds":6
                    422 Invalid: TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes
                POST /api/v1/namespaces/default/serviceaccounts/robot/token {"metadata":{"name":"other"}}
                    400 BadRequest: name in URL does not match name in TokenRequest object: robot other
                POST /api/v1/namespaces/default/serviceaccounts/nobody/token {}
                    404 NotFound: serviceaccounts "nobody" not found
                GET /api/v1/namespaces/default/serviceaccounts/robot/token
                    405 MethodNotAllowed: the server does not allow this method on the requested resource
                POST /api/v1/namespaces/default/serviceaccounts/robot/token {"kind":"TokenRequest","apiVer
                    201 TokenRequest robot
            "#]],
        )
        .await;
}

/// An agent gets tokens for the pods that are bound to it, as their volumes ask, and no others.
#[tokio::test(start_paused = true)]
async fn agents_ask_for_their_pods_only() {
    let cluster = Cluster::new().await;
    prepare(&cluster).await;
    let pod = cluster.get(&format!("{NAMESPACE}/pods/p")).await;
    let uid = pod["metadata"]["uid"].as_str().expect("a uid");
    let bound = |uid: &str, audiences: &[&str]| {
        json!({"spec": {"audiences": audiences, "boundObjectRef":
            {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}}})
    };
    let check = async |node: &str, path: &str, body: Value, expected: Expect| {
        let agent = cluster.as_user(User::node(node));
        expected.assert_eq(&agent.run(&format!("POST {path} {body}")).await.summary());
    };
    check("n", ROBOT, bound(uid, &[]), expect!["201 TokenRequest robot"]).await;
    check("n", ROBOT, bound(uid, &["vault"]), expect!["201 TokenRequest robot"]).await;
    check("n", ROBOT, bound(uid, &["elsewhere"]), expect![[r#"403 Forbidden: serviceaccounts "robot" is forbidden: audience "elsewhere" not found in pod spec volume"#]]).await;
    check("n", ROBOT, bound(uid, &["vault", "x"]), expect![[r#"403 Forbidden: serviceaccounts "robot" is forbidden: node may only request 0 or 1 audiences"#]]).await;
    check("n", ROBOT, bound("another", &[]), expect![[r#"403 Forbidden: serviceaccounts "robot" is forbidden: node requested token with a pod binding without a matching uid"#]]).await;
    check("n", ROBOT, json!({}), expect![[r#"403 Forbidden: serviceaccounts "robot" is forbidden: node requested token not bound to a pod"#]]).await;
    check("m", ROBOT, bound(uid, &[]), expect![[r#"403 Forbidden: serviceaccounts "robot" is forbidden: User "system:node:m" cannot create resource "serviceaccounts/token" in API group "" in the namespace "default": no relationship found between node 'm' and this object"#]]).await;
    let other = format!("{NAMESPACE}/serviceaccounts/other/token");
    check("n", &other, bound(uid, &[]), expect![[r#"403 Forbidden: serviceaccounts "other" is forbidden: User "system:node:n" cannot create resource "serviceaccounts/token" in API group "" in the namespace "default": no relationship found between node 'n' and this object"#]]).await;
}
