//! What a binary says of itself in custom sections, and what of that an image's manifest repeats as
//! annotations (OCI image-spec 1.1, annotations.md). Names of sections are those that wasm-tools and
//! wkg write; the bill of materials has no agreed one, so it has the name of a file that holds one.

use std::{
    collections::BTreeMap,
    io::{Read, Seek},
};

use wasmparser::{
    BinaryReader, ComponentName, ComponentNameSectionReader, Name, NameSectionReader,
    ProducersSectionReader,
};

use crate::{
    PackageError,
    binary::{read_leb, walk},
};

/// The section with the bill of materials: CycloneDX, as JSON.
pub const BOM_SECTION: &str = "bom.cdx.json";
/// What a bill of materials is called as an artifact of a registry.
pub const BOM_MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";

/// Sections that hold one text, and the annotations of the same meaning.
const TEXTS: [(&str, &str); 7] = [
    ("authors", "org.opencontainers.image.authors"),
    ("description", "org.opencontainers.image.description"),
    ("homepage", "org.opencontainers.image.url"),
    ("licenses", "org.opencontainers.image.licenses"),
    ("revision", "org.opencontainers.image.revision"),
    ("source", "org.opencontainers.image.source"),
    ("version", "org.opencontainers.image.version"),
];
const TITLE: &str = "org.opencontainers.image.title";
/// Fields of the section `producers`, and annotations of our own for them.
const PRODUCERS: [(&str, &str); 2] =
    [("language", "dev.windlass.language"), ("processed-by", "dev.windlass.toolchain")];

/// A longer text is no annotation; more of a name or a list of tools is not looked at.
const TEXT_LIMIT_BYTES: u64 = 4 << 10;
const NAMES_LIMIT_BYTES: u64 = 1 << 20;
const BOM_LIMIT_BYTES: u64 = 16 << 20;

/// Puts a custom section at a binary's end.
pub fn append_section(wasm: &mut Vec<u8>, name: &str, content: &[u8]) {
    let mut named = leb(name.len());
    named.extend(name.bytes());
    wasm.push(0);
    wasm.extend(leb(named.len() + content.len()));
    wasm.extend(named);
    wasm.extend(content);
}

/// The bill of materials that a binary carries; None where it carries none.
///
/// # Errors
/// Bytes that are no binary, and a bill of more than 16 MiB.
pub fn bom(wasm: &mut (impl Read + Seek)) -> Result<Option<Vec<u8>>, PackageError> {
    let mut found = None;
    walk(wasm, |_, id, size, wasm| {
        let Some((name, rest)) = custom(id, size, wasm)? else { return Ok(()) };
        if name != BOM_SECTION {
            return Ok(());
        }
        if rest > BOM_LIMIT_BYTES {
            return Err(PackageError::Damaged(format!("its bill of materials has {rest} bytes")));
        }
        found = Some(read(wasm, rest)?);
        Ok(())
    })?;
    Ok(found)
}

/// Adds what a custom section says to the annotations. One that can't be read says nothing.
pub(crate) fn annotate(
    id: u8,
    size: u64,
    wasm: &mut (impl Read + Seek),
    to: &mut BTreeMap<String, String>,
) -> Result<(), PackageError> {
    let Some((name, rest)) = custom(id, size, wasm)? else { return Ok(()) };
    let text = TEXTS.iter().find(|(section, _)| *section == name);
    let limit = if text.is_some() { TEXT_LIMIT_BYTES } else { NAMES_LIMIT_BYTES };
    let is_known = text.is_some() || ["name", "component-name", "producers"].contains(&&*name);
    if !is_known || rest > limit {
        return Ok(());
    }
    let content = read(wasm, rest)?;
    if let Some((_, annotation)) = text {
        to.extend(String::from_utf8(content).ok().map(|text| ((*annotation).to_owned(), text)));
        return Ok(());
    }
    match &*name {
        "producers" => to.extend(producers(&content).unwrap_or_default()),
        name => to.extend(title(name, &content).map(|title| (TITLE.to_owned(), title))),
    }
    Ok(())
}

/// The name of a custom section and the bytes that follow it; None: it is another section.
fn custom(
    id: u8,
    size: u64,
    wasm: &mut (impl Read + Seek),
) -> Result<Option<(String, u64)>, PackageError> {
    if id != 0 {
        return Ok(None);
    }
    let start = wasm.stream_position()?;
    let length = read_leb(wasm)?;
    let head = wasm.stream_position()? - start + length;
    if head > size || length > TEXT_LIMIT_BYTES {
        return Ok(None);
    }
    let name = String::from_utf8(read(wasm, length)?).ok();
    Ok(name.map(|name| (name, size - head)))
}

fn read(wasm: &mut impl Read, size: u64) -> Result<Vec<u8>, PackageError> {
    let mut content = Vec::new();
    wasm.take(size).read_to_end(&mut content)?;
    Ok(content)
}

fn title(section: &str, content: &[u8]) -> Option<String> {
    let reader = BinaryReader::new(content, 0);
    let name = if section == "name" {
        NameSectionReader::new(reader).flatten().find_map(|name| match name {
            Name::Module { name, .. } => Some(name.to_owned()),
            _ => None,
        })
    } else {
        ComponentNameSectionReader::new(reader).flatten().find_map(|name| match name {
            ComponentName::Component { name, .. } => Some(name.to_owned()),
            _ => None,
        })
    };
    name.filter(|name| !name.is_empty() && name.len() as u64 <= TEXT_LIMIT_BYTES)
}

fn producers(content: &[u8]) -> wasmparser::Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for field in ProducersSectionReader::new(BinaryReader::new(content, 0))? {
        let field = field?;
        let Some((_, annotation)) = PRODUCERS.iter().find(|(known, _)| *known == field.name) else {
            continue;
        };
        let mut tools = Vec::new();
        for tool in field.values {
            let tool = tool?;
            tools.push(format!("{} {}", tool.name, tool.version).trim_end().to_owned());
        }
        found.insert((*annotation).to_owned(), tools.join(", "));
    }
    Ok(found)
}

/// An unsigned LEB128 number.
fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        bytes.push(if value == 0 { low } else { low | 0x80 });
        if value == 0 {
            return bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use expect_test::expect;

    use super::*;
    use crate::inspect;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn sections_become_annotations() {
        let mut wasm = COMPONENT.to_vec();
        append_section(&mut wasm, "component-name", b"\0\x05\x04cart");
        append_section(&mut wasm, "version", b"0.1.0");
        append_section(&mut wasm, "unknown", &[b'x'; 300]);
        append_section(
            &mut wasm,
            "producers",
            b"\x02\x08language\x01\x04Rust\0\x0cprocessed-by\x02\x05rustc\x011\x01a\x012",
        );
        append_section(&mut wasm, BOM_SECTION, b"{}");
        let found = inspect(&mut Cursor::new(&wasm)).expect("a component");
        expect![[r#"{"dev.windlass.language": "Rust", "dev.windlass.toolchain": "rustc 1, a 2", "org.opencontainers.image.title": "cart", "org.opencontainers.image.version": "0.1.0"}"#]]
            .assert_eq(&format!("{:?}", found.annotations));
        assert_eq!(bom(&mut Cursor::new(&wasm)).expect("read"), Some(b"{}".to_vec()));
        assert_eq!(bom(&mut Cursor::new(COMPONENT)).expect("read"), None);
    }

    #[test]
    fn what_is_no_metadata_is_passed_over() {
        let mut wasm = COMPONENT.to_vec();
        append_section(&mut wasm, "version", b"\xff");
        append_section(&mut wasm, "producers", b"\x09");
        append_section(&mut wasm, "component-name", b"\0\x7fcart");
        append_section(&mut wasm, "description", &[b'x'; 5000]);
        // A custom section whose name is longer than itself.
        wasm.extend(b"\0\x02\x40a");
        let found = inspect(&mut Cursor::new(&wasm)).expect("a component");
        assert!(found.annotations.is_empty(), "{:?}", found.annotations);
    }
}
