//! IP addresses and ranges as the API takes them: strictly where they are new, with a warning where
//! they are not written in their usual form.

use std::net::IpAddr;

use serde_json::Value;

use crate::cause::{Causes, Path};

/// Rules of an address.
pub fn validate(address: &Value, path: Path<'_>, causes: &mut Causes) {
    let text = address.as_str().unwrap_or_default();
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            causes.invalid_text(path, text, "must not be an IPv4-mapped IPv6 address");
        }
        Ok(_) => {}
        Err(_) if sloppy(text).is_some() => {
            causes.invalid_text(path, text, "must not have leading 0s");
        }
        Err(_) => {
            let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
            causes.invalid_text(path, text, why);
        }
    }
}

/// An address, also where numbers have leading zeros, as old rules take it.
pub fn sloppy(text: &str) -> Option<IpAddr> {
    without_zeros(text).parse().ok()
}

/// Rules of a range of addresses.
pub fn validate_range(range: &Value, path: Path<'_>, causes: &mut Causes) {
    let text = range.as_str().unwrap_or_default();
    let Some((address, bits)) = sloppy_range(text) else {
        let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
        return causes.invalid_text(path, text, why);
    };
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if !text.starts_with(&format!("{address}/")) && text.contains('.')
        || text.rsplit('/').next() != Some(bits.to_string().as_str())
    {
        causes.invalid_text(path, text, "must not have leading 0s in IP or prefix length");
    } else if mapped {
        causes.invalid_text(path, text, "must not have an IPv4-mapped IPv6 address");
    } else if network(address, bits) != address {
        causes.invalid_text(path, text, "must not have bits set beyond the prefix length");
    }
}

/// What to say of an address that is fine but oddly written.
pub fn warning(text: &str, path: Path<'_>) -> Option<String> {
    let address = sloppy(text)?.to_canonical();
    let usual = address.to_string();
    (usual != text).then(|| match address.is_ipv6() {
        true => format!(
            "{path}: IPv6 address {text:?} should be in RFC 5952 canonical format ({usual:?})"
        ),
        false => format!("{path}: non-standard IP address {text:?} is invalid: use {usual:?}"),
    })
}

/// What to say of a range that is fine but oddly written.
pub fn range_warning(text: &str, path: Path<'_>) -> Option<String> {
    let (address, bits) = sloppy_range(text)?;
    let own = network(address, bits);
    if own != address {
        let most = if address.is_ipv4() { 32 } else { 128 };
        return Some(format!(
            "{path}: CIDR value {text:?} is ambiguous in this context (should be \"{own}/{bits}\" or \"{address}/{most}\"?)"
        ));
    }
    let usual = format!("{address}/{bits}");
    (usual != text && address.is_ipv6()).then(|| {
        format!(
            "{path}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({usual:?})"
        )
    })
}

/// The parts of a range, also where numbers have leading zeros.
fn sloppy_range(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address = without_zeros(address).parse::<IpAddr>().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
    let bits = bits.parse::<u8>().ok().filter(|bits| digits && *bits <= most)?;
    Some((address, bits))
}

/// `010.0.0.1` as old clients meant it.
fn without_zeros(text: &str) -> String {
    if text.contains(':') || !text.contains('.') {
        return text.to_owned();
    }
    let bare = |part: &str| match part.trim_start_matches('0') {
        "" if !part.is_empty() => "0".to_owned(),
        bare => bare.to_owned(),
    };
    text.split('.').map(bare).collect::<Vec<_>>().join(".")
}

fn network(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: fn(&Value, Path<'_>, &mut Causes), cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let mut causes = Causes::default();
            rule(&Value::from(*text), Path::Root.child("ip"), &mut causes);
            let found = causes.into_vec().into_iter().map(|cause| cause.message);
            let found = found.collect::<Vec<_>>().join("; ");
            assert!(
                found.ends_with(expected) && expected.is_empty() == found.is_empty(),
                "{text}: {found}"
            );
        }
    }

    #[test]
    fn addresses() {
        check(
            validate,
            &[
                ("10.0.0.1", ""),
                ("fd00::1", ""),
                ("010.0.0.1", "must not have leading 0s"),
                ("::ffff:1.2.3.4", "must not be an IPv4-mapped IPv6 address"),
                ("x", "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"),
            ],
        );
        assert_eq!(warning("10.0.0.1", Path::Root), None);
        assert!(warning("FD00::1", Path::Root.child("ip")).is_some());
        for (odd, usual) in [("010.0.0.1", "10.0.0.1"), ("::ffff:1.2.3.4", "1.2.3.4")] {
            let expected = format!("ip: non-standard IP address {odd:?} is invalid: use {usual:?}");
            assert_eq!(warning(odd, Path::Root.child("ip")), Some(expected));
        }
    }

    #[test]
    fn ranges() {
        check(
            validate_range,
            &[
                ("10.0.0.0/8", ""),
                ("fd00::/64", ""),
                ("0.0.0.0/0", ""),
                ("10.0.0.0/08", "must not have leading 0s in IP or prefix length"),
                ("10.0.0.1/8", "must not have bits set beyond the prefix length"),
                ("10.0.0.0", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
                ("10.0.0.0/33", "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
            ],
        );
    }
}
