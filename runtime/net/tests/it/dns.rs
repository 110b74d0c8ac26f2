//! The DNS server that containers find, asked over UDP and TCP from inside a namespace.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
    time::Duration,
};

use expect_test::{Expect, expect};
use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::A},
};
use windlass_runtime_net::{JoinedPod, PodNet, Table};

use crate::{
    netns::Netns,
    reach::{Scripted, container, net_on},
};

const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
enum By {
    Udp,
    Tcp,
}

/// One question, and the answer in words.
fn ask(server: SocketAddr, by: By, name: &str, kind: RecordType) -> String {
    let mut message = Message::query();
    let name = Name::from_ascii(name).expect("a name");
    message.add_query(Query::query(name, kind));
    message.metadata.recursion_desired = true;
    let question = message.to_vec().expect("encoded");
    let answer = match by {
        By::Udp => by_udp(server, &question),
        By::Tcp => by_tcp(server, &question),
    };
    let answer = match answer {
        Ok(answer) => Message::from_vec(&answer).expect("a message"),
        Err(error) => return error.kind().to_string(),
    };
    assert_eq!(answer.metadata.id, message.metadata.id);
    assert_eq!(answer.queries, message.queries);
    let data: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    let soa = if answer.authorities.is_empty() { "" } else { " soa" };
    let cut = if answer.metadata.truncation { " truncated" } else { "" };
    format!("{:?} {}{soa}{cut}", answer.metadata.response_code, data.join(","))
}

fn by_udp(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // As resolvers do, it takes no answer from anybody else.
    socket.connect(server)?;
    socket.send(question)?;
    let mut answer = vec![0; 4096];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

fn by_tcp(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(question.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length[..], question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// A resolver of the machine: it knows `outside.example`, in many records, and is asked by UDP
/// and TCP on the same port.
fn resolver() -> SocketAddr {
    // Another process may have the port for one of the two.
    let both = |_| {
        let udp = UdpSocket::bind("127.0.0.1:0").ok()?;
        let at = udp.local_addr().ok()?;
        Some((at, udp, std::net::TcpListener::bind(at).ok()?))
    };
    let (at, udp, tcp) = (0..50).find_map(both).expect("a port that is free for both");
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let answer = outside(&buffer[..length], true);
            // What an attacker would send first is passed over.
            let mut forged = answer.clone();
            forged[0] = forged[0].wrapping_add(1);
            let _ = udp.send_to(&forged, from);
            let _ = udp.send_to(&answer, from);
        }
    });
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).expect("a length");
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question).expect("a question");
            let answer = outside(&question, false);
            let length = u16::try_from(answer.len()).expect("short").to_be_bytes();
            stream.write_all(&[&length[..], &answer].concat()).expect("written");
        }
    });
    at
}

fn outside(question: &[u8], by_udp: bool) -> Vec<u8> {
    let asked = Message::from_vec(question).expect("a question");
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    answer.add_queries(asked.queries.iter().cloned());
    let name = asked.queries[0].name().clone();
    match name.to_ascii().as_str() {
        "outside.example." => {
            answer.add_answer(Record::from_rdata(name, 60, RData::A(A([192, 0, 2, 7].into()))));
        }
        "large.example." if by_udp => answer.metadata.truncation = true,
        "large.example." => {
            for n in 0..100 {
                let data = RData::A(A([192, 0, 2, n].into()));
                answer.add_answer(Record::from_rdata(name.clone(), 60, data));
            }
        }
        _ => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    answer.to_vec().expect("encoded")
}

async fn pod(n: u8, lists: &[&str], resolvers: Vec<SocketAddr>) -> (Netns, PodNet, JoinedPod) {
    let net = net_on(Arc::new(Scripted { resolvers, ..Scripted::default() }));
    let names = [("web".to_owned(), [127, 96, 0, 5].into())].into();
    net.set_table(Table {
        names: [("shop".to_owned(), names)].into(),
        by_address: [([127, 96, 0, 5].into(), ("shop".into(), "web".into()))].into(),
        ..Table::default()
    });
    let namespace = Netns::new();
    let joined = net.join(Arc::new(container(n, lists)), namespace.fd()).await.expect("joined");
    (namespace, net, joined)
}

async fn check(
    (namespace, net): (&Netns, &PodNet),
    questions: &'static [(By, &'static str, RecordType)],
    expected: Expect,
) {
    let server = SocketAddr::new(net.cluster_dns().expect("an address").into(), 53);
    let mut said = String::new();
    for (by, name, kind) in questions {
        let answer = namespace.run(move || ask(server, *by, name, *kind)).await;
        let by = if matches!(by, By::Udp) { "udp" } else { "tcp" };
        said += &format!("{by} {name} {kind}: {answer}\n");
    }
    expected.assert_eq(&said);
}

#[tokio::test]
async fn containers_ask_for_services_and_for_the_outside() {
    use By::{Tcp, Udp};
    use RecordType::{A, AAAA, PTR};
    let (namespace, net, _pod) = pod(11, &[], vec![resolver()]).await;
    check(
        (&namespace, &net),
        &[
            (Udp, "web.shop.svc.cluster.local.", A),
            (Tcp, "WEB.shop.svc.cluster.local.", A),
            (Udp, "web.shop.svc.cluster.local.", AAAA),
            (Udp, "other.shop.svc.cluster.local.", A),
            (Udp, "5.0.96.127.in-addr.arpa.", PTR),
            (Udp, "outside.example.", A),
            (Tcp, "outside.example.", A),
            (Udp, "large.example.", A),
            (Udp, "unknown.example.", A),
        ],
        expect![[r#"
            udp web.shop.svc.cluster.local. A: NoError 127.96.0.5
            tcp WEB.shop.svc.cluster.local. A: NoError 127.96.0.5
            udp web.shop.svc.cluster.local. AAAA: NoError  soa
            udp other.shop.svc.cluster.local. A: NXDomain  soa
            udp 5.0.96.127.in-addr.arpa. PTR: NoError web.shop.svc.cluster.local.
            udp outside.example. A: NoError 192.0.2.7
            tcp outside.example. A: NoError 192.0.2.7
            udp large.example. A: NoError  truncated
            udp unknown.example. A: NXDomain 
        "#]],
    )
    .await;
    let server = SocketAddr::new(net.cluster_dns().expect("an address").into(), 53);
    let large = namespace.run(move || ask(server, Tcp, "large.example.", A)).await;
    assert_eq!(large.matches("192.0.2.").count(), 100, "{large}");
    // What is no question gets an answer, or none, and breaks nothing.
    let garbage =
        namespace.run(move || by_udp(server, b"\x12\x34garbage")).await.expect("an error");
    let garbage = Message::from_vec(&garbage).expect("a message");
    assert_eq!(garbage.metadata.response_code, ResponseCode::FormErr);
    let again = namespace.run(move || ask(server, Udp, "web.shop.svc.cluster.local.", A)).await;
    assert_eq!(again, "NoError 127.96.0.5");
    // A container can be a DNS server itself.
    let own = namespace.run(|| UdpSocket::bind("0.0.0.0:53").map(drop)).await;
    own.expect("nobody has the port");
}

#[tokio::test]
async fn lists_hold_for_what_is_asked_outside_and_resolvers_may_be_away() {
    use By::Udp;
    use RecordType::A;
    let (namespace, net, _pod) = pod(12, &["outside.example"], vec![resolver()]).await;
    check(
        (&namespace, &net),
        &[
            (Udp, "outside.example.", A),
            (Udp, "large.example.", A),
            (Udp, "web.shop.svc.cluster.local.", A),
        ],
        expect![[r#"
            udp outside.example. A: NoError 192.0.2.7
            udp large.example. A: Refused 
            udp web.shop.svc.cluster.local. A: NoError 127.96.0.5
        "#]],
    )
    .await;
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let resolvers = vec![silent.local_addr().expect("bound"), resolver()];
    let (namespace, net, _pod) = pod(13, &[], resolvers).await;
    check(
        (&namespace, &net),
        &[(Udp, "outside.example.", A)],
        expect![[r#"
        udp outside.example. A: NoError 192.0.2.7
    "#]],
    )
    .await;
    let (namespace, net, _pod) = pod(14, &[], Vec::new()).await;
    check(
        (&namespace, &net),
        &[(Udp, "outside.example.", A)],
        expect![[r#"
        udp outside.example. A: ServFail 
    "#]],
    )
    .await;
}
