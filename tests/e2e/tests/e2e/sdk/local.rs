//! `windlass run`: the engine of a node on a developer's machine.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::Value;
use windlass_tests_e2e::{http_get, tool, wait_for};

use super::Desk;

/// A build takes this long where the machine does other things, and so does the compilation of an
/// engine for a whole language.
const BUILT_WITHIN: u64 = 400;

/// A `windlass run` that answers.
pub struct Local {
    child: Child,
    pub url: String,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Local {
    pub fn start(desk: &Desk, arguments: &[&str]) -> anyhow::Result<Self> {
        let all = [&["run", "--listen", "127.0.0.1:0"], arguments].concat();
        let mut command = desk.command(&tool("WINDLASS_BIN")?, &all);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (stdout, stderr) = (read(child.stdout.take())?, read(child.stderr.take())?);
        // From here on it is stopped, whatever comes.
        let mut local = Self { child, url: String::new(), stdout, stderr };
        let url = wait_for("it prints a URL, or ends", BUILT_WITHIN, || {
            let first = text(&local.stdout).lines().next().map(str::to_owned);
            let ended = local.child.try_wait().ok().flatten();
            first.or_else(|| ended.map(|_| text(&local.stderr)))
        });
        let told = serde_json::from_str::<Value>(&url).unwrap_or_default();
        let url = told["url"].as_str().unwrap_or(&url);
        ensure!(url.starts_with("http://"), "{url}");
        local.url = url.to_owned();
        Ok(local)
    }

    pub fn get(&self, path: &str) -> anyhow::Result<String> {
        let (status, body) = http_get(&format!("{}{path}", self.url))?;
        ensure!(status == 200, "{path}: {status} {body}");
        Ok(body)
    }

    fn answers(&self, expected: &str) {
        wait_for(&format!("{:?} answers {expected:?}", self.url), BUILT_WITHIN, || {
            http_get(&self.url).ok().filter(|(_, body)| body == expected)
        });
    }

    fn says(&self, expected: &str) {
        wait_for(&format!("stderr has {expected:?}"), BUILT_WITHIN, || {
            text(&self.stderr).contains(expected).then_some(())
        });
    }

    fn stop(mut self) -> anyhow::Result<ExitStatus> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes out of a pipe, as it comes.
fn read(pipe: Option<impl Read + Send + 'static>) -> anyhow::Result<Arc<Mutex<String>>> {
    let pipe = pipe.context("a pipe")?;
    let read = Arc::new(Mutex::new(String::new()));
    let into = read.clone();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if let Ok(mut into) = into.lock() {
                *into += &line;
                into.push('\n');
            }
        }
    });
    Ok(read)
}

fn text(of: &Mutex<String>) -> String {
    of.lock().map(|text| text.clone()).unwrap_or_default()
}

/// Somebody who asks again and again, over one connection for as long as it is kept.
struct Asking {
    enough: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<String>>,
}

impl Asking {
    fn start(url: &str) -> Self {
        let (enough, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (url, until, count) = (url.to_owned(), enough.clone(), asked.clone());
        let thread = thread::spawn(move || {
            let config =
                ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(15))).build();
            let agent = ureq::Agent::new_with_config(config);
            let mut failed = Vec::new();
            while !until.load(SeqCst) {
                let answer = agent.get(&url).call();
                let body = answer.and_then(|mut answer| answer.body_mut().read_to_string());
                match body {
                    Ok(_) => drop(count.fetch_add(1, SeqCst)),
                    Err(error) => failed.push(error.to_string()),
                }
            }
            failed
        });
        Self { enough, asked, thread }
    }

    /// How many were answered, and why others were not.
    fn stop(self) -> (usize, Vec<String>) {
        self.enough.store(true, SeqCst);
        let failed = self.thread.join().unwrap_or_else(|_| vec!["the thread panicked".into()]);
        (self.asked.load(SeqCst), failed)
    }
}

#[test]
fn a_changed_build_takes_over_and_no_request_is_lost() -> anyhow::Result<()> {
    let desk = Desk::new("sdk-run")?;
    desk.works(&["new", "till"])?;
    let local = Local::start(&desk, &["till", "--watch"])?;
    local.answers("Hello from till\n");
    wait_for("what the guest logs is shown", 10, || {
        let shown = text(&local.stdout) + &text(&local.stderr);
        shown.contains("GET / 200").then_some(())
    });

    let again = desk.windlass(&["run", "till", "--listen", "127.0.0.1:0"])?;
    let said = String::from_utf8(again.stderr)?;
    ensure!(said.contains("the project runs already"), "{said}");

    let asking = [Asking::start(&local.url), Asking::start(&local.url)];
    desk.edit("till/src/lib.rs", "Hello from", "Good day from")?;
    local.answers("Good day from till\n");
    local.says("till runs as changed");
    // The one before has time to end while they ask on.
    thread::sleep(Duration::from_secs(1));
    for asking in asking {
        let (answered, failed) = asking.stop();
        ensure!(failed.is_empty() && answered > 100, "{answered} answered; {failed:?}");
    }

    // What doesn't build is told, and what ran goes on.
    desk.edit("till/src/lib.rs", "pub fn handle(", "pub fn handel(")?;
    local.says("what ran before goes on");
    local.answers("Good day from till\n");
    desk.edit("till/src/lib.rs", "pub fn handel(", "pub fn handle(")?;
    desk.edit("till/src/lib.rs", "Good day from", "Good night from")?;
    local.answers("Good night from till\n");
    let ended = local.stop()?;
    ensure!(ended.success(), "{ended}");

    // For programs.
    let local = Local::start(&desk, &["till", "--json"])?;
    local.answers("Good night from till\n");
    wait_for("what the guest logs is an object", 10, || {
        let shown = text(&local.stdout);
        let mut told = shown.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        told.any(|one| one["event"] == "log" && one["line"] == "GET / 200").then_some(())
    });
    Ok(())
}
