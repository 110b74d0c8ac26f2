//! Volumes as guests see them: what a program may do in them, and that it never gets out.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use expect_test::{Expect, expect};
use windlass_runtime_api::{LateMounts, Mount, RuntimeError};

use crate::node::{Node, guest};

/// A volume with something to read, and something beside it that nobody may.
fn volume(node: &Node) -> PathBuf {
    let folder = node.folder.path().join("volumes/one");
    fs::create_dir_all(folder.join("sub")).expect("a folder");
    fs::write(folder.join("present.txt"), "here\n").expect("a file");
    fs::write(node.folder.path().join("volumes/secret.txt"), "secret\n").expect("a file");
    symlink("present.txt", folder.join("link-inside")).expect("a link");
    symlink("../secret.txt", folder.join("link-outside")).expect("a link");
    symlink("..", folder.join("link-parent")).expect("a link");
    symlink("/etc/hostname", folder.join("link-absolute")).expect("a link");
    folder
}

fn mount(host_path: PathBuf, container_path: &str, read_only: bool) -> Mount {
    Mount { host_path, container_path: container_path.into(), read_only, ..Mount::default() }
}

async fn check(read_only: bool, expected: Expect) {
    let node = Node::new();
    let folder = volume(&node);
    let mut spec = node.pod("files", &guest("command-files"));
    spec.args = vec!["/data".into()];
    spec.mounts = vec![mount(folder.clone(), "/data/", read_only)];
    let spec = node.started(spec).await;
    let (code, _, message) = node.exit(&spec).await;
    assert_eq!(code, 0, "{message}");
    let log = node.log(&spec, 1).await;
    let lines = log.iter().map(|line| line.trim_start_matches("stdout F ").to_string() + "\n");
    expected.assert_eq(&lines.collect::<String>());
    assert!(node.folder.path().join("volumes/secret.txt").is_file());
    assert!(!node.folder.path().join("volumes/folder").exists());
    assert_eq!(folder.join("present.txt").exists(), read_only);
}

#[tokio::test]
async fn a_program_does_what_it_may_in_a_volume() {
    check(
        false,
        expect![[r#"
        folders: /data
        read present.txt: ok
          here
        read ./sub/../present.txt: ok
          here
        read link-inside: ok
          here
        read absent.txt: no-entry
        read sub: bad-descriptor
        escape ..: not-permitted
        escape ../secret.txt: not-permitted
        escape sub/../../secret.txt: not-permitted
        escape /etc/hostname: not-permitted
        escape link-outside: not-permitted
        escape link-absolute: not-permitted
        escape link-parent/secret.txt: not-permitted
        escape by symlink: not-permitted
        escape by link: not-permitted
        escape by rename: not-permitted
        escape by folder: not-permitted
        open create: ok
        open create again: ok
        open exclusive: exist
        open truncate: ok
        open directory: ok
        open directory of file: not-directory
        open write: ok
        open mutate: ok
        open link unfollowed: loop
        open new: ok
        write: ok
        write behind a gap: ok
        stat: ok
          20 bytes
        set size: ok
        sync: ok
          "0123"
        make folder: ok
        rename: ok
        remove full folder: not-empty
        hard link: ok
        remove file: ok
        remove folder: ok
        remove present: ok
    "#]],
    )
    .await;
}

#[tokio::test]
async fn a_read_only_volume_is_only_read() {
    check(
        true,
        expect![[r#"
        folders: /data
        read present.txt: ok
          here
        read ./sub/../present.txt: ok
          here
        read link-inside: ok
          here
        read absent.txt: no-entry
        read sub: bad-descriptor
        escape ..: not-permitted
        escape ../secret.txt: not-permitted
        escape sub/../../secret.txt: not-permitted
        escape /etc/hostname: not-permitted
        escape link-outside: not-permitted
        escape link-absolute: not-permitted
        escape link-parent/secret.txt: not-permitted
        escape by symlink: not-permitted
        escape by link: not-permitted
        escape by rename: not-permitted
        escape by folder: not-permitted
        open create: not-permitted
        open create again: not-permitted
        open exclusive: not-permitted
        open truncate: not-permitted
        open directory: ok
        open directory of file: not-directory
        open write: not-permitted
        open mutate: ok
        open link unfollowed: loop
        open new: not-permitted
        make folder: not-permitted
        rename: not-permitted
        remove full folder: not-permitted
        hard link: not-permitted
        remove file: not-permitted
        remove folder: not-permitted
        remove present: not-permitted
    "#]],
    )
    .await;
}

#[tokio::test]
async fn single_files_share_the_folder_they_are_mounted_in() {
    let node = Node::new();
    let folder = volume(&node);
    let other = node.folder.path().join("volumes/other.txt");
    fs::write(&other, "other\n").expect("a file");
    let mut spec = node.pod("files", &guest("command-files"));
    spec.args = vec!["/etc/app".into()];
    spec.mounts = vec![
        mount(folder.join("present.txt"), "/etc/app/present.txt", true),
        mount(other, "/etc/app/absent.txt", true),
    ];
    let spec = node.started(spec).await;
    assert_eq!(node.exit(&spec).await.0, 0);
    let log = node.log(&spec, 4).await.join("\n");
    for line in ["folders: /etc/app", "read present.txt: ok", "  here", "read absent.txt: ok"] {
        assert!(log.contains(line), "{line:?}: {log}");
    }
    assert!(
        log.contains("open write: not-permitted") || log.contains("open write: read-only"),
        "{log}"
    );
}

#[tokio::test]
async fn what_a_guest_cannot_be_shown_is_said_at_the_start() {
    let node = Node::new();
    let folder = volume(&node);
    let mut spec = node.pod("files", &guest("command-files"));
    spec.mounts = vec![
        mount(folder.clone(), "/data", false),
        mount(folder.join("present.txt"), "/data/present.txt", true),
    ];
    let error = node.start(&spec).await.expect_err("is refused");
    assert_eq!(error.reason, "CreateContainerConfigError");
    assert!(error.message.contains("/data/present.txt"), "{error}");
}

#[tokio::test]
async fn a_handler_reads_its_volume_as_it_changes() {
    let node = Node::new();
    let folder = volume(&node);
    let mut spec = node.pod("handler", &guest("http-files"));
    spec.mounts = vec![mount(folder.clone(), "/data", true)];
    let spec = node.started(spec).await;
    let read = || node.get(&spec, "/data/present.txt");
    assert_eq!(read().await.expect("answers").body, "here\n");
    // As the kubelet swaps the content of a ConfigMap.
    fs::write(folder.join("next"), "now\n").expect("a file");
    fs::rename(folder.join("next"), folder.join("present.txt")).expect("is swapped");
    assert_eq!(read().await.expect("answers").body, "now\n");
    assert_eq!(node.get(&spec, "/data/absent.txt").await.expect("answers").status, 404);
}

#[tokio::test]
async fn volumes_are_made_when_a_guest_asks_for_its_folders() {
    let node = Node::new();
    let made = Arc::new(AtomicUsize::new(0));
    let with_late = |name: &str, wasm: &str| {
        let folder = node.folder.path().join("late").join(name);
        let (to, count) = (folder.clone(), made.clone());
        let mut spec = node.pod(name, &guest(wasm));
        spec.mounts = vec![mount(folder, "/late", true)];
        spec.late_mounts = Some(LateMounts::new(move || {
            let (to, nth) = (to.clone(), count.fetch_add(1, Relaxed));
            async move {
                if nth == 0 {
                    return Err(RuntimeError::new("FailedMount", "not yet"));
                }
                fs::create_dir_all(&to).expect("a folder");
                fs::write(to.join("f"), "text").expect("a file");
                Ok(())
            }
        }));
        spec
    };
    let idle = node.started(with_late("idle", "http-traps")).await;
    assert_eq!(node.get(&idle, "/").await.expect("an answer").status, 200);
    let asks = node.started(with_late("asks", "http-files")).await;
    assert_eq!(made.load(Relaxed), 0, "neither a start nor a guest without files needs them");
    let early = node.get(&asks, "/late/f").await.expect("an answer");
    assert_eq!((early.status.as_u16(), early.body.contains("not yet")), (503, true), "{early:?}");
    for _ in 0..2 {
        let answer = node.get(&asks, "/late/f").await.expect("an answer");
        assert_eq!((answer.status.as_u16(), answer.body.as_str()), (200, "text"));
    }
    assert_eq!(made.load(Relaxed), 2, "once it failed, once it worked");
}

/// A container that has all of a volume can put symlinks where another has a subPath of it, before
/// that one opens its folders, and after.
#[tokio::test]
async fn a_symlink_in_the_place_of_a_sub_path_is_not_followed() {
    let node = Node::new();
    let outside = node.folder.path().join("outside");
    fs::create_dir(&outside).expect("a folder");
    fs::write(outside.join("present.txt"), "secret").expect("a file");
    let volume = fs::canonicalize(volume(&node)).expect("a path");
    for (name, mounted) in [("folder", volume.join("sub")), ("file", volume.join("present.txt"))] {
        let mut spec = node.pod(name, &guest("http-files"));
        let container_path = if name == "file" { "/data/present.txt" } else { "/data" };
        let mount = mount(mounted.clone(), container_path, false);
        spec.mounts = vec![Mount { resolved: true, ..mount }];
        let spec = node.started(spec).await;
        fs::rename(&mounted, volume.join(format!("{name}-moved"))).expect("moved");
        let to = if name == "file" { outside.join("present.txt") } else { outside.clone() };
        symlink(to, &mounted).expect("a symlink");
        let answer = node.get(&spec, "/data/present.txt").await.expect("answers");
        assert!(answer.status == 500 && !answer.body.contains("secret"), "{name}: {answer:?}");
        // Put back, it is the container's again.
        fs::remove_file(&mounted).expect("removed");
        fs::rename(volume.join(format!("{name}-moved")), &mounted).expect("moved back");
        let answer = node.get(&spec, "/data/present.txt").await.expect("answers");
        let expected = if name == "file" { 200 } else { 404 };
        assert_eq!(answer.status, expected, "{name}: {answer:?}");
    }
}
