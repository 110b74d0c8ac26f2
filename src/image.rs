//! `windlass image import`: streams a WASM file to the nodes through the API server's node proxy.

use anyhow::{Context, bail};
use bytes::Bytes;
use futures::TryStreamExt;
use http::Request;
use http_body_util::{BodyExt, Empty, StreamBody};
use serde_json::{Value, json};
use tokio::{fs::File, io::AsyncReadExt};
use tower::{BoxError, ServiceExt};

use crate::{
    cli::{ImportArgs, UsageError},
    connect::{self, Body, Connection},
};

/// Bytes of a file that are read, and sent, at a time.
const CHUNK: usize = 64 * 1024;

/// Reads the file once a node; prints the digest that each node gave it.
pub fn import(args: &ImportArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(import_everywhere(args))
}

async fn import_everywhere(args: &ImportArgs) -> anyhow::Result<()> {
    check_file(args)?;
    let cluster = connect::connect(args.kubeconfig.as_deref()).await?;
    let nodes = match &args.node {
        Some(node) => vec![node.clone()],
        None => ready_nodes(&cluster).await?,
    };
    for node in nodes {
        let digest = import_on(&cluster, &node, args)
            .await
            .with_context(|| format!("{} can't be imported on node {node}", args.file.display()))?;
        if args.json {
            println!("{}", json!({"image": args.name, "digest": digest, "node": node}));
        } else {
            println!("{} ({digest}) is on node {node}", args.name);
        }
    }
    Ok(())
}

/// A wrong file is told before any cluster is asked.
fn check_file(args: &ImportArgs) -> Result<(), UsageError> {
    use std::io::Read;
    let file = args.file.display();
    let mut magic = [0; 4];
    let mut open =
        std::fs::File::open(&args.file).map_err(|why| UsageError(format!("{file}: {why}")))?;
    match open.read_exact(&mut magic) {
        Ok(()) if magic == *b"\0asm" => Ok(()),
        _ => Err(UsageError(format!("{file} is no WebAssembly: it does not begin with \\0asm"))),
    }
}

async fn ready_nodes(cluster: &Connection) -> anyhow::Result<Vec<String>> {
    let request =
        Request::get("/api/v1/nodes").body(Empty::new().map_err(BoxError::from).boxed_unsync())?;
    let nodes = answer(cluster, request).await?;
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

/// The digest of the image as the node stored it.
async fn import_on(cluster: &Connection, node: &str, args: &ImportArgs) -> anyhow::Result<String> {
    let file = File::open(&args.file).await?;
    let chunks = futures::stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok::<_, BoxError>((read > 0).then(|| (Bytes::from(chunk), file)))
    });
    let body: Body = StreamBody::new(chunks.map_ok(http_body::Frame::data)).boxed_unsync();
    let name =
        percent_encoding::utf8_percent_encode(&args.name, percent_encoding::NON_ALPHANUMERIC);
    let request = Request::post(format!("/api/v1/nodes/{node}/proxy/images?name={name}"))
        .header("content-type", "application/wasm")
        .body(body)?;
    let stored = answer(cluster, request).await?;
    let digest = stored["digest"].as_str().context("the node's answer holds no digest")?;
    Ok(digest.to_owned())
}

/// The JSON of a successful answer; else the message of the `Status`.
async fn answer(cluster: &Connection, request: Request<Body>) -> anyhow::Result<Value> {
    let response = cluster.clone().oneshot(request).await.map_err(anyhow::Error::from_boxed)?;
    let success = response.status().is_success();
    let body = response.into_body().collect().await?.to_bytes();
    let tree: Value = serde_json::from_slice(&body)
        .with_context(|| format!("the answer is no JSON: {:?}", String::from_utf8_lossy(&body)))?;
    if !success {
        bail!("{}", tree["message"].as_str().unwrap_or("refused without a reason"));
    }
    Ok(tree)
}
