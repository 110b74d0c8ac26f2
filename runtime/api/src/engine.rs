//! What a runtime with an engine of its own, outside this process, tells beside containers: whether
//! it can be asked, and which images it has.

use crate::Image;

/// Whether a runtime can be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    Ready {
        /// As `containerRuntimeVersion` shows it behind the runtime's name.
        version: String,
        /// What containers lack here, and why: one sentence. None: nothing.
        lacks: Option<String>,
    },
    /// One sentence: what was tried, and what came of it.
    Absent { why: String },
}

impl Availability {
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Ready { .. })
    }
}

/// An image of an engine's own store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineImage {
    pub image: Image,
    /// It came from a registry, which can be asked again.
    pub pulled: bool,
    pub names: Vec<String>,
    pub size_bytes: u64,
}

/// An image that an engine pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledImage {
    pub image: Image,
    pub size_bytes: u64,
}

/// One way to be let in by a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum RegistryAuth {
    Basic { username: String, password: String },
    Token(String),
}

/// Never shows a secret.
impl std::fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic(..)",
            Self::Token(_) => "Token(..)",
        })
    }
}
