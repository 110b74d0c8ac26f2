//! Runs a command to its end. WASI has no signals: a command that is asked to end sees the end of
//! its stdin and gets its grace period to finish by itself, and is then dropped, also while it
//! computes.

use std::{future::poll_fn, sync::Arc, time::Duration};

use crate::{
    artifact::{Run, Runnable},
    container::Container,
    failure::Failure,
    guest::{Guest, Setup},
    instance::Instance,
};

/// How long a command waits for a free instance slot.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the instance and sets it going; its end becomes the container's. Must be called on the
/// guests' runtime.
pub async fn start(container: &Arc<Container>, program: &Run, weight: u32) -> Result<(), Failure> {
    let host = &container.host;
    let busy = || Failure::NoRoom("all instance slots are taken".into());
    let room = host.room(weight, PATIENCE).await.ok_or_else(busy)?;
    container.log.be_patient();
    if program.is_module() {
        container.open_mounts().await?;
    }
    let setup = Setup { module: program.is_module(), main: true, ..Setup::default() };
    let mut instance = Guest::instance(container, setup, room)?;
    let mut making = Box::pin(program.instantiate(&mut instance));
    let command = poll_fn(|cx| container.poll(making.as_mut(), cx)).await?;
    drop(making);
    let container = container.clone();
    tokio::spawn(async move { run(&container, instance, command).await });
    Ok(())
}

/// Ends the command's input and waits up to `grace` for it to end by itself, then ends it.
pub async fn stop(container: &Container, grace: Duration) {
    let ended = &container.ending.ended;
    if !grace.is_zero() {
        container.console.end_input().await;
    }
    if tokio::time::timeout(grace, ended.cancelled()).await.is_err() {
        container.ending.abort.cancel();
        ended.cancelled().await;
    }
}

async fn run(container: &Container, mut instance: Instance, command: Runnable) {
    let mut call = Box::pin(async {
        let ended = command.run(&mut instance).await;
        // What the instance wrote last is in the log before the container has ended.
        instance.end().await;
        ended
    });
    let running = poll_fn(|cx| container.poll(call.as_mut(), cx));
    let (exit_code, reason, message) =
        match container.ending.abort.run_until_cancelled(running).await {
            None => (137, "Error", "ended after its grace period".to_string()),
            Some(Ok(Ok(()))) => (0, "Completed", String::new()),
            Some(Ok(Err(()))) => (1, "Error", String::new()),
            Some(Err(error)) => failed(container, &Failure::from(error)),
        };
    drop(call);
    container.ending.abort.cancel();
    container.end(exit_code, reason, message).await;
}

fn failed(container: &Container, failure: &Failure) -> (i32, &'static str, String) {
    let (exit_code, reason) = failure.exit();
    let message = match failure {
        // The code says it all.
        Failure::Exit(_) => String::new(),
        Failure::Trap { message, backtrace } => {
            container.log.note(&format!("trapped: {message}\n{backtrace}"));
            message.clone()
        }
        Failure::Memory(_) | Failure::NoRoom(_) | Failure::Late(_) => {
            container.log.note(&failure.message());
            failure.message()
        }
    };
    (exit_code, reason, message)
}
