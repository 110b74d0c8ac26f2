//! Pushes and pulls that don't come to their end, or meet one another: who waits is told why, and
//! whoever looks sees an image whole or not at all. In the cluster's registry and in another.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};
use serde_json::Value;
use windlass_tests_e2e::{
    Cluster, Kubectl, Options,
    disk::SmallDisk,
    padded_guest,
    registry::{Access, Registry, damage, digest},
    tool, wait_for,
    wire::{Towards, Weather, Wire},
};

use crate::{
    cluster_registry::Guest,
    images::{events, pod, ready},
    shared,
};

const MIB: usize = 1 << 20;
/// Of the files that are pushed, so that there is a middle.
const SIZE: usize = 8 * MIB;
const MIDDLE: usize = 3 * MIB;

/// A component that serves HTTP; another seed is another file.
fn large(folder: &Path, seed: u64) -> anyhow::Result<PathBuf> {
    padded_guest("http-echo", folder, seed, SIZE)
}

/// A registry, reached over a wire that may break.
struct Place {
    folder: tempfile::TempDir,
    wire: Wire,
    /// None: it is the cluster's.
    registry: Option<Registry>,
    /// Of the repository, as a client names it.
    name: String,
}

impl Place {
    /// The cluster's registry, where the namespace has to be; and one of Debian's.
    fn both(namespace: &str) -> anyhow::Result<[Self; 2]> {
        let cluster = shared();
        let wire = Wire::to(&format!("127.0.0.1:{}", cluster.port()))?;
        let folder = tempfile::tempdir()?;
        let config = fs::read_to_string(cluster.kubeconfig())?;
        let direct = format!("https://127.0.0.1:{}", cluster.port());
        ensure!(config.contains(&direct), "{direct} is where the kubeconfig leads");
        let config = config.replace(&direct, &format!("https://{}", wire.address));
        fs::write(folder.path().join("kubeconfig"), config)?;
        let name = format!("windlass.local/{namespace}/cart");
        let own = Self { folder, wire, registry: None, name };

        let registry = Registry::start(Access::Everybody, false)?;
        let wire = Wire::to(&registry.address)?;
        let (folder, name) = (tempfile::tempdir()?, format!("{}/{namespace}/cart", wire.address));
        fs::write(folder.path().join("kubeconfig"), "")?;
        Ok([own, Self { folder, wire, registry: Some(registry), name }])
    }

    fn command(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = Command::new(tool("WINDLASS_BIN")?);
        command.args(arguments).current_dir(self.folder.path());
        command.env("KUBECONFIG", self.folder.path().join("kubeconfig"));
        Ok(command)
    }

    fn begin(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        let mut command = self.command(arguments)?;
        Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }

    fn works(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments)?.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "windlass {arguments:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What it says on stderr.
    fn fails(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command(arguments)?.output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(1), "windlass {arguments:?}: {said}");
        Ok(said)
    }

    /// Runs until the wire has struck, then ends it as `kill -9` does.
    fn kill_midway(&self, arguments: &[&str], towards: Towards) -> anyhow::Result<()> {
        self.wire.is(Weather::Stalls(towards, MIDDLE));
        let mut child = self.begin(arguments)?;
        wait_for("it is in the middle", 60, || (self.wire.struck() > 0).then_some(()));
        ensure!(child.try_wait()?.is_none(), "windlass {arguments:?} ended by itself");
        child.kill()?;
        child.wait()?;
        self.wire.is(Weather::Fair);
        Ok(())
    }

    /// The names in the folder from where it works.
    fn files(&self) -> anyhow::Result<Vec<String>> {
        let all = fs::read_dir(self.folder.path())?.flatten();
        let mut names: Vec<String> =
            all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    }

    fn pulls(&self, expected: &Path) -> anyhow::Result<()> {
        let name = format!("{}:v1", self.name);
        self.works(&["pull", &name, "--force", "--output", "pulled.wasm"])?;
        let pulled = self.folder.path().join("pulled.wasm");
        ensure!(fs::read(&pulled)? == fs::read(expected)?, "{name} is another");
        Ok(fs::remove_file(pulled)?)
    }
}

#[test]
fn a_push_that_is_killed_shows_nothing() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("killed-pushes")?;
    let folder = tempfile::tempdir()?;
    let file = large(folder.path(), 1)?;
    let blob = digest(&fs::read(&file)?)?;
    for place in Place::both("killed-pushes")? {
        let (name, from) = (format!("{}:v1", place.name), file.display().to_string());
        place.kill_midway(&["push", &name, &from], Towards::Server)?;
        let said = place.fails(&["pull", &name])?;
        ensure!(said.contains(&name) && said.contains("not found"), "{said}");
        if place.registry.is_none() {
            let asked = |path: &str| {
                let path = format!("/v2/killed-pushes/cart/{path}");
                kubectl.output(&["get", "--raw", &path], "").map(|told| told.success)
            };
            ensure!(!asked("tags/list")? && !asked(&format!("blobs/{blob}"))?, "there is nothing");
        }
        // Whoever pushes again finds nothing in the way.
        place.works(&["push", &name, &from])?;
        place.pulls(&file)?;
        // And what is there stays as it is when the next is cut off.
        let next = large(folder.path(), 2)?.display().to_string();
        place.kill_midway(&["push", &name, &next], Towards::Server)?;
        place.pulls(&file)?;
    }
    Ok(())
}

#[test]
fn a_push_over_a_line_that_breaks_off_says_so() -> anyhow::Result<()> {
    shared().kubectl(37)?.in_new_namespace("cut-pushes")?;
    let folder = tempfile::tempdir()?;
    let file = large(folder.path(), 3)?;
    for place in Place::both("cut-pushes")? {
        let (name, from) = (format!("{}:v1", place.name), file.display().to_string());
        place.wire.is(Weather::Cuts(Towards::Server, MIDDLE));
        let said = place.fails(&["push", &name, &from])?;
        ensure!(said.contains(&place.name) && place.wire.struck() > 0, "{said}");
        ensure!(said.lines().count() == 2, "what it does and why it failed: {said}");
        place.wire.is(Weather::Fair);
        let said = place.fails(&["pull", &name])?;
        ensure!(said.contains("not found"), "{said}");
        place.works(&["push", &name, &from])?;
        place.pulls(&file)?;
    }
    Ok(())
}

#[test]
fn a_pull_that_does_not_end_leaves_the_file_as_it_was() -> anyhow::Result<()> {
    shared().kubectl(37)?.in_new_namespace("cut-pulls")?;
    let folder = tempfile::tempdir()?;
    let file = large(folder.path(), 4)?;
    for place in Place::both("cut-pulls")? {
        let name = format!("{}:v1", place.name);
        place.works(&["push", &name, &file.display().to_string()])?;
        let before = place.files()?;

        place.wire.is(Weather::Cuts(Towards::Client, MIDDLE));
        let said = place.fails(&["pull", &name, "--output", "cart.wasm"])?;
        ensure!(said.contains(&name) && place.wire.struck() > 0, "{said}");
        assert_eq!(place.files()?, before, "nothing is written");
        place.kill_midway(&["pull", &name, "--output", "cart.wasm"], Towards::Client)?;
        assert_eq!(place.files()?, before, "nothing is written");

        // What is there is replaced by a whole file, or not.
        let here = place.folder.path().join("cart.wasm");
        fs::write(&here, "before")?;
        let forced = ["pull", &name, "--force", "--output", "cart.wasm"];
        place.wire.is(Weather::Cuts(Towards::Client, MIDDLE));
        place.fails(&forced)?;
        place.kill_midway(&forced, Towards::Client)?;
        assert_eq!(fs::read_to_string(&here)?, "before");
        place.works(&forced)?;
        ensure!(fs::read(&here)? == fs::read(&file)?, "{name} is another");
    }
    Ok(())
}

/// What the node holds under the image's name.
fn on_the_node(cluster: &Cluster, image: &str) -> anyhow::Result<bool> {
    Ok(cluster.windlass(&["image", "list"])?.contains(image))
}

/// Waits for an Event of a pod that can't have its image.
fn refused(kubectl: &Kubectl, pod: &str, why: &str) -> String {
    wait_for(&format!("{pod} is told {why:?}"), 60, || {
        let said = events(kubectl, pod);
        (said.contains("Failed to pull image") && said.contains(why)).then_some(said)
    })
}

#[test]
fn a_pod_s_pull_that_breaks_off_is_told_and_tried_again() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("pods-pulls")?;
    let folder = tempfile::tempdir()?;
    let file = large(folder.path(), 5)?;
    let [_, place] = Place::both("pods-pulls")?;
    let name = format!("{}:v1", place.name);
    place.works(&["push", &name, &file.display().to_string()])?;
    place.wire.is(Weather::Cuts(Towards::Client, MIDDLE));
    kubectl.apply(&pod("cart", &name, ""))?;
    refused(&kubectl, "cart", &name);
    ensure!(!on_the_node(shared(), &name)?, "half an image has no name");
    place.wire.is(Weather::Fair);
    ready(&kubectl, "cart");
    ensure!(on_the_node(shared(), &name)?, "a whole one has");
    Ok(())
}

#[test]
fn a_layer_that_is_not_what_its_digest_says_is_refused() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("corrupt")?;
    let folder = tempfile::tempdir()?;
    let [own, place] = Place::both("corrupt")?;
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, u64, Damage); 2] =
        [("flipped", 6, |bytes| bytes[MIDDLE] ^= 1), ("short", 7, |bytes| bytes.truncate(MIDDLE))];
    for (tag, seed, how) in damages {
        let file = large(folder.path(), seed)?;
        let (from, layer) = (file.display().to_string(), digest(&fs::read(&file)?)?);
        let registry = place.registry.as_ref().context("Debian's")?;
        let name = format!("{}:{tag}", place.name);
        place.works(&["push", &name, &from])?;
        registry.damage(&layer, how)?;
        let said = place.fails(&["pull", &name, "--output", "cart.wasm"])?;
        ensure!(said.contains(&layer), "{said}");
        ensure!(!place.files()?.contains(&"cart.wasm".to_owned()), "nothing is written");
        kubectl.apply(&pod(tag, &name, ""))?;
        refused(&kubectl, tag, &layer);
        ensure!(!on_the_node(shared(), &name)?, "what is damaged has no name");

        // The same where the disk of the cluster's own registry has lost it. Another file: with this
        // one here whole, the pod would have it after all.
        let file = large(folder.path(), seed + 100)?;
        let (from, layer) = (file.display().to_string(), digest(&fs::read(&file)?)?);
        let name = format!("{}:{tag}", own.name);
        own.works(&["push", &name, &from])?;
        let blobs = shared().data_dir().join("node/images/blobs/sha256");
        damage(&blobs.join(layer.trim_start_matches("sha256:")), how)?;
        let said = own.fails(&["pull", &name, "--output", "cart.wasm"])?;
        ensure!(said.contains(&layer), "{said}");
        ensure!(!own.files()?.contains(&"cart.wasm".to_owned()), "nothing is written");
        // Taken away and pushed again it is whole.
        own.works(&["image", "remove", &name])?;
        own.works(&["push", &name, &from])?;
        own.works(&["pull", &name, "--output", &format!("{tag}.wasm")])?;
        let pulled = fs::read(own.folder.path().join(format!("{tag}.wasm")))?;
        ensure!(pulled == fs::read(&file)?, "{name} is another");
    }
    Ok(())
}

#[test]
fn two_pushes_of_one_tag_leave_one_of_them_whole() -> anyhow::Result<()> {
    shared().kubectl(37)?.in_new_namespace("two-pushes")?;
    let folder = tempfile::tempdir()?;
    let files = [large(folder.path(), 8)?, large(folder.path(), 9)?];
    for place in Place::both("two-pushes")? {
        let name = format!("{}:v1", place.name);
        for _ in 0..3 {
            let mut pushes = Vec::new();
            for file in &files {
                let from = file.display().to_string();
                let mut push = place.command(&["push", &name, &from])?;
                pushes.push(push.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?);
            }
            let mut pushed = Vec::new();
            for push in pushes {
                let output = push.wait_with_output()?;
                let said = String::from_utf8_lossy(&output.stderr);
                ensure!(output.status.success(), "{said}");
                pushed.push(String::from_utf8(output.stdout)?.trim().to_owned());
            }
            let told: Value = serde_json::from_str(&place.works(&["inspect", &name, "--json"])?)?;
            let tagged = told["digest"].as_str().context("a digest")?;
            let winner = pushed.iter().position(|image| image.ends_with(tagged));
            place.pulls(&files[winner.context("the tag leads to one of both")?])?;
            // The other is there, too, by its digest.
            for (image, file) in pushed.iter().zip(&files) {
                place.works(&["pull", image, "--force", "--output", "by-digest.wasm"])?;
                let pulled = fs::read(place.folder.path().join("by-digest.wasm"))?;
                ensure!(pulled == fs::read(file)?, "{image} is another");
            }
        }
    }
    Ok(())
}

#[test]
fn on_a_full_disk_a_push_is_refused_and_leaves_nothing() -> anyhow::Result<()> {
    let disk = SmallDisk::mount(200)?;
    let cluster = Cluster::start_with(Options {
        data_dir: Some(disk.path.join("data")),
        ..Options::default()
    })?;
    let kubectl = cluster.kubectl(37)?;
    let pusher = Guest::new(&cluster, &kubectl, "pusher", "edit")?;
    let folder = tempfile::tempdir()?;
    let file = large(folder.path(), 10)?;
    let (from, blob) = (file.display().to_string(), digest(&fs::read(&file)?)?);
    let name = "windlass.local/default/cart:v1";
    let images = cluster.data_dir().join("node/images");
    let files = |below: &str| fs::read_dir(images.join(below)).map_or(0, Iterator::count);
    let before = files("blobs/sha256");

    let filler = disk.fill(4)?;
    let full = "the registry's disk is full";
    let said = format!("{:#}", cluster.windlass(&["push", name, &from]).err().context("full")?);
    ensure!(said.contains(full) && said.contains(name), "{said}");
    let url = pusher.url(&format!("/v2/default/cart/blobs/uploads/?digest={blob}"));
    let (status, body) =
        pusher.curl(&["-X", "POST", "--data-binary", &format!("@{from}"), &url])?;
    ensure!(status == 507 && body.contains(full), "{status} {body}");
    let (status, body) = pusher.curl(&[&pusher.url("/v2/default/cart/tags/list")])?;
    ensure!(status == 404, "{status} {body}");
    wait_for("nothing is left", 20, || (files("ingest") == 0).then_some(()));
    assert_eq!(files("blobs/sha256"), before);

    fs::remove_file(filler)?;
    cluster.windlass(&["push", name, &from])?;
    let pulled = folder.path().join("pulled.wasm");
    cluster.windlass(&["pull", name, "--output", &pulled.display().to_string()])?;
    ensure!(fs::read(pulled)? == fs::read(&file)?, "{name} is another");
    kubectl.apply(&pod("cart", name, ""))?;
    ready(&kubectl, "cart");
    Ok(())
}
