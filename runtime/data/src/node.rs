//! Entries as files of the node: fast, durable on this machine, and not shared with other nodes. A
//! file a key, named by the key's hash, holds the key and the value; it is written beside its place
//! and moved there, so an entry is old or new and never half.

use std::{
    collections::BTreeMap,
    fs, io,
    io::{Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use windlass_runtime_api::{Entry, KeyValueError, KeyValueStore, Keys, VALUE_LIMIT_BYTES, add};

/// Entries and bytes of one store.
const ENTRIES: usize = 10_000;
const BYTES: u64 = 256 << 20;
/// Stores that are open on a node.
const STORES: usize = 10_000;
/// Keys of one page.
const PAGE: usize = 500;

pub(crate) struct Files {
    folder: PathBuf,
    open: Mutex<BTreeMap<(String, String), Arc<Store>>>,
}

impl Files {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder, open: Mutex::default() }
    }

    pub fn open(&self, namespace: &str, store: &str) -> Arc<dyn KeyValueStore> {
        let key = (namespace.to_owned(), store.to_owned());
        let mut open = self.open.lock();
        if open.len() >= STORES {
            open.retain(|_, store| Arc::strong_count(store) > 1);
        }
        let made = || {
            let folder = self.folder.join("keyvalue").join(namespace).join(store);
            Arc::new(Store(Arc::new(Mutex::new(Folder { folder, files: None }))))
        };
        open.entry(key).or_insert_with(made).clone()
    }
}

struct Store(Arc<Mutex<Folder>>);

struct Folder {
    folder: PathBuf,
    /// Size by file name; read from the disk at first use.
    files: Option<BTreeMap<String, u64>>,
}

impl Store {
    /// Files are read and written off the guests' threads, one operation of a store at a time.
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Folder) -> Result<T, KeyValueError> + Send + 'static,
    ) -> Result<T, KeyValueError> {
        let folder = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&mut folder.lock())).await;
        done.unwrap_or_else(|error| Err(KeyValueError::other(error)))
    }
}

#[async_trait]
impl KeyValueStore for Store {
    async fn get(&self, key: &str) -> Result<Option<Entry>, KeyValueError> {
        let key = key.to_owned();
        self.with(move |folder| folder.get(&key)).await
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), KeyValueError> {
        let key = key.to_owned();
        self.with(move |folder| folder.set(&key, &value)).await
    }

    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        let name = file_name(key);
        self.with(move |folder| folder.remove(&name)).await
    }

    async fn keys(&self, cursor: Option<&str>) -> Result<Keys, KeyValueError> {
        let after = cursor.map(str::to_owned);
        self.with(move |folder| folder.keys(after)).await
    }

    async fn swap(
        &self,
        key: &str,
        seen: Option<&Entry>,
        value: Vec<u8>,
    ) -> Result<bool, KeyValueError> {
        let (key, seen) = (key.to_owned(), seen.map(|entry| entry.version.clone()));
        self.with(move |folder| {
            if folder.get(&key)?.map(|entry| entry.version) != seen {
                return Ok(false);
            }
            folder.set(&key, &value).map(|()| true)
        })
        .await
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64, KeyValueError> {
        let key = key.to_owned();
        self.with(move |folder| {
            let seen = folder.get(&key)?;
            let (sum, text) = add(seen.as_ref().map(|entry| entry.value.as_slice()), delta)?;
            folder.set(&key, &text).map(|()| sum)
        })
        .await
    }
}

impl Folder {
    fn files(&mut self) -> Result<&mut BTreeMap<String, u64>, KeyValueError> {
        if self.files.is_none() {
            fs::create_dir_all(&self.folder).map_err(KeyValueError::other)?;
            let mut files = BTreeMap::new();
            for file in fs::read_dir(&self.folder).map_err(KeyValueError::other)?.flatten() {
                let name = file.file_name().to_string_lossy().into_owned();
                match name.starts_with('.') {
                    // What a killed node left.
                    true => drop(fs::remove_file(file.path())),
                    false => {
                        files.insert(name, file.metadata().map_or(0, |about| about.len()));
                    }
                }
            }
            self.files = Some(files);
        }
        Ok(self.files.get_or_insert_default())
    }

    fn get(&mut self, key: &str) -> Result<Option<Entry>, KeyValueError> {
        let name = file_name(key);
        if !self.files()?.contains_key(&name) {
            return Ok(None);
        }
        let (_, version, value) = read(&self.folder.join(&name)).map_err(KeyValueError::other)?;
        Ok(Some(Entry { value, version: version.to_string() }))
    }

    fn set(&mut self, key: &str, value: &[u8]) -> Result<(), KeyValueError> {
        let name = file_name(key);
        let place = self.folder.join(&name);
        let files = self.files()?;
        let others = files.iter().filter(|(other, _)| **other != name).map(|(_, size)| size);
        let (count, bytes) = others.fold((0, 0), |(count, sum), size| (count + 1, sum + size));
        if count >= ENTRIES || bytes + value.len() as u64 > BYTES {
            return Err(KeyValueError::Other(format!(
                "the node's store is full: it holds at most {ENTRIES} entries and {BYTES} bytes"
            )));
        }
        // A file that isn't there, or is damaged, begins anew.
        let version = read(&place).map_or(0, |(_, version, _)| version) + 1;
        let size =
            write(&self.folder, &place, key, version, value).map_err(KeyValueError::other)?;
        self.files()?.insert(name, size);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), KeyValueError> {
        if self.files()?.remove(name).is_some() {
            fs::remove_file(self.folder.join(name)).map_err(KeyValueError::other)?;
            sync(&self.folder).map_err(KeyValueError::other)?;
        }
        Ok(())
    }

    fn keys(&mut self, after: Option<String>) -> Result<Keys, KeyValueError> {
        let files = self.files()?;
        let from = after.unwrap_or_default();
        let mut names = files.keys().filter(|name| **name > from).cloned();
        let page: Vec<String> = names.by_ref().take(PAGE).collect();
        let more = names.next().is_some();
        let keys = page.iter().map(|name| read_key(&self.folder.join(name)));
        Ok(Keys {
            keys: keys.collect::<io::Result<_>>().map_err(KeyValueError::other)?,
            cursor: page.last().filter(|_| more).cloned(),
        })
    }
}

fn file_name(key: &str) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Version (8 bytes), length of the key (4 bytes), both little-endian; the key; the value.
fn write(folder: &Path, place: &Path, key: &str, version: u64, value: &[u8]) -> io::Result<u64> {
    let mut file = NamedTempFile::with_prefix_in(".", folder)?;
    let length = u32::try_from(key.len()).map_err(io::Error::other)?;
    let head = [&version.to_le_bytes()[..], &length.to_le_bytes(), key.as_bytes()].concat();
    file.write_all(&head)?;
    file.write_all(value)?;
    file.as_file().sync_data()?;
    file.persist(place).map_err(|error| error.error)?;
    sync(folder)?;
    Ok((head.len() + value.len()) as u64)
}

/// A renamed file is there after a power loss only once its folder is synced.
fn sync(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}

fn read(place: &Path) -> io::Result<(String, u64, Vec<u8>)> {
    let mut file = fs::File::open(place)?;
    let (key, version) = read_head(&mut file)?;
    let mut value = Vec::new();
    file.take(VALUE_LIMIT_BYTES as u64).read_to_end(&mut value)?;
    Ok((key, version, value))
}

fn read_key(place: &Path) -> io::Result<String> {
    read_head(&mut fs::File::open(place)?).map(|(key, _)| key)
}

fn read_head(file: &mut fs::File) -> io::Result<(String, u64)> {
    let (mut version, mut length) = ([0; 8], [0; 4]);
    file.read_exact(&mut version)?;
    file.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    let mut key = String::new();
    file.take(u64::from(length)).read_to_string(&mut key)?;
    if key.len() != length as usize {
        return Err(io::Error::other("an entry is damaged"));
    }
    Ok((key, u64::from_le_bytes(version)))
}
