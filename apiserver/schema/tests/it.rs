//! Compares with upstream: every file in `corpus` was computed by Kubernetes' own packages
//! (`cargo xtask facts`).

use serde_json::Value;
use windlass_apiserver_schema::{
    FieldValidation, Format, ProtobufList, Target, apply_defaults, decode, decode_protobuf,
    encode_protobuf, strategic_merge,
};

/// Runs every case of a corpus file and shows all failures at once.
fn each(text: &str, run: impl Fn(&Target<'_>, &Value) -> Result<(), String>) {
    let mut failures = Vec::new();
    let mut cases = 0;
    for (at, line) in text.lines().enumerate() {
        let case: Value = serde_json::from_str(line).unwrap();
        let name = |index: usize| case["kind"][index].as_str().unwrap();
        let target = Target::new(name(0), name(1), name(2));
        assert!(target.ty.is_some(), "{}", case["kind"]);
        cases += 1;
        if let Err(failure) = run(&target, &case) {
            failures.push(format!("line {} {}:\n{failure}", at + 1, target.kind));
        }
    }
    assert!(cases > 0);
    assert!(failures.is_empty(), "{} of {cases}\n{}", failures.len(), failures.join("\n\n"));
}

fn same(found: &Value, expected: &Value) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("found    {found}\nexpected {expected}")) }
}

/// The corpus writes bytes as base64, which this crate reads in any field of that type.
fn bytes(text: &Value) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap()).unwrap()
}

#[test]
fn protobuf_bodies() {
    each(include_str!("corpus/protobuf.jsonl"), |target, case| {
        let wire = bytes(&case["proto"]);
        let found = decode_protobuf(&wire, target).map_err(|error| error.to_string())?;
        same(&found, &case["json"])?;
        let back = encode_protobuf(&found, target).map_err(|error| error.to_string())?;
        if back == wire { Ok(()) } else { Err(format!("wrote {back:?}\nnot   {wire:?}\n{found}")) }
    });
}

/// Item by item or as a whole, a list is the same bytes, and reads as what was written.
#[test]
fn lists_written_item_by_item() {
    let mut kinds = std::collections::BTreeMap::<[String; 3], Vec<Value>>::new();
    for line in include_str!("corpus/protobuf.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let kind = [0, 1, 2].map(|at| case["kind"][at].as_str().unwrap().to_owned());
        kinds.entry(kind).or_default().push(case["json"].clone());
    }
    let mut lists = 0;
    for ([group, version, kind], mut items) in kinds {
        let list_kind = format!("{kind}List");
        let target = Target::new(&group, &version, &list_kind);
        if !target.has_protobuf() {
            continue;
        }
        lists += 1;
        for item in &mut items {
            // The list says what its items are.
            item.as_object_mut().map(|item| [item.remove("kind"), item.remove("apiVersion")]);
        }
        let mut list = serde_json::json!({"metadata": {"resourceVersion": "7", "continue": "c"}});
        let pieces = ProtobufList::new(&target, &list).unwrap();
        let mut body = Vec::new();
        items.iter().for_each(|item| pieces.item(item, &mut body).unwrap());
        let written = [&pieces.start(body.len()), &body[..], pieces.end()].concat();
        list["items"] = Value::Array(items);
        assert_eq!(written, encode_protobuf(&list, &target).unwrap(), "{list_kind}");
        let read = decode_protobuf(&written, &target).unwrap();
        assert_eq!((&read["items"], &read["metadata"]["continue"]), (&list["items"], &"c".into()));
    }
    assert!(lists >= 20, "{lists} lists");
}

#[test]
fn json_bodies_keep_their_form() {
    each(include_str!("corpus/protobuf.jsonl"), |target, case| {
        let body = case["json"].to_string();
        let found = decode(body.as_bytes(), Format::Json, target, FieldValidation::Strict)
            .map_err(|error| error.to_string())?;
        same(&found.value, &case["json"])
    });
}

#[test]
fn damaged_protobuf_is_an_error_or_an_object() {
    each(include_str!("corpus/protobuf.jsonl"), |target, case| {
        let wire = bytes(&case["proto"]);
        for length in (0..wire.len()).step_by(5) {
            let _ = decode_protobuf(&wire[..length], target);
            let mut flipped = wire.clone();
            flipped[length] ^= 1 << (length % 8);
            let _ = decode_protobuf(&flipped, target);
        }
        Ok(())
    });
}

#[test]
fn strict_decoding() {
    each(include_str!("corpus/decode.jsonl"), |target, case| {
        let body = case["body"].as_str().unwrap();
        let found = decode(body.as_bytes(), Format::Json, target, FieldValidation::Strict);
        match (found, case.get("error")) {
            (Ok(found), None) => same(&found.value, &case["result"]),
            (Err(error), Some(expected)) => same(&Value::from(error.cause()), expected),
            (Ok(found), Some(expected)) => Err(format!("{}\nno error {expected}", found.value)),
            (Err(error), None) => Err(format!("{error}\nfor {body}")),
        }
    });
}

#[test]
fn strategic_merges() {
    each(include_str!("corpus/strategic.jsonl"), |target, case| {
        let mut found = case["original"].clone();
        let result = strategic_merge(&mut found, &case["patch"], target.ty.unwrap());
        let outcome = match (result, case.get("error")) {
            (Ok(()), None) => same(&found, &case["result"]),
            (Err(error), Some(expected)) => same(&Value::from(error.to_string()), expected),
            (Ok(()), Some(expected)) => Err(format!("{found}\nno error {expected}")),
            (Err(error), None) => Err(format!("{error}\nexpected {}", case["result"])),
        };
        outcome.map_err(|e| format!("{e}\npatch {}\nof {}", case["patch"], case["original"]))
    });
}

#[test]
fn defaults() {
    each(include_str!("corpus/defaults.jsonl"), |target, case| {
        let mut found = case["before"].clone();
        apply_defaults(&mut found, target.ty.unwrap());
        same(&found, &case["after"])?;
        apply_defaults(&mut found, target.ty.unwrap());
        same(&found, &case["after"])
    });
}

proptest::proptest! {
    /// Any bytes in a Pod's envelope give an object or an error, and an object survives a round trip.
    #[test]
    fn any_protobuf(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
        let target = Target::new("", "v1", "Pod");
        let mut body = b"k8s\0\x12".to_vec();
        if raw.len() >= 128 {
            body.push(raw.len() as u8 | 0x80);
            body.push((raw.len() >> 7) as u8);
        } else {
            body.push(raw.len() as u8);
        }
        body.extend(&raw);
        if let Ok(pod) = decode_protobuf(&body, &target) {
            let text = pod.to_string();
            let again =
                decode(text.as_bytes(), Format::Json, &target, FieldValidation::Strict).unwrap();
            proptest::prop_assert_eq!(&again.value, &pod);
            let wire = encode_protobuf(&pod, &target).unwrap();
            proptest::prop_assert_eq!(decode_protobuf(&wire, &target).unwrap(), pod);
        }
    }
}
