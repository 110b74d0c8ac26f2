//! What types and fields of the built-in kinds mean, in upstream's words, for `kubectl explain`; and
//! those of the own kinds.
//!
//! The text lies in the program, sorted, and is searched where it lies: nothing is built or kept in
//! memory, and pages that nobody asks about aren't even read.

const TEXT: &str = include_str!(concat!(env!("OUT_DIR"), "/descriptions.txt"));
const RECORD: u8 = 0x1e;
const UNIT: char = '\u{1f}';

/// Type, field and description of the own kinds.
const OWN: [(&str, &str, &str); 9] = [
    (
        "dev.windlass.v1.KeyValue",
        "",
        "KeyValue is one entry of a key-value store that the guests of a namespace share. Its name follows from store and key: STORE.KEY where that is a name, else a hash of both.",
    ),
    ("dev.windlass.v1.KeyValue", "apiVersion", "The version of this form of the object."),
    ("dev.windlass.v1.KeyValue", "kind", "The kind of the object."),
    (
        "dev.windlass.v1.KeyValue",
        "metadata",
        "Standard object's metadata. The label windlass.dev/store is set to spec.store.",
    ),
    ("dev.windlass.v1.KeyValue", "spec", "The entry."),
    ("dev.windlass.v1.KeyValueSpec", "", "KeyValueSpec is an entry of a key-value store."),
    (
        "dev.windlass.v1.KeyValueSpec",
        "store",
        "The store (bucket) that the entry is in, as guests open it. It can't be changed.",
    ),
    ("dev.windlass.v1.KeyValueSpec", "key", "The key, at most 1024 bytes. It can't be changed."),
    ("dev.windlass.v1.KeyValueSpec", "value", "The value, at most 1 MiB, in base64."),
];

/// The descriptions of all kinds of this Kubernetes version.
#[derive(Clone, Copy, Debug, Default)]
pub struct Descriptions;

impl Descriptions {
    /// `type_name` as in OpenAPI documents: `io.k8s.api.core.v1.Pod`.
    pub fn type_description(&self, type_name: &str) -> Option<&'static str> {
        find(TEXT, type_name, "").or_else(|| own(type_name, ""))
    }

    /// `json_field` as in JSON: `apiVersion`.
    pub fn field_description(&self, type_name: &str, json_field: &str) -> Option<&'static str> {
        find(TEXT, type_name, json_field).or_else(|| own(type_name, json_field))
    }
}

fn own(type_name: &str, field: &str) -> Option<&'static str> {
    let found = OWN.iter().find(|(name, of, _)| (*name, *of) == (type_name, field));
    found.map(|(_, _, text)| *text)
}

/// Binary search over records of different lengths: look at the one around the middle.
fn find<'a>(mut text: &'a str, type_name: &str, field: &str) -> Option<&'a str> {
    while !text.is_empty() {
        let middle = text.len() / 2;
        let bytes = text.as_bytes();
        let ends = |byte: &u8| *byte == RECORD;
        let start = bytes[..middle].iter().rposition(ends).map_or(0, |at| at + 1);
        let end = middle + bytes[middle..].iter().position(ends)?;
        let mut parts = text[start..end].splitn(3, UNIT);
        match (parts.next()?, parts.next()?).cmp(&(type_name, field)) {
            std::cmp::Ordering::Equal => return parts.next(),
            std::cmp::Ordering::Less => text = &text[end + 1..],
            std::cmp::Ordering::Greater => text = &text[..start],
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(type_name: &str, field: &str, expected: Expect) {
        expected.assert_eq(Descriptions.field_description(type_name, field).unwrap_or("nothing"));
    }

    #[test]
    fn descriptions() {
        let pod = "io.k8s.api.core.v1.Pod";
        check(
            pod,
            "",
            expect![
                "Pod is a collection of containers that can run on a host. This resource is created by clients and scheduled onto hosts."
            ],
        );
        check(
            pod,
            "spec",
            expect![
                "Specification of the desired behavior of the pod. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#spec-and-status"
            ],
        );
        check(pod, "nothing", expect!["nothing"]);
        check("io.k8s.api.core.v1.Nothing", "", expect!["nothing"]);
        check("io.k8s.api.core.v1.HostAlias", "ip", expect!["IP address of the host file entry."]);
        check(
            "io.k8s.api.apps.v1.DeploymentSpec",
            "replicas",
            expect![
                "Number of desired pods. This is a pointer to distinguish between explicit zero and not specified. Defaults to 1."
            ],
        );
    }

    #[test]
    fn every_record_is_found() {
        let records: Vec<&str> =
            TEXT.split(char::from(RECORD)).filter(|record| !record.is_empty()).collect();
        assert!(records.len() > 3500, "{}", records.len());
        for record in records {
            let mut parts = record.splitn(3, UNIT);
            let (name, field) = (parts.next().unwrap(), parts.next().unwrap());
            assert_eq!(find(TEXT, name, field), parts.next(), "{name} {field}");
        }
    }
}
