//! Answers with the request line, the environment (one `NAME=value` a line) and the request's body.

use guests::{answer, complain, say};
use wasip2::{
    cli::environment::get_environment,
    http::types::{IncomingRequest, ResponseOutparam},
};

struct Echo;

wasip2::http::proxy::export!(Echo);

impl wasip2::exports::http::incoming_handler::Guest for Echo {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let mut text = format!("{:?} {path}\n", request.method()).into_bytes();
        say(&format!("echo {path}\n"));
        complain("to stderr, ");
        complain("in two writes\n");
        for (name, value) in get_environment() {
            text.extend(format!("{name}={value}\n").bytes());
        }
        if let Ok(body) = request.consume() {
            let stream = body.stream().expect("taken once");
            while let Ok(chunk) = stream.blocking_read(64 * 1024) {
                text.extend(chunk);
            }
        }
        answer(to, 200, &text);
    }
}
