//! What each kind is and how its objects may change: one row and one strategy a kind, the generic
//! stages of a write, field ownership, patches, printed columns. Works on JSON trees that live only
//! inside a verb. Knows no HTTP, no store, no async runtime; time and chance come in.

mod addresses;
mod apply;
mod binding;
mod cause;
mod computed;
pub mod conditions;
mod delete;
mod disabled;
pub mod eviction;
mod expression;
mod fieldset;
mod kind;
mod managed;
mod metadata;
pub mod names;
mod ownership;
mod patch;
mod registry;
mod rows;
mod scale;
mod semantic;
mod shown;
mod stages;
mod strategies;
mod strategy;
mod table;
pub mod tree;
mod typed;
mod versions;

pub use apply::{apply, apply_at};
pub use binding::bind;
pub use cause::{Causes, Path};
pub use computed::{Computed, Source, Summary};
pub use delete::{DeleteOptions, Deletion, Preconditions};
pub use expression::{Expression, Sees, Yields};
pub use kind::{Column, GroupVersion, Kind, Selectable, Subresource};
pub use managed::{
    Manager, manager_name, record as record_manager, record_at as record_manager_at,
};
pub use metadata::validate_part as validate_metadata;
pub use names::NameRule;
pub use ownership::{Owned, OwnedItems};
pub use patch::{json_patch, merge_patch};
pub use registry::{Registry, Rows};
pub use scale::{
    apply_config as apply_scale, read as read_scale, table as scale_table, write as write_scale,
    write_owned as write_applied_scale,
};
pub use stages::generated_name_taken;
pub use strategies::{
    apiregistration::{custom_service, group_order, is_kept_service, local_services, service_name},
    authorization::{AskedSelectors, Question, asked_selectors},
    flowcontrol::flow_control_objects,
    scheduling::system_classes,
};
pub use strategy::{Allocator, Context, NODE_PORTS, ScalePaths, Separation, Strategy};
pub use table::{Cells, IncludeObject, human_duration, partial_metadata};
