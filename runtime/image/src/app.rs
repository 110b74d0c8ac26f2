//! What a runtime is given of an image. For a Spin application that is more than one wasm file: its
//! components, and for each the folder with its files, which is made when it is first asked for.

use std::{collections::BTreeSet, fs, path::PathBuf, sync::Arc};

use windlass_runtime_api::{self as api, Image, ImageConfig, Nature};
use windlass_sdk_package::{SpinApp, SpinComponent, SpinFile};

use crate::{
    error::ImageError,
    settle::Settled,
    store::{IMAGE_LIMIT_BYTES, ImageStore},
    tree,
};

impl ImageStore {
    /// What a runtime is given of an image; the files of a Spin application are put where its
    /// components will see them.
    pub(crate) fn image(
        &self,
        reference: &str,
        digest: &str,
        settled: &Settled,
    ) -> Result<Image, ImageError> {
        let decision = &settled.decision;
        let app = decision.spin.as_ref().map(|app| self.spin_app(app, settled)).transpose()?;
        Ok(Image {
            reference: reference.to_owned(),
            nature: Nature::Wasm,
            digest: digest.to_owned(),
            wasm_digest: settled.wasm_digest.clone(),
            wasm_path: self.blob(&settled.wasm_digest),
            config: ImageConfig {
                entrypoint: decision.entrypoint.clone(),
                args: decision.args.clone(),
                env: decision.env.clone(),
                working_dir: decision.working_dir.clone(),
                function: decision.function.clone(),
                spin: app.map(Arc::new),
                why: settled.why.clone(),
            },
        })
    }

    fn spin_app(&self, app: &SpinApp, settled: &Settled) -> Result<api::SpinApp, ImageError> {
        let component = |of: &SpinComponent| {
            Ok(api::SpinComponent {
                id: of.id.clone(),
                wasm_digest: of.digest.clone(),
                wasm_path: self.blob(&of.digest),
                env: of.env.clone(),
                files: self.tree(&of.files, settled)?,
                variables: of.variables.clone(),
                key_value_stores: of.key_value_stores.clone(),
                sqlite_databases: of.sqlite_databases.clone(),
                allowed_outbound_hosts: of.allowed_outbound_hosts.clone(),
            })
        };
        let variables = app.variables.iter().map(|of| api::SpinVariable {
            name: of.name.clone(),
            default: of.default.clone(),
            secret: of.secret,
        });
        let routes = app
            .routes
            .iter()
            .map(|of| api::SpinRoute { component: of.component.clone(), route: of.route.clone() });
        Ok(api::SpinApp {
            name: app.name.clone(),
            variables: variables.collect(),
            components: app.components.iter().map(component).collect::<Result<_, ImageError>>()?,
            routes: routes.collect(),
        })
    }

    /// The folder with a component's files, made where it isn't there.
    fn tree(&self, files: &[SpinFile], settled: &Settled) -> Result<Option<PathBuf>, ImageError> {
        if files.is_empty() {
            return Ok(None);
        }
        let to = self.0.dir.join("trees").join(tree::name(files));
        if !to.is_dir() {
            let places = |digest: &str| Some(self.blob(digest)).filter(|path| path.is_file());
            let archives: Vec<PathBuf> =
                settled.archives.iter().map(|digest| self.blob(digest)).collect();
            let staging = self.staging()?;
            tree::build(files, &archives, &places, &staging, &to, IMAGE_LIMIT_BYTES)?;
        }
        Ok(Some(to))
    }

    pub(crate) fn remove_unused_trees(&self) {
        let mut used = BTreeSet::new();
        for top in self.tops() {
            let kept = fs::read(self.settled_path(&top, false)).ok();
            let settled = kept.and_then(|bytes| serde_json::from_slice::<Settled>(&bytes).ok());
            for app in settled.into_iter().filter_map(|settled| settled.decision.spin) {
                used.extend(app.components.iter().map(|component| tree::name(&component.files)));
            }
        }
        let Ok(trees) = fs::read_dir(self.0.dir.join("trees")) else { return };
        for folder in trees.flatten() {
            if !used.contains(&*folder.file_name().to_string_lossy())
                && let Err(error) = fs::remove_dir_all(folder.path())
            {
                tracing::warn!(path = %folder.path().display(), %error, "unused files stay");
            }
        }
    }
}
