//! Every field of a pod's specification and what becomes of it, for WASM and for containers: honoured,
//! refused with a reason, or without meaning with a reason. One truth: what is refused is refused by these
//! rows, the README's section is made of them, and a test holds them against the schema. A row
//! that is refused or without meaning covers what is below it.

use windlass_runtime_api::Nature;

mod container;
mod pod;
mod volume;

#[cfg(test)]
mod tests;

/// A type of the API and its fields.
pub struct Type {
    pub name: &'static str,
    pub fields: &'static [Field],
}

#[derive(Clone, Copy)]
pub struct Field {
    pub name: &'static str,
    pub verdict: Verdict,
    /// For containers, where it is another.
    pub container: Option<Verdict>,
    /// The type whose rows hold for what is below; empty for values.
    pub to: &'static str,
}

#[derive(Clone, Copy)]
pub enum Verdict {
    /// As upstream's node does it; the note, if any, says how.
    Honoured(&'static str),
    /// Such values are refused, others are honoured.
    Refused(When, &'static str),
    /// Accepted, because there is nothing that it could change.
    Without(&'static str),
}

/// Which values of a field are refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum When {
    /// Every one but null, an empty text or list, zero and false.
    Set,
    True,
    False,
    OneOf(&'static [&'static str]),
    NotOneOf(&'static [&'static str]),
}

const fn honoured(name: &'static str) -> Field {
    so(name, "")
}

const fn so(name: &'static str, note: &'static str) -> Field {
    Field { name, verdict: Verdict::Honoured(note), container: None, to: "" }
}

const fn into(name: &'static str, to: &'static str) -> Field {
    honoured(name).to(to)
}

const fn refused(name: &'static str, when: When, why: &'static str) -> Field {
    Field { name, verdict: Verdict::Refused(when, why), container: None, to: "" }
}

const fn without(name: &'static str, why: &'static str) -> Field {
    Field { name, verdict: Verdict::Without(why), container: None, to: "" }
}

impl Field {
    const fn to(self, to: &'static str) -> Self {
        Self { to, ..self }
    }

    /// Containers get it.
    const fn but_containers(self) -> Self {
        self.but_containers_so("")
    }

    const fn but_containers_so(self, note: &'static str) -> Self {
        Self { container: Some(Verdict::Honoured(note)), ..self }
    }

    const fn but_containers_refuse(self, when: When, why: &'static str) -> Self {
        Self { container: Some(Verdict::Refused(when, why)), ..self }
    }

    const fn but_for_containers_without(self, why: &'static str) -> Self {
        Self { container: Some(Verdict::Without(why)), ..self }
    }

    pub fn verdict_for(&self, nature: Nature) -> Verdict {
        match nature {
            Nature::Wasm => self.verdict,
            Nature::Container => self.container.unwrap_or(self.verdict),
        }
    }
}

impl When {
    pub fn holds(self, value: &serde_json::Value) -> bool {
        use serde_json::Value;
        match (self, value) {
            (Self::Set, Value::Null) => false,
            (Self::Set | Self::True, Value::Bool(value)) => *value,
            (Self::False, Value::Bool(value)) => !*value,
            (Self::Set, Value::Number(number)) => number.as_f64() != Some(0.0),
            (Self::Set, Value::String(text)) => !text.is_empty(),
            (Self::Set, Value::Array(items)) => !items.is_empty(),
            (Self::Set, Value::Object(_)) => true,
            (Self::OneOf(list), Value::String(text)) => list.contains(&text.as_str()),
            (Self::NotOneOf(list), Value::String(text)) => !list.contains(&text.as_str()),
            _ => false,
        }
    }
}

/// All types below a pod's specification, which is the first.
pub fn types() -> impl Iterator<Item = &'static Type> {
    pod::TYPES.iter().chain(container::TYPES).chain(volume::TYPES)
}

/// The rows of a type; None for one that isn't in the table.
pub fn fields_of(name: &str) -> Option<&'static [Field]> {
    types().find(|known| known.name == name).map(|known| known.fields)
}

/// The tables for people: one line a type, in Markdown; for containers only what is different.
pub fn pod_fields_markdown() -> String {
    let all = table(Nature::Wasm, &|_| true);
    let other = table(Nature::Container, &|field| field.container.is_some());
    format!("For WASM:\n\n{all}\nWhat is different for containers:\n\n{other}")
}

fn table(nature: Nature, shown: &dyn Fn(&Field) -> bool) -> String {
    let mut out = String::from(
        "| type | honoured | refused | accepted, without meaning |\n|---|---|---|---|\n",
    );
    for row in types().filter(|row| row.fields.iter().any(shown)) {
        let mut honoured = Vec::new();
        let (mut refused, mut without) = (Vec::new(), Vec::new());
        for field in row.fields.iter().filter(|field| shown(field)) {
            let name = format!("`{}`", field.name);
            match field.verdict_for(nature) {
                Verdict::Honoured("") => honoured.push(name),
                Verdict::Honoured(note) => honoured.push(format!("{name} ({note})")),
                Verdict::Refused(when, why) => {
                    if !matches!(when, When::Set | When::True) {
                        honoured.push(name.clone());
                    }
                    refused.push((format!("{name}{}", values(when)), why));
                }
                Verdict::Without(why) => without.push((name, why)),
            }
        }
        let cells = [honoured.join(", "), by_reason(&refused), by_reason(&without)];
        out.push_str(&format!("| {} | {} |\n", row.name, cells.join(" | ")));
    }
    out
}

/// Names with the same reason stand together.
fn by_reason(rows: &[(String, &'static str)]) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, why) in rows {
        match groups.iter_mut().find(|(known, _)| known == why) {
            Some((_, names)) => names.push(name),
            None => groups.push((why, vec![name])),
        }
    }
    let shown: Vec<String> =
        groups.iter().map(|(why, names)| format!("{}: {why}", names.join(", "))).collect();
    shown.join("; ")
}

fn values(when: When) -> String {
    let list = |list: &[&str]| {
        let named = list.iter().filter(|value| !value.is_empty());
        named.map(|value| format!("`{value}`")).collect::<Vec<_>>().join(" and ")
    };
    match when {
        When::Set | When::True => String::new(),
        When::False => " of `false`".to_owned(),
        When::OneOf(values) => format!(" of {}", list(values)),
        When::NotOneOf(values) => match list(values).as_str() {
            "" => String::new(),
            named => format!(" other than {named}"),
        },
    }
}
