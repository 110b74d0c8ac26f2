//! What WASI says and does, tried from inside: the first argument names a case, the second the
//! folder to try it in. A line an attempt: `WHAT: ok` or the error's name, and what was found.

use std::fmt::Debug;

use guests::say;
use wasip2::{
    cli::{environment, exit, stdin::get_stdin},
    clocks::{monotonic_clock, wall_clock},
    filesystem::{
        preopens::get_directories,
        types::{
            Descriptor, DescriptorFlags, DirectoryEntry, ErrorCode, NewTimestamp, OpenFlags,
            PathFlags,
        },
    },
    io::poll,
    random::{insecure, insecure_seed, random},
};

struct Command;

wasip2::cli::command::export!(Command);

const FOLLOW: PathFlags = PathFlags::SYMLINK_FOLLOW;
const READ: DescriptorFlags = DescriptorFlags::READ;
const WRITE: DescriptorFlags = DescriptorFlags::WRITE;
const CREATE: OpenFlags = OpenFlags::CREATE;

impl wasip2::exports::cli::run::Guest for Command {
    fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let folder = arguments.get(2).cloned().unwrap_or_default();
        let at = || {
            let mut all = get_directories().into_iter();
            all.find(|(_, name)| *name == folder).expect("the folder is mounted").0
        };
        match arguments.get(1).map(String::as_str).unwrap_or_default() {
            "open" => open(&at()),
            "rights" => rights(&at()),
            "content" => content(&at()),
            "append" => append(&at()),
            "names" => names(&at()),
            "folders" => folders(&at()),
            "times" => times(&at()),
            "links" => links(&at()),
            "escapes" => escapes(&at()),
            "clocks" => clocks(),
            "timers" => timers(),
            "random" => randomness(),
            "environment" => surroundings(&arguments),
            "stdin" => stdin(),
            "fail" => return Err(()),
            other => exit::exit_with_code(other.parse().unwrap_or(99)),
        }
        Ok(())
    }
}

fn none() -> OpenFlags {
    OpenFlags::empty()
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

fn found(what: &str, value: impl Debug) {
    say(&format!("{what}: {value:?}\n"));
}

fn make(folder: &Descriptor, name: &str, text: &str) -> Descriptor {
    let file = folder.open_at(FOLLOW, name, CREATE | OpenFlags::TRUNCATE, READ | WRITE);
    let file = file.expect("made");
    file.write(text.as_bytes(), 0).expect("written");
    file
}

fn text(folder: &Descriptor, name: &str) -> Result<String, ErrorCode> {
    let (bytes, _) = folder.open_at(FOLLOW, name, none(), READ)?.read(1 << 16, 0)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn list(folder: &Descriptor) -> Result<Vec<String>, ErrorCode> {
    let stream = folder.read_directory()?;
    let mut names = Vec::new();
    while let Some(DirectoryEntry { type_, name }) = stream.read_directory_entry()? {
        names.push(format!("{name} {type_:?}"));
    }
    names.sort();
    Ok(names)
}

/// Every flag of open, alone and together.
fn open(folder: &Descriptor) {
    let both = CREATE | OpenFlags::EXCLUSIVE;
    for (what, name, flags, rights) in [
        ("absent", "new", none(), READ),
        ("create", "new", CREATE, READ | WRITE),
        ("create what is there", "new", CREATE, READ | WRITE),
        ("create exclusively what is there", "new", both, READ | WRITE),
        ("create exclusively", "newer", both, READ | WRITE),
        ("create a name with a slash", "new/", CREATE, READ | WRITE),
        ("create in an absent folder", "none/new", CREATE, READ | WRITE),
        ("truncate", "present.txt", OpenFlags::TRUNCATE, READ | WRITE),
        ("truncate what is absent", "none", OpenFlags::TRUNCATE, READ | WRITE),
        ("truncate without the right to write", "new", OpenFlags::TRUNCATE, READ),
        ("folder", "sub", OpenFlags::DIRECTORY, READ),
        ("folder that is a file", "new", OpenFlags::DIRECTORY, READ),
        ("folder without saying so", "sub", none(), READ),
        ("create a folder", "dir", CREATE | OpenFlags::DIRECTORY, READ),
        ("folder to write", "sub", none(), READ | WRITE),
        ("folder to change", "sub", OpenFlags::DIRECTORY, DescriptorFlags::MUTATE_DIRECTORY),
        ("empty name", "", none(), READ),
        ("itself", ".", none(), READ),
    ] {
        tell(what, folder.open_at(FOLLOW, name, flags, rights));
    }
    found("present.txt after truncate", text(folder, "present.txt"));
    let sync = DescriptorFlags::FILE_INTEGRITY_SYNC | DescriptorFlags::DATA_INTEGRITY_SYNC;
    tell("open with sync", folder.open_at(FOLLOW, "new", none(), READ | WRITE | sync));
}

/// What a descriptor was opened for is what it can do.
fn rights(folder: &Descriptor) {
    if let Some(reader) = tell("to read", folder.open_at(FOLLOW, "present.txt", none(), READ)) {
        found("its flags", reader.get_flags());
        tell("write", reader.write(b"x", 0));
        tell("set size", reader.set_size(0));
        found("type", reader.get_type());
    }
    if let Some(writer) = tell("to write", folder.open_at(FOLLOW, "made", CREATE, WRITE)) {
        found("its flags", writer.get_flags());
        tell("read", writer.read(1, 0).map(drop));
        tell("write", writer.write(b"x", 0));
    }
    if let Some(sub) = tell("folder to read", folder.open_at(FOLLOW, "sub", none(), READ)) {
        tell("make in it", sub.open_at(FOLLOW, "file", CREATE, READ | WRITE));
        tell("make a folder in it", sub.create_directory_at("folder"));
        tell("write to it", sub.write(b"x", 0));
    }
    found("flags of the mount", folder.get_flags());
}

fn content(folder: &Descriptor) {
    let file = make(folder, "file", "0123456789");
    let read = |len, at| {
        let read = file.read(len, at);
        read.map(|(bytes, end)| (String::from_utf8_lossy(&bytes).into_owned(), end))
    };
    found("read all", read(100, 0));
    found("read a part", read(3, 4));
    found("read at the end", read(3, 10));
    found("read behind the end", read(3, 1000));
    tell("write inside", file.write(b"xyz", 3));
    tell("write behind the end", file.write(b"end", 12));
    found("content", read(100, 0));
    tell("shorten", file.set_size(4));
    found("content", read(100, 0));
    tell("lengthen", file.set_size(6));
    found("content", read(100, 0));
    found("size", file.stat().map(|stat| stat.size));
    tell("sync", file.sync());
    tell("sync data", file.sync_data());
    let stream = file.write_via_stream(1).expect("a stream");
    stream.blocking_write_and_flush(b"STREAM").expect("written");
    drop(stream);
    let stream = file.read_via_stream(2).expect("a stream");
    found("streamed", stream.blocking_read(100).map(|b| String::from_utf8_lossy(&b).into_owned()));
    found("end of stream", stream.blocking_read(100).map_err(|error| format!("{error:?}")));
}

fn append(folder: &Descriptor) {
    let file = make(folder, "log", "one\n");
    for line in ["two\n", "three\n"] {
        let stream = file.append_via_stream().expect("a stream");
        stream.blocking_write_and_flush(line.as_bytes()).expect("written");
    }
    found("content", text(folder, "log"));
    // Two who append write behind each other.
    let again = folder.open_at(FOLLOW, "log", none(), WRITE).expect("opened");
    let (first, second) = (file.append_via_stream(), again.append_via_stream());
    let (first, second) = (first.expect("a stream"), second.expect("a stream"));
    first.blocking_write_and_flush(b"a").expect("written");
    second.blocking_write_and_flush(b"b").expect("written");
    first.blocking_write_and_flush(b"c").expect("written");
    found("content", text(folder, "log"));
}

fn names(folder: &Descriptor) {
    make(folder, "a", "a");
    make(folder, "b", "b");
    tell("rename", folder.rename_at("a", folder, "c"));
    tell("rename what is absent", folder.rename_at("a", folder, "d"));
    tell("rename over a file", folder.rename_at("c", folder, "b"));
    found("it", text(folder, "b"));
    tell("rename into a folder", folder.rename_at("b", folder, "sub/b"));
    tell("rename onto a folder", folder.rename_at("sub/b", folder, "sub"));
    tell("rename a folder", folder.rename_at("sub", folder, "moved"));
    tell("unlink", folder.unlink_file_at("moved/b"));
    tell("unlink what is absent", folder.unlink_file_at("moved/b"));
    tell("unlink a folder", folder.unlink_file_at("moved"));
    let open = make(folder, "open", "still there");
    tell("unlink what is open", folder.unlink_file_at("open"));
    found("it", open.read(100, 0).map(|(bytes, _)| bytes.len()));
    found("links", open.stat().map(|stat| stat.link_count));
    let long = "n".repeat(256);
    tell("a name too long", folder.open_at(FOLLOW, &long, CREATE, READ | WRITE));
}

fn folders(folder: &Descriptor) {
    tell("make", folder.create_directory_at("made"));
    tell("make again", folder.create_directory_at("made"));
    tell("make in it", folder.create_directory_at("made/inner"));
    tell("make without a parent", folder.create_directory_at("none/inner"));
    found("root", list(folder));
    let made = folder.open_at(FOLLOW, "made", OpenFlags::DIRECTORY, READ).expect("opened");
    found("made", list(&made));
    for n in 0..300 {
        make(
            &folder
                .open_at(FOLLOW, "made/inner", none(), DescriptorFlags::MUTATE_DIRECTORY | READ)
                .expect("opened"),
            &format!("file-{n:03}"),
            "",
        );
    }
    let inner = folder.open_at(FOLLOW, "made/inner", none(), READ).expect("opened");
    found("of many", list(&inner).map(|names| (names.len(), names[299].clone())));
    tell("remove what is not empty", folder.remove_directory_at("made"));
    tell("remove a file", folder.remove_directory_at("present.txt"));
    tell("remove what is absent", folder.remove_directory_at("none"));
    tell("remove itself", folder.remove_directory_at("."));
    let file = folder.open_at(FOLLOW, "present.txt", none(), READ).expect("opened");
    tell("list a file", file.read_directory().map(drop));
    tell("open in a file", file.open_at(FOLLOW, "x", none(), READ));
    let stat = folder.stat_at(FOLLOW, "made").expect("a stat");
    found("type", stat.type_);
    let same = folder.open_at(FOLLOW, "made", none(), READ).expect("opened");
    found("the same object", (made.is_same_object(&same), made.is_same_object(&inner)));
    let hash = |of: &Descriptor| of.metadata_hash().map(|hash| (hash.lower, hash.upper));
    found("the same hash", (hash(&made) == hash(&same), hash(&made) == hash(&inner)));
}

fn times(folder: &Descriptor) {
    let file = make(folder, "file", "text");
    let at = |seconds, nanoseconds| {
        NewTimestamp::Timestamp(wall_clock::Datetime { seconds, nanoseconds })
    };
    let seen = |what: &str| {
        let stat = folder.stat_at(FOLLOW, "file").expect("a stat");
        let time = |time: Option<wall_clock::Datetime>| time.map(|t| (t.seconds, t.nanoseconds));
        found(what, (time(stat.data_access_timestamp), time(stat.data_modification_timestamp)));
    };
    tell("set both", file.set_times(at(1_000, 5), at(2_000, 6)));
    seen("times");
    tell("keep one", file.set_times(NewTimestamp::NoChange, at(3_000, 0)));
    seen("times");
    tell("by name", folder.set_times_at(FOLLOW, "file", at(4_000, 0), NewTimestamp::NoChange));
    seen("times");
    tell("to now", file.set_times(NewTimestamp::NoChange, NewTimestamp::Now));
    let now = wall_clock::now().seconds;
    let modified = file.stat().expect("a stat").data_modification_timestamp.expect("a time");
    found("it is now", now.abs_diff(modified.seconds) < 60);
    let bad = NewTimestamp::Timestamp(wall_clock::Datetime { seconds: 1, nanoseconds: u32::MAX });
    tell("to nonsense", file.set_times(bad, NewTimestamp::NoChange));
}

fn links(folder: &Descriptor) {
    let plain = PathFlags::empty();
    tell("make one", folder.symlink_at("present.txt", "mine"));
    found("read it", folder.readlink_at("mine"));
    found("through it", text(folder, "mine"));
    found("type", folder.stat_at(plain, "mine").map(|stat| stat.type_));
    found("type of its target", folder.stat_at(FOLLOW, "mine").map(|stat| stat.type_));
    tell("open it unfollowed", folder.open_at(plain, "mine", none(), READ));
    tell("make one to nothing", folder.symlink_at("none", "dangling"));
    tell("open it", folder.open_at(FOLLOW, "dangling", none(), READ));
    tell("make one to itself", folder.symlink_at("loop", "loop"));
    tell("open it", folder.open_at(FOLLOW, "loop", none(), READ));
    tell("read what is no link", folder.readlink_at("present.txt"));
    tell("hard link", folder.link_at(plain, "present.txt", folder, "hard"));
    found("links", folder.stat_at(FOLLOW, "hard").map(|stat| stat.link_count));
    tell("hard link to a folder", folder.link_at(plain, "sub", folder, "hard-sub"));
    tell("hard link over a file", folder.link_at(plain, "hard", folder, "present.txt"));
    tell("remove the link", folder.unlink_file_at("mine"));
    found("its target", text(folder, "present.txt"));
}

/// Every operation that takes a path, with every path that leaves the folder.
fn escapes(folder: &Descriptor) {
    let plain = PathFlags::empty();
    make(folder, "inside", "x");
    tell("link out by dots", folder.symlink_at("../secret.txt", "made-out"));
    tell("link out absolutely", folder.symlink_at("/etc/hostname", "made-absolute"));
    for path in [
        "../secret.txt",
        "sub/../../secret.txt",
        "/etc/hostname",
        "link-outside",
        "link-absolute",
        "link-parent/secret.txt",
        "made-out",
    ] {
        say(&format!("{path}\n"));
        tell("  read", text(folder, path));
        tell("  write", folder.open_at(FOLLOW, path, CREATE | OpenFlags::TRUNCATE, WRITE));
        tell("  stat", folder.stat_at(FOLLOW, path));
        tell(
            "  set times",
            folder.set_times_at(FOLLOW, path, NewTimestamp::Now, NewTimestamp::Now),
        );
        tell("  hash", folder.metadata_hash_at(FOLLOW, path));
        tell("  hard link from", folder.link_at(plain, path, folder, "stolen"));
    }
    for path in ["../out", "/tmp/out", "link-parent/out"] {
        say(&format!("{path}\n"));
        tell("  rename to", folder.rename_at("inside", folder, path));
        tell("  hard link to", folder.link_at(plain, "inside", folder, path));
        tell("  symlink at", folder.symlink_at("x", path));
        tell("  make folder", folder.create_directory_at(path));
        tell("  create", folder.open_at(FOLLOW, path, CREATE, WRITE));
        tell("  remove folder", folder.remove_directory_at(path));
        tell("  unlink", folder.unlink_file_at(path));
    }
    // What a descriptor of a folder was asked for ends at that folder.
    let sub = folder.open_at(FOLLOW, "sub", none(), READ).expect("opened");
    tell("from a folder to its parent", sub.open_at(FOLLOW, "../present.txt", none(), READ));
}

fn clocks() {
    let before = monotonic_clock::now();
    let after = monotonic_clock::now();
    found("monotonic goes on", after >= before);
    found("its resolution is below 10 ms", monotonic_clock::resolution() < 10_000_000);
    let wall = wall_clock::now();
    // 2025-01-01 and 2100-01-01.
    found("wall is of this century", (1_735_689_600..4_102_444_800).contains(&wall.seconds));
    found("its nanoseconds are some", wall.nanoseconds < 1_000_000_000);
    let resolution = wall_clock::resolution();
    found("its resolution is below 1 s", resolution.seconds == 0);
}

fn timers() {
    let ms = 1_000_000;
    let began = monotonic_clock::now();
    monotonic_clock::subscribe_duration(20 * ms).block();
    found("waited", monotonic_clock::now() - began >= 20 * ms);
    let past = monotonic_clock::subscribe_instant(began);
    // The first look yields, so that whoever only looks doesn't starve others.
    found("an instant that is over is ready", past.ready() || past.ready());
    let long = monotonic_clock::subscribe_duration(3600 * 1000 * ms);
    found("an hour is not", long.ready());
    let short = monotonic_clock::subscribe_instant(monotonic_clock::now() + 10 * ms);
    found("the first of three", poll::poll(&[&long, &short, &long]));
    found("both that are", poll::poll(&[&past, &long, &short]));
}

fn randomness() {
    let (one, two) = (random::get_random_bytes(32), random::get_random_bytes(32));
    found("lengths", (one.len(), two.len(), random::get_random_bytes(0).len()));
    found("differ", one != two && random::get_random_u64() != random::get_random_u64());
    found("many", random::get_random_bytes(1 << 16).len());
    let (one, two) = (insecure::get_insecure_random_bytes(16), insecure::get_insecure_random_u64());
    found("insecure", (one.len(), two != insecure::get_insecure_random_u64()));
    found("a seed", insecure_seed::insecure_seed() != (0, 0));
}

fn surroundings(arguments: &[String]) {
    found("arguments", arguments);
    found("environment", environment::get_environment());
    found("working folder", environment::initial_cwd());
    let mut folders: Vec<String> = get_directories().into_iter().map(|(_, name)| name).collect();
    folders.sort();
    found("folders", folders);
}

/// Whole, in pieces, and its end.
fn stdin() {
    let stdin = get_stdin();
    found("first", stdin.blocking_read(4).map(|b| String::from_utf8_lossy(&b).into_owned()));
    found("skipped", stdin.blocking_skip(2));
    let mut rest = 0;
    let end = loop {
        match stdin.blocking_read(1 << 16) {
            Ok(bytes) => rest += bytes.len(),
            Err(end) => break format!("{end:?}"),
        }
    };
    found("rest", rest);
    found("end", end);
}
