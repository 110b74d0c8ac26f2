//! A command of WASI 0.3: writes its arguments, a variable and what it finds in stdin or in a file,
//! waits, and ends as its first argument says: `ok`, `fail`, `exit N`, `trap`, `wait MS`, `cat FILE`.

use std::time::Duration;

use wasip3::{
    cli::{environment, exit, stdin, stdout},
    clocks::monotonic_clock,
    filesystem::{
        preopens,
        types::{DescriptorFlags, OpenFlags, PathFlags},
    },
    wit_bindgen::{StreamReader, StreamResult},
    wit_stream,
};

struct Command3;

wasip3::cli::command::export!(Command3);

impl wasip3::exports::cli::run::Guest for Command3 {
    async fn run() -> Result<(), ()> {
        let arguments = environment::get_arguments();
        let variables = environment::get_environment().len();
        say(format!("{} with {variables} variables\n", arguments.join(" "))).await;
        let argument = |n: usize| arguments.get(n).map(String::as_str).unwrap_or_default();
        match argument(1) {
            "fail" => return Err(()),
            "exit" => exit::exit_with_code(argument(2).parse().expect("a code")),
            "trap" => std::process::abort(),
            "wait" => {
                let wait = Duration::from_millis(argument(2).parse().expect("milliseconds"));
                monotonic_clock::wait_for(wait.as_nanos() as u64).await;
                say("waited\n".into()).await;
            }
            "stdin" => {
                let (bytes, end) = stdin::read_via_stream();
                let read = whole(bytes).await;
                end.await.expect("an end");
                say(format!("read {} bytes\n", read.len())).await;
            }
            "cat" => say(cat(argument(2)).await).await,
            _ => {}
        }
        Ok(())
    }
}

async fn cat(path: &str) -> String {
    for (folder, at) in preopens::get_directories() {
        let Some(rest) = path.strip_prefix(&at) else { continue };
        let rest = rest.trim_start_matches('/').to_string();
        let opened = folder
            .open_at(PathFlags::empty(), rest, OpenFlags::empty(), DescriptorFlags::READ)
            .await;
        let file = match opened {
            Ok(file) => file,
            Err(code) => return format!("{code:?}\n"),
        };
        let (bytes, end) = file.read_via_stream(0);
        let read = whole(bytes).await;
        end.await.expect("an end");
        return String::from_utf8_lossy(&read).into_owned();
    }
    format!("nothing at {path}\n")
}

async fn whole(mut from: StreamReader<u8>) -> Vec<u8> {
    let mut read = Vec::new();
    loop {
        let (result, part) = from.read(Vec::with_capacity(4096)).await;
        match result {
            StreamResult::Complete(_) => read.extend(part),
            _ => return read,
        }
    }
}

async fn say(text: String) {
    let (mut to, bytes) = wit_stream::new();
    let written = stdout::write_via_stream(bytes);
    to.write_all(text.into_bytes()).await;
    drop(to);
    let _ = written.await;
}
