//! The project's own tasks: setting up what the tests need, running them, checks, guests, facts.
//! `cargo xtask help` lists them.

mod docker;
mod facts;
mod guests;
mod languages;
mod lint;
mod oracle;
mod shell;
mod test;
mod tools;

use clap::{Parser, Subcommand};

use crate::tools::Kubectls;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Windlass project")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what the tests need, builds the guests and runs every test
    Test {
        /// Run the session of kubectl commands with every minor from 1.27 on, not only with a few
        #[arg(long)]
        every_kubectl: bool,
        /// Go through every template of `windlass new`, not only those in Rust and Go (needs npm and
        /// PyPI)
        #[arg(long)]
        every_template: bool,
        /// Passed on to `cargo test` (a package, a filter, `-- --nocapture`)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Installs the tools of the tests and prints where they are
    Tools,
    /// Builds the WASM guests of the tests from source
    Guests,
    /// Formatting, clippy with warnings as errors, the architecture test
    Lint,
    /// Measures the rows of the README's table (release build); NAME: main, wasm-http
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Writes the facts table of all Kubernetes kinds anew (needs Go)
    Facts {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Compares the API server with upstream's, request by request (needs Go; minutes at first)
    Oracle {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Test { every_kubectl, every_template, args } => {
            let every = if every_kubectl { Kubectls::Every } else { Kubectls::Few };
            test::run(every, every_template, &args)
        }
        Task::Tools => tools::print_all(),
        Task::Guests => guests::run(),
        Task::Lint => lint::run_all(),
        Task::Bench { args } => test::bench(&args),
        Task::Facts { args } => facts::run(&args),
        Task::Oracle { args } => oracle::run_all(&args),
    }
}
