//! Ports of the node that lead to services, and the routed mode, in a network namespace of its own
//! that stands for a machine.

use std::{fs::File, net::UdpSocket, os::fd::AsRawFd, process::Command, time::Duration};

use windlass_tests_e2e::{
    Cluster, Kubectl, Options, docker::Engine, first_answer, http_get, wait_for,
};

use crate::{
    containers::{pod, ready},
    pods::import,
    shared,
};

fn expose(kubectl: &Kubectl) -> anyhow::Result<()> {
    kubectl.sh("create deployment hello --image=windlass.dev/hello:v1")?;
    kubectl.run(&["rollout", "status", "deployment/hello", "--timeout=60s"])?;
    kubectl.sh("expose deployment hello --port=8080 --type=NodePort")?;
    Ok(())
}

fn node_port(kubectl: &Kubectl) -> anyhow::Result<String> {
    let port = kubectl.jsonpath("service hello", "{.spec.ports[0].nodePort}")?;
    Ok(format!("http://127.0.0.1:{port}/"))
}

#[test]
fn a_node_port_answers_until_its_service_goes() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("node-ports")?;
    expose(&kubectl)?;
    let url = node_port(&kubectl)?;
    let (status, body) = first_answer(&url);
    assert!(status == 200 && body.contains("Hello from Windlass"), "{body}");

    // The number is taken for everybody else, and said so.
    let port = url.trim_end_matches('/').rsplit(':').next().unwrap_or_default();
    let manifest = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: other}}, spec: {{type: NodePort, \
         selector: {{app: hello}}, ports: [{{port: 80, targetPort: 8080, nodePort: {port}}}]}}}}"
    );
    let refused = kubectl.output(&["create", "-f", "-"], &manifest)?;
    assert!(refused.stderr.contains("provided port is already allocated"), "{}", refused.stderr);

    // Without a ready pod nobody answers at once; with one again somebody does.
    kubectl.sh("scale deployment hello --replicas=0")?;
    wait_for("the port is closed", 20, || http_get(&url).err());
    kubectl.sh("scale deployment hello --replicas=1")?;
    first_answer(&url);
    kubectl.sh("delete service hello")?;
    wait_for("the port is closed", 20, || http_get(&url).err());
    kubectl.output(&["create", "-f", "-"], &manifest)?;
    first_answer(&url);
    Ok(())
}

/// A namespace, until it is dropped.
struct Machine(String);

impl Machine {
    /// Makes it, and moves this thread and what it starts there.
    #[allow(unsafe_code, reason = "setns has no safe binding among the workspace's crates")]
    fn enter(name: &str) -> anyhow::Result<Self> {
        let machine = Self(format!("windlass-e2e-{}-{name}", std::process::id()));
        ip(&["netns", "add", &machine.0])?;
        ip(&["-n", &machine.0, "link", "set", "lo", "up"])?;
        let file = File::open(machine.path())?;
        // SAFETY: the descriptor is open, and only this thread's sockets are affected.
        let entered = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
        anyhow::ensure!(entered == 0, "setns takes root: {}", std::io::Error::last_os_error());
        Ok(machine)
    }

    fn path(&self) -> String {
        format!("/run/netns/{}", self.0)
    }

    /// Routes of ours.
    fn routes(&self) -> anyhow::Result<usize> {
        let list = ip(&["-n", &self.0, "route", "show", "table", "local", "proto", "87"])?;
        Ok(list.lines().count())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = ip(&["netns", "del", &self.0]);
    }
}

/// What a DNS server answers to a question for addresses.
fn ask(server: &str, name: &str) -> anyhow::Result<Vec<u8>> {
    let mut question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend(label.as_bytes());
    }
    question.extend(b"\0\0\x01\0\x01");
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect(server)?;
    socket.send(&question)?;
    let mut answer = vec![0; 512];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("ip").args(arguments).output()?;
    anyhow::ensure!(output.status.success(), "ip {arguments:?} takes root: {output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn routed_mode_gives_addresses_of_the_network() -> anyhow::Result<()> {
    let machine = Machine::enter("routed")?;
    let mut cluster = Cluster::start_with(Options {
        within: vec!["nsenter".into(), format!("--net={}", machine.path())],
        arguments: vec!["--network".into(), "routed".into()],
        ..Options::default()
    })?;
    let kubectl = cluster.kubectl(37)?;
    expose(&kubectl)?;
    let pod = kubectl.jsonpath("pods -l app=hello", "{.items[0].status.podIP}")?;
    let service = kubectl.jsonpath("service hello", "{.spec.clusterIP}")?;
    assert!(pod.starts_with("10.") && service.starts_with("10.128."), "{pod} {service}");
    for url in
        [format!("http://{pod}:8080/"), format!("http://{service}:8080/"), node_port(&kubectl)?]
    {
        let (status, body) = first_answer(&url);
        assert!(status == 200 && body.contains("Hello from Windlass"), "{url}: {body}");
    }
    // The host itself may ask for names of services.
    let address: std::net::Ipv4Addr = service.parse()?;
    let answer = ask("10.128.0.10:53", "hello.default.svc.cluster.local")?;
    assert!(answer.ends_with(&address.octets()), "{answer:?}");
    assert_eq!(machine.routes()?, 2);

    // Killed: what it left is taken over. Told to stop: nothing is left.
    cluster.kill()?;
    assert_eq!(machine.routes()?, 2);
    cluster.resume()?;
    first_answer(&format!("http://{service}:8080/"));
    assert_eq!(cluster.stop()?, Some(0));
    assert_eq!(machine.routes()?, 0);
    Ok(())
}

#[test]
fn routed_mode_gives_containers_addresses_of_the_network() -> anyhow::Result<()> {
    let machine = Machine::enter("containers")?;
    // An engine of that machine.
    let mut engine = Engine::new()?;
    engine.start()?;
    let cluster = Cluster::start_with(Options {
        within: vec!["nsenter".into(), format!("--net={}", machine.path())],
        arguments: ["--network", "routed", "--docker-host", &engine.host()]
            .map(str::to_owned)
            .to_vec(),
        ..Options::default()
    })?;
    let kubectl = cluster.kubectl(37)?;
    import(&cluster, "windlass.dev/test/http-caller:1", "http-caller")?;
    let script = "hostname -i > /www/index.html; exec httpd -f -p 8080 -h /www";
    kubectl.apply(&pod("server", script, "    ports: [{containerPort: 8080}]\n"))?;
    kubectl.sh("expose pod server --port=80 --target-port=8080")?;
    kubectl.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: caller}, spec: {containers: [{name: main, \
         image: 'windlass.dev/test/http-caller:1', ports: [{containerPort: 8080}]}]}}",
    )?;
    expose(&kubectl)?;
    ready(&kubectl, "server")?;
    ready(&kubectl, "caller")?;
    let address = |what: &str| kubectl.jsonpath(what, "{.status.podIP}");
    let (server, caller) = (address("pod server")?, address("pod caller")?);
    let block = |address: &str| address.rsplit_once('.').map(|(block, _)| block.to_owned());
    assert!(server.starts_with("10.") && block(&server) == block(&caller), "{server} {caller}");
    // The container knows the address for its own.
    let seen = first_answer(&format!("http://{server}:8080/"));
    assert_eq!(seen, (200, format!("{server}\n")));
    // WASM calls it, by address and by name; it calls WASM and services.
    for to in [format!("{server}:8080"), "server".to_owned()] {
        let url = format!("http://{caller}:8080/?url=http://{to}/");
        assert_eq!(first_answer(&url), (200, format!("{server}\n")), "{url}");
    }
    let hello = kubectl.jsonpath("pods -l app=hello", "{.items[0].status.podIP}")?;
    for to in [format!("{hello}:8080"), "hello:8080".to_owned()] {
        let script = format!("wget -qO- http://{to}/");
        let said = kubectl.run(&["exec", "server", "--", "sh", "-c", &script])?;
        assert!(said.contains("Hello from Windlass"), "{to}: {said}");
    }
    kubectl.sh("delete pod server")?;
    Ok(())
}

/// Node ports and services need no root.
#[test]
fn node_ports_and_services_of_an_unprivileged_user() -> anyhow::Result<()> {
    let cluster = Cluster::start_with(Options { uid: Some(65534), ..Options::default() })?;
    let kubectl = cluster.kubectl(37)?;
    expose(&kubectl)?;
    let service = kubectl.jsonpath("service hello", "{.spec.clusterIP}")?;
    for url in [node_port(&kubectl)?, format!("http://{service}:8080/")] {
        let (status, body) = first_answer(&url);
        assert!(status == 200 && body.contains("Hello from Windlass"), "{url}: {body}");
    }
    // Routes take root: that is said at once.
    let folder = tempfile::tempdir()?;
    std::os::unix::fs::chown(folder.path(), Some(65534), Some(65534))?;
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(std::env::var("WINDLASS_BIN")?)
        .args(["up", "--network", "routed", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("data"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("takes root (CAP_NET_ADMIN)"), "{said}");
    Ok(())
}
