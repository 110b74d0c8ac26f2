use std::{fs, io::Cursor, os::unix::fs::symlink};

use expect_test::{Expect, expect};

use super::*;

fn parsed(line: &str, expected: Expect) {
    let words: Vec<String> = match line.split_once(" '") {
        Some((words, script)) => {
            let words = words.split(' ').map(str::to_owned);
            words.chain([script.trim_end_matches('\'').to_owned()]).collect()
        }
        None => line.split(' ').map(str::to_owned).collect(),
    };
    expected.assert_eq(&format!("{:?}", Request::parse(&words)));
}

#[test]
fn the_commands_of_kubectl_cp_are_known_and_no_others() {
    parsed("tar cf - /data/a", expect![[r#"Some(Pack { path: "/data/a", skip_bytes: 0 })"#]]);
    parsed(
        "sh -c 'tar cf - /data/a b | tail -c+11'",
        expect![[r#"Some(Pack { path: "/data/a b", skip_bytes: 10 })"#]],
    );
    parsed("tar -xmf - -C /data", expect![[r#"Some(Unpack { folder: Some("/data") })"#]]);
    parsed("tar xmf - -C .", expect![[r#"Some(Unpack { folder: Some(".") })"#]]);
    parsed("tar -xmf -", expect!["Some(Unpack { folder: None })"]);
    parsed(
        "tar --no-same-permissions --no-same-owner -xmf - -C /x",
        expect![[r#"Some(Unpack { folder: Some("/x") })"#]],
    );
    parsed("test -d /data", expect![[r#"Some(IsFolder { path: "/data" })"#]]);
    for other in [
        "tar tf -",
        "tar cf - a b",
        "tar xf - -C /data",
        "test -f /data",
        "sh -c 'tar cf - /a; rm -r /'",
        "sh -c 'ls'",
        "ls",
    ] {
        parsed(other, expect!["None"]);
    }
}

/// `/data` can be written (at most 100 bytes), `/data/inner` and `/conf` as a ConfigMap can't;
/// beside them lies a secret.
struct Volumes {
    _folder: tempfile::TempDir,
    root: PathBuf,
    view: View,
}

impl Volumes {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().to_path_buf();
        for name in ["data/sub", "inner", "conf/..2026"] {
            fs::create_dir_all(root.join(name)).expect("a folder");
        }
        for (name, text) in [
            ("secret", "secret"),
            ("data/a.txt", "a"),
            ("data/sub/b.txt", "bb"),
            ("inner/c.txt", "ccc"),
            ("conf/..2026/key", "value"),
        ] {
            fs::write(root.join(name), text).expect("a file");
        }
        for (to, name) in [
            ("a.txt", "data/link"),
            ("../secret", "data/out"),
            ("/etc", "data/abs"),
            ("..2026", "conf/..data"),
            ("..data/key", "conf/key"),
        ] {
            symlink(to, root.join(name)).expect("a symlink");
        }
        let folder_at = |path: &str, name: &str, read_only: bool, limit_bytes| {
            Folder::new(path, root.join(name), read_only, limit_bytes).expect("a folder")
        };
        let folders = vec![
            folder_at("/data", "data", false, Some(100)),
            folder_at("/data/inner", "inner", true, None),
            folder_at("/conf", "conf", true, None),
        ];
        let view = View::new(folders.into(), "/data/sub");
        Self { _folder: folder, root, view }
    }
}

fn packed(path: &str, expected: Expect) {
    let volumes = Volumes::new();
    let (mut bytes, mut says) = (Vec::new(), Complaints::default());
    let code = pack::pack(&volumes.view, path, &mut bytes, &mut says);
    let mut archive = tar::Archive::new(Cursor::new(bytes));
    let mut text = String::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let link = entry.link_name().expect("a name").map(|to| to.display().to_string());
        let mut content = String::new();
        entry.read_to_string(&mut content).expect("text");
        let link = link.map(|to| format!(" -> {to}")).unwrap_or_default();
        text += &format!("{name}{link} {content:?}\n");
    }
    expected.assert_eq(&format!("{text}{}exit {code}", says.text()));
}

#[test]
fn an_archive_holds_what_the_container_sees() {
    packed(
        "/data",
        expect![[r#"
            data/ ""
            data/a.txt "a"
            data/abs -> /etc ""
            data/link -> a.txt ""
            data/out -> ../secret ""
            data/sub/ ""
            data/sub/b.txt "bb"
            data/inner/ ""
            data/inner/c.txt "ccc"
            exit 0"#]],
    );
    packed(
        "b.txt",
        expect![[r#"
            b.txt "bb"
            exit 0"#]],
    );
    packed(
        "/data/link",
        expect![[r#"
            data/link "a"
            exit 0"#]],
    );
    packed(
        "/conf",
        expect![[r#"
            conf/ ""
            conf/key "value"
            exit 0"#]],
    );
    packed(
        "/data/inner/c.txt",
        expect![[r#"
            data/inner/c.txt "ccc"
            exit 0"#]],
    );
}

#[test]
fn an_archive_holds_nothing_from_outside_of_the_mounts() {
    for outside in ["/data/out", "/data/sub/../out"] {
        let volumes = Volumes::new();
        let (mut bytes, mut says) = (Vec::new(), Complaints::default());
        let code = pack::pack(&volumes.view, outside, &mut bytes, &mut says);
        assert_eq!(code, FAILED, "{outside}");
        assert!(!String::from_utf8_lossy(&bytes).contains("secret"), "{outside}");
    }
    packed(
        "/etc/passwd",
        expect![[r#"
            tar: /etc/passwd: Cannot stat: No such file or directory
            tar: a WASM container has no files of its own, only its volumes: /data, /data/inner (read-only), /conf (read-only)
            exit 2"#]],
    );
    packed(
        "/data/absent",
        expect![[r#"
            tar: data/absent: Cannot stat: No such file or directory
            exit 2"#]],
    );
}

#[test]
fn an_archive_that_is_resumed_goes_on_where_it_broke_off() {
    let volumes = Volumes::new();
    let packed = |skip: u64| {
        let mut bytes = Vec::new();
        let out = Skip { left: skip, to: &mut bytes };
        assert_eq!(pack::pack(&volumes.view, "/data", out, &mut Complaints::default()), 0);
        bytes
    };
    assert_eq!(packed(700), packed(0)[700..]);
}

/// Entries are `NAME=TEXT`, `NAME/` or `NAME->TARGET`.
fn unpacked(folder: Option<&str>, entries: &[&str], expected: Expect) {
    let volumes = Volumes::new();
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o640);
        let (name, text) = entry.split_once('=').unwrap_or((entry, ""));
        let name = match name.split_once("->") {
            Some((name, to)) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name_literal(to).expect("a target");
                name
            }
            None if name.ends_with('/') => {
                header.set_entry_type(tar::EntryType::Directory);
                name
            }
            None => name,
        };
        // As written by someone who means no good: no check of names.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(text.len() as u64);
        header.set_cksum();
        archive.append(&header, text.as_bytes()).expect("appended");
    }
    let bytes = archive.into_inner().expect("an archive");
    let mut says = Complaints::default();
    let code = unpack::unpack(&volumes.view, folder, Cursor::new(bytes), &mut says);
    let mut found = Vec::new();
    let mut left = vec![volumes.root.clone()];
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(&volumes.root).expect("below").display().to_string();
            let known = Volumes::new();
            let old = fs::symlink_metadata(known.root.join(&name));
            if let Ok(to) = fs::read_link(&path) {
                if old.is_err() {
                    found.push(format!("{name} -> {}\n", to.display()));
                }
            } else if path.is_dir() {
                left.push(path);
            } else {
                let text = fs::read_to_string(&path).expect("text");
                if fs::read_to_string(known.root.join(&name)).ok().as_ref() != Some(&text) {
                    found.push(format!("{name} {text:?}\n"));
                }
            }
        }
    }
    found.sort();
    expected.assert_eq(&format!("{}{}exit {code}", found.concat(), says.text()));
}

#[test]
fn files_folders_and_inner_symlinks_are_taken() {
    unpacked(
        Some("/data"),
        &["new/", "new/x=1", "a.txt=changed", "new/to-a->../a.txt", "/deep/er/y=2", "link=file"],
        expect![[r#"
            data/a.txt "changed"
            data/deep/er/y "2"
            data/link "file"
            data/new/to-a -> ../a.txt
            data/new/x "1"
            exit 0"#]],
    );
    unpacked(
        None,
        &["here=1"],
        expect![[r#"
            data/sub/here "1"
            exit 0"#]],
    );
    unpacked(
        Some("/"),
        &["data/", "data/x=1"],
        expect![[r#"
            data/x "1"
            exit 0"#]],
    );
}

#[test]
fn nothing_leaves_the_mount() {
    unpacked(
        Some("/data"),
        &["../secret=x", "sub/../../secret=x", "out=x", "evil->../..", "evil2->/etc", "abs/x=1"],
        expect![[r#"
            data/out "x"
            tar: ../secret: the name leads out of the folder
            tar: sub/../../secret: the name leads out of the folder
            tar: evil: the symlink to ../.. leads out of the volume
            tar: evil2: the symlink to /etc leads out of the volume
            tar: abs/x: the path leads out of the volume
            exit 2"#]],
    );
    unpacked(
        Some("/data"),
        &["out/x=1", "inner/c.txt=x", "sub=x", "inner=x"],
        expect![[r#"
            tar: out/x: the path leads out of the volume
            tar: inner/c.txt: Cannot open /data/inner/c.txt: Read-only file system
            tar: sub: Cannot open: Is a directory
            tar: inner: Cannot open /data/inner: Read-only file system
            exit 2"#]],
    );
    unpacked(
        Some("/conf"),
        &["key=x"],
        expect![[r#"
        tar: key: Cannot open /conf/key: Read-only file system
        exit 2"#]],
    );
    unpacked(
        Some("/etc"),
        &["passwd=x"],
        expect![[r#"
        tar: /etc: Cannot open: No such file or directory
        tar: a WASM container has no files of its own, only its volumes: /data, /data/inner (read-only), /conf (read-only)
        exit 2"#]],
    );
    unpacked(
        Some("/data/absent"),
        &["x=x"],
        expect![[r#"
        tar: /data/absent: Cannot open: No such file or directory
        exit 2"#]],
    );
}

#[test]
fn a_volume_does_not_outgrow_its_limit() {
    let big = format!("big={}", "x".repeat(90));
    unpacked(
        Some("/data"),
        &[&big, "more=1234567890", "never=1"],
        expect![[r#"
            data/big "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
            data/more ""
            tar: the volume's size limit of 100 bytes is reached: the rest is left out
            exit 2"#]],
    );
    // What is replaced makes room.
    unpacked(
        Some("/data"),
        &[&big, "big=1", "more=1234567890"],
        expect![[r#"
            data/big "1"
            data/more "1234567890"
            exit 0"#]],
    );
}

#[test]
fn what_was_mounted_is_meant_not_what_took_its_place() {
    let volumes = Volumes::new();
    fs::rename(volumes.root.join("data"), volumes.root.join("moved")).expect("moved");
    symlink("/etc", volumes.root.join("data")).expect("a symlink");
    let (mut bytes, mut says) = (Vec::new(), Complaints::default());
    assert_eq!(pack::pack(&volumes.view, "/data/hostname", &mut bytes, &mut says), FAILED);
    expect![[r#"
        tar: /data: Cannot open: what is mounted here was replaced by something else
    "#]]
    .assert_eq(&says.text());
    assert!(!volumes.view.is_folder("/data"));
}
