//! Files of variables that an init container left in a volume (KEP-3721): `KEY='value'`, one a
//! line, and comments. Pure.

/// The value of a key; the error says which line is none.
pub fn find(text: &str, key: &str) -> Result<Option<String>, String> {
    let mut found = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || format!("line {} is not KEY='value'", number + 1);
        let (name, value) = line.split_once('=').ok_or_else(wrong)?;
        let value = unquoted(value.trim()).ok_or_else(wrong)?;
        if name.trim() == key {
            found = Some(value.to_owned());
        }
    }
    Ok(found)
}

/// What stands in quotes is taken as it is; what doesn't ends at a comment.
fn unquoted(value: &str) -> Option<&str> {
    for quote in ['\'', '"'] {
        if let Some(rest) = value.strip_prefix(quote) {
            let (inside, after) = rest.split_once(quote)?;
            let after = after.trim();
            return (after.is_empty() || after.starts_with('#')).then_some(inside);
        }
    }
    let end = value.find(" #").unwrap_or(value.len());
    Some(value[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        let text =
            "# a comment\n\nA='one two'\nB=plain # said\n C = \"x#y\" # said\nA='again'\nD=\n";
        for (key, expected) in [
            ("A", Some("again")),
            ("B", Some("plain")),
            ("C", Some("x#y")),
            ("D", Some("")),
            ("E", None),
        ] {
            let found = find(text, key);
            assert_eq!(found, Ok(expected.map(str::to_owned)), "{key}");
        }
        for text in ["A", "\nA='open", "A='x'y"] {
            assert!(find(text, "A").is_err(), "{text}");
        }
    }
}
