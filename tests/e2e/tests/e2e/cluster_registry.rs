//! The registry in the cluster: what is pushed there runs without another pull, by whom the cluster
//! lets in, with clients that know nothing of Windlass.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use windlass_tests_e2e::{
    Cluster, Kubectl,
    docker::{BUSYBOX, busybox, docker, docker_as, host},
    first_answer, guest, padded_guest,
    registry::digest,
    tool, wait_for,
};

use crate::{
    images::{events, pod, ready},
    shared,
};

/// Somebody with a service account's token, and no kubeconfig.
pub struct Guest {
    folder: tempfile::TempDir,
    pub address: String,
    pub token: String,
}

impl Guest {
    /// `role`: what the account may do, if anything.
    pub fn new(
        cluster: &Cluster,
        kubectl: &Kubectl,
        name: &str,
        role: &str,
    ) -> anyhow::Result<Self> {
        kubectl.sh(&format!("create serviceaccount {name}"))?;
        if !role.is_empty() {
            let account = format!("{}:{name}", kubectl.namespace);
            kubectl.sh(&format!(
                "create rolebinding {name} --clusterrole={role} --serviceaccount={account}"
            ))?;
        }
        let token = kubectl.sh(&format!("create token {name}"))?.trim().to_owned();
        let folder = tempfile::tempdir()?;
        let address = format!("127.0.0.1:{}", cluster.port());
        let config = kubectl.run(&["config", "view", "--raw", "-o", "json"])?;
        let config: Value = serde_json::from_str(&config)?;
        let authority = &config["clusters"][0]["cluster"]["certificate-authority-data"];
        let authority = STANDARD.decode(authority.as_str().context("the cluster's authority")?)?;
        fs::write(folder.path().join("ca.pem"), authority)?;
        let auth = STANDARD.encode(format!("anybody:{token}"));
        let login = json!({"auths": {(address.as_str()): {"auth": auth}}});
        fs::write(folder.path().join("config.json"), login.to_string())?;
        let trust = format!(
            "configs: {{'{address}': {{tls: {{ca_file: {}}}}}}}",
            folder.path().join("ca.pem").display()
        );
        fs::write(folder.path().join("registries.yaml"), trust)?;
        Ok(Self { folder, address, token })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `windlass` as a client of any registry: by the address, with the token as Docker's password.
    fn windlass(&self, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
        let output = Command::new(tool("WINDLASS_BIN")?)
            .args(arguments)
            .args(["--registries", "registries.yaml"])
            .current_dir(self.path())
            .env("DOCKER_CONFIG", self.path())
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8(text)?))
    }

    /// Status and body of one request by curl; the password is the token.
    pub fn curl(&self, arguments: &[&str]) -> anyhow::Result<(u16, String)> {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--cacert"])
            .arg(self.path().join("ca.pem"))
            .args(["--write-out", "\n%{http_code}", "--user", &format!("x:{}", self.token)])
            .args(arguments)
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        let (body, status) = text.rsplit_once('\n').context("a status")?;
        Ok((status.parse()?, body.to_owned()))
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}

#[test]
fn what_is_pushed_runs_without_a_pull() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("pushes")?;
    let (echo, name) = (guest("http-echo")?, "windlass.local/pushes/echo:v1");
    let file = echo.to_string_lossy();
    // A pod that waits for it starts when it comes.
    kubectl.apply(&pod("early", name, ""))?;
    wait_for("it says what to do", 40, || {
        let said = events(&kubectl, "early");
        said.contains("windlass push windlass.local/pushes/echo:TAG FILE").then_some(())
    });
    let pushed = cluster.windlass(&["push", name, &file])?;
    ensure!(cluster.windlass(&["push", name, &file])? == pushed, "the same bytes again");
    let by_digest = pushed.trim();
    ensure!(by_digest.starts_with("windlass.local/pushes/echo@sha256:"), "{pushed}");
    ready(&kubectl, "early");
    for (pod_name, image, policy) in
        [("tag", name, "Always"), ("digest", by_digest, "Always"), ("never", by_digest, "Never")]
    {
        let manifest = pod(pod_name, image, "");
        kubectl.apply(&manifest.replace("\"}", &format!("\", imagePullPolicy: {policy}}}")))?;
        ready(&kubectl, pod_name);
        let said = events(&kubectl, pod_name);
        ensure!(said.contains("already present on machine"), "{said}");
    }
    // As any registry: what it is, its bytes, and what isn't there.
    let told = cluster.windlass(&["inspect", by_digest])?;
    ensure!(told.contains("a CNCF wasm artifact"), "{told}");
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("echo.wasm").display().to_string();
    cluster.windlass(&["pull", name, "--output", &out])?;
    ensure!(fs::read(&out)? == fs::read(&echo)?, "the same bytes");
    let absent = cluster.windlass(&["pull", "windlass.local/pushes/none:v1", "--output", &out]);
    ensure!(absent.is_err());
    let absent =
        cluster.windlass(&["pull", "windlass.local/pushes/none:v1", "--force", "--output", &out]);
    let said = format!("{:#}", absent.err().context("it is nowhere")?);
    ensure!(said.contains("windlass.local/pushes/none:v1: not found in the cluster"), "{said}");
    let wrong = cluster.windlass(&["push", "windlass.local/echo:v1", &file]);
    let said = format!("{:#}", wrong.err().context("it has no namespace")?);
    ensure!(said.contains("is not windlass.local/NAMESPACE/NAME:TAG"), "{said}");
    Ok(())
}

#[test]
fn an_image_is_removed_when_nothing_uses_it() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("removals")?;
    let (name, file) = ("windlass.local/removals/echo:v1", guest("http-echo")?);
    let pushed = cluster.windlass(&["push", name, &file.to_string_lossy()])?;
    kubectl.apply(&pod("user", pushed.trim(), ""))?;
    ready(&kubectl, "user");
    let remove = |name: &str| match cluster.windlass(&["image", "remove", name]) {
        Ok(said) => said,
        Err(error) => format!("{error:#}"),
    };
    for name in [name, pushed.trim()] {
        let said = remove(name);
        ensure!(
            said.contains("is in use by the pod removals/user: delete that one first"),
            "{said}"
        );
    }
    let said = remove("windlass.dev/hello:v1");
    ensure!(said.contains("comes with windlass and can't be removed"), "{said}");
    kubectl.sh("delete pod user --wait=true")?;
    wait_for("the node lets it go", 20, || {
        remove(name).contains(&format!("{name} (sha256:")).then_some(())
    });
    let listed = cluster.windlass(&["image", "list"])?;
    ensure!(!listed.contains("removals/echo"), "{listed}");
    let said = remove(name);
    ensure!(said.contains("is not on this node"), "{said}");
    Ok(())
}

#[test]
fn other_clients_come_in_by_the_clusters_rules() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("guests")?;
    let pusher = Guest::new(cluster, &kubectl, "pusher", "edit")?;
    let reader = Guest::new(cluster, &kubectl, "reader", "view")?;
    let nobody = Guest::new(cluster, &kubectl, "nobody", "")?;
    let file = guest("http-echo")?.display().to_string();
    let name = format!("{}/guests/echo:v1", pusher.address);

    let (ok, said) = pusher.windlass(&["push", &name, &file])?;
    ensure!(ok, "{said}");
    kubectl.apply(&pod("echo", "windlass.local/guests/echo:v1", ""))?;
    ready(&kubectl, "echo");
    for (who, args, wanted, why) in [
        (&reader, vec!["pull", &name, "-o", "x.wasm"], true, "is in x.wasm"),
        (&reader, vec!["push", &name, &file], false, "cannot update resource"),
        (&nobody, vec!["pull", &name], false, "denied"),
        (&nobody, vec!["push", &name, &file], false, "denied"),
    ] {
        let (ok, said) = who.windlass(&args)?;
        ensure!(ok == wanted && said.contains(why), "{args:?}: {said}");
    }
    // In another namespace the role is none.
    let elsewhere = name.replace("/guests/", "/default/");
    let (ok, said) = pusher.windlass(&["push", &elsewhere, &file])?;
    ensure!(!ok && said.contains("push access denied"), "{said}");

    let tags = "/v2/guests/echo/tags/list";
    let (status, body) = reader.curl(&[&reader.url(tags)])?;
    ensure!(status == 200 && body.contains(r#""tags":["v1"]"#), "{status} {body}");
    let (status, body) = nobody.curl(&[&nobody.url(tags)])?;
    ensure!(status == 403 && body.contains(r#""code":"DENIED""#), "{status} {body}");
    let forged = Guest { token: "x".into(), ..Guest::new(cluster, &kubectl, "forged", "edit")? };
    let (status, body) = forged.curl(&[&forged.url("/v2/")])?;
    ensure!(status == 401 && body.contains(r#""code":"UNAUTHORIZED""#), "{status} {body}");
    // The password is one below /v2/ only.
    let (status, _) = pusher.curl(&[&pusher.url("/api/v1/namespaces/guests/pods")])?;
    ensure!(status == 401, "{status}");
    let (status, _) =
        pusher.curl(&["-X", "DELETE", &pusher.url("/v2/guests/echo/manifests/v1")])?;
    ensure!(status == 202, "{status}");
    Ok(())
}

#[test]
fn docker_pushes_a_container_that_a_pod_then_runs() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("from-docker")?;
    let pusher = Guest::new(cluster, &kubectl, "pusher", "edit")?;
    let host = host()?;
    busybox()?;
    // Engines trust what is on 127.0.0.1 as it is.
    let name = format!("{}/from-docker/busybox:v1", pusher.address);
    docker(&host, &["tag", BUSYBOX, &name])?;
    docker_as(&host, pusher.path(), &["push", &name])?;
    docker(&host, &["rmi", &name])?;
    docker_as(&host, pusher.path(), &["pull", &name])?;
    docker(&host, &["rmi", &name])?;
    let local = "windlass.local/from-docker/busybox:v1";
    kubectl.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: box}}, spec: \
         {{terminationGracePeriodSeconds: 0, containers: [{{name: main, image: \"{local}\", \
         command: [sleep, '1000']}}]}}}}"
    ))?;
    ready(&kubectl, "box");
    let id = kubectl.jsonpath("pod box", "{.status.containerStatuses[0].containerID}")?;
    ensure!(id.starts_with("docker://"), "{id}");
    // It is no wasm, and so not among the node's images of that sort.
    let listed = cluster.windlass(&["image", "list"])?;
    ensure!(!listed.contains("from-docker"), "{listed}");
    kubectl.sh("delete pod box --wait=true")?;
    docker(&host, &["rmi", "-f", local])?;
    Ok(())
}

#[test]
fn an_upload_that_a_kill_cuts_off_leaves_nothing() -> anyhow::Result<()> {
    let mut cluster = Cluster::start()?;
    let kubectl = cluster.kubectl(37)?;
    let pusher = Guest::new(&cluster, &kubectl, "pusher", "edit")?;
    let ingest = cluster.data_dir().join("node/images/ingest");
    let blobs = cluster.data_dir().join("node/images/blobs/sha256");
    let files = |folder: &Path| fs::read_dir(folder).map_or(0, Iterator::count);
    let before = files(&blobs);
    // It sends for as long as its input is open.
    let digest = digest(b"never whole")?;
    let mut upload = Command::new("curl")
        .args(["--silent", "--cacert"])
        .arg(pusher.path().join("ca.pem"))
        .args(["--user", &format!("x:{}", pusher.token), "-X", "POST", "-T", "-"])
        .arg(pusher.url(&format!("/v2/default/cut/blobs/uploads?digest={digest}")))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = upload.stdin.take().context("stdin is piped")?;
    input.write_all(&vec![b'x'; 1 << 20])?;
    let has_bytes = || {
        let parts = fs::read_dir(&ingest).ok()?;
        let sizes = parts.flatten().filter_map(|part| part.metadata().ok());
        sizes.map(|facts| facts.len()).find(|size| *size >= 256 << 10)
    };
    wait_for("bytes arrive", 20, has_bytes);
    cluster.kill()?;
    upload.kill()?;
    upload.wait()?;
    ensure!(files(&ingest) > 0, "a killed process tidies nothing");
    cluster.resume()?;
    ensure!(files(&ingest) == 0 && files(&blobs) == before, "nothing is left");
    // A client that hangs up leaves nothing either, while the cluster runs.
    let url = pusher.url(&format!("/v2/default/cut/blobs/uploads?digest={digest}"));
    let mut upload = Command::new("curl")
        .args(["--silent", "--cacert"])
        .arg(pusher.path().join("ca.pem"))
        .args(["--user", &format!("x:{}", pusher.token), "-X", "POST", "-T", "-", &url])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut input = upload.stdin.take().context("stdin is piped")?;
    input.write_all(&vec![b'x'; 1 << 20])?;
    wait_for("bytes arrive", 20, has_bytes);
    upload.kill()?;
    upload.wait()?;
    wait_for("they go", 20, || (files(&ingest) == 0).then_some(()));
    ensure!(TcpStream::connect(&pusher.address).is_ok());
    Ok(())
}

#[test]
fn a_service_answers_from_a_pushed_image() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("pushed-served")?;
    let file = guest("http-echo")?.display().to_string();
    let pushed = cluster.windlass(&["push", "windlass.local/pushed-served/echo:v1", &file])?;
    kubectl.run(&["create", "deployment", "echo", &format!("--image={}", pushed.trim())])?;
    kubectl.sh("expose deployment echo --port=8080")?;
    kubectl.sh("rollout status deployment/echo --timeout=60s")?;
    let address = kubectl.jsonpath("service echo", "{.spec.clusterIP}")?;
    let (status, body) = first_answer(&format!("http://{address}:8080/"));
    ensure!(status == 200, "{status} {body}");
    Ok(())
}

#[test]
fn what_is_pushed_is_compiled_before_a_pod_asks() -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    let file = guest("http-echo")?;
    let digest = digest(&fs::read(&file)?)?;
    let hex = digest.trim_start_matches("sha256:");
    cluster.windlass(&["push", "windlass.local/default/echo:v1", &file.to_string_lossy()])?;
    let compiled = cluster.data_dir().join("node/compiled");
    wait_for("native code", 60, || {
        let engines = fs::read_dir(&compiled).ok()?.flatten();
        let files = engines.filter_map(|engine| fs::read_dir(engine.path()).ok()).flatten();
        let mut names = files.flatten().map(|file| file.file_name());
        names.find(|name| name.to_string_lossy().contains(hex))
    });
    Ok(())
}

#[test]
fn a_namespace_takes_its_images_along() -> anyhow::Result<()> {
    let cluster = shared();
    let admin = cluster.kubectl(37)?;
    let (kubectl, users) =
        (admin.in_new_namespace("leaves")?, admin.in_new_namespace("leaves-users")?);
    let folder = tempfile::tempdir()?;
    let file = padded_guest("http-echo", folder.path(), 101, 64 << 10)?.display().to_string();
    let used = padded_guest("http-echo", folder.path(), 102, 64 << 10)?.display().to_string();
    let (name, used_name) = ("windlass.local/leaves/echo:v1", "windlass.local/leaves/used:v1");
    cluster.windlass(&["push", name, &file])?;
    cluster.windlass(&["push", used_name, &used])?;
    let blob = |file: &str| -> anyhow::Result<PathBuf> {
        let digest = digest(&fs::read(file)?)?;
        let hex = digest.trim_start_matches("sha256:");
        Ok(cluster.data_dir().join("node/images/blobs/sha256").join(hex))
    };
    ensure!(blob(&file)?.is_file() && blob(&used)?.is_file());
    kubectl.apply(&pod("own", name, ""))?;
    users.apply(&pod("user", used_name, ""))?;
    ready(&kubectl, "own");
    ready(&users, "user");

    // Somebody's finalizer holds it up: it takes nothing new, and its images are gone by then.
    kubectl.apply(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: held, finalizers: [example.com/hold]}}",
    )?;
    kubectl.sh("delete namespace leaves --wait=false")?;
    let absent = |path: &str| {
        let told = admin.output(&["get", "--raw", &format!("/v2/leaves/{path}")], "");
        told.is_ok_and(|told| !told.success).then_some(())
    };
    wait_for("its images go", 60, || absent("echo/tags/list"));
    let fails = |arguments: &[&str], why: &str| -> anyhow::Result<()> {
        let failed = cluster.windlass(arguments).err().context("it is refused")?;
        let said = format!("{failed:#}");
        ensure!(said.contains(why), "{said}");
        Ok(())
    };
    fails(&["push", name, &file], "namespace leaves because it is being terminated")?;
    kubectl.sh("patch configmap held --type=merge -p {\"metadata\":{\"finalizers\":null}}")?;
    admin.sh("wait --for=delete namespace/leaves --timeout=60s")?;
    fails(&["push", name, &file], "namespaces \"leaves\" not found")?;
    ensure!(!blob(&file)?.exists(), "its content is collected");

    // The next one of this name begins empty.
    let kubectl = admin.in_new_namespace("leaves")?;
    let out = folder.path().join("out.wasm").display().to_string();
    for name in [name, used_name] {
        fails(&["pull", name, "--output", &out], "not found in the cluster's registry")?;
    }
    let digest = digest(&fs::read(&file)?)?;
    absent(&format!("echo/blobs/{digest}")).context("a blob of the one before")?;
    kubectl.apply(&pod("early", name, ""))?;
    wait_for("it says what to do", 40, || {
        events(&kubectl, "early").contains("windlass push windlass.local/leaves/echo").then_some(())
    });
    cluster.windlass(&["push", name, &file])?;
    ready(&kubectl, "early");

    // Who uses an image elsewhere goes on, and the node has it for others; the registry doesn't.
    ready(&users, "user");
    users.apply(&pod("anew", used_name, ""))?;
    ready(&users, "anew");
    let always = pod("always", used_name, "").replace("\"}", "\", imagePullPolicy: Always}");
    users.apply(&always)?;
    wait_for("the registry has it no more", 40, || {
        let said = events(&users, "always");
        said.contains("windlass push windlass.local/leaves/used").then_some(())
    });
    Ok(())
}
