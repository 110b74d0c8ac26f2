//! storagemigration.k8s.io/v1.

mod version_migration;

pub use version_migration::VersionMigration;
