//! Which cluster a command means: `--kubeconfig`, `KUBECONFIG`, the default data folder's
//! kubeconfig, `~/.kube/config`, in that order.

use std::path::{Path, PathBuf};

use anyhow::Context;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::cli::{UsageError, default_data_dir};

/// A client of the cluster that is meant.
pub async fn client(flag: Option<&Path>) -> anyhow::Result<Client> {
    let path = kubeconfig(flag)?;
    let kubeconfig = Kubeconfig::read_from(&path)
        .map_err(|why| UsageError(format!("can't read the kubeconfig {}: {why}", path.display())))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|why| UsageError(format!("the kubeconfig {} is of no use: {why}", path.display())))?;
    Client::try_from(config).with_context(|| format!("no client from {}", path.display()))
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
