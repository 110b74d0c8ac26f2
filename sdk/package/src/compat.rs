//! The form for other runtimes: an ordinary image (OCI image spec 1.1) with one layer that holds one
//! file, which is the entrypoint. containerd's runwasi shims and Docker go by the platform, crun and
//! the tools around it by the annotation.

use std::io::Write;

use flate2::{Compression, GzBuilder};
use serde_json::json;

use crate::{
    Inspection, digest,
    oci::{Descriptor, IMAGE_CONFIG_MEDIA_TYPE, MANIFEST_MEDIA_TYPE, Manifest},
};

const LAYER_MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// crun's annotation; `compat-smart` has it look whether the entrypoint is wasm.
const VARIANT: (&str, &str) = ("module.wasm.image/variant", "compat-smart");

/// An image: building it twice from the same bytes gives the same digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compat {
    pub manifest: Vec<u8>,
    /// Of the manifest.
    pub digest: String,
    /// The layer and the config, each with its digest.
    pub blobs: [(Vec<u8>, String); 2],
}

impl Compat {
    /// Packs wasm as `/NAME.wasm`.
    pub fn build(inspection: &Inspection, name: &str, wasm: &[u8]) -> std::io::Result<Self> {
        let path = format!("{name}.wasm");
        let mut header = tar::Header::new_ustar();
        header.set_size(wasm.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(0);
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_data(&mut header, &path, wasm)?;
        let archive = archive.into_inner()?;
        // Neither time nor system, so that the bytes are the same everywhere.
        let mut packed =
            GzBuilder::new().operating_system(255).write(Vec::new(), Compression::default());
        packed.write_all(&archive)?;
        let layer = packed.finish()?;
        let config = json!({
            "created": "1970-01-01T00:00:00Z",
            "architecture": "wasm",
            "os": inspection.sort.os(),
            "config": {"Entrypoint": [format!("/{path}")]},
            "rootfs": {"type": "layers", "diff_ids": [digest(&archive)]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "windlass push --compat"}],
        });
        let blobs = [layer, config.to_string().into_bytes()].map(|bytes| {
            let digest = digest(&bytes);
            (bytes, digest)
        });
        let describe = |media_type: &str, (bytes, digest): &(Vec<u8>, String)| Descriptor {
            media_type: media_type.to_owned(),
            digest: digest.clone(),
            size: bytes.len() as u64,
            ..Descriptor::default()
        };
        let mut annotations = inspection.annotations.clone();
        annotations.insert(VARIANT.0.to_owned(), VARIANT.1.to_owned());
        let manifest = serde_json::to_vec(&Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST_MEDIA_TYPE.to_owned()),
            config: describe(IMAGE_CONFIG_MEDIA_TYPE, &blobs[1]),
            layers: vec![describe(LAYER_MEDIA_TYPE, &blobs[0])],
            annotations,
        })?;
        Ok(Self { digest: digest(&manifest), manifest, blobs })
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::{Form, inspect, resolve};

    #[test]
    fn it_is_an_image_that_nodes_run_too() {
        let wasm = b"\0asm\x0d\0\x01\0";
        let inspection = inspect(&mut std::io::Cursor::new(wasm)).expect("a component");
        let build = || Compat::build(&inspection, "cart", wasm).expect("built");
        let image = build();
        assert_eq!(image, build());
        let manifest: Manifest = serde_json::from_slice(&image.manifest).expect("own form");
        let decision = resolve(&manifest, &image.blobs[1].0).expect("it runs here");
        assert_eq!(decision.form, Form::ContainerImage);
        expect![[r#"Decision { form: ContainerImage, wasm: File("/cart.wasm"), function: "", entrypoint: ["/cart.wasm"], args: [], env: [], working_dir: None, why: "its entrypoint is /cart.wasm", spin: None }"#]].assert_eq(&format!("{decision:?}"));
        expect![[r#"{"created":"1970-01-01T00:00:00Z","architecture":"wasm","os":"wasip2","config":{"Entrypoint":["/cart.wasm"]},"rootfs":{"type":"layers","diff_ids":["sha256:f284bd3f1129d5d2e80e2fedee4dccbcb12f58346b37ff942a9255b678cb3b20"]},"history":[{"created":"1970-01-01T00:00:00Z","created_by":"windlass push --compat"}]}"#]].assert_eq(&String::from_utf8_lossy(&image.blobs[1].0));
    }
}
