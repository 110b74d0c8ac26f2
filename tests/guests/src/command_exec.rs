//! For exec: `cat` copies stdin to stdout, `env` shows arguments, environment and stdin's kind,
//! `flood N` writes N KiB to stdout, `flood-when-told N` once it read a line, `ask` asks for a name
//! and greets, `both` writes to both streams, `sleep` never ends, `trap`
//! traps, a number is the exit code. Without an argument it says so and waits for ever.

use guests::{complain, say, sleep_ms, write};
use wasip2::cli::{
    environment, exit, stdin::get_stdin, stdout::get_stdout, terminal_stderr, terminal_stdin,
    terminal_stdout,
};

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
            Some("flood-when-told") => {
                line();
                let block = [b'x'; 1024];
                for _ in 0..number(2).unwrap_or(1) {
                    write(&get_stdout(), &block);
                }
            }
            Some("ask") => {
                let terminals = (
                    terminal_stdin::get_terminal_stdin().is_some(),
                    terminal_stdout::get_terminal_stdout().is_some(),
                    terminal_stderr::get_terminal_stderr().is_some(),
                );
                say(&format!("terminal: {} {} {}\n", terminals.0, terminals.1, terminals.2));
                complain("name? ");
                say(&format!("hello {}\n", line()));
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

/// One line of stdin, without its end.
fn line() -> String {
    let (stdin, mut line) = (get_stdin(), Vec::new());
    while !line.ends_with(b"\n") {
        match stdin.blocking_read(1) {
            Ok(some) => line.extend(some),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&line).trim_end().to_string()
}
