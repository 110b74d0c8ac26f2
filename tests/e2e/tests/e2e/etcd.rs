//! A cluster whose state is in etcd: it works as any other, says so at once when etcd is gone, and goes
//! on when it is back.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use windlass_tests_e2e::{Cluster, Options, wait_for};

fn spawn(folder: &Path, [clients, peers]: [u16; 2]) -> anyhow::Result<Child> {
    let (clients, peers) =
        (format!("http://127.0.0.1:{clients}"), format!("http://127.0.0.1:{peers}"));
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "etcd", "--data-dir"])
        .arg(folder)
        .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
        .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
        .args(["--initial-cluster", &format!("default={peers}")]);
    Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

#[test]
fn state_in_etcd() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let free = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
    let ports = [free()?, free()?];
    let mut etcd = spawn(folder.path(), ports)?;
    let address = format!("127.0.0.1:{}", ports[0]);
    wait_for("etcd listens", 60, || std::net::TcpStream::connect(&address).ok());
    let arguments = vec!["--store".into(), format!("etcd://{address}")];
    let cluster = Cluster::start_with(Options { arguments, ..Options::default() })?;
    let kubectl = cluster.kubectl(37)?;
    kubectl.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {k: v}\n")?;
    kubectl.sh("apply -f examples/hello/")?;
    kubectl.sh("rollout status deployment/hello --timeout=60s")?;

    etcd.kill()?;
    etcd.wait()?;
    let began = Instant::now();
    let output = kubectl.output(&["get", "configmap", "kept", "--request-timeout=20s"], "")?;
    let said = output.stdout + &output.stderr;
    assert!(!output.success && said.contains("etcd"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());

    etcd = spawn(folder.path(), ports)?;
    wait_for("the cluster serves again", 60, || {
        kubectl.sh("get configmap kept -o jsonpath={.data.k}").ok().filter(|value| value == "v")
    });
    wait_for("it takes writes again", 60, || kubectl.sh("create configmap after").ok());
    drop(cluster);
    etcd.kill()?;
    etcd.wait()?;
    Ok(())
}
