//! What a client that wants an upgrade asks for, and the answer that grants it. Pure.

use axum::{body::Body, response::Response};
use http::{HeaderMap, HeaderName, StatusCode, header};
use percent_encoding::percent_decode_str;
use windlass_runtime_streams::{ChannelProtocol, accept_key};
use windlass_sdk_meta::{Reason, Status};

/// Upstream's name for the protocol that runs inside SPDY.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");
const SPDY: &str = "SPDY/3.1";
const SPDY_SESSION: &str = "v4.channel.k8s.io";
const FORWARD: &str = "portforward.k8s.io";
const TUNNELLED_FORWARD: &str = "SPDY/3.1+portforward.k8s.io";

/// A subprotocol, and how it numbers streams.
type Chosen = (&'static str, Option<ChannelProtocol>);

/// The decoded query of a request, in order; names may repeat.
pub(crate) struct Query(Vec<(String, String)>);

/// An upgrade that can be granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upgrade {
    kind: Kind,
    /// As it is named in the answer.
    protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Spdy,
    WebSocket { accept: String, channels: Option<ChannelProtocol> },
}

impl Query {
    pub fn parse(raw: &str) -> Self {
        let plain = |text: &str| {
            percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
        };
        let pairs = raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (plain(name), plain(value))
        });
        Self(pairs.collect())
    }

    pub fn all(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(known, _)| known == name);
        values.map(|(_, value)| value.clone()).collect()
    }

    /// Set to anything that isn't a no.
    pub fn flag(&self, name: &str) -> bool {
        let value = self.0.iter().find(|(known, _)| known == name);
        value.is_some_and(|(_, value)| !matches!(value.as_str(), "" | "0" | "false"))
    }
}

impl Upgrade {
    /// For `exec` and `attach`.
    pub fn to_session(headers: &HeaderMap) -> Result<Self, Status> {
        match asked(headers)?.as_str() {
            "websocket" => websocket(headers, &|name| {
                let mut known = ChannelProtocol::ALL.iter();
                known.find(|(own, _)| *own == name).map(|(own, protocol)| (*own, Some(*protocol)))
            }),
            _ => spdy(headers, SPDY_SESSION),
        }
    }

    pub fn to_forward(headers: &HeaderMap) -> Result<Self, Status> {
        match asked(headers)?.as_str() {
            "websocket" => websocket(headers, &|name| {
                (name == TUNNELLED_FORWARD).then_some((TUNNELLED_FORWARD, None))
            }),
            _ => spdy(headers, FORWARD),
        }
    }

    pub fn is_websocket(&self) -> bool {
        matches!(self.kind, Kind::WebSocket { .. })
    }

    /// How streams are numbered; None for SPDY.
    pub fn channels(&self) -> Option<ChannelProtocol> {
        match self.kind {
            Kind::Spdy => None,
            Kind::WebSocket { channels, .. } => channels,
        }
    }

    /// 101.
    pub fn answer(&self) -> Response {
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(header::CONNECTION, "Upgrade");
        let response = match &self.kind {
            Kind::Spdy => {
                response.header(header::UPGRADE, SPDY).header(STREAM_PROTOCOL, self.protocol)
            }
            Kind::WebSocket { accept, .. } => response
                .header(header::UPGRADE, "websocket")
                .header(header::SEC_WEBSOCKET_ACCEPT, accept)
                .header(header::SEC_WEBSOCKET_PROTOCOL, self.protocol),
        };
        // Every value is plain text of ours, or base64.
        response.body(Body::empty()).unwrap_or_default()
    }
}

/// `websocket` or `spdy/3.1`.
fn asked(headers: &HeaderMap) -> Result<String, Status> {
    let upgrades = listed(headers, &header::CONNECTION);
    let wanted = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    let wanted = wanted.unwrap_or_default().to_ascii_lowercase();
    let known = wanted == "websocket" || wanted == SPDY.to_ascii_lowercase();
    if known && upgrades.iter().any(|token| token.eq_ignore_ascii_case("upgrade")) {
        return Ok(wanted);
    }
    Err(Status::bad_request(format!(
        "unable to upgrade: the request must upgrade to {SPDY} or websocket"
    )))
}

fn websocket(
    headers: &HeaderMap,
    choose: &dyn Fn(&str) -> Option<Chosen>,
) -> Result<Upgrade, Status> {
    let key = headers.get(header::SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
    let version = headers.get(header::SEC_WEBSOCKET_VERSION).map(|version| version.as_bytes());
    let (Some(key), Some(b"13")) = (key, version) else {
        return Err(Status::bad_request(
            "unable to upgrade: not a WebSocket handshake of version 13",
        ));
    };
    let offered = listed(headers, &header::SEC_WEBSOCKET_PROTOCOL);
    let chosen = offered.iter().find_map(|name| choose(name));
    let (protocol, channels) = chosen.ok_or_else(|| none_fits(&offered))?;
    Ok(Upgrade { kind: Kind::WebSocket { accept: accept_key(key), channels }, protocol })
}

fn spdy(headers: &HeaderMap, protocol: &'static str) -> Result<Upgrade, Status> {
    let offered = listed(headers, &STREAM_PROTOCOL);
    match offered.iter().any(|name| name == protocol) {
        true => Ok(Upgrade { kind: Kind::Spdy, protocol }),
        false => Err(none_fits(&offered)),
    }
}

fn none_fits(offered: &[String]) -> Status {
    let why = format!(
        "unable to upgrade: no protocol of the client's is known here: [{}]",
        offered.join(", ")
    );
    Status::new(Reason::Forbidden, why)
}

fn listed(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let names = values.flat_map(|value| value.split(',')).map(|name| name.trim().to_owned());
    names.filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(lines: &[&str], expected: Expect) {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").expect("a header");
            headers.append(
                name.parse::<HeaderName>().expect("a name"),
                value.parse().expect("a value"),
            );
        }
        let shown = |granted: Result<Upgrade, Status>| match granted {
            Ok(upgrade) => {
                let answer = upgrade.answer();
                let values = answer.headers().iter();
                let lines = values
                    .map(|(name, value)| format!("{name}: {}", value.to_str().expect("text")));
                format!("{} {}", answer.status().as_u16(), lines.collect::<Vec<_>>().join(", "))
            }
            Err(status) => format!("{} {}", status.code, status.message),
        };
        let (session, forward) = (Upgrade::to_session(&headers), Upgrade::to_forward(&headers));
        expected.assert_eq(&format!("{}\n{}", shown(session), shown(forward)));
    }

    #[test]
    fn handshakes() {
        check(
            &[],
            expect![[r#"
                400 unable to upgrade: the request must upgrade to SPDY/3.1 or websocket
                400 unable to upgrade: the request must upgrade to SPDY/3.1 or websocket"#]],
        );
        check(
            &[
                "connection: Upgrade",
                "upgrade: SPDY/3.1",
                "x-stream-protocol-version: v5.channel.k8s.io",
                "x-stream-protocol-version: v4.channel.k8s.io",
                "x-stream-protocol-version: portforward.k8s.io",
            ],
            expect![[r#"
                101 connection: Upgrade, upgrade: SPDY/3.1, x-stream-protocol-version: v4.channel.k8s.io
                101 connection: Upgrade, upgrade: SPDY/3.1, x-stream-protocol-version: portforward.k8s.io"#]],
        );
        let socket = ["connection: keep-alive, upgrade", "upgrade: websocket"];
        let key = ["sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="];
        check(
            &socket,
            expect![[r#"
                400 unable to upgrade: not a WebSocket handshake of version 13
                400 unable to upgrade: not a WebSocket handshake of version 13"#]],
        );
        let protocols =
            "sec-websocket-protocol: v9, v4.channel.k8s.io, SPDY/3.1+portforward.k8s.io";
        check(
            &[&socket[..], &key, &[protocols]].concat(),
            expect![[r#"
                101 connection: Upgrade, upgrade: websocket, sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=, sec-websocket-protocol: v4.channel.k8s.io
                101 connection: Upgrade, upgrade: websocket, sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=, sec-websocket-protocol: SPDY/3.1+portforward.k8s.io"#]],
        );
        check(
            &[&socket[..], &key].concat(),
            expect![[r#"
                403 unable to upgrade: no protocol of the client's is known here: []
                403 unable to upgrade: no protocol of the client's is known here: []"#]],
        );
    }

    #[test]
    fn queries() {
        let query = Query::parse("command=a+b&command=%2D%2Dc&input=1&tty=0&output=true");
        assert_eq!(query.all("command"), ["a b", "--c"]);
        assert!(query.flag("input") && query.flag("output") && !query.flag("tty"));
    }
}
