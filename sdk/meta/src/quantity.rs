//! Amounts of CPU, memory and other resources, exactly as upstream reads and prints them. The
//! published crates round or reject valid forms, so this is our own: an integer of nano units.

use std::{cmp::Ordering, fmt, str::FromStr};

/// One unit is this many of the integer inside.
const NANO: i128 = 1_000_000_000;
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];

/// `resource.Quantity`. Values finer than a nano unit are rounded up, as upstream does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    form: Form,
}

/// How it was written, which decides how it is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Form {
    #[default]
    Decimal,
    Binary,
    Exponent,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)]
pub struct ParseQuantityError;

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, form: Form::Decimal };

    pub fn from_units(units: i64) -> Self {
        Self { nanos: i128::from(units) * NANO, form: Form::Decimal }
    }

    pub fn from_millis(millis: i64) -> Self {
        Self { nanos: i128::from(millis) * (NANO / 1000), form: Form::Decimal }
    }

    /// An amount of memory, printed with binary suffixes.
    pub fn from_bytes(bytes: u64) -> Self {
        Self { nanos: i128::from(bytes) * NANO, form: Form::Binary }
    }

    /// Whole units, rounded up.
    pub fn units(&self) -> i64 {
        saturate(div_up(self.nanos, NANO))
    }

    /// Thousandths, rounded up.
    pub fn millis(&self) -> i64 {
        saturate(div_up(self.nanos, NANO / 1000))
    }

    /// The amount, rounded up to thousandths.
    pub fn ceil_to_millis(self) -> Self {
        const MILLI: i128 = NANO / 1000;
        Self { nanos: div_up(self.nanos, MILLI) * MILLI, ..self }
    }

    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    pub fn saturating_add(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(other.nanos), form: self.form }
    }

    pub fn saturating_sub(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(other.nanos), form: self.form }
    }
}

impl FromStr for Quantity {
    type Err = ParseQuantityError;

    fn from_str(text: &str) -> Result<Self, ParseQuantityError> {
        let end = text
            .char_indices()
            .find(|(at, c)| !(c.is_ascii_digit() || *c == '.' || (*at == 0 && "+-".contains(*c))));
        let (number, suffix) = text.split_at(end.map_or(text.len(), |(at, _)| at));
        let (multiplier, power, form) = suffix_scale(suffix)?;
        let nanos = scaled(number, multiplier, power)?;
        Ok(Self { nanos, form })
    }
}

/// (multiplier, power of ten, form) of a suffix.
fn suffix_scale(suffix: &str) -> Result<(i128, i32, Form), ParseQuantityError> {
    if let Some(at) = BINARY.iter().position(|known| *known == suffix) {
        return Ok((1 << (10 * (at + 1)), 0, Form::Binary));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(known, _)| *known == suffix) {
        return Ok((1, *power, Form::Decimal));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseQuantityError)?;
    let power = exponent.parse::<i32>().map_err(|_| ParseQuantityError)?;
    if (-30..=30).contains(&power) {
        Ok((1, power, Form::Exponent))
    } else {
        Err(ParseQuantityError)
    }
}

/// `number * multiplier * 10^power` in nano units, rounded away from zero; it saturates.
fn scaled(number: &str, multiplier: i128, power: i32) -> Result<i128, ParseQuantityError> {
    let (negative, digits) = match number.as_bytes().first() {
        Some(b'-') => (true, &number[1..]),
        Some(b'+') => (false, &number[1..]),
        _ => (false, number),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    if all.is_empty() || all.len() > 30 || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ParseQuantityError);
    }
    let mantissa = all.parse::<i128>().map_err(|_| ParseQuantityError)?.saturating_mul(multiplier);
    let shift = power + 9 - i32::try_from(fraction.len()).unwrap_or(i32::MAX);
    let magnitude = 10i128.checked_pow(shift.unsigned_abs());
    let nanos = match (shift >= 0, magnitude) {
        (true, Some(factor)) => mantissa.saturating_mul(factor),
        (true, None) => i128::MAX,
        (false, Some(divisor)) => div_up(mantissa, divisor),
        (false, None) => i128::from(mantissa > 0),
    };
    Ok(if negative { -nanos } else { nanos })
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.form == Form::Binary && self.nanos % NANO == 0 {
            let units = self.nanos / NANO;
            // Below 1024 the binary form prints like the decimal one.
            if units.unsigned_abs() >= 1024 {
                let power = (units.trailing_zeros() as usize / 10).min(BINARY.len());
                let suffix = power.checked_sub(1).map_or("", |at| BINARY[at]);
                return write!(f, "{}{suffix}", units >> (10 * power));
            }
        }
        let (mut number, mut power) = (self.nanos, -9);
        while number % 1000 == 0 && power < 18 {
            number /= 1000;
            power += 3;
        }
        let suffix =
            DECIMAL.iter().find(|(_, known)| *known == power).map_or("", |(suffix, _)| *suffix);
        match (self.form, power) {
            (Form::Exponent, 1..) => write!(f, "{number}e{power}"),
            _ => write!(f, "{number}{suffix}"),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

fn div_up(number: i128, divisor: i128) -> i128 {
    number / divisor + i128::from(number % divisor > 0)
}

fn saturate(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_as_upstream() {
        for (text, printed, millis) in [
            ("100m", "100m", 100),
            ("0.1", "100m", 100),
            ("1", "1", 1000),
            ("1000m", "1", 1000),
            ("1Gi", "1Gi", 1024 * 1024 * 1024 * 1000),
            ("1.5Gi", "1536Mi", 1536 * 1024 * 1024 * 1000),
            ("1024Mi", "1Gi", 1024 * 1024 * 1024 * 1000),
            ("1k", "1k", 1_000_000),
            ("1000", "1k", 1_000_000),
            ("1e3", "1e3", 1_000_000),
            ("0", "0", 0),
            ("-1", "-1", -1000),
            ("1n", "1n", 1),
            ("2500m", "2500m", 2500),
            ("128974848", "128974848", 128_974_848_000),
            ("0.5Ki", "512", 512_000),
        ] {
            let quantity: Quantity = text.parse().expect(text);
            assert_eq!(
                (quantity.to_string().as_str(), quantity.millis()),
                (printed, millis),
                "{text}"
            );
        }
        for text in ["", "a", "1.2.3", "1Zi", "1e", "--1", "1 Gi", "."] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }
}
