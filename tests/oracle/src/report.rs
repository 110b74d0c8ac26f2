//! What the comparison found: a table by kind for people, each request as JSON for programs.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    causes::Signatures,
    compare::{Answer, Difference},
    purpose::Purposes,
    session::{Session, Step},
};

/// Counts of one kind.
#[derive(Clone, Copy, Default)]
struct Counts {
    cases: usize,
    equal: usize,
    on_purpose: usize,
}

pub struct Report {
    kinds: Vec<String>,
    counts: BTreeMap<String, Counts>,
    signatures: Signatures,
    /// The kind whose sessions come in now: its counts are told when the next one begins.
    current: String,
    purposes: Purposes,
    verbose: bool,
    json: Option<BufWriter<File>>,
}

impl Report {
    /// `kinds` in the order in which they are printed.
    pub fn new(kinds: Vec<String>, verbose: bool, json: Option<&Path>) -> anyhow::Result<Self> {
        let create = |path: &Path| File::create(path).with_context(|| path.display().to_string());
        Ok(Self {
            kinds,
            counts: BTreeMap::new(),
            signatures: Signatures::default(),
            current: String::new(),
            purposes: Purposes::load()?,
            verbose,
            json: json.map(create).transpose()?.map(BufWriter::new),
        })
    }

    /// Counts one request that both sides answered.
    pub fn add(
        &mut self,
        kind: &str,
        step: &Step,
        ours: &Answer,
        theirs: &Answer,
    ) -> anyhow::Result<()> {
        self.tell_progress(kind);
        let differences = ours.differences(theirs);
        let (purpose, different): (Vec<_>, Vec<_>) =
            differences.into_iter().partition(|d| self.purposes.explain(kind, &step.label, d));
        if step.set_up && different.is_empty() {
            return Ok(());
        }
        let counts = self.counts.entry(kind.to_owned()).or_default();
        counts.cases += 1;
        counts.equal += usize::from(different.is_empty() && purpose.is_empty());
        counts.on_purpose += usize::from(different.is_empty() && !purpose.is_empty());
        if !different.is_empty() {
            self.signatures.add(kind, &step.label, &different);
        }
        if let Some(file) = &mut self.json {
            let line = json!({
                "kind": kind,
                "label": step.label,
                "request": format!("{} {}", step.method, step.path),
                "verdict": verdict(&different, &purpose),
                "differences": different.iter().map(as_json).collect::<Vec<_>>(),
                "body": match &step.body {
                    crate::session::Body::Object(value) => value.clone(),
                    other => format!("{other:?}").into(),
                },
            });
            writeln!(file, "{line}")?;
        }
        if self.verbose && !different.is_empty() {
            println!("{kind}: {}\n    {} {}", step.label, step.method, step.path);
            for difference in &different {
                println!("    {}", difference.path);
                println!("      ours   {}", difference.ours);
                println!("      theirs {}", difference.theirs);
            }
        }
        Ok(())
    }

    /// Counts a session that couldn't be sent to its end as one difference.
    pub fn cut_short(&mut self, session: &Session, why: &anyhow::Error) -> anyhow::Result<()> {
        eprintln!("a session of {} ended early: {why:#}", session.kind);
        let answer = |text: &str| Answer(json!({"session": text}));
        let step = Step::new("session cut short", "", "");
        self.add(&session.kind, &step, &answer("sent"), &answer(&format!("{why:#}")))
    }

    /// Tells the counts of a kind once all its sessions are in: they come kind by kind.
    fn tell_progress(&mut self, kind: &str) {
        if self.current == kind {
            return;
        }
        if let Some(counts) = self.counts.get(&self.current) {
            eprintln!("{}", row(&self.current, counts));
        }
        self.current = kind.to_owned();
    }

    /// Prints the causes of differences, the most frequent first, and the table; returns how many
    /// requests differ.
    pub fn finish(mut self) -> anyhow::Result<usize> {
        self.tell_progress("");
        self.signatures.print();
        if let Some(file) = &mut self.json {
            file.flush()?;
        }
        println!("| kind | cases | equal | on purpose | different |");
        println!("|---|---:|---:|---:|---:|");
        let mut sum = Counts::default();
        for kind in &self.kinds {
            let Some(counts) = self.counts.get(kind) else { continue };
            println!("{}", row(kind, counts));
            sum.cases += counts.cases;
            sum.equal += counts.equal;
            sum.on_purpose += counts.on_purpose;
        }
        println!("{}", row("all", &sum));
        Ok(sum.cases - sum.equal - sum.on_purpose)
    }
}

fn row(kind: &str, counts: &Counts) -> String {
    let Counts { cases, equal, on_purpose } = counts;
    format!("| {kind} | {cases} | {equal} | {on_purpose} | {} |", cases - equal - on_purpose)
}

fn verdict(different: &[Difference], purpose: &[Difference]) -> &'static str {
    match (different.is_empty(), purpose.is_empty()) {
        (false, _) => "different",
        (true, false) => "on purpose",
        (true, true) => "equal",
    }
}

fn as_json(difference: &Difference) -> Value {
    json!({"path": difference.path, "ours": difference.ours, "theirs": difference.theirs})
}
