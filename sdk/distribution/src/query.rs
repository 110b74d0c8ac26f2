//! The parameters of a request.

use http::request::Parts;

use crate::error::{Code, Refused};

/// The first value of a parameter, decoded.
pub(crate) fn parameter(parts: &Parts, wanted: &str) -> Option<String> {
    let query = parts.uri.query()?;
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = value.replace('+', " ");
        let value = percent_encoding::percent_decode_str(&value).decode_utf8_lossy();
        (key == wanted).then(|| value.into_owned())
    })
}

/// How much of a list is wanted at a time (`n`).
pub(crate) fn page(parts: &Parts) -> Result<Option<usize>, Refused> {
    let wrong =
        |text: &str| Refused::bad(Code::Unsupported, format!("n={text} is no number of entries"));
    parameter(parts, "n").map(|text| text.parse().map_err(|_| wrong(&text))).transpose()
}

/// Text as a part of a query.
pub(crate) fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}
