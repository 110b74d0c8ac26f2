//! The first minute: `windlass up --demo`, and who may do what without credentials.

use windlass_tests_e2e::{Cluster, Options, http_get, wait_for};

use crate::shared;

#[test]
fn the_demo_prints_a_url_that_answers() -> anyhow::Result<()> {
    let cluster =
        Cluster::start_with(Options { arguments: vec!["--demo".into()], ..Options::default() })?;
    let printed = wait_for("the demo's lines", 30, || {
        let lines = cluster.printed();
        lines.iter().any(|line| line.contains("kubectl get pods")).then_some(lines)
    });
    let url = printed
        .iter()
        .flat_map(|line| line.split_whitespace())
        .find(|word| word.starts_with("http://"));
    let url = url.expect("a URL is printed");
    let (code, body) = http_get(url)?;
    assert_eq!(code, 200, "{body}");
    assert!(printed.iter().any(|line| line.contains("export KUBECONFIG=")), "{printed:?}");
    assert!(cluster.kubectl(37)?.sh("get pods")?.contains("hello"));
    Ok(())
}

#[test]
fn strangers_see_health_and_version_only() -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(37)?;
    let server = format!("https://127.0.0.1:{}", cluster.port());
    let as_stranger = |path: &str, token: &[&str]| {
        let arguments = [
            "--kubeconfig=/dev/null",
            "--insecure-skip-tls-verify",
            "--server",
            &server,
            "get",
            "--raw",
            path,
        ];
        kubectl.output(&[&arguments[..], token].concat(), "")
    };
    assert!(as_stranger("/version", &[])?.success);
    assert_eq!(as_stranger("/readyz", &[])?.stdout, "ok");
    let pods = as_stranger("/api/v1/pods", &[])?;
    assert!(!pods.success && pods.stderr.contains("system:anonymous"), "{pods:?}");
    let wrong = as_stranger("/api/v1/pods", &["--token=wrong"])?;
    assert!(!wrong.success && wrong.stderr.contains("Unauthorized"), "{wrong:?}");
    Ok(())
}

#[test]
fn roles_decide_what_a_user_may_do() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("roles")?;
    kubectl.sh("create role reader --verb=get,list --resource=pods")?;
    kubectl.sh("create rolebinding reader --role=reader --user=jane")?;
    kubectl.sh("get pods --as=jane")?;
    let denied = kubectl.output(&["get", "secrets", "--as=jane"], "")?;
    assert!(
        denied.stderr.contains("User \"jane\" cannot list resource \"secrets\" in API group \"\" in the namespace \"roles\""),
        "{denied:?}"
    );
    assert!(kubectl.sh("auth can-i delete pods")?.starts_with("yes"));
    Ok(())
}
