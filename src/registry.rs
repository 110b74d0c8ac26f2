//! `windlass push`, `pull` and `inspect`: WASM to and from any OCI registry, without a cluster. The
//! person is known to a registry as Docker knows them; to the cluster's own (`windlass.local`) as
//! kubectl is known to the cluster.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::{Value, json};
use windlass_runtime_api::Image;
use windlass_runtime_image::{
    Attached, Credentials, IMAGE_LIMIT_BYTES, ImageStore, Inspected, Packing,
};
use windlass_sdk_project::Project;

use crate::{
    bar::Bar,
    cli::{InspectArgs, PullArgs, PushArgs, RegistryArgs, UsageError, runtime},
    cluster_images::ClusterImage,
    connect, files,
    image::{self, Packed},
    node::registries,
    project::{begin, built, told},
};

/// What a file is called while it is looked at.
const OWN_NAME: &str = "file";

/// Pushes a file, or what a project's folder is built to; the last line is the name with its digest.
pub fn push(args: &PushArgs) -> anyhow::Result<()> {
    let bar = Bar::new();
    let registries = registries(args.registry.registries.as_deref())?.with_meter(bar.meter());
    let file = match args.source.is_dir() {
        true => built(&Project::open(&args.source).map_err(told)?)?.file,
        false => args.source.clone(),
    };
    let shown = file.display();
    let wasm = std::fs::read(&file).map_err(|why| UsageError(format!("{shown}: {why}")))?;
    begin(&format!("pushing {shown} to {}", args.name));
    let packing = if args.compat { Packing::Compat } else { Packing::Artifact };
    let pushed = runtime()?.block_on(async {
        if let Some(image) = ClusterImage::of(&args.name)? {
            let cluster = connect::connect(args.registry.kubeconfig.as_deref()).await?;
            return image.push(&cluster, wasm.into(), packing, true, &bar.meter()).await;
        }
        let credentials = Credentials::of_node(&args.name).await;
        let pushed = windlass_runtime_image::push(
            &registries,
            &args.name,
            &credentials,
            wasm.into(),
            packing,
        );
        pushed.await.map_err(anyhow::Error::from)
    })?;
    drop(bar);
    match args.registry.json {
        true => println!(
            "{}",
            json!({"name": args.name, "image": pushed.image, "digest": pushed.digest,
                "size": pushed.size_bytes, "sbom": pushed.bom})
        ),
        false => println!("{}", pushed.image),
    }
    Ok(())
}

/// Writes an image's wasm to a file, whole or not at all.
pub fn pull(args: &PullArgs) -> anyhow::Result<()> {
    let output = args.output.clone().unwrap_or_else(|| file_of(&args.name));
    if output.exists() && !args.force {
        let why = format!("{} is there already: add --force, or --output", output.display());
        return Err(UsageError(why).into());
    }
    let shelf = Shelf::open(&args.registry)?;
    let image = shelf.pull(&args.name)?;
    files::copy_whole(&image.wasm_path, &output)?;
    match args.registry.json {
        true => println!(
            "{}",
            json!({"name": args.name, "digest": image.digest, "wasmDigest": image.wasm_digest,
                "file": output})
        ),
        false => println!("{} ({}) is in {}", args.name, image.digest, output.display()),
    }
    Ok(())
}

/// Tells what a file or an image of a registry is, as a node would, or prints its bill of materials.
pub fn inspect(args: &InspectArgs) -> anyhow::Result<()> {
    let shelf = Shelf::open(&args.registry)?;
    let (name, image) = shelf.take(&args.source)?;
    let mut wasm = std::fs::File::open(&image.wasm_path)?;
    if args.sbom {
        let bom = windlass_sdk_package::bom(&mut wasm)?;
        let bom = bom.with_context(|| format!("{} carries no bill of materials", args.source))?;
        println!("{}", String::from_utf8_lossy(&bom));
        return Ok(());
    }
    let mut found = serde_json::to_value(shelf.inspected(name)?)?;
    found["name"] = args.source.as_str().into();
    found["annotations"] = json!(windlass_sdk_package::inspect(&mut wasm)?.annotations);
    if name != OWN_NAME {
        // Some registries let pull and not list: the image itself is told all the same.
        match shelf.attached(name, &image.digest) {
            Ok(attached) => found["attached"] = json!(attached),
            Err(why) => eprintln!("what is about it can't be listed: {why:#}"),
        }
    }
    match args.registry.json {
        true => println!("{found}"),
        false => println!("Name:     {}\n{}{}", args.source, image::facts(&found), about(&found)),
    }
    Ok(())
}

/// The lines for people about what a binary says of itself, and what is beside its image.
fn about(found: &Value) -> String {
    let said = found["annotations"].as_object().into_iter().flatten();
    let line = |(key, value): (&String, &Value)| {
        let key = key.rsplit('.').next().unwrap_or(key);
        format!("\nSays:     {key} {}", value.as_str().unwrap_or_default())
    };
    let attached = found["attached"].as_array().into_iter().flatten().map(|one| {
        let what = if one["isSignature"] == true { "Signed:  " } else { "Attached:" };
        let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        let note = if one["isSignature"] == true { ", not verified" } else { "" };
        format!("\n{what} {} ({}{note})", text("digest"), text("kind"))
    });
    said.map(line).chain(attached).collect()
}

/// The last part of an image's name, as a file.
fn file_of(name: &str) -> PathBuf {
    let last = name.rsplit('/').next().unwrap_or(name);
    let stem = last.split(['@', ':']).next().unwrap_or(last);
    PathBuf::from(format!("{stem}.wasm"))
}

/// A store of images like a node's, for as long as the command runs.
struct Shelf<'a> {
    store: ImageStore,
    args: &'a RegistryArgs,
    bar: Bar,
    _folder: tempfile::TempDir,
}

impl<'a> Shelf<'a> {
    fn open(args: &'a RegistryArgs) -> anyhow::Result<Self> {
        let bar = Bar::new();
        let registries = registries(args.registries.as_deref())?.with_meter(bar.meter());
        let folder = tempfile::tempdir().context("no room for images")?;
        let store = ImageStore::open_with(folder.path(), &[], registries)?;
        Ok(Self { store, args, bar, _folder: folder })
    }

    fn pull(&self, name: &str) -> anyhow::Result<Image> {
        begin(&format!("pulling {name}"));
        runtime()?.block_on(async {
            if let Some(image) = ClusterImage::of(name)? {
                let cluster = connect::connect(self.args.kubeconfig.as_deref()).await?;
                let fetched = image.fetch(&cluster, &self.bar.meter()).await?;
                let file = tokio::fs::File::open(fetched.path()).await?;
                return Ok(self.store.import(name, file, IMAGE_LIMIT_BYTES).await?);
            }
            let credentials = Credentials::of_node(name).await;
            Ok(self.store.pull(name, &credentials).await?.image)
        })
    }

    /// A file, or an image of a registry; the name that it has here.
    fn take<'b>(&self, source: &'b str) -> anyhow::Result<(&'b str, Image)> {
        match Path::new(source) {
            file if file.exists() => Ok((OWN_NAME, self.import(file)?)),
            _ => Ok((source, self.pull(source)?)),
        }
    }

    /// What the image's registry keeps about it.
    fn attached(&self, name: &str, digest: &str) -> anyhow::Result<Vec<Attached>> {
        runtime()?.block_on(async {
            if let Some(image) = ClusterImage::of(name)? {
                let cluster = connect::connect(self.args.kubeconfig.as_deref()).await?;
                return image.attached(&cluster, digest).await;
            }
            let (registries, credentials) =
                (registries(self.args.registries.as_deref())?, Credentials::of_node(name).await);
            let found = windlass_runtime_image::attached(&registries, name, &credentials, digest);
            found.await.map_err(anyhow::Error::from)
        })
    }

    fn import(&self, file: &Path) -> anyhow::Result<Image> {
        let file = Packed::open(file)?;
        runtime()?.block_on(async {
            let file = tokio::fs::File::open(file.path()).await?;
            self.store.import(OWN_NAME, file, IMAGE_LIMIT_BYTES).await.map_err(anyhow::Error::from)
        })
    }

    fn inspected(&self, name: &str) -> anyhow::Result<Inspected> {
        self.store.inspect(name)?.context("the image is gone from its own folder")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_called_as_its_image() {
        let digest = format!("127.0.0.1:5000/shop/cart@sha256:{}", "0".repeat(64));
        for name in ["cart", "cart:v1", "example.com/shop/cart:v1", &digest] {
            assert_eq!(file_of(name), Path::new("cart.wasm"), "{name}");
        }
    }
}
