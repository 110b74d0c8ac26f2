//! Request bodies as trees: JSON, YAML and protobuf come out alike, held to the facts about their
//! kind as strictly as the client asked.

use std::sync::Arc;

use serde_json::Value;
use windlass_apiserver_registry::{GroupVersion, Kind, Strategy};
use windlass_apiserver_schema::{
    FieldValidation, Format, Target, decode, decode_config, decode_protobuf, decode_value,
};
use windlass_sdk_meta::{Cause, GroupVersionKind, Status};

use crate::{
    content::{self, BodyType},
    request::Query,
};

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

/// What a body is to be read as.
#[derive(Clone)]
pub(crate) struct Of {
    pub gvk: GroupVersionKind,
    /// The strategy of a kind that came at run time.
    custom: Option<Arc<dyn Strategy>>,
}

impl Of {
    pub fn kind(kind: &Kind, at: &GroupVersion) -> Self {
        let custom = kind.is_custom().then(|| kind.strategy.clone());
        Self { gvk: kind.gvk_in(at), custom }
    }

    fn target(&self) -> Target<'_> {
        let GroupVersionKind { group, version, kind } = &self.gvk;
        Target::new(group, version, kind)
    }

    /// Holds a body of a custom kind to its schema. What it doesn't know is told as it is of built-in
    /// kinds: after what the decoder found.
    fn coerce(
        &self,
        mut tree: Value,
        mut warnings: Vec<String>,
        validation: FieldValidation,
    ) -> Result<(Value, Vec<String>), String> {
        let Some(custom) = &self.custom else { return Ok((tree, warnings)) };
        let dropped = custom.coerce(&mut tree)?;
        let unknown = dropped.iter().map(|path| format!("unknown field {path:?}"));
        match validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => warnings.extend(unknown),
            FieldValidation::Strict if dropped.is_empty() => {}
            FieldValidation::Strict => {
                let all: Vec<String> = unknown.collect();
                return Err(format!("strict decoding error: {}", all.join(", ")));
            }
        }
        Ok((tree, warnings))
    }

    /// The 400 for a body that isn't of this kind.
    fn unfit(&self, cause: String) -> Status {
        let GroupVersionKind { version, kind, .. } = &self.gvk;
        Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: {cause}"
        ))
    }
}

impl From<GroupVersionKind> for Of {
    fn from(gvk: GroupVersionKind) -> Self {
        Self { gvk, custom: None }
    }
}

/// Reads a body as an object of a kind. The second part holds warnings. Errors: 400.
pub(crate) fn read(
    bytes: &[u8],
    body_type: BodyType,
    of: &Of,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let target = of.target();
    let decoded = match body_type {
        BodyType::Json => decode(bytes, Format::Json, &target, validation)?,
        BodyType::Yaml => decode(bytes, Format::Yaml, &target, validation)?,
        BodyType::Protobuf if of.custom.is_some() => {
            return Err(content::unsupported(&["application/json", "application/yaml"]));
        }
        BodyType::Protobuf => return Ok((decode_protobuf(bytes, &target)?, Vec::new())),
    };
    of.coerce(decoded.value, decoded.warnings, validation).map_err(|cause| of.unfit(cause))
}

/// Reads what a client applies, which is only what it names. Errors: 400.
pub(crate) fn read_config(
    bytes: &[u8],
    of: &Of,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let decoded = decode_config(bytes, &of.target(), validation)?;
    let said = |key: &str| decoded.value[key].as_str().is_some_and(|text| !text.is_empty());
    if !said("apiVersion") || !said("kind") {
        return Err(Status::bad_request("invalid object type: /, Kind="));
    }
    // Fields that a schema doesn't have stay, for whoever applies them to refuse.
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
    check_as(tree, &Of::kind(kind, at), validation)
}

/// As `check`, for a kind that is served under another one's path.
pub(crate) fn check_as(
    tree: &Value,
    of: &Of,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let decoded = decode_value(tree, &of.target(), validation).map_err(|error| error.cause());
    let decoded =
        decoded.and_then(|decoded| of.coerce(decoded.value, decoded.warnings, validation));
    decoded.map_err(|cause| {
        let mut causes = Vec::new();
        let shown = serde_json::to_string(tree).unwrap_or_default();
        let short: String = shown.chars().take(128).collect();
        causes.push(Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {short:?}: {cause}"),
            field: "patch".into(),
        });
        // As upstream, which knows here of the patch only.
        Status::invalid(&GroupVersionKind::new("", "", ""), "", causes)
    })
}
