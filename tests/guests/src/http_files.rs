//! Answers with the file that the path names, 404 with the error's name if it can't be had.

use guests::{Target, answer};
use wasip2::{
    filesystem::{
        preopens::get_directories,
        types::{DescriptorFlags, ErrorCode, OpenFlags, PathFlags},
    },
    http::types::{IncomingRequest, ResponseOutparam},
};

struct Files;

wasip2::http::proxy::export!(Files);

impl wasip2::exports::http::incoming_handler::Guest for Files {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        match read(&Target::of(&request).path) {
            Ok(bytes) => answer(to, 200, &bytes),
            Err(code) => answer(to, 404, code.name().as_bytes()),
        }
    }
}

fn read(path: &str) -> Result<Vec<u8>, ErrorCode> {
    for (folder, name) in get_directories() {
        let inside = path.strip_prefix(&name).and_then(|rest| rest.strip_prefix('/'));
        if let Some(inside) = inside {
            let (follow, read) = (PathFlags::SYMLINK_FOLLOW, DescriptorFlags::READ);
            let file = folder.open_at(follow, inside, OpenFlags::empty(), read)?;
            return file.read(1 << 20, 0).map(|(bytes, _)| bytes);
        }
    }
    Err(ErrorCode::NoEntry)
}
