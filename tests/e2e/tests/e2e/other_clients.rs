//! WASM goes between Windlass and a client of registries that knows nothing of it (ORAS), both ways,
//! through a registry of Debian's and through the cluster's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use windlass_tests_e2e::{
    guest, padded_guest,
    registry::{Access, Registry, digest},
    tool,
};

use crate::{
    cluster_registry::Guest,
    images::{pod, ready},
    shared,
};

/// As the CNCF's WASM artifact has it.
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";
const WASM_TYPE: &str = "application/wasm";

/// ORAS, with what it needs to be let in somewhere.
struct Oras {
    folder: PathBuf,
    flags: Vec<String>,
}

impl Oras {
    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut oras = Command::new(tool("WINDLASS_ORAS")?);
        oras.args(arguments).args(&self.flags).current_dir(&self.folder);
        let output = oras.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "oras {arguments:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What was pushed elsewhere is there, and its layer is the file.
    fn gets(&self, name: &str, file: &Path) -> anyhow::Result<()> {
        let manifest: Value = serde_json::from_str(&self.run(&["manifest", "fetch", name])?)?;
        assert_eq!(manifest["config"]["mediaType"], CONFIG_TYPE);
        let layer = &manifest["layers"][0];
        assert_eq!(layer["mediaType"], WASM_TYPE);
        let wanted = layer["digest"].as_str().context("a digest")?;
        assert_eq!(wanted, digest(&fs::read(file)?)?);
        let repository = name.rsplit_once(':').context("a tag")?.0;
        let of = format!("{repository}@{wanted}");
        self.run(&["blob", "fetch", "--output", "fetched.wasm", &of])?;
        ensure!(
            fs::read(self.folder.join("fetched.wasm"))? == fs::read(file)?,
            "{name} is another"
        );
        Ok(())
    }

    /// Pushes a file of its folder as an artifact.
    fn puts(&self, name: &str, file: &str) -> anyhow::Result<()> {
        let layer = digest(&fs::read(self.folder.join(file))?)?;
        let config = json!({"architecture": "wasm", "os": "wasip2", "layerDigests": [layer],
            "component": {"exports": ["wasi:http/incoming-handler@0.2.0"], "imports": []}});
        fs::write(self.folder.join("config.json"), config.to_string())?;
        let (config, file) = (format!("config.json:{CONFIG_TYPE}"), format!("{file}:{WASM_TYPE}"));
        self.run(&["push", name, "--config", &config, &file]).map(drop)
    }
}

#[test]
fn oras_pulls_what_is_pushed_here_and_its_pushes_run() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?.in_new_namespace("oras")?;
    let folder = tempfile::tempdir()?;
    let theirs = padded_guest("http-echo", folder.path(), 201, 1 << 10)?;
    let file = theirs.file_name().and_then(|name| name.to_str()).context("a name")?;
    let ours = guest("http-echo")?;
    let from = ours.display().to_string();
    let out = folder.path().join("pulled.wasm");
    let pull = |name: &str| -> anyhow::Result<()> {
        let told = cluster.windlass(&["inspect", name])?;
        ensure!(told.contains("a CNCF wasm artifact"), "{told}");
        cluster.windlass(&["pull", name, "--force", "--output", &out.display().to_string()])?;
        ensure!(fs::read(&out)? == fs::read(&theirs)?, "{name} is another");
        Ok(())
    };

    let registry = Registry::start(Access::Everybody, false)?;
    let flags = vec!["--plain-http".to_owned()];
    let oras = Oras { folder: folder.path().to_owned(), flags };
    let name = |tag: &str| format!("{}/oras/echo:{tag}", registry.address);
    cluster.windlass(&["push", &name("ours"), &from])?;
    oras.gets(&name("ours"), &ours)?;
    oras.puts(&name("theirs"), file)?;
    pull(&name("theirs"))?;
    kubectl.apply(&pod("of-a-registry", &name("theirs"), ""))?;
    ready(&kubectl, "of-a-registry");

    let pusher = Guest::new(cluster, &kubectl, "pusher", "edit")?;
    let path = |name: &str| pusher.path().join(name).display().to_string();
    let flags = [
        "--ca-file".to_owned(),
        path("ca.pem"),
        "--registry-config".to_owned(),
        path("config.json"),
    ];
    let oras = Oras { flags: flags.into(), ..oras };
    let name = |tag: &str| format!("{}/oras/echo:{tag}", pusher.address);
    let local = |tag: &str| format!("windlass.local/oras/echo:{tag}");
    cluster.windlass(&["push", &local("ours"), &from])?;
    oras.gets(&name("ours"), &ours)?;
    oras.puts(&name("theirs"), file)?;
    pull(&local("theirs"))?;
    kubectl.apply(&pod("of-the-cluster", &local("theirs"), ""))?;
    ready(&kubectl, "of-the-cluster");
    let tags = oras.run(&["repo", "tags", &format!("{}/oras/echo", pusher.address)])?;
    assert_eq!(tags, "ours\ntheirs\n");
    Ok(())
}
