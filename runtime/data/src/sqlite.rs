//! SQL databases as SQLite files of the node, one a namespace, application and name. A guest writes
//! any SQL, so what reaches beyond its file is refused while a statement is compiled, and size, memory
//! and time are bounded.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{
    Connection, ErrorCode, InterruptHandle,
    hooks::{AuthAction, AuthContext, Authorization},
    limits::Limit,
    types::{Value, ValueRef},
};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use windlass_runtime_api::{Database, Databases, Sandbox, SqlError, SqlRows, SqlValue};
use windlass_sdk_meta::keyvalue::is_store_name;

/// Connections that guests of one node have open.
const CONNECTIONS: usize = 256;
/// A database file: pages of 4 KiB, 256 MiB together.
const PAGES: u32 = 65_536;
/// Pages that a connection keeps in memory.
const CACHED_PAGES: u32 = 256;
const STATEMENT_TIME: Duration = Duration::from_secs(30);
/// How long a statement waits for another connection's write.
const BUSY_TIME: Duration = Duration::from_secs(5);
/// Of one value, and of a statement's text.
const VALUE_BYTES: i32 = 16 << 20;
const STATEMENT_BYTES: i32 = 1 << 20;
/// Of one answer.
const ROWS: usize = 100_000;
const ANSWER_BYTES: usize = 32 << 20;
/// What a guest may ask or set of its own database.
const PRAGMAS: [&str; 15] = [
    "application_id",
    "data_version",
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// Databases below one folder.
pub struct SqliteFiles {
    folder: PathBuf,
    room: Arc<Semaphore>,
}

impl SqliteFiles {
    /// Only this node writes to the folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, room: Arc::new(Semaphore::new(CONNECTIONS)) }
    }
}

#[async_trait]
impl Databases for SqliteFiles {
    async fn open(
        &self,
        pod: &Sandbox,
        app: &str,
        database: &str,
    ) -> Result<Arc<dyn Database>, SqlError> {
        let room = self.room.clone().try_acquire_owned().map_err(|_| {
            SqlError::Other(format!("the node has {CONNECTIONS} database connections open"))
        })?;
        let folder = self.folder.join("sqlite").join(&pod.namespace).join(file_name(app));
        let file = folder.join(format!("{}.db", file_name(database)));
        let opened = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder).map_err(|error| SqlError::Other(error.to_string()))?;
            connect(&file).map_err(failed)
        });
        let connection = opened.await.map_err(|error| SqlError::Other(error.to_string()))??;
        let interrupt = connection.get_interrupt_handle();
        Ok(Arc::new(Open { connection: Arc::new(Mutex::new(connection)), interrupt, _room: room }))
    }
}

struct Open {
    connection: Arc<Mutex<Connection>>,
    interrupt: InterruptHandle,
    _room: OwnedSemaphorePermit,
}

#[async_trait]
impl Database for Open {
    async fn execute(
        &self,
        statement: String,
        parameters: Vec<SqlValue>,
    ) -> Result<SqlRows, SqlError> {
        let connection = self.connection.clone();
        let mut done =
            tokio::task::spawn_blocking(move || run(&connection.lock(), &statement, parameters));
        let ended = match tokio::time::timeout(STATEMENT_TIME, &mut done).await {
            Ok(ended) => ended,
            Err(_) => {
                self.interrupt.interrupt();
                let _ = done.await;
                let seconds = STATEMENT_TIME.as_secs();
                return Err(SqlError::Other(format!("the statement took longer than {seconds} s")));
            }
        };
        ended.map_err(|error| SqlError::Other(error.to_string()))?
    }
}

/// A guest that is gone needs no answer.
impl Drop for Open {
    fn drop(&mut self) {
        self.interrupt.interrupt();
    }
}

fn connect(file: &std::path::Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(file)?;
    connection.busy_timeout(BUSY_TIME)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "max_page_count", PAGES)?;
    connection.pragma_update(None, "cache_size", CACHED_PAGES)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_LENGTH, VALUE_BYTES),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, STATEMENT_BYTES),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, most)?;
    }
    connection.authorizer(Some(may))?;
    Ok(connection)
}

/// `VACUUM INTO` attaches its target, so it is refused with the rest.
fn may(asked: AuthContext<'_>) -> Authorization {
    match asked.action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => Authorization::Deny,
        AuthAction::Pragma { pragma_name, .. } => {
            let name = pragma_name.to_ascii_lowercase();
            match PRAGMAS.contains(&name.as_str()) {
                true => Authorization::Allow,
                false => Authorization::Deny,
            }
        }
        _ => Authorization::Allow,
    }
}

fn run(
    connection: &Connection,
    statement: &str,
    parameters: Vec<SqlValue>,
) -> Result<SqlRows, SqlError> {
    let mut prepared = connection.prepare(statement).map_err(failed)?;
    let columns: Vec<String> = prepared.column_names().map(str::to_owned).collect();
    let values = parameters.into_iter().map(|value| match value {
        SqlValue::Integer(number) => Value::Integer(number),
        SqlValue::Real(number) => Value::Real(number),
        SqlValue::Text(text) => Value::Text(text),
        SqlValue::Blob(bytes) => Value::Blob(bytes),
        SqlValue::Null => Value::Null,
    });
    let mut found = prepared.query(rusqlite::params_from_iter(values)).map_err(failed)?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next().map_err(failed)? {
        let mut cells = Vec::with_capacity(columns.len());
        for at in 0..columns.len() {
            let value = match row.get_ref(at).map_err(failed)? {
                ValueRef::Null => SqlValue::Null,
                ValueRef::Integer(number) => SqlValue::Integer(number),
                ValueRef::Real(number) => SqlValue::Real(number),
                ValueRef::Text(text) => SqlValue::Text(String::from_utf8_lossy(text).into_owned()),
                ValueRef::Blob(blob) => SqlValue::Blob(blob.to_vec()),
            };
            bytes += match &value {
                SqlValue::Text(text) => text.len(),
                SqlValue::Blob(blob) => blob.len(),
                _ => size_of::<SqlValue>(),
            };
            cells.push(value);
        }
        rows.push(cells);
        if rows.len() > ROWS || bytes > ANSWER_BYTES {
            return Err(SqlError::Other(format!(
                "the answer has more than {ROWS} rows or {ANSWER_BYTES} bytes"
            )));
        }
    }
    Ok(SqlRows { columns, rows })
}

fn failed(error: rusqlite::Error) -> SqlError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => SqlError::Full,
        Some(ErrorCode::AuthorizationForStatementDenied) => SqlError::Other(
            "the statement reaches beyond its database, which is not allowed".into(),
        ),
        _ => SqlError::Other(error.to_string()),
    }
}

/// Names of applications and databases are free; files' names are not.
fn file_name(name: &str) -> String {
    match is_store_name(name) {
        true => name.to_owned(),
        false => {
            let hex = Sha256::digest(name);
            format!("x--{}", hex.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
        }
    }
}
