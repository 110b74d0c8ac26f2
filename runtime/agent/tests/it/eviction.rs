//! A node whose guests have nearly used up its memory, in virtual time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::lifecycle::{POD, World, bound_pod, is_ready};

const OTHER: &str = "api/v1/namespaces/default/pods/modest";
const NODE: &str = "api/v1/nodes/node";

fn condition<'a>(object: &'a Value, sort: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().find(|condition| condition["type"] == sort).unwrap_or(&Value::Null)
}

#[tokio::test(start_paused = true)]
async fn the_pod_that_takes_most_over_its_request_goes() {
    let world = World::new().await;
    world.runtime.state.lock().expect("lock").budget = Some((1000 << 20, 100 << 20));
    world.create(json!({}));
    let mut modest = bound_pod();
    modest["metadata"]["name"] = json!("modest");
    modest["metadata"]["uid"] = json!("m");
    modest["spec"]["containers"][0]["resources"] = json!({"requests": {"memory": "700Mi"}});
    world.api.put(OTHER, modest);
    world.until("ready", is_ready).await;
    let running = || world.api.get(OTHER).is_some_and(|pod| is_ready(&pod["status"]));
    world.until("both are ready", |_| running()).await;
    world.runtime.hold("m", 650 << 20);
    world.runtime.hold("u", 300 << 20);

    let status = world.until("evicted", |status| status["phase"] == "Failed").await;
    assert_eq!(status["reason"], "Evicted");
    assert_eq!(
        status["message"],
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
         Container c was using 300Mi, request is 0, has larger consumption of memory. "
    );
    let disrupted = status["conditions"].as_array().expect("conditions").iter();
    let reasons: Vec<&Value> =
        disrupted.filter(|c| c["type"] == "DisruptionTarget").map(|c| &c["reason"]).collect();
    assert_eq!(reasons, ["TerminationByKubelet"]);
    assert!(running(), "it keeps to its request");
    let pressure = || {
        let node = world.api.get(NODE).unwrap_or_default();
        condition(&node, "MemoryPressure")["status"].clone()
    };
    world.until("the node says so", |_| pressure() == "True").await;
    let events = world.api.events().join("\n");
    assert!(events.contains("Evicted: The node was low on resource: memory."), "{events}");
    assert!(events.contains("EvictionThresholdMet: Attempting to reclaim memory"), "{events}");
    // It stays for a while, so that nothing is sent here at once.
    tokio::time::sleep(Duration::from_secs(240)).await;
    assert_eq!(pressure(), "True");
    world.until("the pressure is over", |_| pressure() == "False").await;
    assert!(running());
    assert_eq!(world.api.get(POD).expect("stays")["status"]["phase"], "Failed");
}
