//! A service written with `sdk/guest`, on a node.

use serde_json::Value;
use windlass_tests_e2e::{guest, http_get, http_post};

use crate::{pods::import, shared};

#[test]
fn a_service_uses_what_the_node_offers() -> anyhow::Result<()> {
    let kubectl = shared().kubectl(37)?.in_new_namespace("sdk-guest")?;
    import(shared(), "windlass.dev/test/http-sdk:1", "http-sdk")?;
    import(shared(), "windlass.dev/test/http-echo:1", "http-echo")?;
    kubectl.apply(
        "apiVersion: v1
kind: Pod
metadata: {name: app}
spec:
  containers:
  - name: app
    image: windlass.dev/test/http-sdk:1
    env: [{name: GREETING, value: good day}]
---
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec: {containers: [{name: echo, image: windlass.dev/test/http-echo:1}]}
",
    )?;
    kubectl.sh("wait pod/app pod/echo --for=condition=Ready --timeout=120s")?;
    let address = |pod: &str| kubectl.jsonpath(pod, "{.status.podIP}");
    let (app, echo) = (address("pod app")?, address("pod echo")?);
    let url = |path: &str| format!("http://{app}:8080{path}");

    assert_eq!(http_get(&url("/greet/J%C3%BCrgen"))?, (200, "good day, Jürgen\n".into()));
    assert_eq!(http_post(&url("/counts/tea"), b"2")?, (201, "2".into()));
    assert_eq!(http_post(&url("/counts/tea"), b"3")?, (201, "5".into()));
    let wrong = http_post(&url("/counts/tea"), b"many")?;
    assert!(wrong.0 == 400 && wrong.1.contains("the body is no JSON as expected"), "{wrong:?}");
    assert_eq!(http_get(&url("/counts"))?.0, 405);
    assert!(kubectl.sh("logs app")?.contains("tea is 5"));

    let body = "0123456789abcdef".repeat(10_000);
    let passed = http_post(&url(&format!("/pass-on?url=http://{echo}:8080/")), body.as_bytes())?;
    assert!(passed.0 == 200 && passed.1.contains(&body), "{} {}", passed.0, passed.1.len());
    let nobody = http_post(&url("/pass-on?url=http://nobody.invalid/"), b"")?;
    assert!(nobody.0 == 502 && nobody.1.contains("nobody.invalid"), "{nobody:?}");
    Ok(())
}

#[test]
fn what_is_not_used_is_not_imported() -> anyhow::Result<()> {
    let imports = |name: &str| -> anyhow::Result<Vec<String>> {
        let file = guest(name)?;
        let told = shared().windlass(&["inspect", &file.to_string_lossy(), "--json"])?;
        let told: Value = serde_json::from_str(&told)?;
        Ok(serde_json::from_value(told["imports"].clone())?)
    };
    let uses = |imports: &[String], what: &str| imports.iter().any(|name| name.starts_with(what));
    let (all, least) = (imports("http-sdk")?, imports("http-sdk-least")?);
    for what in ["wasi:config", "wasi:keyvalue", "wasi:logging", "wasi:http/outgoing-handler"] {
        assert!(uses(&all, what), "{what}: {all:?}");
        assert!(!uses(&least, what), "{what}: {least:?}");
    }
    Ok(())
}
