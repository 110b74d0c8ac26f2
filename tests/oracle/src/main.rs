//! `cargo xtask oracle [KIND...]`: the same requests to upstream's kube-apiserver and to ours, and
//! what differs. Ours runs in this process over the memory store, without controllers, as upstream's
//! runs without its controller manager: what is compared is the API server and nothing else.
#![allow(clippy::disallowed_methods, reason = "compares with a program that lives in real time")]

mod causes;
mod compare;
mod corpus;
mod discovery;
mod lifecycle;
mod mutate;
mod normalise;
mod ops;
mod ours;
mod purpose;
mod report;
mod run;
mod session;

use std::path::PathBuf;

use clap::Parser;

#[derive(Parser)]
#[command(about = "Compares the API server with upstream's; run it by `cargo xtask oracle`")]
pub struct Cli {
    /// Kinds, plural names or groups ("core" for the one without a name); all where none is named
    pub kinds: Vec<String>,
    /// Also write every request with its differences to this file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Print each difference
    #[arg(long, short)]
    pub verbose: bool,
    /// Only requests whose label contains this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// One request in N of the generated ones
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub sample: u64,
    /// Upstream's server, built by xtask
    #[arg(long, env = "WINDLASS_ORACLE_APISERVER", value_name = "FILE")]
    pub apiserver: PathBuf,
    /// The etcd beside it
    #[arg(long, env = "WINDLASS_ORACLE_ETCD", value_name = "FILE")]
    pub etcd: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let different = run::run(&cli).await?;
    if different > 0 {
        std::process::exit(1);
    }
    Ok(())
}
