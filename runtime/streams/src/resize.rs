//! Sizes of a caller's terminal: JSON objects such as `{"Width":80,"Height":24}`.

use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    sync::mpsc,
};

/// Sizes that wait to be taken; who drags a window makes many, and the last of them comes again.
pub(crate) const SIZES: usize = 16;
/// A line that is longer is none of a size.
const LINE_BYTES: u64 = 1024;

/// Columns and rows.
pub(crate) fn size(json: &[u8]) -> Option<(u16, u16)> {
    let tree: serde_json::Value = serde_json::from_slice(json).ok()?;
    let member = |name: &str| u16::try_from(tree.get(name)?.as_u64()?).ok();
    Some((member("Width")?, member("Height")?))
}

/// Passes on the sizes of a stream that has one a line, until it ends.
pub(crate) async fn read_sizes(stream: impl AsyncRead + Unpin, sizes: mpsc::Sender<(u16, u16)>) {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stream).take(LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if let Some(size) = size(&line) {
            // Nobody may be interested; the stream is read all the same.
            let _ = sizes.try_send(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sizes_are_read_one_a_line() {
        let text = b"{\"Width\":80,\"Height\":24}\nno\n{\"Width\":70000,\"Height\":1}\n{\"Height\":5,\"Width\":4}";
        let (send, mut sizes) = mpsc::channel(SIZES);
        read_sizes(&text[..], send).await;
        let mut seen = Vec::new();
        while let Some(size) = sizes.recv().await {
            seen.push(size);
        }
        assert_eq!(seen, [(80, 24), (4, 5)]);
    }
}
