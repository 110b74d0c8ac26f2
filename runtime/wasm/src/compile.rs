//! Compiles each component once: kept linked in memory for the digests in use, and as native code
//! on disk, so that a restarted node doesn't compile again. Loading native code is as good as
//! running it, so only files that this node wrote are loaded, checked against the checksum beside
//! them; a damaged one is compiled anew. Compilation is bounded and of low priority, because a
//! burst of new images must not starve what serves.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::{Engine, Module, Precompiled, component::Component};
use windlass_runtime_api::{Image, RuntimeError};
use windlass_sdk_meta::Clock;

use crate::{
    artifact::{Artifact, CREATE_ERROR, Compiled, is_module},
    guest::Linkers,
};

/// Components being compiled at once; each uses every core as far as it can.
const AT_ONCE: usize = 2;
/// Linked components kept in memory that no container may be using.
const KEPT_IN_MEMORY: usize = 256;
/// Native code on disk, for one version of the engine.
const KEPT_ON_DISK_BYTES: u64 = 4 << 30;
/// Nice level of the threads that compile.
const COMPILE_NICENESS: i32 = 10;

pub struct Compiler {
    engine: Engine,
    linkers: Linkers,
    disk: DiskCache,
    /// Threads that compile, at low priority.
    threads: rayon::ThreadPool,
    turns: Semaphore,
    kept: Mutex<Kept>,
    compiled: AtomicU64,
}

#[derive(Default)]
struct Kept {
    /// Grows with each use; the smallest `used` is the least recent.
    now: u64,
    entries: HashMap<String, Entry>,
}

struct Entry {
    cell: Arc<OnceCell<Artifact>>,
    used: u64,
}

impl Compiler {
    pub fn new(
        engine: Engine,
        linkers: Linkers,
        cache_dir: &Path,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let threads = rayon::ThreadPoolBuilder::new()
            .thread_name(|n| format!("compile-{n}"))
            .start_handler(|_| be_nice(COMPILE_NICENESS))
            .build()
            .map_err(io::Error::other)?;
        let disk = DiskCache::open(cache_dir, &engine, clock)?;
        let turns = Semaphore::new(AT_ONCE);
        let (kept, compiled) = (Mutex::default(), AtomicU64::new(0));
        Ok(Self { engine, linkers, disk, threads, turns, kept, compiled })
    }

    /// The image's component, linked. Callers that want the same one wait for one compilation.
    pub async fn artifact(self: &Arc<Self>, image: &Image) -> Result<Artifact, RuntimeError> {
        // Of one module, images may run different functions.
        let key = format!("{}#{}", image.wasm_digest, image.config.function);
        let cell = self.cell(&key);
        let artifact = cell.get_or_try_init(|| self.load(image)).await;
        if artifact.is_err() {
            self.kept.lock().entries.remove(&key);
        }
        artifact.cloned()
    }

    /// How often this process compiled something rather than found it.
    pub fn compiled(&self) -> u64 {
        self.compiled.load(Relaxed)
    }

    fn cell(&self, key: &str) -> Arc<OnceCell<Artifact>> {
        let mut kept = self.kept.lock();
        kept.now += 1;
        let now = kept.now;
        if kept.entries.len() >= KEPT_IN_MEMORY && !kept.entries.contains_key(key) {
            let oldest = kept.entries.iter().min_by_key(|(_, entry)| entry.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                kept.entries.remove(&oldest);
            }
        }
        let entry = kept
            .entries
            .entry(key.to_string())
            .or_insert_with(|| Entry { cell: Arc::default(), used: now });
        entry.used = now;
        entry.cell.clone()
    }

    async fn load(self: &Arc<Self>, image: &Image) -> Result<Artifact, RuntimeError> {
        let failed = || RuntimeError::new(CREATE_ERROR, "the compiler is being shut down");
        let _turn = self.turns.acquire().await.map_err(|_| failed())?;
        let (done, result) = tokio::sync::oneshot::channel();
        let (compiler, image) = (self.clone(), image.clone());
        self.threads.spawn(move || {
            // Nobody waits any more: what was compiled is on disk.
            let _ = done.send(compiler.load_blocking(&image));
        });
        result.await.map_err(|_| failed())?
    }

    fn load_blocking(&self, image: &Image) -> Result<Artifact, RuntimeError> {
        let compiled = match self.disk.load(&self.engine, &image.wasm_digest) {
            Some(compiled) => compiled,
            None => self.compile(image)?,
        };
        Artifact::link(&image.reference, &image.config.function, &compiled, &self.linkers)
    }

    fn compile(&self, image: &Image) -> Result<Compiled, RuntimeError> {
        let name = &image.reference;
        let refused = |why: String| RuntimeError::new(CREATE_ERROR, format!("image {name} {why}"));
        let bytes = fs::read(&image.wasm_path)
            .map_err(|error| refused(format!("can't be read: {error}")))?;
        let module = is_module(name, &bytes)?;
        let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        if digest != image.wasm_digest {
            let wanted = &image.wasm_digest;
            return Err(refused(format!("is damaged: its bytes are {digest}, not {wanted}")));
        }
        let native = match module {
            true => self.engine.precompile_module(&bytes),
            false => self.engine.precompile_component(&bytes),
        };
        let native = native.map_err(|error| refused(format!("can't be compiled: {error:#}")))?;
        self.compiled.fetch_add(1, Relaxed);
        if let Err(error) = self.disk.store(&digest, &native) {
            tracing::warn!(image = %name, %error, "native code is not cached");
        }
        match self.disk.load(&self.engine, &digest) {
            Some(compiled) => Ok(compiled),
            // The disk is full or gone; what was just compiled still runs.
            None => deserialize(&self.engine, &native).map_err(|error| refused(error.to_string())),
        }
    }
}

/// Native code by digest, in a folder named after the engine that can load it.
struct DiskCache {
    folder: PathBuf,
    clock: Arc<dyn Clock>,
}

impl DiskCache {
    fn open(cache_dir: &Path, engine: &Engine, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let folder = cache_dir.join(compatibility(engine));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        // What other versions of the engine compiled is of no use any more.
        for other in fs::read_dir(cache_dir)?.flatten() {
            if other.path() != folder && other.path().is_dir() {
                let _ = fs::remove_dir_all(other.path());
            }
        }
        Ok(Self { folder, clock })
    }

    fn load(&self, engine: &Engine, digest: &str) -> Option<Compiled> {
        let (code, checksum) = self.paths(digest);
        let expected = fs::read_to_string(&checksum).ok()?;
        let bytes = fs::read(&code).ok()?;
        if hex(&Sha256::digest(&bytes)) != expected.trim() {
            tracing::warn!(path = %code.display(), "cached native code is damaged; compiling anew");
            return None;
        }
        drop(bytes);
        // So that eviction knows what is in use.
        if let Ok(file) = fs::File::open(&code) {
            let _ = file.set_modified(self.clock.now().into());
        }
        match deserialize_file(engine, &code) {
            Ok(compiled) => Some(compiled),
            Err(error) => {
                tracing::warn!(path = %code.display(), %error, "cached native code is unusable");
                None
            }
        }
    }

    /// The checksum comes last: without it the code counts as absent.
    fn store(&self, digest: &str, native: &[u8]) -> io::Result<()> {
        let (code, checksum) = self.paths(digest);
        let _ = fs::remove_file(&checksum);
        write_atomically(&code, native)?;
        write_atomically(&checksum, hex(&Sha256::digest(native)).as_bytes())?;
        self.evict()
    }

    fn paths(&self, digest: &str) -> (PathBuf, PathBuf) {
        let name = digest.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        (self.folder.join(format!("{name}.cwasm")), self.folder.join(format!("{name}.sha256")))
    }

    /// Removes what was not used for the longest time until the rest fits.
    fn evict(&self) -> io::Result<()> {
        let mut files: Vec<_> = fs::read_dir(&self.folder)?
            .flatten()
            .filter(|file| file.path().extension().is_some_and(|ext| ext == "cwasm"))
            .filter_map(|file| {
                let meta = file.metadata().ok()?;
                Some((meta.modified().ok()?, meta.len(), file.path()))
            })
            .collect();
        files.sort();
        let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, bytes, path) in files {
            if total <= KEPT_ON_DISK_BYTES {
                break;
            }
            let _ = fs::remove_file(path.with_extension("sha256"));
            fs::remove_file(&path)?;
            total -= bytes;
        }
        Ok(())
    }
}

/// Changes with everything that native code depends on: wasmtime's version, its settings, the CPU.
fn compatibility(engine: &Engine) -> String {
    use std::hash::{Hash, Hasher};
    struct Hashed(Sha256);
    impl Hasher for Hashed {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hashed = Hashed(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hashed);
    hex(&hashed.0.finalize())[..16].to_string()
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use io::Write;
    let partial = path.with_extension(format!("{:x}.partial", rand_suffix()));
    let mut file =
        fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
    let written = file.write_all(bytes).and_then(|()| fs::rename(&partial, path));
    if written.is_err() {
        let _ = fs::remove_file(&partial);
    }
    written
}

/// Different for each writer in this process and, by its id, among processes.
fn rand_suffix() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    (u64::from(std::process::id()) << 32) | NEXT.fetch_add(1, Relaxed)
}

#[allow(unsafe_code, reason = "the file was written by this node and its checksum was verified")]
fn deserialize_file(engine: &Engine, path: &Path) -> wasmtime::Result<Compiled> {
    // SAFETY: `DiskCache` only names files in a folder that nobody but this user can write, whose
    // bytes match the checksum that was stored when the compiler's output was written.
    unsafe {
        Ok(match Engine::detect_precompiled_file(path)? {
            Some(Precompiled::Module) => Compiled::Module(Module::deserialize_file(engine, path)?),
            _ => Compiled::Component(Component::deserialize_file(engine, path)?),
        })
    }
}

#[allow(unsafe_code, reason = "the bytes come from this engine's compiler, in this process")]
fn deserialize(engine: &Engine, native: &[u8]) -> wasmtime::Result<Compiled> {
    // SAFETY: the only caller passes what the compiler of the same engine returned.
    unsafe {
        Ok(match Engine::detect_precompiled(native) {
            Some(Precompiled::Module) => Compiled::Module(Module::deserialize(engine, native)?),
            _ => Compiled::Component(Component::deserialize(engine, native)?),
        })
    }
}

/// Lowers the priority of the calling thread. The kernel may refuse; then it stays as it is.
pub fn be_nice(level: i32) {
    let _ = rustix::process::setpriority_process(None, level);
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
