//! Entries in a Redis that the pod names. The protocol (RESP2) is small enough to be spoken here, and
//! must be: every socket of a pod comes from the pod network, where policy is applied. An entry is a
//! plain string under `STORE:KEY`, so that other programs can read what guests write.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    time::{Instant, timeout},
};
use windlass_runtime_api::{Entry, KeyValueError, KeyValueStore, Keys, Reach};
use windlass_runtime_net::{Caller, Conn, PodNet};

const PORT: u16 = 6379;
/// As lists of allowed hosts may name it.
const SCHEME: &str = "redis";
/// From the first byte sent to the last received.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Connections that wait for their pod's next operation, and for how long.
const KEPT: usize = 64;
const KEPT_FOR: Duration = Duration::from_secs(30);
/// A connection that waited longer is asked first whether it is still there.
const FRESH: Duration = Duration::from_secs(1);
/// What a reply may hold.
const TEXT_BYTES: usize = 4 << 20;
const LINE_BYTES: u64 = 64 << 10;
const ITEMS: usize = 10_000;
/// Replies in replies.
const DEPTH: usize = 4;
/// Keys that one page looks at.
const PAGE: &str = "500";

/// A Redis, as `redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]` names it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Server {
    host: String,
    port: u16,
    user: String,
    password: String,
    database: u32,
}

impl Server {
    pub fn parse(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("redis://").ok_or("it is no redis:// URL")?;
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = place.rsplit_once('@').unwrap_or(("", place));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
        let number = |text: &str, what: &str| format!("{text:?} is no {what}");
        if host.is_empty() {
            return Err("it names no host".into());
        }
        Ok(Self {
            host: host.to_owned(),
            port: match port {
                "" => PORT,
                port => port.parse().map_err(|_| number(port, "port"))?,
            },
            user: user.to_owned(),
            password: password.to_owned(),
            database: match database {
                "" => 0,
                database => database.parse().map_err(|_| number(database, "database's number"))?,
            },
        })
    }
}

pub(crate) struct Servers(Arc<Shared>);

struct Shared {
    net: PodNet,
    idle: Mutex<VecDeque<Idle>>,
}

struct Idle {
    pod: String,
    /// By whose lists it was allowed.
    reach: Reach,
    server: Server,
    connection: Connection,
    since: Instant,
}

impl Servers {
    pub fn new(net: PodNet) -> Self {
        Self(Arc::new(Shared { net, idle: Mutex::default() }))
    }

    pub fn open(&self, caller: Caller, server: Server, store: &str) -> Arc<dyn KeyValueStore> {
        Arc::new(Store { shared: self.0.clone(), caller, server, prefix: format!("{store}:") })
    }
}

struct Store {
    shared: Arc<Shared>,
    caller: Caller,
    server: Server,
    prefix: String,
}

type Answer<T> = Result<T, KeyValueError>;

impl Store {
    fn key(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.prefix).into_bytes()
    }

    /// One command on a connection that is kept for the next if all went well.
    async fn ask(&self, command: &[&[u8]]) -> Answer<Reply> {
        let mut connection = self.connection().await?;
        let reply = connection.ask(command).await?;
        self.keep(connection);
        Ok(reply)
    }

    async fn connection(&self) -> Answer<Connection> {
        if let Some((mut connection, since)) = self.kept() {
            let there = since.elapsed() < FRESH || connection.ask(&[b"PING"]).await.is_ok();
            if there {
                return Ok(connection);
            }
        }
        let Server { host, port, .. } = &self.server;
        let conn =
            timeout(ANSWER_TIME, self.shared.net.connect(&self.caller, SCHEME, host, *port)).await;
        let conn = conn.map_err(|_| late())?.map_err(KeyValueError::other)?;
        let mut connection = Connection(BufReader::new(conn));
        let Server { user, password, database, .. } = &self.server;
        if !password.is_empty() || !user.is_empty() {
            let (user, password) = (user.as_bytes(), password.as_bytes());
            let command: &[&[u8]] = match user {
                b"" => &[b"AUTH", password],
                user => &[b"AUTH", user, password],
            };
            connection.ask(command).await?;
        }
        if *database != 0 {
            connection.ask(&[b"SELECT", database.to_string().as_bytes()]).await?;
        }
        Ok(connection)
    }

    fn kept(&self) -> Option<(Connection, Instant)> {
        let mut idle = self.shared.idle.lock();
        idle.retain(|idle| idle.since.elapsed() < KEPT_FOR);
        let ours = |idle: &Idle| {
            idle.pod == self.caller.pod.uid
                && idle.server == self.server
                && idle.reach == self.caller.reach
        };
        let at = idle.iter().rposition(ours)?;
        idle.remove(at).map(|idle| (idle.connection, idle.since))
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.shared.idle.lock();
        if idle.len() >= KEPT {
            idle.pop_front();
        }
        idle.push_back(Idle {
            pod: self.caller.pod.uid.clone(),
            reach: self.caller.reach.clone(),
            server: self.server.clone(),
            connection,
            since: Instant::now(),
        });
    }
}

#[async_trait]
impl KeyValueStore for Store {
    async fn get(&self, key: &str) -> Answer<Option<Entry>> {
        let value = self.ask(&[b"GET", &self.key(key)]).await?.bulk()?;
        Ok(value.map(|value| Entry { value, version: String::new() }))
    }

    async fn set(&self, key: &str, value: Vec<u8>) -> Answer<()> {
        self.ask(&[b"SET", &self.key(key), &value]).await.map(drop)
    }

    async fn delete(&self, key: &str) -> Answer<()> {
        self.ask(&[b"DEL", &self.key(key)]).await.map(drop)
    }

    async fn exists(&self, key: &str) -> Answer<bool> {
        Ok(self.ask(&[b"EXISTS", &self.key(key)]).await?.number()? > 0)
    }

    async fn keys(&self, cursor: Option<&str>) -> Answer<Keys> {
        // A store's name has no character that a pattern gives a meaning.
        let pattern = format!("{}*", self.prefix);
        let cursor = cursor.unwrap_or("0").as_bytes();
        let command: &[&[u8]] =
            &[b"SCAN", cursor, b"MATCH", pattern.as_bytes(), b"COUNT", PAGE.as_bytes()];
        let mut parts = self.ask(command).await?.items()?.into_iter();
        let (next, keys) =
            (parts.next().unwrap_or(Reply::Nothing), parts.next().unwrap_or(Reply::Nothing));
        let next = next.text()?;
        let mut found = Vec::new();
        for key in keys.items()? {
            let key = key.text()?;
            found.extend(key.strip_prefix(&self.prefix).map(str::to_owned));
        }
        Ok(Keys { keys: found, cursor: Some(next).filter(|next| next != "0" && !next.is_empty()) })
    }

    /// Compares values: Redis has no version of an entry.
    async fn swap(&self, key: &str, seen: Option<&Entry>, value: Vec<u8>) -> Answer<bool> {
        let key = self.key(key);
        let mut connection = self.connection().await?;
        connection.ask(&[b"WATCH", &key]).await?;
        let present = connection.ask(&[b"GET", &key]).await?.bulk()?;
        if present.as_deref() != seen.map(|entry| entry.value.as_slice()) {
            connection.ask(&[b"UNWATCH"]).await?;
            self.keep(connection);
            return Ok(false);
        }
        connection.ask(&[b"MULTI"]).await?;
        connection.ask(&[b"SET", &key, &value]).await?;
        let done = connection.ask(&[b"EXEC"]).await?;
        self.keep(connection);
        Ok(!matches!(done, Reply::Nothing))
    }

    async fn increment(&self, key: &str, delta: i64) -> Answer<i64> {
        let delta = delta.to_string();
        self.ask(&[b"INCRBY", &self.key(key), delta.as_bytes()]).await?.number()
    }
}

/// What a Redis answers; its errors are errors before they get here.
#[derive(Debug, PartialEq)]
enum Reply {
    Text(Vec<u8>),
    Number(i64),
    Items(Vec<Reply>),
    /// A null text or list.
    Nothing,
}

impl Reply {
    fn bulk(self) -> Answer<Option<Vec<u8>>> {
        match self {
            Self::Text(text) => Ok(Some(text)),
            Self::Nothing => Ok(None),
            other => Err(unexpected(&other)),
        }
    }

    fn text(self) -> Answer<String> {
        let text = self.bulk()?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn number(self) -> Answer<i64> {
        match self {
            Self::Number(number) => Ok(number),
            other => Err(unexpected(&other)),
        }
    }

    fn items(self) -> Answer<Vec<Reply>> {
        match self {
            Self::Items(items) => Ok(items),
            other => Err(unexpected(&other)),
        }
    }
}

struct Connection(BufReader<Conn>);

impl Connection {
    async fn ask(&mut self, command: &[&[u8]]) -> Answer<Reply> {
        let exchange = async {
            self.0.get_mut().write_all(&encode(command)).await.map_err(KeyValueError::other)?;
            self.0.get_mut().flush().await.map_err(KeyValueError::other)?;
            read(&mut self.0, DEPTH).await
        };
        timeout(ANSWER_TIME, exchange).await.map_err(|_| late())?
    }
}

fn encode(command: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", command.len()).into_bytes();
    for word in command {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Reads one reply (<https://redis.io/docs/latest/develop/reference/protocol-spec/>).
async fn read<R>(from: &mut BufReader<R>, depth: usize) -> Answer<Reply>
where
    R: tokio::io::AsyncRead + Unpin + Send,
{
    let mut line = Vec::new();
    let read_line = (&mut *from).take(LINE_BYTES).read_until(b'\n', &mut line).await;
    read_line.map_err(KeyValueError::other)?;
    let line = line.strip_suffix(b"\r\n").ok_or_else(|| wrong("a line that doesn't end"))?;
    let (sort, rest) = line.split_first().ok_or_else(|| wrong("an empty line"))?;
    let text = String::from_utf8_lossy(rest);
    let number = || text.parse::<i64>().map_err(|_| wrong("a number that is none"));
    match sort {
        b'+' => Ok(Reply::Text(rest.to_vec())),
        b'-' => Err(KeyValueError::Other(format!("Redis says: {text}"))),
        b':' => Ok(Reply::Number(number()?)),
        b'$' | b'*' if number()? < 0 => Ok(Reply::Nothing),
        b'$' => {
            let length = usize::try_from(number()?).unwrap_or(usize::MAX);
            if length > TEXT_BYTES {
                return Err(wrong("a value that is too long"));
            }
            let mut bytes = vec![0; length + 2];
            from.read_exact(&mut bytes).await.map_err(KeyValueError::other)?;
            bytes.truncate(length);
            Ok(Reply::Text(bytes))
        }
        b'*' if depth > 0 => {
            let length = usize::try_from(number()?).unwrap_or(usize::MAX);
            if length > ITEMS {
                return Err(wrong("a list that is too long"));
            }
            let mut items = Vec::new();
            for _ in 0..length {
                items.push(Box::pin(read(from, depth - 1)).await?);
            }
            Ok(Reply::Items(items))
        }
        _ => Err(wrong("something else than RESP2")),
    }
}

fn unexpected(reply: &Reply) -> KeyValueError {
    KeyValueError::Other(format!("Redis sent an unexpected reply: {reply:?}"))
}

fn wrong(what: &str) -> KeyValueError {
    KeyValueError::Other(format!("Redis sent {what}"))
}

fn late() -> KeyValueError {
    KeyValueError::Other(format!("Redis didn't answer within {} s", ANSWER_TIME.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(bytes: &[u8], expected: Result<Reply, &str>) {
        let reply = read(&mut BufReader::new(bytes), DEPTH).await;
        match (&reply, &expected) {
            (Err(KeyValueError::Other(said)), Err(why)) => assert!(said.contains(why), "{said}"),
            (Ok(reply), Ok(expected)) => assert_eq!(reply, expected),
            _ => panic!("{}: {reply:?}", String::from_utf8_lossy(bytes)),
        }
    }

    #[tokio::test]
    async fn replies_are_read() {
        check(b"+OK\r\n", Ok(Reply::Text(b"OK".to_vec()))).await;
        check(b":-3\r\n", Ok(Reply::Number(-3))).await;
        check(b"$2\r\na\n\r\n", Ok(Reply::Text(b"a\n".to_vec()))).await;
        check(b"$-1\r\n", Ok(Reply::Nothing)).await;
        let items = vec![Reply::Text(b"0".to_vec()), Reply::Items(vec![Reply::Number(1)])];
        check(b"*2\r\n$1\r\n0\r\n*1\r\n:1\r\n", Ok(Reply::Items(items))).await;
        check(b"-ERR no\r\n", Err("Redis says: ERR no")).await;
        check(b"$99999999\r\n", Err("too long")).await;
        check(b"*99999999\r\n", Err("too long")).await;
        check(b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n", Err("RESP2")).await;
        check(b"HTTP/1.1 400\r\n", Err("RESP2")).await;
        check(b"", Err("doesn't end")).await;
        check(b"$5\r\nab", Err("eof")).await;
    }

    #[test]
    fn commands_are_written() {
        assert_eq!(encode(&[b"GET", b"a b"]), b"*2\r\n$3\r\nGET\r\n$3\r\na b\r\n");
    }
}
