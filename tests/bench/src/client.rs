//! A client of the cluster under measurement, over TLS as any other.

use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use windlass_sdk_types::Pod;
use windlass_tests_e2e::Cluster;

/// Must be called inside a tokio runtime.
pub async fn client(cluster: &Cluster) -> anyhow::Result<Client> {
    // Fails where one is installed already, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(cluster.kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// The pods of the namespace `default`.
pub async fn pods(cluster: &Cluster) -> anyhow::Result<Api<Pod>> {
    Ok(Api::default_namespaced(client(cluster).await?))
}
