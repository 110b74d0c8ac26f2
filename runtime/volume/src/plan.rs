//! Which files a volume holds: a function of the pod and of the objects it refers to. Pure.

use std::collections::{BTreeMap, BTreeSet};

use windlass_sdk_meta::Quantity;
use windlass_sdk_types::api::core::v1::{
    DownwardAPIVolumeFile, KeyToPath, ServiceAccountTokenProjection, Volume,
};

use crate::downward::{self, Facts};

/// Where neither the file nor its volume has a mode.
const DEFAULT_MODE: i32 = 0o644;
/// Of an emptyDir: anybody may write to it, as upstream has it.
const EMPTY_DIR_MODE: u32 = 0o777;
/// A token's life where the pod doesn't say.
const TOKEN_SECONDS: i64 = 3600;

/// The data of a ConfigMap or Secret.
pub type Data = BTreeMap<String, Vec<u8>>;

/// What a volume is, with everything resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A folder of the pod's own.
    Empty { size_limit_bytes: Option<u64>, mode: u32, in_memory: bool },
    /// Files that the node writes and replaces together.
    Files(Vec<File>),
    /// A path of the node; `sort` is upstream's `type`, empty for unchecked.
    Host { path: String, sort: String },
}

/// One file of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Relative, without `..`.
    pub path: String,
    pub bytes: Vec<u8>,
    pub mode: u32,
}

/// What must be fetched before a volume can be resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
    pub tokens: BTreeSet<TokenAsk>,
}

/// A token of the pod's service account. An empty audience is the API server's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenAsk {
    pub audience: String,
    pub expiration_seconds: i64,
}

/// Everything a resolution looks at.
pub struct Inputs<'a> {
    pub facts: Facts<'a>,
    /// Those of `needs` that exist.
    pub config_maps: &'a BTreeMap<String, Data>,
    pub secrets: &'a BTreeMap<String, Data>,
    pub tokens: &'a BTreeMap<TokenAsk, String>,
}

/// What must be fetched for this volume.
pub fn needs(volume: &Volume) -> Needs {
    let mut needs = Needs::default();
    needs.config_maps.extend(volume.config_map.iter().map(|map| map.name.clone()));
    needs.secrets.extend(volume.secret.iter().filter_map(|secret| secret.secret_name.clone()));
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    for source in sources {
        needs.config_maps.extend(source.config_map.iter().map(|map| map.name.clone()));
        needs.secrets.extend(source.secret.iter().map(|secret| secret.name.clone()));
        needs.tokens.extend(source.service_account_token.iter().map(TokenAsk::of));
    }
    needs
}

/// Volumes whose files are the node's to write: a container only reads them.
pub fn is_read_only(volume: &Volume) -> bool {
    volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
}

/// What the volume holds. The error is the message of upstream's FailedMount Event. A volume
/// without a source, or with one that this node doesn't have, is an empty folder: callers refuse
/// the latter before.
pub fn resolve(volume: &Volume, inputs: &Inputs<'_>) -> Result<Content, String> {
    if let Some(host) = &volume.host_path {
        let sort = host.type_.clone().unwrap_or_default();
        return Ok(Content::Host { path: host.path.clone(), sort });
    }
    let mut files = Files { inputs, files: BTreeMap::new(), mode: DEFAULT_MODE };
    if let Some(map) = &volume.config_map {
        files.mode = map.default_mode.unwrap_or(DEFAULT_MODE);
        files.config_map(&map.name, map.items.as_deref(), map.optional)?;
    } else if let Some(secret) = &volume.secret {
        files.mode = secret.default_mode.unwrap_or(DEFAULT_MODE);
        let name = secret.secret_name.as_deref().unwrap_or_default();
        files.secret(name, secret.items.as_deref(), secret.optional)?;
    } else if let Some(downward) = &volume.downward_api {
        files.mode = downward.default_mode.unwrap_or(DEFAULT_MODE);
        files.downward(downward.items.as_deref())?;
    } else if let Some(projected) = &volume.projected {
        files.mode = projected.default_mode.unwrap_or(DEFAULT_MODE);
        for source in projected.sources.iter().flatten() {
            if let Some(map) = &source.config_map {
                files.config_map(&map.name, map.items.as_deref(), map.optional)?;
            }
            if let Some(secret) = &source.secret {
                files.secret(&secret.name, secret.items.as_deref(), secret.optional)?;
            }
            if let Some(downward) = &source.downward_api {
                files.downward(downward.items.as_deref())?;
            }
            if let Some(token) = &source.service_account_token {
                files.token(token)?;
            }
        }
    } else {
        let limit = volume.empty_dir.as_ref().and_then(|empty| empty.size_limit.as_ref());
        let bytes = |text: &str| {
            let quantity = text.parse::<Quantity>().ok()?;
            u64::try_from(quantity.units()).ok().filter(|bytes| *bytes > 0)
        };
        let mode = volume.empty_dir.as_ref().and_then(|empty| empty.mode);
        let medium = volume.empty_dir.as_ref().and_then(|empty| empty.medium.as_deref());
        return Ok(Content::Empty {
            size_limit_bytes: limit.and_then(|text| bytes(&text.0)),
            mode: mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(EMPTY_DIR_MODE),
            in_memory: medium == Some("Memory"),
        });
    }
    Ok(Content::Files(files.files.into_values().collect()))
}

impl TokenAsk {
    fn of(token: &ServiceAccountTokenProjection) -> Self {
        Self {
            audience: token.audience.clone().unwrap_or_default(),
            expiration_seconds: token.expiration_seconds.unwrap_or(TOKEN_SECONDS),
        }
    }
}

/// A volume's files as its sources add them; a later source wins over a path.
struct Files<'a> {
    inputs: &'a Inputs<'a>,
    files: BTreeMap<String, File>,
    mode: i32,
}

impl Files<'_> {
    fn config_map(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), String> {
        match self.inputs.config_maps.get(name) {
            Some(data) => self.keys(data, items, optional, "config"),
            None if optional == Some(true) => Ok(()),
            None => Err(format!("configmap {name:?} not found")),
        }
    }

    fn secret(
        &mut self,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), String> {
        match self.inputs.secrets.get(name) {
            Some(data) => self.keys(data, items, optional, "secret"),
            None if optional == Some(true) => Ok(()),
            None => Err(format!("secret {name:?} not found")),
        }
    }

    fn keys(
        &mut self,
        data: &Data,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        sort: &str,
    ) -> Result<(), String> {
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            return data.iter().try_for_each(|(key, bytes)| self.add(key, bytes.clone(), None));
        };
        for item in items {
            match data.get(&item.key) {
                Some(bytes) => self.add(&item.path, bytes.clone(), item.mode)?,
                None if optional == Some(true) => {}
                None => return Err(format!("references non-existent {sort} key: {}", item.key)),
            }
        }
        Ok(())
    }

    fn downward(&mut self, items: Option<&[DownwardAPIVolumeFile]>) -> Result<(), String> {
        for item in items.into_iter().flatten() {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(reference), _) => downward::field(&self.inputs.facts, &reference.field_path)?,
                (None, Some(selector)) => downward::resource(&self.inputs.facts, None, selector)?,
                (None, None) => continue,
            };
            self.add(&item.path, text.into_bytes(), item.mode)?;
        }
        Ok(())
    }

    fn token(&mut self, token: &ServiceAccountTokenProjection) -> Result<(), String> {
        match self.inputs.tokens.get(&TokenAsk::of(token)) {
            Some(text) => self.add(&token.path, text.clone().into_bytes(), None),
            None => Err("there is no service account token".to_owned()),
        }
    }

    fn add(&mut self, path: &str, bytes: Vec<u8>, mode: Option<i32>) -> Result<(), String> {
        let is_plain = |part: &str| !matches!(part, "" | "." | "..");
        // A name that begins with two dots is the node's.
        if path.starts_with("..") || !path.split('/').all(is_plain) {
            return Err(format!("invalid path in a volume: {path:?}"));
        }
        let mode = u32::try_from(mode.unwrap_or(self.mode)).unwrap_or(0o644) & 0o777;
        self.files.insert(path.to_owned(), File { path: path.to_owned(), bytes, mode });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    use super::*;

    fn check(volume: Value, expected: Expect) {
        let mut volume = volume;
        volume["name"] = "v".into();
        let volume: Volume = serde_json::from_value(volume).expect("volume");
        let pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"},
            "spec": {"containers": [{"name": "c"}]}}))
        .expect("pod");
        let data = |pairs: &[(&str, &str)]| -> Data {
            pairs.iter().map(|(key, value)| (key.to_string(), value.as_bytes().to_vec())).collect()
        };
        let needs = needs(&volume);
        let inputs = Inputs {
            facts: Facts {
                pod: &pod,
                pod_ip: "127.64.0.1",
                host_ip: "127.0.0.1",
                node_cpu_millis: 2000,
                node_memory_bytes: 1 << 30,
            },
            config_maps: &[("cm".to_owned(), data(&[("a", "1"), ("b", "2")]))].into(),
            secrets: &[("s".to_owned(), data(&[("password", "hush")]))].into(),
            tokens: &needs.tokens.iter().map(|ask| (ask.clone(), "jwt".to_owned())).collect(),
        };
        let shown = match resolve(&volume, &inputs) {
            Err(message) => format!("error: {message}\n"),
            Ok(Content::Files(files)) => files
                .iter()
                .map(|file| {
                    let text = String::from_utf8_lossy(&file.bytes);
                    format!("{} {:o} {text}\n", file.path, file.mode)
                })
                .collect(),
            Ok(other) => format!("{other:?}\n"),
        };
        expected.assert_eq(&shown);
    }

    #[test]
    fn maps_and_secrets() {
        check(
            json!({"configMap": {"name": "cm"}}),
            expect![[r#"
                a 644 1
                b 644 2
            "#]],
        );
        check(
            json!({"configMap": {"name": "cm", "defaultMode": 0o400, "items": [
                {"key": "a", "path": "deep/er/a"}, {"key": "b", "path": "b", "mode": 0o600}]}}),
            expect![[r#"
                b 600 2
                deep/er/a 400 1
            "#]],
        );
        check(
            json!({"secret": {"secretName": "s"}}),
            expect![[r#"
                password 644 hush
            "#]],
        );
        check(
            json!({"secret": {"secretName": "no"}}),
            expect![[r#"
                error: secret "no" not found
            "#]],
        );
        check(json!({"configMap": {"name": "no", "optional": true}}), expect![""]);
        check(
            json!({"configMap": {"name": "cm", "items": [{"key": "no", "path": "x"}]}}),
            expect![[r#"
                error: references non-existent config key: no
            "#]],
        );
        check(
            json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "../x"}]}}),
            expect![[r#"
                error: invalid path in a volume: "../x"
            "#]],
        );
    }

    #[test]
    fn all_in_one() {
        check(
            json!({"projected": {"defaultMode": 0o640, "sources": [
                {"configMap": {"name": "cm", "items": [{"key": "a", "path": "config/a"}]}},
                {"secret": {"name": "s"}},
                {"downwardAPI": {"items": [
                    {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
                    {"path": "cpu", "resourceFieldRef": {"containerName": "c", "resource": "limits.cpu"}}]}},
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
            ]}}),
            expect![[r#"
                config/a 640 1
                cpu 640 2
                name 640 p
                password 640 hush
                token 640 jwt
            "#]],
        );
    }

    #[test]
    fn folders() {
        check(
            json!({"emptyDir": {"sizeLimit": "1Mi"}}),
            expect![[r#"
                Empty { size_limit_bytes: Some(1048576), mode: 511, in_memory: false }
            "#]],
        );
        check(
            json!({"hostPath": {"path": "/srv", "type": "Directory"}}),
            expect![[r#"
                Host { path: "/srv", sort: "Directory" }
            "#]],
        );
    }
}
