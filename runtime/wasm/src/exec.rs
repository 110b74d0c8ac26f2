//! Runs a container's program once more, beside what the container does, with other arguments and
//! the caller's streams. What it writes passes through a bounded queue to a task that writes it
//! on, so that a slow caller slows the program, and everything is written when `exec` returns.

use std::{future::poll_fn, io, sync::Arc};

use bytes::Bytes;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt, DuplexStream, duplex},
    sync::{Mutex, mpsc},
    task::JoinHandle,
};
use wasmtime_wasi::{
    WasiCtxBuilder,
    cli::{AsyncStdinStream, IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamError, StreamResult},
};
use windlass_runtime_api::{BoxAsyncWrite, ExecIo, ExecSpec, RuntimeError};

use crate::{
    artifact::Run,
    command::PATIENCE,
    console::Input,
    container::Container,
    failure::Failure,
    guest::{Guest, Setup},
};

/// Chunks of output that wait for a slow caller.
const QUEUED_CHUNKS: usize = 16;
/// The most that a guest may write in one call.
const WRITE_BYTES: usize = 64 << 10;
const STDIN_BYTES: usize = 64 << 10;

fn refused(why: impl Into<String>) -> RuntimeError {
    RuntimeError::new("ExecError", why)
}

/// Runs to the end, and returns the exit code. Must be called on the guests' runtime.
pub async fn exec(
    container: Arc<Container>,
    run: &Run,
    weight: u32,
    exec: ExecSpec,
    io: ExecIo,
) -> Result<i32, RuntimeError> {
    let host = container.host.clone();
    let room = host.room(weight, PATIENCE).await;
    let room = room.ok_or_else(|| refused("all instance slots are taken"))?;
    let (streams, pumps) = Streams::new(io, exec.tty);
    let complaints = streams.stderr.0.clone();
    let setup = Setup {
        module: run.is_module(),
        arguments: Some(arguments(&container, exec.command)),
        streams: Some(streams),
        ..Setup::default()
    };
    let ended = {
        let mut call = Box::pin(async {
            if run.is_module() {
                container.open_mounts().await?;
            }
            let mut store = Guest::instance(&container, setup, room)?;
            let runnable = run.instantiate(&mut store).await?;
            Ok::<_, Failure>(runnable.run(&mut store).await?)
        });
        let running = poll_fn(|cx| container.poll(call.as_mut(), cx));
        container.ending.abort.run_until_cancelled(running).await
    };
    let code = match ended {
        None => 137,
        Some(Ok(Ok(()))) => 0,
        Some(Ok(Err(()))) => 1,
        Some(Err(failure)) => {
            if !matches!(failure, Failure::Exit(_)) {
                // A caller that went away needs no explanation.
                let _ = complaints.send(format!("{}\n", failure.message()).into()).await;
            }
            failure.exit().0
        }
    };
    drop(complaints);
    pumps.finish().await;
    Ok(code)
}

/// The program's name comes first, as programs expect; whoever gave it gets no second one.
fn arguments(container: &Container, command: Vec<String>) -> Vec<String> {
    let own = container.arguments().into_iter().next().unwrap_or_default();
    if command.first() == Some(&own) {
        return command;
    }
    [own].into_iter().chain(command).collect()
}

/// What one program reads and writes.
pub struct Streams {
    stdin: Option<DuplexStream>,
    stdout: Output,
    stderr: Output,
    tty: bool,
}

/// The tasks between a program and its caller.
struct Pumps {
    stdin: Option<JoinHandle<()>>,
    outputs: Vec<JoinHandle<()>>,
}

type Writer = Arc<Mutex<BoxAsyncWrite>>;

impl Streams {
    fn new(io: ExecIo, tty: bool) -> (Self, Pumps) {
        let (stdin, pump) = match io.stdin {
            None => (None, None),
            Some(mut from) => {
                let (mut to, guest) = duplex(STDIN_BYTES);
                let pump = tokio::spawn(async move {
                    // An error is an end: the program, or its caller, is gone.
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                    let _ = to.shutdown().await;
                });
                (Some(guest), Some(pump))
            }
        };
        let out: Writer = Arc::new(Mutex::new(io.stdout));
        let err = io.stderr.map_or_else(|| out.clone(), |err| Arc::new(Mutex::new(err)));
        let (stdout, out) = Output::to(out);
        let (stderr, err) = Output::to(err);
        (Self { stdin, stdout, stderr, tty }, Pumps { stdin: pump, outputs: vec![out, err] })
    }

    pub fn give(self, builder: &mut WasiCtxBuilder) {
        let terminal = self.tty;
        if let Some(stdin) = self.stdin {
            builder.stdin(Input { stream: AsyncStdinStream::new(stdin), terminal });
        }
        builder.stdout(Terminal { output: self.stdout, terminal });
        builder.stderr(Terminal { output: self.stderr, terminal });
    }
}

impl Pumps {
    /// Returns when everything is written, or can't be.
    async fn finish(mut self) {
        for output in std::mem::take(&mut self.outputs) {
            // It ends when the program's side is dropped, which it was.
            let _ = output.await;
        }
    }
}

impl Drop for Pumps {
    fn drop(&mut self) {
        for task in self.stdin.iter().chain(&self.outputs) {
            task.abort();
        }
    }
}

/// The program's side of an output.
#[derive(Clone)]
struct Output(mpsc::Sender<Bytes>);

impl Output {
    fn to(writer: Writer) -> (Self, JoinHandle<()>) {
        let (sender, mut chunks) = mpsc::channel::<Bytes>(QUEUED_CHUNKS);
        let pump = tokio::spawn(async move {
            while let Some(chunk) = chunks.recv().await {
                let mut writer = writer.lock().await;
                let written = writer.write_all(&chunk).await;
                if written.is_err() || (chunks.is_empty() && writer.flush().await.is_err()) {
                    return;
                }
            }
            // Nobody is left to be told.
            let _ = writer.lock().await.flush().await;
        });
        (Self(sender), pump)
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.0.try_send(bytes).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => StreamError::Closed,
            mpsc::error::TrySendError::Full(_) => {
                StreamError::trap("more was written than check-write permitted")
            }
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.0.is_closed() {
            return Err(StreamError::Closed);
        }
        Ok(if self.0.capacity() > 0 { WRITE_BYTES } else { 0 })
    }
}

#[async_trait::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {
        // Closed is ready too: the next write says so.
        let _ = self.0.reserve().await;
    }
}

struct Terminal {
    output: Output,
    terminal: bool,
}

impl IsTerminal for Terminal {
    fn is_terminal(&self) -> bool {
        self.terminal
    }
}

impl StdoutStream for Terminal {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        let sender = self.output.0.clone();
        let (ours, guest) = tokio::io::duplex(WRITE_BYTES);
        tokio::spawn(forward(ours, sender));
        Box::new(guest)
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.output.clone())
    }
}

/// For interfaces that write to a plain stream.
async fn forward(mut from: DuplexStream, to: mpsc::Sender<Bytes>) -> io::Result<()> {
    use tokio::io::AsyncReadExt;
    let mut buffer = vec![0; WRITE_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 || to.send(Bytes::copy_from_slice(&buffer[..read])).await.is_err() {
            return Ok(());
        }
    }
}
