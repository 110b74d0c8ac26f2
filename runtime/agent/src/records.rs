//! Restart counts and last states, so that they outlive the process. A pod has a file only once one
//! of its containers ended: ten thousand healthy pods leave none.

use std::{collections::BTreeMap, fs, io, path::PathBuf, sync::Arc};

use parking_lot::Mutex;

use crate::state::Record;

/// Where records are kept, by pod uid.
#[derive(Clone)]
pub enum Records {
    /// One JSON file a pod, replaced atomically.
    Dir(PathBuf),
    /// For the simulation, where a "restarted" agent is handed the same map.
    Memory(Arc<Mutex<BTreeMap<String, Record>>>),
}

impl Records {
    /// All records. A file that can't be read is left out and said.
    pub fn load(&self) -> io::Result<BTreeMap<String, Record>> {
        let dir = match self {
            Self::Memory(known) => return Ok(known.lock().clone()),
            Self::Dir(dir) => dir,
        };
        fs::create_dir_all(dir)?;
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(dir)?.flatten() {
            let path = entry.path();
            let Some(uid) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
                Ok(Ok(record)) => {
                    found.insert(uid.to_owned(), record);
                }
                Ok(Err(error)) => {
                    tracing::warn!(path = %path.display(), %error, "record is damaged");
                }
                Err(error) => tracing::warn!(path = %path.display(), %error, "record unread"),
            }
        }
        Ok(found)
    }

    /// A failure is said; the API still has nearly all of it.
    pub fn write(&self, uid: &str, record: &Record) {
        let dir = match self {
            Self::Memory(known) => {
                known.lock().insert(uid.to_owned(), record.clone());
                return;
            }
            Self::Dir(dir) => dir,
        };
        let (part, path) = (dir.join(format!("{uid}.part")), dir.join(format!("{uid}.json")));
        let written = serde_json::to_vec(record)
            .map_err(io::Error::from)
            .and_then(|bytes| fs::write(&part, bytes))
            .and_then(|()| fs::rename(&part, &path));
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "record not written");
        }
    }

    pub fn remove(&self, uid: &str) {
        match self {
            Self::Memory(known) => {
                known.lock().remove(uid);
            }
            Self::Dir(dir) => {
                // Most pods have none.
                let _ = fs::remove_file(dir.join(format!("{uid}.json")));
            }
        }
    }
}
