//! How an entry of a guest's key-value store becomes an object (`windlass.dev/v1 KeyValue`). The name
//! follows from store and key, so that an entry is found without a search, and two objects can never
//! stand for one entry: who writes entries and who validates them ask the same function.

use sha2::{Digest, Sha256};

/// Bytes of a key.
pub const KEY_LIMIT_BYTES: usize = 1024;
/// Bytes of a value.
pub const VALUE_LIMIT_BYTES: usize = 1 << 20;
/// Entries of all stores of one namespace, and what they come to as objects.
pub const ENTRIES_LIMIT: usize = 10_000;
pub const ENTRIES_LIMIT_BYTES: usize = 64 << 20;
/// The cause of a refusal for one of these bounds.
pub const BOUND_CAUSE: &str = "KeyValueBound";
/// The label that selects the entries of one store.
pub const STORE_LABEL: &str = "windlass.dev/store";

/// Characters of an object's name.
const NAME_CHARACTERS: usize = 253;
const STORE_CHARACTERS: usize = 63;
/// Names that are hashes begin with it, and no others.
const HASHED: &str = "x--";

/// Whether a store can be called so: what a label's value can be, because a label selects its
/// entries, and not empty.
pub fn is_store_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= STORE_CHARACTERS
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| inner(*byte))
}

/// The name of the object that holds a key of a store: `STORE.KEY` where that is a name people can
/// type, else a hash of both.
pub fn entry_name(store: &str, key: &str) -> String {
    let short = store.len() + 1 + key.len() <= NAME_CHARACTERS;
    // A store's name without dots ends at the first one, so no two entries share a name.
    if short && is_label(store) && !store.starts_with(HASHED) && key.split('.').all(is_label) {
        return format!("{store}.{key}");
    }
    let mut name = HASHED.to_owned();
    for byte in Sha256::new().chain_update(store).chain_update([0]).chain_update(key).finalize() {
        name += &format!("{byte:02x}");
    }
    name
}

/// Lower-case letters, digits, and hyphens inside.
fn is_label(part: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !part.is_empty() && !part.starts_with('-') && !part.ends_with('-') && part.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(store: &str, key: &str, expected: Expect) {
        expected.assert_eq(&entry_name(store, key));
    }

    #[test]
    fn names_are_readable_where_they_can_be() {
        check("default", "counter", expect!["default.counter"]);
        check("default", "a.b-c.9", expect!["default.a.b-c.9"]);
        for (store, key) in
            [("default", "User:1"), ("default", ""), ("My_store", "a"), ("a.b", "c"), ("x--a", "b")]
        {
            let name = entry_name(store, key);
            assert_eq!((name.len(), name.starts_with("x--")), (67, true), "{store} {key}");
        }
        assert_ne!(entry_name("a.b", "c"), entry_name("a", "b.c"));
        assert_ne!(entry_name("A", "b"), entry_name("Ab", ""));
        assert!(entry_name("default", &"k".repeat(250)).starts_with("x--"));
    }

    #[test]
    fn stores_have_names() {
        for (name, expected) in [
            ("default", true),
            ("My_store.v2", true),
            ("", false),
            ("-a", false),
            ("a.", false),
            ("a/b", false),
            ("..", false),
        ] {
            assert_eq!(is_store_name(name), expected, "{name:?}");
        }
        assert!(is_store_name(&"s".repeat(63)) && !is_store_name(&"s".repeat(64)));
    }
}
