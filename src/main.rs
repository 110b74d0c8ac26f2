//! The `windlass` binary: reads the command line, wires the parts together, prints. Nothing that
//! decides anything about the cluster lives here.

mod bar;
mod cli;
mod cluster_images;
mod connect;
mod demo;
mod deploy;
mod distribution;
mod files;
mod image;
mod node;
mod plane;
mod project;
mod prune;
mod registry;
mod reset;
mod run;
mod show;
mod up;
mod watch;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("WINDLASS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    // One provider for everything in the process; a second call would only return the first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match cli.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windlass: {error:#}");
            // What the person typed is wrong (a flag, a file): 2, as for flags that don't exist.
            let wrong = error.is::<cli::UsageError>().then_some(2);
            let ended = error.downcast_ref().map(|cli::Ended { exit_code, .. }| *exit_code);
            ExitCode::from(wrong.or(ended).unwrap_or(1))
        }
    }
}
