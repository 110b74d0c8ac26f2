//! Tokens from request to user, under a clock that tests move.

use std::sync::atomic::{AtomicI64, Ordering};

use expect_test::{Expect, expect};
use serde_json::json;
use windlass_sdk_meta::GroupResource;

use super::*;
use crate::testing::Stored;

const START: i64 = 1_800_000_000;

#[derive(Debug)]
struct Hands(AtomicI64);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).expect("a time")
    }
}

struct World {
    tokens: Tokens,
    clock: Arc<Hands>,
    stored: Stored,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Arc::new(Hands(AtomicI64::new(START)));
        let tokens = Tokens::open_or_create(folder.path(), clock.clone(), Rng::seeded(1));
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "robot", "namespace": "ns", "uid": "sa-1"}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "namespace": "ns", "uid": "pod-1"},
            "spec": {"nodeName": "n", "serviceAccountName": "robot"}});
        let other = json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "other", "namespace": "ns", "uid": "pod-2"},
            "spec": {"serviceAccountName": "default"}});
        let node = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n", "uid": "node-1"}});
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "s", "namespace": "ns", "uid": "secret-1"}});
        let stored = Stored::new([account, pod, other, node, secret]);
        Self { tokens: tokens.expect("a key"), clock, stored, _folder: folder }
    }

    /// The answer to a TokenRequest with this spec.
    fn ask(&self, spec: Value) -> Result<Value, String> {
        let accounts = GroupResource::new("", "serviceaccounts");
        let account = self.stored.get(&accounts, "ns", "robot").expect("the account");
        let mut request = json!({"spec": spec});
        let mut run = || {
            self.tokens.complete(&mut request, &account)?;
            self.tokens.validate(&request)?;
            self.tokens.answer(&mut request, &account, &self.stored)
        };
        run().map_err(|status| format!("{} {}", status.code, status.message))?;
        Ok(request)
    }

    fn token(&self, spec: Value) -> String {
        let answer = self.ask(spec).expect("a token");
        answer["status"]["token"].as_str().expect("a token").to_owned()
    }

    fn who(&self, token: &str) -> String {
        match self.tokens.authenticate(token, &[], &self.stored) {
            Ok((user, audiences)) => format!(
                "{} uid={} {:?} {:?} for {audiences:?}",
                user.name, user.uid, user.groups, user.extra
            ),
            Err(why) => why,
        }
    }

    fn check(&self, specs: &[Value], expected: Expect) {
        let mut out = String::new();
        for spec in specs {
            let answer = match self.ask(spec.clone()) {
                Ok(answer) => {
                    let token = answer["status"]["token"].as_str().expect("a token");
                    let payload = token.split('.').nth(1).expect("a payload");
                    let claims = BASE64_URL_SAFE_NO_PAD.decode(payload).expect("base64");
                    let mut claims: Value = serde_json::from_slice(&claims).expect("claims");
                    claims["jti"] = "ID".into();
                    format!("{} {claims}", answer["status"]["expirationTimestamp"])
                }
                Err(why) => why,
            };
            out += &format!("{spec}\n    {answer}\n");
        }
        expected.assert_eq(&out);
    }
}

#[test]
fn requests() {
    let bound = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}});
    let volume = json!({"expirationSeconds": 3607, "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}});
    World::new().check(
        &[
            json!({}),
            json!({"audiences": ["vault"], "expirationSeconds": 600}),
            json!({"expirationSeconds": 599}),
            json!({"expirationSeconds": (1i64 << 32) + 1}),
            bound("Pod", "p", "pod-1"),
            volume,
            bound("Pod", "p", "pod-0"),
            bound("Pod", "gone", ""),
            bound("Pod", "other", ""),
            bound("Secret", "s", "secret-1"),
            bound("Node", "n", ""),
            bound("ConfigMap", "c", ""),
        ],
        expect![[r#"
            {}
                "2027-01-15T09:00:00Z" {"aud":["https://kubernetes.default.svc.cluster.local"],"exp":1800003600,"iat":1800000000,"iss":"https://kubernetes.default.svc.cluster.local","jti":"ID","kubernetes.io":{"namespace":"ns","serviceaccount":{"name":"robot","uid":"sa-1"}},"nbf":1800000000,"sub":"system:serviceaccount:ns:robot"}
            {"audiences":["vault"],"expirationSeconds":600}
                "2027-01-15T08:10:00Z" {"aud":["vault"],"exp":1800000600,"iat":1800000000,"iss":"https://kubernetes.default.svc.cluster.local","jti":"ID","kubernetes.io":{"namespace":"ns","serviceaccount":{"name":"robot","uid":"sa-1"}},"nbf":1800000000,"sub":"system:serviceaccount:ns:robot"}
            {"expirationSeconds":599}
                422 TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes
            {"expirationSeconds":4294967297}
                422 TokenRequest.authentication.k8s.io "" is invalid: spec.expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 seconds
            {"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"p","uid":"pod-1"}}
                "2027-01-15T09:00:00Z" {"aud":["https://kubernetes.default.svc.cluster.local"],"exp":1800003600,"iat":1800000000,"iss":"https://kubernetes.default.svc.cluster.local","jti":"ID","kubernetes.io":{"namespace":"ns","node":{"name":"n","uid":"node-1"},"pod":{"name":"p","uid":"pod-1"},"serviceaccount":{"name":"robot","uid":"sa-1"}},"nbf":1800000000,"sub":"system:serviceaccount:ns:robot"}
            {"expirationSeconds":3607,"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"p"}}
                "2027-01-15T09:00:07Z" {"aud":["https://kubernetes.default.svc.cluster.local"],"exp":1831536000,"iat":1800000000,"iss":"https://kubernetes.default.svc.cluster.local","jti":"ID","kubernetes.io":{"namespace":"ns","node":{"name":"n","uid":"node-1"},"pod":{"name":"p","uid":"pod-1"},"serviceaccount":{"name":"robot","uid":"sa-1"},"warnafter":1800003607},"nbf":1800000000,"sub":"system:serviceaccount:ns:robot"}
            {"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"p","uid":"pod-0"}}
                409 Operation cannot be fulfilled on Pod "p": the UID in the bound object reference (pod-0) does not match the UID in record. The object might have been deleted and then recreated
            {"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"gone","uid":""}}
                404 pods "gone" not found
            {"boundObjectRef":{"apiVersion":"v1","kind":"Pod","name":"other","uid":""}}
                400 cannot bind token for serviceaccount "robot" to pod running with different serviceaccount name.
            {"boundObjectRef":{"apiVersion":"v1","kind":"Secret","name":"s","uid":"secret-1"}}
                "2027-01-15T09:00:00Z" {"aud":["https://kubernetes.default.svc.cluster.local"],"exp":1800003600,"iat":1800000000,"iss":"https://kubernetes.default.svc.cluster.local","jti":"ID","kubernetes.io":{"namespace":"ns","secret":{"name":"s","uid":"secret-1"},"serviceaccount":{"name":"robot","uid":"sa-1"}},"nbf":1800000000,"sub":"system:serviceaccount:ns:robot"}
            {"boundObjectRef":{"apiVersion":"v1","kind":"Node","name":"n","uid":""}}
                "2027-01-15T09:00:00Z" {"aud":["https://kubernetes.default.svc.cluster.local"],"exp":1800003600,"iat":1800000000,"iss":"https://kubernetes.default.svc.cluster.local","jti":"ID","kubernetes.io":{"namespace":"ns","node":{"name":"n","uid":"node-1"},"serviceaccount":{"name":"robot","uid":"sa-1"}},"nbf":1800000000,"sub":"system:serviceaccount:ns:robot"}
            {"boundObjectRef":{"apiVersion":"v1","kind":"ConfigMap","name":"c","uid":""}}
                400 cannot bind token to object of type /v1, Kind=ConfigMap
        "#]],
    );
}

#[test]
fn whose_a_token_is() {
    let world = World::new();
    let pod = json!({"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}});
    let (plain, of_pod) = (world.token(json!({})), world.token(pod));
    let vault = world.token(json!({"audiences": ["vault"]}));
    let strange = World::new().token(json!({}));
    let (head, tail) = plain.rsplit_once('.').expect("a signature");
    let none = format!("eyJhbGciOiJub25lIn0.{}.", head.split('.').nth(1).expect("claims"));
    let (of_pod_head, _) = of_pod.rsplit_once('.').expect("a signature");
    let changed = format!("{of_pod_head}.{tail}");
    let mut out = String::new();
    for token in [&plain, &of_pod, &vault, &strange, &none, &changed, "", "a.b.c"] {
        out += &format!("{}\n", world.who(token));
    }
    expect![[r#"
        system:serviceaccount:ns:robot uid=sa-1 ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"] {"authentication.kubernetes.io/credential-id": ["JTI=cfc5d07f-6f03-429b-bf42-4132963fe08d"]} for ["https://kubernetes.default.svc.cluster.local"]
        system:serviceaccount:ns:robot uid=sa-1 ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"] {"authentication.kubernetes.io/credential-id": ["JTI=19a37d57-57aa-4520-bf08-119f05cd56d6"], "authentication.kubernetes.io/node-name": ["n"], "authentication.kubernetes.io/node-uid": ["node-1"], "authentication.kubernetes.io/pod-name": ["p"], "authentication.kubernetes.io/pod-uid": ["pod-1"]} for ["https://kubernetes.default.svc.cluster.local"]
        token audiences ["vault"] is invalid for the target audiences ["https://kubernetes.default.svc.cluster.local"]
        the token doesn't hold: InvalidSignature
        the token doesn't hold: JSON error: unknown variant `none`, expected one of `HS256`, `HS384`, `HS512`, `ES256`, `ES384`, `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `EdDSA` at line 1 column 13
        the token doesn't hold: InvalidSignature
        the token doesn't hold: InvalidToken
        the token doesn't hold: Base64 error: Invalid input length: 1
    "#]].assert_eq(&out);
    let found = world.tokens.authenticate(&vault, &["vault", "x"], &world.stored);
    assert_eq!(found.expect("valid there").1, ["vault"]);
}

#[test]
fn a_token_ends_with_what_it_stands_on() {
    let world = World::new();
    let bound = |kind: &str, name: &str| {
        let bound = json!({"apiVersion": "v1", "kind": kind, "name": name});
        world.token(json!({"boundObjectRef": bound, "expirationSeconds": 600}))
    };
    let (plain, pod, secret) = (world.token(json!({})), bound("Pod", "p"), bound("Secret", "s"));
    let mut out = String::new();
    let mut tell = |what: &str| {
        for token in [&plain, &pod, &secret] {
            let who = world.who(token);
            out += &format!("{what}: {}\n", who.split(" uid=").next().unwrap_or_default());
        }
    };
    tell("at first");
    let deleting = |at: i64| {
        let at = windlass_sdk_meta::format_time(Timestamp::from_second(at).expect("a time"));
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "ns",
            "uid": "pod-1", "deletionTimestamp": at}, "spec": {"serviceAccountName": "robot"}})
    };
    world.stored.put(deleting(START - 10));
    tell("deleted just now");
    world.stored.put(deleting(START - 61));
    world.stored.remove(&GroupResource::new("", "secrets"), "ns", "s");
    tell("deleted long ago, secret removed");
    world.clock.0.fetch_add(3600 + 61, Ordering::Relaxed);
    tell("an hour later");
    world.clock.0.store(START - 61, Ordering::Relaxed);
    tell("before");
    world.clock.0.store(START, Ordering::Relaxed);
    world.stored.put(json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "robot", "namespace": "ns", "uid": "sa-2"}}));
    tell("another account of that name");
    expect![[r#"
        at first: system:serviceaccount:ns:robot
        at first: system:serviceaccount:ns:robot
        at first: system:serviceaccount:ns:robot
        deleted just now: system:serviceaccount:ns:robot
        deleted just now: system:serviceaccount:ns:robot
        deleted just now: system:serviceaccount:ns:robot
        deleted long ago, secret removed: system:serviceaccount:ns:robot
        deleted long ago, secret removed: pod "p" of the token has been deleted
        deleted long ago, secret removed: secret "s" of the token does not exist
        an hour later: service account token has expired
        an hour later: service account token has expired
        an hour later: service account token has expired
        before: service account token is not valid yet
        before: service account token is not valid yet
        before: service account token is not valid yet
        another account of that name: service account "robot" of the token has been made anew
        another account of that name: service account "robot" of the token has been made anew
        another account of that name: service account "robot" of the token has been made anew
    "#]]
    .assert_eq(&out);
}

#[test]
fn the_key_stays_and_is_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let path = world._folder.path().join("sa.key");
    let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = Tokens::open_or_create(world._folder.path(), world.clock.clone(), Rng::seeded(2));
    let again = again.expect("opens");
    assert_eq!(again.keys(), world.tokens.keys());
    let token = world.token(json!({}));
    assert!(again.authenticate(&token, &[], &world.stored).is_ok());
    std::fs::write(&path, "no key").expect("writes");
    let error = Tokens::open_or_create(world._folder.path(), world.clock.clone(), Rng::seeded(3));
    assert!(error.err().expect("refused").to_string().contains("sa.key"));
}

#[test]
fn remembered_tokens_are_bounded() {
    let world = World::new();
    let token = world.token(json!({}));
    let known = world.tokens.verify(&token).expect("valid");
    for number in 0..2 * MAX_REMEMBERED {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        world.tokens.remember(hash, known.clone());
    }
    assert!(world.tokens.remembered.lock().len() <= MAX_REMEMBERED);
    assert!(world.who(&token).starts_with("system:serviceaccount:ns:robot"));
}
