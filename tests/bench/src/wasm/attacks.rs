//! What neighbours of a hostile guest notice, and whether the API server still answers: each attack
//! against the same cluster at rest, just before.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use kube::{Api, api::ListParams};
use windlass_sdk_types::Node;
use windlass_tests_e2e::{Cluster, Kubectl, first_answer, guest, http_get};

use crate::{
    client,
    report::{Figure, Report, percentile},
    wasm::cold::never_seen,
};

/// Requests to each neighbour that are timed, and the pause between them.
const SAMPLES: usize = 400;
const PAUSE: Duration = Duration::from_millis(4);
/// Of the attacks' clients, which would not be on the node.
const CLIENT_NICENESS: i32 = 19;
/// How long one of their requests lasts, at most.
const ATTACK: Duration = Duration::from_secs(15);
/// From the attack's begin to the first timed request.
const UNDER_WAY: Duration = Duration::from_millis(500);

struct Attack {
    name: &'static str,
    paths: &'static [&'static str],
    at_once: usize,
}

const ATTACKS: [Attack; 5] = [
    Attack { name: "spin", paths: &["/spin"], at_once: 16 },
    Attack {
        name: "allocate_recurse_handles",
        paths: &["/allocate", "/recurse", "/handles", "/head"],
        at_once: 8,
    },
    Attack { name: "log", paths: &["/log"], at_once: 8 },
    Attack { name: "unread_bodies", paths: &["/never", "/hang", "/flood"], at_once: 64 },
    Attack { name: "compile_queue", paths: &[], at_once: 0 },
];
/// Components that nobody has seen, all asked for at once.
const FLOOD: usize = 200;

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    let file = guest("http-attacks")?;
    cluster.windlass(&["image", "import", "bench.test/attacks:v1", &file.to_string_lossy()])?;
    for name in ["one", "two"] {
        kubectl.sh(&format!("run {name} --image=windlass.dev/hello:v1 --port=8080"))?;
    }
    kubectl.sh("wait pod/one pod/two --for=condition=Ready --timeout=30s")?;
    let folder = tempfile::tempdir()?;
    for n in 0..FLOOD {
        let file = never_seen(folder.path(), n)?;
        let image = format!("bench.test/flood-{n}:v1");
        cluster.windlass(&["image", "import", &image, &file.to_string_lossy()])?;
    }
    let urls = [url_of(&kubectl, "one")?, url_of(&kubectl, "two")?];
    for attack in &ATTACKS {
        let attacker = format!("attacker-{}", attack.name.replace('_', "-"));
        kubectl.apply(&format!(
            r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "{attacker}"}},
                "spec": {{"containers": [{{"name": "main", "image": "bench.test/attacks:v1",
                    "resources": {{"limits": {{"memory": "64Mi"}}}}}}]}}}}"#
        ))?;
        kubectl.sh(&format!("wait pod/{attacker} --for=condition=Ready --timeout=30s"))?;
        let target = url_of(&kubectl, &attacker)?;
        let alone = seen_by(&urls, &cluster)?;
        let clients = Clients::start(attack, &target)?;
        if attack.paths.is_empty() {
            flood_the_compiler(&kubectl, folder.path())?;
        }
        thread::sleep(UNDER_WAY);
        let attacked = seen_by(&urls, &cluster)?;
        drop(clients);
        kubectl.sh(&format!("delete pod {attacker} --grace-period=1"))?;
        if attack.paths.is_empty() {
            kubectl.sh("delete pods -l flood=true --grace-period=0 --force --wait=false")?;
        }
        say(report, attack, &alone, &attacked)?;
    }
    Ok(())
}

/// The attack's clients: a process of their own, which shares nothing with those who measure.
struct Clients(Child);

impl Clients {
    /// None where it has no clients.
    fn start(attack: &Attack, target: &str) -> anyhow::Result<Option<Self>> {
        let paths = attack.paths.iter().cycle().take(attack.at_once);
        let urls: Vec<String> = paths.map(|path| format!("--attack={target}{path}")).collect();
        if urls.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self(Command::new(std::env::current_exe()?).args(urls).spawn()?)))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In that process: asks for each address again and again, until killed.
pub fn attack(urls: &[String]) {
    // It is the guest that is to be in the way, not its clients, which would not be on the node.
    let _ = rustix::process::setpriority_process(None, CLIENT_NICENESS);
    thread::scope(|scope| {
        for url in urls {
            scope.spawn(move || {
                loop {
                    // It is refused, fails, or never ends.
                    let _ = ask(url);
                }
            });
        }
    });
}

/// Reads an answer to its end, or for a while, and drops it.
fn ask(url: &str) -> std::io::Result<()> {
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap_or((url, ""));
    let mut connection = TcpStream::connect(host)?;
    connection.set_read_timeout(Some(ATTACK))?;
    let head = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    connection.write_all(head.as_bytes())?;
    let (began, mut buffer) = (Instant::now(), [0; 64 << 10]);
    while connection.read(&mut buffer)? > 0 && began.elapsed() < ATTACK {}
    Ok(())
}

/// 99th percentiles in ms.
struct Seen {
    neighbours: f64,
    api: f64,
}

fn say(report: &mut Report, attack: &Attack, alone: &Seen, attacked: &Seen) -> anyhow::Result<()> {
    let allowed = (alone.neighbours * 2.0).max(alone.neighbours + 5.0);
    let verdict = if attacked.neighbours <= allowed { "within" } else { "OVER" };
    let how = format!(
        "the worse of two pods' p99 over {SAMPLES} GETs on connections of their own while {} requests at once attack ({}; their clients in a process of their own at niceness {CLIENT_NICENESS}); {verdict} the bound of {allowed:.1} ms = max(2 x alone, alone + 5 ms)",
        attack.at_once.max(if attack.paths.is_empty() { FLOOD } else { 0 }),
        if attack.paths.is_empty() {
            "pods of components never seen, created by one kubectl".into()
        } else {
            attack.paths.join(" ")
        },
    );
    let name = attack.name;
    for (metric, value, peer, how) in [
        (
            format!("attack_{name}_neighbour_p99_ms"),
            attacked.neighbours,
            alone.neighbours,
            how.as_str(),
        ),
        (
            format!("attack_{name}_api_p99_ms"),
            attacked.api,
            alone.api,
            "`GET /api/v1/nodes` by a client over TLS, beside the above",
        ),
    ] {
        let peer = Some(("at rest", peer));
        report.add(&Figure { bench: "wasm", metric: &metric, value, unit: "ms", peer, how })?;
    }
    Ok(())
}

/// Pods of components that are all to be compiled, in one go.
fn flood_the_compiler(kubectl: &Kubectl, home: &Path) -> anyhow::Result<()> {
    let pods = (0..FLOOD).map(|n| {
        format!(
            r#"{{"apiVersion": "v1", "kind": "Pod",
                "metadata": {{"name": "flood-{n}", "labels": {{"flood": "true"}}}},
                "spec": {{"containers": [{{"name": "main", "image": "bench.test/flood-{n}:v1"}}]}}}}"#
        )
    });
    let items = pods.collect::<Vec<_>>().join(",");
    let list = format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{items}]}}"#);
    // The attack's client, which would not be on the node either.
    let created = Command::new("nice")
        .args(["-n", &CLIENT_NICENESS.to_string()])
        .args(kubectl.words(&["create", "-f", "-"]))
        .env("HOME", home)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    // kubectl sends one after the other: the measuring goes on beside it.
    thread::spawn(move || {
        let mut created = created;
        if let Some(mut stdin) = created.stdin.take() {
            let _ = stdin.write_all(list.as_bytes());
        }
        let _ = created.wait();
    });
    Ok(())
}

fn url_of(kubectl: &Kubectl, pod: &str) -> anyhow::Result<String> {
    let address = kubectl.jsonpath(&format!("pod {pod}"), "{.status.podIP}")?;
    let url = format!("http://{address}:8080");
    first_answer(&url);
    Ok(url)
}

/// Times requests to both neighbours and to the API server, side by side.
fn seen_by(urls: &[String; 2], cluster: &Cluster) -> anyhow::Result<Seen> {
    let [one, two] = urls.clone().map(|url| thread::spawn(move || p99(&url)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let api = runtime.block_on(api_p99(cluster))?;
    let join = |thread: thread::JoinHandle<anyhow::Result<f64>>| {
        thread.join().map_err(|_| anyhow::anyhow!("a measuring thread panicked"))?
    };
    Ok(Seen { neighbours: join(one)?.max(join(two)?), api })
}

async fn api_p99(cluster: &Cluster) -> anyhow::Result<f64> {
    let nodes: Api<Node> = Api::all(client::client(cluster).await?);
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let began = Instant::now();
        nodes.list(&ListParams::default()).await?;
        samples.push(began.elapsed().as_secs_f64() * 1000.0);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(percentile(&mut samples, 99))
}

fn p99(url: &str) -> anyhow::Result<f64> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for _ in 0..SAMPLES {
        let began = Instant::now();
        let (status, text) = http_get(url)?;
        anyhow::ensure!(status == 200, "{url}: {status} {text}");
        samples.push(began.elapsed().as_secs_f64() * 1000.0);
        thread::sleep(PAUSE);
    }
    Ok(percentile(&mut samples, 99))
}
