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
    cases
        .check(
            "open",
            expect![[r#"
        absent: no-entry
        create: ok
        create what is there: ok
        create exclusively what is there: exist
        create exclusively: ok
        create a name with a slash: is-directory
        create in an absent folder: no-entry
        truncate: ok
        truncate what is absent: no-entry
        truncate without the right to write: ok
        folder: ok
        folder that is a file: not-directory
        folder without saying so: ok
        create a folder: invalid
        folder to write: is-directory
        folder to change: ok
        empty name: no-entry
        itself: ok
        present.txt after truncate: Ok("")
        open with sync: unsupported
    "#]],
        )
        .await;
    cases
        .check(
            "rights",
            expect![[r#"
        to read: ok
        its flags: Ok(DescriptorFlags { bits: 1 })
        write: bad-descriptor
        set size: invalid
        type: Ok(DescriptorType::RegularFile)
        to write: ok
        its flags: Ok(DescriptorFlags { bits: 2 })
        read: bad-descriptor
        write: ok
        folder to read: ok
        make in it: ok
        make a folder in it: ok
        write to it: bad-descriptor
        flags of the mount: Ok(DescriptorFlags { bits: 33 })
    "#]],
        )
        .await;
    cases
        .check(
            "content",
            expect![[r#"
        read all: Ok(("0123456789", false))
        read a part: Ok(("456", false))
        read at the end: Ok(("", true))
        read behind the end: Ok(("", true))
        write inside: ok
        write behind the end: ok
        content: Ok(("012xyz6789\0\0end", false))
        shorten: ok
        content: Ok(("012x", false))
        lengthen: ok
        content: Ok(("012x\0\0", false))
        size: Ok(6)
        sync: ok
        sync data: ok
        streamed: Ok("TREAM")
        end of stream: Err("StreamError::Closed")
    "#]],
        )
        .await;
    cases
        .check(
            "append",
            expect![[r#"
        content: Ok("one\ntwo\nthree\n")
        content: Ok("one\ntwo\nthree\nabc")
    "#]],
        )
        .await;
    cases
        .check(
            "names",
            expect![[r#"
        rename: ok
        rename what is absent: no-entry
        rename over a file: ok
        it: Ok("a")
        rename into a folder: ok
        rename onto a folder: not-empty
        rename a folder: ok
        unlink: ok
        unlink what is absent: no-entry
        unlink a folder: is-directory
        unlink what is open: ok
        it: Ok(11)
        links: Ok(0)
        a name too long: name-too-long
    "#]],
        )
        .await;
    cases.check("folders", expect![[r#"
        make: ok
        make again: exist
        make in it: ok
        make without a parent: no-entry
        root: Ok(["link-absolute DescriptorType::SymbolicLink", "link-outside DescriptorType::SymbolicLink", "link-parent DescriptorType::SymbolicLink", "made DescriptorType::Directory", "present.txt DescriptorType::RegularFile", "sub DescriptorType::Directory"])
        made: Ok(["inner DescriptorType::Directory"])
        of many: Ok((300, "file-299 DescriptorType::RegularFile"))
        remove what is not empty: not-empty
        remove a file: not-directory
        remove what is absent: no-entry
        remove itself: invalid
        list a file: not-directory
        open in a file: not-directory
        type: DescriptorType::Directory
        the same object: (true, false)
        the same hash: (true, false)
    "#]]).await;
    cases
        .check(
            "times",
            expect![[r#"
        set both: ok
        times: (Some((1000, 5)), Some((2000, 6)))
        keep one: ok
        times: (Some((1000, 5)), Some((3000, 0)))
        by name: ok
        times: (Some((4000, 0)), Some((3000, 0)))
        to now: ok
        it is now: true
        to nonsense: ok
    "#]],
        )
        .await;
    cases
        .check(
            "links",
            expect![[r#"
        make one: ok
        read it: Ok("present.txt")
        through it: Ok("here")
        type: Ok(DescriptorType::SymbolicLink)
        type of its target: Ok(DescriptorType::RegularFile)
        open it unfollowed: loop
        make one to nothing: ok
        open it: no-entry
        make one to itself: ok
        open it: loop
        read what is no link: invalid
        hard link: ok
        links: Ok(2)
        hard link to a folder: not-permitted
        hard link over a file: exist
        remove the link: ok
        its target: Ok("here")
    "#]],
        )
        .await;
}

#[tokio::test]
async fn paths_that_lead_out_lead_nowhere() {
    let cases = Cases::new();
    cases
        .check(
            "escapes",
            expect![[r#"
        link out by dots: ok
        link out absolutely: not-permitted
        ../secret.txt
          read: not-permitted
          write: not-permitted
          stat: not-permitted
          set times: not-permitted
          hash: not-permitted
          hard link from: not-permitted
        sub/../../secret.txt
          read: not-permitted
          write: not-permitted
          stat: not-permitted
          set times: not-permitted
          hash: not-permitted
          hard link from: not-permitted
        /etc/hostname
          read: not-permitted
          write: not-permitted
          stat: not-permitted
          set times: not-permitted
          hash: not-permitted
          hard link from: not-permitted
        link-outside
          read: not-permitted
          write: not-permitted
          stat: not-permitted
          set times: not-permitted
          hash: not-permitted
          hard link from: ok
        link-absolute
          read: not-permitted
          write: not-permitted
          stat: not-permitted
          set times: not-permitted
          hash: not-permitted
          hard link from: exist
        link-parent/secret.txt
          read: not-permitted
          write: not-permitted
          stat: not-permitted
          set times: not-permitted
          hash: not-permitted
          hard link from: not-permitted
        made-out
          read: not-permitted
          write: not-permitted
          stat: not-permitted
          set times: not-permitted
          hash: not-permitted
          hard link from: exist
        ../out
          rename to: not-permitted
          hard link to: not-permitted
          symlink at: not-permitted
          make folder: not-permitted
          create: not-permitted
          remove folder: not-permitted
          unlink: not-permitted
        /tmp/out
          rename to: not-permitted
          hard link to: not-permitted
          symlink at: not-permitted
          make folder: not-permitted
          create: not-permitted
          remove folder: not-permitted
          unlink: not-permitted
        link-parent/out
          rename to: not-permitted
          hard link to: not-permitted
          symlink at: not-permitted
          make folder: not-permitted
          create: not-permitted
          remove folder: not-permitted
          unlink: not-permitted
        from a folder to its parent: not-permitted
    "#]],
        )
        .await;
}

#[tokio::test]
async fn a_read_only_mount_is_only_read() {
    let cases = Cases::new();
    let mounts = [("/data", true)];
    cases
        .check_at(
            "open-ro",
            "open",
            &mounts,
            expect![[r#"
        absent: no-entry
        create: not-permitted
        create what is there: not-permitted
        create exclusively what is there: not-permitted
        create exclusively: not-permitted
        create a name with a slash: not-permitted
        create in an absent folder: not-permitted
        truncate: not-permitted
        truncate what is absent: not-permitted
        truncate without the right to write: not-permitted
        folder: ok
        folder that is a file: no-entry
        folder without saying so: ok
        create a folder: invalid
        folder to write: not-permitted
        folder to change: ok
        empty name: no-entry
        itself: ok
        present.txt after truncate: Ok("here")
        open with sync: unsupported
    "#]],
        )
        .await;
    cases
        .check_at(
            "rights-ro",
            "rights",
            &mounts,
            expect![[r#"
        to read: ok
        its flags: Ok(DescriptorFlags { bits: 1 })
        write: not-permitted
        set size: not-permitted
        type: Ok(DescriptorType::RegularFile)
        to write: not-permitted
        folder to read: ok
        make in it: not-permitted
        make a folder in it: not-permitted
        write to it: bad-descriptor
        flags of the mount: Ok(DescriptorFlags { bits: 1 })
    "#]],
        )
        .await;
}

#[tokio::test]
async fn clocks_random_numbers_and_surroundings() {
    let cases = Cases::new();
    cases
        .check(
            "clocks",
            expect![[r#"
        monotonic goes on: true
        its resolution is below 10 ms: true
        wall is of this century: true
        its nanoseconds are some: true
        its resolution is below 1 s: true
    "#]],
        )
        .await;
    cases
        .check(
            "timers",
            expect![[r#"
        waited: true
        an instant that is over is ready: true
        an hour is not: false
        the first of three: [1]
        both that are: [0, 2]
    "#]],
        )
        .await;
    cases
        .check(
            "random",
            expect![[r#"
        lengths: (32, 32, 0)
        differ: true
        many: 65536
        insecure: (16, true)
        a seed: true
    "#]],
        )
        .await;
    let mounts = [("/data", false), ("/other", true)];
    cases
        .check_at(
            "environment",
            "environment",
            &mounts,
            expect![[r#"
        arguments: ["command-wasi", "environment", "/data"]
        environment: [("GREETING", "good day")]
        working folder: Some("/data")
        folders: ["/data", "/other"]
    "#]],
        )
        .await;
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
    check(
        None,
        expect![[r#"
        first: Err(StreamError::Closed)
        skipped: Err(StreamError::Closed)
        rest: 0
        end: "StreamError::Closed"
    "#]],
    )
    .await;
    check(
        Some(b"abcdef"),
        expect![[r#"
        first: Ok("abcd")
        skipped: Ok(2)
        rest: 0
        end: "StreamError::Closed"
    "#]],
    )
    .await;
    check(
        Some(&b"0123456789".repeat(100_000)),
        expect![[r#"
        first: Ok("0123")
        skipped: Ok(2)
        rest: 999994
        end: "StreamError::Closed"
    "#]],
    )
    .await;
}
