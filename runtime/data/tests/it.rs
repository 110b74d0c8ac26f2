//! What every kind of store must do, on files of the node and on a Redis (a small one of this file,
//! behind the pod network); and what a guest's SQL may do.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use windlass_runtime_api::{
    AllowedHosts, Databases, KeyValueError, KeyValueStore, KeyValues, Reach, Sandbox, SqlError,
    SqlValue,
};
use windlass_runtime_data::{BACKEND, SqliteFiles, Stores};
use windlass_runtime_net::{Block, Conn, PodNet, PodRef};
use windlass_sdk_meta::Rng;

const DEADLINE: Duration = Duration::from_secs(60);

fn pod(namespace: &str, backend: &str) -> Sandbox {
    Sandbox {
        uid: format!("uid-{namespace}"),
        name: "p".into(),
        namespace: namespace.into(),
        address: [127, 64, 0, 1].into(),
        hostname: "p".into(),
        names: Default::default(),
        annotations: [(BACKEND.to_owned(), backend.to_owned())].into(),
        linux: Default::default(),
    }
}

fn stores(folder: &std::path::Path, net: PodNet) -> Stores {
    Stores::new(None, folder.to_owned(), net)
}

fn net() -> PodNet {
    PodNet::loopback(vec![Block::PODS, Block::SERVICES], Default::default(), Rng::seeded(1))
}

async fn conforms(store: Arc<dyn KeyValueStore>, other: Arc<dyn KeyValueStore>) {
    let value = async |key: &str| {
        store
            .get(key)
            .await
            .expect("get")
            .map(|entry| String::from_utf8_lossy(&entry.value).into_owned())
    };
    assert_eq!(value("a").await, None);
    store.delete("a").await.expect("deleting nothing is fine");
    store.set("a", b"one".to_vec()).await.expect("set");
    store.set("a", b"two".to_vec()).await.expect("set");
    store.set("", b"the empty key".to_vec()).await.expect("set");
    assert_eq!(value("a").await.as_deref(), Some("two"));
    assert!(store.exists("a").await.expect("exists"));
    assert!(!other.exists("a").await.expect("another store has its own keys"));

    let seen = store.get("a").await.expect("get");
    assert!(store.swap("a", seen.as_ref(), b"three".to_vec()).await.expect("swap"));
    assert!(!store.swap("a", seen.as_ref(), b"four".to_vec()).await.expect("swap"));
    assert!(!store.swap("a", None, b"four".to_vec()).await.expect("swap"));
    assert!(store.swap("new", None, b"five".to_vec()).await.expect("swap"));
    assert_eq!(value("a").await.as_deref(), Some("three"));
    assert_eq!(value("new").await.as_deref(), Some("five"));

    let mut sums = Vec::new();
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.increment("sum", 2).await })
        })
        .collect();
    for task in tasks {
        sums.push(task.await.expect("no panic").expect("increment"));
    }
    sums.sort_unstable();
    assert_eq!(sums, (1..=50).map(|n| 2 * n).collect::<Vec<i64>>());
    assert_eq!(store.increment("sum", -100).await, Ok(0));
    let text = store.increment("a", 1).await;
    assert!(matches!(text, Err(KeyValueError::Other(_))), "{text:?}");

    let many: Vec<_> = (0..1100).map(|n| (format!("key {n:04}"), b"v".to_vec())).collect();
    store.set_many(many.clone()).await.expect("set many");
    let (mut keys, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.keys(cursor.as_deref()).await.expect("keys");
        keys.extend(page.keys);
        (cursor, pages) = (page.cursor, pages + 1);
        if cursor.is_none() {
            break;
        }
    }
    keys.sort();
    assert_eq!((keys.len(), keys[0].as_str(), pages), (1104, "", 3));
    let names: Vec<String> = many.iter().map(|(key, _)| key.clone()).collect();
    let got = store.get_many(&names[..2]).await.expect("get many");
    assert_eq!(got.iter().flatten().count(), 2);
    store.delete_many(&names).await.expect("delete many");
    assert_eq!(store.keys(None).await.expect("keys").keys.len(), 4);
}

#[tokio::test]
async fn entries_of_the_node() {
    let folder = tempfile::tempdir().expect("folder");
    let stores = stores(folder.path(), net());
    let (here, there) = (pod("shop", "node"), pod("other", "node"));
    let store = stores.open(&here, &Reach::default(), "default").expect("open");
    conforms(store.clone(), stores.open(&there, &Reach::default(), "default").expect("open")).await;
    let named = stores.open(&here, &Reach::default(), "cache").expect("open");
    assert!(!named.exists("a").await.expect("exists"));
    // What was written is there for the next process; what was begun is not.
    let files = folder.path().join("keyvalue/shop/default");
    std::fs::write(files.join(".half"), b"x").expect("write");
    let again =
        self::stores(folder.path(), net()).open(&here, &Reach::default(), "default").expect("open");
    assert_eq!(again.get("a").await.expect("get"), store.get("a").await.expect("get"));
    assert_eq!(again.keys(None).await.expect("keys").keys.len(), 4);
    assert!(!files.join(".half").exists());
    for name in ["", "../x", "a/b"] {
        assert_eq!(
            stores.open(&here, &Reach::default(), name).err(),
            Some(KeyValueError::NoSuchStore),
            "{name:?}"
        );
    }
}

#[tokio::test]
async fn a_node_is_not_filled() {
    let folder = tempfile::tempdir().expect("folder");
    let store = stores(folder.path(), net())
        .open(&pod("shop", "node"), &Reach::default(), "default")
        .expect("open");
    let mut refused = None;
    for n in 0..300 {
        if let Err(error) = store.set(&format!("large{n}"), vec![0; 1 << 20]).await {
            refused = Some((n, error));
            break;
        }
    }
    let (count, error) = refused.expect("the store is full at some point");
    assert_eq!(count, 255);
    assert!(error.to_string().contains("is full"), "{error}");
    store.delete("large0").await.expect("delete");
    store.set("large0", vec![0; 1 << 19]).await.expect("there is room again");
}

#[tokio::test]
async fn entries_of_a_redis() {
    let folder = tempfile::tempdir().expect("folder");
    let net = net();
    let redis = PodRef {
        uid: "uid-redis".into(),
        namespace: "shop".into(),
        name: "redis".into(),
        ..PodRef::default()
    };
    let address: SocketAddr = ([127, 70, 0, 9], 6379).into();
    let mut listener = net.listen(&redis, address).await.expect("listen");
    let data = Arc::new(Mutex::new(BTreeMap::new()));
    let serving = tokio::spawn(async move {
        loop {
            tokio::spawn(serve(listener.accept().await, data.clone()));
        }
    });
    let url = "redis://user:secret@127.70.0.9/3";
    let stores = stores(folder.path(), net);
    let shop = pod("shop", url);
    let tested = conforms(
        stores.open(&shop, &Reach::default(), "default").expect("open"),
        stores.open(&shop, &Reach::default(), "cache").expect("open"),
    );
    tokio::time::timeout(DEADLINE, tested).await.expect("in time");
    let wrong =
        stores.open(&pod("shop", "redis://user:wrong@127.70.0.9"), &Reach::default(), "default");
    let error = wrong.expect("open").get("a").await.expect_err("refused");
    assert_eq!(error.to_string(), "Redis says: WRONGPASS no");
    // What narrows the pod's calls narrows its store.
    let only = |hosts: &str| Reach {
        lists: vec![AllowedHosts::parse("the list", hosts).expect("a list")],
    };
    let other = stores.open(&shop, &only("other.example"), "default").expect("open");
    assert!(other.get("a").await.is_err());
    let named = stores.open(&shop, &only("redis://127.70.0.9:6379"), "default").expect("open");
    assert!(named.get("a").await.is_ok());
    // Nobody's address, and one that no pod may reach.
    for host in ["127.70.0.10", "127.0.0.1", "169.254.169.254"] {
        let store = stores
            .open(&pod("shop", &format!("redis://{host}")), &Reach::default(), "default")
            .expect("open");
        assert!(store.get("a").await.is_err(), "{host}");
    }
    serving.abort();
}

type Words = Vec<Vec<u8>>;
type Shared = Arc<Mutex<BTreeMap<Vec<u8>, Vec<u8>>>>;

/// As much of Redis as the client uses.
async fn serve(conn: Conn, data: Shared) {
    let mut conn = BufReader::new(conn);
    let mut watched: Option<(Vec<u8>, Option<Vec<u8>>)> = None;
    let mut queued: Option<Vec<Words>> = None;
    let (mut allowed, mut database) = (false, false);
    while let Some(words) = command(&mut conn).await {
        let word = |at: usize| words.get(at).cloned().unwrap_or_default();
        let name = String::from_utf8_lossy(&words[0]).into_owned();
        let reply = match (name.as_str(), &mut queued) {
            ("AUTH", _) => {
                allowed = (word(1), word(2)) == (b"user".to_vec(), b"secret".to_vec());
                if allowed { "+OK\r\n".into() } else { b"-WRONGPASS no\r\n".to_vec() }
            }
            _ if !allowed => b"-NOAUTH log in\r\n".to_vec(),
            ("SELECT", _) => {
                database = word(1) == b"3";
                b"+OK\r\n".to_vec()
            }
            _ if !database => b"-ERR the wrong database\r\n".to_vec(),
            ("WATCH", _) => {
                let now = data.lock().get(&word(1)).cloned();
                watched = Some((word(1), now));
                b"+OK\r\n".to_vec()
            }
            ("UNWATCH", _) => {
                watched = None;
                b"+OK\r\n".to_vec()
            }
            ("MULTI", _) => {
                queued = Some(Vec::new());
                b"+OK\r\n".to_vec()
            }
            ("EXEC", _) => {
                let mut data = data.lock();
                let same = watched.take().is_none_or(|(key, was)| data.get(&key) == was.as_ref());
                let commands = queued.take().unwrap_or_default();
                if same {
                    let mut out = format!("*{}\r\n", commands.len()).into_bytes();
                    commands.iter().for_each(|words| out.extend(run(words, &mut data)));
                    out
                } else {
                    b"*-1\r\n".to_vec()
                }
            }
            (_, Some(commands)) => {
                commands.push(words);
                b"+QUEUED\r\n".to_vec()
            }
            (_, None) => run(&words, &mut data.lock()),
        };
        if conn.get_mut().write_all(&reply).await.is_err() {
            return;
        }
    }
}

fn run(words: &Words, data: &mut BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<u8> {
    let bulk = |bytes: &[u8]| [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
    let text = |at: usize| String::from_utf8_lossy(&words[at]).into_owned();
    match text(0).as_str() {
        "PING" => b"+PONG\r\n".to_vec(),
        "GET" => data.get(&words[1]).map_or(b"$-1\r\n".to_vec(), |value| bulk(value)),
        "SET" => {
            data.insert(words[1].clone(), words[2].clone());
            b"+OK\r\n".to_vec()
        }
        "DEL" => format!(":{}\r\n", i32::from(data.remove(&words[1]).is_some())).into_bytes(),
        "EXISTS" => format!(":{}\r\n", i32::from(data.contains_key(&words[1]))).into_bytes(),
        "INCRBY" => {
            let now =
                data.get(&words[1]).map_or("0".into(), |v| String::from_utf8_lossy(v).into_owned());
            let Ok(now) = now.parse::<i64>() else { return b"-ERR not an integer\r\n".to_vec() };
            let sum = now + text(2).parse::<i64>().expect("a number");
            data.insert(words[1].clone(), sum.to_string().into_bytes());
            format!(":{sum}\r\n").into_bytes()
        }
        "SCAN" => {
            let (from, count) = (text(1).parse::<usize>().expect("a cursor"), 500);
            let prefix = text(3).trim_end_matches('*').to_owned();
            let keys: Vec<&Vec<u8>> = data.keys().skip(from).take(count).collect();
            let next = if from + count < data.len() { from + count } else { 0 };
            let keys: Vec<_> =
                keys.into_iter().filter(|key| key.starts_with(prefix.as_bytes())).collect();
            let mut out = b"*2\r\n".to_vec();
            out.extend(bulk(next.to_string().as_bytes()));
            out.extend(format!("*{}\r\n", keys.len()).into_bytes());
            keys.iter().for_each(|key| out.extend(bulk(key)));
            out
        }
        other => format!("-ERR unknown command {other}\r\n").into_bytes(),
    }
}

async fn command(conn: &mut BufReader<Conn>) -> Option<Words> {
    let mut line = String::new();
    conn.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let count: usize = line.trim().strip_prefix('*')?.parse().ok()?;
    let mut words = Vec::new();
    for _ in 0..count {
        line.clear();
        conn.read_line(&mut line).await.ok()?;
        let length: usize = line.trim().strip_prefix('$')?.parse().ok()?;
        let mut word = vec![0; length + 2];
        conn.read_exact(&mut word).await.ok()?;
        word.truncate(length);
        words.push(word);
    }
    Some(words)
}

#[tokio::test]
async fn databases_stay_within_their_file() {
    let folder = tempfile::tempdir().expect("folder");
    let files = SqliteFiles::new(folder.path().to_owned());
    let (here, there) = (pod("shop", "node"), pod("other", "node"));
    let open = async |pod: &Sandbox, app: &str, name: &str| {
        files.open(pod, app, name).await.expect("a database")
    };
    let one = open(&here, "app", "main").await;
    let run = async |sql: &str| one.execute(sql.to_owned(), vec![]).await;
    run("CREATE TABLE t (a INTEGER, b TEXT)").await.expect("create");
    let row = vec![SqlValue::Integer(1), SqlValue::Text("x".into())];
    one.execute("INSERT INTO t VALUES (?, ?)".into(), row.clone()).await.expect("insert");
    // A second connection sees it; another namespace, application or name doesn't.
    let select = "SELECT a, b, 1.5 AS c, x'01' AS d, NULL AS e FROM t".to_owned();
    let found = open(&here, "app", "main").await.execute(select.clone(), vec![]).await;
    let found = found.expect("rows");
    assert_eq!(found.columns, ["a", "b", "c", "d", "e"]);
    let more = [SqlValue::Real(1.5), SqlValue::Blob(vec![1]), SqlValue::Null];
    assert_eq!(found.rows, [[&row[..], &more].concat()]);
    for (pod, app, name) in
        [(&there, "app", "main"), (&here, "App 2", "main"), (&here, "app", "../main")]
    {
        assert!(open(pod, app, name).await.execute(select.clone(), vec![]).await.is_err());
    }
    for sql in [
        "ATTACH 'other.db' AS other",
        "VACUUM INTO 'other.db'",
        "PRAGMA max_page_count = 2000000000",
        "PRAGMA journal_mode = off",
        "SELECT load_extension('x')",
        "PRAGMA writable_schema = on",
    ] {
        assert!(run(sql).await.is_err(), "{sql}");
    }
    run("PRAGMA table_info(t)").await.expect("harmless");
    run("VACUUM").await.expect_err("it attaches a file too");
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let error = run(endless).await.expect_err("too many rows");
    assert!(error.to_string().contains("rows"), "{error}");
    let filling = "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i, hex(zeroblob(200000)) FROM n";
    assert_eq!(run(filling).await, Err(SqlError::Full));
    run("SELECT count(*) FROM t").await.expect("what was there stays");
}
