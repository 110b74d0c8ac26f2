//! Programs that are written with the client libraries of other languages.

use std::process::Command;

use windlass_tests_e2e::tool;

use crate::shared;

/// client-go, speaking protobuf both ways: what it goes through is in `tests/clients/go`.
#[test]
fn a_go_program_with_informers_and_server_side_apply() -> anyhow::Result<()> {
    let cluster = shared();
    cluster.kubectl(37)?.in_new_namespace("go-client")?;
    let mut program = Command::new(tool("WINDLASS_GO_CLIENT")?);
    let output = program.arg(cluster.kubeconfig()).arg("go-client").output()?;
    let (out, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{error}");
    assert_eq!(out.lines().last(), Some("all of it was protobuf"), "{out}");
    Ok(())
}
