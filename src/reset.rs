//! `windlass reset`: a data folder and everything in it is removed, if it is one.

use anyhow::Context;

use crate::cli::{ResetArgs, UsageError};

pub fn run(args: &ResetArgs) -> anyhow::Result<()> {
    let folder = &args.data_dir;
    if !folder.join("kubeconfig").is_file() || !folder.join("pki").is_dir() {
        let why =
            format!("{} is no data folder of windlass: nothing was removed", folder.display());
        return Err(UsageError(why).into());
    }
    let _lock = crate::files::lock(folder, "stop that one, or use another --data-dir")?;
    windlass_runtime_agent::remove_volumes(&folder.join("node/volumes"))
        .with_context(|| format!("can't remove the volumes of {}", folder.display()))?;
    windlass_runtime_net::remove_leftovers()
        .context("can't remove the routes that a run with --network routed left behind")?;
    let docker = folder.join("node/docker");
    if docker.is_dir() {
        crate::node::remove_containers(args.docker_host.as_deref(), &docker)?;
    }
    std::fs::remove_dir_all(folder)
        .with_context(|| format!("can't remove {}", folder.display()))?;
    println!("removed {}", folder.display());
    Ok(())
}
