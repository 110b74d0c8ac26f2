//! The ports that a handler serves, from what its container declares and its pod's annotation.

use windlass_runtime_api::{ContainerSpec, Protocol, RuntimeError};

/// The port of a handler whose container declares none.
const DEFAULT_PORT: u16 = 8080;
const HTTP_PORT: &str = "windlass.dev/http-port";

/// Where a handler serves: on every TCP port it declares, or the one that the pod's annotation
/// names by number or name, or 8080.
pub fn http_ports(spec: &ContainerSpec) -> Result<Vec<u16>, RuntimeError> {
    let tcp = || spec.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    if let Some(chosen) = spec.pod.annotations.get(HTTP_PORT) {
        let number = chosen.parse::<u16>().ok().filter(|number| *number > 0);
        let declared = tcp().find(|port| port.name == *chosen || Some(port.port) == number);
        let port = declared.map(|port| port.port).or(number.filter(|_| tcp().next().is_none()));
        if let Some(port) = port {
            return Ok(vec![port]);
        }
        // Other containers of the pod may be the ones that declare it.
        if tcp().next().is_none() {
            let why = format!("annotation {HTTP_PORT}: {chosen:?} is no TCP port of the container");
            return Err(RuntimeError::new("CreateContainerConfigError", why));
        }
    }
    let mut ports: Vec<u16> = tcp().map(|port| port.port).collect();
    ports.sort_unstable();
    ports.dedup();
    Ok(if ports.is_empty() { vec![DEFAULT_PORT] } else { ports })
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use windlass_runtime_api::{Image, Limits, OnTrap, Port, Sandbox};

    use super::*;

    fn check(ports: &[(&str, u16, Protocol)], annotation: Option<&str>, expected: &[u16]) {
        let port = |&(name, port, protocol): &(&str, u16, Protocol)| Port {
            name: name.into(),
            port,
            protocol,
        };
        let annotations = annotation.map(|value| (HTTP_PORT.to_string(), value.to_string()));
        let spec = ContainerSpec {
            pod: Arc::new(Sandbox {
                uid: "uid".into(),
                name: "web".into(),
                namespace: "default".into(),
                address: [127, 64, 0, 1].into(),
                hostname: "web".into(),
                names: Default::default(),
                annotations: annotations.into_iter().collect(),
                linux: Default::default(),
            }),
            name: "web".into(),
            attempt: 0,
            image: Image {
                nature: Default::default(),
                reference: "web:v1".into(),
                digest: String::new(),
                wasm_digest: String::new(),
                wasm_path: Path::new("web.wasm").into(),
                config: Default::default(),
            },
            command: vec![],
            args: vec![],
            env: vec![],
            working_dir: None,
            mounts: vec![],
            late_mounts: None,
            ports: ports.iter().map(port).collect(),
            limits: Limits::default(),
            log_path: Path::new("0.log").into(),
            on_trap: OnTrap::Continue,
            reach: Default::default(),
            console: Default::default(),
            linux: Default::default(),
        };
        let chosen = http_ports(&spec).unwrap_or_default();
        assert_eq!(chosen, expected, "{ports:?} {annotation:?}");
    }

    #[test]
    fn a_handler_serves_where_the_pod_says() {
        use Protocol::{Tcp, Udp};
        let two = [("http", 80, Tcp), ("admin", 9000, Tcp), ("dns", 53, Udp)];
        check(&[], None, &[8080]);
        check(&[("dns", 53, Udp)], None, &[8080]);
        check(&two, None, &[80, 9000]);
        check(&two, Some("admin"), &[9000]);
        check(&two, Some("80"), &[80]);
        check(&two, Some("7000"), &[80, 9000]);
        check(&[], Some("7000"), &[7000]);
        check(&[], Some("http"), &[]);
    }
}
