//! storage.k8s.io/v1.

mod csi_driver;
mod csi_node;
mod csi_storage_capacity;
mod storage_class;
mod volume_attachment;
mod volume_attributes_class;

pub use csi_driver::CsiDriver;
pub use csi_node::CsiNode;
pub use csi_storage_capacity::CsiStorageCapacity;
pub use storage_class::StorageClass;
pub use volume_attachment::VolumeAttachment;
pub use volume_attributes_class::VolumeAttributesClass;
