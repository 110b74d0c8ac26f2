//! A microservice in Rust: handlers by path, typed access to what was asked, and what a node offers
//! (config, key-value stores, calls, the log) as traits. A handler names in its bounds what it uses;
//! a component imports that and no more, so `windlass.toml` needs to grant no more. In tests the
//! same handlers run on your machine, with a host in memory.
//!
//! ```
//! use windlass_guest::{Fault, KeyValue, Request, Response, Router, Store, testing::Fake};
//!
//! fn count<H: KeyValue>(request: &Request, host: &H) -> Result<Response, Fault> {
//!     let name: String = request.path("name")?;
//!     let more = request.query("more")?.unwrap_or(1);
//!     let count = host.open("default")?.increment(&name, more)?;
//!     Response::json(200, &count)
//! }
//!
//! fn routes<H: KeyValue>() -> Router<H> {
//!     Router::new().post("/counts/{name}", count)
//! }
//!
//! windlass_guest::serve!(routes);
//!
//! let host = Fake::default();
//! let response = routes().answer(Request::post("/counts/visits?more=2", ""), &host);
//! assert_eq!((response.status, response.text()), (200, "2".into()));
//! ```
//!
//! Build it for `wasm32-wasip2` with crate type `cdylib`. On Debian's compiler, whose std knows no
//! WASI, it works too: nothing here uses `std::io`, time or threads.

mod host;
mod request;
mod response;
mod router;
pub mod testing;
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod wasi;

pub use host::{Answer, Call, Config, Fetch, HostError, KeyValue, Level, Log, Store};
pub use request::Request;
pub use response::{Fault, Response};
pub use router::{Handler, Router};

/// What a component may be handed: all capabilities. Handlers say which of them they use.
#[cfg(target_family = "wasm")]
pub use wasi::Wasi;

/// Makes the component's `wasi:http/incoming-handler` of a function that returns a [`Router`]. On
/// other targets it makes nothing.
#[macro_export]
macro_rules! serve {
    ($routes:ident) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Service;
            $crate::wasi::wasip2::http::proxy::export!(Service);
            impl $crate::wasi::wasip2::exports::http::incoming_handler::Guest for Service {
                fn handle(
                    request: $crate::wasi::wasip2::http::types::IncomingRequest,
                    to: $crate::wasi::wasip2::http::types::ResponseOutparam,
                ) {
                    $crate::wasi::handle(&$routes(), request, to);
                }
            }
        };
    };
}
