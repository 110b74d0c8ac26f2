//! A Spin application as a runtime is given it: everything of its image that says how it runs, with
//! content as files of the node.

use std::path::PathBuf;

/// An application of the HTTP trigger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpinApp {
    pub name: String,
    pub variables: Vec<SpinVariable>,
    pub components: Vec<SpinComponent>,
    pub routes: Vec<SpinRoute>,
}

/// A variable of the application; the pod's `SPIN_VARIABLE_NAME` sets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpinVariable {
    pub name: String,
    /// None: it must be set.
    pub default: Option<String>,
    pub secret: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpinComponent {
    pub id: String,
    pub wasm_digest: String,
    pub wasm_path: PathBuf,
    pub env: Vec<(String, String)>,
    /// A folder that it sees as `/`, read only.
    pub files: Option<PathBuf>,
    /// Its own variables: templates over the application's.
    pub variables: Vec<(String, String)>,
    pub key_value_stores: Vec<String>,
    pub sqlite_databases: Vec<String>,
    /// As the manifest writes them, such as `https://api.example.com:443`; templates too.
    pub allowed_outbound_hosts: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpinRoute {
    pub component: String,
    /// Such as `/users/:id/...`. None: only other components reach it.
    pub route: Option<String>,
}
