//! What a WebAssembly binary is, told by its bytes: media types and file names lie. Sections are
//! skipped over unread, so a large component costs no memory.

use std::{
    collections::BTreeMap,
    io::{Read, Seek, SeekFrom},
};

use wasmparser::{
    BinaryReader, ComponentExportSectionReader, ComponentImportSectionReader, ExportSectionReader,
    ImportSectionReader,
};

use crate::{PackageError, metadata::annotate};

const MAGIC: &[u8; 4] = b"\0asm";
/// Version and layer, the second half of the preamble (component-model/design/mvp/Binary.md).
const MODULE: [u8; 4] = [1, 0, 0, 0];
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
/// Import and export sections are names and types; larger ones are not honest.
const SECTION_LIMIT_BYTES: u64 = 4 * 1024 * 1024;

/// The outside of a binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    pub sort: Sort,
    /// Component: names of interfaces and functions; module: `module.name`. In the binary's order.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// What it says of itself, as annotations of its image say it.
    pub annotations: BTreeMap<String, String>,
}

impl Inspection {
    /// The version of WASI that it is made for, by the interfaces it names; None where it names none.
    pub fn wasi(&self) -> Option<&'static str> {
        let names = self.imports.iter().chain(&self.exports);
        let has = |found: fn(&str) -> bool| names.clone().any(|name| found(name));
        match self.sort {
            Sort::Module if has(|name| name.starts_with("wasi_snapshot_preview1.")) => {
                Some("preview 1")
            }
            Sort::Module if has(|name| name.starts_with("wasi_unstable.")) => Some("preview 0"),
            Sort::Module => None,
            Sort::Component => {
                let wasi = |version: &str| {
                    names.clone().any(|name| {
                        let of = name.strip_prefix("wasi:").and_then(|name| name.split_once('@'));
                        of.is_some_and(|(_, found)| found.starts_with(version))
                    })
                };
                ["0.3", "0.2"].into_iter().find(|version| wasi(version))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Module,
    Component,
}

impl Sort {
    /// `os` of the artifact's config.
    pub fn os(self) -> &'static str {
        match self {
            Self::Module => "wasip1",
            Self::Component => "wasip2",
        }
    }

    /// (import, export) section ids.
    fn sections(self) -> (u8, u8) {
        match self {
            Self::Module => (2, 7),
            Self::Component => (10, 11),
        }
    }
}

/// Reads the preamble, and the top level's imports, exports and metadata. The rest is not checked:
/// that is the engine's part.
pub fn inspect(wasm: &mut (impl Read + Seek)) -> Result<Inspection, PackageError> {
    let (mut imports, mut exports, mut annotations) = (Vec::new(), Vec::new(), BTreeMap::new());
    let sort = walk(wasm, |sort, id, size, wasm| {
        let (imports_id, exports_id) = sort.sections();
        if id == imports_id || id == exports_id {
            let payload = read_section(wasm, size)?;
            let (names, list) = if id == imports_id {
                (import_names(sort, &payload), &mut imports)
            } else {
                (export_names(sort, &payload), &mut exports)
            };
            list.extend(names.map_err(|error| PackageError::Damaged(error.to_string()))?);
            return Ok(());
        }
        annotate(id, size, wasm, &mut annotations)
    })?;
    Ok(Inspection { sort, imports, exports, annotations })
}

/// Shows each section of the top level: its id, its size in bytes, and the binary at its content, of
/// which the visitor reads what it wants.
pub(crate) fn walk<R: Read + Seek>(
    wasm: &mut R,
    mut visit: impl FnMut(Sort, u8, u64, &mut R) -> Result<(), PackageError>,
) -> Result<Sort, PackageError> {
    let sort = read_sort(wasm)?;
    let end = wasm.seek(SeekFrom::End(0))?;
    let mut at = wasm.seek(SeekFrom::Start(8))?;
    while at < end {
        let mut id = [0];
        wasm.read_exact(&mut id)?;
        let size = read_leb(wasm)?;
        let start = wasm.stream_position()?;
        at = start.saturating_add(size);
        if at > end {
            return Err(PackageError::Damaged(format!(
                "a section at byte {start} ends {} bytes after the file",
                at - end
            )));
        }
        visit(sort, id[0], size, wasm)?;
        wasm.seek(SeekFrom::Start(at))?;
    }
    Ok(sort)
}

fn read_sort(wasm: &mut impl Read) -> Result<Sort, PackageError> {
    let mut head = Vec::with_capacity(8);
    wasm.take(8).read_to_end(&mut head)?;
    let not = |why: &str| Err(PackageError::NotWasm(why.to_owned()));
    let Some((magic, version)) = head.split_at_checked(4).filter(|_| head.len() == 8) else {
        return not(if head.is_empty() { "it is empty" } else { "it is shorter than 8 bytes" });
    };
    match (magic, version) {
        (magic, version) if magic == MAGIC && version == MODULE => Ok(Sort::Module),
        (magic, version) if magic == MAGIC && version == COMPONENT => Ok(Sort::Component),
        (magic, _) if magic == MAGIC => not("its version is unknown"),
        (b"\x7fELF", _) => {
            not("it is native code (ELF); precompiled code is not accepted, give the .wasm file")
        }
        ([b'(', ..], _) => not("it is WebAssembly text; turn it into a binary first"),
        ([0x1f, 0x8b, ..], _) => not("it is gzip data; unpack it first"),
        _ => not("it does not begin with \\0asm"),
    }
}

fn read_section(wasm: &mut impl Read, size: u64) -> Result<Vec<u8>, PackageError> {
    if size > SECTION_LIMIT_BYTES {
        return Err(PackageError::Damaged(format!("an import or export section has {size} bytes")));
    }
    let mut payload = Vec::new();
    wasm.take(size).read_to_end(&mut payload)?;
    Ok(payload)
}

fn import_names(sort: Sort, payload: &[u8]) -> wasmparser::Result<Vec<String>> {
    let reader = BinaryReader::new(payload, 0);
    match sort {
        Sort::Component => ComponentImportSectionReader::new(reader)?
            .into_iter()
            .map(|import| Ok(import?.name.name.to_owned()))
            .collect(),
        Sort::Module => ImportSectionReader::new(reader)?
            .into_imports()
            .map(|import| import.map(|import| format!("{}.{}", import.module, import.name)))
            .collect(),
    }
}

fn export_names(sort: Sort, payload: &[u8]) -> wasmparser::Result<Vec<String>> {
    let reader = BinaryReader::new(payload, 0);
    match sort {
        Sort::Component => ComponentExportSectionReader::new(reader)?
            .into_iter()
            .map(|export| Ok(export?.name.name.to_owned()))
            .collect(),
        Sort::Module => ExportSectionReader::new(reader)?
            .into_iter()
            .map(|export| Ok(export?.name.to_owned()))
            .collect(),
    }
}

/// An unsigned LEB128 number of at most 32 bits.
pub(crate) fn read_leb(wasm: &mut impl Read) -> Result<u64, PackageError> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let mut byte = [0];
        wasm.read_exact(&mut byte)?;
        value |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(PackageError::Damaged("a section's size has too many bytes".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use expect_test::{Expect, expect};

    use super::*;

    fn check(bytes: &[u8], expected: Expect) {
        let text = match inspect(&mut Cursor::new(bytes)) {
            Ok(found) => {
                format!("{:?} imports {:?} exports {:?}", found.sort, found.imports, found.exports)
            }
            Err(error) => error.to_string(),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn told_by_bytes() {
        let module = b"\0asm\x01\0\0\0\
            \x01\x04\x01\x60\0\0\
            \x02\x07\x01\x01a\x01b\0\0\
            \x07\x05\x01\x01c\0\0";
        check(module, expect![[r#"Module imports ["a.b"] exports ["c"]"#]]);
        check(b"\0asm\x0d\0\x01\0", expect!["Component imports [] exports []"]);
        // A component that imports the instance `x:y/z` of the type it declares first.
        let component = b"\0asm\x0d\0\x01\0\
            \x07\x03\x01\x42\0\
            \x0a\x0a\x01\0\x05x:y/z\x05\0";
        check(component, expect![[r#"Component imports ["x:y/z"] exports []"#]]);
    }

    #[test]
    fn says_what_it_is_instead() {
        check(b"", expect!["not a WebAssembly binary: it is empty"]);
        check(b"\0asm", expect!["not a WebAssembly binary: it is shorter than 8 bytes"]);
        check(
            b"\x7fELF\x02\x01\x01\0",
            expect![
                "not a WebAssembly binary: it is native code (ELF); precompiled code is not accepted, give the .wasm file"
            ],
        );
        check(
            b"(module)",
            expect![
                "not a WebAssembly binary: it is WebAssembly text; turn it into a binary first"
            ],
        );
        check(b"#!/bin/sh", expect!["not a WebAssembly binary: it does not begin with \\0asm"]);
        check(b"\0asm\x02\0\0\0", expect!["not a WebAssembly binary: its version is unknown"]);
        check(
            b"\0asm\x01\0\0\0\x02\x7f",
            expect![
                "the WebAssembly binary is damaged: a section at byte 10 ends 127 bytes after the file"
            ],
        );
        check(
            b"\0asm\x01\0\0\0\x02\x02\x05a",
            expect!["the WebAssembly binary is damaged: unexpected end-of-file (at offset 0x2)"],
        );
    }
}
