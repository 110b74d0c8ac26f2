//! `serviceaccounts/NAME/token`: what a TokenRequest may ask for, and its answer. The server reads,
//! admits and answers; what stands here is pure but for the look-up.

use serde_json::{Value, json};
use windlass_sdk_meta::{
    Cause, GroupResource, GroupVersionKind, Object, Status, Timestamp, format_time,
};

use super::{
    ISSUER, Tokens,
    claims::{Claims, NODES, PODS, Private, Reference, SECRETS},
};
use crate::Lookup;

const DEFAULT_SECONDS: i64 = 3600;
const MIN_SECONDS: i64 = 600;
const MAX_SECONDS: i64 = 1 << 32;
/// What volumes ask for by default; such a token lives longer, so that programs that read it only
/// once go on working for now (upstream's `--service-account-extend-token-expiration`).
pub(crate) const VOLUME_SECONDS: i64 = 3607;
const EXTENDED_SECONDS: i64 = 365 * 24 * 60 * 60;

/// What is posted.
pub fn request_kind() -> GroupVersionKind {
    GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest")
}

impl Tokens {
    /// Fills in what a request for a token of `account` leaves open, and refuses one that names
    /// another account than its path.
    pub fn complete(&self, request: &mut Value, account: &Object) -> Result<(), Status> {
        let Some(whole) = request.as_object_mut() else {
            return Err(Status::bad_request("the body is no TokenRequest"));
        };
        whole.remove("status");
        for (key, own) in [("name", &*account.name), ("namespace", &*account.namespace)] {
            let said = whole.get("metadata").and_then(|metadata| metadata[key].as_str());
            if let Some(said) = said.filter(|said| !said.is_empty() && *said != own) {
                return Err(Status::bad_request(format!(
                    "{key} in URL does not match {key} in TokenRequest object: {own} {said}"
                )));
            }
        }
        let created = format_time(self.clock.now());
        whole.insert(
            "metadata".into(),
            json!({"name": *account.name, "namespace": *account.namespace,
                "creationTimestamp": created}),
        );
        let spec = whole.entry("spec").or_insert_with(|| json!({}));
        if !spec.is_object() {
            *spec = json!({});
        }
        if spec["expirationSeconds"].is_null() {
            spec["expirationSeconds"] = DEFAULT_SECONDS.into();
        }
        if spec["audiences"].as_array().is_none_or(Vec::is_empty) {
            spec["audiences"] = json!([ISSUER]);
        }
        Ok(())
    }

    /// Refuses what no token can be.
    pub fn validate(&self, request: &Value) -> Result<(), Status> {
        let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
        let why = match seconds {
            ..MIN_SECONDS => "may not specify a duration less than 10 minutes",
            MIN_SECONDS..=MAX_SECONDS => return Ok(()),
            _ => "may not specify a duration larger than 2^32 seconds",
        };
        let cause = Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {seconds}: {why}"),
            field: "spec.expirationSeconds".into(),
        };
        Err(Status::invalid(&request_kind(), "", vec![cause]))
    }

    /// Signs a token for a request that is complete and admitted, and writes it into its status.
    pub fn answer(
        &self,
        request: &mut Value,
        account: &Object,
        lookup: &dyn Lookup,
    ) -> Result<(), Status> {
        let bound = bound_object(&request["spec"]["boundObjectRef"], account, lookup)?;
        let now = self.clock.now().as_second();
        let seconds = request["spec"]["expirationSeconds"].as_i64().unwrap_or(DEFAULT_SECONDS);
        let audiences = request["spec"]["audiences"].as_array().into_iter().flatten();
        let aud: Vec<String> = audiences.filter_map(Value::as_str).map(str::to_owned).collect();
        let extended = bound.pod.is_some() && seconds == VOLUME_SECONDS && aud == [ISSUER];
        let (lives, warnafter) = match extended {
            true => (EXTENDED_SECONDS, Some(now + seconds)),
            false => (seconds, None),
        };
        let claims = Claims {
            aud,
            exp: now + lives,
            iat: now,
            iss: ISSUER.into(),
            jti: self.rng.uid(),
            kubernetes: Private { warnafter, ..bound },
            nbf: now,
            sub: format!("system:serviceaccount:{}:{}", account.namespace, account.name),
        };
        let token = self.sign(&claims).map_err(Status::internal)?;
        let expires = Timestamp::from_second(now + seconds).unwrap_or(Timestamp::MAX);
        request["status"] = json!({"token": token, "expirationTimestamp": format_time(expires)});
        Ok(())
    }
}

/// The claim of a token of `account` that is bound to what `bound` names, if it names anything.
fn bound_object(bound: &Value, account: &Object, lookup: &dyn Lookup) -> Result<Private, Status> {
    let mut private = Private {
        namespace: account.namespace.to_string(),
        serviceaccount: reference(account),
        ..Private::default()
    };
    if !bound.is_object() {
        return Ok(private);
    }
    let text = |key: &str| bound[key].as_str().unwrap_or_default();
    let (api_version, kind, name, uid) =
        (text("apiVersion"), text("kind"), text("name"), text("uid"));
    let find = |resource: &GroupResource, namespace: &str| {
        let found = lookup.get(resource, namespace, name);
        found.ok_or_else(|| Status::not_found(resource, name))
    };
    let object = match (api_version, kind) {
        ("v1" | "", "Pod") => {
            let pod = find(&PODS, &account.namespace)?;
            let runs_as = pod.field("spec.serviceAccountName").unwrap_or_default();
            if runs_as != &*account.name {
                return Err(Status::bad_request(format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    account.name
                )));
            }
            private.node = pod.field("spec.nodeName").filter(|node| !node.is_empty()).map(|node| {
                let known = lookup.get(&NODES, "", node);
                known.map_or_else(
                    || Reference { name: node.into(), uid: String::new() },
                    |node| reference(&node),
                )
            });
            private.pod = Some(reference(&pod));
            pod
        }
        ("v1" | "", "Secret") => {
            let secret = find(&SECRETS, &account.namespace)?;
            private.secret = Some(reference(&secret));
            secret
        }
        ("v1" | "", "Node") => {
            let node = find(&NODES, "")?;
            private.node = Some(reference(&node));
            node
        }
        _ => {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            return Err(Status::bad_request(format!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    if !uid.is_empty() && uid != &*object.uid {
        return Err(Status::conflict(
            &GroupResource::new("", kind),
            name,
            format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. \
                 The object might have been deleted and then recreated"
            ),
        ));
    }
    Ok(private)
}

fn reference(object: &Object) -> Reference {
    Reference { name: object.name.to_string(), uid: object.uid.to_string() }
}
