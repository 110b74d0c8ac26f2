use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use expect_test::{Expect, expect};
use proptest::prelude::*;
use windlass_sdk_meta::GroupVersionResource;

use super::{
    graph::{FOREGROUND, Graph, Node, ORPHAN, Owner},
    plan::{Action, Known, Policy, plan},
};
use crate::kit::discovery::Resource;

/// `name`, or `name:flags` with d (deleting), f (foreground), o (orphan), c (cluster-scoped).
/// Owners are `name`, or `name!` where they block.
fn node(name: &str, owners: &[&str]) -> Node {
    let (name, flags) = name.split_once(':').unwrap_or((name, ""));
    let has = |flag: char| flags.contains(flag);
    let mut finalizers = Vec::new();
    finalizers.extend(has('f').then(|| FOREGROUND.to_owned()));
    finalizers.extend(has('o').then(|| ORPHAN.to_owned()));
    Node {
        resource: Arc::new(Resource {
            gvr: GroupVersionResource::new("", "v1", "things"),
            kind: "Thing".into(),
            namespaced: !has('c'),
            verbs: Vec::new(),
        }),
        namespace: if has('c') { String::new() } else { "ns".into() },
        name: name.into(),
        uid: name.into(),
        resource_version: "1".into(),
        owners: owners.iter().map(|owner| reference(owner)).collect(),
        finalizers,
        deleting: has('d'),
    }
}

fn reference(owner: &str) -> Owner {
    let name = owner.trim_end_matches('!');
    Owner {
        api_version: "v1".into(),
        kind: "Thing".into(),
        name: name.into(),
        uid: name.into(),
        controller: None,
        block_owner_deletion: Some(owner.ends_with('!')),
    }
}

fn graph(nodes: &[(&str, &[&str])]) -> Graph {
    let mut graph = Graph::default();
    for (name, owners) in nodes {
        graph.apply(node(name, owners));
    }
    graph
}

fn show(action: &Action) -> String {
    match action {
        Action::LookUp(owner) => format!("look up {}", owner.name),
        Action::RemoveOwners { of, uids } => format!("take {} off {}", uids.join(","), of.name),
        Action::Unblock(of) => format!("unblock {}", of.name),
        Action::Delete { of, policy } => format!("delete {} ({policy:?})", of.name),
        Action::RemoveFinalizer { of, finalizer } => format!("take {finalizer} off {}", of.name),
        Action::Visit(uid) => format!("visit {uid}"),
        Action::Warn { of, owner } => format!("warn {} of {}", of.name, owner.name),
    }
}

/// Plans for `uid`; owners in `absent` are known to be gone.
fn check(nodes: &[(&str, &[&str])], uid: &str, absent: &[&str], expected: Expect) {
    let known = absent.iter().map(|name| (reference(name), Known::Absent)).collect();
    let plan = plan(&graph(nodes), uid, &known);
    let actions: Vec<String> = plan.actions.iter().map(show).collect();
    expected.assert_eq(&format!("{}: [{}]", plan.why, actions.join("; ")));
}

#[test]
fn background() {
    check(&[("a", &[])], "a", &[], expect!["nothing owns it: []"]);
    check(&[("a", &[]), ("b", &["a"])], "b", &[], expect!["it has an owner: []"]);
    check(&[("b", &["a"])], "b", &[], expect!["owners are unknown: [look up a]"]);
    check(&[("b", &["a"])], "b", &["a"], expect!["no owner is left: [delete b (Background)]"]);
    check(&[("b:o", &["a"])], "b", &["a"], expect!["no owner is left: [delete b (Orphan)]"]);
    check(&[("b:d", &["a"])], "b", &["a"], expect!["it is being deleted: []"]);
    check(
        &[("a", &[]), ("b", &["a", "x"])],
        "b",
        &["x"],
        expect!["it has another owner: [take x off b]"],
    );
    check(&[], "gone", &[], expect!["it is gone: []"]);
    // The owner goes, but hasn't gone.
    check(&[("a:d", &[]), ("b", &["a"])], "b", &[], expect!["it has an owner: []"]);
    // The uid is there, but it is another object than the one that is meant.
    let mut other = graph(&[("b", &["a"])]);
    other.apply(Node { name: "z".into(), ..node("a", &[]) });
    let actions = plan(&other, "b", &BTreeMap::new()).actions;
    assert_eq!(actions, [Action::LookUp(reference("a"))]);
    let invalid = BTreeMap::from([(reference("a"), Known::Invalid)]);
    let actions = plan(&graph(&[("b:c", &["a"])]), "b", &invalid).actions;
    assert_eq!(actions.iter().map(show).collect::<Vec<_>>(), ["warn b of a"]);
}

#[test]
fn foreground() {
    let family: &[(&str, &[&str])] =
        &[("a:df", &[]), ("b", &["a!"]), ("c", &["a"]), ("d:d", &["a!"])];
    check(family, "a", &[], expect!["it waits for its dependents: [visit b]"]);
    check(family, "b", &[], expect!["no owner is left: [delete b (Background)]"]);
    check(
        &[("a:df", &[]), ("c", &["a"])],
        "a",
        &[],
        expect!["no dependent blocks it any more: [take foregroundDeletion off a]"],
    );
    // With dependents of its own it goes in the foreground as well.
    check(
        &[("a:df", &[]), ("b", &["a!"]), ("c", &["b!"])],
        "b",
        &[],
        expect!["an owner waits for it, and it has dependents: [delete b (Foreground)]"],
    );
    // With another owner it stays, and no longer holds the first one up.
    check(
        &[("a:df", &[]), ("x", &[]), ("b", &["a!", "x"])],
        "b",
        &[],
        expect!["it has another owner: [take a off b]"],
    );
    // A ring.
    check(
        &[("a:df", &["b!"]), ("b", &["a!"])],
        "b",
        &[],
        expect!["it may wait for itself: [unblock b]"],
    );
    check(
        &[("a:df", &["b!"]), ("b", &["a"])],
        "b",
        &[],
        expect!["an owner waits for it, and it has dependents: [delete b (Foreground)]"],
    );
}

#[test]
fn orphans() {
    check(
        &[("a:do", &[]), ("b", &["a!"]), ("c", &["a", "x"])],
        "a",
        &[],
        expect!["its dependents are to stay: [take a off b; take a off c; take orphan off a]"],
    );
    check(&[("a:do", &[]), ("b", &["a!"])], "b", &[], expect!["it has an owner: []"]);
}

#[test]
fn what_a_change_touches() {
    let mut graph = graph(&[("a", &[]), ("b", &["a!"])]);
    assert_eq!(graph.apply(node("b", &["a!"])), ["b"]);
    assert_eq!(graph.apply(node("a:df", &[])), ["a", "b"]);
    assert_eq!(graph.apply(node("b:d", &["a!"])), ["b", "a"]);
    assert_eq!(graph.apply(node("b:d", &["x"])), ["b", "a"]);
    assert_eq!(graph.remove("b"), ["x"]);
    assert!(!graph.has_dependents("x"));
    assert_eq!(graph.remove("b"), [""; 0]);
}

/// Runs plans for everything, as the server would carry them out, until nothing is left to do.
fn settle(graph: &mut Graph, mut names: BTreeSet<String>) -> BTreeSet<String> {
    for _ in 0..200 {
        let mut moved = false;
        for uid in names.clone() {
            let absent = |owner: &Owner| graph.get(&owner.uid).is_none();
            let owners = graph.get(&uid).map(|node| node.owners.clone()).unwrap_or_default();
            let known =
                owners.into_iter().filter(absent).map(|owner| (owner, Known::Absent)).collect();
            for action in plan(graph, &uid, &known).actions {
                moved |= carry_out(graph, &action);
            }
            names.retain(|uid| graph.get(uid).is_some());
        }
        if !moved {
            return names;
        }
    }
    panic!("doesn't settle: {graph:?}");
}

fn carry_out(graph: &mut Graph, action: &Action) -> bool {
    let mut change = |uid: &str, change: &dyn Fn(&mut Node)| {
        let Some(node) = graph.get(uid) else { return false };
        let mut next = Node::clone(node);
        change(&mut next);
        if next == **node {
            return false;
        }
        if next.deleting && next.finalizers.is_empty() {
            graph.remove(uid);
        } else {
            graph.apply(next);
        }
        true
    };
    match action {
        Action::Delete { of, policy } => change(&of.uid, &|node| {
            node.deleting = true;
            node.finalizers.clear();
            match policy {
                Policy::Background => {}
                Policy::Foreground => node.finalizers.push(FOREGROUND.into()),
                Policy::Orphan => node.finalizers.push(ORPHAN.into()),
            }
        }),
        Action::RemoveOwners { of, uids } => {
            change(&of.uid, &|node| node.owners.retain(|owner| !uids.contains(&owner.uid)))
        }
        Action::RemoveFinalizer { of, finalizer } => {
            change(&of.uid, &|node| node.finalizers.retain(|own| own != finalizer))
        }
        Action::Unblock(of) => change(&of.uid, &|node| {
            node.owners.iter_mut().for_each(|owner| owner.block_owner_deletion = Some(false));
        }),
        Action::LookUp(_) | Action::Visit(_) | Action::Warn { .. } => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any graph (rings too), any way of deletion: it settles; nothing whose owners are all gone
    /// stays, nothing that has an owner left goes.
    #[test]
    fn graphs_settle(
        edges in proptest::collection::vec((0usize..6, 0usize..6, any::<bool>()), 0..10),
        doomed in 0usize..6,
        how in 0usize..3,
    ) {
        let names: Vec<String> = (0..6).map(|at| format!("n{at}")).collect();
        let mut owners: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for (from, to, blocks) in &edges {
            let list = owners.entry(*from).or_default();
            if from != to && !list.iter().any(|own| own.trim_end_matches('!') == names[*to]) {
                list.push(format!("{}{}", names[*to], if *blocks { "!" } else { "" }));
            }
        }
        let mut graph = Graph::default();
        for (at, name) in names.iter().enumerate() {
            let own: Vec<&str> = owners.get(&at).into_iter().flatten().map(String::as_str).collect();
            graph.apply(node(name, &own));
        }
        let flags = ["d", "df", "do"][how];
        let of: Vec<&str> = owners.get(&doomed).into_iter().flatten().map(String::as_str).collect();
        let target = node(&format!("{}:{flags}", names[doomed]), &of);
        if how == 0 { graph.remove(&target.uid); } else { graph.apply(target); }
        let all: BTreeSet<String> = names.iter().cloned().collect();
        let present = all.iter().filter(|uid| graph.get(uid).is_some()).cloned().collect();
        let left = settle(&mut graph, present);
        prop_assert!(!left.contains(&names[doomed]));
        for uid in &left {
            let node = graph.get(uid).unwrap();
            let had: &[String] = owners
                .get(&names.iter().position(|name| name == uid).unwrap())
                .map(Vec::as_slice)
                .unwrap_or_default();
            let kept = node.owners.iter().any(|owner| left.contains(&owner.uid));
            prop_assert!(had.is_empty() || kept || how == 2 && node.owners.is_empty());
        }
    }
}
