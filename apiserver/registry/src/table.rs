//! `metav1.Table`: the server prints, so that every client shows the same columns. And the ages in
//! it, which kubectl's users read as `5m12s` or `3d4h`.

use serde_json::{Value, json};
use windlass_sdk_meta::{Timestamp, parse_time};

use crate::{
    kind::{Column, Kind},
    tree,
};

/// What stands in a row, in the order of the columns.
pub type Cells = Vec<Value>;

/// What of an object goes into its row (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    None,
    #[default]
    Metadata,
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; absent is `Metadata`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" | "Metadata" => Some(Self::Metadata),
            "None" => Some(Self::None),
            "Object" => Some(Self::Object),
            _ => None,
        }
    }
}

impl Kind {
    /// `columnDefinitions`: left out of all but the first Table of a watch.
    pub fn column_definitions(&self) -> Value {
        column_definitions(&self.columns)
    }

    /// One row of a Table.
    pub fn row(&self, object: &Value, include: IncludeObject, now: Timestamp) -> Value {
        row(self.strategy.cells(object, now), object, include)
    }

    /// A Table; `list_metadata` is that of the list (or null), `headers` asks for the columns.
    pub fn table(&self, rows: Vec<Value>, list_metadata: Value, headers: bool) -> Value {
        let metadata = if list_metadata.is_null() { json!({}) } else { list_metadata };
        let columns = if headers { self.column_definitions() } else { json!([]) };
        table(rows, metadata, columns)
    }
}

pub(crate) fn column_definitions(columns: &[Column]) -> Value {
    let columns = columns.iter().map(|column| {
        json!({"name": column.name, "type": column.data_type, "format": column.format,
            "description": column.description, "priority": column.priority})
    });
    columns.collect()
}

pub(crate) fn row(cells: Cells, object: &Value, include: IncludeObject) -> Value {
    let shown = match include {
        IncludeObject::None => Value::Null,
        IncludeObject::Metadata => partial_metadata(object),
        IncludeObject::Object => object.clone(),
    };
    json!({"cells": cells, "object": shown})
}

pub(crate) fn table(rows: Vec<Value>, metadata: Value, columns: Value) -> Value {
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
        "columnDefinitions": columns, "rows": rows})
}

/// `PartialObjectMetadata` of an object.
pub fn partial_metadata(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"]})
}

/// The cells `name` and `age` of most kinds.
pub fn name(object: &Value) -> Value {
    object["metadata"]["name"].clone()
}

pub fn age(object: &Value, now: Timestamp) -> Value {
    Value::from(since(&object["metadata"]["creationTimestamp"], now))
}

/// How long ago a timestamp was.
pub fn since(timestamp: &Value, now: Timestamp) -> String {
    match timestamp.as_str().and_then(parse_time) {
        Some(at) => human_duration(now.as_second() - at.as_second()),
        None => "<unknown>".to_owned(),
    }
}

/// A duration in two units at most, the finer ones only while they matter.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    let two = |big: i64, unit: &str, small: i64, fine: &str| match small {
        0 => format!("{big}{unit}"),
        small => format!("{big}{unit}{small}{fine}"),
    };
    match seconds {
        // A clock may be off by a little: that is now.
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, "h", minutes % 60, "m"),
        _ if hours < 48 => format!("{hours}h"),
        _ if hours < 24 * 8 => two(days, "d", hours % 24, "h"),
        _ if years < 2 => format!("{days}d"),
        _ if years < 8 => two(years, "y", days % 365, "d"),
        _ => format!("{years}y"),
    }
}

/// A label selector as text, for cells and for `Scale`.
pub fn selector_text(selector: &Value) -> String {
    let mut terms: Vec<String> = tree::entries(selector, "matchLabels")
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    terms.sort_unstable();
    for expression in tree::list(selector, "matchExpressions") {
        let key = tree::text(expression, "key");
        let mut values: Vec<&str> =
            tree::list(expression, "values").iter().filter_map(Value::as_str).collect();
        values.sort_unstable();
        let values = values.join(",");
        terms.push(match tree::text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    terms.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_kubectls() {
        let all = [
            -5,
            -1,
            0,
            119,
            120,
            599,
            600,
            10_799,
            10_800,
            28_800,
            172_799,
            172_800,
            176_400,
            691_200,
            63_072_000,
            63_158_400,
            252_288_000,
        ];
        let text: Vec<String> = all.iter().map(|seconds| human_duration(*seconds)).collect();
        expect_test::expect![
            "<invalid> 0s 0s 119s 2m 9m59s 10m 179m 3h 8h 47h 2d 2d1h 8d 2y 2y1d 8y"
        ]
        .assert_eq(&text.join(" "));
    }
}
