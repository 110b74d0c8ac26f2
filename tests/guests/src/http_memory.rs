//! `/grow?mib=N&ms=M` takes N MiB, holds them for M ms and answers.

use guests::{Target, answer, sleep_ms, take_mib};
use wasip2::http::types::{IncomingRequest, ResponseOutparam};

struct Memory;

wasip2::http::proxy::export!(Memory);

impl wasip2::exports::http::incoming_handler::Guest for Memory {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        let target = Target::of(&request);
        let taken = take_mib(target.number("mib"));
        sleep_ms(target.number("ms"));
        answer(to, 200, format!("held {} bytes\n", taken.len()).as_bytes());
    }
}
