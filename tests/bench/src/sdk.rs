//! A developer's change to the template `http-rust`, from the edited source to the first answer of
//! its Service, split into what the developer could ask for one by one.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use windlass_tests_e2e::{Cluster, http_get, tool};

use crate::report::{Figure, Report, percentile};

const RUNS: usize = 9;
const PATIENCE: Duration = Duration::from_secs(30);
const GREETING: &str = "Hello from";

pub fn measure(report: &mut Report) -> anyhow::Result<()> {
    let cluster = Cluster::start()?;
    let folder = tempfile::tempdir()?;
    let desk = Desk { cluster: &cluster, folder: folder.path() };
    desk.windlass(&["new", "cart"])?;
    let (cold, _) = desk.timed(&["build", "cart"])?;
    report.add(&Figure {
        bench: "sdk",
        metric: "build_cold_ms",
        value: cold,
        unit: "ms",
        peer: None,
        how: "`windlass build` of `windlass new cart` with nothing compiled and cargo's registry cache as it is; once",
    })?;
    let source = folder.path().join("cart/src/lib.rs");
    let text = fs::read_to_string(&source)?;
    let mut phases: [Vec<f64>; 5] = Default::default();
    for n in 0..RUNS {
        fs::write(&source, text.replace(GREETING, &format!("{GREETING} {n}:")))?;
        let (build, _) = desk.timed(&["build", "cart"])?;
        let name = format!("windlass.local/default/cart:bench-{n}");
        let (push, _) = desk.timed(&["push", &name, "cart/target/windlass/cart.wasm"])?;
        let (deploy, printed) = desk.timed(&["deploy", "cart"])?;
        let url = printed.lines().last().context("it prints a URL")?;
        let answer = first_answer(url, &format!("{GREETING} {n}:"))?;
        let taken = [build, push, deploy, answer, build + push + deploy + answer];
        for (samples, taken) in phases.iter_mut().zip(taken) {
            samples.push(taken);
        }
    }
    let what = [
        ("build_ms", "`windlass build` after a change of one line"),
        ("push_ms", "`windlass push` of that component to the cluster's registry"),
        (
            "deploy_ms",
            "`windlass deploy` of what is built and pushed (cargo finds nothing to do), until it ends: applied, rolled out, old pods gone",
        ),
        ("first_answer_ms", "from the end of `deploy` to the first 200 of the printed URL"),
        ("change_to_answer_ms", "the four together"),
    ];
    for ((metric, what), samples) in what.into_iter().zip(&mut phases) {
        let how = format!("{what}; processes start to end, seen by their parent; median of {RUNS}");
        let value = percentile(samples, 50);
        report.add(&Figure { bench: "sdk", metric, value, unit: "ms", peer: None, how: &how })?;
    }
    Ok(())
}

struct Desk<'a> {
    cluster: &'a Cluster,
    folder: &'a Path,
}

impl Desk<'_> {
    fn windlass(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut windlass = Command::new(tool("WINDLASS_BIN")?);
        let windlass = windlass.args(arguments).current_dir(self.folder);
        let output = windlass.env("KUBECONFIG", self.cluster.kubeconfig()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "windlass {arguments:?}: {said}");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Milliseconds, and what it printed.
    fn timed(&self, arguments: &[&str]) -> anyhow::Result<(f64, String)> {
        let began = Instant::now();
        let printed = self.windlass(arguments)?;
        Ok((milliseconds(began), printed))
    }
}

/// Milliseconds until the URL answers as expected, asked without pause.
fn first_answer(url: &str, expected: &str) -> anyhow::Result<f64> {
    let began = Instant::now();
    while !http_get(url).is_ok_and(|(status, body)| status == 200 && body.starts_with(expected)) {
        ensure!(began.elapsed() < PATIENCE, "{url} never answered {expected:?}");
    }
    Ok(milliseconds(began))
}

fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}
