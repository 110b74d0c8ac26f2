//! What is wrong with an object, collected rule by rule: one cause a field, in upstream's words,
//! because clients and their tests match them. Paths are built on the stack and written out only
//! where there is something to complain about: the hot path allocates nothing here.

use std::fmt;

use serde_json::Value;
use windlass_sdk_meta::Cause;

/// Causes in the order in which they were found.
#[derive(Debug, Default)]
pub struct Causes(Vec<Cause>);

/// A field path such as `spec.containers[0].env[2].name`, linked from the leaf to the root.
#[derive(Clone, Copy, Debug)]
pub enum Path<'a> {
    Root,
    Child(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
    Key(&'a Path<'a>, &'a str),
}

impl Causes {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Cause> {
        self.0.iter()
    }

    /// Takes back what was found since there were so many.
    pub fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    /// Puts what was found since there were so many into the order of its text.
    pub fn sort_from(&mut self, len: usize) {
        if let Some(found) = self.0.get_mut(len..) {
            found.sort_by_cached_key(|cause| format!("{}: {}", cause.field, cause.message));
        }
    }

    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    pub fn into_vec(self) -> Vec<Cause> {
        self.0
    }

    pub fn required(&mut self, path: Path<'_>, detail: &str) {
        self.push("FieldValueRequired", "Required value".to_owned(), path, detail);
    }

    pub fn invalid(&mut self, path: Path<'_>, value: &Value, detail: impl AsRef<str>) {
        self.push("FieldValueInvalid", format!("Invalid value: {}", show(value)), path, detail);
    }

    pub fn invalid_text(&mut self, path: Path<'_>, value: &str, detail: impl AsRef<str>) {
        self.push("FieldValueInvalid", format!("Invalid value: {value:?}"), path, detail);
    }

    /// The value is of another type than it must be.
    pub fn type_invalid(&mut self, path: Path<'_>, value: &Value, detail: impl AsRef<str>) {
        self.push("FieldValueTypeInvalid", format!("Invalid value: {}", show(value)), path, detail);
    }

    /// Something went wrong that isn't the client's fault.
    pub fn internal(&mut self, path: Path<'_>, detail: impl AsRef<str>) {
        self.push("InternalError", "Internal error".to_owned(), path, detail);
    }

    pub fn not_supported(&mut self, path: Path<'_>, value: &Value, supported: &[&str]) {
        let list: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let detail = match list.as_slice() {
            [] => String::new(),
            list => format!("supported values: {}", list.join(", ")),
        };
        let what = format!("Unsupported value: {}", show(value));
        self.push("FieldValueNotSupported", what, path, detail);
    }

    /// As `not_supported`; what is absent is shown as null.
    pub fn not_supported_or_null(&mut self, path: Path<'_>, value: &Value, supported: &[&str]) {
        if !value.is_null() {
            return self.not_supported(path, value, supported);
        }
        let list: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let detail = format!("supported values: {}", list.join(", "));
        self.push("FieldValueNotSupported", "Unsupported value: null".to_owned(), path, detail);
    }

    pub fn duplicate(&mut self, path: Path<'_>, value: &Value) {
        self.duplicate_of(path, value, "");
    }

    pub fn duplicate_of(&mut self, path: Path<'_>, value: &Value, detail: &str) {
        let what = format!("Duplicate value: {}", show(value));
        self.push("FieldValueDuplicate", what, path, detail);
    }

    /// As `duplicate`, where the value would say nothing.
    pub fn duplicate_whole(&mut self, path: Path<'_>) {
        self.push("FieldValueDuplicate", "Duplicate value".to_owned(), path, "");
    }

    pub fn not_found(&mut self, path: Path<'_>, value: &Value) {
        self.push("FieldValueNotFound", format!("Not found: {}", show(value)), path, "");
    }

    pub fn not_found_because(&mut self, path: Path<'_>, value: &Value, why: &str) {
        self.push("FieldValueNotFound", format!("Not found: {}", show(value)), path, why);
    }

    pub fn forbidden(&mut self, path: Path<'_>, detail: impl AsRef<str>) {
        self.push("FieldValueForbidden", "Forbidden".to_owned(), path, detail);
    }

    /// As `invalid`, for a map or list that isn't there.
    pub fn invalid_null(&mut self, path: Path<'_>, detail: &str) {
        self.push("FieldValueInvalid", "Invalid value: null".to_owned(), path, detail);
    }

    /// As `invalid`; what is absent is shown as null (a pointer of upstream's).
    pub fn invalid_or_null(&mut self, path: Path<'_>, value: &Value, detail: &str) {
        if value.is_null() {
            self.invalid_null(path, detail);
        } else {
            self.invalid(path, value, detail);
        }
    }

    /// As `invalid`, where the value would say nothing.
    pub fn invalid_whole(&mut self, path: Path<'_>, detail: &str) {
        self.push("FieldValueInvalid", "Invalid value".to_owned(), path, detail);
    }

    /// More than `most` bytes.
    pub fn too_long(&mut self, path: Path<'_>, most: usize) {
        let detail = format!("may not be more than {most} bytes");
        self.push("FieldValueTooLong", "Too long".to_owned(), path, detail);
    }

    /// More than `most` characters.
    pub fn too_many_characters(&mut self, path: Path<'_>, most: usize) {
        let detail = format!("may not be more than {most} characters");
        self.push("FieldValueTooLong", "Too long".to_owned(), path, detail);
    }

    pub fn too_many(&mut self, path: Path<'_>, found: usize, most: usize) {
        let items = if most == 1 { "item" } else { "items" };
        let detail = format!("must have at most {most} {items}");
        self.push("FieldValueTooMany", format!("Too many: {found}"), path, detail);
    }

    /// The field may not change.
    pub fn immutable(&mut self, path: Path<'_>, new: &Value) {
        self.invalid(path, new, "field is immutable");
    }

    /// One cause for each complaint about a text.
    pub fn complaints(&mut self, path: Path<'_>, value: &str, complaints: Vec<String>) {
        for complaint in complaints {
            self.invalid_text(path, value, complaint);
        }
    }

    fn push(&mut self, reason: &str, what: String, path: Path<'_>, detail: impl AsRef<str>) {
        let detail = detail.as_ref();
        let message = if detail.is_empty() { what } else { format!("{what}: {detail}") };
        self.0.push(Cause { reason: reason.to_owned(), message, field: path.to_string() });
    }
}

impl<'a> Path<'a> {
    pub fn child(&'a self, name: &'a str) -> Path<'a> {
        Path::Child(self, name)
    }

    pub fn index(&'a self, at: usize) -> Path<'a> {
        Path::Index(self, at)
    }

    /// An entry of a map: `data[key]`.
    pub fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // What is wrong with the whole: upstream prints an element of an empty name so.
            Path::Root => f.write_str("[]"),
            Path::Child(Path::Root, name) => f.write_str(name),
            Path::Child(parent, name) => write!(f, "{parent}.{name}"),
            Path::Index(parent, at) => write!(f, "{parent}[{at}]"),
            Path::Key(parent, key) => write!(f, "{parent}[{key}]"),
        }
    }
}

/// A value as messages print it: absent ones as an empty text.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "\"\"".to_owned(),
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn causes_read_as_upstreams() {
        let spec = Path::Root.child("spec");
        let (containers, data) = (spec.child("containers"), Path::Root.child("data"));
        let mut causes = Causes::default();
        causes.required(containers.index(0).child("name"), "");
        causes.invalid(spec.child("replicas"), &json!(-1), "must be >= 0");
        causes.not_supported(spec.child("x"), &json!("a"), &["b", "c"]);
        causes.duplicate(data.key("k"), &json!("k"));
        causes.forbidden(spec, "no");
        let text: Vec<String> = causes
            .into_vec()
            .iter()
            .map(|c| format!("{}: {} ({})", c.field, c.message, c.reason))
            .collect();
        expect_test::expect![[r#"
            spec.containers[0].name: Required value (FieldValueRequired)
            spec.replicas: Invalid value: -1: must be >= 0 (FieldValueInvalid)
            spec.x: Unsupported value: "a": supported values: "b", "c" (FieldValueNotSupported)
            data[k]: Duplicate value: "k" (FieldValueDuplicate)
            spec: Forbidden: no (FieldValueForbidden)"#]]
        .assert_eq(&text.join("\n"));
    }
}
