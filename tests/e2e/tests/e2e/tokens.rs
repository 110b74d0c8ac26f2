//! Tokens of service accounts through kubectl: made, shown to the API server, and no longer good
//! once what they are bound to is gone.

use serde_json::Value;
use windlass_tests_e2e::{Kubectl, wait_for};

use crate::shared;

/// kubectl without the administrator's certificate: a token, the cluster's certificate, an address.
pub fn with_token(kubectl: &Kubectl, server: &str, token: &str, what: &[&str]) -> (bool, String) {
    let ca = kubectl
        .run(&[
            "config",
            "view",
            "--raw",
            "-o",
            "jsonpath={.clusters[0].cluster.certificate-authority-data}",
        ])
        .expect("the kubeconfig");
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: t\n\
         clusters: [{{name: t, cluster: {{server: \"{server}\", certificate-authority-data: {ca}}}}}]\n\
         users: [{{name: t, user: {{token: {token}}}}}]\n\
         contexts: [{{name: t, context: {{cluster: t, user: t}}}}]\n"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig).expect("writes");
    let own = kubectl.with_kubeconfig(&path);
    let output = own.output(what, "").expect("kubectl runs");
    (output.success, output.stdout + &output.stderr)
}

fn create_token(minor: u32) -> anyhow::Result<()> {
    let cluster = shared();
    let kubectl = cluster.kubectl(minor)?.in_new_namespace(&format!("tokens-{minor}"))?;
    kubectl.sh("create serviceaccount robot")?;
    kubectl.sh("create role reader --verb=get,list --resource=configmaps")?;
    let account = format!("--serviceaccount={}:robot", kubectl.namespace);
    kubectl.run(&["create", "rolebinding", "reader", "--role=reader", &account])?;
    kubectl.sh("create secret generic anchor")?;
    let token = kubectl.sh("create token robot --duration=20m")?;
    let bound =
        kubectl.sh("create token robot --bound-object-kind=Secret --bound-object-name=anchor")?;
    let vault = kubectl.sh("create token robot --audience=vault")?;

    let own = format!("https://127.0.0.1:{}", cluster.port());
    let endpoint = kubectl.sh("get endpointslices -n default -l kubernetes.io/service-name=kubernetes -o jsonpath={.items[0].endpoints[0].addresses[0]}:{.items[0].ports[0].port}")?;
    for server in [own.clone(), format!("https://{endpoint}")] {
        let (ok, who) = with_token(&kubectl, &server, &token, &["auth", "whoami", "-o", "json"]);
        assert!(ok, "{who}");
        let user = &serde_json::from_str::<Value>(&who)?["status"]["userInfo"];
        let name = format!("system:serviceaccount:{}:robot", kubectl.namespace);
        assert_eq!(user["username"], name.as_str());
        assert!(user["extra"]["authentication.kubernetes.io/credential-id"].is_array(), "{who}");
        let (ok, maps) = with_token(&kubectl, &server, &token, &["get", "configmaps"]);
        assert!(ok && maps.contains("kube-root-ca.crt"), "{maps}");
        let (ok, denied) = with_token(&kubectl, &server, &token, &["get", "secrets"]);
        assert!(!ok && denied.contains(&format!("User \"{name}\" cannot list")), "{denied}");
    }
    let (ok, denied) = with_token(&kubectl, &own, &vault, &["get", "configmaps"]);
    assert!(!ok && denied.contains("must be logged in"), "{denied}");
    let (ok, keys) = with_token(&kubectl, &own, &token, &["get", "--raw", "/openid/v1/jwks"]);
    assert!(ok && keys.contains("\"ES256\""), "{keys}");

    assert!(with_token(&kubectl, &own, &bound, &["get", "configmaps"]).0);
    kubectl.sh("delete secret anchor")?;
    assert!(!with_token(&kubectl, &own, &bound, &["get", "configmaps"]).0);
    kubectl.sh("delete serviceaccount robot")?;
    assert!(!with_token(&kubectl, &own, &token, &["get", "configmaps"]).0);
    let short = kubectl.output(&["create", "token", "default", "--duration=1m"], "")?;
    assert!(short.stderr.contains("may not specify a duration less than 10 minutes"), "{short:?}");
    Ok(())
}

#[test]
fn create_token_with_kubectl_1_30() -> anyhow::Result<()> {
    create_token(30)
}

#[test]
fn create_token_with_kubectl_1_37() -> anyhow::Result<()> {
    create_token(37)
}

#[test]
fn every_namespace_has_the_root_certificate() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("root-ca")?;
    let certificate = || {
        let found = kubectl.jsonpath("configmap kube-root-ca.crt", "{.data.ca\\.crt}").ok();
        found.filter(|text| text.starts_with("-----BEGIN CERTIFICATE-----"))
    };
    let first = wait_for("the certificate", 10, certificate);
    kubectl.sh("delete configmap kube-root-ca.crt")?;
    assert_eq!(wait_for("the certificate again", 10, certificate), first);
    Ok(())
}
