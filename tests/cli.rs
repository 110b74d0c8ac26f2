//! The binary at the command line, where it needs no cluster. That this is a test of the binary's
//! own package makes `cargo test` build the binary too, with the features of the dependencies that
//! all tests have: built apart, most of them would be compiled a second time.

use std::process::{Command, Output};

fn windlass(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_windlass")).args(arguments).output();
    output.expect("the binary starts")
}

#[test]
fn it_tells_its_version() {
    let output = windlass(&["--version"]);
    assert!(output.status.success());
    let version = format!("windlass {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), version);
}

#[test]
fn a_wrong_flag_names_itself_and_exits_2() {
    let output = windlass(&["up", "--no-such-flag"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--no-such-flag"));
}

#[test]
fn a_wrong_store_says_what_is_meant() {
    for store in ["redis://127.0.0.1:6379", "etcd://", "etcd://127.0.0.1", "etcd://a:1,b"] {
        let output = windlass(&["up", "--store", store]);
        assert_eq!(output.status.code(), Some(2), "{store}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(store) && said.contains("etcd://HOST:PORT"), "{said}");
    }
}
