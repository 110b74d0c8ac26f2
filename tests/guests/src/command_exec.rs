//! For exec: `cat` copies stdin to stdout, `env` shows arguments, environment and stdin's kind,
//! `flood N` writes N KiB to stdout, `both` writes to both streams, `sleep` never ends, `trap`
//! traps, a number is the exit code. Without an argument it says so and waits for ever.

use guests::{complain, say, sleep_ms, write};
use wasip2::cli::{environment, exit, stdin::get_stdin, stdout::get_stdout, terminal_stdout};

struct Command;

wasip2::cli::command::export!(Command);

impl wasip2::exports::cli::run::Guest for Command {
    fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u64>().ok());
        match arguments.get(1).map(String::as_str) {
            None => {
                say("main is running\n");
                loop {
                    sleep_ms(1000);
                }
            }
            Some("cat") => {
                let stdin = get_stdin();
                let mut copied = 0;
                while let Ok(chunk) = stdin.blocking_read(4096) {
                    write(&get_stdout(), &chunk);
                    copied += chunk.len();
                }
                complain(&format!("copied {copied}\n"));
            }
            Some("env") => {
                say(&format!("arguments: {}\n", arguments.join(" ")));
                for (name, value) in environment::get_environment() {
                    say(&format!("{name}={value}\n"));
                }
                let terminal = terminal_stdout::get_terminal_stdout().is_some();
                say(&format!("terminal: {terminal}\n"));
            }
            Some("flood") => {
                let block = [b'x'; 1024];
                for _ in 0..number(2).unwrap_or(1) {
                    write(&get_stdout(), &block);
                }
            }
            Some("both") => {
                say("out\n");
                complain("err\n");
            }
            Some("sleep") => loop {
                sleep_ms(1000);
            },
            Some("trap") => std::process::abort(),
            _ => exit::exit_with_code(number(1).unwrap_or(0) as u8),
        }
        Ok(())
    }
}
