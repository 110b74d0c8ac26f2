//! Container logs on disk, in the format of CRI (`TIME STREAM TAG TEXT`): what a line looks like, how
//! files grow and rotate, and how far a log has come. Every runtime writes through this, so that one
//! reader serves all of them.

mod file;
mod line;
mod position;

pub use file::LogBounds;
pub use line::{MAX_LINE_BYTES, Stream, put_line};
pub use position::{Position, last_position};
