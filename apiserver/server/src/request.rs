//! What a request asks for, read from its method, path and query alone: the one place that knows
//! how Kubernetes lays out its URLs. Authorisation, limits and verbs all look at this and never at
//! the path, so they can't disagree about what is meant.

use http::Method;
use windlass_sdk_meta::FieldSelector;

/// A request in Kubernetes' terms. For paths that name no resource only `verb` and `path` are set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `head`;
    /// the method in lower case where `is_resource` is false.
    pub verb: &'static str,
    pub path: String,
    pub is_resource: bool,
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    pub name: String,
    /// What follows the subresource, as it was sent: proxies pass it on.
    pub tail: String,
    pub query: Query,
    /// What a list, watch or deletecollection is narrowed to, where that can be read.
    pub fields: FieldSelector,
}

/// The decoded query of a URL, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
    /// As it was sent, for proxies.
    pub raw: String,
}

/// Subresources of a namespace; any other word behind its name is a resource inside it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    pub fn parse(method: &Method, path: &str, query: Option<&str>) -> Self {
        let query = Query::parse(query.unwrap_or_default());
        let mut info = Self { path: path.to_owned(), query, ..Self::default() };
        let raw: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (api_version, rest) = match raw.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => (("", *version), rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => ((*group, *version), rest),
            _ => {
                info.verb = plain_verb(method);
                return info;
            }
        };
        info.is_resource = true;
        info.group = api_version.0.to_owned();
        info.version = api_version.1.to_owned();
        info.verb = resource_verb(method);
        // The old form `/api/v1/watch/pods` is still in use by some clients.
        let (watched, rest) = match rest {
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            rest => (false, rest),
        };
        info.place(rest);
        info.refine_verb(watched);
        info
    }

    /// Fills in namespace, resource, name, subresource and tail.
    fn place(&mut self, parts: &[&str]) {
        let rest = match parts {
            ["namespaces", namespace, rest @ ..] => {
                self.namespace = percent_decode(namespace);
                match rest {
                    [] => parts,
                    [first, ..] if NAMESPACE_SUBRESOURCES.contains(first) => parts,
                    rest => rest,
                }
            }
            parts => parts,
        };
        let text = |at: usize| rest.get(at).map(|part| percent_decode(part)).unwrap_or_default();
        (self.resource, self.name, self.subresource) = (text(0), text(1), text(2));
        self.tail = rest.get(3..).unwrap_or_default().join("/");
        // A trailing slash means something to what is behind a proxy.
        if rest.len() > 3 && self.path.ends_with('/') {
            self.tail.push('/');
        }
    }

    fn refine_verb(&mut self, watched: bool) {
        let on_collection = self.name.is_empty();
        if watched
            || (self.verb == "get" && self.subresource.is_empty() && self.query.flag("watch"))
        {
            // `?watch` on one object is a watch of its collection, narrowed to the name.
            self.verb = "watch";
        } else if on_collection {
            self.verb = match self.verb {
                "get" => "list",
                "delete" => "deletecollection",
                other => other,
            };
        }
        // Authorisers may allow a list or watch of one name only.
        if on_collection && matches!(self.verb, "list" | "watch" | "deletecollection") {
            let fields = FieldSelector::parse(self.query.get("fieldSelector").unwrap_or_default());
            let fields = fields.unwrap_or_default();
            self.name = fields.required("metadata.name").unwrap_or_default().to_owned();
            // A watch that its path asks for heeds no selector.
            if !watched {
                self.fields = fields;
            }
        }
    }
}

impl Query {
    pub fn parse(raw: &str) -> Self {
        let pairs = raw
            .split('&')
            .filter(|part| !part.is_empty())
            .map(|part| {
                let (key, value) = part.split_once('=').unwrap_or((part, ""));
                let plain = |text: &str| percent_decode(&text.replace('+', " "));
                (plain(key), plain(value))
            })
            .collect();
        Self { pairs, raw: raw.to_owned() }
    }

    /// The first value of a parameter.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known == key);
        found.map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Present and neither `false` nor `0`, as upstream reads booleans.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
    }

    pub fn number(&self, key: &str) -> Option<i64> {
        self.get(key)?.parse().ok()
    }
}

fn resource_verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET | Method::HEAD => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

fn plain_verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "",
    }
}

/// Decodes `%41`; what isn't an escape stays as it is.
fn percent_decode(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let bytes = text.as_bytes();
    let hex = |at: usize| bytes.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            // Two hexadecimal digits are below 256.
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(requests: &[&str], expected: Expect) {
        let mut out = String::new();
        for request in requests {
            let (method, url) = request.split_once(' ').expect("method and url");
            let (path, query) = url.split_once('?').map_or((url, None), |(p, q)| (p, Some(q)));
            let info = RequestInfo::parse(&method.parse().expect("method"), path, query);
            out += &match info.is_resource {
                true => format!(
                    "{} {}/{} {} ns={} name={} sub={} tail={}\n",
                    info.verb,
                    info.group,
                    info.version,
                    info.resource,
                    info.namespace,
                    info.name,
                    info.subresource,
                    info.tail
                ),
                false => format!("{} {}\n", info.verb, info.path),
            };
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn paths() {
        check(
            &[
                "GET /api/v1/pods",
                "GET /api/v1/pods?watch=true",
                "GET /api/v1/watch/namespaces/default/pods/a",
                "GET /api/v1/namespaces/default/pods/a",
                "GET /api/v1/namespaces/default/pods?fieldSelector=metadata.name%3Da&watch=1",
                "POST /api/v1/namespaces/default/pods",
                "PUT /api/v1/namespaces/default/pods/a/status",
                "DELETE /api/v1/namespaces/default/pods",
                "DELETE /api/v1/namespaces/default",
                "GET /api/v1/namespaces/default",
                "PUT /api/v1/namespaces/default/finalize",
                "GET /api/v1/namespaces",
                "PATCH /apis/apps/v1/namespaces/x/deployments/d/scale",
                "POST /api/v1/nodes/n/proxy/images/a%2Fb/?x=1",
                "GET /api/v1/namespaces/d/pods/a/log?follow=1",
                "GET /apis/apps/v1",
                "GET /apis",
                "HEAD /livez",
            ],
            expect![[r#"
                list /v1 pods ns= name= sub= tail=
                watch /v1 pods ns= name= sub= tail=
                watch /v1 pods ns=default name=a sub= tail=
                get /v1 pods ns=default name=a sub= tail=
                watch /v1 pods ns=default name=a sub= tail=
                create /v1 pods ns=default name= sub= tail=
                update /v1 pods ns=default name=a sub=status tail=
                deletecollection /v1 pods ns=default name= sub= tail=
                delete /v1 namespaces ns=default name=default sub= tail=
                get /v1 namespaces ns=default name=default sub= tail=
                update /v1 namespaces ns=default name=default sub=finalize tail=
                list /v1 namespaces ns= name= sub= tail=
                patch apps/v1 deployments ns=x name=d sub=scale tail=
                create /v1 nodes ns= name=n sub=proxy tail=images/a%2Fb/
                get /v1 pods ns=d name=a sub=log tail=
                get /apis/apps/v1
                get /apis
                head /livez
            "#]],
        );
    }

    #[test]
    fn queries() {
        let query = Query::parse("a=1&b&c=false&d=x%20y+z&dryRun=All&dryRun=None");
        assert_eq!(query.get("d"), Some("x y z"));
        assert!(query.flag("a") && query.flag("b") && !query.flag("c") && !query.flag("e"));
        assert_eq!(query.all("dryRun").collect::<Vec<_>>(), ["All", "None"]);
    }
}
