//! `limits.memory` of a container bounds the sum over its live instances; an annotation can bound
//! one. A new instance that doesn't fit waits for others to end; growth that doesn't fit ends the
//! instance that grows, because a guest whose `memory.grow` fails rarely says why it dies.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use tokio::sync::Notify;
use wasmtime::ResourceLimiterAsync;
use windlass_runtime_api::{Limits, MemoryBudget};

/// How long growth waits for memory of the node, while pods are being evicted for it.
const NODE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a new instance waits for memory of its container.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Less than this left is too little, as it is for upstream's kubelet (`memory.available`), or a
/// tenth where the node has less than ten times as much.
const RESERVE_BYTES: u64 = 100 << 20;

/// What ends from this size on does so one at a time.
pub const LARGE_BYTES: u64 = 4 << 20;

/// Bytes of the host that one element of a table takes.
const TABLE_ELEMENT_BYTES: usize = 8;

/// The memory of all live instances of one container.
#[derive(Debug)]
pub struct Account {
    used: AtomicU64,
    /// Over all instances; the largest number: none.
    limit: AtomicU64,
    /// Of one instance.
    instance_limit: Option<u64>,
    /// One of its instances has grown beyond the size it began with.
    grows: AtomicBool,
    freed: Notify,
    node: Arc<NodeMemory>,
}

/// The memory of all guests of a node: however many containers have no limit, the process is not
/// what runs out. Growth beyond it is refused, after a moment in which the agent can evict pods;
/// it does so when less than the reserve is left.
#[derive(Debug)]
pub struct NodeMemory {
    used: AtomicU64,
    limit: u64,
    reserve: u64,
    /// Less than the reserve is left.
    low: Notify,
    freed: Notify,
    /// Instances that wait for `freed`.
    waiting: AtomicU64,
    /// The kernel takes the pages of a large instance back: it reads the process's mappings, and
    /// who wants to change them (growth, or a slot that others have grown) would hold up a thread,
    /// and behind it all who read them. No lock: a guest whose client doesn't read may be given one
    /// and not look at it for as long.
    ending: AtomicBool,
    ended: Notify,
}

impl NodeMemory {
    /// An eighth of the machine's memory stays for the process itself and for others.
    pub fn of(machine_bytes: u64) -> Arc<Self> {
        Self::with_limit(machine_bytes - machine_bytes / 8)
    }

    pub fn with_limit(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicU64::new(0),
            limit,
            reserve: RESERVE_BYTES.min(limit / 10),
            low: Notify::new(),
            freed: Notify::new(),
            waiting: AtomicU64::new(0),
            ending: AtomicBool::new(false),
            ended: Notify::new(),
        })
    }

    pub fn budget(&self) -> MemoryBudget {
        MemoryBudget {
            limit_bytes: self.limit,
            used_bytes: self.used.load(Relaxed),
            reserve_bytes: self.reserve,
        }
    }

    /// For the thread that ends large instances: nothing begins to grow meanwhile.
    pub fn end_alone(&self) -> Alone<'_> {
        self.ending.store(true, SeqCst);
        Alone(self)
    }

    /// Returns once less than the reserve is left.
    pub async fn is_low(&self) {
        until(&self.low, || self.budget().is_low()).await;
    }

    fn try_take(&self, bytes: u64) -> bool {
        let taken = take_within(&self.used, bytes, self.limit);
        if taken && self.budget().is_low() {
            self.low.notify_waiters();
        }
        taken
    }

    /// Waits for a moment where there is too little.
    async fn take(&self, bytes: u64) -> bool {
        if self.try_take(bytes) {
            return true;
        }
        if bytes > self.limit {
            return false;
        }
        self.waiting.fetch_add(1, SeqCst);
        let taken = until(&self.freed, || self.try_take(bytes));
        let taken = tokio::time::timeout(NODE_PATIENCE, taken).await.is_ok();
        self.waiting.fetch_sub(1, SeqCst);
        taken
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.freed.notify_waiters();
        }
    }
}

/// While a large instance ends.
pub struct Alone<'a>(&'a NodeMemory);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.ending.store(false, SeqCst);
        self.0.ended.notify_waiters();
    }
}

/// Returns once `holds`, which is looked at again whenever `hint` is given.
async fn until(hint: &Notify, holds: impl Fn() -> bool) {
    loop {
        let hinted = hint.notified();
        tokio::pin!(hinted);
        hinted.as_mut().enable();
        if holds() {
            return;
        }
        hinted.await;
    }
}

fn take_within(used: &AtomicU64, bytes: u64, limit: u64) -> bool {
    let taken = used
        .fetch_update(Relaxed, Relaxed, |used| used.checked_add(bytes).filter(|sum| *sum <= limit));
    taken.is_ok()
}

/// Why an instance didn't get memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    #[error(
        "no memory for a new instance: other instances of this container hold {used} of its {limit} bytes"
    )]
    Busy { used: u64, limit: u64 },
    #[error("an instance needs {needed} bytes at its start, and its limit is {limit}")]
    NeverFits { needed: u64, limit: u64 },
    #[error("memory limit of {limit} bytes exceeded: {used} bytes in use, {wanted} more wanted")]
    Exceeded { used: u64, wanted: u64, limit: u64 },
    #[error("the node's memory for guests is full: {wanted} bytes wanted, {limit} is all it has")]
    NodeFull { wanted: u64, limit: u64 },
}

impl Account {
    pub fn new(limits: Limits, node: Arc<NodeMemory>) -> Arc<Self> {
        Arc::new(Self {
            used: AtomicU64::new(0),
            limit: AtomicU64::new(limits.memory_bytes.unwrap_or(u64::MAX)),
            instance_limit: limits.instance_memory_bytes,
            grows: AtomicBool::new(false),
            freed: Notify::new(),
            node,
        })
    }

    /// From now on. What is held already beyond a smaller limit stays; it doesn't grow.
    pub fn resize(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(u64::MAX), Relaxed);
        self.freed.notify_waiters();
    }

    /// `limits.memory`.
    pub fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Relaxed)).filter(|limit| *limit != u64::MAX)
    }

    /// What a new instance holds: nothing yet.
    pub fn instance(self: &Arc<Self>) -> Held {
        Held { account: self.clone(), bytes: 0, ended: false }
    }

    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// Takes `bytes` if the sum allows it.
    fn try_take(&self, bytes: u64) -> bool {
        take_within(&self.used, bytes, self.limit.load(Relaxed))
    }

    fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Relaxed);
        if self.limit().is_some() {
            self.freed.notify_waiters();
        }
    }

    async fn take(&self, bytes: u64) {
        until(&self.freed, || self.try_take(bytes)).await;
    }
}

/// The memory of one instance; given back when dropped.
#[derive(Debug)]
pub struct Held {
    account: Arc<Account>,
    bytes: u64,
    /// It counts for the node alone: its container's next instances needn't wait for the kernel.
    ended: bool,
}

impl Held {
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The instance does no more; its pages are yet to be given back.
    pub fn end(&mut self) {
        if !self.ended {
            self.account.give_back(self.bytes);
            self.ended = true;
        }
    }

    async fn grow(&mut self, current: usize, wanted: u64) -> Result<(), MemoryError> {
        let after = self.bytes.saturating_add(wanted);
        if let Some(limit) = self.account.instance_limit.filter(|limit| after > *limit) {
            return Err(if current == 0 {
                MemoryError::NeverFits { needed: after, limit }
            } else {
                MemoryError::Exceeded { used: self.bytes, wanted, limit }
            });
        }
        if !self.account.try_take(wanted) {
            let limit = self.account.limit.load(Relaxed);
            if current != 0 {
                return Err(MemoryError::Exceeded { used: self.account.used(), wanted, limit });
            }
            if after > limit {
                return Err(MemoryError::NeverFits { needed: after, limit });
            }
            tokio::time::timeout(PATIENCE, self.account.take(wanted))
                .await
                .map_err(|_| MemoryError::Busy { used: self.account.used(), limit })?;
        }
        let node = &self.account.node;
        if current != 0 {
            self.account.grows.store(true, Relaxed);
        }
        if self.account.grows.load(Relaxed) {
            until(&node.ended, || !node.ending.load(SeqCst)).await;
        }
        if !node.take(wanted).await {
            self.account.give_back(wanted);
            return Err(MemoryError::NodeFull { wanted, limit: node.limit });
        }
        self.bytes = after;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.account.node.give_back(self.bytes);
            self.end();
        }
    }
}

#[async_trait::async_trait]
impl ResourceLimiterAsync for Held {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = desired.saturating_sub(current) as u64;
        self.grow(current, wanted).await.map_err(wasmtime::Error::new)?;
        Ok(true)
    }

    async fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = desired.saturating_sub(current).saturating_mul(TABLE_ELEMENT_BYTES) as u64;
        self.grow(current, wanted).await.map_err(wasmtime::Error::new)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(sum: u64, one: Option<u64>) -> Limits {
        Limits { memory_bytes: Some(sum), instance_memory_bytes: one, ..Limits::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_sum_is_held_and_given_back() {
        let account = Account::new(limits(100, None), NodeMemory::of(1 << 30));
        let mut first = account.instance();
        let mut second = account.instance();
        assert_eq!(first.grow(0, 60).await, Ok(()));
        let exceeded = MemoryError::Exceeded { used: 60, wanted: 50, limit: 100 };
        assert_eq!(first.grow(60, 50).await, Err(exceeded));
        let busy = MemoryError::Busy { used: 60, limit: 100 };
        assert_eq!(second.grow(0, 50).await, Err(busy));
        let never = MemoryError::NeverFits { needed: 101, limit: 100 };
        assert_eq!(second.grow(0, 101).await, Err(never));
        drop(first);
        assert_eq!(second.grow(0, 50).await, Ok(()));
        drop(second);
        assert_eq!(account.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_instance_waits_until_another_ends() {
        let account = Account::new(limits(100, None), NodeMemory::of(1 << 30));
        let mut first = account.instance();
        first.grow(0, 80).await.expect("fits");
        let waiting = tokio::spawn({
            let mut second = account.instance();
            async move { second.grow(0, 80).await }
        });
        tokio::time::sleep(PATIENCE / 2).await;
        drop(first);
        assert_eq!(waiting.await.expect("no panic"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn growth_waits_while_others_are_evicted() {
        let node = NodeMemory::with_limit(1000);
        let account = Account::new(Limits::default(), node.clone());
        let (mut first, mut second) = (account.instance(), account.instance());
        first.grow(0, 850).await.expect("fits");
        assert!(tokio::time::timeout(PATIENCE, node.is_low()).await.is_err());
        second.grow(0, 100).await.expect("fits");
        node.is_low().await;
        let growing = tokio::spawn(async move { second.grow(100, 200).await.map(|()| second) });
        tokio::time::sleep(NODE_PATIENCE / 2).await;
        drop(first);
        let second = growing.await.expect("no panic").expect("there is room now");
        assert_eq!(node.budget().used_bytes, 300);
        drop(second);
        assert_eq!(node.budget().used_bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_node_is_never_what_runs_out() {
        let node = NodeMemory::of(800);
        let (one, two) = (Account::new(Limits::default(), node.clone()), limits(500, None));
        let two = Account::new(two, node.clone());
        let (mut first, mut second) = (one.instance(), two.instance());
        assert_eq!(first.grow(0, 400).await, Ok(()));
        let full = MemoryError::NodeFull { wanted: 400, limit: 700 };
        assert_eq!(second.grow(0, 400).await, Err(full));
        assert_eq!(two.used(), 0);
        drop(first);
        assert_eq!(second.grow(0, 400).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_grows_waits_while_a_large_instance_ends() {
        let node = NodeMemory::of(1 << 30);
        let grows = Account::new(Limits::default(), node.clone());
        let stays = Account::new(Limits::default(), node.clone());
        let mut first = grows.instance();
        first.grow(0, 10).await.expect("fits");
        first.grow(10, 10).await.expect("fits");
        let alone = node.end_alone();
        stays.instance().grow(0, 10).await.expect("nothing of it ever grew");
        let begins = |account: &Arc<Account>| {
            let mut new = account.instance();
            tokio::spawn(async move { new.grow(0, 10).await })
        };
        let waiting = begins(&grows);
        tokio::time::sleep(PATIENCE * 2).await;
        assert!(!waiting.is_finished(), "its slot may have to be made smaller again");
        drop(alone);
        assert_eq!(waiting.await.expect("no panic"), Ok(()));
    }

    #[tokio::test]
    async fn one_instance_can_have_its_own_bound() {
        let account = Account::new(limits(100, Some(40)), NodeMemory::of(1 << 30));
        let mut one = account.instance();
        assert_eq!(one.grow(0, 30).await, Ok(()));
        let exceeded = MemoryError::Exceeded { used: 30, wanted: 20, limit: 40 };
        assert_eq!(one.grow(30, 20).await, Err(exceeded));
    }
}
