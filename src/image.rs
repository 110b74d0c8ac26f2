//! `windlass image`: streams images to the nodes through the API server's node proxy, and asks nodes
//! what theirs are. What a file holds is decided by the node that stores it.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use bytes::Bytes;
use futures::TryStreamExt;
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::{fs::File, io::AsyncReadExt};
use tower::BoxError;

use crate::{
    cli::{ImportArgs, InspectOnNodeArgs, NodesArgs, RemoveArgs, UsageError, runtime},
    connect::{self, Body, Connection},
};

/// Bytes of a file that are read, and sent, at a time.
const CHUNK: usize = 64 * 1024;

/// Reads the file once a node; prints the digest that each node gave it.
pub fn import(args: &ImportArgs) -> anyhow::Result<()> {
    runtime()?.block_on(import_everywhere(args))
}

async fn import_everywhere(args: &ImportArgs) -> anyhow::Result<()> {
    let file = Packed::open(&args.file)?;
    let cluster = connect::connect(args.nodes.kubeconfig.as_deref()).await?;
    let nodes = nodes(&cluster, args.nodes.node.as_deref()).await?;
    for node in nodes {
        let digest = import_on(&cluster, &node, &args.name, file.path())
            .await
            .with_context(|| format!("{} can't be imported on node {node}", args.file.display()))?;
        if args.nodes.json {
            println!("{}", json!({"image": args.name, "digest": digest, "node": node}));
        } else {
            println!("{} ({digest}) is on node {node}", args.name);
        }
    }
    Ok(())
}

/// Prints what images nodes have: a line for each name, or one of JSON for each image.
pub fn list(args: &NodesArgs) -> anyhow::Result<()> {
    runtime()?.block_on(list_everywhere(args))
}

async fn list_everywhere(args: &NodesArgs) -> anyhow::Result<()> {
    let cluster = connect::connect(args.kubeconfig.as_deref()).await?;
    let mut lines = vec![["NODE", "IMAGE", "DIGEST", "BYTES"].map(str::to_owned)];
    for node in nodes(&cluster, args.node.as_deref()).await? {
        let path = format!("/api/v1/nodes/{node}/proxy/images");
        let found = connect::ask(&cluster, Request::get(path).body(connect::nothing())?).await?;
        for mut image in found["images"].as_array().cloned().unwrap_or_default() {
            if args.json {
                image["node"] = node.as_str().into();
                println!("{image}");
                continue;
            }
            for name in image["names"].as_array().into_iter().flatten() {
                let (digest, bytes) = (text(&image["digest"]), image["sizeBytes"].to_string());
                lines.push([node.clone(), text(name), digest, bytes]);
            }
        }
    }
    if !args.json {
        print!("{}", in_columns(&lines));
    }
    Ok(())
}

/// Removes an image from each node that has it; that none has it is an error.
pub fn remove(args: &RemoveArgs) -> anyhow::Result<()> {
    runtime()?.block_on(remove_everywhere(args))
}

async fn remove_everywhere(args: &RemoveArgs) -> anyhow::Result<()> {
    let cluster = connect::connect(args.nodes.kubeconfig.as_deref()).await?;
    let (name, mut absent) = (encoded(&args.name), None);
    let mut is_removed = false;
    for node in nodes(&cluster, args.nodes.node.as_deref()).await? {
        let path = format!("/api/v1/nodes/{node}/proxy/images?name={name}");
        match connect::ask(&cluster, Request::delete(path).body(connect::nothing())?).await {
            Ok(mut removed) if args.nodes.json => {
                removed["node"] = node.as_str().into();
                println!("{removed}");
            }
            Ok(removed) => println!(
                "{} ({}) is no longer on node {node}; {} bytes are free",
                text(&removed["name"]),
                text(&removed["digest"]),
                removed["freedBytes"]
            ),
            Err(refused) if refused.is_not_found() => {
                absent = Some(refused);
                continue;
            }
            Err(refused) => bail!("node {node}: {refused}"),
        }
        is_removed = true;
    }
    match absent.filter(|_| !is_removed) {
        Some(refused) => Err(refused.into()),
        None => Ok(()),
    }
}

/// Lines whose columns begin below each other, as kubectl's do.
fn in_columns<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("   ").trim_end();
        text.push('\n');
    }
    text
}

/// Prints what a node knows of an image.
pub fn inspect(args: &InspectOnNodeArgs) -> anyhow::Result<()> {
    runtime()?.block_on(inspect_somewhere(args))
}

async fn inspect_somewhere(args: &InspectOnNodeArgs) -> anyhow::Result<()> {
    let cluster = connect::connect(args.nodes.kubeconfig.as_deref()).await?;
    let nodes = nodes(&cluster, args.nodes.node.as_deref()).await?;
    let name = encoded(&args.name);
    let mut last = None;
    for node in nodes {
        let path = format!("/api/v1/nodes/{node}/proxy/images/inspect?name={name}");
        match connect::ask(&cluster, Request::get(path).body(connect::nothing())?).await {
            Ok(found) if args.nodes.json => println!("{found}"),
            Ok(found) => {
                let (name, origin) = (text(&found["name"]), text(&found["origin"]));
                println!(
                    "Name:     {name}\nNode:     {node}\nOrigin:   {origin}\n{}",
                    facts(&found)
                );
            }
            Err(error) => {
                last = Some(error.into());
                continue;
            }
        }
        return Ok(());
    }
    Err(last.unwrap_or_else(|| anyhow::anyhow!("the cluster has no Ready node")))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The lines for people about what an image is.
pub fn facts(found: &Value) -> String {
    let list = |value: &Value| {
        let names = value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
        if names.is_empty() { "none".to_owned() } else { names.join("\n          ") }
    };
    format!(
        "Digest:   {}\nWasm:     {} ({} bytes, {})\nDecision: {}\nImports:  {}\nExports:  {}",
        text(&found["digest"]),
        text(&found["wasmDigest"]),
        found["wasmSize"],
        text(&found["sort"]),
        text(&found["why"]),
        list(&found["imports"]),
        list(&found["exports"]),
    )
}

/// What is sent: the person's file, or a tar of their OCI layout folder.
pub enum Packed {
    File(PathBuf),
    Folder(tempfile::NamedTempFile),
}

impl Packed {
    /// A wrong file is told before any cluster is asked.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        use std::io::Read;
        let shown = path.display();
        let wrong = |why: std::io::Error| UsageError(format!("{shown}: {why}"));
        if std::fs::metadata(path).map_err(wrong)?.is_dir() {
            if !path.join("index.json").is_file() {
                let why = format!("{shown} is no OCI layout: it has no index.json");
                return Err(UsageError(why).into());
            }
            let packed = tempfile::NamedTempFile::new()?;
            let mut builder = tar::Builder::new(packed.reopen()?);
            builder.append_dir_all(".", path).with_context(|| format!("{shown} can't be read"))?;
            builder.finish()?;
            return Ok(Self::Folder(packed));
        }
        let mut head = Vec::new();
        std::fs::File::open(path).map_err(wrong)?.take(512).read_to_end(&mut head)?;
        let is_wasm = head.starts_with(b"\0asm");
        let is_archive = head.starts_with(&[0x1f, 0x8b]) || head.get(257..262) == Some(b"ustar");
        if is_wasm || is_archive {
            return Ok(Self::File(path.to_owned()));
        }
        let native = if head.starts_with(b"\x7fELF") {
            "; it is native code, and precompiled code is never loaded"
        } else {
            ""
        };
        let why = format!(
            "{shown} is no WebAssembly and no image archive: it begins neither with \\0asm nor as a \
             tar does{native}"
        );
        Err(UsageError(why).into())
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) => path,
            Self::Folder(packed) => packed.path(),
        }
    }
}

fn encoded(name: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC)
}

/// The node that a person names, or all that can take an image.
async fn nodes(cluster: &Connection, named: Option<&str>) -> anyhow::Result<Vec<String>> {
    match named {
        Some(node) => Ok(vec![node.to_owned()]),
        None => ready_nodes(cluster).await,
    }
}

/// The names of the nodes that can take an image.
pub async fn ready_nodes(cluster: &Connection) -> anyhow::Result<Vec<String>> {
    let request = Request::get("/api/v1/nodes").body(connect::nothing())?;
    let nodes = connect::ask(cluster, request).await?;
    let ready = |node: &&Value| {
        let conditions = node["status"]["conditions"].as_array();
        conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let nodes = nodes["items"].as_array().into_iter().flatten().filter(ready);
    let names: Vec<String> =
        nodes.filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned)).collect();
    if names.is_empty() {
        bail!("the cluster has no Ready node; `kubectl get nodes` says why");
    }
    Ok(names)
}

/// Sends a file to a node as the image `name`; the digest of the image as the node stored it.
pub async fn import_on(
    cluster: &Connection,
    node: &str,
    name: &str,
    file: &Path,
) -> anyhow::Result<String> {
    let file = File::open(file).await?;
    let chunks = futures::stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok::<_, BoxError>((read > 0).then(|| (Bytes::from(chunk), file)))
    });
    let body: Body = StreamBody::new(chunks.map_ok(http_body::Frame::data)).boxed_unsync();
    let name = encoded(name);
    let request = Request::post(format!("/api/v1/nodes/{node}/proxy/images?name={name}"))
        .header("content-type", "application/octet-stream")
        .body(body)?;
    let stored = connect::ask(cluster, request).await?;
    let digest = stored["digest"].as_str().context("the node's answer holds no digest")?;
    Ok(digest.to_owned())
}
