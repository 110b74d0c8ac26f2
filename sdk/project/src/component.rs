//! Makes a component of what Go and C build: a module of WASI preview 1 whose handler speaks
//! wasi:http by the canonical ABI. The adapter turns preview 1 into 0.2.

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WIT: &str = include_str!("handler.wit");
const WORLD: &str = "handler";

/// Where the adapter has its own memory from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// It grows the module's: Go's allocator can't be called before its runtime is up, which asks the
    /// adapter for things.
    ByMemory,
    /// It asks the module's allocator, which in C takes all memory that it finds for its own.
    ByAllocator,
}

/// The component of a reactor module that exports a handler.
pub fn of_handler(module: &[u8], growth: Growth) -> Result<Vec<u8>, String> {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("handler.wit", WIT).map_err(told)?;
    let world = resolve.select_world(&[package], Some(WORLD)).map_err(told)?;
    let mut module = module.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(told)?;
    let encoder = ComponentEncoder::default().module(&module).map_err(told)?;
    let encoder = encoder
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
    let by_memory = growth == Growth::ByMemory;
    encoder.map_err(told)?.realloc_via_memory_grow(by_memory).encode().map_err(told)
}

/// An error with its causes.
fn told(error: impl std::fmt::Display) -> String {
    format!("no component can be made of it: {error:#}")
}

/// The line of Go's `runtime/mem_wasm.go` after which memory is grown.
const BEFORE_GROWTH: &str = "\tn = memRound(n)\n";

/// Go's runtime takes for granted that nobody else grows its memory, and would hand out what the
/// adapter has grown for itself. Given its `mem_wasm.go`, this is the same file with a look at the
/// memory's end first: where that has moved, the runtime goes on behind it. None: that isn't how
/// this version of Go grows its memory.
pub fn shared_memory(source: &str) -> Option<String> {
    let known = [
        "bl := bloc\n",
        "growMemory(int32(grow))",
        "func currentMemory() int32",
        "blocMax = bl + n",
    ];
    let is_known = known.iter().all(|part| source.contains(part))
        && source.matches(BEFORE_GROWTH).count() == 1;
    let look = "\tif end := uintptr(currentMemory()) * physPageSize; end != blocMax {\n\
                \t\tbl, bloc, blocMax = end, end, end\n\t}\n";
    is_known.then(|| source.replace(BEFORE_GROWTH, &format!("{BEFORE_GROWTH}{look}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SBRK: &str = "func sbrk(n uintptr) unsafe.Pointer {\n\tbl := bloc\n\tn = memRound(n)\n\t\
        if bl+n > blocMax {\n\t\tsize := growMemory(int32(grow))\n\t\tblocMax = bl + n\n\t}\n}\n\
        func currentMemory() int32\n";

    #[test]
    fn memory_is_looked_at_before_it_is_grown() {
        let patched = shared_memory(SBRK).expect("it is known");
        let (look, grow) = (patched.find("end != blocMax"), patched.find("growMemory"));
        assert!(look.is_some() && look < grow, "{patched}");
        assert_eq!(shared_memory(&SBRK.replace("bl := bloc", "bl := brk")), None);
        assert_eq!(shared_memory(""), None);
    }

    #[test]
    fn what_is_no_module_is_told() {
        let error =
            of_handler(b"\0asm\x01\0\0\0", Growth::ByMemory).expect_err("it exports nothing");
        assert!(error.contains("wasi:http/incoming-handler@0.2.0"), "{error}");
    }
}
