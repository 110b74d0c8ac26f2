//! The first minute: `windlass up --demo`, and who may do what without credentials.

use std::process::Command;

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
    let port = shared().port();
    let as_stranger = |path: &str, header: &str| {
        let url = format!("https://127.0.0.1:{port}{path}");
        let curl = Command::new("curl")
            .args(["--silent", "--insecure", "--header", header, &url])
            .output()?;
        anyhow::Ok(String::from_utf8_lossy(&curl.stdout).into_owned())
    };
    assert!(as_stranger("/version", "")?.contains("\"minor\":\"37\""));
    assert_eq!(as_stranger("/readyz", "")?, "ok");
    let pods = as_stranger("/api/v1/pods", "")?;
    assert!(pods.contains("\"code\": 403") && pods.contains("system:anonymous"), "{pods}");
    let wrong = as_stranger("/api/v1/pods", "Authorization: Bearer wrong")?;
    assert!(wrong.contains("\"code\": 401") && wrong.contains("Unauthorized"), "{wrong}");
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
