//! The kinds of this project's own: `windlass.dev/v1`.

use k8s_openapi::{
    ByteString, Metadata, NamespaceResourceScope, Resource,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use serde::{Deserialize, Serialize};

use crate::kind::{DecodeError, Kind};

/// One entry of a key-value store that guests share. `metadata.name` follows from store and key.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct KeyValue {
    #[serde(default)]
    pub metadata: ObjectMeta,
    #[serde(default)]
    pub spec: KeyValueSpec,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct KeyValueSpec {
    pub store: String,
    pub key: String,
    #[serde(default)]
    pub value: ByteString,
}

impl Resource for KeyValue {
    const API_VERSION: &'static str = "windlass.dev/v1";
    const GROUP: &'static str = "windlass.dev";
    const KIND: &'static str = "KeyValue";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "keyvalues";
    type Scope = NamespaceResourceScope;
}

impl Metadata for KeyValue {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl Kind for KeyValue {
    const PLURAL: &'static str = "keyvalues";
    const NAMESPACED: bool = true;

    fn decode(json: &[u8]) -> Result<Self, DecodeError> {
        DecodeError::or(serde_json::from_slice(json))
    }

    fn encode(&self) -> Result<Vec<u8>, DecodeError> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Whole<'a> {
            api_version: &'a str,
            kind: &'a str,
            metadata: &'a ObjectMeta,
            spec: &'a KeyValueSpec,
        }
        DecodeError::or(serde_json::to_vec(&Whole {
            api_version: Self::API_VERSION,
            kind: Self::KIND,
            metadata: &self.metadata,
            spec: &self.spec,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_is_written() {
        let mut entry = KeyValue::default();
        entry.metadata.name = Some("default.a".into());
        entry.spec =
            KeyValueSpec { store: "default".into(), key: "a".into(), value: ByteString(vec![1]) };
        let json = entry.encode().unwrap();
        expect_test::expect![[
            r#"{"apiVersion":"windlass.dev/v1","kind":"KeyValue","metadata":{"name":"default.a"},"spec":{"store":"default","key":"a","value":"AQ=="}}"#
        ]]
        .assert_eq(&String::from_utf8_lossy(&json));
        assert_eq!(KeyValue::decode(&json).unwrap(), entry);
    }
}
