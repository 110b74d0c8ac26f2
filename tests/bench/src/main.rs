//! `cargo xtask bench [NAME] [--json FILE]`: the numbers of the README's table. Each measurement
//! says who observes, what is included, sizes and concurrency; a peer runs beside it, alternating.
#![allow(clippy::disallowed_methods, reason = "measures real time")]

mod api;
mod client;
mod containers;
mod crowd;
mod etcd;
mod pods;
mod redirect;
mod report;
mod sdk;
mod start;
mod wasm;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use report::Report;

#[derive(Parser)]
#[command(about = "Measures Windlass; run it by `cargo xtask bench`")]
struct Cli {
    /// What to measure; everything where nothing is named
    #[arg(value_enum)]
    names: Vec<Name>,
    /// Also write one JSON object a line to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only asks for these addresses, again and again: the clients of an attack
    #[arg(long, value_name = "URL", hide = true)]
    attack: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Name {
    /// Start, pod create to Ready, memory, creates beside etcd
    Main,
    /// Durable creates beside etcd's transactions: a part of `main`
    Etcd,
    /// Creates, gets, lists, patches, applies and watches beside upstream's API server with etcd
    Api,
    /// A thousand watchers while objects change a hundred and a thousand times a second
    Crowd,
    /// A container's pod against `docker run`
    Containers,
    /// Requests/s against `wasmtime serve`, restarts, cold starts, calls between pods, density
    Wasm,
    /// What neighbours of a hostile guest notice: a part of `wasm`
    Attacks,
    /// A call from one pod to another of the node: a part of `wasm`
    Calls,
    /// Ten thousand pods on this node: a part of `wasm`
    Density,
    /// Bytes/s from container to container through a service, against a bridge (root)
    Redirect,
    /// A developer's change: build, push, deploy, first answer
    Sdk,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    if !cli.attack.is_empty() {
        wasm::attack(&cli.attack);
        return Ok(());
    }
    let mut report = Report::new(cli.json)?;
    let names = if cli.names.is_empty() {
        vec![Name::Main, Name::Containers, Name::Wasm]
    } else {
        cli.names
    };
    for name in names {
        match name {
            Name::Main => {
                start::measure(&mut report)?;
                pods::measure(&mut report)?;
                etcd::measure(&mut report)?;
            }
            Name::Api => api::measure(&mut report)?,
            Name::Crowd => crowd::measure(&mut report)?,
            Name::Etcd => etcd::measure(&mut report)?,
            Name::Containers => containers::measure(&mut report)?,
            Name::Wasm => wasm::measure(&mut report)?,
            Name::Attacks => wasm::attacks(&mut report)?,
            Name::Calls => wasm::calls(&mut report)?,
            Name::Density => wasm::density(&mut report)?,
            Name::Redirect => redirect::measure(&mut report)?,
            Name::Sdk => sdk::measure(&mut report)?,
        }
    }
    Ok(())
}
