//! What a path means (distribution-spec, "Endpoints"): pure.

use windlass_sdk_package::is_digest;

use crate::{
    Repository, Target,
    error::{Code, Refused},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// `/v2/` itself.
    Base,
    /// All of a namespace: `_windlass/namespaces/NAME`, which no repository can be called.
    Namespace(String),
    Of(Repository, Resource),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Blob(String),
    Uploads,
    Upload(String),
    Manifest(Target),
    Tags,
    Referrers(String),
}

impl Route {
    pub fn parse(path: &str) -> Result<Self, Refused> {
        let rest = path.strip_prefix("/v2").unwrap_or(path);
        let parts: Vec<&str> = rest.split('/').skip(1).collect();
        let (name, resource) = match parts.as_slice() {
            [] | [""] => return Ok(Self::Base),
            ["_windlass", "namespaces", name] if Repository::is_namespace(name) => {
                return Ok(Self::Namespace((*name).to_owned()));
            }
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                (name, Resource::Uploads)
            }
            [name @ .., "blobs", "uploads", id] => (name, Resource::Upload((*id).to_owned())),
            [name @ .., "blobs", text] => (name, Resource::Blob(digest(text)?)),
            [name @ .., "manifests", text] => (name, Resource::Manifest(target(text)?)),
            [name @ .., "tags", "list"] => (name, Resource::Tags),
            [name @ .., "referrers", text] => (name, Resource::Referrers(digest(text)?)),
            _ => {
                let why = format!("there is nothing at {path}");
                return Err(Refused::not_found(Code::Unsupported, why));
            }
        };
        Ok(Self::Of(Repository::parse(&name.join("/"))?, resource))
    }
}

/// A digest as the registry names content; Err says why it isn't one.
pub(crate) fn digest(text: &str) -> Result<String, Refused> {
    // Clients may escape the colon.
    let text = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
    match is_digest(&text) {
        true => Ok(text.into_owned()),
        false => {
            let why = format!("{text:?} is no digest of the form sha256:HEX, the only one here");
            Err(Refused::bad(Code::DigestInvalid, why))
        }
    }
}

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`, or a digest.
fn target(text: &str) -> Result<Target, Refused> {
    if text.contains(':') || text.contains('%') {
        return digest(text).map(Target::Digest);
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = text.bytes().next().is_some_and(word);
    let rest = text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    match first && rest && text.len() <= 128 {
        true => Ok(Target::Tag(text.to_owned())),
        false => {
            let why = format!("{text:?} is neither a tag nor a digest");
            Err(Refused::bad(Code::ManifestInvalid, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(path: &str, expected: Expect) {
        let said = match Route::parse(path) {
            Ok(Route::Base) => "base".to_owned(),
            Ok(Route::Namespace(name)) => format!("all of {name}"),
            Ok(Route::Of(repository, resource)) => format!("{repository} {resource:?}"),
            Err(refused) => refused.to_string(),
        };
        expected.assert_eq(&said);
    }

    #[test]
    fn paths() {
        let hex = "a".repeat(64);
        check("/v2/", expect!["base"]);
        check("/v2", expect!["base"]);
        check("/v2/shop/cart/blobs/uploads/", expect!["shop/cart Uploads"]);
        check("/v2/shop/cart/blobs/uploads", expect!["shop/cart Uploads"]);
        check("/v2/shop/cart/blobs/uploads/x1", expect![[r#"shop/cart Upload("x1")"#]]);
        check("/v2/shop/cart/tags/list", expect!["shop/cart Tags"]);
        check("/v2/shop/cart/manifests/v1", expect![[r#"shop/cart Manifest(Tag("v1"))"#]]);
        // A repository may be called as an endpoint is.
        check(
            "/v2/blobs/manifests/manifests/v1",
            expect![[r#"blobs/manifests Manifest(Tag("v1"))"#]],
        );
        let short = |path: String| Route::parse(&path).map(|found| found != Route::Base);
        assert!(short(format!("/v2/shop/cart/blobs/sha256:{hex}")).is_ok_and(|found| found));
        assert!(short(format!("/v2/shop/cart/manifests/sha256%3A{hex}")).is_ok_and(|found| found));
        check(
            "/v2/shop/cart/blobs/sha512:00",
            expect![[
                r#"DIGEST_INVALID: "sha512:00" is no digest of the form sha256:HEX, the only one here"#
            ]],
        );
        check(
            "/v2/shop/cart/manifests/-x",
            expect![[r#"MANIFEST_INVALID: "-x" is neither a tag nor a digest"#]],
        );
        check("/v2/_windlass/namespaces/shop", expect!["all of shop"]);
        check(
            "/v2/_windlass/namespaces/Shop",
            expect!["UNSUPPORTED: there is nothing at /v2/_windlass/namespaces/Shop"],
        );
        check("/v2/_catalog", expect!["UNSUPPORTED: there is nothing at /v2/_catalog"]);
        check(
            "/v2/cart/tags/list",
            expect![[
                r#"NAME_INVALID: "cart" is no repository of this registry: they are called NAMESPACE/NAME, in lower case"#
            ]],
        );
        check(
            "/v2/a/b/c/tags/list",
            expect![[
                r#"NAME_INVALID: "a/b/c" is no repository of this registry: they are called NAMESPACE/NAME, in lower case"#
            ]],
        );
        check(
            "/v2/../etc/tags/list",
            expect![[
                r#"NAME_INVALID: "../etc" is no repository of this registry: they are called NAMESPACE/NAME, in lower case"#
            ]],
        );
        check(
            "/v2/Shop/cart/tags/list",
            expect![[
                r#"NAME_INVALID: "Shop/cart" is no repository of this registry: they are called NAMESPACE/NAME, in lower case"#
            ]],
        );
    }
}
