//! What lists and watches may ask for, and which state of the cluster that means: the rules of
//! `resourceVersion`, `resourceVersionMatch`, `limit`, `continue` and `sendInitialEvents` as pure
//! functions (Kubernetes API concepts, "resource versions").

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use windlass_sdk_meta::{Cause, GroupVersionKind, Status};

use crate::request::Query;

/// The query of a list or watch, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ListOptions {
    pub label_selector: String,
    pub field_selector: String,
    pub resource_version: String,
    pub resource_version_match: String,
    pub limit: usize,
    pub continue_token: String,
    pub timeout_seconds: Option<u64>,
    pub allow_bookmarks: bool,
    pub send_initial_events: Option<bool>,
}

/// Which state a list answers with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListState {
    /// Everything committed before the request.
    MostRecent,
    /// Whatever is in memory.
    Any,
    NotOlderThan(u64),
    Exact(u64),
    /// From behind a key, at a revision.
    Continue {
        revision: u64,
        after: (String, String),
    },
    /// From behind a key, in the newest state: after a token has expired.
    ContinueAnyhow {
        after: (String, String),
    },
}

/// Where a watch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WatchStart {
    /// Synthetic ADDED events of the state now; most recent where asked for.
    State {
        not_older_than: Option<u64>,
        most_recent: bool,
    },
    After(u64),
}

/// The content of a continue token. `rv` -1 stands for "whatever is newest".
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

impl ListOptions {
    pub fn parse(query: &Query) -> Result<Self, Status> {
        let text = |key: &str| query.get(key).unwrap_or_default().to_owned();
        let number = |key: &str| match query.get(key).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => value.parse::<i64>().map(Some).map_err(|_| {
                Status::bad_request(format!("strconv.ParseInt: parsing {value:?}: invalid syntax"))
            }),
        };
        let send_initial_events =
            query.get("sendInitialEvents").map(|_| query.flag("sendInitialEvents"));
        Ok(Self {
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            resource_version: text("resourceVersion"),
            resource_version_match: text("resourceVersionMatch"),
            limit: number("limit")?.and_then(|limit| limit.try_into().ok()).unwrap_or(0),
            continue_token: text("continue"),
            timeout_seconds: number("timeoutSeconds")?
                .and_then(|seconds| seconds.try_into().ok())
                .filter(|seconds| *seconds > 0),
            allow_bookmarks: query.flag("allowWatchBookmarks"),
            send_initial_events,
        })
    }

    /// Which state a list means; 422 or 400 in upstream's words where the options contradict.
    pub fn list_state(&self) -> Result<ListState, Status> {
        self.check_match(false)?;
        let revision = self.revision()?;
        if !self.continue_token.is_empty() {
            if revision.is_some_and(|revision| revision != 0) {
                return Err(Status::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            return read_token(&self.continue_token);
        }
        Ok(match (revision, self.resource_version_match.as_str()) {
            (None, _) => ListState::MostRecent,
            (Some(0), _) => ListState::Any,
            (Some(revision), "Exact") => ListState::Exact(revision),
            (Some(revision), "") if self.limit > 0 => ListState::Exact(revision),
            (Some(revision), _) => ListState::NotOlderThan(revision),
        })
    }

    /// Where a watch starts; contradictions as for lists.
    pub fn watch_start(&self) -> Result<WatchStart, Status> {
        self.check_match(true)?;
        let revision = self.revision()?;
        Ok(match (self.send_initial_events, revision) {
            (Some(true), revision) => WatchStart::State {
                not_older_than: revision.filter(|revision| *revision > 0),
                most_recent: revision.is_none(),
            },
            (Some(false), None) => WatchStart::State { not_older_than: None, most_recent: true },
            (None, None) => WatchStart::State { not_older_than: None, most_recent: true },
            (None, Some(0)) => WatchStart::State { not_older_than: None, most_recent: false },
            (_, Some(revision)) => WatchStart::After(revision),
        })
    }

    fn revision(&self) -> Result<Option<u64>, Status> {
        parse_revision(&self.resource_version)
    }

    fn check_match(&self, watch: bool) -> Result<(), Status> {
        let mut causes = Vec::new();
        let mut forbid = |field: &str, why: &str| {
            causes.push(Cause {
                reason: "FieldValueForbidden".into(),
                message: format!("Forbidden: {why}"),
                field: field.into(),
            });
        };
        let matching = self.resource_version_match.as_str();
        let initial = self.send_initial_events.is_some();
        match (watch, matching.is_empty()) {
            (true, false) if !initial => forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ),
            (true, _) if initial && matching != "NotOlderThan" => forbid(
                "resourceVersionMatch",
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ),
            (false, _) if initial => {
                forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
            }
            (false, false) => self.check_list_match(&mut forbid),
            _ => {}
        }
        if !["", "Exact", "NotOlderThan"].contains(&matching) && causes.is_empty() {
            causes.push(Cause {
                reason: "FieldValueNotSupported".into(),
                message: format!(
                    "Unsupported value: {matching:?}: supported values: \"Exact\", \"NotOlderThan\""
                ),
                field: "resourceVersionMatch".into(),
            });
        }
        match causes.is_empty() {
            true => Ok(()),
            false => {
                let kind = GroupVersionKind::new("meta.k8s.io", "v1", "ListOptions");
                Err(Status::invalid(&kind, "", causes))
            }
        }
    }

    fn check_list_match(&self, forbid: &mut impl FnMut(&str, &str)) {
        let field = "resourceVersionMatch";
        if self.resource_version.is_empty() {
            let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            forbid(field, why);
        } else if !self.continue_token.is_empty() {
            forbid(field, "resourceVersionMatch is forbidden when continue is provided");
        } else if self.resource_version_match == "Exact" && self.resource_version == "0" {
            let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            forbid(field, why);
        }
    }
}

/// Reads a resource version; empty is None.
pub(crate) fn parse_revision(text: &str) -> Result<Option<u64>, Status> {
    match text {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            let why = format!("strconv.ParseUint: parsing {text:?}: invalid syntax");
            Status::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {text:?}: {why}"
            ))
        }),
    }
}

/// A token from which a list goes on behind `key`; without a revision in whatever is newest then.
pub(crate) fn continue_token(revision: Option<u64>, key: (&str, &str)) -> String {
    let rv = revision.map_or(-1, |revision| i64::try_from(revision).unwrap_or(i64::MAX));
    let token = Token { v: TOKEN_VERSION.into(), rv, start: format!("{}/{}\0", key.0, key.1) };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

fn read_token(text: &str) -> Result<ListState, Status> {
    let invalid = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD
        .decode(text.trim_end_matches('='))
        .map_err(|error| invalid(&error.to_string()))?;
    let token: Token =
        serde_json::from_slice(&bytes).map_err(|error| invalid(&error.to_string()))?;
    if token.v != TOKEN_VERSION {
        return Err(invalid("server does not recognize this encoded version"));
    }
    let start = token.start.trim_end_matches('\0');
    let (namespace, name) =
        start.split_once('/').ok_or_else(|| invalid("incorrect encoded start resourceVersion"))?;
    let after = (namespace.to_owned(), name.to_owned());
    match token.rv {
        -1 => Ok(ListState::ContinueAnyhow { after }),
        revision => match u64::try_from(revision) {
            Ok(revision) if revision > 0 => Ok(ListState::Continue { revision, after }),
            _ => Err(invalid("incorrect encoded start resourceVersion")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(watch: bool, queries: &[&str], expected: Expect) {
        let mut out = String::new();
        for query in queries {
            let options = ListOptions::parse(&Query::parse(query)).expect("numbers are valid");
            let answer = match watch {
                true => options.watch_start().map(|start| format!("{start:?}")),
                false => options.list_state().map(|state| format!("{state:?}")),
            };
            let answer = answer.unwrap_or_else(|status| format!("{} {}", status.code, status));
            out += &format!("{query}: {answer}\n");
        }
        expected.assert_eq(&out);
    }

    #[test]
    fn lists() {
        check(
            false,
            &[
                "",
                "resourceVersion=0",
                "resourceVersion=7",
                "resourceVersion=7&limit=5",
                "resourceVersion=0&limit=5",
                "resourceVersion=7&resourceVersionMatch=Exact",
                "resourceVersion=7&resourceVersionMatch=NotOlderThan&limit=1",
                "resourceVersionMatch=Exact",
                "resourceVersion=0&resourceVersionMatch=Exact",
                "resourceVersion=1&resourceVersionMatch=Other",
                "sendInitialEvents=true",
                "resourceVersion=x",
                "continue=x",
                "resourceVersion=7&continue=abcd",
            ],
            expect![[r#"
                : MostRecent
                resourceVersion=0: Any
                resourceVersion=7: NotOlderThan(7)
                resourceVersion=7&limit=5: Exact(7)
                resourceVersion=0&limit=5: Any
                resourceVersion=7&resourceVersionMatch=Exact: Exact(7)
                resourceVersion=7&resourceVersionMatch=NotOlderThan&limit=1: NotOlderThan(7)
                resourceVersionMatch=Exact: 422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided
                resourceVersion=0&resourceVersionMatch=Exact: 422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"
                resourceVersion=1&resourceVersionMatch=Other: 422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "Other": supported values: "Exact", "NotOlderThan"
                sendInitialEvents=true: 422 ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list
                resourceVersion=x: 400 invalid resource version: resourceVersion: Invalid value: "x": strconv.ParseUint: parsing "x": invalid syntax
                continue=x: 400 continue key is not valid: Invalid input length: 1
                resourceVersion=7&continue=abcd: 400 specifying resource version is not allowed when using continue
            "#]],
        );
    }

    #[test]
    fn watches() {
        check(
            true,
            &[
                "",
                "resourceVersion=0",
                "resourceVersion=7",
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan",
                "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=7",
                "sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=7",
                "sendInitialEvents=true",
                "resourceVersionMatch=NotOlderThan&resourceVersion=7",
            ],
            expect![[r#"
                : State { not_older_than: None, most_recent: true }
                resourceVersion=0: State { not_older_than: None, most_recent: false }
                resourceVersion=7: After(7)
                sendInitialEvents=true&resourceVersionMatch=NotOlderThan: State { not_older_than: None, most_recent: true }
                sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=7: State { not_older_than: Some(7), most_recent: false }
                sendInitialEvents=false&resourceVersionMatch=NotOlderThan&resourceVersion=7: After(7)
                sendInitialEvents=true: 422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan
                resourceVersionMatch=NotOlderThan&resourceVersion=7: 422 ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided
            "#]],
        );
    }

    #[test]
    fn tokens_round_trip() {
        let read = |token: &str| read_token(token).expect("own token");
        let after = ("a".to_owned(), "b".to_owned());
        let token = continue_token(Some(9), ("a", "b"));
        assert_eq!(read(&token), ListState::Continue { revision: 9, after: after.clone() });
        let token = continue_token(None, ("a", "b"));
        assert_eq!(read(&token), ListState::ContinueAnyhow { after });
    }
}
