//! SPDY/3.1 as Kubernetes' clients use it: many byte streams over one connection, opened by the
//! client. There is no flow control by windows, because these clients neither grant nor expect any
//! (a frame of it is read and ignored): a stream whose reader is slow fills its bounded queue and
//! then holds up the connection.

mod connection;
mod frame;
mod headers;

pub use connection::{Connection, Stream};
pub use frame::{Decoder, Encoder, Frame};
pub use headers::{Headers, header};

/// Why a connection can't go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpdyError {
    #[error("a frame of SPDY version {0}, not 3")]
    Version(u16),
    #[error("a control frame of type {kind} with {bytes} bytes, which is not its size")]
    Size { kind: u16, bytes: usize },
    #[error("a header block can't be decompressed")]
    Compression,
    #[error("a header block is malformed")]
    Headers,
    #[error("a header block is larger than {0} bytes")]
    HeadersTooLarge(usize),
    #[error("stream {0} was opened twice or out of order")]
    StreamId(u32),
}
