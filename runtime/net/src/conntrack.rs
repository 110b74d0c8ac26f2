//! Where a redirected datagram was sent to. For a connection the kernel tells that by a socket
//! option; for datagrams only its table of connections knows, which is asked over netlink
//! (include/uapi/linux/netfilter/nfnetlink_conntrack.h).

use std::{
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::OwnedFd,
};

use rustix::net::{RecvFlags, SendFlags, netlink, recv, send};

use crate::netlink::{HEADER_BYTES, NESTED, REQUEST, attribute, find, message, read_u16, read_u32};

const GET: u16 = 0x0101;
const ENTRY: u16 = 0x0100;
const ERROR: u16 = 2;
const UDP: u8 = 17;
/// Attributes: the two tuples of an entry, and what is in them.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;
/// An entry takes about 200 bytes.
const ANSWER_BYTES: usize = 4096;
/// Answers to earlier questions that are passed over.
const STALE: usize = 8;

/// Asks one namespace's table.
pub(crate) struct Conntrack {
    socket: OwnedFd,
    sequence: u32,
}

impl Conntrack {
    /// For the namespace that the calling thread is in.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = crate::netlink::socket(Some(netlink::NETFILTER))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Whether the kernel answers such questions: the part of it that does may be missing.
    pub(crate) fn answers(&mut self) -> bool {
        let nobody = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        self.sequence = self.sequence.wrapping_add(1);
        let asked =
            send(&self.socket, &question(self.sequence, nobody, nobody), SendFlags::empty());
        let mut answer = [0; ANSWER_BYTES];
        let received = asked.and_then(|_| recv(&self.socket, &mut answer[..], RecvFlags::empty()));
        received.is_ok_and(|(length, _)| is_known(answer.get(..length).unwrap_or_default()))
    }

    /// Where the datagram went that `sender` sent and `receiver` got. The kernel answers at once.
    pub(crate) fn original(
        &mut self,
        sender: SocketAddrV4,
        receiver: SocketAddrV4,
    ) -> io::Result<SocketAddrV4> {
        self.sequence = self.sequence.wrapping_add(1);
        send(&self.socket, &question(self.sequence, sender, receiver), SendFlags::empty())?;
        let mut answer = [0; ANSWER_BYTES];
        for _ in 0..STALE {
            let (length, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
            let message = answer.get(..length).unwrap_or_default();
            if read_u32(message, 8) == Some(self.sequence) {
                return destination(message).ok_or_else(|| io::ErrorKind::NotFound.into());
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The entry whose answers go from the receiver to the sender.
fn question(sequence: u32, sender: SocketAddrV4, receiver: SocketAddrV4) -> Vec<u8> {
    let ip = [
        attribute(IP_V4_SRC, &receiver.ip().octets()),
        attribute(IP_V4_DST, &sender.ip().octets()),
    ];
    let proto = [
        attribute(PROTO_NUM, &[UDP]),
        attribute(PROTO_SRC_PORT, &receiver.port().to_be_bytes()),
        attribute(PROTO_DST_PORT, &sender.port().to_be_bytes()),
    ];
    let tuple = [
        attribute(TUPLE_IP | NESTED, &ip.concat()),
        attribute(TUPLE_PROTO | NESTED, &proto.concat()),
    ];
    let family = libc::AF_INET as u8;
    let body = [vec![family, 0, 0, 0], attribute(TUPLE_REPLY | NESTED, &tuple.concat())].concat();
    message(GET, REQUEST, sequence, &body)
}

/// An entry, or the error that there is none; other errors are about the question.
fn is_known(message: &[u8]) -> bool {
    let code = read_u32(message, HEADER_BYTES).map(u32::cast_signed);
    match read_u16(message, 4) {
        Some(ERROR) => code == Some(-libc::ENOENT),
        sort => sort == Some(ENTRY),
    }
}

/// Where an entry's first packet was sent to; None where the message is no entry.
fn destination(message: &[u8]) -> Option<SocketAddrV4> {
    if read_u16(message, 4)? != ENTRY {
        return None;
    }
    let attributes = message.get(HEADER_BYTES + 4..)?;
    let tuple = find(attributes, TUPLE_ORIG)?;
    let ip: [u8; 4] = find(find(tuple, TUPLE_IP)?, IP_V4_DST)?.try_into().ok()?;
    let port: [u8; 2] = find(find(tuple, TUPLE_PROTO)?, PROTO_DST_PORT)?.try_into().ok()?;
    Some(SocketAddrV4::new(Ipv4Addr::from(ip), u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as the kernel writes it.
    fn entry(orig: &[u8]) -> Vec<u8> {
        let mut message = vec![0; HEADER_BYTES + 4];
        message[4..6].copy_from_slice(&ENTRY.to_ne_bytes());
        message.extend(attribute(TUPLE_REPLY | NESTED, &[1; 7]));
        message.extend(orig);
        message
    }

    #[test]
    fn a_kernel_without_the_table_is_known_by_its_errors() {
        let error = |code: i32| {
            let mut message = vec![0; HEADER_BYTES];
            message[4..6].copy_from_slice(&ERROR.to_ne_bytes());
            message.extend(code.to_ne_bytes());
            message
        };
        assert!(is_known(&error(-libc::ENOENT)) && is_known(&entry(&[])));
        assert!(!is_known(&error(-libc::EINVAL)) && !is_known(&error(-libc::EOPNOTSUPP)));
        assert!(!is_known(&[]));
    }

    #[test]
    fn an_entry_tells_where_a_datagram_went() {
        let ip = [attribute(IP_V4_SRC, &[127, 0, 0, 1]), attribute(IP_V4_DST, &[127, 96, 0, 5])];
        let proto = [attribute(PROTO_NUM, &[UDP]), attribute(PROTO_DST_PORT, &[0, 53])];
        let tuple = [
            attribute(TUPLE_IP | NESTED, &ip.concat()),
            attribute(TUPLE_PROTO | NESTED, &proto.concat()),
        ];
        let whole = entry(&attribute(TUPLE_ORIG | NESTED, &tuple.concat()));
        assert_eq!(destination(&whole).map(|to| to.to_string()).as_deref(), Some("127.96.0.5:53"));
        // Whatever is cut off or empty is no answer, and no panic.
        for length in 0..whole.len() {
            assert_eq!(destination(&whole[..length]), None, "{length}");
        }
        assert_eq!(destination(&entry(&[0; 8])), None);
        let refusal = [&[36, 0, 0, 0, 2, 0, 0, 0][..], &[0; 28]].concat();
        assert_eq!(destination(&refusal), None);
    }
}
