//! Which cluster a command means: `--kubeconfig`, `KUBECONFIG`, the default data folder's
//! kubeconfig, `~/.kube/config`, in that order.

use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use kube::{
    Config,
    client::ConfigExt,
    config::{KubeConfigOptions, Kubeconfig},
};
use tower::{BoxError, ServiceBuilder, ServiceExt, util::BoxCloneService};

use crate::cli::{UsageError, default_data_dir};

/// A body that may be a stream; `kube::Client` only sends what is in memory.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// Sends requests with the credentials of a kubeconfig.
pub type Connection = BoxCloneService<Request<Body>, Response<hyper::body::Incoming>, BoxError>;

/// The cluster that is meant.
pub async fn connect(flag: Option<&Path>) -> anyhow::Result<Connection> {
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
    prepare().with_context(|| format!("can't use the credentials of {}", path.display()))
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
