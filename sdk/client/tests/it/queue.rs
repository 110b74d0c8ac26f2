use std::time::Duration;

use tokio::time::Instant;
use windlass_sdk_client::Queue;

const NONE: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn a_key_waits_once_and_has_one_worker() {
    let queue = Queue::new();
    queue.add("a");
    queue.add("b");
    queue.add("a");
    assert_eq!(queue.len(), 2);
    let a = queue.next().await;
    queue.add("a");
    queue.add("a");
    assert_eq!(*queue.next().await, "b");
    assert!(tokio::time::timeout(NONE, queue.next()).await.is_err(), "a is worked on");
    drop(a);
    assert_eq!(*queue.next().await, "a");
    assert!(tokio::time::timeout(NONE, queue.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn delays() {
    let queue = Queue::new();
    let start = Instant::now();
    queue.add_after("late", Duration::from_secs(20));
    queue.add_after("early", Duration::from_secs(10));
    queue.add_after("late", Duration::from_secs(30));
    queue.add_after("early", Duration::from_secs(5));
    assert_eq!((*queue.next().await, start.elapsed().as_secs()), ("early", 5));
    assert_eq!((*queue.next().await, start.elapsed().as_secs()), ("late", 20));
    assert!(queue.is_empty());
}

#[tokio::test(start_paused = true)]
async fn failures_are_retried_later_and_later() {
    let queue = Queue::new();
    let mut delays = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        queue.retry("a");
        drop(queue.next().await);
        delays.push(start.elapsed().as_millis());
    }
    assert_eq!(delays[..4], [5, 10, 20, 40]);
    assert_eq!(delays[19], 1_000_000);
    assert_eq!(queue.failures(&"a"), 20);
    queue.forget(&"a");
    assert_eq!(queue.failures(&"a"), 0);
}

#[tokio::test(start_paused = true)]
async fn every_worker_is_woken() {
    let queue: Queue<u32> = Queue::new();
    let (done, mut results) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..4 {
        let (queue, done) = (queue.clone(), done.clone());
        tokio::spawn(async move {
            loop {
                let job = queue.next().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                let _ = done.send(*job);
            }
        });
    }
    tokio::task::yield_now().await;
    let start = Instant::now();
    (0..8).for_each(|key| queue.add(key));
    for _ in 0..8 {
        results.recv().await.unwrap();
    }
    assert_eq!(start.elapsed().as_secs(), 2);
}
