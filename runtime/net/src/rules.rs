//! The rules in a sandbox's namespace that lead what its processes send to pods and services to
//! listeners of ours: their text, and the program that sets them. They are in a chain of their own,
//! so that Docker's and the containers' own rules are left alone. A route sees to it that processes
//! which choose no address call and answer pods under their pod's: answers to datagrams would
//! otherwise come from 127.0.0.1, and be nobody's.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::{Command, Output},
};

use crate::{blocks::Block, namespace::Namespace};

/// The chain in the nat table.
const CHAIN: &str = "WINDLASS";
/// The chain of services that are refused.
const REFUSED: &str = "WINDLASS-REFUSED";
/// The first that works is taken: what a kernel has of the two sorts of tables differs.
const PROGRAMS: [&str; 2] = ["iptables-restore", "iptables-legacy-restore"];
/// Where they may be beside PATH, which of users often lacks them.
const FOLDERS: [&str; 2] = ["/usr/sbin", "/sbin"];

/// What is led where.
pub(crate) struct Redirects {
    /// The pod's own address: it stays inside.
    pub own: IpAddr,
    /// Addresses of pods and services.
    pub ranges: Vec<Block>,
    /// Our listener at localhost of the namespace.
    pub tcp_port: u16,
    /// Our socket there, for datagrams.
    pub udp_port: u16,
    /// The DNS server's address, and our socket for it. Nothing is bound to its own port: that
    /// would take the port from containers that are DNS servers themselves.
    pub dns: Option<(Ipv4Addr, u16)>,
}

/// Ports of services that lead to a port where nothing listens.
pub(crate) struct Refused<'a> {
    pub services: &'a BTreeSet<SocketAddr>,
    pub closed_port: u16,
}

#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("there is no iptables program: install the package iptables on the node")]
    NoProgram,
    #[error("iptables refuses its rules: {0}")]
    Refused(String),
    #[error("iptables cannot be run: {0}")]
    Io(#[from] io::Error),
    #[error("the kernel refuses a route: {0}")]
    Route(#[source] io::Error),
}

/// Whether there is a program for them.
pub(crate) async fn can_be_set(namespace: &Namespace) -> bool {
    for program in PROGRAMS {
        if start(namespace, program, &["--version"], "").await.is_ok() {
            return true;
        }
    }
    false
}

/// Sets the rules, in place of those that an earlier process may have left.
pub(crate) async fn install(
    namespace: &Namespace,
    redirects: &Redirects,
) -> Result<(), RulesError> {
    // The route says whether there is anything left.
    if remove_routes(namespace, &redirects.ranges).await {
        remove_rules(namespace).await;
    }
    if let IpAddr::V4(own) = redirects.own {
        // Only an own address can be the source of others.
        let itself = Block::any(own, 32);
        namespace.local_range(itself, own).await.map_err(RulesError::Route)?;
        for range in &redirects.ranges {
            namespace.local_range(*range, own).await.map_err(RulesError::Route)?;
        }
    }
    set(namespace, &text(redirects)).await
}

/// Replaces the services that are refused. Those rules are there already.
pub(crate) async fn refuse(namespace: &Namespace, refused: &Refused<'_>) -> Result<(), RulesError> {
    set(namespace, &refused.text()).await
}

async fn set(namespace: &Namespace, rules: &str) -> Result<(), RulesError> {
    let mut refusal = RulesError::NoProgram;
    for program in PROGRAMS {
        match run(namespace, program, rules).await {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) if matches!(refusal, RulesError::NoProgram) => {
                let said = String::from_utf8_lossy(&output.stderr);
                refusal = RulesError::Refused(said.trim().replace('\n', "; "));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(_) | Err(_) => {}
        }
    }
    Err(refusal)
}

impl Refused<'_> {
    /// A chain that is named anew is emptied first.
    fn text(&self) -> String {
        let mut rules = format!("*nat\n:{REFUSED} - [0:0]\n");
        for service in self.services {
            // Writing to a string can't fail.
            let _ = writeln!(
                rules,
                "-A {REFUSED} -p tcp -d {} --dport {} -j REDIRECT --to-ports {}",
                service.ip(),
                service.port(),
                self.closed_port
            );
        }
        rules + "COMMIT\n"
    }
}

/// Takes the rules away, where there are any.
pub(crate) async fn remove(namespace: &Namespace, own: IpAddr, ranges: &[Block]) {
    remove_rules(namespace).await;
    remove_routes(namespace, ranges).await;
    if let IpAddr::V4(own) = own {
        let _ = namespace.no_local_range(Block::any(own, 32)).await;
    }
}

/// Whether there was one.
async fn remove_routes(namespace: &Namespace, ranges: &[Block]) -> bool {
    let mut found = false;
    for range in ranges {
        found |= namespace.no_local_range(*range).await.is_ok();
    }
    found
}

async fn remove_rules(namespace: &Namespace) {
    // Those of an earlier program lacked the second chain.
    let rules = format!(
        "*nat\n:{REFUSED} - [0:0]\n-D OUTPUT -j {CHAIN}\n-F {CHAIN}\n-X {CHAIN}\n-X {REFUSED}\nCOMMIT\n"
    );
    for program in PROGRAMS {
        // Refused where there are none, which is what is wanted.
        match run(namespace, program, &rules).await {
            Ok(output) if output.status.success() => return,
            Ok(_) => {}
            Err(error) => tracing::debug!(program, %error, "rules in a pod's namespace"),
        }
    }
}

fn text(redirects: &Redirects) -> String {
    let mut rules = format!(
        "*nat\n:{CHAIN} - [0:0]\n:{REFUSED} - [0:0]\n-A {CHAIN} -d {} -j RETURN\n",
        redirects.own
    );
    if let Some((address, port)) = redirects.dns {
        rules +=
            &format!("-A {CHAIN} -p udp -d {address} --dport 53 -j REDIRECT --to-ports {port}\n");
    }
    rules += &format!("-A {CHAIN} -p tcp -j {REFUSED}\n");
    for range in &redirects.ranges {
        for (protocol, port) in [("tcp", redirects.tcp_port), ("udp", redirects.udp_port)] {
            // Writing to a string can't fail.
            let _ = writeln!(
                rules,
                "-A {CHAIN} -p {protocol} -d {range} -j REDIRECT --to-ports {port}"
            );
        }
    }
    rules + &format!("-A OUTPUT -j {CHAIN}\nCOMMIT\n")
}

async fn run(namespace: &Namespace, program: &str, rules: &str) -> io::Result<Output> {
    start(namespace, program, &["--noflush", "--wait", "5"], rules).await
}

async fn start(
    namespace: &Namespace,
    program: &str,
    arguments: &[&str],
    input: &str,
) -> io::Result<Output> {
    let mut last = io::ErrorKind::NotFound.into();
    let places = FOLDERS.map(|folder| format!("{folder}/{program}"));
    for place in std::iter::once(program).chain(places.iter().map(String::as_str)) {
        let mut command = Command::new(place);
        command.args(arguments);
        match namespace.program(command, input.to_owned()).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => last = error,
            done => return done,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn the_rules_of_a_pod() {
        let redirects = Redirects {
            own: [127, 64, 0, 5].into(),
            ranges: vec!["127.64.0.0/10".parse().expect("a range")],
            tcp_port: 61001,
            udp_port: 61002,
            dns: Some(([127, 96, 0, 10].into(), 61003)),
        };
        expect![[r#"
            *nat
            :WINDLASS - [0:0]
            :WINDLASS-REFUSED - [0:0]
            -A WINDLASS -d 127.64.0.5 -j RETURN
            -A WINDLASS -p udp -d 127.96.0.10 --dport 53 -j REDIRECT --to-ports 61003
            -A WINDLASS -p tcp -j WINDLASS-REFUSED
            -A WINDLASS -p tcp -d 127.64.0.0/10 -j REDIRECT --to-ports 61001
            -A WINDLASS -p udp -d 127.64.0.0/10 -j REDIRECT --to-ports 61002
            -A OUTPUT -j WINDLASS
            COMMIT
        "#]]
        .assert_eq(&text(&redirects));
        let services = [([127, 96, 0, 7], 80).into()].into();
        expect![[r#"
            *nat
            :WINDLASS-REFUSED - [0:0]
            -A WINDLASS-REFUSED -p tcp -d 127.96.0.7 --dport 80 -j REDIRECT --to-ports 61004
            COMMIT
        "#]]
        .assert_eq(&Refused { services: &services, closed_port: 61004 }.text());
    }
}
