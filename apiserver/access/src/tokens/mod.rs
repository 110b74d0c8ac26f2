//! Tokens of service accounts: JSON Web Tokens (RFC 7519, ES256) with upstream's claims, signed by
//! a key of the cluster. A signature is checked once and remembered by the token's hash; whether
//! the account and what the token is bound to still exist is looked up every time, in memory.

mod claims;
mod request;

use std::{collections::HashMap, path::Path, sync::Arc};

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use windlass_sdk_meta::{Clock, Object, Rng, Timestamp};

use self::claims::{Bound, Claims};
use crate::{
    Lookup, User,
    pki::{self, PkiError},
};

pub(crate) use request::VOLUME_SECONDS;
pub use request::request_kind;

/// Who issues tokens, and for whom they are where nobody is named: upstream's default names.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// Longer tokens are not looked at.
const MAX_TOKEN_BYTES: usize = 16 << 10;
/// Tokens whose signature is known to hold.
const MAX_REMEMBERED: usize = 4096;
/// How far the clocks of two machines may differ, and how long what is being deleted still counts.
const LEEWAY_SECONDS: i64 = 60;

/// Issues tokens and tells whose they are.
pub struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    header: Header,
    /// The public key as RFC 7517 writes it.
    public: Value,
    clock: Arc<dyn Clock>,
    rng: Rng,
    remembered: Mutex<HashMap<[u8; 32], Arc<Verified>>>,
}

/// A token that we signed.
struct Verified {
    claims: Claims,
    user: Arc<User>,
}

impl Tokens {
    /// Opens the signing key `sa.key` (mode 0600) in `dir`, or makes one where there is none.
    pub fn open_or_create(dir: &Path, clock: Arc<dyn Clock>, rng: Rng) -> Result<Self, PkiError> {
        let path = dir.join("sa.key");
        if !path.exists() {
            let failed = |source| PkiError::Io { path: dir.display().to_string(), source };
            std::fs::create_dir_all(dir).map_err(failed)?;
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            pki::write_private(&path, &key.serialize_pem())?;
        }
        let unusable = |why: String| PkiError::SigningKey { path: path.display().to_string(), why };
        let key =
            KeyPair::from_pem(&pki::read(&path)?).map_err(|error| unusable(error.to_string()))?;
        Self::new(&key, clock, rng).map_err(unusable)
    }

    /// Signs with a key of the curve P-256.
    fn new(key: &KeyPair, clock: Arc<dyn Clock>, rng: Rng) -> Result<Self, String> {
        // An uncompressed point (SEC 1, 2.3.3): 4, x, y.
        let point = key.public_key_raw();
        let (4, Some(x), Some(y)) =
            (point.first().copied().unwrap_or(0), point.get(1..33), point.get(33..65))
        else {
            return Err("it is not a key of the curve P-256".into());
        };
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let (x, y) = (text(x), text(y));
        let id = text(&Sha256::digest(key.subject_public_key_info()));
        let public = json!({"use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": "ES256",
            "x": x, "y": y});
        let mut header = Header::new(Algorithm::ES256);
        (header.typ, header.kid) = (None, Some(id));
        Ok(Self {
            signing: EncodingKey::from_ec_der(&key.serialize_der()),
            verifying: DecodingKey::from_ec_components(&x, &y)
                .map_err(|error| error.to_string())?,
            header,
            public,
            clock,
            rng,
            remembered: Mutex::default(),
        })
    }

    /// The user of a token that is valid for one of `audiences` (none: this API server), and the
    /// audiences that it shares with them. Err says why it isn't accepted.
    pub fn authenticate(
        &self,
        token: &str,
        audiences: &[&str],
        lookup: &dyn Lookup,
    ) -> Result<(Arc<User>, Vec<String>), String> {
        let verified = self.verify(token)?;
        let claims = &verified.claims;
        let now = self.clock.now();
        if now.as_second() > claims.exp + LEEWAY_SECONDS {
            return Err("service account token has expired".into());
        }
        if now.as_second() < claims.nbf - LEEWAY_SECONDS {
            return Err("service account token is not valid yet".into());
        }
        let audiences = if audiences.is_empty() { &[ISSUER] } else { audiences };
        let shared: Vec<String> =
            claims.aud.iter().filter(|own| audiences.contains(&own.as_str())).cloned().collect();
        if shared.is_empty() {
            let own = &claims.aud;
            return Err(format!(
                "token audiences {own:?} is invalid for the target audiences {audiences:?}"
            ));
        }
        for bound in claims.kubernetes.bound() {
            still_there(&bound, &claims.kubernetes.namespace, now, lookup)?;
        }
        Ok((verified.user.clone(), shared))
    }

    /// `/.well-known/openid-configuration` (OpenID Connect Discovery 1.0, section 3).
    pub fn discovery(&self, jwks_uri: &str) -> Value {
        json!({"issuer": ISSUER, "jwks_uri": jwks_uri, "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"]})
    }

    /// The keys that tokens are checked with (RFC 7517).
    pub fn keys(&self) -> Value {
        json!({"keys": [self.public]})
    }

    fn verify(&self, token: &str) -> Result<Arc<Verified>, String> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err("the token is too long".into());
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        if let Some(known) = self.remembered.lock().get(&hash) {
            return Ok(known.clone());
        }
        // Times are checked by the caller, whose clock is not the machine's.
        let mut rules = Validation::new(Algorithm::ES256);
        rules.required_spec_claims.clear();
        (rules.validate_exp, rules.validate_nbf, rules.validate_aud) = (false, false, false);
        let claims: Claims = jsonwebtoken::decode(token, &self.verifying, &rules)
            .map_err(|error| format!("the token doesn't hold: {error}"))?
            .claims;
        if claims.iss != ISSUER {
            return Err(format!("the token is not issued by {ISSUER}"));
        }
        let user = Arc::new(claims.user());
        let verified = Arc::new(Verified { claims, user });
        self.remember(hash, verified.clone());
        Ok(verified)
    }

    fn remember(&self, hash: [u8; 32], verified: Arc<Verified>) {
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MAX_REMEMBERED {
            let now = self.clock.now().as_second();
            remembered.retain(|_, known| known.claims.exp > now);
        }
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(hash, verified);
    }

    fn sign(&self, claims: &Claims) -> Result<String, jsonwebtoken::errors::Error> {
        jsonwebtoken::encode(&self.header, claims, &self.signing)
    }
}

/// What a token stands on must exist, be the one that was meant, and not be gone for a minute.
fn still_there(
    bound: &Bound<'_>,
    namespace: &str,
    now: Timestamp,
    lookup: &dyn Lookup,
) -> Result<(), String> {
    let Bound { what, resource, of } = bound;
    let namespace = if *what == "node" { "" } else { namespace };
    let Some(object) = lookup.get(resource, namespace, &of.name) else {
        return Err(format!("{what} {:?} of the token does not exist", of.name));
    };
    if *object.uid != *of.uid {
        return Err(format!("{what} {:?} of the token has been made anew", of.name));
    }
    if gone(&object, now) {
        return Err(format!("{what} {:?} of the token has been deleted", of.name));
    }
    Ok(())
}

fn gone(object: &Object, now: Timestamp) -> bool {
    if !object.deleting {
        return false;
    }
    let tree = object.tree();
    let at = tree["metadata"]["deletionTimestamp"].as_str();
    let at = at.and_then(windlass_sdk_meta::parse_time);
    at.is_none_or(|at| at.as_second() + LEEWAY_SECONDS < now.as_second())
}

#[cfg(test)]
mod tests;
