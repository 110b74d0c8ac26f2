//! `windlass up --demo`: deploys examples/hello as a person would, and says how to go on.

use std::{path::Path, time::Duration};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::net::TcpStream;
use windlass_sdk_client::Api;
use windlass_sdk_types::{Deployment, Kind, Service};

const DEPLOYMENT: &str = include_str!("../examples/hello/deployment.yaml");
const SERVICE: &str = include_str!("../examples/hello/service.yaml");
const NAMESPACE: &str = "default";
/// How long the demo may take to be available, and how often that is looked at.
const DEADLINE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Deploys what isn't there yet; a demo that somebody changed stays as it is.
pub async fn deploy(api: &Api, kubeconfig: &Path) -> anyhow::Result<()> {
    create::<Deployment>(api, DEPLOYMENT).await?;
    create::<Service>(api, SERVICE).await?;
    let available = async {
        while !is_available(&api.get::<Deployment>(NAMESPACE, "hello").await?) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        anyhow::Ok(())
    };
    match tokio::time::timeout(DEADLINE, available).await {
        Ok(result) => result?,
        Err(_) => bail!("the demo is not available: `kubectl describe pods` says why"),
    }
    let service: Service = api.get(NAMESPACE, "hello").await?;
    let spec = service.spec.context("a service has a spec")?;
    let port = spec.ports.iter().flatten().next().context("the demo's service has a port")?.port;
    let address = spec.cluster_ip.context("the demo's service has an address")?;
    // The node's proxy hears of the endpoints a moment after the deployment is available.
    let answers = async {
        while TcpStream::connect(format!("{address}:{port}")).await.is_err() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(DEADLINE, answers).await.is_err() {
        bail!("the demo's service {address}:{port} takes no connections: the log says why");
    }
    println!(
        "
The demo microservice answers:

  curl http://{address}:{port}/

Go on with:

  export KUBECONFIG={}
  kubectl get pods -o wide
  kubectl scale deployment/hello --replicas=5
  kubectl set image deployment/hello hello=windlass.dev/hello:v2
  kubectl logs -f deployment/hello",
        kubeconfig.display()
    );
    Ok(())
}

async fn create<K: Kind>(api: &Api, manifest: &str) -> anyhow::Result<()> {
    let mut tree: Value = serde_yaml_ng::from_str(manifest)?;
    tree["metadata"]["namespace"] = NAMESPACE.into();
    match api.create(&K::decode(&serde_json::to_vec(&tree)?)?).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_already_exists() => Ok(()),
        Err(error) => Err(error).context("the demo can't be deployed"),
    }
}

fn is_available(deployment: &Deployment) -> bool {
    let status = deployment.status.as_ref();
    let wanted = deployment.spec.replicas;
    status.and_then(|status| status.available_replicas) >= wanted
}
