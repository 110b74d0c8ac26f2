//! The work of one instance. It has a task of its own, and can also be advanced by whoever has
//! something for it: the connection that brings a request then has the answer without a hop to
//! another thread and back, which takes longer than a short answer does.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

type Life = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What an instance does, from its making to its end.
pub struct Work {
    /// None: it has ended.
    life: Mutex<Option<Life>>,
    /// Of the instance's task: whatever the guest waits for wakes that, whoever polled the guest.
    waker: Mutex<Waker>,
    /// The task came while somebody else advanced the instance.
    missed: AtomicBool,
}

impl Work {
    /// The work, which `life` may know, and what its task does.
    pub fn new<F>(life: impl FnOnce(Arc<Self>) -> F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let work = Arc::new(Self {
            life: Mutex::default(),
            waker: Mutex::new(Waker::noop().clone()),
            missed: AtomicBool::new(false),
        });
        *work.life.lock() = Some(Box::pin(life(work.clone())));
        Task(work)
    }

    /// Has the instance's task look at it.
    pub fn wake(&self) {
        self.waker.lock().wake_by_ref();
    }

    /// Lets the instance work until it waits, or until its tick is over; false: somebody else does.
    pub fn advance(&self) -> bool {
        let Some(mut life) = self.life.try_lock() else { return false };
        let waker = self.waker.lock().clone();
        let ended = poll(&mut life, &mut Context::from_waker(&waker)).is_ready();
        drop(life);
        if self.missed.swap(false, SeqCst) || ended {
            waker.wake();
        }
        true
    }
}

fn poll(life: &mut Option<Life>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(running) = life else { return Poll::Ready(()) };
    let polled = running.as_mut().poll(cx);
    if polled.is_ready() {
        *life = None;
    }
    polled
}

/// Drives the work; what is left of it goes with the task.
pub struct Task(Arc<Work>);

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let work = &self.0;
        {
            let mut waker = work.waker.lock();
            if !waker.will_wake(cx.waker()) {
                waker.clone_from(cx.waker());
            }
        }
        // Either the lock is free, or its holder sees this when it is done.
        work.missed.store(true, SeqCst);
        let Some(mut life) = work.life.try_lock() else { return Poll::Pending };
        work.missed.store(false, SeqCst);
        poll(&mut life, cx)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let life = self.0.life.lock().take();
        drop(life);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicUsize};

    use super::*;

    /// Counts how often it is polled, and ends when it was so often.
    fn counted(until: usize) -> (Arc<AtomicUsize>, Task) {
        let polls: Arc<AtomicUsize> = Arc::default();
        let counting = polls.clone();
        let life = poll_fn(move |_| match counting.fetch_add(1, SeqCst) + 1 == until {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        (polls, Work::new(|_| life))
    }

    #[tokio::test]
    async fn who_advances_it_to_its_end_lets_its_task_know() {
        let (polls, task) = counted(3);
        let work = task.0.clone();
        let task = tokio::spawn(task);
        tokio::task::yield_now().await;
        assert_eq!(polls.load(SeqCst), 1);
        assert!(work.advance() && work.advance());
        task.await.expect("no panic");
        assert_eq!(polls.load(SeqCst), 3);
        // Nothing is left to advance.
        assert!(work.advance());
        assert_eq!(polls.load(SeqCst), 3);
    }

    #[tokio::test]
    async fn a_task_that_came_in_between_comes_again() {
        let (polls, task) = counted(2);
        let work = task.0.clone();
        let held = work.life.lock();
        let task = tokio::spawn(task);
        tokio::task::yield_now().await;
        assert_eq!(polls.load(SeqCst), 0);
        assert!(!work.advance(), "somebody else does");
        drop(held);
        assert!(work.advance());
        task.await.expect("no panic");
        assert_eq!(polls.load(SeqCst), 2);
    }

    #[tokio::test]
    async fn what_is_left_goes_with_the_task() {
        let (_, task) = counted(2);
        let work = task.0.clone();
        drop(task);
        assert!(work.life.lock().is_none());
    }
}
