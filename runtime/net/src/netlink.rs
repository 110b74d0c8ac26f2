//! Talking to the kernel over netlink (RFC 3549): the few messages that this crate needs, so that
//! it depends on no other program for them.

use std::{io, net::Ipv4Addr, os::fd::OwnedFd};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use crate::blocks::Block;

pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const REQUEST: u16 = 1;
pub(crate) const NESTED: u16 = 0x8000;
const ACKNOWLEDGE: u16 = 4;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;
const DUMP: u16 = 0x300;
/// The kind of an answer that says how it went.
const ERROR: u16 = 2;
/// The kind of the message that ends a list.
const DONE: u16 = 3;
/// The kernel sends lists in pieces of at most 32 KiB.
const ANSWER_BYTES: usize = 32 * 1024;
/// Pieces of a list that are read: a machine with more routes than that has them from elsewhere.
const PIECES: usize = 1024;
/// What comes before the attributes of a route.
const ROUTE_BYTES: usize = 12;

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const TABLE_LOCAL: u8 = 255;
/// Whose a route is: a number of our own, so that it is known for one of ours (`ip route show table
/// local proto 87`).
const PROTOCOL_OURS: u8 = 87;
const SCOPE_HOST: u8 = 254;
const TYPE_LOCAL: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
/// `lo` is the first interface of every namespace.
const LOOPBACK_INDEX: u32 = 1;

/// A socket for the namespace that the calling thread is in; without a protocol it is for routes.
pub(crate) fn socket(of: Option<Protocol>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, of)?)
}

/// Makes all addresses of a range the own ones of the namespace that the calling thread is in; who
/// calls them from there without an address of its own has `source`.
pub(crate) fn add_local_range(range: Block, source: Option<Ipv4Addr>) -> io::Result<()> {
    let flags = REQUEST | ACKNOWLEDGE | CREATE | REPLACE;
    acknowledged(message(RTM_NEWROUTE, flags, 1, &local_route(range, source)))
}

/// Undoes [`add_local_range`].
pub(crate) fn remove_local_range(range: Block) -> io::Result<()> {
    acknowledged(message(RTM_DELROUTE, REQUEST | ACKNOWLEDGE, 1, &local_route(range, None)))
}

/// The ranges that [`add_local_range`] made, by this process or an earlier one.
pub(crate) fn local_ranges() -> io::Result<Vec<Block>> {
    let socket = socket(None)?;
    let mut body = vec![libc::AF_INET as u8];
    body.resize(ROUTE_BYTES, 0);
    send(&socket, &message(RTM_GETROUTE, REQUEST | DUMP, 1, &body), SendFlags::empty())?;
    let mut found = Vec::new();
    let mut piece = vec![0; ANSWER_BYTES];
    for _ in 0..PIECES {
        // The kernel makes the next piece when the last was read.
        let (length, _) = recv(&socket, &mut piece[..], RecvFlags::empty())?;
        let mut rest = piece.get(..length).unwrap_or_default();
        while let Some(length) = read_u32(rest, 0).and_then(|length| usize::try_from(length).ok()) {
            let Some(one) = rest.get(..length).filter(|one| one.len() >= HEADER_BYTES) else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            match read_u16(one, 4) {
                Some(DONE | ERROR) => return Ok(found),
                _ => found.extend(own_range(one)),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
    Ok(found)
}

/// The range of a route of ours; None where the message is none.
fn own_range(message: &[u8]) -> Option<Block> {
    let [_, prefix, _, _, table, protocol, ..] = message.get(HEADER_BYTES..)? else { return None };
    if (*table, *protocol) != (TABLE_LOCAL, PROTOCOL_OURS) {
        return None;
    }
    let attributes = message.get(HEADER_BYTES + ROUTE_BYTES..)?;
    let first: [u8; 4] = find(attributes, RTA_DST)?.try_into().ok()?;
    Block::new(first.into(), *prefix)
}

fn local_route(range: Block, source: Option<Ipv4Addr>) -> Vec<u8> {
    let family = libc::AF_INET as u8;
    let mut body = vec![family, range.prefix(), 0, 0, TABLE_LOCAL, PROTOCOL_OURS, SCOPE_HOST];
    body.push(TYPE_LOCAL);
    body.extend([0; 4]);
    body.extend(attribute(RTA_DST, &range.first().octets()));
    body.extend(attribute(RTA_OIF, &LOOPBACK_INDEX.to_ne_bytes()));
    body.extend(source.iter().flat_map(|source| attribute(RTA_PREFSRC, &source.octets())));
    body
}

fn acknowledged(message: Vec<u8>) -> io::Result<()> {
    let socket = socket(None)?;
    send(&socket, &message, SendFlags::empty())?;
    let mut answer = vec![0; ANSWER_BYTES];
    // The kernel answers before `send` returns.
    let (length, _) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
    let answer = answer.get(..length).unwrap_or_default();
    match (read_u16(answer, 4), read_u32(answer, HEADER_BYTES)) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(code)) => {
            // A negative error number.
            Err(io::Error::from_raw_os_error(0_i32.wrapping_sub(code.cast_signed())))
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

pub(crate) fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(u32::MAX);
    let mut message = Vec::with_capacity(HEADER_BYTES + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut attribute = Vec::with_capacity(8 + value.len());
    attribute.extend(length.to_ne_bytes());
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

/// The first attribute of a kind; None where there is none, or they are cut off.
pub(crate) fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(read_u16(attributes, 0)?);
        let value = attributes.get(4..length)?;
        if read_u16(attributes, 2)? & !NESTED == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

pub(crate) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
