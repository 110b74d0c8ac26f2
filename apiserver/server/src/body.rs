//! Request bodies as trees: JSON, YAML and protobuf come out alike, held to the facts about their
//! kind as strictly as the client asked.

use serde_json::Value;
use windlass_apiserver_registry::{GroupVersion, Kind};
use windlass_apiserver_schema::{
    FieldValidation, Format, Target, decode, decode_config, decode_protobuf, decode_value,
};
use windlass_sdk_meta::{Cause, GroupVersionKind, Status};

use crate::{content::BodyType, request::Query};

/// What a client says about how its write is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    pub dry_run: bool,
    pub validation: FieldValidation,
    pub field_manager: String,
    /// Server-side apply may take what others own.
    pub force: Option<bool>,
}

impl WriteOptions {
    /// What holds only for a patch that is, or is no, server-side apply. Errors: 422.
    pub fn check_apply(&self, applies: bool) -> Result<(), Status> {
        let cause = if applies && self.field_manager.is_empty() {
            let message = "Required value: is required for apply patch";
            Cause {
                reason: "FieldValueRequired".into(),
                message: message.into(),
                field: "fieldManager".into(),
            }
        } else if !applies && self.force.is_some() {
            let message = "Forbidden: may not be specified for non-apply patch";
            Cause {
                reason: "FieldValueForbidden".into(),
                message: message.into(),
                field: "force".into(),
            }
        } else {
            return Ok(());
        };
        let kind = GroupVersionKind::new("meta.k8s.io", "v1", "PatchOptions");
        Err(Status::invalid(&kind, "", vec![cause]))
    }

    /// Reads the query; `kind` names the options in errors (`CreateOptions` ...). Errors: 422.
    pub fn parse(query: &Query, kind: &str) -> Result<Self, Status> {
        let mut causes = Vec::new();
        let mut unsupported = |field: &str, value: &str, supported: &str| {
            causes.push(Cause {
                reason: "FieldValueNotSupported".into(),
                message: format!("Unsupported value: {value:?}: supported values: {supported}"),
                field: field.into(),
            });
        };
        let mut dry_run = false;
        let mut odd_dry_run = None;
        for value in query.all("dryRun").filter(|value| !value.is_empty()) {
            match value {
                "All" => dry_run = true,
                _ => {
                    let all: Vec<&str> = query.all("dryRun").collect();
                    let cause = format!(
                        "Unsupported value: {}: supported values: \"All\"",
                        serde_json::json!(all)
                    );
                    odd_dry_run = Some(Cause {
                        reason: "FieldValueNotSupported".into(),
                        message: cause,
                        field: "dryRun".into(),
                    });
                }
            }
        }
        let wanted = query.get("fieldValidation").unwrap_or_default();
        let validation = FieldValidation::parse(wanted).unwrap_or_else(|| {
            unsupported("fieldValidation", wanted, "\"\", \"Ignore\", \"Strict\", \"Warn\"");
            FieldValidation::default()
        });
        causes.extend(odd_dry_run);
        let field_manager = query.get("fieldManager").unwrap_or_default().to_owned();
        if field_manager.len() > 128 {
            causes.push(Cause {
                reason: "FieldValueTooLong".into(),
                message: "Too long: may not be more than 128 bytes".into(),
                field: "fieldManager".into(),
            });
        }
        let force = query.get("force").filter(|said| !said.is_empty()).map(|said| said == "true");
        match causes.is_empty() {
            true => Ok(Self { dry_run, validation, field_manager, force }),
            false => {
                let kind = GroupVersionKind::new("meta.k8s.io", "v1", kind);
                Err(Status::invalid(&kind, "", causes))
            }
        }
    }
}

/// Reads a body as an object of a kind. The second part holds warnings. Errors: 400.
pub(crate) fn read(
    bytes: &[u8],
    body_type: BodyType,
    kind: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let target = Target::new(&kind.group, &kind.version, &kind.kind);
    let decoded = match body_type {
        BodyType::Json => decode(bytes, Format::Json, &target, validation)?,
        BodyType::Yaml => decode(bytes, Format::Yaml, &target, validation)?,
        BodyType::Protobuf => return Ok((decode_protobuf(bytes, &target)?, Vec::new())),
    };
    Ok((decoded.value, decoded.warnings))
}

/// Reads what a client applies, which is only what it names. Errors: 400.
pub(crate) fn read_config(
    bytes: &[u8],
    kind: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let target = Target::new(&kind.group, &kind.version, &kind.kind);
    let decoded = decode_config(bytes, &target, validation)?;
    let said = |key: &str| decoded.value[key].as_str().is_some_and(|text| !text.is_empty());
    if !said("apiVersion") || !said("kind") {
        return Err(Status::bad_request("invalid object type: /, Kind="));
    }
    Ok((decoded.value, decoded.warnings))
}

/// Holds a patched tree to the facts about its kind. Errors: 400 for what its type can't be, 422
/// where validation is strict and a field is unknown.
pub(crate) fn check(
    tree: &Value,
    kind: &Kind,
    at: &GroupVersion,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    check_as(tree, &kind.gvk_in(at), validation)
}

/// As `check`, for a kind that is served under another one's path.
pub(crate) fn check_as(
    tree: &Value,
    kind: &GroupVersionKind,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let target = Target::new(&kind.group, &kind.version, &kind.kind);
    let decoded = decode_value(tree, &target, validation).map_err(|error| {
        let mut causes = Vec::new();
        let cause = error.cause();
        let shown = serde_json::to_string(tree).unwrap_or_default();
        let short: String = shown.chars().take(128).collect();
        causes.push(Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {short:?}: {cause}"),
            field: "patch".into(),
        });
        let name = tree["metadata"]["name"].as_str().unwrap_or_default();
        Status::invalid(kind, name, causes)
    })?;
    Ok((decoded.value, decoded.warnings))
}
