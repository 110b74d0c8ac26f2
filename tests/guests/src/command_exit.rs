//! Prints its arguments and environment to stdout and a line to stderr, then ends with the exit
//! code its first argument names: `trap` traps, `grow MIB` takes memory, `fail` returns an error.

use guests::{complain, say, take_mib};
use wasip2::cli::{environment, exit};

struct Command;

wasip2::cli::command::export!(Command);

impl wasip2::exports::cli::run::Guest for Command {
    fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        say(&format!("arguments: {}\n", arguments.join(" ")));
        for (name, value) in environment::get_environment() {
            say(&format!("{name}={value}\n"));
        }
        complain("about to end\n");
        let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
        match arguments.get(1).map(String::as_str) {
            Some("trap") => std::process::abort(),
            Some("fail") => return Err(()),
            Some("grow") => say(&format!("took {}\n", take_mib(number(2).unwrap_or(1)).len())),
            _ => exit::exit_with_code(number(1).unwrap_or(0) as u8),
        }
        Ok(())
    }
}
