use std::{sync::Arc, time::Duration};

use expect_test::expect;
use windlass_sdk_client::{Changes, Informer, Informers};
use windlass_sdk_meta::Rng;
use windlass_sdk_types::{ConfigMap, Kind};

use crate::fake::{Answer, Fake, stream};

fn object(name: &str, version: u64) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","namespace":"n","uid":"{name}","resourceVersion":"{version}","managedFields":[{{"manager":"x"}}]}}}}"#
    )
}

fn event(sort: &str, name: &str, version: u64) -> String {
    format!(r#"{{"type":"{sort}","object":{}}}"#, object(name, version))
}

fn end_of_list(version: u64) -> String {
    format!(
        r#"{{"type":"BOOKMARK","object":{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"resourceVersion":"{version}","annotations":{{"k8s.io/initial-events-end":"true"}}}}}}}}"#
    )
}

/// All changes that are there once everything is quiet, as `key:before>now` versions.
async fn drain(changes: &mut Changes<ConfigMap>) -> String {
    let version = |object: Option<Arc<ConfigMap>>| {
        object.map_or("-".into(), |object| object.resource_version().to_owned())
    };
    let mut all = Vec::new();
    while let Ok(change) =
        tokio::time::timeout(Duration::from_millis(500), changes.next_change()).await
    {
        all.push(format!("{}:{}>{}", change.key, version(change.before), version(change.now)));
    }
    all.join(" ")
}

#[tokio::test(start_paused = true)]
async fn lists_watches_resumes_and_lists_again() {
    let (first, answer1) = stream();
    let (second, answer2) = stream();
    let (third, answer3) = stream();
    let (fourth, answer4) = stream();
    let fake = Fake::new([answer1, answer2, answer3, answer4]);
    let informers = Informers::new(fake.client(), Rng::seeded(1));
    let maps = informers.of::<ConfigMap>();
    let mut changes = maps.changes();
    let send = |to: &futures::channel::mpsc::UnboundedSender<String>, line: String| {
        to.unbounded_send(line).unwrap();
    };

    send(&first, event("ADDED", "b", 3));
    send(&first, event("ADDED", "a", 4));
    assert_eq!(drain(&mut changes).await, "", "half a list is not shown");
    assert!(!maps.is_synced());
    send(&first, end_of_list(5));
    maps.synced().await;
    assert_eq!(maps.resource_version(), 5);
    assert_eq!(drain(&mut changes).await, "n/a:->4 n/b:->3");
    assert!(maps.get("n", "a").unwrap().metadata.managed_fields.is_none());

    // Several changes of one key are one; an object that came and went is told.
    send(&first, event("MODIFIED", "b", 6));
    send(&first, event("ADDED", "c", 7));
    send(&first, event("MODIFIED", "b", 8));
    send(&first, event("DELETED", "c", 9));
    maps.reached(9).await;
    assert_eq!(drain(&mut changes).await, "n/b:3>8 n/c:->-");

    // A late reader is told of what exists; it has the same informer.
    let mut late = informers.of::<ConfigMap>().changes();
    assert_eq!(drain(&mut late).await, "n/a:->4 n/b:->8");

    // Cut: it resumes where it was. A repeated event is no change.
    drop(first);
    send(&second, event("MODIFIED", "b", 8));
    send(&second, r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"20"}}}"#.into());
    send(&second, "not JSON".into());
    assert_eq!(drain(&mut changes).await, "");
    assert_eq!(maps.resource_version(), 20);

    // Expired: it lists again and notices what went meanwhile. An ERROR event ends its watch.
    send(
        &second,
        r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#.into(),
    );
    send(&third, event("ADDED", "b", 8));
    drop(third);
    assert_eq!(drain(&mut changes).await, "", "a list that was cut counts for nothing");
    send(&fourth, event("ADDED", "b", 8));
    send(&fourth, event("ADDED", "d", 28));
    send(&fourth, end_of_list(30));
    assert_eq!(drain(&mut changes).await, "n/a:4>- n/d:->28");
    assert_eq!(maps.in_namespace("n").iter().map(|map| map.name()).collect::<Vec<_>>(), ["b", "d"]);

    let log = fake.log();
    let log: Vec<&str> =
        log.lines().map(|line| line.split("&timeoutSeconds").next().unwrap()).collect();
    expect![[r#"
        GET /api/v1/configmaps?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan
        GET /api/v1/configmaps?watch=true&allowWatchBookmarks=true&resourceVersion=9
        GET /api/v1/configmaps?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan
        GET /api/v1/configmaps?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"#]]
    .assert_eq(&log.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn servers_without_streaming_lists() {
    let (watch, answer) = stream();
    let fake = Fake::new([
        Answer::Json(400, r#"{"reason":"BadRequest","message":"unknown sendInitialEvents"}"#),
        Answer::Json(
            200,
            r#"{"metadata":{"resourceVersion":"5"},"items":[{"metadata":{"name":"a","namespace":"n","resourceVersion":"4"}}]}"#,
        ),
        answer,
    ]);
    let informers = Informers::new(fake.client(), Rng::seeded(1));
    let maps = informers.selected::<ConfigMap>("metadata.name=a");
    maps.synced().await;
    watch.unbounded_send(event("MODIFIED", "a", 6)).unwrap();
    maps.reached(6).await;
    assert_eq!(maps.list().len(), 1);
    let log = fake.log();
    let log: Vec<&str> =
        log.lines().map(|line| line.split("&timeoutSeconds").next().unwrap()).collect();
    expect![[r#"
        GET /api/v1/configmaps?watch=true&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&fieldSelector=metadata.name%3Da
        GET /api/v1/configmaps?limit=500&fieldSelector=metadata.name%3Da
        GET /api/v1/configmaps?watch=true&allowWatchBookmarks=true&resourceVersion=5&fieldSelector=metadata.name%3Da"#]]
    .assert_eq(&log.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_asked_less_and_less() {
    let fake = Fake::default();
    let informers = Informers::new(fake.client(), Rng::seeded(1));
    let maps = informers.of::<ConfigMap>();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = fake.requests();
    assert!((20..60).contains(&asked), "{asked}");
    // Without readers it stops asking.
    drop((maps, informers));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let after = fake.requests();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(fake.requests(), after);
}

#[tokio::test(start_paused = true)]
async fn what_two_identities_see_is_kept_once() {
    let (first, answer1) = stream();
    let (second, answer2) = stream();
    let all = Informers::new(Fake::new([answer1]).client(), Rng::seeded(1));
    let some = all.beside(Fake::new([answer2]).client());
    let (all, some) = (all.of::<ConfigMap>(), some.selected::<ConfigMap>("metadata.name=a"));
    for line in [event("ADDED", "a", 3), event("ADDED", "b", 4), end_of_list(5)] {
        first.unbounded_send(line).unwrap();
    }
    all.synced().await;
    for line in [event("ADDED", "a", 3), end_of_list(5)] {
        second.unbounded_send(line).unwrap();
    }
    some.synced().await;
    let one = |of: &Informer<ConfigMap>| of.get("n", "a").unwrap();
    assert!(Arc::ptr_eq(&one(&all), &one(&some)));
    assert!(some.get("n", "b").is_none(), "it sees what it may see");

    second.unbounded_send(event("MODIFIED", "a", 6)).unwrap();
    some.reached(6).await;
    assert!(!Arc::ptr_eq(&one(&all), &one(&some)));
    first.unbounded_send(event("MODIFIED", "a", 6)).unwrap();
    all.reached(6).await;
    assert!(Arc::ptr_eq(&one(&all), &one(&some)));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_looks_at_is_folded_and_comes_back_as_it_was() {
    let (stream, answer) = stream();
    let maps = Informers::new(Fake::new([answer]).client(), Rng::seeded(1)).of::<ConfigMap>();
    let mut changes = maps.changes();
    for line in [event("ADDED", "a", 3), end_of_list(5)] {
        stream.unbounded_send(line).unwrap();
    }
    maps.synced().await;
    assert_eq!(drain(&mut changes).await, "n/a:->3");
    let quiet = || tokio::time::sleep(Duration::from_secs(30));

    let held = maps.get("n", "a").unwrap();
    quiet().await;
    assert!(Arc::ptr_eq(&held, &maps.get("n", "a").unwrap()), "somebody has it");
    let (as_it_was, in_memory) = (ConfigMap::clone(&held), Arc::downgrade(&held));
    drop(held);
    quiet().await;
    assert!(in_memory.upgrade().is_none());
    let again = maps.get("n", "a").unwrap();
    assert_eq!(*again, as_it_was);
    assert!(Arc::ptr_eq(&again, &maps.list()[0]), "it is unfolded once");

    let in_memory = Arc::downgrade(&again);
    drop(again);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(in_memory.upgrade().is_some(), "what is needed again stays longer");
    quiet().await;
    assert!(in_memory.upgrade().is_none());
    stream.unbounded_send(event("MODIFIED", "a", 6)).unwrap();
    assert_eq!(drain(&mut changes).await, "n/a:3>6");
}
