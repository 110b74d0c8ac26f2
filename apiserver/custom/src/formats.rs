//! The formats of texts that upstream knows, and what is of them.

use std::{net::IpAddr, sync::LazyLock};

use base64::Engine as _;
use regex::Regex;
use windlass_apiserver_registry::names;

const OF_TEXT: [&str; 26] = [
    "bsonobjectid",
    "uri",
    "email",
    "hostname",
    "ipv4",
    "ipv6",
    "cidr",
    "mac",
    "uuid",
    "uuid3",
    "uuid4",
    "uuid5",
    "isbn",
    "isbn10",
    "isbn13",
    "creditcard",
    "ssn",
    "hexcolor",
    "rgbcolor",
    "byte",
    "password",
    "date",
    "duration",
    "datetime",
    "k8sshortname",
    "k8slongname",
];

/// Formats that are patterns.
const PATTERNS: [(&str, &str); 10] = [
    ("bsonobjectid", "^[0-9a-fA-F]{24}$"),
    ("uuid", "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
    ("uuid3", "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$"),
    ("uuid4", "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"),
    ("uuid5", "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$"),
    ("ssn", "^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"),
    ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
    (
        "rgbcolor",
        r"^rgb\(\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*,\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*,\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*\)$",
    ),
    (
        "hostname",
        r"^([a-zA-Z0-9]((-?[a-zA-Z0-9]{0,62})?)|([a-zA-Z0-9](([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)(\.)){1,}([a-zA-Z]){2,63})$",
    ),
    ("email", r#"^[^@\s"<>,]+@[^@\s"<>,]+$"#),
];
/// Numbers with units, as Scala writes durations.
const SCALA: &str = r"(?i)[0-9]+\s*(ns|nano[a-z]*|us|µs|micro[a-z]*|ms|milli[a-z]*|sec[a-z]*|s|min[a-z]*|m|hour[a-z]*|hr|h|day[a-z]*|d|week[a-z]*|wk|w)\b";

static REGEXES: LazyLock<Vec<(&'static str, Regex)>> = LazyLock::new(|| {
    let all = PATTERNS.iter().chain([&("scala", SCALA)]);
    // The patterns are compiled in, and a test reads each.
    all.filter_map(|(name, pattern)| Some((*name, Regex::new(pattern).ok()?))).collect()
});

/// Upstream looks at values of this format; others are only written down.
pub fn supported(ty: &str, format: &str) -> bool {
    match ty {
        _ if format.is_empty() => false,
        "" | "string" => OF_TEXT.contains(&normalized(format).as_str()),
        "integer" => format == "int32" || format == "int64",
        "number" => format == "float" || format == "double",
        _ => false,
    }
}

/// Whether a text is of a supported format.
pub fn is_of(format: &str, text: &str) -> bool {
    let format = normalized(format);
    match format.as_str() {
        "uri" => is_uri(text),
        "ipv4" => text.parse().is_ok_and(|ip: IpAddr| ip.is_ipv4()),
        "ipv6" => text.parse().is_ok_and(|ip: IpAddr| ip.is_ipv6()),
        "cidr" => is_cidr(text),
        "mac" => is_mac(text),
        "isbn10" => is_isbn10(text),
        "isbn13" => is_isbn13(text),
        "isbn" => is_isbn10(text) || is_isbn13(text),
        "creditcard" => is_card(text),
        "byte" => {
            let plain: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
            base64::engine::general_purpose::STANDARD.decode(plain).is_ok()
        }
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "datetime" => text.contains(['T', 't']) && text.parse::<jiff::Timestamp>().is_ok(),
        "duration" => is_duration(text),
        "k8sshortname" => names::label(text).is_empty(),
        "k8slongname" => names::subdomain(text).is_empty(),
        other => matches(other, text),
    }
}

/// Formats of a schema that upstream doesn't know, for warnings.
pub fn unrecognized(ty: &str, format: &str) -> bool {
    !format.is_empty() && !supported(ty, format)
}

fn normalized(format: &str) -> String {
    format.replace('-', "")
}

fn matches(name: &str, text: &str) -> bool {
    REGEXES.iter().find(|(own, _)| *own == name).is_none_or(|(_, regex)| regex.is_match(text))
}

fn is_uri(text: &str) -> bool {
    let clean = !text.chars().any(|c| c.is_control() || c == ' ');
    let scheme = text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && rest.starts_with('/')
    });
    clean && (text.starts_with('/') || scheme)
}

fn is_cidr(text: &str) -> bool {
    text.split_once('/').is_some_and(|(ip, bits)| {
        let most = match ip.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    })
}

fn is_mac(text: &str) -> bool {
    let pairs = |separator: char, width: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        let bytes = parts.len() * width / 2;
        [6, 8, 20].contains(&bytes)
            && parts.iter().all(|p| p.len() == width && p.chars().all(|c| c.is_ascii_hexdigit()))
    };
    pairs(':', 2) || pairs('-', 2) || pairs('.', 4)
}

fn digits(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).collect()
}

fn is_isbn10(text: &str) -> bool {
    let plain = digits(text);
    let value = |(at, c): (usize, char)| match c {
        'X' if at == 9 => Some(10),
        c => c.to_digit(10),
    };
    let values: Option<Vec<u32>> = plain.chars().enumerate().map(value).collect();
    values.is_some_and(|values| {
        values.len() == 10 && values.iter().zip(1..).map(|(v, n)| v * n).sum::<u32>() % 11 == 0
    })
}

fn is_isbn13(text: &str) -> bool {
    let values: Option<Vec<u32>> = digits(text).chars().map(|c| c.to_digit(10)).collect();
    values.is_some_and(|values| {
        let weigh = |(at, v): (usize, &u32)| if at % 2 == 0 { *v } else { v * 3 };
        values.len() == 13 && values.iter().enumerate().map(weigh).sum::<u32>() % 10 == 0
    })
}

fn is_card(text: &str) -> bool {
    let values: Vec<u32> = text.chars().filter_map(|c| c.to_digit(10)).collect();
    let doubled = |(at, v): (usize, &u32)| match at % 2 {
        1 => v * 2 / 10 + v * 2 % 10,
        _ => *v,
    };
    (13..=16).contains(&values.len())
        && values.iter().rev().enumerate().map(doubled).sum::<u32>() % 10 == 0
}

/// Go's `1h30m`, or Scala's `22 ns`.
fn is_duration(text: &str) -> bool {
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    is_go_duration(rest) || matches("scala", text)
}

fn is_go_duration(mut rest: &str) -> bool {
    if rest == "0" {
        return true;
    }
    let mut any = false;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, tail) = rest.split_at(number);
        if !digits.chars().any(|c| c.is_ascii_digit()) || digits.matches('.').count() > 1 {
            return false;
        }
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let Some(tail) = units.iter().find_map(|unit| {
            let tail = tail.strip_prefix(unit)?;
            (!tail.starts_with('s') || *unit != "m").then_some(tail)
        }) else {
            return false;
        };
        rest = tail;
        any = true;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(rows: &[(&str, &[&str])], expected: Expect) {
        let mut out = String::new();
        for (format, texts) in rows {
            let each: Vec<String> =
                texts.iter().map(|text| format!("{text:?} {}", is_of(format, text))).collect();
            out += &format!("{format}: {}\n", each.join(", "));
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn every_pattern_is_read() {
        assert_eq!(REGEXES.len(), PATTERNS.len() + 1);
    }

    #[test]
    fn texts() {
        check(
            &[
                (
                    "date-time",
                    &["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.1+02:00", "2026-01-02", "x"],
                ),
                ("date", &["2026-01-02", "2026-13-02"]),
                ("duration", &["1h30m", "0", "22 ns", "1.5s", "x", "5"]),
                ("ipv4", &["1.2.3.4", "::1", "1.2.3"]),
                ("ipv6", &["::1", "1.2.3.4"]),
                ("cidr", &["10.0.0.0/8", "10.0.0.0/33", "::/0"]),
                ("uri", &["https://a.b/c", "/a", "a b", "a"]),
                ("email", &["a@b.c", "a"]),
                ("hostname", &["a.example.com", "-a"]),
                ("mac", &["00:11:22:33:44:55", "0011.2233.4455", "00:11"]),
                ("uuid", &["123e4567-e89b-12d3-a456-426614174000", "x"]),
                ("byte", &["aGk=", "a"]),
                ("isbn", &["0321751043", "978-0321751041", "1"]),
                ("creditcard", &["4111 1111 1111 1111", "4111 1111 1111 1112"]),
                ("hexcolor", &["#fff", "#ffff"]),
                ("k8s-short-name", &["a-b", "a.b"]),
            ],
            expect![[r##"
                date-time: "2026-01-02T03:04:05Z" true, "2026-01-02T03:04:05.1+02:00" true, "2026-01-02" false, "x" false
                date: "2026-01-02" true, "2026-13-02" false
                duration: "1h30m" true, "0" true, "22 ns" true, "1.5s" true, "x" false, "5" false
                ipv4: "1.2.3.4" true, "::1" false, "1.2.3" false
                ipv6: "::1" true, "1.2.3.4" false
                cidr: "10.0.0.0/8" true, "10.0.0.0/33" false, "::/0" true
                uri: "https://a.b/c" true, "/a" true, "a b" false, "a" false
                email: "a@b.c" true, "a" false
                hostname: "a.example.com" true, "-a" false
                mac: "00:11:22:33:44:55" true, "0011.2233.4455" true, "00:11" false
                uuid: "123e4567-e89b-12d3-a456-426614174000" true, "x" false
                byte: "aGk=" true, "a" false
                isbn: "0321751043" true, "978-0321751041" true, "1" false
                creditcard: "4111 1111 1111 1111" true, "4111 1111 1111 1112" false
                hexcolor: "#fff" true, "#ffff" false
                k8s-short-name: "a-b" true, "a.b" false
            "##]],
        );
    }
}
