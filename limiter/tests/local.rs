//! The semaphore of one thread does what the shared one does, step by step, and wakers may come back into it.

mod common;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use anteroom_limiter::{
    Acquire, AcquireError, LocalAcquire, LocalPermit, LocalSemaphore, OwnedPermit, Semaphore, TryAcquireError,
};
use common::{Bell, poll_once};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// Calls on a semaphore. A number picks a future or a permit, modulo how many there are.
#[derive(Clone, Debug)]
enum Op {
    TryAcquire(usize),
    Acquire(usize),
    /// With the bell of this number, of three.
    Poll(usize, usize),
    DropFuture(usize),
    DropPermit(usize),
    SetLimit(usize),
    Close,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let pick = any::<usize>;
    let op = prop_oneof![
        4 => (0..6usize).prop_map(Op::TryAcquire),
        8 => (0..6usize).prop_map(Op::Acquire),
        14 => (pick(), 0..3usize).prop_map(|(future, bell)| Op::Poll(future, bell)),
        5 => pick().prop_map(Op::DropFuture),
        8 => pick().prop_map(Op::DropPermit),
        4 => (0..7usize).prop_map(Op::SetLimit),
        1 => Just(Op::Close),
    ];
    proptest::collection::vec(op, 1..100)
}

/// One of the two shells, with what came out of it.
trait Shell {
    type Permit;
    type Future: Future<Output = Result<Self::Permit, AcquireError>> + Unpin;

    fn try_take(&self, weight: usize) -> Result<Self::Permit, TryAcquireError>;
    fn wait_for(&self, weight: usize) -> Self::Future;
    fn resize(&self, limit: usize) -> bool;
    fn end(&self);
    fn state(&self) -> String;
}

impl Shell for Arc<Semaphore> {
    type Permit = OwnedPermit;
    type Future = Acquire<Arc<Semaphore>>;

    fn try_take(&self, weight: usize) -> Result<OwnedPermit, TryAcquireError> {
        self.try_acquire_many_owned(weight)
    }

    fn wait_for(&self, weight: usize) -> Self::Future {
        self.acquire_many_owned(weight)
    }

    fn resize(&self, limit: usize) -> bool {
        Semaphore::set_limit(self, limit).is_ok()
    }

    fn end(&self) {
        Semaphore::close(self);
    }

    fn state(&self) -> String {
        format!("{self:?}")
    }
}

impl Shell for Rc<LocalSemaphore> {
    type Permit = LocalPermit<Self>;
    type Future = LocalAcquire<Self>;

    fn try_take(&self, weight: usize) -> Result<Self::Permit, TryAcquireError> {
        self.try_acquire_many_owned(weight)
    }

    fn wait_for(&self, weight: usize) -> Self::Future {
        self.acquire_many_owned(weight)
    }

    fn resize(&self, limit: usize) -> bool {
        LocalSemaphore::set_limit(self, limit).is_ok()
    }

    fn end(&self) {
        LocalSemaphore::close(self);
    }

    fn state(&self) -> String {
        format!("{self:?}").replace("LocalSemaphore", "Semaphore")
    }
}

/// All that can be seen of a run, a line a step.
fn trace(shell: &impl Shell, ops: &[Op]) -> Vec<String> {
    let bells: Vec<_> = (0..3).map(|_| Bell::new()).collect();
    let (mut futures, mut permits) = (Vec::new(), Vec::new());
    let mut lines = Vec::new();
    for op in ops {
        let mut seen = String::new();
        match *op {
            Op::TryAcquire(weight) => match shell.try_take(weight) {
                Ok(permit) => permits.push(permit),
                Err(error) => seen = format!("{error:?}"),
            },
            Op::Acquire(weight) => futures.push(shell.wait_for(weight)),
            Op::Poll(n, bell) if !futures.is_empty() => {
                let at = n % futures.len();
                let waker = Waker::from(Arc::clone(&bells[bell]));
                match Pin::new(&mut futures[at]).poll(&mut Context::from_waker(&waker)) {
                    Poll::Pending => seen.push_str("pending"),
                    Poll::Ready(outcome) => {
                        drop(futures.swap_remove(at));
                        match outcome {
                            Ok(permit) => permits.push(permit),
                            Err(error) => seen = format!("{error:?}"),
                        }
                    }
                }
            }
            Op::DropFuture(n) if !futures.is_empty() => drop(futures.swap_remove(n % futures.len())),
            Op::DropPermit(n) if !permits.is_empty() => drop(permits.swap_remove(n % permits.len())),
            Op::SetLimit(limit) => seen = shell.resize(limit).to_string(),
            Op::Close => shell.end(),
            _ => {}
        }
        let wakes: Vec<_> = bells.iter().map(|bell| bell.wakes()).collect();
        lines.push(format!("{op:?}: {seen} {wakes:?} {} held, {}", permits.len(), shell.state()));
    }
    drop((futures, permits));
    lines.push(shell.state());
    lines
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    /// [LOCAL-2]; the shared one is checked against lists.
    #[test]
    fn any_sequence_of_calls_does_the_same_in_both_shells(limit in 1..7usize, ops in ops()) {
        let local = Rc::new(LocalSemaphore::new(limit));
        prop_assert_eq!(trace(&local, &ops), trace(&Arc::new(Semaphore::new(limit)), &ops));
    }
}

thread_local! {
    static SEMAPHORE: Rc<LocalSemaphore> = Rc::new(LocalSemaphore::new(1));
    /// What a grant lets go in the waker of who was granted.
    static KEPT: RefCell<Option<LocalPermit<Rc<LocalSemaphore>>>> = const { RefCell::new(None) };
}

/// Comes back into the semaphore when it is woken and when it is dropped.
struct Reentrant;

impl Reentrant {
    fn use_everything() {
        SEMAPHORE.with(|semaphore| {
            drop(semaphore.try_acquire_many(1));
            let mut acquire = semaphore.acquire_many_owned(1);
            let _ = poll_once(&mut acquire);
            drop(acquire);
            semaphore.set_limit(1).unwrap();
            let _ = format!("{semaphore:?}");
        });
        drop(KEPT.take());
    }
}

impl Wake for Reentrant {
    fn wake(self: Arc<Self>) {
        Self::use_everything();
    }
}

impl Drop for Reentrant {
    fn drop(&mut self) {
        Self::use_everything();
    }
}

/// [LOCAL-1]; bugs.md 35
#[test]
fn a_waker_that_comes_back_finds_nothing_borrowed() {
    let semaphore = SEMAPHORE.with(Rc::clone);
    let queue = || {
        let mut acquire = semaphore.acquire_many_owned(1);
        let waker = Waker::from(Arc::new(Reentrant));
        assert!(Pin::new(&mut acquire).poll(&mut Context::from_waker(&waker)).is_pending());
        acquire
    };
    let permit = semaphore.try_acquire_many(1).unwrap();
    let (mut replaced, cancelled, granted, told) = (queue(), queue(), queue(), queue());
    assert!(poll_once(&mut replaced).is_pending());
    drop(cancelled);
    drop(replaced);
    drop(permit);
    semaphore.close();
    drop((granted, told));
    assert_eq!(semaphore.snapshot().in_use, 0);
}

/// [LOCAL-2]; bugs.md 29
#[test]
fn a_waker_that_panics_keeps_nobody_from_being_told() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("the waker's own");
        }
    }
    let semaphore = Rc::new(LocalSemaphore::new(2));
    let both = semaphore.try_acquire_many(2).unwrap();
    let (mut first, mut second) = (semaphore.acquire(), semaphore.acquire());
    let waker = Waker::from(Arc::new(Panics));
    assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&waker)).is_pending());
    let bell = Bell::new();
    let ringing = Waker::from(Arc::clone(&bell));
    assert!(Pin::new(&mut second).poll(&mut Context::from_waker(&ringing)).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(both))).is_err());
    assert_eq!(bell.wakes(), 1);
    assert!(poll_once(&mut first).is_ready() && poll_once(&mut second).is_ready());
    assert_eq!(semaphore.snapshot().in_use, 0);
}
