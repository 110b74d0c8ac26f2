use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;

const OCI: &str = "application/vnd.oci.image.config.v1+json";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn content(media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", "a".repeat(64)), "size": 1})
}

fn manifest(config: &str, layers: &[&str], annotations: Value) -> Manifest {
    let layers: Vec<Value> = layers.iter().map(|layer| content(layer)).collect();
    let tree = json!({
        "schemaVersion": 2, "config": content(config), "layers": layers, "annotations": annotations,
    });
    serde_json::from_value(tree).expect("a manifest")
}

/// Resolves an image of these media types whose config is this.
fn check(media_types: (&str, &[&str]), annotations: Value, config: Value, expected: Expect) {
    let manifest = manifest(media_types.0, media_types.1, annotations);
    let text = match resolve(&manifest, config.to_string().as_bytes()) {
        Ok(decision) => format!(
            "{}: {:?} function {:?} run {:?} {:?} env {:?} in {:?}; {}",
            decision.form.name(),
            decision.wasm,
            decision.function,
            decision.entrypoint,
            decision.args,
            decision.env,
            decision.working_dir.unwrap_or_default(),
            decision.why,
        ),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&text);
}

#[test]
fn a_config_names_the_form() {
    let cncf = "application/vnd.wasm.config.v0+json";
    check(
        (cncf, &["application/wasm"]),
        json!({}),
        json!({}),
        expect![[
            r#"a CNCF wasm artifact: Layer(0) function "" run [] [] env [] in ""; its config is application/vnd.wasm.config.v0+json"#
        ]],
    );
    check(
        (cncf, &[]),
        json!({}),
        json!({}),
        expect!["not an image that runs here: it has 0 layers, not one"],
    );
    check(
        (cncf, &["application/wasm", "application/wasm"]),
        json!({}),
        json!({}),
        expect!["not an image that runs here: it has 2 layers, not one"],
    );
    check(
        (cncf, &["text/plain"]),
        json!({}),
        json!({}),
        expect![[
            r#"not an image that runs here: its layer is "text/plain", not "application/wasm""#
        ]],
    );
    check(
        (LEGACY[0], &[LEGACY[1]]),
        json!({}),
        json!({}),
        expect![[
            r#"a legacy wasm image: Layer(0) function "" run [] [] env [] in ""; its config is application/vnd.module.wasm.config.v1+json"#
        ]],
    );
}

#[test]
fn a_layer_names_wasm() {
    let component = "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm";
    let config = json!({"architecture": "wasm", "os": "wasip1", "config": {
        "Entrypoint": ["/app.wasm", "-v"], "Cmd": ["serve"], "Env": ["A=b=c", "odd"], "WorkingDir": "/w",
    }});
    check(
        (OCI, &[component]),
        json!({}),
        config,
        expect![[
            r#"an OCI image with a wasm layer: Layer(0) function "" run ["/app.wasm", "-v"] ["serve"] env [("A", "b=c")] in "/w"; its layer is application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"#
        ]],
    );
    check(
        (OCI, &["application/wasm"]),
        json!({}),
        json!({"config": null}),
        expect![[
            r#"an OCI image with a wasm layer: Layer(0) function "" run [] [] env [] in ""; its layer is application/wasm"#
        ]],
    );
    check(
        (OCI, &["application/wasm", component]),
        json!({}),
        json!({}),
        expect![
            "not an image that runs here: it has 2 wasm layers, and nothing says which one runs"
        ],
    );
    check(
        ("application/vnd.wasm.config.v1+json", &[LEGACY[1]]),
        json!({}),
        json!({}),
        expect![[
            r#"a legacy wasm image: Layer(0) function "" run [] [] env [] in ""; its layer is application/vnd.module.wasm.content.layer.v1+wasm"#
        ]],
    );
}

#[test]
fn a_file_tree_holds_wasm_where_something_says_so() {
    let config = |entrypoint: &[&str], cmd: &[&str], architecture: &str| {
        json!({"architecture": architecture, "os": "linux", "config": {
            "Entrypoint": entrypoint, "Cmd": cmd, "WorkingDir": "/srv",
        }})
    };
    let none = json!({});
    check(
        (OCI, &[TAR]),
        none.clone(),
        config(&["/a.wasm#run", "x"], &[], "wasm"),
        expect![[
            r#"a container image that holds wasm: File("/a.wasm") function "run" run ["/a.wasm", "x"] [] env [] in "/srv"; its entrypoint is /a.wasm"#
        ]],
    );
    check(
        (OCI, &[TAR]),
        none.clone(),
        config(&["a.wasm"], &["y"], "amd64"),
        expect![[
            r#"a container image that holds wasm: File("/srv/a.wasm") function "" run ["a.wasm"] ["y"] env [] in "/srv"; its entrypoint is a.wasm"#
        ]],
    );
    check(
        (OCI, &[TAR]),
        none.clone(),
        config(&[], &["./a.wasm"], "amd64"),
        expect![[
            r#"a container image that holds wasm: File("/srv/a.wasm") function "" run [] ["./a.wasm"] env [] in "/srv"; its entrypoint is ./a.wasm"#
        ]],
    );
    check(
        (OCI, &[TAR]),
        none.clone(),
        config(&["/app"], &[], "wasm32"),
        expect![[
            r#"a container image that holds wasm: File("/app") function "" run ["/app"] [] env [] in "/srv"; its platform is linux/wasm32"#
        ]],
    );
    let compat = json!({"module.wasm.image/variant": "compat-smart"});
    check(
        (OCI, &[TAR]),
        compat,
        config(&["/app"], &[], "amd64"),
        expect![[
            r#"a container image that holds wasm: File("/app") function "" run ["/app"] [] env [] in "/srv"; its annotation module.wasm.image/variant is compat-smart"#
        ]],
    );
    let handler = json!({"run.oci.handler": "wasm"});
    check(
        (OCI, &[TAR]),
        handler.clone(),
        config(&["/app"], &[], "amd64"),
        expect![[
            r#"a container image that holds wasm: File("/app") function "" run ["/app"] [] env [] in "/srv"; its annotation run.oci.handler is wasm"#
        ]],
    );
    check(
        (OCI, &[TAR]),
        handler,
        config(&[], &[], "amd64"),
        expect![
            "not an image that runs here: its annotation run.oci.handler is wasm, but it has no entrypoint"
        ],
    );
    check(
        (OCI, &[TAR]),
        none.clone(),
        config(&["/bin/sh"], &[], "amd64"),
        expect![[
            r#"not an image that holds wasm: it is a container image for linux/amd64 (entrypoint "/bin/sh")"#
        ]],
    );
    check(
        (OCI, &[TAR]),
        none.clone(),
        config(&["/a.cwasm"], &[], "wasm"),
        expect![
            "not an image that runs here: its entrypoint /a.cwasm is precompiled native code, which is never loaded"
        ],
    );
    check(
        (OCI, &["text/plain"]),
        none,
        json!({}),
        expect![[
            r#"not an image that runs here: its layer "text/plain" holds neither wasm nor files"#
        ]],
    );
}

#[test]
fn spin_applications_are_recognised() {
    let wasm = "application/vnd.wasm.content.layer.v1+wasm";
    check(
        (OCI, &[wasm, SPIN_APPLICATION]),
        json!({}),
        json!({}),
        expect![[
            r#"a Spin application: Layer(0) function "" run [] [] env [] in ""; it holds application/vnd.fermyon.spin.application.v1+config"#
        ]],
    );
    check(
        (OCI, &[wasm, wasm, SPIN_APPLICATION]),
        json!({}),
        json!({}),
        expect![[
            r#"a Spin application: Layer(0) function "" run [] [] env [] in ""; it holds application/vnd.fermyon.spin.application.v1+config"#
        ]],
    );
    check(
        (OCI, &[SPIN_ARCHIVE, SPIN_APPLICATION]),
        json!({}),
        json!({}),
        expect!["not an image that runs here: it is a Spin application without a wasm layer"],
    );
}

#[test]
fn components_of_spin_applications_are_layers() {
    let wasm = "application/vnd.wasm.content.layer.v1+wasm";
    let mut image = manifest(OCI, &[SPIN_ARCHIVE, wasm, wasm, SPIN_APPLICATION], json!({}));
    let digest = |at: usize| format!("sha256:{}", at.to_string().repeat(64));
    for (at, layer) in image.layers.iter_mut().enumerate() {
        layer.digest = digest(at);
    }
    let check = |digests: [String; 2], expected: Expect| {
        let [one, two] = digests;
        let app = json!({
            "triggers": [{"trigger_type": "http", "trigger_config": {"component": "two", "route": "/..."}}],
            "components": [{"id": "one", "source": {"digest": one}}, {"id": "two", "source": {"digest": two}}],
        });
        let decision = resolve(&image, b"{}").expect("a Spin application");
        let text = match spin_application(decision, &image, app.to_string().as_bytes()) {
            Ok(decision) => format!("{:?}: {}", decision.wasm, decision.why),
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text);
    };
    check(
        [digest(2), digest(1)],
        expect![
            "Layer(2): it holds application/vnd.fermyon.spin.application.v1+config with the components one, two"
        ],
    );
    check(
        [digest(2), digest(7)],
        expect![
            "not an image that runs here: it is a Spin application whose component two is in none of its layers"
        ],
    );
    assert_eq!(spin_archives(&image).count(), 1);
}

fn check_bytes(function: &str, wasm: &Inspection, expected: Expect) {
    let decision =
        Decision { function: function.into(), ..plain(Form::WasmLayer, 0, String::new()) };
    let text = accept(&decision, wasm).unwrap_or_else(|error| error.to_string());
    expected.assert_eq(&text);
}

#[test]
fn bytes_say_what_it_is() {
    let of = |sort, import: &str| Inspection {
        sort,
        imports: vec![import.to_owned()],
        exports: vec![],
        annotations: Default::default(),
    };
    let module = of(Sort::Module, "wasi_snapshot_preview1.fd_write");
    check_bytes("", &module, expect!["by its bytes a module of WASI preview 1"]);
    check_bytes("_start", &module, expect!["by its bytes a module of WASI preview 1"]);
    check_bytes(
        "run",
        &module,
        expect![[
            r#"not an image that runs here: its entrypoint names the function "run", which the module doesn't export"#
        ]],
    );
    let exporting = Inspection { exports: vec!["run".into()], ..module.clone() };
    check_bytes("run", &exporting, expect!["by its bytes a module of WASI preview 1"]);
    check_bytes(
        "",
        &of(Sort::Module, "wasi_unstable.fd_write"),
        expect!["by its bytes a module of WASI preview 0"],
    );
    check_bytes("", &of(Sort::Module, "env.f"), expect!["by its bytes a module without WASI"]);
    check_bytes(
        "",
        &of(Sort::Component, "wasi:http/types@0.3.0"),
        expect!["by its bytes a component of WASI 0.3"],
    );
    check_bytes(
        "",
        &of(Sort::Component, "acme:x/y"),
        expect!["by its bytes a component without WASI"],
    );
    check_bytes(
        "run",
        &of(Sort::Component, "wasi:cli/stdout@0.2.3"),
        expect![[
            r#"not an image that runs here: its entrypoint names the function "run", but it is a component"#
        ]],
    );
}

fn check_index(platforms: &[(&str, &str)], expected: Expect) {
    let entries: Vec<Value> = platforms
        .iter()
        .map(|(os, architecture)| {
            let mut entry = content(os);
            entry["platform"] = json!({"os": os, "architecture": architecture});
            entry
        })
        .collect();
    let index: Index = serde_json::from_value(json!({"schemaVersion": 2, "manifests": entries}))
        .expect("an index");
    let text = match pick(&index) {
        Ok((entry, why)) => format!("{}: {why}", entry.media_type),
        Err(error) => error.to_string(),
    };
    expected.assert_eq(&text);
}

#[test]
fn an_index_has_an_entry_for_wasm() {
    check_index(
        &[("linux", "amd64"), ("wasip1", "wasm"), ("unknown", "unknown")],
        expect!["wasip1: its index has an entry for wasip1/wasm"],
    );
    check_index(
        &[("linux", "riscv64"), ("wasi", "wasm32")],
        expect!["wasi: its index has an entry for wasi/wasm32"],
    );
    check_index(
        &[("linux", "s390x"), ("unknown", "unknown")],
        expect!["linux: its index has one entry"],
    );
    check_index(
        &[("linux", "s390x"), ("windows", "riscv64")],
        expect![
            "not an image that runs here: its index has no entry for wasm, but for linux/s390x, windows/riscv64"
        ],
    );
    check_index(
        &[],
        expect!["not an image that runs here: its index has no entry for wasm, but for "],
    );
}

#[test]
fn a_pod_may_say_that_a_file_is_wasm() {
    let config =
        json!({"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/app"]}});
    let image = manifest(OCI, &[TAR], json!({}));
    let config = config.to_string();
    assert!(matches!(resolve(&image, config.as_bytes()), Err(PackageError::Container(_))));
    let decision = resolve_for(&image, config.as_bytes(), true).expect("a file");
    assert_eq!((decision.wasm, decision.why.as_str()), (WasmPlace::File("/app".into()), BY_POD));
    // There is nothing that it could mean.
    let error = resolve_for(&image, b"{}", true).expect_err("no entrypoint");
    assert!(matches!(error, PackageError::Container(_)), "{error}");

    for (key, value, said) in [
        ("module.wasm.image/variant", "compat", true),
        ("module.wasm.image/variant", "compat-smart", true),
        ("run.oci.handler", "wasm", true),
        ("run.oci.handler", "krun", false),
        ("other", "wasm", false),
    ] {
        assert_eq!(says_wasm(|asked| (asked == key).then_some(value)).is_some(), said, "{key}");
    }
}
