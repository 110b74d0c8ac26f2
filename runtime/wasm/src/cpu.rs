//! Who may compute, and how much. What a container computes is charged to its account while its
//! guests are polled. A guest that computes for a whole tick gives its thread back and queues here:
//! first for its container's `limits.cpu`, then for one of as many places as there are threads.
//! Places go to the container that is behind in virtual time, which runs slower for a larger
//! `requests.cpu`. So a guest that spins costs its neighbours at most a tick, and guests that
//! answer within a tick never queue, unless their container is busy while others compute too: its
//! requests then start, and its long answers go on, one by one, so that they stand in nobody's way
//! as a crowd.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::Poll,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};
use windlass_runtime_api::Limits;

/// `limits.cpu` is held in each of these.
const PERIOD: Duration = Duration::from_millis(100);
/// Weight of a container that asks for no CPU, in thousandths of a core.
const LEAST_WEIGHT: u32 = 10;
/// What a container that computed less than its share may catch up with, at most.
const CREDIT_NANOS: u64 = 100_000_000;
/// The id of no container.
const NOBODY: u64 = 0;
/// How long a place is kept for a guest that it was given to. A guest whose client doesn't read is
/// not polled, and a place of its own would be nobody's.
const TAKEN_UP_WITHIN: Duration = Duration::from_millis(10);
/// Offers that are remembered before those that are settled are looked for.
const MOST_REMEMBERED: usize = 64;
/// What a container computes in a period, or recently, before it is a busy one.
const BUSY_NANOS: u64 = 20_000_000;

/// What one container computes and may compute.
pub struct CpuAccount {
    id: u64,
    used_nanos: AtomicU64,
    /// Grows by computed time divided by weight.
    virtual_nanos: AtomicU64,
    recent: Recent,
    weight: AtomicU64,
    /// Nanoseconds that may be computed in a period; the largest number: no limit.
    quota: AtomicU64,
    period: Mutex<Period>,
    turns: Arc<Turns>,
}

#[derive(Debug)]
struct Period {
    began: Instant,
    used: Duration,
}

impl CpuAccount {
    pub fn new(limits: Limits, turns: Arc<Turns>) -> Arc<Self> {
        let account = Self {
            id: turns.next_id.fetch_add(1, Relaxed),
            used_nanos: AtomicU64::new(0),
            virtual_nanos: AtomicU64::new(turns.floor.load(Relaxed)),
            recent: Recent::default(),
            weight: AtomicU64::new(0),
            quota: AtomicU64::new(0),
            period: Mutex::new(Period { began: Instant::now(), used: Duration::ZERO }),
            turns,
        };
        account.resize(limits);
        Arc::new(account)
    }

    /// From now on.
    pub fn resize(&self, limits: Limits) {
        let weight = limits.cpu_weight_millis.unwrap_or(0).max(LEAST_WEIGHT);
        self.weight.store(u64::from(weight), Relaxed);
        let quota = |millis: u32| (PERIOD * millis.max(1) / 1000).as_nanos() as u64;
        self.quota.store(limits.cpu_millis.map_or(u64::MAX, quota), Relaxed);
    }

    fn weight(&self) -> u64 {
        self.weight.load(Relaxed)
    }

    fn quota(&self) -> Option<Duration> {
        let nanos = self.quota.load(Relaxed);
        (nanos != u64::MAX).then(|| Duration::from_nanos(nanos))
    }

    pub fn used_nanos(&self) -> u64 {
        self.used_nanos.load(Relaxed)
    }

    /// Polls a guest, once, at this account's cost.
    pub fn poll<T>(&self, guest: impl FnOnce() -> Poll<T>) -> Poll<T> {
        // What the guest holds in the end is free again, and whoever is next gets it.
        with_place(|| {
            let outer_began = BEGAN.replace(Some(Instant::now()));
            let polled = guest();
            if let Some(began) = BEGAN.replace(outer_began) {
                self.charge(began.elapsed());
            }
            polled
        })
    }

    pub fn charge(&self, computed: Duration) {
        let nanos = computed.as_nanos() as u64;
        self.used_nanos.fetch_add(nanos, Relaxed);
        self.recent.add(nanos, self.turns.period());
        self.virtual_nanos.fetch_add(nanos.saturating_mul(1000) / self.weight(), Relaxed);
        if self.quota().is_some() {
            self.period.lock().used += computed;
        }
    }

    /// For a guest that computed a whole tick: returns when it may go on.
    pub async fn queue(self: Arc<Self>) {
        if let Some(began) = BEGAN.replace(Some(Instant::now())) {
            self.charge(began.elapsed());
        }
        self.within_quota().await;
        self.turn().await;
    }

    /// For a request that is about to have an instance: a busy container's waits for its turn.
    pub async fn admit(&self) {
        self.within_quota().await;
        if self.is_in_the_way() {
            self.turn().await;
        }
    }

    /// For an answer that has been written for a while: others come first, and a busy container's
    /// answers go on one by one. To be polled within [`with_place`].
    pub async fn pause(self: Arc<Self>) {
        match self.is_in_the_way() {
            true => self.turn().await,
            false => tokio::task::yield_now().await,
        }
    }

    /// It is busy, and others compute too.
    fn is_in_the_way(&self) -> bool {
        let period = self.turns.period();
        self.turns.are_mixed(self.id, period) && self.recent.nanos(period) > BUSY_NANOS
    }

    /// Returns with one of the places, which the guest has until it waits or its tick is over.
    async fn turn(&self) {
        loop {
            let offer = self.turns.clone().offer(self).await;
            // The thread sees to short requests and to sockets. The offer stands meanwhile, so that
            // no other guest that computes for long is in front of them. It isn't taken up before:
            // a guest whose client doesn't read may not be polled after this.
            tokio::task::yield_now().await;
            if let Some(place) = offer.take_up() {
                PLACE.set(Some(place));
                return;
            }
        }
    }

    async fn within_quota(&self) {
        let Some(quota) = self.quota() else { return };
        loop {
            let next = {
                let mut period = self.period.lock();
                let passed = period.began.elapsed().as_nanos() / PERIOD.as_nanos();
                let passed = u32::try_from(passed).unwrap_or(u32::MAX);
                if passed > 0 {
                    // A tick that went past the quota is paid back by the following periods.
                    period.used = period.used.saturating_sub(quota.saturating_mul(passed));
                    period.began += PERIOD.saturating_mul(passed);
                }
                if period.used < quota {
                    return;
                }
                period.began + PERIOD
            };
            tokio::time::sleep_until(next).await;
        }
    }
}

/// What was computed lately: each period takes half of the one before it over.
#[derive(Debug, Default)]
struct Recent {
    nanos: AtomicU64,
    period: AtomicU64,
}

impl Recent {
    fn add(&self, nanos: u64, period: u64) {
        self.nanos(period);
        self.nanos.fetch_add(nanos, Relaxed);
    }

    /// Threads that come at once may count a little too much or too little.
    fn nanos(&self, period: u64) -> u64 {
        let passed = period.saturating_sub(self.period.fetch_max(period, Relaxed));
        let nanos = self.nanos.load(Relaxed);
        if passed == 0 {
            return nanos;
        }
        let left = nanos.checked_shr(u32::try_from(passed).unwrap_or(u32::MAX)).unwrap_or(0);
        self.nanos.store(left, Relaxed);
        left
    }
}

thread_local! {
    /// Since when the guest that this thread is polling has not been charged.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
    /// The place of the guest that this thread is polling.
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
}

/// Polls what writes guests' answers, once: a place that it got meanwhile is given back.
pub fn with_place<T>(poll: impl FnOnce() -> T) -> T {
    let outer = PLACE.with_borrow_mut(Option::take);
    let polled = poll();
    drop(PLACE.replace(outer));
    polled
}

/// Whether this thread is polling a guest.
pub fn is_computing() -> bool {
    BEGAN.get().is_some()
}

/// The queue of a node's guests that compute for long.
pub struct Turns {
    next_id: AtomicU64,
    started: Instant,
    /// The container that started a request last.
    last: AtomicU64,
    /// The period from which on there is one container alone, if nothing changes.
    mixed_until: AtomicU64,
    /// Virtual time of the last who got a place: nobody saves up what it didn't compute.
    floor: AtomicU64,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    free: usize,
    /// By container; those with nobody waiting are absent.
    waiting: BTreeMap<u64, Waiting>,
    /// Offers that may not be settled, the oldest first.
    offers: VecDeque<(Instant, Arc<AtomicBool>)>,
}

impl Queue {
    fn remember(&mut self, settled: Arc<AtomicBool>) {
        self.forget_settled();
        if self.offers.len() >= MOST_REMEMBERED {
            // Behind one that nobody takes back, because nobody waits. No more than there are places
            // stay.
            self.offers.retain(|(_, settled)| !settled.load(SeqCst));
        }
        self.offers.push_back((Instant::now(), settled));
    }

    fn forget_settled(&mut self) {
        while self.offers.front().is_some_and(|(_, settled)| settled.load(SeqCst)) {
            self.offers.pop_front();
        }
    }
}

struct Waiting {
    virtual_nanos: u64,
    guests: VecDeque<oneshot::Sender<Offer>>,
}

/// The right to compute for a tick; given back when dropped.
struct Place(Arc<Turns>);

/// A place for a guest that waits. Settled once: it is taken up, or goes to the next.
struct Offer {
    turns: Arc<Turns>,
    settled: Arc<AtomicBool>,
}

impl Turns {
    pub fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            next_id: AtomicU64::new(NOBODY + 1),
            started: Instant::now(),
            last: AtomicU64::new(NOBODY),
            mixed_until: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            queue: Mutex::new(Queue { free: places.max(1), ..Queue::default() }),
        })
    }

    /// The number of the period that it is.
    fn period(&self) -> u64 {
        (self.started.elapsed().as_nanos() / PERIOD.as_nanos()) as u64
    }

    /// A request of container `id` starts; whether others' did in this period or the one before.
    fn are_mixed(&self, id: u64, period: u64) -> bool {
        // A line of memory that all threads write at each request would cost more than the look.
        if self.last.load(Relaxed) != id && self.last.swap(id, Relaxed) != NOBODY {
            self.mixed_until.store(period + 2, Relaxed);
        }
        period < self.mixed_until.load(Relaxed)
    }

    /// Returns with the offer of a place, which may have been taken back by then.
    async fn offer(self: Arc<Self>, of: &CpuAccount) -> Offer {
        let mut offered = match self.ask(of) {
            Ok(offer) => return offer,
            Err(offered) => offered,
        };
        // Given back only now, so that who computes most is compared with all who wait.
        drop(PLACE.with_borrow_mut(Option::take));
        loop {
            match timeout(TAKEN_UP_WITHIN, &mut offered).await {
                Ok(Ok(offer)) => return offer,
                // Only dropped with the queue itself, which this future keeps.
                Ok(Err(_)) => std::future::pending().await,
                // Whoever waits sees to it that places go round.
                Err(_) => self.take_back(),
            }
        }
    }

    /// The offer of a place if one is free; else the guest queues for one.
    fn ask(self: &Arc<Self>, of: &CpuAccount) -> Result<Offer, oneshot::Receiver<Offer>> {
        // Who was just computing may not queue yet when somebody further ahead gets a place.
        let floor = self.floor.load(Relaxed).saturating_sub(CREDIT_NANOS * 1000 / of.weight());
        let virtual_nanos = of.virtual_nanos.fetch_max(floor, Relaxed).max(floor);
        let mut queue = self.queue.lock();
        if queue.free > 0 && queue.waiting.is_empty() {
            queue.free -= 1;
            self.floor.fetch_max(virtual_nanos, Relaxed);
            let settled = Arc::new(AtomicBool::new(false));
            queue.remember(settled.clone());
            return Ok(Offer { turns: self.clone(), settled });
        }
        let (offer, offered) = oneshot::channel();
        let waiting = queue.waiting.entry(of.id);
        let waiting = waiting.or_insert_with(|| Waiting { virtual_nanos, guests: VecDeque::new() });
        waiting.virtual_nanos = virtual_nanos;
        waiting.guests.push_back(offer);
        Err(offered)
    }

    /// The next in line, once a place is free.
    fn next(&self) -> Option<oneshot::Sender<Offer>> {
        let mut queue = self.queue.lock();
        let behind = queue.waiting.iter().min_by_key(|(_, waiting)| waiting.virtual_nanos);
        let Some((id, virtual_nanos)) = behind.map(|(id, waiting)| (*id, waiting.virtual_nanos))
        else {
            queue.free += 1;
            return None;
        };
        self.floor.fetch_max(virtual_nanos, Relaxed);
        let waiting = queue.waiting.get_mut(&id)?;
        let next = waiting.guests.pop_front();
        if waiting.guests.is_empty() {
            queue.waiting.remove(&id);
        }
        next
    }

    /// Offers a free place to the next; who stopped waiting drops the offer, which is passed on.
    fn pass_on(self: &Arc<Self>) {
        while let Some(next) = self.next() {
            let settled = Arc::new(AtomicBool::new(false));
            self.queue.lock().remember(settled.clone());
            match next.send(Offer { turns: self.clone(), settled }) {
                Ok(()) => return,
                // Nobody waits there; its drop must not pass the place on as well.
                Err(unwanted) => unwanted.settled.store(true, SeqCst),
            }
        }
    }

    /// Takes back what was offered a while ago, and offers it to others.
    fn take_back(self: &Arc<Self>) {
        while let Some(settled) = self.oldest_offer() {
            if !settled.swap(true, SeqCst) {
                self.pass_on();
            }
        }
    }

    /// The oldest offer, if it is too old.
    fn oldest_offer(&self) -> Option<Arc<AtomicBool>> {
        let mut queue = self.queue.lock();
        queue.forget_settled();
        let (offered, _) = queue.offers.front()?;
        let old = offered.elapsed() >= TAKEN_UP_WITHIN;
        old.then(|| queue.offers.pop_front()).flatten().map(|(_, settled)| settled)
    }
}

impl Offer {
    /// None: it came too late.
    fn take_up(self) -> Option<Place> {
        (!self.settled.swap(true, SeqCst)).then(|| Place(self.turns.clone()))
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if !self.settled.swap(true, SeqCst) {
            self.turns.pass_on();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.pass_on();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(turns: &Arc<Turns>, quota: Option<u32>, weight: u32) -> Arc<CpuAccount> {
        let limits =
            Limits { cpu_millis: quota, cpu_weight_millis: Some(weight), ..Limits::default() };
        CpuAccount::new(limits, turns.clone())
    }

    async fn place(turns: &Arc<Turns>, of: &CpuAccount) -> Place {
        loop {
            if let Some(place) = turns.clone().offer(of).await.take_up() {
                return place;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_is_held_in_each_period() {
        let account = account(&Turns::new(1), Some(250), 100);
        let began = Instant::now();
        for _ in 0..40 {
            account.within_quota().await;
            account.charge(Duration::from_millis(5));
        }
        // 200 ms of work at a quarter of a core.
        let took = began.elapsed();
        assert!((700..=800).contains(&took.as_millis()), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_by_weight() {
        let turns = Turns::new(1);
        let first = place(&turns, &account(&turns, None, 1)).await;
        let counts: Arc<Mutex<BTreeMap<u32, u32>>> = Arc::default();
        let mut tasks = tokio::task::JoinSet::new();
        for weight in [100, 300] {
            let account = account(&turns, None, weight);
            // Several guests of one container have its share, not each one.
            for _ in 0..weight / 50 {
                let (turns, account, counts) = (turns.clone(), account.clone(), counts.clone());
                tasks.spawn(async move {
                    loop {
                        let place = place(&turns, &account).await;
                        *counts.lock().entry(weight).or_default() += 1;
                        account.charge(Duration::from_millis(2));
                        tokio::time::sleep(Duration::from_millis(2)).await;
                        drop(place);
                    }
                });
            }
        }
        drop(first);
        tokio::time::sleep(Duration::from_secs(4)).await;
        drop(tasks);
        let counts = counts.lock().clone();
        let ratio = f64::from(counts[&300]) / f64::from(counts[&100]);
        assert!((2.5..3.5).contains(&ratio), "{counts:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_computed_lately_is_forgotten() {
        let turns = Turns::new(1);
        let account = account(&turns, None, 100);
        let recent = || account.recent.nanos(turns.period());
        account.charge(Duration::from_millis(64));
        assert_eq!(recent(), 64_000_000);
        tokio::time::advance(PERIOD).await;
        assert_eq!(recent(), 32_000_000);
        tokio::time::advance(PERIOD * 4).await;
        assert_eq!(recent(), 2_000_000);
        tokio::time::advance(PERIOD * 100).await;
        assert_eq!(recent(), 0);
    }

    /// Whether a request is let in at once while somebody computes in the only place.
    #[tokio::test(start_paused = true)]
    async fn the_requests_of_a_busy_container_queue_where_others_compute() {
        let turns = Turns::new(1);
        let (busy, other) = (account(&turns, None, 100), account(&turns, None, 100));
        let _held = place(&turns, &busy).await;
        let admitted = |account: Arc<CpuAccount>| async move {
            tokio::time::timeout(Duration::from_millis(1), account.admit()).await.is_ok()
        };
        busy.charge(Duration::from_millis(50));
        assert!(admitted(busy.clone()).await, "nobody else is there");
        assert!(admitted(other.clone()).await, "it is not busy");
        assert!(!admitted(busy.clone()).await, "it is busy, and somebody else is there");
        tokio::time::advance(PERIOD * 2).await;
        assert!(admitted(busy.clone()).await, "it is no longer busy");
        busy.charge(Duration::from_millis(50));
        assert!(admitted(busy.clone()).await, "nobody else came lately");
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_leaves_its_place_to_the_next() {
        let turns = Turns::new(1);
        let account = account(&turns, None, 100);
        let held = place(&turns, &account).await;
        let waiting = tokio::time::timeout(PERIOD, place(&turns, &account)).await;
        assert!(waiting.is_err());
        drop(held);
        let next = tokio::time::timeout(PERIOD, place(&turns, &account)).await;
        assert!(next.is_ok());
        drop(next);
        assert_eq!(turns.queue.lock().free, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_not_taken_up_goes_to_the_next() {
        let turns = Turns::new(1);
        let account = account(&turns, None, 100);
        let held = place(&turns, &account).await;
        let mut unpolled = std::pin::pin!(place(&turns, &account));
        assert!(futures::poll!(unpolled.as_mut()).is_pending());
        // It is offered to who isn't polled.
        drop(held);
        let began = Instant::now();
        let next = timeout(PERIOD, place(&turns, &account)).await;
        let took = began.elapsed();
        assert!(next.is_ok() && took < TAKEN_UP_WITHIN * 3, "{took:?}");
        // There is one place, whoever was offered it.
        assert!(futures::poll!(unpolled.as_mut()).is_pending());
        drop(next);
        drop(timeout(PERIOD, unpolled).await.expect("its turn has come"));
        assert_eq!(turns.queue.lock().free, 1);
        assert!(turns.queue.lock().offers.len() <= 2);
    }
    /// The thread sees to others first, and who isn't polled after that is in nobody's way.
    #[tokio::test(start_paused = true)]
    async fn a_place_is_taken_up_when_it_is_used() {
        let turns = Turns::new(1);
        let account = account(&turns, None, 100);
        let mut unpolled = std::pin::pin!(account.turn());
        assert!(futures::poll!(unpolled.as_mut()).is_pending());
        let next = timeout(PERIOD, place(&turns, &account)).await.expect("it goes to the next");
        assert!(futures::poll!(unpolled.as_mut()).is_pending());
        drop(next);
        timeout(PERIOD, with_place(|| unpolled)).await.expect("its turn has come");
    }

    #[tokio::test(start_paused = true)]
    async fn offers_are_forgotten_behind_one_that_nobody_takes_back() {
        let turns = Turns::new(2);
        let account = account(&turns, None, 100);
        let _unpolled = turns.clone().offer(&account).await;
        for _ in 0..10 * MOST_REMEMBERED {
            drop(place(&turns, &account).await);
        }
        assert!(turns.queue.lock().offers.len() <= MOST_REMEMBERED);
    }
}
