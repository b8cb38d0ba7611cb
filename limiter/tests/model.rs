//! A semaphore on one thread, against lists: any sequence of calls, with futures dropped at any point.

mod common;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use anteroom_limiter::{Acquire, AcquireError, Permit, Semaphore, Snapshot, TryAcquireError};
use common::poll_once;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// A future that has not resolved, and what the model knows of it.
struct Pending<'a> {
    acquire: Acquire<&'a Semaphore>,
    weight: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unpolled,
    /// With the number of its arrival.
    Waiting(usize),
    Granted,
    Evicted,
}

/// A permit that was suspended, and what the model knows of it.
struct Away<'a> {
    /// Gives the permit back when it is whole again.
    future: Pin<Box<dyn Future<Output = Permit<&'a Semaphore>> + 'a>>,
    weight: usize,
    /// What it waits for, set when it may come back.
    is_over: Rc<Cell<bool>>,
    /// `Unpolled` while it is away.
    state: State,
}

/// Calls on a semaphore. A number picks a future or a permit, modulo how many there are.
#[derive(Clone, Debug)]
enum Op {
    TryAcquire(usize),
    Acquire(usize),
    Poll(usize),
    DropFuture(usize),
    DropPermit(usize),
    Split(usize, usize),
    Merge(usize),
    TryGrow(usize, usize),
    Shrink(usize, usize),
    Charge(usize, usize),
    Suspend(usize),
    /// What it waits for is over, and it is polled.
    ComeBack(usize),
    DropAway(usize),
    SetLimit(usize),
    Close,
    Trim,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let pick = any::<usize>;
    let op = prop_oneof![
        6 => (0..6usize).prop_map(Op::TryAcquire),
        8 => (0..6usize).prop_map(Op::Acquire),
        12 => pick().prop_map(Op::Poll),
        6 => pick().prop_map(Op::DropFuture),
        8 => pick().prop_map(Op::DropPermit),
        2 => (pick(), 0..4usize).prop_map(|(permit, weight)| Op::Split(permit, weight)),
        2 => pick().prop_map(Op::Merge),
        2 => (pick(), 0..4usize).prop_map(|(permit, units)| Op::TryGrow(permit, units)),
        2 => (pick(), 0..4usize).prop_map(|(permit, units)| Op::Shrink(permit, units)),
        2 => (pick(), 0..4usize).prop_map(|(permit, units)| Op::Charge(permit, units)),
        4 => pick().prop_map(Op::Suspend),
        6 => pick().prop_map(Op::ComeBack),
        2 => pick().prop_map(Op::DropAway),
        4 => (0..7usize).prop_map(Op::SetLimit),
        1 => Just(Op::Close),
        1 => Just(Op::Trim),
    ];
    proptest::collection::vec(op, 1..100)
}

/// The semaphore, what came out of it, and what it should say.
struct Model<'a> {
    semaphore: &'a Semaphore,
    futures: Vec<Pending<'a>>,
    permits: Vec<Permit<&'a Semaphore>>,
    away: Vec<Away<'a>>,
    limit: usize,
    waiting_max: usize,
    closed: bool,
    arrivals: usize,
}

impl<'a> Model<'a> {
    /// The sum of what is held, and of what was granted and not collected [PERMIT-1].
    fn in_use(&self) -> usize {
        let held: usize = self.permits.iter().map(Permit::weight).sum();
        let granted = self.futures.iter().filter(|future| future.state == State::Granted);
        let back = self.away.iter().filter(|away| away.state == State::Granted);
        held + granted.map(|future| future.weight).sum::<usize>()
            + back.map(|away| away.weight).sum::<usize>()
    }

    fn fits(&self, weight: usize) -> bool {
        weight == 0 || self.in_use() + weight <= self.limit
    }

    /// The waiter that came first.
    fn head(&mut self) -> Option<&mut Pending<'a>> {
        let waiting = self.futures.iter_mut().filter(|future| matches!(future.state, State::Waiting(_)));
        waiting.min_by_key(|future| match future.state {
            State::Waiting(arrival) => arrival,
            _ => usize::MAX,
        })
    }

    fn waiting(&self) -> usize {
        self.futures.iter().filter(|future| matches!(future.state, State::Waiting(_))).count()
            + self.away.iter().filter(|away| matches!(away.state, State::Waiting(_))).count()
    }

    /// Who came back first of those who wait to come in again.
    fn first_back(&mut self) -> Option<&mut Away<'a>> {
        let waiting = self.away.iter_mut().filter(|away| matches!(away.state, State::Waiting(_)));
        waiting.min_by_key(|away| match away.state {
            State::Waiting(arrival) => arrival,
            _ => usize::MAX,
        })
    }

    /// With more than the limit, it comes in alone.
    fn fits_back(&self, weight: usize) -> bool {
        self.fits(weight) || (weight > self.limit && self.in_use() == 0)
    }

    /// What should have happened by itself: whoever is first and fits has been granted, or all have been told.
    fn settle(&mut self) {
        while let Some(weight) = self.first_back().map(|away| away.weight) {
            if !self.fits_back(weight) {
                break;
            }
            self.first_back().unwrap().state = State::Granted;
        }
        if self.first_back().is_some() && !self.closed {
            return; // [SUSPEND-2]
        }
        while let Some(head) = self.head() {
            let weight = head.weight;
            if self.closed {
                self.head().unwrap().state = State::Evicted;
            } else if self.fits(weight) {
                self.head().unwrap().state = State::Granted;
            } else {
                break;
            }
        }
    }

    /// What a newcomer should be told.
    fn admission(&self, weight: usize) -> Result<(), TryAcquireError> {
        if self.closed {
            Err(TryAcquireError::Closed)
        } else if weight == 0 {
            Ok(())
        } else if weight > self.limit {
            Err(TryAcquireError::ExceedsLimit)
        } else if !self.fits(weight) || self.waiting() > 0 {
            Err(TryAcquireError::NoPermits)
        } else {
            Ok(())
        }
    }

    fn poll(&mut self, at: usize) -> Result<(), TestCaseError> {
        let (state, weight) = (self.futures[at].state, self.futures[at].weight);
        let admission = self.admission(weight);
        let result = poll_once(&mut self.futures[at].acquire);
        match (state, admission) {
            (State::Waiting(_), _) => prop_assert!(result.is_pending()),
            (State::Unpolled, Err(TryAcquireError::NoPermits)) if self.waiting() >= self.waiting_max => {
                prop_assert!(matches!(result, Poll::Ready(Err(AcquireError::QueueFull))));
                self.futures.swap_remove(at);
            }
            (State::Unpolled, Err(TryAcquireError::NoPermits)) => {
                prop_assert!(result.is_pending());
                self.futures[at].state = State::Waiting(self.arrivals);
                self.arrivals += 1;
            }
            (State::Granted, _) | (State::Unpolled, Ok(())) => {
                let Poll::Ready(Ok(permit)) = result else { return Err(TestCaseError::fail("not served")) };
                prop_assert_eq!(permit.weight(), weight);
                self.permits.push(permit);
                self.futures.swap_remove(at);
            }
            (State::Evicted, _) | (State::Unpolled, Err(TryAcquireError::Closed)) => {
                prop_assert!(matches!(result, Poll::Ready(Err(AcquireError::Closed))));
                self.futures.swap_remove(at);
            }
            (State::Unpolled, Err(TryAcquireError::ExceedsLimit)) => {
                prop_assert!(matches!(result, Poll::Ready(Err(AcquireError::ExceedsLimit))));
                self.futures.swap_remove(at);
            }
        }
        Ok(())
    }

    /// What the n-th that is away waits for is over; or it is polled once more.
    fn come_back(&mut self, at: usize) -> Result<(), TestCaseError> {
        let (state, weight) = (self.away[at].state, self.away[at].weight);
        let comes_in = weight == 0 || (self.first_back().is_none() && self.fits_back(weight));
        let away = &mut self.away[at];
        away.is_over.set(true);
        let result = poll_once(&mut away.future);
        match state {
            State::Unpolled if !comes_in => {
                prop_assert!(result.is_pending());
                away.state = State::Waiting(self.arrivals);
                self.arrivals += 1;
            }
            State::Unpolled | State::Granted => {
                let Poll::Ready(permit) = result else { return Err(TestCaseError::fail("not let in")) };
                prop_assert_eq!(permit.weight(), weight);
                self.permits.push(permit);
                drop(self.away.swap_remove(at));
            }
            State::Waiting(_) => prop_assert!(result.is_pending()),
            State::Evicted => unreachable!("nobody evicts who comes back"),
        }
        Ok(())
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        let semaphore = self.semaphore;
        match op {
            Op::TryAcquire(weight) => {
                let expected = self.admission(weight);
                let result = semaphore.try_acquire_many(weight);
                prop_assert_eq!(result.as_ref().map(Permit::weight), expected.as_ref().map(|()| weight));
                self.permits.extend(result);
            }
            Op::Acquire(weight) => {
                let acquire = semaphore.acquire_many(weight);
                self.futures.push(Pending { acquire, weight, state: State::Unpolled });
            }
            Op::Poll(n) if !self.futures.is_empty() => self.poll(n % self.futures.len())?,
            Op::DropFuture(n) if !self.futures.is_empty() => {
                drop(self.futures.swap_remove(n % self.futures.len()));
            }
            Op::DropPermit(n) if !self.permits.is_empty() => {
                drop(self.permits.swap_remove(n % self.permits.len()));
            }
            Op::Split(n, weight) if !self.permits.is_empty() => {
                let at = n % self.permits.len();
                let fits = weight <= self.permits[at].weight();
                let part = self.permits[at].split(weight);
                prop_assert_eq!(part.is_some(), fits);
                self.permits.extend(part);
            }
            Op::Merge(n) if self.permits.len() > 1 => {
                let other = self.permits.swap_remove(n % self.permits.len());
                prop_assert!(self.permits[0].merge(other).is_ok());
            }
            Op::TryGrow(n, units) if !self.permits.is_empty() => {
                let expected = self.admission(units);
                let at = n % self.permits.len();
                let before = self.permits[at].weight();
                prop_assert_eq!(self.permits[at].try_grow(units), expected);
                let grown = if expected.is_ok() { units } else { 0 };
                prop_assert_eq!(self.permits[at].weight(), before + grown);
            }
            Op::Shrink(n, units) if !self.permits.is_empty() => {
                let at = n % self.permits.len();
                let before = self.permits[at].weight();
                prop_assert_eq!(self.permits[at].shrink(units), units.min(before));
                prop_assert_eq!(self.permits[at].weight(), before - units.min(before));
            }
            Op::Charge(n, units) if !self.permits.is_empty() => {
                let at = n % self.permits.len();
                let before = self.permits[at].weight();
                prop_assert_eq!(self.permits[at].charge(units), units);
                prop_assert_eq!(self.permits[at].weight(), before + units);
            }
            Op::Suspend(n) if !self.permits.is_empty() => {
                let mut permit = self.permits.swap_remove(n % self.permits.len());
                let (weight, is_over) = (permit.weight(), Rc::new(Cell::new(false)));
                let over = Rc::clone(&is_over);
                let mut future: Pin<Box<dyn Future<Output = _> + 'a>> = Box::pin(async move {
                    let wait = poll_fn(|_| if over.get() { Poll::Ready(7) } else { Poll::Pending });
                    assert_eq!(permit.suspend(wait).await, 7);
                    permit
                });
                prop_assert!(poll_once(&mut future).is_pending());
                self.away.push(Away { future, weight, is_over, state: State::Unpolled });
            }
            Op::ComeBack(n) if !self.away.is_empty() => self.come_back(n % self.away.len())?,
            Op::DropAway(n) if !self.away.is_empty() => {
                drop(self.away.swap_remove(n % self.away.len()));
            }
            Op::SetLimit(limit) => {
                prop_assert_eq!(semaphore.set_limit(limit).is_ok(), limit > 0);
                self.limit = if limit > 0 { limit } else { self.limit };
            }
            Op::Close => {
                semaphore.close();
                self.closed = true;
            }
            Op::Trim => semaphore.trim(),
            // There is nothing to do it to.
            _ => {}
        }
        self.settle();
        let expected = Snapshot {
            limit: self.limit,
            in_use: self.in_use(),
            waiting: self.waiting(),
            closed: self.closed,
        };
        prop_assert_eq!(semaphore.snapshot(), expected);
        prop_assert_eq!(semaphore.available(), expected.available());
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 500,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    /// [PERMIT-1], [ACQUIRE-3], [GATE-2], [GATE-3], [GATE-4]. bugs.md 1, 2, 3, 4, 6, 7, 9, 13, 16
    #[test]
    fn any_sequence_of_calls_agrees_with_the_naive_model(
        limit in 1..7usize,
        waiting_max in prop_oneof![Just(usize::MAX), 0..5usize],
        ops in ops(),
    ) {
        let semaphore = Semaphore::new(limit).with_max_waiting(waiting_max);
        let mut model = Model {
            semaphore: &semaphore,
            futures: Vec::new(),
            permits: Vec::new(),
            away: Vec::new(),
            limit,
            waiting_max,
            closed: false,
            arrivals: 0,
        };
        for op in ops {
            model.step(op)?;
        }
        let Model { futures, permits, away, .. } = model;
        drop((futures, permits, away));
        prop_assert_eq!((semaphore.in_use(), semaphore.waiting()), (0, 0));
    }
}
