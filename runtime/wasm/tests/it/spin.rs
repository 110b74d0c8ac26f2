//! Spin applications: routes to components, files, variables, stores, databases, and calls between
//! components.

use std::{path::PathBuf, sync::Arc};

use expect_test::{Expect, expect};
use windlass_runtime_api::{ContainerSpec, SpinApp, SpinComponent, SpinRoute, SpinVariable};
use windlass_runtime_data::SqliteFiles;
use windlass_runtime_wasm::Data;

use crate::{
    keyvalue::Memory,
    node::{Node, guest, image, until},
};

fn component(id: &str, wasm: PathBuf) -> SpinComponent {
    let image = image(&wasm);
    SpinComponent {
        id: id.into(),
        wasm_digest: image.wasm_digest,
        wasm_path: image.wasm_path,
        ..SpinComponent::default()
    }
}

fn route(component: &str, route: Option<&str>) -> SpinRoute {
    SpinRoute { component: component.into(), route: route.map(str::to_owned) }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// A shop: `web` with everything, `hello` beside it, `db` behind both.
fn shop(node: &Node) -> SpinApp {
    let files = node.folder.path().join("files");
    std::fs::create_dir_all(files.join("static")).expect("folder");
    std::fs::write(files.join("static/page.txt"), "a page").expect("file");
    SpinApp {
        name: "shop".into(),
        variables: vec![
            SpinVariable { name: "greeting".into(), default: Some("hi".into()), secret: false },
            SpinVariable { name: "token".into(), default: None, secret: true },
        ],
        components: vec![
            SpinComponent {
                env: vec![pair("OWN", "1"), pair("GREETING", "of the component")],
                files: Some(files),
                variables: vec![pair("text", "{{ greeting }}, {{ token }}")],
                key_value_stores: vec!["default".into()],
                sqlite_databases: vec!["main".into()],
                allowed_outbound_hosts: vec![
                    "http://db.spin.internal".into(),
                    "http://self".into(),
                ],
                ..component("web", guest("http-spin"))
            },
            SpinComponent {
                variables: vec![pair("size", "{{ greeting }}")],
                ..component("hello", guest("http-config"))
            },
            component("db", guest("http-spin")),
        ],
        routes: vec![
            route("web", Some("/shop/:user/...")),
            route("hello", Some("/hello")),
            route("db", None),
        ],
    }
}

fn pod(node: &Node, name: &str, app: SpinApp) -> ContainerSpec {
    let mut image = image(&guest("http-spin"));
    image.config.spin = Some(Arc::new(app));
    let mut spec = node.pod_of(name, image);
    spec.env = vec![pair("SPIN_VARIABLE_TOKEN", "t0p"), pair("EXTRA", "2")];
    spec
}

fn node() -> Node {
    let folder = Arc::new(tempfile::tempdir().expect("folder"));
    let databases = Arc::new(SqliteFiles::new(folder.path().join("data")));
    let data = Data { databases: Some(databases), ..Memory::default().data() };
    Node::in_folder_with(folder, None, data)
}

#[tokio::test]
async fn an_application_answers() {
    let node = node();
    let spec = node.started(pod(&node, "shop", shop(&node))).await;
    let check = async |path: &str, expected: Expect| {
        let answer = node.get(&spec, path).await.expect("answers");
        let host = spec.pod.address.to_string();
        expected.assert_eq(&format!("{answer:?}").replace(&host, "HOST"));
    };
    let client = "spin-client-addr";
    let web = node.get(&spec, "/shop/ann/orders?x=1").await.expect("answers").body;
    let told: Vec<&str> = web.lines().filter(|line| !line.starts_with(client)).collect();
    let host = spec.pod.address.to_string();
    expect![[r#"
        spin-base-path: /
        spin-component-route: /shop/:user
        spin-full-url: http://HOST/shop/ann/orders?x=1
        spin-matched-route: /shop/:user/...
        spin-path-info: /orders
        spin-path-match-user: ann
        spin-raw-component-route: /shop/:user/..."#]]
    .assert_eq(&told.join("\n").replace(&host, "HOST"));
    let hello = node.get(&spec, "/hello").await.expect("answers");
    // `wasi:config` is the component's variables.
    assert_eq!(hello.body, "[(\"size\", \"hi\")]\n", "{hello:?}");
    check(
        "/none",
        expect![[r#"
        404 no route of the application applies
    "#]],
    )
    .await;
    check(
        "/shop/a?do=env",
        expect![[r#"200 [("EXTRA", "2"), ("GREETING", "of the component"), ("OWN", "1")]"#]],
    )
    .await;
    check("/shop/a?do=variable&name=text", expect![[r#"200 Ok("hi, t0p")"#]]).await;
    check(
        "/shop/a?do=variable&name=token",
        expect![[r#"200 Err(Error::Undefined("no variable \"token\""))"#]],
    )
    .await;
    check("/shop/a?do=variable&name=To", expect![[r#"200 Err(Error::InvalidName("\"To\" is no name: lower-case letters, digits and _ make one"))"#]]).await;
    check("/shop/a?do=file&path=static/page.txt", expect!["200 /static/page.txt: a page"]).await;
    check("/shop/a?do=file&path=../secret", expect!["200 not-permitted"]).await;
    check("/shop/a?do=write&path=new", expect!["200 not-permitted"]).await;
}

#[tokio::test]
async fn components_have_stores_and_databases() {
    let node = node();
    let spec = node.started(pod(&node, "shop", shop(&node))).await;
    let check = async |path: &str, expected: Expect| {
        let answer = node.get(&spec, path).await.expect("answers");
        expected.assert_eq(&answer.body);
    };
    check("/shop/a?do=count&store=default", expect![[r#"1 true false ["count"]"#]]).await;
    check("/shop/a?do=count&store=default", expect![[r#"2 true false ["count"]"#]]).await;
    check("/shop/a?do=count&store=cache", expect!["Error::AccessDenied"]).await;
    check("/shop/a?do=sql&database=main", expect![[r#"["n", "a", "b", "c", "d"] [Value::Integer(1), Value::Integer(7), Value::Text("seven"), Value::Blob([7]), Value::Null]"#]]).await;
    check("/shop/a?do=sql&database=main", expect![[r#"["n", "a", "b", "c", "d"] [Value::Integer(2), Value::Integer(7), Value::Text("seven"), Value::Blob([7]), Value::Null]"#]]).await;
    check("/shop/a?do=sql&database=other", expect!["Error::AccessDenied"]).await;
    check(
        "/shop/a?do=attach&database=main",
        expect![[
            r#"Error::Io("the statement reaches beyond its database, which is not allowed")"#
        ]],
    )
    .await;
    check(
        "/shop/a?do=vacuum&database=main",
        expect![[
            r#"Error::Io("the statement reaches beyond its database, which is not allowed")"#
        ]],
    )
    .await;
    check(
        "/shop/a?do=pragma&database=main",
        expect![[
            r#"Error::Io("the statement reaches beyond its database, which is not allowed")"#
        ]],
    )
    .await;
}

#[tokio::test]
async fn components_call_each_other() {
    let node = node();
    let spec = node.started(pod(&node, "shop", shop(&node))).await;
    let ask = async |url: &str| {
        let path = format!("/shop/a?do=call&url={url}");
        node.get(&spec, &path).await.expect("answers").body
    };
    let db = ask("http://db.spin.internal/rows").await;
    assert!(db.starts_with("200 ") && db.contains("spin-path-info: /rows"), "{db}");
    assert!(ask("http://self/hello").await.starts_with("200 "));
    assert!(ask("http://self/none").await.starts_with("404 "));
    assert_eq!(ask("http://hello.spin.internal/").await, "ErrorCode::HttpRequestDenied");
    until("the refusal is in the log", || {
        let log = std::fs::read_to_string(&spec.log_path).ok()?;
        log.contains("the call to hello.spin.internal was refused").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_an_application_lacks_is_told_at_its_start() {
    let node = node();
    let refused = async |name: &str, app: SpinApp, env: bool| {
        let mut spec = pod(&node, name, app);
        if !env {
            spec.env.clear();
        }
        let error = node.start(&spec).await.expect_err("refused");
        format!("{}: {}", error.reason, error.message)
    };
    expect!["CreateContainerConfigError: the Spin application needs its variable \"token\": set SPIN_VARIABLE_TOKEN in the container's env, from a Secret"]
        .assert_eq(&refused("no-token", shop(&node), false).await);
    let mut app = shop(&node);
    app.components[2] = component("db", guest("command-exit"));
    expect!["CreateContainerError: component db of the Spin application: it exports no handler of wasi:http, and no other is called here"].assert_eq(&refused("a-command", app, true).await);
    let mut app = shop(&node);
    app.components[2] = component("db", guest("http-unknown-import"));
    let unknown = refused("unknown", app, true).await;
    assert!(
        unknown.contains("component db of the Spin application: ") && unknown.contains("imports "),
        "{unknown}"
    );
}

#[tokio::test]
async fn an_application_ends_as_one() {
    let node = node();
    let spec = node.started(pod(&node, "shop", shop(&node))).await;
    use windlass_runtime_api::Runtime;
    node.get(&spec, "/shop/a?do=count&store=default").await.expect("answers");
    let stats = node.runtime.stats().await;
    assert_eq!(stats[0].containers[0].requests, 1, "{stats:?}");
    let grace = std::time::Duration::from_secs(5);
    node.runtime.stop_container(&spec.pod.uid, "main", grace).await.expect("stops");
    assert_eq!(node.exit(&spec).await.0, 0);
    assert!(node.get(&spec, "/hello").await.is_err());
}
