//! `windlass deploy`: builds, pushes the image to the cluster's registry, applies what runs it, and
//! follows until it runs or the cluster says why it won't.

use std::time::Duration;

use anyhow::{Context, bail};
use http::{Request, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::Instant};
use tower::BoxError;
use windlass_runtime_image::Packing;
use windlass_sdk_project::{
    Backend, Built, Kind, MANAGED_BY, MANAGER, NAME_LABEL, Place, Progress, Project, changes,
    command_progress, deployment_progress, objects,
};

use crate::{
    bar::Bar,
    cli::{DeployArgs, Format, runtime},
    cluster_images::ClusterImage,
    connect::{self, Body, Connection, Refused},
    project::{self, begin, built, told},
    prune::prune,
};

/// How often the cluster is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the Service's address may take to answer from here. A cluster elsewhere never does.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Lines of a command's log that are shown where it failed, and bytes of it where it didn't.
const LAST_LINES: u32 = 20;
const MOST_LOG_BYTES: u32 = 4 << 20;

pub fn run(args: &DeployArgs) -> anyhow::Result<()> {
    let project = Project::open(&args.folder).map_err(told)?;
    let built = built(&project)?;
    if let Some(format) = args.output {
        let namespace = args.namespace.as_deref().unwrap_or("default").to_owned();
        let image = built.image(&namespace, &project.manifest);
        let place = Place { namespace, image };
        print!("{}", printed(&objects(&project.manifest, &built.allowed, &place), format)?);
        return Ok(());
    }
    runtime()?.block_on(async {
        let (cluster, of_context) =
            connect::connect_in_namespace(args.kubeconfig.as_deref()).await?;
        let namespace = args.namespace.clone().unwrap_or(of_context);
        let image = built.image(&namespace, &project.manifest);
        let place = Place { namespace, image };
        let objects = objects(&project.manifest, &built.allowed, &place);
        let deploy = Deploy { args, cluster, project: &project, place };
        for object in &objects {
            deploy.show_changes(object).await?;
        }
        if args.dry_run {
            return Ok(());
        }
        let image = ClusterImage::of(&built.tagged(&deploy.place.namespace, &project.manifest))?;
        let image = image.context("the image has no name of the cluster's")?;
        // What is pushed from here on is another deployment's to keep or remove.
        let before = image.tags(&deploy.cluster).await.unwrap_or_default();
        deploy.push(&built, &image).await?;
        for object in &objects {
            // A pod's run can't be changed: the one before makes way.
            if kind(object) == "Pod" {
                deploy.remove(&path(object)).await?;
            }
            deploy.apply(object, false).await?;
        }
        let url = match project.manifest.kind {
            Kind::Http => Some(deploy.serve().await?),
            Kind::Command => {
                deploy.complete().await?;
                None
            }
        };
        let pruned = prune(&deploy.cluster, &deploy.place.namespace, &image, before).await;
        if let Err(why) = pruned {
            eprintln!("builds of before stay in the registry: {why:#}");
        }
        if args.json {
            let mut said = project::machine_readable(&project, &built);
            said["namespace"] = deploy.place.namespace.as_str().into();
            said["image"] = deploy.place.image.as_str().into();
            said["url"] = json!(url);
            println!("{said}");
        } else if let Some(url) = url {
            println!("{url}");
        }
        Ok(())
    })
}

/// Manifests as GitOps keeps them.
fn printed(objects: &[Value], format: Format) -> anyhow::Result<String> {
    let mut text = String::new();
    for object in objects {
        text += &match format {
            Format::Yaml => format!("---\n{}", serde_yaml_ng::to_string(object)?),
            Format::Json => format!("{object:#}\n"),
        };
    }
    Ok(text)
}

struct Deploy<'a> {
    args: &'a DeployArgs,
    cluster: Connection,
    project: &'a Project,
    place: Place,
}

impl Deploy<'_> {
    /// Says on stderr what the object's apply will change, as the server sees it.
    async fn show_changes(&self, object: &Value) -> anyhow::Result<()> {
        let shown = format!("{} {}/{}", kind(object), self.place.namespace, name(object));
        let Some(live) = self.get(&path(object)).await? else {
            self.apply(object, true).await?;
            eprintln!("{shown}: created");
            return Ok(());
        };
        if kind(object) == "Pod" {
            if live["metadata"]["labels"][MANAGED_BY] != MANAGER {
                bail!("{shown} is there, and not made by `windlass deploy`: rename the component");
            }
            eprintln!("{shown}: runs again");
            return Ok(());
        }
        let changes = changes(&live, &self.apply(object, true).await?);
        let what = if changes.is_empty() { "unchanged" } else { "changed" };
        eprintln!("{shown}: {what}");
        for line in changes {
            eprintln!("  {line}");
        }
        Ok(())
    }

    /// To the cluster's registry, from where each node has it.
    async fn push(&self, built: &Built, image: &ClusterImage) -> anyhow::Result<()> {
        begin(&format!("pushing {}", image.name()));
        let wasm = std::fs::read(&built.file)
            .with_context(|| format!("{} can't be read", built.file.display()))?;
        let bar = Bar::new();
        let meter = bar.meter();
        let pushed =
            image.push(&self.cluster, wasm.into(), Packing::Artifact, false, &meter).await?;
        match pushed.image == self.place.image {
            true => Ok(()),
            false => bail!("{} changed while it was deployed: deploy again", built.file.display()),
        }
    }

    /// Server-side; the object as the server has it then.
    async fn apply(&self, object: &Value, dry_run: bool) -> anyhow::Result<Value> {
        let mut query = format!("fieldManager={MANAGER}&fieldValidation=Strict");
        query += if dry_run { "&dryRun=All" } else { "" };
        query += if self.args.force_conflicts { "&force=true" } else { "" };
        let body = Full::new(object.to_string().into()).map_err(BoxError::from).boxed_unsync();
        let request = Request::patch(format!("{}?{query}", path(object)))
            .header(CONTENT_TYPE, "application/apply-patch+yaml")
            .body(body)?;
        let applied = connect::ask(&self.cluster, request).await;
        applied.map_err(|refused| {
            let hint = if refused.is_conflict() {
                " (--force-conflicts takes those fields over)"
            } else {
                ""
            };
            anyhow::anyhow!(
                "the cluster refused {} {}: {refused}{hint}",
                kind(object),
                name(object)
            )
        })
    }

    /// Follows the rollout; the URL that answers.
    async fn serve(&self) -> anyhow::Result<String> {
        let name = &self.project.manifest.name;
        if let Some(backend) = &self.project.manifest.backend {
            self.roll_out(&Backend::name(name), &backend.image).await?;
        }
        self.roll_out(name, &self.place.image).await?;
        let service = self.found(&format!("/api/v1{}/services/{name}", self.below())).await?;
        let address =
            service["spec"]["clusterIP"].as_str().context("the Service has no address")?;
        let address = format!("{address}:{}", self.project.manifest.run.port);
        // The node's proxy hears of the pods a moment after the Deployment is available.
        let answers = async {
            while TcpStream::connect(&address).await.is_err() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        if self.project.manifest.run.replicas > 0
            && tokio::time::timeout(ANSWERS_WITHIN, answers).await.is_err()
        {
            eprintln!("{address} is an address of the cluster, which this machine doesn't reach");
        }
        Ok(format!("http://{address}/"))
    }

    /// Follows a Deployment until its pods with this image are available.
    async fn roll_out(&self, name: &str, image: &str) -> anyhow::Result<()> {
        let deployment = format!("/apis/apps/v1{}/deployments/{name}", self.below());
        let selector = format!("{NAME_LABEL}={name}");
        let selector = utf8_percent_encode(&selector, NON_ALPHANUMERIC);
        let pods = format!("/api/v1{}/pods?labelSelector={selector}", self.below());
        let look = async || {
            let deployment = self.found(&deployment).await?;
            let pods = self.found(&pods).await?;
            let pods = pods["items"].as_array().map(Vec::as_slice).unwrap_or_default();
            Ok(deployment_progress(&deployment, pods, image))
        };
        self.follow(name, look).await
    }

    /// Follows a command to its end; its log goes to stdout.
    async fn complete(&self) -> anyhow::Result<()> {
        let pod = format!("/api/v1{}/pods/{}", self.below(), self.project.manifest.name);
        let look = async || Ok(command_progress(&self.found(&pod).await?));
        let ended = self.follow(&self.project.manifest.name, look).await;
        let limit = match &ended {
            Ok(()) => format!("limitBytes={MOST_LOG_BYTES}"),
            Err(_) => format!("tailLines={LAST_LINES}"),
        };
        let request = Request::get(format!("{pod}/log?{limit}")).body(connect::nothing())?;
        let log = connect::ask_raw(&self.cluster, request).await;
        let log = log.ok().filter(|(status, _)| status.is_success()).map(|(_, log)| log);
        let log = String::from_utf8_lossy(log.as_deref().unwrap_or_default()).into_owned();
        if ended.is_ok() && !self.args.json {
            print!("{log}");
        } else {
            eprint!("{log}");
        }
        ended
    }

    /// Asks until it is done, won't be done, or the time is over.
    async fn follow(
        &self,
        name: &str,
        look: impl AsyncFn() -> anyhow::Result<Progress>,
    ) -> anyhow::Result<()> {
        begin(&format!("waiting for {name}"));
        let deadline = Instant::now() + Duration::from_secs(self.args.timeout);
        loop {
            match look().await? {
                Progress::Done => return Ok(()),
                Progress::Failed(why) => bail!("{name} does not run: {why}"),
                Progress::Waiting(why) if Instant::now() > deadline => {
                    bail!("{name} does not run after {} s: {why}", self.args.timeout)
                }
                Progress::Waiting(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Deletes an object and waits until it is gone.
    async fn remove(&self, path: &str) -> anyhow::Result<()> {
        let request = Request::delete(path).body(connect::nothing())?;
        match connect::ask(&self.cluster, request).await {
            Err(refused) if !refused.is_not_found() => return Err(refused.into()),
            _ => {}
        }
        let deadline = Instant::now() + Duration::from_secs(self.args.timeout);
        while self.get(path).await?.is_some() {
            if Instant::now() > deadline {
                bail!("the run before is not gone after {} s", self.args.timeout);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn get(&self, path: &str) -> anyhow::Result<Option<Value>> {
        match self.ask(path).await {
            Ok(found) => Ok(Some(found)),
            Err(refused) if refused.is_not_found() => Ok(None),
            Err(refused) => Err(refused.into()),
        }
    }

    async fn found(&self, path: &str) -> anyhow::Result<Value> {
        Ok(self.ask(path).await?)
    }

    async fn ask(&self, path: &str) -> Result<Value, Refused> {
        let request: Request<Body> =
            Request::get(path).body(connect::nothing()).map_err(anyhow::Error::from)?;
        connect::ask(&self.cluster, request).await
    }

    /// The part of a path that names the namespace.
    fn below(&self) -> String {
        format!("/namespaces/{}", self.place.namespace)
    }
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

/// Where the object is in the API: the kinds that `objects` makes.
fn path(object: &Value) -> String {
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    let (root, resource) = match kind(object) {
        "Deployment" => ("/apis/apps/v1", "deployments"),
        "Service" => ("/api/v1", "services"),
        _ => ("/api/v1", "pods"),
    };
    format!("{root}/namespaces/{namespace}/{resource}/{}", name(object))
}
