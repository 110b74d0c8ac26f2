//! SQL databases of guests, whatever keeps them.

use async_trait::async_trait;
use std::sync::Arc;

use crate::Sandbox;

/// Opens databases: one a namespace, application and name, shared by its pods on this node.
#[async_trait]
pub trait Databases: Send + Sync {
    async fn open(
        &self,
        pod: &Sandbox,
        app: &str,
        database: &str,
    ) -> Result<Arc<dyn Database>, SqlError>;
}

/// One connection.
#[async_trait]
pub trait Database: Send + Sync {
    async fn execute(
        &self,
        statement: String,
        parameters: Vec<SqlValue>,
    ) -> Result<SqlRows, SqlError>;
}

#[derive(Clone, Debug, PartialEq)]
pub enum SqlValue {
    Integer(i64),
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
    Null,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct SqlRows {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<SqlValue>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    #[error("there is no such database")]
    NoSuchDatabase,
    #[error("the database may not be accessed")]
    AccessDenied,
    #[error("the database is full")]
    Full,
    #[error("{0}")]
    Other(String),
}
