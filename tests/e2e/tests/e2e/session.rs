//! One session at a terminal, `session/commands.txt`, with kubectl of several minor versions: with a
//! few in every run of the tests, with all of them by `cargo xtask test --every-kubectl`.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use base64::Engine as _;
use windlass_tests_e2e::{
    Kubectl,
    session::{Step, steps},
    tool,
};

use crate::shared;

const COMMANDS: &str = include_str!("session/commands.txt");
/// What lies in the folder where the commands are given, beside a certificate with its key and a
/// request for one.
const FILES: [(&str, &str); 3] = [
    ("patch.yaml", include_str!("session/patch.yaml")),
    ("kustomize/kustomization.yaml", include_str!("session/kustomize/kustomization.yaml")),
    ("kustomize/settings.yaml", include_str!("session/kustomize/settings.yaml")),
];
/// What the issue asks for, at least.
const LEAST_STEPS: usize = 100;
/// The minor versions that are supported; those that must be there, and whichever others are.
const MINORS: std::ops::RangeInclusive<u32> = 27..=37;
const ALWAYS: [u32; 4] = [27, 30, 32, 37];
/// A command that takes longer is ended.
const SECONDS_OF_A_COMMAND: u64 = 90;
/// Sessions at the same time.
const THREADS: usize = 2;

#[test]
fn one_session_with_each_kubectl() -> anyhow::Result<()> {
    let has = |minor: &u32| {
        ALWAYS.contains(minor) || tool(&format!("WINDLASS_KUBECTL_1_{minor}")).is_ok()
    };
    let minors: Vec<u32> = MINORS.filter(has).collect();
    let queue = std::sync::Mutex::new(minors.into_iter());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    let worker = || -> anyhow::Result<Vec<String>> {
        let mut failures = Vec::new();
        while let Some(minor) = next() {
            failures.extend(session(minor).with_context(|| format!("kubectl 1.{minor}"))?);
        }
        Ok(failures)
    };
    let failures: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(worker)).collect();
        let results = threads.into_iter().map(|thread| thread.join().expect("a thread ends"));
        results.collect::<anyhow::Result<Vec<_>>>().map(|failures| failures.concat())
    })?;
    assert!(failures.is_empty(), "{} failures\n\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

/// The whole session with one kubectl; what failed of it. One failure doesn't end it.
fn session(minor: u32) -> anyhow::Result<Vec<String>> {
    let steps = steps(COMMANDS, minor)?;
    ensure!(steps.len() >= LEAST_STEPS, "only {} commands", steps.len());
    let namespace = format!("session-{minor}");
    let kubectl = shared().kubectl(minor)?.in_new_namespace(&namespace)?;
    let terminal = Terminal { kubectl, home: home(&namespace)? };
    let begin = Instant::now();
    let mut failures = Vec::new();
    for step in &steps {
        let (exit, printed) = terminal.until_it_holds(step)?;
        if !step.holds(exit, &printed) {
            let exit = exit.map_or("a signal".to_owned(), |code| code.to_string());
            failures.push(format!(
                "kubectl 1.{minor}, commands.txt:{}: {}\n--- expected, exit {}\n{}\n--- printed, exit {exit}\n{}\n",
                step.line,
                step.words.join(" "),
                step.exit,
                step.expected.join("\n"),
                printed.trim_end(),
            ));
        }
    }
    eprintln!("kubectl 1.{minor}: {} commands in {:?}", steps.len(), begin.elapsed());
    Ok(failures)
}

struct Terminal {
    kubectl: Kubectl,
    /// Where the commands are given; kubectl keeps there what it learnt of a cluster, each version
    /// for itself.
    home: tempfile::TempDir,
}

impl Terminal {
    /// Gives the command, again until it does what it has to if the step has time for that.
    fn until_it_holds(&self, step: &Step) -> anyhow::Result<(Option<i32>, String)> {
        let deadline = Instant::now() + step.within;
        loop {
            let (exit, printed) = self.run(step)?;
            if step.holds(exit, &printed) || Instant::now() >= deadline {
                return Ok((exit, printed));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn run(&self, step: &Step) -> anyhow::Result<(Option<i32>, String)> {
        let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
        let mut child = Command::new("timeout")
            .arg(SECONDS_OF_A_COMMAND.to_string())
            .args(self.kubectl.words(&words))
            .current_dir(self.home.path())
            .env("HOME", self.home.path())
            .envs(step.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("can't start `timeout` (coreutils)")?;
        if let Some(mut stdin) = child.stdin.take() {
            // A kubectl that has no use for its input may be gone already.
            let _ = stdin.write_all(step.input.as_bytes());
        }
        let output = child.wait_with_output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.code(), text(&output.stdout) + &text(&output.stderr)))
    }
}

fn home(name: &str) -> anyhow::Result<tempfile::TempDir> {
    let home = tempfile::tempdir()?;
    std::fs::create_dir(home.path().join("kustomize"))?;
    for (name, text) in FILES {
        std::fs::write(home.path().join(name), text)?;
    }
    let signed = rcgen::generate_simple_self_signed(["example.com".to_owned()])?;
    std::fs::write(home.path().join("tls.crt"), signed.cert.pem())?;
    std::fs::write(home.path().join("tls.key"), signed.signing_key.serialize_pem())?;
    let key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::new([])?.serialize_request(&key)?.pem()?;
    let request = base64::engine::general_purpose::STANDARD.encode(request);
    let request = format!(
        "apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {{name: {name}}}
spec: {{signerName: example.com/session, usages: [client auth], request: {request}}}
"
    );
    std::fs::write(home.path().join("request.yaml"), request)?;
    Ok(home)
}
