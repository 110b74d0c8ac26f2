//! What is asked of the engine, for what a pod says.

use std::{path::PathBuf, sync::Arc};

use expect_test::{Expect, expect};
use windlass_runtime_api::{Image, Limits, LinuxSandbox, Nature, OnTrap};

use super::*;

const AROUND: Around<'_> = Around {
    node: "node",
    sandbox_id: "sid",
    target_id: None,
    image_user: "",
    own_files: Vec::new(),
    least_oom_score: -1000,
};

fn pod(linux: LinuxSandbox) -> Sandbox {
    Sandbox {
        uid: "u".into(),
        name: "p".into(),
        namespace: "n".into(),
        address: [127, 64, 0, 1].into(),
        hostname: "h".into(),
        names: Default::default(),
        annotations: Default::default(),
        linux,
    }
}

fn spec(linux: LinuxContainer, sandbox: LinuxSandbox, limits: Limits) -> ContainerSpec {
    ContainerSpec {
        pod: Arc::new(pod(sandbox)),
        name: "c".into(),
        attempt: 2,
        image: Image {
            nature: Nature::Container,
            reference: "i:v1".into(),
            digest: "sha256:1".into(),
            wasm_digest: String::new(),
            wasm_path: PathBuf::new(),
            config: Default::default(),
        },
        command: vec!["run".into()],
        args: vec![],
        env: vec![("A".into(), "b=c".into())],
        working_dir: Some("/w".into()),
        mounts: vec![Mount {
            host_path: "/host".into(),
            container_path: "/in".into(),
            read_only: true,
            ..Mount::default()
        }],
        late_mounts: None,
        ports: vec![],
        limits,
        log_path: "/logs/2.log".into(),
        on_trap: OnTrap::Continue,
        reach: Default::default(),
        console: Default::default(),
        linux,
    }
}

/// The host configuration's members that are set, and the rest of the body's.
fn check(body: &ContainerCreateBody, expected: Expect) {
    let tree = serde_json::to_value(body).expect("json");
    let mut lines = Vec::new();
    let mut put = |tree: &serde_json::Value| {
        for (key, value) in tree.as_object().into_iter().flatten() {
            let empty = value.is_null() || value == &serde_json::json!({});
            if !empty && !matches!(key.as_str(), "HostConfig" | "Labels" | "LogConfig") {
                lines.push(format!("{key}={value}\n"));
            }
        }
    };
    put(&tree);
    put(&tree["HostConfig"]);
    lines.sort();
    expected.assert_eq(&lines.concat());
}

fn user_of(user: Option<i64>, group: Option<i64>, non_root: bool, image: &str) -> String {
    let linux = LinuxContainer { user, group, non_root, ..LinuxContainer::default() };
    match super::user(&linux, image) {
        Ok(user) => user.unwrap_or_default(),
        Err(error) => error.message,
    }
}

#[test]
fn users() {
    assert_eq!(user_of(None, None, false, "www"), "");
    assert_eq!(user_of(Some(5), None, true, ""), "5");
    assert_eq!(user_of(Some(5), Some(6), false, ""), "5:6");
    assert_eq!(user_of(None, Some(6), false, "www:www"), "www:6");
    assert_eq!(user_of(None, Some(6), false, ""), "0:6");
    assert_eq!(user_of(None, None, true, "1000:0"), "");
    let root = "container has runAsNonRoot and image will run as root";
    assert_eq!(user_of(None, None, true, ""), root);
    assert_eq!(user_of(None, None, true, "0"), root);
    assert_eq!(
        user_of(None, None, true, "www"),
        "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is \
         non-root"
    );
    assert_eq!(user_of(Some(0), None, true, "1"), "container's runAsUser breaks non-root policy");
}

#[test]
fn weights_and_quotas() {
    assert_eq!([0, 1, 100, 1000, 2500].map(shares), [2, 2, 102, 1024, 2560]);
    assert_eq!([1, 10, 250, 2000].map(quota), [1000, 1000, 25_000, 200_000]);
}

#[test]
fn a_plain_container() {
    let spec = spec(LinuxContainer::default(), LinuxSandbox::default(), Limits::default());
    let body = container(&spec, &AROUND).expect("a body");
    check(
        &body,
        expect![[r#"
        CapAdd=[]
        CapDrop=[]
        CpuShares=2
        Entrypoint=["run"]
        Env=["A=b=c"]
        GroupAdd=[]
        Image="sha256:1"
        IpcMode="container:sid"
        Mounts=[{"Target":"/in","Source":"/host","Type":"bind","ReadOnly":true,"BindOptions":{"Propagation":"rprivate"}}]
        NetworkMode="container:sid"
        OomScoreAdj=0
        OpenStdin=false
        PidsLimit=4096
        Privileged=false
        ReadonlyRootfs=false
        SecurityOpt=[]
        StdinOnce=false
        Tty=false
        WorkingDir="/w"
    "#]],
    );
}

#[test]
fn everything_that_a_pod_can_say() {
    let linux = LinuxContainer {
        user: Some(7),
        group: Some(8),
        groups: vec![9],
        read_only_root: true,
        no_new_privileges: true,
        add_capabilities: vec!["CAP_NET_ADMIN".into()],
        drop_capabilities: vec!["ALL".into()],
        seccomp_unconfined: true,
        apparmor: Some("p".into()),
        stop_signal: Some("SIGINT".into()),
        oom_score_adj: 999,
        ..LinuxContainer::default()
    };
    let limits = Limits {
        memory_bytes: Some(64 << 20),
        cpu_millis: Some(500),
        cpu_weight_millis: Some(250),
        ..Limits::default()
    };
    let sandbox = LinuxSandbox {
        host_network: true,
        host_ipc: true,
        shared_pid: true,
        ..LinuxSandbox::default()
    };
    let body = container(&spec(linux, sandbox, limits), &AROUND);
    check(
        &body.expect("a body"),
        expect![[r#"
        CapAdd=["NET_ADMIN"]
        CapDrop=["ALL"]
        CpuPeriod=100000
        CpuQuota=50000
        CpuShares=256
        Entrypoint=["run"]
        Env=["A=b=c"]
        GroupAdd=["9"]
        Image="sha256:1"
        IpcMode="host"
        Memory=67108864
        MemorySwap=67108864
        Mounts=[{"Target":"/in","Source":"/host","Type":"bind","ReadOnly":true,"BindOptions":{"Propagation":"rprivate"}}]
        NetworkMode="host"
        OomScoreAdj=999
        OpenStdin=false
        PidMode="container:sid"
        PidsLimit=4096
        Privileged=false
        ReadonlyRootfs=true
        SecurityOpt=["no-new-privileges","seccomp=unconfined","apparmor=p"]
        StdinOnce=false
        StopSignal="SIGINT"
        Tty=false
        User="7:8"
        WorkingDir="/w"
    "#]],
    );
}

#[test]
fn sandboxes() {
    let body = super::sandbox("node", &pod(LinuxSandbox::default()), 0).expect("a body");
    check(
        &body,
        expect![[r#"
        CapDrop=["ALL"]
        Entrypoint=["/pause"]
        Hostname="h"
        Image="windlass.dev/pause:1"
        IpcMode="shareable"
        NetworkMode="bridge"
        OomScoreAdj=0
        ReadonlyRootfs=true
        SecurityOpt=["no-new-privileges"]
    "#]],
    );
    let sysctls = vec![("kernel.panic".to_owned(), "1".to_owned())];
    let refused = super::sandbox("node", &pod(LinuxSandbox { sysctls, ..Default::default() }), 0);
    assert_eq!(refused.expect_err("refused").reason, "SysctlForbidden");
}
