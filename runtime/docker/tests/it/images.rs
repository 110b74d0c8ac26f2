//! Images of the engine's store, and of a registry (Debian's docker-registry) in a process of its own.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use windlass_runtime_api::{Nature, RegistryAuth, Runtime};

use crate::node::{IMAGE, Node, docker};

/// bcrypt of "secret", in `htpasswd`'s format.
const HTPASSWD: &str = "user:$2b$05$HaoRVqMm4pbaoEH5TRWH7OZKBAf1LjzIfbcx3frVN/nFlpholB50C\n";

pub struct Registry {
    child: Child,
    pub address: String,
    _folder: TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Registry {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        drop(listener);
        let path = |name: &str| folder.path().join(name).display().to_string();
        let config = serde_json::json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": path("data")}},
            "http": {"addr": address},
            "auth": {"htpasswd": {"realm": "test", "path": path("htpasswd")}},
        });
        fs::write(path("htpasswd"), HTPASSWD).expect("written");
        fs::write(path("config.yml"), config.to_string()).expect("written");
        let child = Command::new("docker-registry")
            .args(["serve", &path("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry (a Debian package): run the tests by `cargo xtask test`");
        let registry = Self { child, address, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(&registry.address).await.is_err() {
            assert!(Instant::now() < deadline, "docker-registry doesn't listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        registry
    }

    /// Gives it an image of the engine, which then hasn't got it under this name any more.
    pub fn push(&self, image: &str, repository: &str) -> String {
        let name = format!("{}/{repository}", self.address);
        docker(&["tag", image, &name]);
        let folder = tempfile::tempdir().expect("folder");
        let config = folder.path().display().to_string();
        let login = ["--config", &config, "login", "-u", "user", "-p", "secret", &self.address];
        docker(&login);
        docker(&["--config", &config, "push", &name]);
        docker(&["rmi", &name]);
        name
    }

    pub fn auth(password: &str) -> RegistryAuth {
        RegistryAuth::Basic { username: "user".into(), password: password.into() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_pulls_with_the_pod_s_credentials() {
    let node = Node::start().await;
    let registry = Registry::start().await;
    let name = registry.push(IMAGE, "shop/cart:v1");
    assert_eq!(node.runtime.find_image(&name).await.expect("asked"), None);

    let nobody = node.runtime.pull_image(&name, vec![]).await.expect_err("refused");
    assert_eq!(nobody.reason, "ErrImagePull");
    // The wrong one is tried, then the right one.
    let ways = vec![Registry::auth("wrong"), Registry::auth("secret")];
    let pulled = node.runtime.pull_image(&name, ways).await.expect("pulled");
    assert_eq!(pulled.image.nature, Nature::Container);
    let found = node.runtime.find_image(&name).await.expect("asked").expect("it is there");
    assert!(found.pulled);
    assert_eq!(found.image.digest, pulled.image.digest);
    docker(&["rmi", &name]);

    let absent = format!("{}/shop/absent:v1", registry.address);
    let ways = vec![Registry::auth("secret")];
    let why = node.runtime.pull_image(&absent, ways).await.expect_err("not there");
    assert!(why.message.contains(&absent), "{}", why.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_built_here_is_found_without_a_registry() {
    let node = Node::start().await;
    let found = node.runtime.find_image(IMAGE).await.expect("asked").expect("it is there");
    assert!(!found.pulled && found.image.digest.starts_with("sha256:"));
    let listed = node.runtime.list_images().await;
    assert!(listed.iter().any(|image| image.names.iter().any(|name| name == IMAGE)));
    for absent in ["windlass.test/none:v1", "Not A Name"] {
        assert_eq!(node.runtime.find_image(absent).await.expect("asked"), None);
    }
}
