//! A pod's volumes on a node: which files they hold (`plan.rs`, `downward.rs`: pure), and how they
//! get on disk so that a reader never sees half a change (`act.rs`). It knows the pod's types, but
//! no API server, no agent and no runtime: what volumes refer to is fetched beforehand.

mod act;
mod downward;
mod plan;

pub use act::{
    empty_dir, give_to_group, host_path, keep, memory_dir, mount_source, read_inside, remove,
    termination_file, termination_message, used_bytes, write_files,
};
pub use downward::{Facts, field, resource};
pub use plan::{Content, Data, File, Inputs, Needs, TokenAsk, is_read_only, needs, resolve};
