//! Files of one volume that hide each other: two of the same path, or one in the other's way.

use serde_json::Value;

use crate::tree;

/// A path in a volume, and what is told of where it comes from.
struct Placed {
    path: String,
    source: String,
}

/// One warning for each pair, in upstream's words.
pub fn warnings(volume: &Value, found: &mut Vec<String>) {
    let one = |key: &str, name: &str, what: &str| {
        let of = &volume[key];
        let what = if what == "DownwardAPI" { what.into() } else { quoted(what, of, name) };
        (what, items(of, ""))
    };
    let mut all = vec![
        one("configMap", "name", "ConfigMap"),
        one("secret", "secretName", "Secret"),
        one("downwardAPI", "", "DownwardAPI"),
    ];
    let sources = tree::list(&volume["projected"], "sources").iter();
    all.push(("Projected".to_owned(), sources.flat_map(projected).collect()));
    let name = tree::text(volume, "name");
    for (what, placed) in all {
        for (at, one) in placed.iter().enumerate() {
            for other in placed[..at].iter().filter(|other| overlap(one, other)) {
                let pair = format!("{} with {}", one.shown(), other.shown());
                found.push(format!("volume {name:?} ({what}): overlapping paths: {pair}"));
            }
        }
    }
}

fn quoted(what: &str, of: &Value, name: &str) -> String {
    format!("{what} {:?}", tree::text(of, name))
}

fn items(of: &Value, source: &str) -> Vec<Placed> {
    tree::list(of, "items")
        .iter()
        .map(|item| Placed::new(tree::text(item, "path"), source))
        .collect()
}

fn projected(source: &Value) -> Vec<Placed> {
    let bundle = &source["clusterTrustBundle"];
    let certificate = &source["podCertificate"];
    let own = |of: &Value, key: &str, what: &str| Placed::new(tree::text(of, key), what);
    if tree::has(source, "configMap") {
        items(&source["configMap"], &quoted("ConfigMap", &source["configMap"], "name"))
    } else if tree::has(source, "secret") {
        items(&source["secret"], &quoted("Secret", &source["secret"], "name"))
    } else if tree::has(source, "downwardAPI") {
        items(&source["downwardAPI"], "DownwardAPI")
    } else if tree::has(source, "serviceAccountToken") {
        vec![own(&source["serviceAccountToken"], "path", "ServiceAccountToken")]
    } else if !bundle.is_null() {
        let name = if tree::has(bundle, "name") { "name" } else { "signerName" };
        vec![own(bundle, "path", &quoted("ClusterTrustBundle", bundle, name))]
    } else {
        vec![
            own(certificate, "certificateChainPath", "PodCertificate chain"),
            own(certificate, "keyPath", "PodCertificate key"),
            own(certificate, "credentialBundlePath", "PodCertificate credential bundle"),
        ]
    }
}

fn overlap(one: &Placed, other: &Placed) -> bool {
    let is_in = |a: &str, b: &str| format!("{a}/").starts_with(&format!("{b}/"));
    let (one, other) = (&one.path, &other.path);
    !one.is_empty() && !other.is_empty() && (is_in(one, other) || is_in(other, one))
}

impl Placed {
    fn new(path: &str, source: &str) -> Self {
        Self { path: path.trim_end_matches('/').to_owned(), source: source.to_owned() }
    }

    fn shown(&self) -> String {
        match self.source.as_str() {
            "" => format!("{:?}", self.path),
            source => format!("{:?} ({source})", self.path),
        }
    }
}
