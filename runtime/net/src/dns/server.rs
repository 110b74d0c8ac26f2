//! The DNS server that containers of a joined pod find at the cluster's DNS address.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, Record,
        rdata::{A, AAAA, PTR, SOA},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{
    Answer, DOMAIN, answer,
    forward::{self, MESSAGE_BYTES, Transport},
};
use crate::{
    caller::{Caller, clean},
    podnet::PodNet,
    reach::{Verdict, judge_look_up},
    redirect,
};

/// Questions of one pod that are being asked outside.
const FORWARDS: usize = 64;
/// How long an answer about the cluster may be remembered: upstream's default.
const TTL_SECONDS: u32 = 5;
/// Answers that are longer go by TCP, whatever the asker says it takes (dnsflagday.net/2020).
const UDP_BYTES: u16 = 1232;
/// Questions that one connection may ask, and how long it may be silent.
const TCP_QUESTIONS: usize = 64;
const TCP_IDLE: Duration = Duration::from_secs(10);

/// Answers the questions of one pod's containers.
pub(crate) struct Dns {
    net: PodNet,
    caller: Arc<Caller>,
    forwards: Semaphore,
}

impl Dns {
    pub(crate) fn new(net: PodNet, caller: Arc<Caller>) -> Self {
        Self { net, caller, forwards: Semaphore::new(FORWARDS) }
    }

    /// The answer to a message; None where it is no question.
    async fn answer(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let asked = match Message::from_vec(question) {
            Ok(asked) if asked.metadata.message_type == MessageType::Query => asked,
            Ok(_) => return None,
            Err(_) => {
                let id = u16::from_be_bytes(*question.first_chunk()?);
                let code = ResponseCode::FormErr;
                return Message::error_msg(id, OpCode::Query, code).to_vec().ok();
            }
        };
        let reply = match (&asked.queries[..], asked.metadata.op_code) {
            ([query], OpCode::Query) if query.query_class() == DNSClass::IN => {
                match self.decide(query) {
                    Decision::Reply(reply) => reply,
                    Decision::Forward => return self.forward(&asked, question, transport).await,
                }
            }
            (_, OpCode::Query) => Reply::failed(ResponseCode::Refused),
            _ => Reply::failed(ResponseCode::NotImp),
        };
        encode(&asked, reply, transport)
    }

    fn decide(&self, query: &Query) -> Decision {
        let name = clean(&query.name().to_ascii());
        let (names, table) = (&self.caller.pod.names, self.net.table());
        let answer = answer(&table, names, &self.net.0.ranges, &name, query.query_type());
        let records = |data: Vec<RData>| {
            let of = |data| Record::from_rdata(query.name().clone(), TTL_SECONDS, data);
            Decision::Reply(Reply {
                code: ResponseCode::NoError,
                answers: data.into_iter().map(of).collect(),
                negative: false,
            })
        };
        match answer {
            Answer::Addresses(addresses) => {
                let data = addresses.into_iter().map(|address| match address {
                    IpAddr::V4(v4) => RData::A(A(v4)),
                    IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
                });
                records(data.collect())
            }
            Answer::Name(name) => match Name::from_ascii(format!("{name}.")) {
                Ok(name) => records(vec![RData::PTR(PTR(name))]),
                Err(_) => Decision::Reply(Reply::failed(ResponseCode::ServFail)),
            },
            Answer::NoData => Decision::Reply(Reply::negative(ResponseCode::NoError)),
            Answer::NoSuchName => Decision::Reply(Reply::negative(ResponseCode::NXDomain)),
            Answer::Forward => match judge_look_up(&self.caller.reach, &[name]) {
                Verdict::Allowed => Decision::Forward,
                Verdict::Denied(_) => Decision::Reply(Reply::failed(ResponseCode::Refused)),
            },
        }
    }

    async fn forward(
        &self,
        asked: &Message,
        question: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let failed = || encode(asked, Reply::failed(ResponseCode::ServFail), transport);
        let Ok(_turn) = self.forwards.try_acquire() else { return failed() };
        let mut resolvers = self.net.0.machine.resolvers();
        // A machine may ask this server itself: not in a circle.
        let own = self.net.cluster_dns().map(IpAddr::V4);
        resolvers.retain(|resolver| Some(resolver.ip()) != own);
        match forward::ask(&resolvers, question, transport, &self.net.0.rng).await {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::debug!(pod = %self.caller.pod.name, %error, "a look-up of a container");
                failed()
            }
        }
    }
}

/// The same on the host, for pods that have its network. Without root the port can't be had, and
/// such pods aren't there either. It ends when dropped.
pub(crate) struct HostDns(Vec<JoinHandle<()>>);

impl HostDns {
    pub(crate) async fn start(net: &PodNet) -> Self {
        let Some(address) = net.cluster_dns() else { return Self(Vec::new()) };
        let at = SocketAddr::from((address, PORT));
        let caller = Arc::new(Caller::default());
        let dns = Arc::new(Dns::new(net.clone(), caller));
        let mut tasks = Vec::new();
        match (UdpSocket::bind(at).await, TcpListener::bind(at).await) {
            (Ok(socket), Ok(listener)) => {
                tasks.push(tokio::spawn(serve_udp(dns.clone(), socket)));
                let serve = move |stream| serve_tcp(dns.clone(), stream);
                tasks.push(tokio::spawn(async move { redirect::accept(&listener, serve).await }));
            }
            (Err(error), _) | (_, Err(error)) => {
                tracing::debug!(%at, %error, "names of services can't be asked for on the host");
            }
        }
        Self(tasks)
    }
}

impl Drop for HostDns {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

enum Decision {
    Reply(Reply),
    Forward,
}

struct Reply {
    code: ResponseCode,
    answers: Vec<Record>,
    /// It says that there is nothing, which may be remembered too.
    negative: bool,
}

impl Reply {
    fn failed(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), negative: false }
    }

    fn negative(code: ResponseCode) -> Self {
        Self { negative: true, ..Self::failed(code) }
    }
}

/// Answers questions that come as datagrams. Those that are asked outside don't hold up others.
pub(crate) async fn serve_udp(dns: Arc<Dns>, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let mut answers = JoinSet::new();
    let mut buffer = vec![0; MESSAGE_BYTES];
    loop {
        let received = tokio::select! {
            biased;
            Some(_) = answers.join_next() => continue,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error is about a datagram that was sent earlier.
        let Ok((length, from)) = received else { continue };
        if answers.len() >= 2 * FORWARDS {
            // Resolvers ask again.
            continue;
        }
        let (dns, socket, question) = (dns.clone(), socket.clone(), buffer[..length].to_vec());
        answers.spawn(reply_to(dns, socket, question, from));
    }
}

async fn reply_to(dns: Arc<Dns>, socket: Arc<UdpSocket>, question: Vec<u8>, from: SocketAddr) {
    if let Some(answer) = dns.answer(&question, Transport::Udp).await {
        // Who doesn't get it asks again.
        let _ = socket.send_to(&answer, from).await;
    }
}

/// Answers the questions of one connection, in their order.
pub(crate) async fn serve_tcp(dns: Arc<Dns>, mut stream: TcpStream) {
    for _ in 0..TCP_QUESTIONS {
        let read = async {
            let length = usize::from(stream.read_u16().await?);
            let mut question = vec![0; length];
            stream.read_exact(&mut question).await?;
            std::io::Result::Ok(question)
        };
        let Ok(Ok(question)) = timeout(TCP_IDLE, read).await else { return };
        let Some(answer) = dns.answer(&question, Transport::Tcp).await else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let message = [&length.to_be_bytes()[..], &answer].concat();
        let Ok(Ok(())) = timeout(TCP_IDLE, stream.write_all(&message)).await else { return };
    }
}

fn encode(asked: &Message, reply: Reply, transport: Transport) -> Option<Vec<u8>> {
    let mut message = Message::response(asked.metadata.id, asked.metadata.op_code);
    message.metadata.recursion_desired = asked.metadata.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.authoritative = reply.negative || !reply.answers.is_empty();
    message.metadata.response_code = reply.code;
    message.add_queries(asked.queries.iter().cloned());
    message.add_answers(reply.answers);
    if reply.negative {
        message.add_authorities(start_of_authority());
    }
    if asked.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_BYTES);
        message.set_edns(edns);
    }
    let bytes = message.to_vec().ok()?;
    let most = usize::from(asked.max_payload().min(UDP_BYTES));
    match transport {
        Transport::Udp if bytes.len() > most => message.truncate().to_vec().ok(),
        _ => Some(bytes),
    }
}

/// By which a resolver knows how long it may remember that there is nothing.
fn start_of_authority() -> Option<Record> {
    let name = |text: &str| Name::from_ascii(format!("{text}{DOMAIN}.")).ok();
    let data = SOA::new(name("ns.dns.")?, name("hostmaster.")?, 1, 7200, 1800, 86_400, TTL_SECONDS);
    Some(Record::from_rdata(name("")?, TTL_SECONDS, RData::SOA(data)))
}

/// The port of DNS servers.
pub(crate) const PORT: u16 = 53;

#[cfg(test)]
mod tests {
    use hickory_proto::rr::RecordType;

    use super::*;

    #[test]
    fn what_does_not_fit_goes_by_tcp() {
        let mut asked = Message::query();
        let name = Name::from_ascii("many.default.svc.cluster.local.").expect("a name");
        asked.add_query(Query::query(name.clone(), RecordType::A));
        let reply = || Reply {
            answers: (0..200_u32)
                .map(|n| Record::from_rdata(name.clone(), 5, RData::A(A(n.into()))))
                .collect(),
            ..Reply::failed(ResponseCode::NoError)
        };
        let by = |transport| {
            let bytes = encode(&asked, reply(), transport).expect("encoded");
            let message = Message::from_vec(&bytes).expect("a message");
            (message.metadata.truncation, message.answers.len())
        };
        assert_eq!(by(Transport::Udp), (true, 0));
        assert_eq!(by(Transport::Tcp), (false, 200));
    }
}
