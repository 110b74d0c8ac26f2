//! Which cluster a command means: `--kubeconfig`, `KUBECONFIG`, the default data folder's
//! kubeconfig, `~/.kube/config`, in that order.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use kube::{
    Config,
    client::ConfigExt,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;
use tower::{BoxError, ServiceBuilder, ServiceExt, util::BoxCloneService};

use crate::cli::{UsageError, default_data_dir};

/// A body that may be a stream; `kube::Client` only sends what is in memory.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// Sends requests with the credentials of a kubeconfig.
pub type Connection = BoxCloneService<Request<Body>, Response<hyper::body::Incoming>, BoxError>;

/// The cluster that is meant.
pub async fn connect(flag: Option<&Path>) -> anyhow::Result<Connection> {
    Ok(connect_in_namespace(flag).await?.0)
}

/// The same, with the namespace that its kubeconfig's context names.
pub async fn connect_in_namespace(flag: Option<&Path>) -> anyhow::Result<(Connection, String)> {
    let path = kubeconfig(flag)?;
    let kubeconfig = Kubeconfig::read_from(&path).map_err(|why| {
        UsageError(format!("can't read the kubeconfig {}: {why}", path.display()))
    })?;
    let config =
        Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(
            |why| UsageError(format!("the kubeconfig {} is of no use: {why}", path.display())),
        )?;
    let prepare = || -> kube::Result<Connection> {
        let https = config.rustls_https_connector()?;
        let client = Client::builder(TokioExecutor::new()).build(https);
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer()?)
            .map_err(BoxError::from)
            .service(client);
        Ok(service.boxed_clone())
    };
    let connection = prepare();
    let connection =
        connection.with_context(|| format!("can't use the credentials of {}", path.display()))?;
    Ok((connection, config.default_namespace))
}

/// A body of nothing.
pub fn nothing() -> Body {
    Empty::new().map_err(BoxError::from).boxed_unsync()
}

/// The JSON of an answer.
pub async fn ask(cluster: &Connection, request: Request<Body>) -> Result<Value, Refused> {
    let (status, body) = ask_raw(cluster, request).await?;
    let tree = serde_json::from_slice::<Value>(&body)
        .with_context(|| format!("the answer is no JSON: {:?}", String::from_utf8_lossy(&body)))?;
    if status.is_success() {
        return Ok(tree);
    }
    let message = tree["message"].as_str().unwrap_or("refused without a reason");
    Err(Refused::Status { status, message: message.to_owned() })
}

/// Status and body of an answer, whatever they are.
pub async fn ask_raw(
    cluster: &Connection,
    request: Request<Body>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let response = cluster.clone().oneshot(request).await.map_err(anyhow::Error::from_boxed)?;
    let status = response.status();
    Ok((status, response.into_body().collect().await?.to_bytes()))
}

/// Why there is no answer to go on with.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The cluster's own words.
    #[error("{message}")]
    Status { status: StatusCode, message: String },
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl Refused {
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Status { status, .. } if *status == StatusCode::CONFLICT)
    }
}

fn kubeconfig(flag: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = flag {
        return Ok(path.to_owned());
    }
    if let Some(path) = std::env::var_os("KUBECONFIG").filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let usual = [default_data_dir().join("kubeconfig"), home.join(".kube/config")];
    let known = usual.iter().find(|path| path.is_file()).cloned();
    known.ok_or_else(|| {
        let hint = "no cluster: start one with `windlass up`, or name a kubeconfig by --kubeconfig";
        UsageError(hint.into()).into()
    })
}
