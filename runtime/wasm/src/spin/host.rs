//! The interfaces of `fermyon:spin@2.0.0` that this node provides: variables, key-value and sqlite.
//! Outgoing HTTP is WASI's. The others (llm, redis, mqtt, mysql, postgres) are not there, and a
//! component that imports them is refused at its start with their names.

use std::sync::Arc;

use wasmtime::component::{Linker, Resource};
use windlass_runtime_api::{Database, KeyValueError, SqlError, SqlValue, check_key, check_value};

use super::variables;
use crate::{
    guest::Guest,
    keyvalue::{self, Bucket, HasView, View},
};

wasmtime::component::bindgen!({
    path: "wit",
    world: "spin",
    imports: { default: async | trappable },
    with: {
        "fermyon:spin/key-value.store": crate::keyvalue::Bucket,
        "fermyon:spin/sqlite.connection": Connection,
    },
});

use fermyon::spin::{
    key_value, sqlite,
    variables::{self as names, Error as VariableError},
};

/// Keys that are listed at once: the interface has no pages.
const KEYS: usize = 10_000;
/// What a statement may be given.
const PARAMETERS: usize = 1000;
/// How the manifest calls the list of databases.
const DATABASES: &str = "sqlite_databases";

/// An open database.
pub struct Connection(Arc<dyn Database>);

pub fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    names::add_to_linker::<Guest, HasView>(linker, Guest::view)?;
    key_value::add_to_linker::<Guest, HasView>(linker, Guest::view)?;
    sqlite::add_to_linker::<Guest, HasView>(linker, Guest::view)
}

impl names::Host for View<'_> {
    async fn get(&mut self, name: String) -> wasmtime::Result<Result<String, VariableError>> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if !name.starts_with(|first: char| first.is_ascii_lowercase()) || !name.bytes().all(plain) {
            let why = format!("{name:?} is no name: lower-case letters, digits and _ make one");
            return Ok(Err(VariableError::InvalidName(why)));
        }
        let found = match &self.container.part {
            Some(part) => part.variables.get(&name).cloned(),
            // A component by itself, outside an application.
            None => {
                let wanted = format!("{}{}", variables::PREFIX, name.to_uppercase());
                let env = self.container.spec.env.iter().rev();
                env.clone().find(|(known, _)| *known == wanted).map(|(_, value)| value.clone())
            }
        };
        Ok(found.ok_or_else(|| VariableError::Undefined(format!("no variable {name:?}"))))
    }
}

type KeyValueAnswer<T> = wasmtime::Result<Result<T, key_value::Error>>;

impl From<KeyValueError> for key_value::Error {
    fn from(error: KeyValueError) -> Self {
        match error {
            KeyValueError::NoSuchStore => Self::NoSuchStore,
            KeyValueError::AccessDenied => Self::AccessDenied,
            KeyValueError::Other(why) => Self::Other(why),
        }
    }
}

impl key_value::Host for View<'_> {}

impl key_value::HostStore for View<'_> {
    async fn open(&mut self, label: String) -> KeyValueAnswer<Resource<Bucket>> {
        Ok(match keyvalue::open(&self.container, &label) {
            Ok(store) => Ok(self.table.push(Bucket(store))?),
            Err(error) => Err(error.into()),
        })
    }

    async fn get(
        &mut self,
        store: Resource<Bucket>,
        key: String,
    ) -> KeyValueAnswer<Option<Vec<u8>>> {
        let store = self.table.get(&store)?.0.clone();
        if let Err(error) = check_key(&key) {
            return Ok(Err(error.into()));
        }
        Ok(match store.get(&key).await {
            Ok(entry) => Ok(entry.map(|entry| entry.value)),
            Err(error) => Err(error.into()),
        })
    }

    async fn set(
        &mut self,
        store: Resource<Bucket>,
        key: String,
        value: Vec<u8>,
    ) -> KeyValueAnswer<()> {
        let store = self.table.get(&store)?.0.clone();
        if let Err(error) = check_key(&key).and_then(|()| check_value(&value)) {
            return Ok(Err(error.into()));
        }
        Ok(store.set(&key, value).await.map_err(Into::into))
    }

    async fn delete(&mut self, store: Resource<Bucket>, key: String) -> KeyValueAnswer<()> {
        let store = self.table.get(&store)?.0.clone();
        if let Err(error) = check_key(&key) {
            return Ok(Err(error.into()));
        }
        Ok(store.delete(&key).await.map_err(Into::into))
    }

    async fn exists(&mut self, store: Resource<Bucket>, key: String) -> KeyValueAnswer<bool> {
        let store = self.table.get(&store)?.0.clone();
        if let Err(error) = check_key(&key) {
            return Ok(Err(error.into()));
        }
        Ok(store.exists(&key).await.map_err(Into::into))
    }

    async fn get_keys(&mut self, store: Resource<Bucket>) -> KeyValueAnswer<Vec<String>> {
        let store = self.table.get(&store)?.0.clone();
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            match store.keys(cursor.as_deref()).await {
                Ok(page) => {
                    all.extend(page.keys);
                    cursor = page.cursor;
                }
                Err(error) => return Ok(Err(error.into())),
            }
            if all.len() > KEYS {
                let why = format!("the store has more than {KEYS} keys");
                return Ok(Err(key_value::Error::Other(why)));
            }
            if cursor.is_none() {
                return Ok(Ok(all));
            }
        }
    }

    async fn drop(&mut self, store: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

type SqlAnswer<T> = wasmtime::Result<Result<T, sqlite::Error>>;

impl From<SqlError> for sqlite::Error {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::NoSuchDatabase => Self::NoSuchDatabase,
            SqlError::AccessDenied => Self::AccessDenied,
            SqlError::Full => Self::DatabaseFull,
            SqlError::Other(why) => Self::Io(why),
        }
    }
}

impl sqlite::Host for View<'_> {}

impl sqlite::HostConnection for View<'_> {
    async fn open(&mut self, database: String) -> SqlAnswer<Resource<Connection>> {
        let part = self.container.part.as_ref();
        let may = part.filter(|part| part.component.sqlite_databases.contains(&database));
        let (Some(part), Some(databases)) = (may, &self.container.data.databases) else {
            self.container.log.note(&format!(
                "the database {database:?} was refused: it is not among the component's {DATABASES}"
            ));
            return Ok(Err(sqlite::Error::AccessDenied));
        };
        let opened = databases.open(&self.container.spec.pod, &part.app_name, &database).await;
        Ok(match opened {
            Ok(connection) => Ok(self.table.push(Connection(connection))?),
            Err(error) => {
                self.container.log.note(&format!("the database {database:?}: {error}"));
                Err(error.into())
            }
        })
    }

    async fn execute(
        &mut self,
        connection: Resource<Connection>,
        statement: String,
        parameters: Vec<sqlite::Value>,
    ) -> SqlAnswer<sqlite::QueryResult> {
        let connection = self.table.get(&connection)?.0.clone();
        if parameters.len() > PARAMETERS {
            let why = format!("a statement has at most {PARAMETERS} parameters");
            return Ok(Err(sqlite::Error::Io(why)));
        }
        let parameters = parameters.into_iter().map(|value| match value {
            sqlite::Value::Integer(number) => SqlValue::Integer(number),
            sqlite::Value::Real(number) => SqlValue::Real(number),
            sqlite::Value::Text(text) => SqlValue::Text(text),
            sqlite::Value::Blob(bytes) => SqlValue::Blob(bytes),
            sqlite::Value::Null => SqlValue::Null,
        });
        let cell = |value| match value {
            SqlValue::Integer(number) => sqlite::Value::Integer(number),
            SqlValue::Real(number) => sqlite::Value::Real(number),
            SqlValue::Text(text) => sqlite::Value::Text(text),
            SqlValue::Blob(bytes) => sqlite::Value::Blob(bytes),
            SqlValue::Null => sqlite::Value::Null,
        };
        Ok(match connection.execute(statement, parameters.collect()).await {
            Ok(found) => Ok(sqlite::QueryResult {
                columns: found.columns,
                rows: found
                    .rows
                    .into_iter()
                    .map(|row| sqlite::RowResult { values: row.into_iter().map(cell).collect() })
                    .collect(),
            }),
            Err(error) => Err(error.into()),
        })
    }

    async fn drop(&mut self, connection: Resource<Connection>) -> wasmtime::Result<()> {
        self.table.delete(connection)?;
        Ok(())
    }
}
