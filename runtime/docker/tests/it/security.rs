//! What a pod says about the kernel's side of its containers holds.

use windlass_runtime_api::{LinuxContainer, LinuxSandbox, Sandbox};

use crate::node::Node;

#[tokio::test(flavor = "multi_thread")]
async fn users_groups_and_privileges() {
    let node = Node::start().await;
    let script = "id -u; id -g; id -G; touch /x 2>/dev/null || echo fixed; \
                  grep -E 'NoNewPrivs|CapBnd' /proc/self/status | tr -s '\\t' ' '";
    let mut spec = node.spec("bound", script).await;
    spec.linux = LinuxContainer {
        user: Some(1000),
        group: Some(2000),
        groups: vec![3000],
        read_only_root: true,
        no_new_privileges: true,
        add_capabilities: vec!["CAP_NET_BIND_SERVICE".into()],
        drop_capabilities: vec!["ALL".into()],
        ..LinuxContainer::default()
    };
    let expected = "1000\n2000\n2000 3000\nfixed\nCapBnd: 0000000000000400\nNoNewPrivs: 1\n";
    let said = node.output(&spec).await;
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&said), sorted(expected));
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_is_refused_where_the_pod_forbids_it() {
    let node = Node::start().await;
    let mut spec = node.spec("root", "true").await;
    spec.linux.non_root = true;
    let refused = node.run(&spec).await.expect_err("refused");
    assert_eq!(refused.reason, "CreateContainerConfigError");
    assert_eq!(refused.message, "container has runAsNonRoot and image will run as root");
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sysctls_and_processes_of_the_pod() {
    let node = Node::start().await;
    let script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cat /proc/1/comm";
    let mut spec = node.spec("shared", script).await;
    let linux = LinuxSandbox {
        shared_pid: true,
        sysctls: vec![("net.ipv4.ip_unprivileged_port_start".into(), "80".into())],
        ..LinuxSandbox::default()
    };
    spec.pod = std::sync::Arc::new(Sandbox { linux, ..(*spec.pod).clone() });
    assert_eq!(node.output(&spec).await, "80\npause\n");
    node.remove(&spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_may_call_listed_hosts_only_has_no_way_outside() {
    let node = Node::start().await;
    let mut spec = node.spec("listed", "ls /sys/class/net").await;
    let list = windlass_runtime_api::AllowedHosts::parse("the pod", "a.example").expect("a list");
    let reach = windlass_runtime_api::Reach { lists: vec![list] };
    let linux = LinuxSandbox { reach, ..LinuxSandbox::default() };
    spec.pod = std::sync::Arc::new(Sandbox { linux, ..(*spec.pod).clone() });
    assert_eq!(node.output(&spec).await, "lo\n");
    node.remove(&spec).await;
}
