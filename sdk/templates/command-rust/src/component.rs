//! Between `wasi:cli` and `run`. WASI is called directly and `std::io` never, so this builds for
//! every Rust target that Windlass can use.

use wasip2::{
    cli::{environment, stderr, stdout},
    io::streams::OutputStream,
};

/// What one write may hold.
const WRITE_BYTES: usize = 4096;

struct Component;

wasip2::cli::command::export!(Component);

impl wasip2::exports::cli::run::Guest for Component {
    fn run() -> Result<(), ()> {
        // The first is the program's own name.
        let arguments: Vec<String> = environment::get_arguments().into_iter().skip(1).collect();
        let variables = environment::get_environment();
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone())
        };
        match crate::run(&arguments, variable) {
            Ok(text) => {
                print(&stdout::get_stdout(), &text);
                Ok(())
            }
            Err(why) => {
                print(&stderr::get_stderr(), &format!("{{name}}: {why}\n"));
                Err(())
            }
        }
    }
}

fn print(to: &OutputStream, text: &str) {
    for part in text.as_bytes().chunks(WRITE_BYTES) {
        if to.blocking_write_and_flush(part).is_err() {
            return;
        }
    }
}
