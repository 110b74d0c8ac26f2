//! A component of a Spin application. Shows what it is told, and uses `fermyon:spin@2.0.0` as the
//! query's `do` says, so that it answers under any route.

use guests::{Target, answer, fetch};
use wasip2::{
    cli::environment::get_environment,
    filesystem::{
        preopens::get_directories,
        types::{DescriptorFlags, OpenFlags, PathFlags},
    },
    http::types::{IncomingRequest, ResponseOutparam},
};

wit_bindgen::generate!({
    path: "../../runtime/wasm/wit",
    world: "spin",
    generate_all,
});

use fermyon::spin::{
    key_value::Store,
    sqlite::{Connection, Value},
    variables,
};

struct Handler;

wasip2::http::proxy::export!(Handler);

impl wasip2::exports::http::incoming_handler::Guest for Handler {
    fn handle(request: IncomingRequest, to: ResponseOutparam) {
        let target = Target::of(&request);
        let of = |key: &str| target.get(key).unwrap_or_default();
        let text = match of("do") {
            "" => headers(&request),
            "env" => {
                let mut all = get_environment();
                all.sort();
                format!("{all:?}")
            }
            "variable" => format!("{:?}", variables::get(of("name"))),
            "file" => read(of("path")),
            "write" => write(of("path")),
            "call" => match fetch(of("url")) {
                Ok((status, body)) => format!("{status} {}", String::from_utf8_lossy(&body)),
                Err(error) => format!("{error:?}"),
            },
            "count" => count(of("store")).unwrap_or_else(|error| format!("{error:?}")),
            "sql" => sql(of("database")),
            "attach" => statement(of("database"), "ATTACH 'other.db' AS other"),
            "vacuum" => statement(of("database"), "VACUUM INTO 'other.db'"),
            "pragma" => statement(of("database"), "PRAGMA max_page_count = 1000000000"),
            other => format!("what is {other:?}?"),
        };
        answer(to, 200, text.as_bytes());
    }
}

fn headers(request: &IncomingRequest) -> String {
    let entries = request.headers().entries().into_iter();
    let mut lines: Vec<String> = entries
        .filter(|(name, _)| name.starts_with("spin-"))
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(&value)))
        .collect();
    lines.sort();
    lines.join("\n")
}

fn read(path: &str) -> String {
    let Some((root, at)) = get_directories().into_iter().find(|(_, at)| at == "/") else {
        return "no folder".to_string();
    };
    let opened = root.open_at(PathFlags::empty(), path, OpenFlags::empty(), DescriptorFlags::READ);
    match opened.and_then(|file| file.read(1 << 16, 0)) {
        Ok((bytes, _)) => format!("{at}{path}: {}", String::from_utf8_lossy(&bytes)),
        Err(error) => error.name().to_string(),
    }
}

fn write(path: &str) -> String {
    let Some((root, _)) = get_directories().into_iter().find(|(_, at)| at == "/") else {
        return "no folder".to_string();
    };
    let opened = root.open_at(PathFlags::empty(), path, OpenFlags::CREATE, DescriptorFlags::WRITE);
    match opened {
        Ok(_) => "written".to_string(),
        Err(error) => error.name().to_string(),
    }
}

fn count(store: &str) -> Result<String, fermyon::spin::key_value::Error> {
    let store = Store::open(store)?;
    let before = store.get("count")?.map_or(0, |bytes| bytes.len());
    store.set("count", &vec![b'i'; before + 1])?;
    store.set("gone", b"soon")?;
    store.delete("gone")?;
    let (there, gone) = (store.exists("count")?, store.exists("gone")?);
    Ok(format!("{} {there} {gone} {:?}", before + 1, store.get_keys()?))
}

fn sql(database: &str) -> String {
    let run = || {
        let connection = Connection::open(database)?;
        connection.execute("CREATE TABLE IF NOT EXISTS t (a INTEGER, b TEXT, c BLOB)", &[])?;
        let row = [Value::Integer(7), Value::Text("seven".into()), Value::Blob(vec![7])];
        connection.execute("INSERT INTO t VALUES (?, ?, ?)", &row)?;
        connection.execute("SELECT count(*) AS n, max(a) AS a, b, c, NULL AS d FROM t", &[])
    };
    match run() {
        Ok(found) => {
            let rows: Vec<_> = found.rows.iter().map(|row| format!("{:?}", row.values)).collect();
            format!("{:?} {}", found.columns, rows.join(" "))
        }
        Err(error) => format!("{error:?}"),
    }
}

fn statement(database: &str, statement: &str) -> String {
    let run = || Connection::open(database)?.execute(statement, &[]);
    match run() {
        Ok(found) => format!("done: {:?}", found.columns),
        Err(error) => format!("{error:?}"),
    }
}
