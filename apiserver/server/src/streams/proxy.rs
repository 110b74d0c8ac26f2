//! The proxy to pods and services: `[SCHEME:]NAME[:PORT]` and a path, any method, bodies as they
//! come, upgrades too.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use windlass_apiserver_access::Lookup as _;
use windlass_sdk_meta::{GroupResource, Rng, Status};

use super::{CONNECT_TIMEOUT, Wire, connect::admit, exchange, pass_on, tunnel};
use crate::{
    read,
    verbs::{Call, Target},
};

/// Where a handler listens whose pod declares no port.
const DEFAULT_PORT: u16 = 8080;
/// Loopback addresses that pods have in loopback mode: 127.64.0.0/11.
const LOOPBACK_PODS: (Ipv4Addr, u32) = (Ipv4Addr::new(127, 64, 0, 0), 11);

/// What a request's name says: `https:web:8443`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    https: bool,
    name: String,
    /// A number or a name; may be empty.
    port: String,
}

/// `pods/NAME/proxy/...` and `services/NAME/proxy/...`.
pub(super) async fn proxy(
    mut call: Call,
    target: &Target,
    body: Body,
) -> Result<Response<Body>, Status> {
    let plural = target.kind.group_resource().resource;
    let id = call.info.name.clone();
    let what = if plural == "services" { "service" } else { "pod" };
    let name = Name::parse(&id)
        .ok_or_else(|| Status::bad_request(format!("invalid {what} request {id:?}")))?;
    if let Some(redirect) = with_slash(&call) {
        return Ok(redirect);
    }
    admit(&call, target).await?;
    let at = (target.namespace.as_str(), name.name.as_str());
    let object = read::get(&call.server, &target.kind, at, "").await?.tree();
    let address = match what {
        "service" => endpoint(&call, &object, at, &name.port)?,
        _ => pod_address(&object, &name.port)?,
    };
    if !is_allowed(address.ip(), |ip| call.server.services().contains(ip)) {
        return Err(Status::bad_request("address not allowed"));
    }
    let upgrade = tunnel::wanted(&call.parts.headers);
    let mut request = outgoing(&call, address, body)?;
    if let Some(upgrade) = &upgrade {
        tunnel::ask_for(upgrade, &mut request);
    }
    let client = call.parts.extensions.remove::<OnUpgrade>();
    let sent = async {
        let wire = dial(address, name.https).await?;
        exchange(wire, request).await
    };
    let response = sent
        .await
        .map_err(|why| Status::unavailable(format!("error trying to reach service: {why}")))?;
    Ok(tunnel::join(client, response))
}

impl Name {
    /// None where it isn't of that form.
    fn parse(id: &str) -> Option<Self> {
        let parts: Vec<&str> = id.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme @ ("" | "http" | "https"), name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        let fits = !name.is_empty() && name.chars().chain(port.chars()).all(plain);
        fits.then(|| Self { https: scheme == "https", name: name.into(), port: port.into() })
    }
}

/// Relative links of a page need the slash behind `proxy`.
fn with_slash(call: &Call) -> Option<Response<Body>> {
    let reads = matches!(call.parts.method, http::Method::GET | http::Method::HEAD);
    if !reads || !call.info.tail.is_empty() || call.info.path.ends_with('/') {
        return None;
    }
    let query = &call.info.query.raw;
    let mark = if query.is_empty() { "" } else { "?" };
    let location = HeaderValue::try_from(format!("{}/{mark}{query}", call.info.path)).ok()?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

fn outgoing(call: &Call, address: SocketAddr, body: Body) -> Result<Request<Body>, Status> {
    let query = &call.info.query.raw;
    let mark = if query.is_empty() { "" } else { "?" };
    let mut request = Request::builder()
        .method(&call.parts.method)
        .uri(format!("/{}{mark}{query}", call.info.tail))
        .body(body)
        .map_err(|error| Status::bad_request(error.to_string()))?;
    pass_on(&call.parts.headers, request.headers_mut());
    if let Ok(host) = HeaderValue::try_from(address.to_string()) {
        request.headers_mut().insert(header::HOST, host);
    }
    Ok(request)
}

/// A pod's address, at the port asked for: by its number or name, else the first that it declares.
fn pod_address(pod: &Value, port: &str) -> Result<SocketAddr, Status> {
    let address = pod["status"]["podIP"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
    let address = address.ok_or_else(|| Status::bad_request("address not allowed"))?;
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut declared =
        containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let number = |port: &Value| port["containerPort"].as_u64().and_then(|n| u16::try_from(n).ok());
    let found = match port.parse() {
        Ok(number) => Some(number),
        Err(_) if port.is_empty() => Some(declared.next().and_then(number).unwrap_or(DEFAULT_PORT)),
        Err(_) => declared.find(|known| known["name"] == port).and_then(number),
    };
    let port = found.filter(|port| *port > 0);
    let port = port.ok_or_else(|| Status::bad_request("the pod has no such port"))?;
    Ok(SocketAddr::new(address, port))
}

/// A ready endpoint of a service, drawn at random.
fn endpoint(
    call: &Call,
    service: &Value,
    (namespace, name): (&str, &str),
    asked: &str,
) -> Result<SocketAddr, Status> {
    let ports: Vec<&Value> = service["spec"]["ports"].as_array().into_iter().flatten().collect();
    let port = match (asked.parse::<u64>(), ports.as_slice()) {
        (Ok(number), _) => ports.iter().find(|port| port["port"] == number).copied(),
        (Err(_), [only]) if asked.is_empty() => Some(*only),
        (Err(_), _) => {
            ports.iter().find(|port| port["name"].as_str().unwrap_or_default() == asked).copied()
        }
    };
    let port = port.ok_or_else(|| {
        Status::unavailable(format!("no service port {asked:?} found for service {name:?}"))
    })?;
    let port_name = port["name"].as_str().unwrap_or_default();
    let slices = GroupResource::new("discovery.k8s.io", "endpointslices");
    let slices = call.server.cache().list(&slices, namespace);
    let trees = slices.iter().map(|slice| slice.tree());
    let ready: Vec<SocketAddr> = trees
        .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == name)
        .flat_map(|slice| ready_endpoints(&slice, port_name))
        .collect();
    pick(&ready, call.server.rng())
        .ok_or_else(|| Status::unavailable(format!("no endpoints available for service {name:?}")))
}

fn ready_endpoints(slice: &Value, port_name: &str) -> Vec<SocketAddr> {
    let mut ports = slice["ports"].as_array().into_iter().flatten();
    let port = ports.find(|port| port["name"].as_str().unwrap_or_default() == port_name);
    let number = port.and_then(|port| port["port"].as_u64()).and_then(|n| u16::try_from(n).ok());
    let Some(number) = number else { return Vec::new() };
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
    let addresses = ready.filter_map(|endpoint| endpoint["addresses"][0].as_str()?.parse().ok());
    addresses.map(|ip: IpAddr| SocketAddr::new(ip, number)).collect()
}

fn pick(from: &[SocketAddr], rng: &Rng) -> Option<SocketAddr> {
    match from {
        [] => None,
        some => some.get(rng.below(some.len())).copied(),
    }
}

/// What upstream's proxy refuses is refused here, but for the loopback addresses that are the
/// cluster's own: whoever may write a pod's status must not reach what listens on the node.
fn is_allowed(address: IpAddr, is_service: impl Fn(Ipv4Addr) -> bool) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) if ip.is_loopback() => {
            let (first, prefix) = LOOPBACK_PODS;
            let same = (u32::from(ip) ^ u32::from(first)) >> (32 - prefix) == 0;
            same || is_service(ip)
        }
        IpAddr::V4(ip) => {
            !(ip.is_link_local() || ip.is_multicast() || ip.is_unspecified() || ip.is_broadcast())
        }
        IpAddr::V6(ip) => {
            !(ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_multicast()
                || ip.is_unspecified())
        }
    }
}

async fn dial(address: SocketAddr, https: bool) -> Result<Box<dyn Wire>, String> {
    let connecting = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| format!("dial tcp {address}: {error}"))?;
        // Delays are worse than small packets here; without it the stream works too.
        let _ = stream.set_nodelay(true);
        if !https {
            return Ok(Box::new(stream) as Box<dyn Wire>);
        }
        let tls = TlsConnector::from(unverified()?);
        let stream = tls.connect(ServerName::from(address.ip()), stream).await;
        Ok(Box::new(stream.map_err(|error| error.to_string())?) as Box<dyn Wire>)
    };
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
    connected.map_err(|_| format!("dial tcp {address}: it took too long"))?
}

/// Certificates of pods aren't verified, as upstream's proxy doesn't: nobody issued them for an
/// address.
fn unverified() -> Result<Arc<rustls::ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(schemes)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Anybody(Vec<SignatureScheme>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_have_a_scheme_and_a_port_or_not() {
        let parsed =
            |id: &str| Name::parse(id).map(|n| format!("{} {} {}", n.https, n.name, n.port));
        for (id, expected) in [
            ("web", Some("false web ")),
            ("web:http", Some("false web http")),
            ("http:web:80", Some("false web 80")),
            ("https:web:", Some("true web ")),
            (":web:80", Some("false web 80")),
            ("ftp:web:80", None),
            ("", None),
            ("a:b:c:d", None),
            ("we b", None),
            ("a/b:80", None),
        ] {
            assert_eq!(parsed(id).as_deref(), expected, "{id:?}");
        }
    }

    #[test]
    fn only_addresses_of_the_cluster_and_outside_ones_are_reached() {
        let service = |ip: Ipv4Addr| ip.octets()[..3] == [127, 96, 0];
        for (address, allowed) in [
            ("127.64.0.1", true),
            ("127.95.255.255", true),
            ("127.96.0.254", true),
            ("127.97.0.1", false),
            ("127.0.0.1", false),
            ("10.1.2.3", true),
            ("169.254.169.254", false),
            ("224.0.0.1", false),
            ("0.0.0.0", false),
            ("::1", false),
            ("fe80::1", false),
            ("::ffff:127.0.0.1", false),
            ("2001:db8::1", true),
        ] {
            let ip = address.parse().expect("an address");
            assert_eq!(is_allowed(ip, service), allowed, "{address}");
        }
    }

    #[test]
    fn a_pod_is_reached_at_the_port_asked_or_its_first() {
        let pod = json!({"status": {"podIP": "127.64.0.9"}, "spec": {"containers": [
            {"ports": [{"containerPort": 8081}, {"name": "m", "containerPort": 9000}]}]}});
        let at = |pod: &Value, port: &str| pod_address(pod, port).ok().map(|a| a.to_string());
        assert_eq!(at(&pod, "").as_deref(), Some("127.64.0.9:8081"));
        assert_eq!(at(&pod, "m").as_deref(), Some("127.64.0.9:9000"));
        assert_eq!(at(&pod, "7").as_deref(), Some("127.64.0.9:7"));
        assert_eq!(at(&pod, "x"), None);
        assert_eq!(
            at(&json!({"status": {"podIP": "1.2.3.4"}}), "").as_deref(),
            Some("1.2.3.4:8080")
        );
        assert_eq!(at(&json!({}), "80"), None);
    }
}
