//! `windlass image import`: streams a WASM file to the nodes through the API server's node proxy.

use anyhow::{Context, bail};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::Request;
use http_body_util::{BodyExt, StreamBody};
use kube::{Api, Client, api::ListParams, client::Body};
use serde_json::{Value, json};
use tokio::{fs::File, io::AsyncReadExt};
use windlass_sdk_types::api::core::v1::Node;

use crate::{
    cli::{ImportArgs, UsageError},
    connect,
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
    let client = connect::client(args.kubeconfig.as_deref()).await?;
    let nodes = match &args.node {
        Some(node) => vec![node.clone()],
        None => ready_nodes(&client).await?,
    };
    for node in nodes {
        let digest = import_on(&client, &node, args)
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
    let mut open = std::fs::File::open(&args.file).map_err(|why| UsageError(format!("{file}: {why}")))?;
    match open.read_exact(&mut magic) {
        Ok(()) if magic == *b"\0asm" => Ok(()),
        _ => Err(UsageError(format!("{file} is no WebAssembly: it does not begin with \\0asm"))),
    }
}

async fn ready_nodes(client: &Client) -> anyhow::Result<Vec<String>> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let ready = |node: &Node| {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True")
    };
    let names: Vec<String> =
        nodes.items.into_iter().filter(ready).filter_map(|node| node.metadata.name).collect();
    if names.is_empty() {
        bail!("the cluster has no Ready node; `kubectl get nodes` says why");
    }
    Ok(names)
}

/// The digest of the image as the node stored it.
async fn import_on(client: &Client, node: &str, args: &ImportArgs) -> anyhow::Result<String> {
    let file = File::open(&args.file).await?;
    let chunks = futures::stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        std::io::Result::Ok((read > 0).then(|| (Bytes::from(chunk), file)))
    });
    let body = StreamBody::new(chunks.map_ok(http_body::Frame::data).boxed());
    let name = percent_encoding::utf8_percent_encode(&args.name, percent_encoding::NON_ALPHANUMERIC);
    let request = Request::post(format!("/api/v1/nodes/{node}/proxy/images?name={name}"))
        .header("content-type", "application/wasm")
        .body(Body::wrap_body(body))?;
    let response = client.send(request).await?;
    let success = response.status().is_success();
    let answer = response.into_body().collect().await?.to_bytes();
    let answer: Value = serde_json::from_slice(&answer)
        .with_context(|| format!("the node answered {:?}", String::from_utf8_lossy(&answer)))?;
    match answer["digest"].as_str() {
        Some(digest) if success => Ok(digest.to_owned()),
        _ => bail!("{}", answer["message"].as_str().unwrap_or("the node refused it without a reason")),
    }
}
