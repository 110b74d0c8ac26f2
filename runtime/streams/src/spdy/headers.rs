//! Header blocks: name-value pairs in one zlib stream a direction, which begins with a dictionary
//! that the draft fixes (SPDY/3.1, 2.6.10.1).

use bytes::{BufMut, BytesMut};
use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, decompress, inflate_flags::TINFL_FLAG_HAS_MORE_INPUT},
};

use super::SpdyError;

/// Names in lower case; a name with several values has them joined by NUL.
pub type Headers = Vec<(String, String)>;

/// Bytes of a header block, decompressed.
pub(super) const MOST_BYTES: usize = 64 * 1024;
/// What a window of deflate holds.
const WINDOW_BYTES: usize = 32 * 1024;
/// Bytes of a stored block of deflate.
const STORED_BYTES: usize = 0xffff;
/// zlib's CMF and FLG: deflate, 32 KiB window, no dictionary.
const PLAIN_ZLIB: [u8; 2] = [0x78, 0x01];
/// An empty stored block, which has the reader hand out what it holds back.
const SYNC: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// The words of the dictionary that have their length before them.
const WORDS: &str = "options,head,post,put,delete,trace,accept,accept-charset,accept-encoding,\
    accept-language,accept-ranges,age,allow,authorization,cache-control,connection,content-base,\
    content-encoding,content-language,content-length,content-location,content-md5,content-range,\
    content-type,date,etag,expect,expires,from,host,if-match,if-modified-since,if-none-match,\
    if-range,if-unmodified-since,last-modified,location,max-forwards,pragma,proxy-authenticate,\
    proxy-authorization,range,referer,retry-after,server,te,trailer,transfer-encoding,upgrade,\
    user-agent,vary,via,warning,www-authenticate,method,get,status,200 OK,version,HTTP/1.1,url,\
    public,set-cookie,keep-alive,origin";
/// The rest of it, as one text.
const REST: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416\
    417502504505203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad \
    Request401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not \
    Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 \
    Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
    application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,\
    deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
/// Its Adler-32, which a zlib stream that begins with it names.
const DICTIONARY_ID: u32 = 0xe3c6_a7c2;

/// The value of a header.
pub fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// Reads the header blocks of one direction, in order.
pub(super) struct Inflater {
    state: Box<DecompressorOxide>,
    window: Vec<u8>,
    at: usize,
    begun: bool,
}

/// Writes the header blocks of one direction. It doesn't compress: what is sent this way are a few
/// bytes a stream.
#[derive(Debug, Default)]
pub(super) struct Deflater {
    begun: bool,
}

impl Inflater {
    pub fn new() -> Self {
        Self { state: Box::default(), window: vec![0; WINDOW_BYTES], at: 0, begun: false }
    }

    pub fn read(&mut self, compressed: &[u8]) -> Result<Headers, SpdyError> {
        parse(&self.inflate(compressed)?)
    }

    fn inflate(&mut self, compressed: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut input = if self.begun { compressed } else { self.begin(compressed)? };
        let mut out = Vec::new();
        loop {
            let (status, read, written) = decompress(
                &mut self.state,
                input,
                &mut self.window,
                self.at,
                TINFL_FLAG_HAS_MORE_INPUT,
            );
            input = &input[read..];
            out.extend_from_slice(&self.window[self.at..self.at + written]);
            self.at = (self.at + written) % WINDOW_BYTES;
            if out.len() > MOST_BYTES {
                return Err(SpdyError::HeadersTooLarge(MOST_BYTES));
            }
            match status {
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::NeedsMoreInput if input.is_empty() => return Ok(out),
                _ => return Err(SpdyError::Compression),
            }
        }
    }

    /// Reads zlib's header, which comes whole with the first block.
    fn begin<'a>(&mut self, compressed: &'a [u8]) -> Result<&'a [u8], SpdyError> {
        let [cmf, flags, rest @ ..] = compressed else { return Err(SpdyError::Compression) };
        let check = u16::from_be_bytes([*cmf, *flags]);
        if cmf & 0x0f != 8 || !check.is_multiple_of(31) {
            return Err(SpdyError::Compression);
        }
        self.begun = true;
        if flags & 0x20 == 0 {
            return Ok(rest);
        }
        match rest.split_first_chunk() {
            Some((id, rest)) if u32::from_be_bytes(*id) == DICTIONARY_ID => {
                let dictionary = dictionary();
                self.window[..dictionary.len()].copy_from_slice(&dictionary);
                self.at = dictionary.len();
                Ok(rest)
            }
            _ => Err(SpdyError::Compression),
        }
    }
}

impl Deflater {
    pub fn write(&mut self, headers: &Headers, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.begun, true) {
            out.put_slice(&PLAIN_ZLIB);
        }
        let mut plain = BytesMut::new();
        put_length(headers.len(), &mut plain);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            put_length(text.len(), &mut plain);
            plain.put_slice(text.as_bytes());
        }
        for block in plain.chunks(STORED_BYTES) {
            // A chunk is at most as long as 16 bits can tell.
            let length = block.len() as u16;
            out.put_u8(0);
            out.put_u16_le(length);
            out.put_u16_le(!length);
            out.put_slice(block);
        }
        out.put_slice(&SYNC);
    }
}

fn put_length(length: usize, out: &mut BytesMut) {
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn parse(mut block: &[u8]) -> Result<Headers, SpdyError> {
    let count = take_length(&mut block)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = take_text(&mut block)?;
        headers.push((name, take_text(&mut block)?));
    }
    match block {
        [] => Ok(headers),
        _ => Err(SpdyError::Headers),
    }
}

fn take_length(block: &mut &[u8]) -> Result<usize, SpdyError> {
    let (length, rest) = block.split_first_chunk().ok_or(SpdyError::Headers)?;
    *block = rest;
    usize::try_from(u32::from_be_bytes(*length)).map_err(|_| SpdyError::Headers)
}

fn take_text(block: &mut &[u8]) -> Result<String, SpdyError> {
    let length = take_length(block)?;
    let (text, rest) = block.split_at_checked(length).ok_or(SpdyError::Headers)?;
    *block = rest;
    Ok(String::from_utf8_lossy(text).into_owned())
}

fn dictionary() -> Vec<u8> {
    let mut all = BytesMut::new();
    for word in WORDS.split(',') {
        put_length(word.len(), &mut all);
        all.put_slice(word.as_bytes());
    }
    all.put_slice(REST.as_bytes());
    all.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What zlib makes of two header blocks with the dictionary.
    const FROM_ZLIB: [&str; 2] = [
        "78f9e3c6a7c202253a48f95b044eea16061606409ab308125f99a074cc68004e892545a989b9d0c28635151415\
         00000000ffff",
        "225333a8a44a04000000ffff",
    ];

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| {
            u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("a byte")
        };
        digits.chunks(2).map(byte).collect()
    }

    #[test]
    fn the_dictionary_is_the_one_of_the_draft() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in dictionary() {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        assert_eq!((dictionary().len(), b << 16 | a), (1423, DICTIONARY_ID));
    }

    #[test]
    fn blocks_that_zlib_compressed_with_the_dictionary_are_read() {
        let mut inflater = Inflater::new();
        let read = FROM_ZLIB.map(|block| inflater.read(&bytes(block)).expect("a block"));
        assert_eq!(header(&read[0], "port"), Some("8080"));
        assert_eq!(header(&read[0], "streamtype"), Some("error"));
        assert_eq!(header(&read[1], "streamtype"), Some("data"));
    }

    #[test]
    fn damage_is_an_error() {
        let good = bytes(FROM_ZLIB[0]);
        let mut other_dictionary = good.clone();
        other_dictionary[3] ^= 1;
        let mut not_deflate = good.clone();
        not_deflate[0] = 0x77;
        for block in [&[][..], &good[..1], &other_dictionary, &not_deflate, &good[..20]] {
            assert!(Inflater::new().read(block).is_err(), "{block:x?}");
        }
        // A block that says it has more pairs than it has.
        let (mut out, mut deflater) = (BytesMut::new(), Deflater::default());
        deflater.write(&vec![("a".into(), "b".into())], &mut out);
        out[10] = 9;
        assert_eq!(Inflater::new().read(&out), Err(SpdyError::Headers));
    }

    #[test]
    fn a_block_that_grows_out_of_bounds_is_refused() {
        let (mut out, mut deflater) = (BytesMut::new(), Deflater::default());
        deflater.write(&vec![("a".into(), "b".repeat(MOST_BYTES))], &mut out);
        let refused = Inflater::new().read(&out);
        assert_eq!(refused, Err(SpdyError::HeadersTooLarge(MOST_BYTES)));
    }
}
