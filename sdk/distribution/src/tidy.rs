//! What nobody needs goes: uploads that were left, and content that no manifest leads to. Wakes only
//! when something was begun or deleted, and rests when there is nothing left that could have to go.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{Registry, error::Refused};

impl Registry {
    /// Runs until `shutdown`.
    pub async fn keep_tidy(self: Arc<Self>, shutdown: CancellationToken) {
        let tidy = async {
            loop {
                self.untidy.notified().await;
                while self.tidy().await > 0 {
                    // Whatever is left may have to go one pause after the other; a deletion is
                    // looked at at once.
                    let pause = self.limits.upload_idle.min(self.limits.unnamed) / 2;
                    let _ = tokio::time::timeout(pause, self.untidy.notified()).await;
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tidy => {}
        }
    }

    /// Drops what has to go now; returns how much is left that may have to later.
    pub async fn tidy(self: &Arc<Self>) -> usize {
        let uploads = self.uploads.expire(self.limits.upload_idle);
        let links = self.links.expire(self.limits.unnamed);
        let collected = self.blocking(|registry| {
            registry.storage.collect(registry.limits.unnamed).map_err(Refused::from)
        });
        let young = collected.await.unwrap_or_else(|refused| {
            tracing::error!(%refused, "content that nobody needs stays");
            0
        });
        uploads + links + young
    }
}
