//! Label and field selectors: parsed once, matched against anything that can look a key up.

use std::collections::BTreeMap;

use serde_json::Value;

/// The labels of an object, sorted by key and as small as they can be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

/// A label selector: all requirements must hold, so the empty one matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(pub Vec<Requirement>);

/// One requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
    /// Node affinity's `Gt` and `Lt`: the label is an integer above or below the bound.
    GreaterThan(String, i64),
    LessThan(String, i64),
}

/// A field selector: `(path, equal, value)` terms that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(pub Vec<(String, bool, String)>);

/// What is wrong with a selector, in words for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

impl Labels {
    /// Takes `metadata.labels`; entries that aren't strings are left out.
    pub fn from_json(labels: &Value) -> Self {
        let entries = labels.as_object().into_iter().flatten();
        Self::from_pairs(entries.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?))))
    }

    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let sorted: BTreeMap<&str, &str> = pairs.into_iter().collect();
        Self(sorted.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

impl Selector {
    /// Parses the query form: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        split_outside_parentheses(text)?
            .into_iter()
            .filter(|term| !term.is_empty())
            .map(Requirement::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Takes `metav1.LabelSelector`. None (absent) matches nothing where upstream says so; callers decide.
    pub fn from_json(selector: &Value) -> Result<Self, SelectorError> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let equal = selector["matchLabels"].as_object().into_iter().flatten();
        let mut all: Vec<_> =
            equal.map(|(key, value)| Requirement::In(key.clone(), vec![text(value)])).collect();
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let values = expression["values"].as_array().into_iter().flatten().map(text).collect();
            all.push(Requirement::new(
                &text(&expression["key"]),
                &text(&expression["operator"]),
                values,
            )?);
        }
        Ok(Self(all))
    }

    /// Only equal pairs, as in a Service's or ReplicationController's `spec.selector`.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let pairs = pairs.into_iter();
        Self(pairs.map(|(key, value)| Requirement::In(key.into(), vec![value.into()])).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| requirement.matches(&get))
    }

    pub fn matches_labels(&self, labels: &Labels) -> bool {
        self.matches(|key| labels.get(key))
    }

    /// For labels as the typed kinds hold them.
    pub fn matches_map(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches(|key| labels?.get(key).map(String::as_str))
    }
}

impl Requirement {
    /// From `key`, `operator` and `values` of an expression (In, NotIn, Exists, DoesNotExist, Gt, Lt).
    pub fn new(key: &str, operator: &str, values: Vec<String>) -> Result<Self, SelectorError> {
        let bound = |values: &[String]| match values {
            [one] => one.parse().map_err(|_| SelectorError(format!("{one:?} is not an integer"))),
            _ => Err(SelectorError(format!("{operator} takes exactly one value"))),
        };
        let key = key.to_owned();
        match operator {
            "In" | "NotIn" if values.is_empty() => {
                Err(SelectorError(format!("for {operator:?} operator, values set can't be empty")))
            }
            "In" => Ok(Self::In(key, values)),
            "NotIn" => Ok(Self::NotIn(key, values)),
            "Exists" => Ok(Self::Exists(key)),
            "DoesNotExist" => Ok(Self::DoesNotExist(key)),
            "Gt" => Ok(Self::GreaterThan(key, bound(&values)?)),
            "Lt" => Ok(Self::LessThan(key, bound(&values)?)),
            other => {
                Err(SelectorError(format!("{other:?} is not a valid label selector operator")))
            }
        }
    }

    fn parse(term: &str) -> Result<Self, SelectorError> {
        if let Some(key) = term.strip_prefix('!') {
            return Ok(Self::DoesNotExist(label_key(key)?));
        }
        if let Some((head, list)) = term.split_once('(') {
            let values = list.trim_end().trim_end_matches(')').split(',').map(label_value);
            let values: Vec<String> = values.collect::<Result<_, _>>()?;
            let (key, operator) =
                head.trim().rsplit_once(char::is_whitespace).unwrap_or((head, ""));
            return match operator {
                "in" => Ok(Self::In(label_key(key)?, values)),
                "notin" => Ok(Self::NotIn(label_key(key)?, values)),
                _ => Err(SelectorError(format!("unable to parse requirement: {term:?}"))),
            };
        }
        for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some((key, value)) = term.split_once(sign) {
                let (key, values) = (label_key(key)?, vec![label_value(value)?]);
                return Ok(if equal { Self::In(key, values) } else { Self::NotIn(key, values) });
            }
        }
        Ok(Self::Exists(label_key(term)?))
    }

    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        let number = |key: &String| get(key).and_then(|text| text.parse::<i64>().ok());
        match self {
            Self::In(key, values) => {
                get(key).is_some_and(|found| values.iter().any(|v| v == found))
            }
            Self::NotIn(key, values) => {
                !get(key).is_some_and(|found| values.iter().any(|v| v == found))
            }
            Self::Exists(key) => get(key).is_some(),
            Self::DoesNotExist(key) => get(key).is_none(),
            Self::GreaterThan(key, bound) => number(key).is_some_and(|found| found > *bound),
            Self::LessThan(key, bound) => number(key).is_some_and(|found| found < *bound),
        }
    }
}

impl FieldSelector {
    /// Parses `a.b=c,d!=e`; `\,`, `\=` and `\\` are escapes in values.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        split_escaped(text)
            .iter()
            .filter(|term| !term.is_empty())
            .map(|term| field_term(term))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `get` answers None for a field that the kind doesn't offer, which matches nothing.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0
            .iter()
            .all(|(path, equal, value)| get(path).is_some_and(|found| (found == value) == *equal))
    }

    /// The value that a path must equal, where the selector asks for one.
    pub fn required(&self, path: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, equal, _)| known == path && *equal)
            .map(|(_, _, value)| value.as_str())
    }
}

fn field_term(term: &str) -> Result<(String, bool, String), SelectorError> {
    for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((path, value)) = term.split_once(sign) {
            let value = value.replace("\\,", ",").replace("\\=", "=").replace("\\\\", "\\");
            return Ok((path.to_owned(), equal, value));
        }
    }
    Err(SelectorError(format!("invalid selector: '{term}'; can't understand '{term}'")))
}

fn split_escaped(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for character in text.chars() {
        match (character, terms.last_mut()) {
            (',', _) if !escaped => terms.push(String::new()),
            (_, Some(last)) => last.push(character),
            (_, None) => {}
        }
        escaped = character == '\\' && !escaped;
    }
    terms
}

fn split_outside_parentheses(text: &str) -> Result<Vec<&str>, SelectorError> {
    let (mut terms, mut depth, mut start) = (Vec::new(), 0usize, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' if depth == 0 => {
                return Err(SelectorError(format!(
                    "unable to parse requirement: found ')' in {text:?}"
                )));
            }
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(SelectorError(format!("unable to parse requirement: no ')' in {text:?}")));
    }
    terms.push(text[start..].trim());
    Ok(terms)
}

fn label_key(key: &str) -> Result<String, SelectorError> {
    let key = key.trim();
    let name = key.rsplit_once('/').map_or(key, |(_, name)| name);
    if name.is_empty() || name.len() > 63 || !name.chars().all(label_character) {
        return Err(SelectorError(format!(
            "unable to parse requirement: <nil>: Invalid value: {key:?}: name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
        )));
    }
    Ok(key.to_owned())
}

fn label_value(value: &str) -> Result<String, SelectorError> {
    let value = value.trim();
    if value.len() > 63 || !value.chars().all(label_character) {
        return Err(SelectorError(format!(
            "unable to parse requirement: values[0][]: Invalid value: {value:?}: a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
        )));
    }
    Ok(value.to_owned())
}

fn label_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_selectors() {
        let labels = Labels::from_pairs([("app", "hello"), ("tier", "web"), ("n", "5")]);
        let matches =
            |text: &str| Selector::parse(text).map(|selector| selector.matches_labels(&labels));
        for text in
            ["", "app=hello", "app==hello,tier", "app in (a, hello)", "x!=y", "!x", "x notin (y)"]
        {
            assert_eq!(matches(text), Ok(true), "{text}");
        }
        for text in ["app=bye", "!app", "app notin (hello)", "x", "x=y"] {
            assert_eq!(matches(text), Ok(false), "{text}");
        }
        for text in ["app in (a", "a)", "=b", "a b c(d)", "app=a b"] {
            assert!(matches(text).is_err(), "{text}");
        }
        assert!(Requirement::GreaterThan("n".into(), 4).matches(|key| labels.get(key)));
    }

    #[test]
    fn field_selectors() {
        let get = |path: &str| (path == "spec.nodeName").then_some("a,b");
        let matches = |text: &str| FieldSelector::parse(text).map(|selector| selector.matches(get));
        assert_eq!(matches("spec.nodeName=a\\,b"), Ok(true));
        assert_eq!(matches("spec.nodeName!=a"), Ok(true));
        assert_eq!(matches("spec.other=a"), Ok(false));
        assert!(matches("spec.nodeName").is_err());
    }
}
