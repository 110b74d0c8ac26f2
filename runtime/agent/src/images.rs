//! The images of this node as the agent needs them: found, listed, imported. A trait, because the
//! simulation has none on disk.

use std::pin::Pin;

use async_trait::async_trait;
use tokio::io::AsyncRead;
use windlass_runtime_api::{Image, RuntimeError};
use windlass_runtime_image::{ImageError, ImageStore, Listed};

/// Wasm bytes on their way in.
pub type Upload = Pin<Box<dyn AsyncRead + Send>>;

#[async_trait]
pub trait Images: Send + Sync {
    /// The image where it is on this node. The error's reason is what a waiting container shows.
    async fn find(&self, reference: &str) -> Result<Option<Image>, RuntimeError>;

    /// What the Node's status lists.
    async fn list(&self) -> Vec<Listed>;

    /// Takes in at most `bound_bytes` of wasm under a name.
    async fn import(
        &self,
        reference: &str,
        wasm: Upload,
        bound_bytes: u64,
    ) -> Result<Image, ImageError>;
}

#[async_trait]
impl Images for ImageStore {
    async fn find(&self, reference: &str) -> Result<Option<Image>, RuntimeError> {
        let (store, name) = (self.clone(), reference.to_owned());
        // Content is hashed at its first use.
        let found = tokio::task::spawn_blocking(move || store.find(&name)).await;
        match found {
            Ok(Ok(image)) => Ok(image),
            Ok(Err(ImageError::Reference { name, source })) => Err(RuntimeError::new(
                "InvalidImageName",
                format!(
                    "Failed to apply default image tag {name:?}: couldn't parse image name \
                     {name:?}: {source}"
                ),
            )),
            Ok(Err(error)) => Err(RuntimeError::new("ErrImagePull", error.to_string())),
            Err(error) => Err(RuntimeError::new("ErrImagePull", error.to_string())),
        }
    }

    async fn list(&self) -> Vec<Listed> {
        ImageStore::list(self)
    }

    async fn import(
        &self,
        reference: &str,
        wasm: Upload,
        bound_bytes: u64,
    ) -> Result<Image, ImageError> {
        ImageStore::import(self, reference, wasm, bound_bytes).await
    }
}
