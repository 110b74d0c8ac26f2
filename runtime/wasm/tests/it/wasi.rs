//! WASI as guests find it, tried from inside: files and folders, paths that lead out, clocks,
//! random numbers, what a program is told and how it ends. One node for all, because each case is a
//! container of its own.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use expect_test::{Expect, expect};
use windlass_runtime_api::{ContainerSpec, Mount};

use crate::{
    exec::exec,
    node::{Node, guest},
};

struct Cases {
    node: Node,
}

impl Cases {
    fn new() -> Self {
        Self { node: Node::new() }
    }

    /// A volume with something to read, links that lead out of it, and a secret beside it.
    fn volume(&self, name: &str) -> PathBuf {
        let folder = self.node.folder.path().join("volumes").join(name).join("volume");
        fs::create_dir_all(folder.join("sub")).expect("a folder");
        fs::write(folder.join("present.txt"), "here").expect("a file");
        fs::write(folder.join("../secret.txt"), "secret").expect("a file");
        for (to, link) in [
            ("../secret.txt", "link-outside"),
            ("..", "link-parent"),
            ("/etc/hostname", "link-absolute"),
        ] {
            symlink(to, folder.join(link)).expect("a link");
        }
        folder
    }

    async fn run(&self, name: &str, case: &str, mounts: &[(&str, bool)]) -> ContainerSpec {
        let volume = self.volume(name);
        let mut spec = self.node.pod(name, &guest("command-wasi"));
        spec.args = vec![case.into(), "/data".into()];
        spec.working_dir = Some("/data".into());
        let mount = |&(path, read_only): &(&str, bool)| Mount {
            host_path: volume.clone(),
            container_path: path.into(),
            read_only,
            ..Mount::default()
        };
        spec.mounts = mounts.iter().map(mount).collect();
        let spec = self.node.started(spec).await;
        let (code, _, message) = self.node.exit(&spec).await;
        assert_eq!(code, 0, "{name}: {message} {:?}", fs::read_to_string(&spec.log_path));
        spec
    }

    /// Runs a case to its end, and holds what it printed to what is expected.
    async fn check(&self, case: &str, expected: Expect) {
        self.check_at(case, case, &[("/data", false)], expected).await;
    }

    async fn check_at(&self, name: &str, case: &str, mounts: &[(&str, bool)], expected: Expect) {
        let spec = self.run(name, case, mounts).await;
        let log = self.node.log(&spec, 1).await;
        let lines = log.iter().map(|line| line.trim_start_matches("stdout F ").to_string() + "\n");
        expected.assert_eq(&lines.collect::<String>());
        let beside = self.node.folder.path().join("volumes").join(name);
        let mut names: Vec<_> = fs::read_dir(&beside)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["secret.txt", "volume"], "{name}: nothing is made beside the volume");
        let secret = fs::read_to_string(beside.join("secret.txt")).expect("a file");
        assert_eq!(secret, "secret", "{name}");
    }
}

#[tokio::test]
async fn files_folders_and_links() {
    let cases = Cases::new();
    cases.check("open", expect![[""]]).await;
    cases.check("rights", expect![[""]]).await;
    cases.check("content", expect![[""]]).await;
    cases.check("append", expect![[""]]).await;
    cases.check("names", expect![[""]]).await;
    cases.check("folders", expect![[""]]).await;
    cases.check("times", expect![[""]]).await;
    cases.check("links", expect![[""]]).await;
}

#[tokio::test]
async fn paths_that_lead_out_lead_nowhere() {
    let cases = Cases::new();
    cases.check("escapes", expect![[""]]).await;
}

#[tokio::test]
async fn a_read_only_mount_is_only_read() {
    let cases = Cases::new();
    let mounts = [("/data", true)];
    cases.check_at("open-ro", "open", &mounts, expect![[""]]).await;
    cases.check_at("rights-ro", "rights", &mounts, expect![[""]]).await;
}

#[tokio::test]
async fn clocks_random_numbers_and_surroundings() {
    let cases = Cases::new();
    cases.check("clocks", expect![[""]]).await;
    cases.check("timers", expect![[""]]).await;
    cases.check("random", expect![[""]]).await;
    let mounts = [("/data", false), ("/other", true)];
    cases.check_at("environment", "environment", &mounts, expect![[""]]).await;
}

#[tokio::test]
async fn exit_codes_and_stdin() {
    let cases = Cases::new();
    for (case, expected) in [("0", 0), ("1", 1), ("7", 7), ("255", 255), ("fail", 1)] {
        let mut spec = cases.node.pod(&format!("exit-{case}"), &guest("command-wasi"));
        spec.args = vec![case.into()];
        let spec = cases.node.started(spec).await;
        let (code, reason, _) = cases.node.exit(&spec).await;
        let completed = if expected == 0 { "Completed" } else { "Error" };
        assert_eq!((code, reason.as_str()), (expected, completed), "{case}");
    }
    // It waits for what nobody sends; programs beside it have a stdin of their own.
    let mut waiting = cases.node.pod("stdin", &guest("command-wasi"));
    waiting.args = vec!["stdin".into()];
    waiting.console.stdin = true;
    let waiting = cases.node.started(waiting).await;
    let check = async |stdin: Option<&[u8]>, expected: Expect| {
        let (code, ran) =
            exec(&cases.node, &waiting.pod.uid, &["stdin"], stdin, false).await.expect("runs");
        assert_eq!((code, ran.err.as_str()), (0, ""));
        expected.assert_eq(&ran.out);
    };
    check(None, expect![[""]]).await;
    check(Some(b"abcdef"), expect![[""]]).await;
    check(Some(&b"0123456789".repeat(100_000)), expect![[""]]).await;
}
