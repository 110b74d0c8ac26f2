//! Wasm files, damage, what comes with the program.

use std::{fs, io, path::Path};

use tokio::io::AsyncReadExt;
use windlass_runtime_image::{Builtin, ImageError, ImageStore};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const BOUND_BYTES: u64 = 1024;

fn files(dir: &Path) -> usize {
    fs::read_dir(dir).expect("dir").count()
}

#[tokio::test]
async fn imported_images_are_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("dir");
    let store = ImageStore::open(dir.path(), &[]).expect("open");
    assert_eq!(store.find("hello").expect("find"), None);
    let image = store.import("hello", MODULE, BOUND_BYTES).await.expect("import");
    assert_eq!(fs::read(&image.wasm_path).expect("file"), MODULE);
    drop(store);
    let store = ImageStore::open(dir.path(), &[]).expect("open again");
    let found = store.find("hello:latest").expect("find").expect("there");
    assert_eq!((&found.digest, &found.wasm_digest), (&image.digest, &image.wasm_digest));
    let by_digest = format!("hello@{}", image.digest);
    assert_eq!(store.find(&by_digest).expect("find").expect("there").reference, by_digest);
    assert_eq!(store.find(&format!("other@{}", image.digest)).expect("find"), None);
    let listed = store.list();
    assert_eq!((listed.len(), listed[0].names.as_slice()), (1, &["hello:latest".to_owned()][..]));
}

#[tokio::test]
async fn a_cut_or_refused_import_leaves_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let store = ImageStore::open(dir.path(), &[]).expect("open");
    let broken = tokio_test_reader(MODULE);
    let error = store.import("hello", broken, BOUND_BYTES).await.expect_err("interrupted");
    assert!(matches!(error, ImageError::Interrupted(_)), "{error}");
    let error = store.import("hello", MODULE, 7).await.expect_err("too large");
    assert!(matches!(error, ImageError::TooLarge { bound_bytes: 7 }), "{error}");
    let error = store.import("hello", &b"#!/bin/sh"[..], BOUND_BYTES).await.expect_err("no wasm");
    assert!(error.to_string().contains("not a WebAssembly binary"), "{error}");
    let error = store.import("Hello", MODULE, BOUND_BYTES).await.expect_err("name");
    assert!(error.to_string().contains("lowercase"), "{error}");
    assert_eq!(store.find("hello").expect("find"), None);
    assert_eq!(files(&dir.path().join("ingest")), 0);
    assert_eq!(files(&dir.path().join("blobs/sha256")), 0);
    // What a killed process left behind goes at the next start.
    fs::write(dir.path().join("ingest/part"), "x").expect("write");
    ImageStore::open(dir.path(), &[]).expect("open again");
    assert_eq!(files(&dir.path().join("ingest")), 0);
}

/// Gives its bytes, then fails as a broken connection does.
fn tokio_test_reader(bytes: &'static [u8]) -> impl tokio::io::AsyncRead + Unpin {
    struct Broken;
    impl tokio::io::AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }
    bytes.chain(Broken)
}

#[tokio::test]
async fn damaged_content_is_named_and_cured_by_an_import() {
    let dir = tempfile::tempdir().expect("dir");
    let image = {
        let store = ImageStore::open(dir.path(), &[]).expect("open");
        store.import("hello", MODULE, BOUND_BYTES).await.expect("import")
    };
    fs::write(&image.wasm_path, b"\0asm\x0d\0\x01\0").expect("same size, other bytes");
    let store = ImageStore::open(dir.path(), &[]).expect("open again");
    let error = store.find("hello").expect_err("damaged").to_string();
    assert!(error.contains(&image.wasm_path.display().to_string()), "{error}");
    store.import("hello", MODULE, BOUND_BYTES).await.expect("import again");
    assert!(store.find("hello").expect("find").is_some());
    fs::write(dir.path().join("index.json"), "{").expect("write");
    let error = ImageStore::open(dir.path(), &[]).err().expect("damaged index").to_string();
    assert!(error.contains("index.json"), "{error}");
}

#[tokio::test]
async fn builtin_images_follow_the_program_but_not_over_a_persons_own() {
    let dir = tempfile::tempdir().expect("dir");
    let builtin = |wasm| [Builtin { reference: "windlass.dev/hello:v1", wasm }];
    let digest = |store: &ImageStore| {
        store.find("windlass.dev/hello:v1").expect("find").expect("there").wasm_digest
    };
    let first = digest(&ImageStore::open(dir.path(), &builtin(MODULE)).expect("open"));
    let store = ImageStore::open(dir.path(), &builtin(COMPONENT)).expect("newer program");
    assert_ne!(digest(&store), first);
    // The first one's content has no name any more.
    drop(store);
    let store = ImageStore::open(dir.path(), &builtin(COMPONENT)).expect("open");
    assert_eq!(files(&dir.path().join("blobs/sha256")), 3);
    store.import("windlass.dev/hello:v1", MODULE, BOUND_BYTES).await.expect("import");
    drop(store);
    let store = ImageStore::open(dir.path(), &builtin(COMPONENT)).expect("open");
    assert_eq!(digest(&store), first);
}

#[tokio::test]
async fn a_removed_image_takes_along_what_nothing_else_needs() {
    let dir = tempfile::tempdir().expect("dir");
    let builtin = [Builtin { reference: "windlass.dev/hello:v1", wasm: COMPONENT }];
    let store = ImageStore::open(dir.path(), &builtin).expect("open");
    let of_builtin = files(&dir.path().join("blobs/sha256"));
    for name in ["shop/cart:v1", "shop/cart:v2", "shop/till:v1"] {
        store.import(name, MODULE, BOUND_BYTES).await.expect("import");
    }
    assert_eq!(store.remove_image("shop/none:v1").expect("no error"), None);
    let error = store.remove_image("windlass.dev/hello:v1").expect_err("builtin").to_string();
    assert!(error.contains("comes with windlass"), "{error}");
    let removed = store.remove_image("shop/till:v1").expect("no error").expect("it was there");
    assert_eq!((removed.name.as_str(), removed.freed_bytes), ("shop/till:v1", 0));
    assert_eq!(store.find("shop/till:v1").expect("find"), None);
    // By its digest every name of the repository goes, and with the last one the content.
    let by_digest = format!("shop/cart@{}", removed.digest);
    let removed = store.remove_image(&by_digest).expect("no error").expect("it was there");
    assert!(removed.freed_bytes > MODULE.len() as u64);
    for name in ["shop/cart:v1", "shop/cart:v2"] {
        assert_eq!(store.find(name).expect("find"), None);
    }
    assert_eq!(files(&dir.path().join("blobs/sha256")), of_builtin);
    // What was removed comes again.
    store.import("shop/cart:v1", MODULE, BOUND_BYTES).await.expect("import");
    assert!(store.find("shop/cart:v1").expect("find").is_some());
    drop(store);
    let store = ImageStore::open(dir.path(), &builtin).expect("open again");
    assert_eq!(store.list().len(), 2);
}
