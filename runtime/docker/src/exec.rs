//! Programs beside a container's own, and its own program's streams.

use std::{pin::Pin, sync::Arc};

use bollard::{
    Docker,
    container::LogOutput,
    errors::Error,
    exec::{CreateExecOptions, StartExecOptions, StartExecResults},
    query_parameters::{
        AttachContainerOptionsBuilder, ResizeContainerTTYOptionsBuilder, ResizeExecOptionsBuilder,
    },
};
use futures::{Stream, StreamExt};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use windlass_runtime_api::{Attached, ExecIo, ExecSpec, RuntimeError};

use crate::{engine::failed, labels::Role, runtime::Inner};

const EXEC_ERROR: &str = "ExecError";
/// What a program is said to have ended with when the engine doesn't know.
const UNKNOWN_CODE: i32 = 255;

type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;
type Input = Pin<Box<dyn AsyncWrite + Send>>;

impl Inner {
    /// The id of a container's newest attempt.
    pub async fn newest(
        &self,
        docker: &Docker,
        pod_uid: &str,
        container: &str,
    ) -> Result<String, RuntimeError> {
        let all = self.summaries(docker, Some(pod_uid)).await?;
        let of = all.into_iter().filter_map(|(summary, labels)| match labels.role {
            Role::Container { name, attempt, .. } if name == container => {
                Some((attempt, summary.id?))
            }
            _ => None,
        });
        let newest = of.max().map(|(_, id)| id);
        newest.ok_or_else(|| {
            RuntimeError::new(EXEC_ERROR, format!("the engine has no container {container}"))
        })
    }

    pub async fn exec(
        self: &Arc<Self>,
        pod_uid: &str,
        container: &str,
        exec: ExecSpec,
        io: ExecIo,
    ) -> Result<i32, RuntimeError> {
        let docker = self.engine.docker()?;
        let of = |error: Error| failed(EXEC_ERROR, "the program", &error);
        let id = self.newest(&docker, pod_uid, container).await?;
        let options = CreateExecOptions {
            attach_stdin: Some(io.stdin.is_some()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(exec.tty),
            cmd: Some(exec.command),
            ..CreateExecOptions::default()
        };
        let made = docker.create_exec(&id, options).await.map_err(of)?;
        let start = StartExecOptions { tty: exec.tty, ..StartExecOptions::default() };
        let started = docker.start_exec(&made.id, Some(start)).await.map_err(of)?;
        let StartExecResults::Attached { output, input } = started else {
            return Err(RuntimeError::new(EXEC_ERROR, "the engine gave no streams"));
        };
        let abandoned = Abandoned { inner: self.clone(), exec: Some(made.id.clone()) };
        let resize = |(columns, rows): (u16, u16)| {
            let (docker, exec) = (docker.clone(), made.id.clone());
            let size = ResizeExecOptionsBuilder::default().w(columns.into()).h(rows.into()).build();
            async move {
                if let Err(error) = docker.resize_exec(&exec, size).await {
                    tracing::debug!(%error, "the terminal keeps its size");
                }
            }
        };
        connect(output, input, io, resize).await;
        let ended = docker.inspect_exec(&made.id).await.map_err(of)?;
        abandoned.not();
        Ok(ended.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(UNKNOWN_CODE))
    }

    pub async fn attach(
        &self,
        pod_uid: &str,
        container: &str,
        io: ExecIo,
    ) -> Result<Attached, RuntimeError> {
        let docker = self.engine.docker()?;
        let of = |error: Error| failed(EXEC_ERROR, "the container's streams", &error);
        let id = self.newest(&docker, pod_uid, container).await?;
        let options = AttachContainerOptionsBuilder::default()
            .stream(true)
            .stdin(io.stdin.is_some())
            .stdout(true)
            .stderr(true)
            .build();
        let attached = docker.attach_container(&id, Some(options)).await.map_err(of)?;
        let resize = |(columns, rows): (u16, u16)| {
            let (docker, id) = (docker.clone(), id.clone());
            let size = ResizeContainerTTYOptionsBuilder::default();
            let size = size.w(columns.into()).h(rows.into()).build();
            async move {
                if let Err(error) = docker.resize_container_tty(&id, size).await {
                    tracing::debug!(%error, "the terminal keeps its size");
                }
            }
        };
        connect(attached.output, attached.input, io, resize).await;
        Ok(Attached::Ended)
    }
}

/// Passes everything on until the output ends.
async fn connect<F: Future<Output = ()>>(
    output: Output,
    input: Input,
    io: ExecIo,
    resize: impl Fn((u16, u16)) -> F,
) {
    let ExecIo { stdin, mut stdout, mut stderr, resize: sizes } = io;
    let mut output = output;
    let writing = async {
        while let Some(Ok(piece)) = output.next().await {
            let to = match (&piece, &mut stderr) {
                (LogOutput::StdErr { .. }, Some(stderr)) => stderr,
                _ => &mut stdout,
            };
            // Without a reader it is still followed: its end is the program's.
            let _ = to.write_all(&piece.into_bytes()).await;
            let _ = to.flush().await;
        }
    };
    let reading = async {
        let mut input = input;
        if let Some(mut stdin) = stdin {
            let _ = tokio::io::copy(&mut stdin, &mut input).await;
            let _ = input.shutdown().await;
        }
        // Dropped only with the session: an engine may take that for the end of all streams.
        std::future::pending::<()>().await;
        drop(input);
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
        () = resizing(sizes, resize) => {}
    }
    let _ = stdout.flush().await;
}

async fn resizing<F: Future<Output = ()>>(
    sizes: Option<mpsc::Receiver<(u16, u16)>>,
    resize: impl Fn((u16, u16)) -> F,
) {
    if let Some(mut sizes) = sizes {
        while let Some(size) = sizes.recv().await {
            resize(size).await;
        }
    }
    std::future::pending().await
}

/// A program whose caller went away is ended: the engine itself would let it run for ever.
struct Abandoned {
    inner: Arc<Inner>,
    exec: Option<String>,
}

impl Abandoned {
    fn not(mut self) {
        self.exec = None;
    }
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        let Some(exec) = self.exec.take() else { return };
        let inner = self.inner.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let Ok(docker) = inner.engine.docker() else { return };
            let Ok(found) = docker.inspect_exec(&exec).await else { return };
            let pid = found.pid.filter(|_| found.running == Some(true));
            let pid = pid.and_then(|pid| i32::try_from(pid).ok());
            if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw)
                && let Err(error) =
                    rustix::process::kill_process(pid, rustix::process::Signal::KILL)
            {
                tracing::debug!(%error, "a program without a caller goes on");
            }
        });
    }
}
