//! Answers with what `wasi:config` says of the query's `key`, or all of it, and logs that through
//! `wasi:logging`. Exports no `wasi:cli/run`.

use guests::{Target, answer};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

wit_bindgen::generate!({
    inline: "
        package windlass:guest;
        world guest {
            import wasi:config/store@0.2.0-rc.1;
            import wasi:logging/logging@0.1.0-draft;
        }
        package wasi:config@0.2.0-rc.1 {
            interface store {
                variant error { upstream(string), io(string) }
                get: func(key: string) -> result<option<string>, error>;
                get-all: func() -> result<list<tuple<string, string>>, error>;
            }
        }
        package wasi:logging@0.1.0-draft {
            interface logging {
                enum level { trace, debug, info, warn, error, critical }
                log: func(level: level, context: string, message: string);
            }
        }
    ",
    generate_all,
});

use wasi::{config::store, logging::logging};

struct Handler;

wasip2::http::proxy::export!(Handler);

impl wasip2::exports::http::incoming_handler::Guest for Handler {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        let target = Target::of(&request);
        let text = match target.get("key") {
            Some(key) => format!("{:?}\n", store::get(key).expect("never fails")),
            None => format!("{:?}\n", store::get_all().expect("never fails")),
        };
        logging::log(logging::Level::Warn, "config", &format!("asked for {}", target.path));
        logging::log(logging::Level::Info, "", "two\nlines");
        answer(to, 200, text.as_bytes());
    }
}
