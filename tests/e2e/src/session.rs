//! A session at a terminal as a file: commands in order, and what each has to print. `steps` reads
//! it for one minor version of kubectl, `printed_as_expected` compares; both are pure.
//!
//! ```text
//! # A comment.
//! $ get configmap one -o name
//! configmap/one
//!
//! $ KUBE_EDITOR='sed -i s/a/b/' edit configmap one
//! [within 20 s]
//! [..1.29] printed by the old ones only
//! [1.30..] printed since 1.30
//! < a line of its input
//! any * text
//! ...
//! [exit 1]
//! ```
//!
//! `*` stands for any text in a line, `...` for any lines; how many blanks set words apart doesn't
//! count. A range of versions before a line makes
//! the line count for those only; before a command it does so for all that belongs to the command.
//! `{minor}` is the minor version everywhere.

use std::{ops::RangeInclusive, time::Duration};

use anyhow::{Context, bail};

/// One command and what it has to do.
#[derive(Debug, Default, PartialEq)]
pub struct Step {
    /// Where it stands in the file.
    pub line: usize,
    pub environment: Vec<(String, String)>,
    pub words: Vec<String>,
    pub input: String,
    pub expected: Vec<String>,
    pub exit: i32,
    /// It may be given again until then, if it doesn't do it at once.
    pub within: Duration,
}

/// The commands of a session for kubectl 1.`minor`. Errors name the line.
pub fn steps(text: &str, minor: u32) -> anyhow::Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut skips = false;
    for (at, line) in text.lines().enumerate() {
        let line = line.replace("{minor}", &minor.to_string());
        if line.starts_with('#') {
            continue;
        }
        let of_line = || format!("line {}: {line}", at + 1);
        let (counts, line) = counts_for(&line, minor).with_context(of_line)?;
        if let Some(command) = line.strip_prefix("$ ") {
            skips = !counts;
            if counts {
                steps.push(command_of(command, at + 1).with_context(of_line)?);
            }
            continue;
        }
        if skips || !counts {
            continue;
        }
        match steps.last_mut() {
            Some(step) => step.add(line).with_context(of_line)?,
            None if line.is_empty() => {}
            None => bail!("line {}: {line}: no command stands before it", at + 1),
        }
    }
    // Blank lines only set commands apart.
    for step in &mut steps {
        while step.expected.last().is_some_and(String::is_empty) {
            step.expected.pop();
        }
    }
    Ok(steps)
}

impl Step {
    fn add(&mut self, line: &str) -> anyhow::Result<()> {
        if let Some(input) = line.strip_prefix("< ").or((line == "<").then_some("")) {
            self.input += &format!("{input}\n");
        } else if let Some(code) = mark(line, "exit ", "") {
            self.exit = code.parse()?;
        } else if let Some(seconds) = mark(line, "within ", " s") {
            self.within = Duration::from_secs(seconds.parse()?);
        } else {
            self.expected.push(line.to_owned());
        }
        Ok(())
    }

    /// Whether it did what it has to; what was printed is stdout, then stderr.
    pub fn holds(&self, exit: Option<i32>, printed: &str) -> bool {
        exit == Some(self.exit) && printed_as_expected(&self.expected, printed)
    }
}

fn mark<'a>(line: &'a str, word: &str, unit: &str) -> Option<&'a str> {
    line.strip_prefix('[')?.strip_prefix(word)?.strip_suffix(']')?.strip_suffix(unit)
}

/// Whether a line counts for a minor version, and the line without its range.
fn counts_for(line: &str, minor: u32) -> anyhow::Result<(bool, &str)> {
    let Some((range, rest)) = line.strip_prefix('[').and_then(|line| line.split_once(']')) else {
        return Ok((true, line));
    };
    let Some((from, to)) = range.split_once("..").filter(|_| rest.starts_with(' ')) else {
        return Ok((true, line));
    };
    let end = |text: &str, open: u32| -> anyhow::Result<u32> {
        match text.strip_prefix("1.") {
            Some(minor) => Ok(minor.parse()?),
            None if text.is_empty() => Ok(open),
            None => bail!("a range of versions is [1.28..], [..1.28] or [1.28..1.30]"),
        }
    };
    let range: RangeInclusive<u32> = end(from, 0)?..=end(to, u32::MAX)?;
    Ok((range.contains(&minor), rest.trim_start()))
}

fn command_of(text: &str, line: usize) -> anyhow::Result<Step> {
    let mut step = Step { line, ..Step::default() };
    let is_name = |name: &str| name.chars().all(|c| c.is_ascii_uppercase() || c == '_');
    for word in words(text)? {
        match word.split_once('=') {
            Some((name, value)) if step.words.is_empty() && is_name(name) => {
                step.environment.push((name.to_owned(), value.to_owned()));
            }
            _ => step.words.push(word),
        }
    }
    Ok(step)
}

/// Words of a command line: blanks set them apart, quotes of either sort hold them together.
fn words(text: &str) -> anyhow::Result<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for one in text.chars() {
        match quote {
            Some(open) if one == open => quote = None,
            None if one == '\'' || one == '"' => {
                quote = Some(one);
                word.get_or_insert_default();
            }
            None if one == ' ' => words.extend(word.take()),
            _ => word.get_or_insert_default().push(one),
        }
    }
    if let Some(open) = quote {
        bail!("the quote {open} is not closed");
    }
    words.extend(word);
    Ok(words)
}

/// Whether these lines, with their `*` and `...`, are what was printed. Blanks at the end of a line
/// and blank lines at the end don't count.
pub fn printed_as_expected(expected: &[String], printed: &str) -> bool {
    let printed: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
    like(expected, &printed, |line| line == "...", |line, text| line_like(line, text))
}

fn line_like(pattern: &str, text: &str) -> bool {
    // Between blanks it may stand for nothing at all.
    let pattern = squeezed(pattern.trim_end()).replace(" * ", " *");
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), squeezed(text).chars().collect());
    like(&pattern, &text, |one| *one == '*', |one, other| one == other)
}

/// The line with single blanks behind its indentation: columns are as wide as what stands in them.
fn squeezed(line: &str) -> String {
    let text = line.trim_start_matches(' ');
    let mut chars: Vec<char> = text.chars().collect();
    chars.dedup_by(|one, before| *one == ' ' && *before == ' ');
    " ".repeat(line.len() - text.len()) + &chars.into_iter().collect::<String>()
}

/// Whether a sequence follows a pattern in which some elements stand for any sequence.
fn like<P, T>(
    pattern: &[P],
    sequence: &[T],
    is_any: impl Fn(&P) -> bool,
    is_same: impl Fn(&P, &T) -> bool,
) -> bool {
    let (mut at, mut pattern_at) = (0, 0);
    // Where the last "any" stands, and how far it reaches so far.
    let mut any: Option<(usize, usize)> = None;
    while at < sequence.len() {
        if pattern.get(pattern_at).is_some_and(&is_any) {
            any = Some((pattern_at, at));
            pattern_at += 1;
        } else if pattern.get(pattern_at).is_some_and(|one| is_same(one, &sequence[at])) {
            (pattern_at, at) = (pattern_at + 1, at + 1);
        } else if let Some((stands, reaches)) = any {
            any = Some((stands, reaches + 1));
            (pattern_at, at) = (stands + 1, reaches + 1);
        } else {
            return false;
        }
    }
    pattern[pattern_at..].iter().all(is_any)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "# a comment
$ KUBE_EDITOR='sed -i s/a/b/' edit configmap one
[within 20 s]
[..1.29] old
[1.30..] new
< first

$ get 'a b' \"c'd\"
[exit 1]

[1.30..1.32] $ only -n s-{minor}
two

$ last
...
";

    fn shown(minor: u32) -> Vec<String> {
        let one = |step: &Step| {
            format!(
                "{} {:?} {:?} {:?} {} {}",
                step.line,
                step.words,
                step.input,
                step.expected,
                step.exit,
                step.within.as_secs()
            )
        };
        steps(SESSION, minor).expect("a session").iter().map(one).collect()
    }

    #[test]
    fn a_session_is_read_for_a_version() {
        let old = r#"2 ["edit", "configmap", "one"] "first\n" ["old"] 0 20"#;
        let new = r#"2 ["edit", "configmap", "one"] "first\n" ["new"] 0 20"#;
        let get = r#"8 ["get", "a b", "c'd"] "" [] 1 0"#;
        let only = r#"11 ["only", "-n", "s-30"] "" ["two"] 0 0"#;
        let last = r#"14 ["last"] "" ["..."] 0 0"#;
        assert_eq!(shown(29), [old, get, last]);
        assert_eq!(shown(30), [new, get, only, last]);
        assert_eq!(shown(33), [new, get, last]);
        let step = &steps(SESSION, 30).expect("a session")[0];
        assert_eq!(step.environment, [("KUBE_EDITOR".to_owned(), "sed -i s/a/b/".to_owned())]);
    }

    #[test]
    fn what_is_no_session_is_refused_with_its_line() {
        let said = |text: &str| format!("{:#}", steps(text, 30).expect_err("refused"));
        assert_eq!(said("\nprinted"), "line 2: printed: no command stands before it");
        assert_eq!(said("$ get 'a"), "line 1: $ get 'a: the quote ' is not closed");
        assert!(said("[2.0..] $ get").contains("a range of versions is"));
        assert!(said("$ get\n[exit one]").starts_with("line 2: [exit one]: "));
    }

    #[test]
    fn printed_lines_are_compared() {
        let holds = |expected: &str, printed: &str| {
            let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
            printed_as_expected(&expected, printed)
        };
        for (expected, printed) in [
            ("", ""),
            ("a\nb", "a  \nb\n\n"),
            ("a*c", "abc"),
            ("  a  *  c", "  a b     c"),
            ("a * c", "a c"),
            ("*a*", "a"),
            ("a*b*c", "a-bb-b-c"),
            ("...", ""),
            ("a\n...\nd", "a\nb\nc\nd"),
            ("...\nb*\n...", "a\nb\nbc\nd"),
        ] {
            assert!(holds(expected, printed), "{expected:?} {printed:?}");
        }
        for (expected, printed) in [
            ("", "a"),
            ("a", ""),
            ("a", "A"),
            ("a", "a\nb"),
            ("a*c", "abcd"),
            ("  a", " a"),
            ("a b", "ab"),
            ("a\n...\nd", "a\nb\nc"),
            ("...\nb", "a\nb\nc"),
        ] {
            assert!(!holds(expected, printed), "{expected:?} {printed:?}");
        }
    }
}
