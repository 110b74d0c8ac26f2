//! What a request's `Accept` header comes to: the form of objects, their encoding, and whether the
//! bytes may be compressed. Clients list what they would like; the first that can be served counts,
//! and what isn't known here (CBOR, say) is passed over.

use http::{HeaderMap, header, request::Parts};
use serde_json::Value;
use windlass_sdk_meta::{Reason, Status};

use crate::content::{accepts_gzip, joined};

pub(crate) const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

const META_BETA: &str = "meta.k8s.io/v1beta1";

/// The form in which a client wants objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    Table,
    /// `PartialObjectMetadata` and its list.
    Metadata,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// What can be served at a place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// Its objects have a form in protobuf (those of kinds added at run time have none).
    pub protobuf: bool,
    /// Tables and metadata alone are possible.
    pub shapes: bool,
    /// It is a watch, which YAML has no form for.
    pub stream: bool,
}

impl Offer {
    /// What a handler answers with a tree of a built-in kind.
    pub const TREE: Self = Self { protobuf: true, shapes: false, stream: false };
}

/// How an answer is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub shape: Shape,
    /// The shape is one of meta.k8s.io/v1beta1, which old clients ask for; else of v1.
    pub beta: bool,
    pub encoding: Encoding,
    /// With line breaks, for people.
    pub pretty: bool,
    pub gzip: bool,
}

impl Accepted {
    pub const JSON: Self = Self {
        shape: Shape::Object,
        beta: false,
        encoding: Encoding::Json,
        pretty: false,
        gzip: false,
    };

    /// The first of the client's media types that can be served; 406 where none can.
    pub fn negotiate(parts: &Parts, offer: Offer) -> Result<Self, Status> {
        let accept = joined(&parts.headers, &header::ACCEPT);
        let found = match accept.trim().is_empty() {
            true => Some(Self::JSON),
            false => ranges(&accept).into_iter().find_map(|range| served(range, offer)),
        };
        let mut accepted = found.ok_or_else(|| not_acceptable(&accept, offer))?;
        accepted.gzip = accepts_gzip(&parts.headers);
        accepted.pretty |= wants_pretty(parts);
        Ok(accepted)
    }

    /// What has a shape of meta.k8s.io/v1, in the version that was asked for.
    pub fn in_version(&self, mut shaped: Value) -> Value {
        if self.beta && self.shape != Shape::Object {
            shaped["apiVersion"] = META_BETA.into();
            let rows = shaped.get_mut("rows").and_then(Value::as_array_mut);
            let rows = rows.into_iter().flatten().map(|row| &mut row["object"]);
            rows.for_each(object_in_beta);
        }
        shaped
    }

    /// A row of a Table, or an item of a list of metadata, in the version that was asked for.
    pub fn item_in_version(&self, mut item: Value) -> Value {
        match self.shape {
            Shape::Table if self.beta => object_in_beta(&mut item["object"]),
            Shape::Metadata if self.beta => object_in_beta(&mut item),
            _ => {}
        }
        item
    }

    /// For what is no object of a collection (a Status, a review): JSON at worst.
    pub fn of_status(parts: &Parts) -> Self {
        Self::negotiate(parts, Offer::TREE).unwrap_or(Self::JSON)
    }
}

fn object_in_beta(object: &mut Value) {
    if object["kind"] == "PartialObjectMetadata" {
        object["apiVersion"] = META_BETA.into();
    }
}

/// The media ranges of an `Accept` header: those of the highest quality first, in the order in
/// which they stand.
fn ranges(accept: &str) -> Vec<&str> {
    let quality = |range: &str| {
        let said = range.split(';').find_map(|part| part.trim().strip_prefix("q="));
        said.map_or(1.0, |said| said.trim().parse::<f32>().unwrap_or(1.0))
    };
    let mut ranges: Vec<(f32, &str)> = accept.split(',').map(|r| (quality(r), r)).collect();
    ranges.retain(|(quality, _)| *quality > 0.0);
    ranges.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    ranges.into_iter().map(|(_, range)| range).collect()
}

/// What one media range means here; None: it can't be served.
fn served(range: &str, offer: Offer) -> Option<Accepted> {
    let mut parts = range.split(';').map(str::trim);
    let encoding = match parts.next()? {
        JSON | "*/*" | "application/*" => Encoding::Json,
        YAML if !offer.stream => Encoding::Yaml,
        PROTOBUF => Encoding::Protobuf,
        _ => return None,
    };
    let (mut kind, mut group, mut version) = ("", "", "");
    let mut accepted = Accepted { encoding, ..Accepted::JSON };
    for parameter in parts {
        match parameter.split_once('=') {
            Some(("as", value)) => kind = value,
            Some(("g", value)) => group = value,
            Some(("v", value)) => version = value,
            Some(("pretty", value)) => accepted.pretty = value == "1",
            Some(("stream", value)) if value != "watch" && !value.is_empty() => return None,
            _ => {}
        }
    }
    let protobuf = encoding == Encoding::Protobuf;
    accepted.beta = version == "v1beta1";
    // In protobuf the beta's lists are of another form, which nobody asks for.
    let known_version = version == "v1" || (accepted.beta && !protobuf);
    let known = offer.shapes && group == "meta.k8s.io" && known_version;
    accepted.shape = match kind {
        "" if protobuf && !offer.protobuf => return None,
        "" => Shape::Object,
        "Table" if known && !protobuf => Shape::Table,
        "PartialObjectMetadata" | "PartialObjectMetadataList" if known => Shape::Metadata,
        _ => return None,
    };
    Some(accepted)
}

/// Upstream's router refuses types that it doesn't know, its writer a parameter of a known one:
/// each has words of its own.
fn not_acceptable(accept: &str, offer: Offer) -> Status {
    let types = match offer.stream {
        true => {
            "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch".into()
        }
        false => [JSON, YAML, PROTOBUF].join(", "),
    };
    let bare = |range: &str| range.split(';').next().is_some_and(|r| served(r, offer).is_some());
    if offer.stream || accept.split(',').any(bare) {
        let why = format!("only the following media types are accepted: {types}");
        return Status::new(Reason::NotAcceptable, why);
    }
    let why = format!("406: Not Acceptable\n\nAvailable representations: {types}");
    Status { details: Some(Box::default()), ..Status::new(Reason::NotAcceptable, why) }
}

/// The query says so, or the client is one that people look at.
fn wants_pretty(parts: &Parts) -> bool {
    let query = parts.uri.query().unwrap_or_default();
    let said = query.split('&').find_map(|pair| pair.strip_prefix("pretty="));
    if let Some(said) = said.filter(|said| !said.is_empty()) {
        return matches!(said, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let agent = agent.unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|known| agent.starts_with(known))
}

/// Whether a client takes JSON.
pub(crate) fn accepts_json(headers: &HeaderMap) -> bool {
    let accept = joined(headers, &header::ACCEPT);
    accept.trim().is_empty()
        || ranges(&accept).into_iter().any(|range| {
            let media = range.split(';').next().unwrap_or_default().trim();
            [JSON, "*/*", "application/*"].contains(&media)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use http::Request;

    fn check(offer: Offer, accepts: &[&str], expected: Expect) {
        let mut out = String::new();
        for accept in accepts {
            let request = Request::get("/").header(header::ACCEPT, *accept).body(());
            let (parts, ()) = request.expect("a request").into_parts();
            let answer = match Accepted::negotiate(&parts, offer) {
                Ok(Accepted { shape, beta, encoding, .. }) => {
                    format!("{shape:?}{} {encoding:?}", if beta { " beta" } else { "" })
                }
                Err(status) => format!("{} {}", status.code, status.message),
            };
            out += &format!("{accept}: {answer}\n");
        }
        expected.assert_eq(&out);
    }

    const ALL: Offer = Offer { protobuf: true, shapes: true, stream: false };

    #[test]
    fn accept_headers() {
        check(
            ALL,
            &[
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
                "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1",
                "application/json;as=Table;v=v9;g=meta.k8s.io",
                "application/vnd.kubernetes.protobuf,application/json",
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
                "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1",
                "application/cbor,application/json",
                "application/cbor",
                "application/json;q=0.5,application/yaml;q=0.9",
                "application/json;q=0,application/vnd.kubernetes.protobuf;q=0.1",
                "application/yaml",
                "*/*",
                "text/html",
            ],
            expect![[r#"
                application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json: Table Json
                application/json;as=Table;v=v1beta1;g=meta.k8s.io: Table beta Json
                application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1beta1: Metadata beta Json
                application/json;as=Table;v=v9;g=meta.k8s.io: 406 only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf
                application/vnd.kubernetes.protobuf,application/json: Object Protobuf
                application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json: Metadata Protobuf
                application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1: Table Json
                application/cbor,application/json: Object Json
                application/cbor: 406 406: Not Acceptable

                Available representations: application/json, application/yaml, application/vnd.kubernetes.protobuf
                application/json;q=0.5,application/yaml;q=0.9: Object Yaml
                application/json;q=0,application/vnd.kubernetes.protobuf;q=0.1: Object Protobuf
                application/yaml: Object Yaml
                */*: Object Json
                text/html: 406 406: Not Acceptable

                Available representations: application/json, application/yaml, application/vnd.kubernetes.protobuf
            "#]],
        );
    }

    #[test]
    fn watches_and_kinds_without_protobuf() {
        check(
            Offer { stream: true, ..ALL },
            &[
                "application/yaml",
                "application/vnd.kubernetes.protobuf;stream=watch,application/json;stream=watch",
            ],
            expect![[r#"
                application/yaml: 406 only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch
                application/vnd.kubernetes.protobuf;stream=watch,application/json;stream=watch: Object Protobuf
            "#]],
        );
        check(
            Offer { protobuf: false, ..ALL },
            &[
                "application/vnd.kubernetes.protobuf,application/json",
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
                "application/vnd.kubernetes.protobuf",
            ],
            expect![[r#"
                application/vnd.kubernetes.protobuf,application/json: Object Json
                application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1: Metadata Protobuf
                application/vnd.kubernetes.protobuf: 406 406: Not Acceptable

                Available representations: application/json, application/yaml, application/vnd.kubernetes.protobuf
            "#]],
        );
    }
}
