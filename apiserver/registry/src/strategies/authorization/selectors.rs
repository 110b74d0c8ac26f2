//! Selectors in access reviews (KEP-4601): their form, and what of them an authoriser can heed. What
//! can't be read is left out, which asks for more and never for less.

use serde_json::Value;
use windlass_sdk_meta::{FieldSelector, Requirement, Selector};

use crate::{
    cause::{Causes, Path},
    strategies::apps::workload::{validate_labels_of, validate_operator},
    tree,
};

/// What a review says that its request would be narrowed to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AskedSelectors {
    pub fields: FieldSelector,
    /// What couldn't be read, for `status.evaluationError`.
    pub ignored: Vec<String>,
}

/// Rules of the selectors in `spec.resourceAttributes`. Operators may be newer than this server.
pub(super) fn validate(on_resource: &Value, path: Path<'_>, causes: &mut Causes) {
    for key in ["fieldSelector", "labelSelector"] {
        let (selector, path) = (&on_resource[key], path.child(key));
        if selector.is_null() {
            continue;
        }
        let (raw, terms) = (tree::text(selector, "rawSelector"), path.child("requirements"));
        let requirements = tree::list(selector, "requirements");
        if !raw.is_empty() && !requirements.is_empty() {
            let why = "may not specified at the same time as requirements";
            causes.invalid_text(path.child("rawSelector"), raw, why);
        }
        if raw.is_empty() && requirements.is_empty() {
            let why = format!("when {path} is specified, requirements or rawSelector is required");
            causes.required(terms, &why);
        }
        for (at, requirement) in requirements.iter().enumerate() {
            let of_fields = key == "fieldSelector";
            if of_fields && tree::text(requirement, "key").is_empty() {
                causes.required(terms.index(at).child("key"), "must be specified");
            }
            validate_operator(requirement, true, terms.index(at), causes);
            if !of_fields {
                validate_labels_of(requirement, terms.index(at), causes);
            }
        }
    }
}

/// Reads the selectors of a valid `spec.resourceAttributes`. Of those that stand one by one, each
/// counts that can be read; none of a text that can't.
pub fn asked_selectors(on_resource: &Value) -> AskedSelectors {
    let mut ignored = Vec::new();
    let mut unread = |key: &str, some: bool| {
        let partially = if some { "partially " } else { "" };
        ignored
            .push(format!("spec.resourceAttributes.{key} {partially}ignored due to parse error"));
    };
    let (asked, labels) = (&on_resource["fieldSelector"], &on_resource["labelSelector"]);
    let terms = tree::list(asked, "requirements");
    let mut fields = FieldSelector(terms.iter().filter_map(field_term).collect());
    if fields.0.len() < terms.len() {
        unread("fieldSelector", !fields.is_empty());
    }
    if terms.is_empty() {
        match FieldSelector::parse(tree::text(asked, "rawSelector")) {
            Ok(parsed) => fields = parsed,
            Err(_) => unread("fieldSelector", false),
        }
    }
    // No authoriser heeds labels: what is told is only whether they could.
    let terms = tree::list(labels, "requirements");
    let known = terms.iter().filter(|term| label_term(term)).count();
    let raw = Selector::parse(tree::text(labels, "rawSelector"));
    if known < terms.len() || (terms.is_empty() && raw.is_err()) {
        unread("labelSelector", known > 0);
    }
    AskedSelectors { fields, ignored }
}

/// A field can only be compared with one value.
fn field_term(term: &Value) -> Option<(String, bool, String)> {
    let [value] = tree::list(term, "values") else { return None };
    let equal = match tree::text(term, "operator") {
        "In" => true,
        "NotIn" => false,
        _ => return None,
    };
    Some((tree::text(term, "key").to_owned(), equal, value.as_str()?.to_owned()))
}

fn label_term(term: &Value) -> bool {
    let operator = tree::text(term, "operator");
    let values = tree::list(term, "values").iter().filter_map(Value::as_str);
    ["In", "NotIn", "Exists", "DoesNotExist"].contains(&operator)
        && Requirement::new(tree::text(term, "key"), operator, values.map(str::to_owned).collect())
            .is_ok()
}
