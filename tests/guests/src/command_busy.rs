//! Never ends by itself: computes for ever, or with the argument `sleep` waits for ever.

use guests::{say, sleep_ms};

struct Command;

wasip2::cli::command::export!(Command);

impl wasip2::exports::cli::run::Guest for Command {
    fn run() -> Result<(), ()> {
        say("running\n");
        let sleeps = wasip2::cli::environment::get_arguments().iter().any(|text| text == "sleep");
        let mut rounds = 0u64;
        loop {
            if sleeps {
                sleep_ms(1000);
            }
            rounds = std::hint::black_box(rounds + 1);
        }
    }
}
