//! Builds a project, pushes the component to the cluster's registry, and deploys it: what
//! `windlass deploy` does, by the library. `cargo run --example ship -- FOLDER NAMESPACE`

use std::{error::Error, fs, time::Duration};

use http::{Request, header::CONTENT_TYPE};
use kube::{
    Client, ResourceExt,
    api::{Api, ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use windlass_sdk_package::{Artifact, MANIFEST_MEDIA_TYPE};
use windlass_sdk_project::{MANAGER, Place, Progress, Project, deployment_progress, objects};

type Done<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Done<()> {
    let mut arguments = std::env::args().skip(1);
    let (folder, namespace) = arguments.next().zip(arguments.next()).ok_or("FOLDER NAMESPACE")?;
    let project = Project::open(folder.as_ref())?;
    let built = project.build(&mut |line| eprintln!("{line}"))?;
    let client = Client::try_default().await?;

    let artifact = Artifact::build(&built.inspection, &built.digest, built.size_bytes);
    let repository = format!("/v2/{namespace}/{}", project.manifest.name);
    let blobs =
        [(fs::read(&built.file)?, &built.digest), (artifact.config, &artifact.config_digest)];
    for (bytes, digest) in blobs {
        let upload = Request::post(format!("{repository}/blobs/uploads/?digest={digest}"));
        client.request_text(upload.body(bytes)?).await?;
    }
    let named = Request::put(format!("{repository}/manifests/{}", artifact.digest))
        .header(CONTENT_TYPE, MANIFEST_MEDIA_TYPE);
    client.request_text(named.body(artifact.manifest)?).await?;

    let image = built.image(&namespace, &project.manifest);
    let place = Place { namespace: namespace.clone(), image: image.clone() };
    for object in objects(&project.manifest, &built.allowed, &place) {
        let object: DynamicObject = serde_json::from_value(object)?;
        let kind =
            GroupVersionKind::try_from(object.types.as_ref().ok_or("an object has a kind")?)?;
        let resource = ApiResource::from_gvk(&kind);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
        let (manager, name) = (PatchParams::apply(MANAGER), object.name_any());
        let mut live = api.patch(&name, &manager, &Patch::Apply(&object)).await?;
        loop {
            match deployment_progress(&serde_json::to_value(&live)?, &[], &image) {
                _ if kind.kind != "Deployment" => break,
                Progress::Done => break,
                Progress::Failed(why) => return Err(why.into()),
                Progress::Waiting(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            live = api.get(&name).await?;
        }
    }
    println!("{image}");
    Ok(())
}
