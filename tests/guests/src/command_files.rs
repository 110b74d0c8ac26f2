//! Tries what WASI lets a program do with files, one line an attempt: `WHAT: ok` or the error's
//! name. The arguments are the folder to try in and `ro` if it can't be written.

use guests::say;
use wasip2::{
    cli::environment::get_arguments,
    filesystem::{
        preopens::get_directories,
        types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags},
    },
};

struct Command;

wasip2::cli::command::export!(Command);

const FOLLOW: PathFlags = PathFlags::SYMLINK_FOLLOW;

impl wasip2::exports::cli::run::Guest for Command {
    fn run() -> Result<(), ()> {
        let folders = get_directories();
        let mut names: Vec<_> = folders.iter().map(|(_, name)| name.clone()).collect();
        names.sort();
        say(&format!("folders: {}\n", names.join(" ")));
        let wanted = get_arguments().get(1).cloned().unwrap_or_default();
        for (folder, name) in folders {
            if name == wanted {
                reads(&folder);
                escapes(&folder);
                flags(&folder);
                changes(&folder);
            }
        }
        Ok(())
    }
}

fn tell<T>(what: &str, result: Result<T, ErrorCode>) -> Option<T> {
    match result {
        Ok(value) => {
            say(&format!("{what}: ok\n"));
            Some(value)
        }
        Err(code) => {
            say(&format!("{what}: {}\n", code.name()));
            None
        }
    }
}

fn read(folder: &Descriptor, path: &str) -> Result<String, ErrorCode> {
    let file = folder.open_at(FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ)?;
    let (bytes, _) = file.read(1 << 16, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn reads(folder: &Descriptor) {
    for path in ["present.txt", "./sub/../present.txt", "link-inside", "absent.txt", "sub"] {
        let text = tell(&format!("read {path}"), read(folder, path));
        if let Some(text) = text {
            say(&format!("  {}\n", text.trim_end()));
        }
    }
}

fn escapes(folder: &Descriptor) {
    for path in [
        "..",
        "../secret.txt",
        "sub/../../secret.txt",
        "/etc/hostname",
        "link-outside",
        "link-absolute",
        "link-parent/secret.txt",
    ] {
        tell(&format!("escape {path}"), read(folder, path));
    }
    tell("escape by symlink", folder.symlink_at("/etc", "link-made"));
    tell("escape by link", folder.link_at(PathFlags::empty(), "../secret.txt", folder, "hard"));
    tell("escape by rename", folder.rename_at("present.txt", folder, "../moved.txt"));
    tell("escape by folder", folder.create_directory_at("../folder"));
}

fn flags(folder: &Descriptor) {
    let write = DescriptorFlags::READ | DescriptorFlags::WRITE;
    for (name, path, flags, how) in [
        ("create", "new.txt", OpenFlags::CREATE, write),
        ("create again", "new.txt", OpenFlags::CREATE, write),
        ("exclusive", "new.txt", OpenFlags::CREATE | OpenFlags::EXCLUSIVE, write),
        ("truncate", "new.txt", OpenFlags::TRUNCATE, write),
        ("directory", "sub", OpenFlags::DIRECTORY, DescriptorFlags::READ),
        ("directory of file", "present.txt", OpenFlags::DIRECTORY, DescriptorFlags::READ),
        ("write", "present.txt", OpenFlags::empty(), write),
        ("mutate", "sub", OpenFlags::DIRECTORY, DescriptorFlags::MUTATE_DIRECTORY),
    ] {
        tell(&format!("open {name}"), folder.open_at(FOLLOW, path, flags, how));
    }
    let link = folder.open_at(
        PathFlags::empty(),
        "link-inside",
        OpenFlags::empty(),
        DescriptorFlags::READ,
    );
    tell("open link unfollowed", link);
}

fn changes(folder: &Descriptor) {
    let write = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let file = folder.open_at(FOLLOW, "new.txt", OpenFlags::empty(), write);
    if let Some(file) = tell("open new", file) {
        tell("write", file.write(b"0123456789", 0));
        tell("write behind a gap", file.write(b"x", 19));
        let stat = tell("stat", file.stat());
        say(&format!("  {} bytes\n", stat.map_or(0, |stat| stat.size)));
        tell("set size", file.set_size(4));
        tell("sync", file.sync());
        say(&format!("  {:?}\n", read(folder, "new.txt").unwrap_or_default()));
    }
    tell("make folder", folder.create_directory_at("made"));
    tell("rename", folder.rename_at("new.txt", folder, "made/renamed.txt"));
    tell("remove full folder", folder.remove_directory_at("made"));
    tell("hard link", folder.link_at(PathFlags::empty(), "made/renamed.txt", folder, "linked"));
    tell("remove file", folder.unlink_file_at("made/renamed.txt"));
    tell("remove folder", folder.remove_directory_at("made"));
    tell("remove present", folder.unlink_file_at("present.txt"));
}
