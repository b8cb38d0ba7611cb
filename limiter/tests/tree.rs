//! Limits below limits: no level is ever exceeded, nothing is lost wherever a request ends, and what runs under a permit is
//! gone before the permit is.

#![allow(clippy::disallowed_types, reason = "a test of the public API has no other atomics")]

mod common;

use std::cell::RefCell;
use std::future::{Ready, pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use anteroom_limiter::{
    AcquireError, Admitted, ChildError, LimitError, Limiter, LimiterAcquire, LimiterPermit, Snapshot,
    TryAcquireError,
};
use common::{Bell, block_on, poll_once, poll_with};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

fn use_of(limiter: &Limiter) -> (usize, usize) {
    let Snapshot { in_use, waiting, .. } = limiter.snapshot();
    (in_use, waiting)
}

/// [LEVEL-1]
#[test]
fn who_waits_for_its_own_limit_holds_nothing_of_the_parents() {
    let whole = Limiter::new(10);
    let tenant = whole.child(1);
    let permit = tenant.try_acquire().unwrap();
    let mut waiter = tenant.acquire();
    assert!(poll_once(&mut waiter).is_pending());
    assert_eq!((use_of(&tenant), use_of(&whole)), ((1, 1), (1, 0)));
    drop(permit);
    assert_eq!((use_of(&tenant), use_of(&whole)), ((1, 0), (0, 0)), "granted here, and not told yet");
    let Poll::Ready(Ok(permit)) = poll_once(&mut waiter) else { panic!("there is room") };
    assert_eq!((use_of(&tenant), use_of(&whole)), ((1, 0), (1, 0)));
    drop(permit);
    assert_eq!((use_of(&tenant), use_of(&whole)), ((0, 0), (0, 0)));
}

/// However long one tenant's line is, another one stands behind as many of it as its limit, and not behind the line.
#[test]
fn a_busy_tenant_keeps_no_more_of_the_parents_line_than_its_limit() {
    let whole = Limiter::new(1);
    let (busy, other) = (whole.child(2), whole.child(2));
    let permit = whole.try_acquire().unwrap();
    let mut line: Vec<_> = (0..100).map(|_| busy.acquire()).collect();
    assert!(line.iter_mut().all(|waiter| poll_once(waiter).is_pending()));
    let mut late = other.acquire();
    assert!(poll_once(&mut late).is_pending());
    assert_eq!((use_of(&busy), use_of(&whole)), ((2, 98), (1, 3)));
    drop(permit);
    for waiter in &mut line[..2] {
        let Poll::Ready(Ok(permit)) = poll_once(waiter) else { panic!("it came before") };
        drop(permit);
    }
    assert!(matches!(poll_once(&mut late), Poll::Ready(Ok(_))));
}

#[test]
fn each_level_serves_in_the_order_of_arrival() {
    let whole = Limiter::new(1);
    let (a, b) = (whole.child(5), whole.child(5));
    let permit = whole.try_acquire().unwrap();
    let mut line: Vec<_> = [&a, &b, &b, &a, &whole, &b].into_iter().map(Limiter::acquire).collect();
    assert!(line.iter_mut().all(|waiter| poll_once(waiter).is_pending()));
    drop(permit);
    while !line.is_empty() {
        assert!(line[1..].iter_mut().all(|waiter| poll_once(waiter).is_pending()));
        let Poll::Ready(Ok(permit)) = poll_once(&mut line[0]) else { panic!("it is first") };
        drop((line.remove(0), permit));
    }
}

/// [LEVEL-2]: dropped at each level, before and after it is granted there; somebody behind it is served.
#[test]
fn dropped_at_any_point_it_gives_all_levels_back() {
    let mut points = 0;
    for depth in 1..=4 {
        let mut levels = vec![Limiter::new(2)];
        while levels.len() < depth {
            levels.push(levels[levels.len() - 1].child(2));
        }
        levels.reverse(); // from the leaf
        for weight in 1..=2 {
            for polls in 0..=depth {
                for told in [false, true] {
                    // All are full, and each has room again when its limit is raised.
                    let full = levels[0].try_acquire_many(2).unwrap();
                    let mut acquire = levels[0].acquire_many(weight);
                    let mut behind = Vec::new();
                    for (poll, level) in levels.iter().enumerate().take(polls) {
                        assert!(poll_once(&mut acquire).is_pending());
                        assert_eq!(use_of(level).1, 1, "it waits at level {poll}");
                        let mut next = level.acquire();
                        assert!(poll_once(&mut next).is_pending());
                        behind.push(next);
                        if told || poll + 1 < polls {
                            level.set_limit(8).unwrap();
                        }
                    }
                    points += 1;
                    drop((acquire, full));
                    for mut next in behind {
                        let mut polls_left = 2 * depth;
                        while poll_once(&mut next).is_pending() {
                            polls_left -= 1;
                            assert!(polls_left > 0, "{depth} {weight} {polls} {told}");
                        }
                    }
                    for level in &levels {
                        assert_eq!(use_of(level), (0, 0), "{depth} {weight} {polls} {told}");
                        level.set_limit(2).unwrap();
                    }
                }
            }
        }
    }
    assert!(points > 40, "{points}");
}

#[test]
fn try_acquire_takes_all_levels_or_none() {
    let root = Limiter::new(3);
    let middle = root.child(2);
    let leaf = middle.child(2);
    for (full, level) in [(&root, 3), (&middle, 2), (&leaf, 2)] {
        let held = full.try_acquire_many(level).unwrap();
        let before = [&root, &middle, &leaf].map(use_of);
        assert_eq!(leaf.try_acquire().unwrap_err(), TryAcquireError::NoPermits);
        assert_eq!([&root, &middle, &leaf].map(use_of), before);
        drop(held);
    }
    assert_eq!(leaf.try_acquire_many(3).unwrap_err(), TryAcquireError::ExceedsLimit);
    root.set_limit(1).unwrap();
    assert_eq!(leaf.try_acquire_many(2).unwrap_err(), TryAcquireError::ExceedsLimit);
    assert_eq!([&root, &middle, &leaf].map(use_of), [(0, 0); 3]);
    root.close();
    assert_eq!(leaf.try_acquire().unwrap_err(), TryAcquireError::Closed);
}

#[test]
fn what_can_never_be_served_is_refused_before_anything_is_taken() {
    let root = Limiter::new(1);
    let leaf = root.child(5);
    let _full = leaf.try_acquire().unwrap();
    let mut too_much = leaf.acquire_many(2);
    let Poll::Ready(result) = poll_once(&mut too_much) else { panic!("at once") };
    assert_eq!(result.unwrap_err(), AcquireError::ExceedsLimit);
    assert_eq!(use_of(&leaf), (1, 0));
}

/// [LEVEL-3]
#[test]
fn close_tells_all_who_wait_below_and_all_who_come() {
    let root = Limiter::new(3);
    let (left, right) = (root.child(1), root.child(1));
    let leaf = left.child(1);
    let permits = [leaf.try_acquire().unwrap(), right.try_acquire().unwrap(), root.try_acquire().unwrap()];
    let mut waiters = [leaf.acquire(), left.acquire(), right.acquire(), root.acquire()];
    let bells = [(); 4].map(|()| Bell::new());
    for (waiter, bell) in waiters.iter_mut().zip(&bells) {
        assert!(poll_with(waiter, &Arc::clone(bell).into()).is_pending());
    }
    left.close();
    assert_eq!(bells.each_ref().map(|bell| bell.wakes()), [1, 1, 0, 0], "below it, and nobody else");
    root.close();
    root.close();
    assert_eq!(bells.each_ref().map(|bell| bell.wakes()), [1; 4]);
    for waiter in &mut waiters {
        let Poll::Ready(result) = poll_once(waiter) else { panic!("it was told") };
        assert_eq!(result.unwrap_err(), AcquireError::Closed);
    }
    let late = leaf.child(1).child(1);
    for limiter in [&root, &left, &right, &leaf, &late] {
        assert!(limiter.is_closed() && limiter.snapshot().closed);
        assert_eq!(limiter.try_acquire().unwrap_err(), TryAcquireError::Closed);
        assert_eq!(block_on(limiter.acquire()).unwrap_err(), AcquireError::Closed);
    }
    assert_eq!([&root, &left, &right, &leaf].map(use_of), [(3, 0), (1, 0), (1, 0), (1, 0)]);
    drop(permits);
    assert_eq!([&root, &left, &right, &leaf].map(use_of), [(0, 0); 4]);
}

/// [LEVEL-3]: it has left the line of the level that is closed, whose close does not find it.
#[test]
fn who_waits_above_a_level_that_is_closed_gets_no_permit() {
    let root = Limiter::new(1);
    let leaf = root.child(3);
    let permit = root.try_acquire().unwrap();
    let bell = Bell::new();
    let (mut granted, mut waiting, mut other) = (leaf.acquire(), leaf.acquire(), root.acquire());
    for waiter in [&mut granted, &mut waiting, &mut other] {
        assert!(poll_with(waiter, &Arc::clone(&bell).into()).is_pending());
    }
    leaf.close();
    assert_eq!((bell.wakes(), use_of(&leaf), use_of(&root)), (0, (2, 0), (1, 3)));
    drop(permit);
    assert_eq!(bell.wakes(), 1, "it is its turn");
    for waiter in [&mut waiting, &mut granted] {
        let Poll::Ready(result) = poll_once(waiter) else { panic!("it is told when it is polled") };
        assert_eq!(result.unwrap_err(), AcquireError::Closed);
    }
    assert_eq!(bell.wakes(), 2, "and what it was granted goes to the next of another limiter");
    assert!(matches!(poll_once(&mut other), Poll::Ready(Ok(_))));
    assert_eq!([&leaf, &root].map(use_of), [(0, 0); 2]);
}

/// [LEVEL-3] on threads: a child is closed, whether the walk finds it or it comes too late for that.
#[test]
fn a_child_that_is_made_while_its_parent_closes_is_closed() {
    for _ in 0..500 {
        let root = Limiter::new(1);
        thread::scope(|scope| {
            let maker = scope.spawn(|| {
                let children: Vec<_> = (0..4).map(|_| root.child(1).child(1)).collect();
                children
            });
            root.close();
            for child in maker.join().unwrap() {
                assert!(child.snapshot().closed);
            }
        });
    }
}

/// [LEVEL-4]
#[test]
fn a_tree_that_is_too_deep_is_refused_by_name() {
    let mut limiter = Limiter::new(1);
    for _ in 1..Limiter::MAX_DEPTH {
        limiter = limiter.child(1);
    }
    let permit = limiter.try_acquire().unwrap();
    assert_eq!(limiter.try_child(1).unwrap_err(), ChildError::TooDeep);
    assert_eq!(ChildError::TooDeep.to_string(), "there are at most 8 levels of limits (MAX_DEPTH)");
    assert_eq!(limiter.try_child(0).unwrap_err(), ChildError::Limit(LimitError::Zero));
    let error = catch_unwind(AssertUnwindSafe(|| limiter.child(1))).unwrap_err();
    assert_eq!(
        error.downcast_ref::<String>().unwrap(),
        "Limiter::child(1): there are at most 8 levels of limits (MAX_DEPTH)"
    );
    drop(permit);
}

#[test]
#[should_panic(expected = "Limiter::new(0): a semaphore's limit must be at least 1")]
fn a_limit_of_zero_is_named() {
    let _ = Limiter::new(0);
}

/// However many children came and went, the parent is as it was; and what is below keeps what is above alive.
#[test]
fn children_that_are_gone_leave_nothing_behind() {
    let root = Limiter::new(2);
    for _ in 0..100_000 {
        drop(root.child(1));
    }
    let permit = root.child(1).child(1).try_acquire().unwrap();
    assert_eq!(use_of(&root), (1, 0));
    let watch = root.child(1);
    drop(root);
    assert!(watch.try_acquire().is_ok());
    drop(permit);
    assert!(watch.try_acquire_many(1).is_ok());
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker");
    }
}

/// [LEVEL-2]: by a permit, by a future that is dropped, by one that fails, and by a close.
#[test]
fn a_waker_that_panics_keeps_no_level_from_its_units() {
    for way in ["permit", "future", "close"] {
        let root = Limiter::new(2);
        let leaf = root.child(2);
        let mut held = Some(leaf.try_acquire_many(2).unwrap());
        let mut future = None;
        if way == "future" {
            drop(held.take());
            let full = root.try_acquire_many(1).unwrap();
            let mut acquire = leaf.acquire_many(2);
            assert!(poll_once(&mut acquire).is_pending()); // has the leaf, and waits for the root
            future = Some((acquire, full));
        }
        let mut waiters = [leaf.acquire(), root.acquire()];
        for waiter in &mut waiters {
            assert!(poll_with(waiter, &Waker::from(Arc::new(Panics))).is_pending());
        }
        let told = catch_unwind(AssertUnwindSafe(|| match way {
            "permit" => drop(held.take()),
            "future" => drop(future.take()),
            _ => root.close(),
        }));
        assert!(told.is_err(), "{way}: the panic is passed on");
        for waiter in &mut waiters {
            assert_eq!(matches!(poll_once(waiter), Poll::Ready(Ok(_))), way != "close", "{way}");
        }
        drop(held);
        assert_eq!([&leaf, &root].map(use_of), [(0, 0); 2], "{way}");
    }
}

#[test]
#[should_panic(expected = "a LimiterAcquire was polled after it had resolved")]
fn a_resolved_future_says_so_when_it_is_polled_again() {
    let limiter = Limiter::new(1);
    let mut acquire = limiter.acquire();
    let _permit = poll_once(&mut acquire);
    let _ = poll_once(&mut acquire);
}

/// Four threads, two tenants with two users each: nobody sees more at a level than its limit.
#[test]
fn a_hundred_thousand_races_exceed_no_level() {
    let whole = Limiter::new(3);
    let tenants = [whole.child(2), whole.child(2)];
    let users: Vec<_> = tenants.iter().flat_map(|tenant| [tenant.child(1), tenant.child(1)]).collect();
    let held = [(); 7].map(|()| AtomicUsize::new(0));
    thread::scope(|scope| {
        for seed in 0..4_usize {
            let (users, held) = (&users, &held);
            scope.spawn(move || {
                for round in 0..25_000 {
                    let user = (seed + round * 5) % 4;
                    let permit = match round % 3 {
                        0 => Some(block_on(users[user].acquire()).unwrap()),
                        1 => users[user].try_acquire().ok(),
                        _ => match poll_once(&mut users[user].acquire()) {
                            Poll::Ready(permit) => Some(permit.unwrap()),
                            Poll::Pending => None,
                        },
                    };
                    if let Some(permit) = permit {
                        let levels = [(user, 1), (4 + user / 2, 2), (6, 3)];
                        for (at, limit) in levels {
                            assert!(held[at].fetch_add(1, SeqCst) < limit, "level {at}");
                        }
                        for (at, _) in levels {
                            held[at].fetch_sub(1, SeqCst);
                        }
                        drop(permit);
                    }
                }
            });
        }
    });
    for limiter in users.iter().chain(&tenants).chain([&whole]) {
        assert_eq!(use_of(limiter), (0, 0));
    }
}

/// The naive tree: each level has a limit, what is in use and a line.
#[derive(Clone, Debug)]
struct Level {
    limit: usize,
    closed: bool,
    in_use: usize,
    line: Vec<usize>,
    parent: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unpolled,
    /// In the line of this level.
    Waiting(usize),
    /// Of this level, and not told.
    Granted(usize),
    Evicted(usize),
}

struct Request {
    acquire: LimiterAcquire,
    of: usize,
    weight: usize,
    state: State,
}

#[derive(Clone, Debug)]
enum Op {
    Child(usize, usize),
    Try(usize, usize),
    Acquire(usize, usize),
    Poll(usize),
    DropFuture(usize),
    DropPermit(usize),
    SetLimit(usize, usize),
    Close(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let pick = any::<usize>;
    let op = prop_oneof![
        4 => (pick(), 1..5_usize).prop_map(|(of, limit)| Op::Child(of, limit)),
        6 => (pick(), 0..4_usize).prop_map(|(of, weight)| Op::Try(of, weight)),
        10 => (pick(), 0..4_usize).prop_map(|(of, weight)| Op::Acquire(of, weight)),
        24 => pick().prop_map(Op::Poll),
        6 => pick().prop_map(Op::DropFuture),
        10 => pick().prop_map(Op::DropPermit),
        4 => (pick(), 1..6_usize).prop_map(|(of, limit)| Op::SetLimit(of, limit)),
        1 => pick().prop_map(Op::Close),
    ];
    proptest::collection::vec(op, 1..150)
}

struct Model {
    limiters: Vec<Limiter>,
    levels: Vec<Level>,
    requests: Vec<(usize, Request)>,
    permits: Vec<(LimiterPermit, usize)>,
    numbers: usize,
}

impl Model {
    /// From this level to the root.
    fn path(&self, of: usize) -> Vec<usize> {
        std::iter::successors(Some(of), |&at| self.levels[at].parent).collect()
    }

    fn fits(&self, at: usize, weight: usize) -> bool {
        weight == 0 || self.levels[at].in_use + weight <= self.levels[at].limit
    }

    /// What a newcomer to one level is told.
    fn admission(&self, at: usize, weight: usize) -> Result<(), TryAcquireError> {
        let level = &self.levels[at];
        if level.closed {
            Err(TryAcquireError::Closed)
        } else if weight > level.limit {
            Err(TryAcquireError::ExceedsLimit)
        } else if weight > 0 && (!level.line.is_empty() || !self.fits(at, weight)) {
            Err(TryAcquireError::NoPermits)
        } else {
            Ok(())
        }
    }

    /// Whoever is first in a line and fits is granted; on a closed level, all are told.
    fn settle(&mut self) {
        for at in 0..self.levels.len() {
            while let Some(&first) = self.levels[at].line.first() {
                let closed = self.levels[at].closed;
                let weight = self.request(first).weight;
                if !closed && !self.fits(at, weight) {
                    break;
                }
                self.levels[at].line.remove(0);
                if !closed {
                    self.levels[at].in_use += weight;
                }
                self.request(first).state = if closed { State::Evicted(at) } else { State::Granted(at) };
            }
        }
    }

    fn request(&mut self, number: usize) -> &mut Request {
        &mut self.requests.iter_mut().find(|(other, _)| *other == number).expect("it is there").1
    }

    fn give_back(&mut self, levels: &[usize], weight: usize) {
        for &at in levels {
            self.levels[at].in_use -= weight;
        }
    }

    /// Polls one, and says what should come of it.
    fn poll(&mut self, at: usize) -> Result<(), TestCaseError> {
        let (number, Request { of, weight, state, .. }) = &self.requests[at];
        let (number, of, weight, state) = (*number, *of, *weight, *state);
        let path = self.path(of);
        let depth_of = |level: usize| path.iter().position(|&other| other == level).expect("on its path");
        let result = poll_once(&mut self.requests[at].1.acquire);
        if let State::Waiting(level) | State::Granted(level) = state {
            let below = &path[..depth_of(level)];
            if below.iter().any(|&level| self.levels[level].closed) {
                prop_assert!(matches!(result, Poll::Ready(Err(AcquireError::Closed))));
                self.give_back(below, weight);
                if matches!(state, State::Granted(_)) {
                    self.give_back(&[level], weight);
                }
                self.levels[level].line.retain(|&other| other != number);
                self.requests.remove(at);
                return Ok(());
            }
        }
        let mut next = match state {
            State::Waiting(_) => {
                prop_assert!(result.is_pending());
                return Ok(());
            }
            State::Evicted(level) => {
                prop_assert!(matches!(result, Poll::Ready(Err(AcquireError::Closed))));
                self.give_back(&path[..depth_of(level)], weight);
                self.requests.remove(at);
                return Ok(());
            }
            State::Granted(level) => depth_of(level) + 1,
            State::Unpolled => {
                let closed = path.iter().any(|&level| self.levels[level].closed);
                let exceeds = path.iter().any(|&level| weight > self.levels[level].limit);
                if closed || exceeds {
                    let Poll::Ready(Err(error)) = result else { return Err(TestCaseError::fail("refused")) };
                    prop_assert_eq!(error == AcquireError::Closed, closed);
                    self.requests.remove(at);
                    return Ok(());
                }
                0
            }
        };
        while next < path.len() {
            match self.admission(path[next], weight) {
                Ok(()) => self.levels[path[next]].in_use += weight,
                Err(TryAcquireError::NoPermits) => {
                    prop_assert!(result.is_pending());
                    self.levels[path[next]].line.push(number);
                    self.requests[at].1.state = State::Waiting(path[next]);
                    return Ok(());
                }
                Err(error) => {
                    let Poll::Ready(Err(is)) = result else { return Err(TestCaseError::fail("refused")) };
                    prop_assert_eq!(is == AcquireError::Closed, error == TryAcquireError::Closed);
                    self.give_back(&path[..next], weight);
                    self.requests.remove(at);
                    return Ok(());
                }
            }
            next += 1;
        }
        let Poll::Ready(Ok(permit)) = result else { return Err(TestCaseError::fail("not served")) };
        prop_assert_eq!(permit.weight(), weight);
        self.permits.push((permit, of));
        self.requests.remove(at);
        Ok(())
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        let count = self.limiters.len();
        match op {
            Op::Child(of, limit) => {
                let of = of % count;
                let depth = self.path(of).len();
                match self.limiters[of].try_child(limit) {
                    Ok(child) => {
                        let closed = self.levels[of].closed;
                        let level = Level { limit, closed, in_use: 0, line: Vec::new(), parent: Some(of) };
                        self.limiters.push(child);
                        self.levels.push(level);
                    }
                    Err(error) => {
                        prop_assert_eq!((error, depth), (ChildError::TooDeep, Limiter::MAX_DEPTH));
                    }
                }
            }
            Op::Try(of, weight) => {
                let of = of % count;
                let path = self.path(of);
                let expected = path.iter().find_map(|&at| self.admission(at, weight).err());
                let result = self.limiters[of].try_acquire_many(weight);
                prop_assert_eq!(result.as_ref().err(), expected.as_ref());
                if let Ok(permit) = result {
                    for at in path {
                        self.levels[at].in_use += weight;
                    }
                    self.permits.push((permit, of));
                }
            }
            Op::Acquire(of, weight) => {
                let of = of % count;
                let acquire = self.limiters[of].acquire_many(weight);
                self.requests.push((self.numbers, Request { acquire, of, weight, state: State::Unpolled }));
                self.numbers += 1;
            }
            Op::Poll(n) if !self.requests.is_empty() => self.poll(n % self.requests.len())?,
            Op::DropFuture(n) if !self.requests.is_empty() => {
                let (number, request) = self.requests.remove(n % self.requests.len());
                let path = self.path(request.of);
                let upto = |level| path.iter().position(|&other| other == level).expect("on its path");
                match request.state {
                    State::Unpolled => {}
                    State::Granted(level) => self.give_back(&path[..=upto(level)], request.weight),
                    State::Waiting(level) | State::Evicted(level) => {
                        self.give_back(&path[..upto(level)], request.weight);
                        self.levels[level].line.retain(|&other| other != number);
                    }
                }
                drop(request);
            }
            Op::DropPermit(n) if !self.permits.is_empty() => {
                let (permit, of) = self.permits.swap_remove(n % self.permits.len());
                let path = self.path(of);
                self.give_back(&path, permit.weight());
                drop(permit);
            }
            Op::SetLimit(of, limit) => {
                self.limiters[of % count].set_limit(limit).unwrap();
                self.levels[of % count].limit = limit;
            }
            Op::Close(of) => {
                let of = of % count;
                self.limiters[of].close();
                for at in 0..count {
                    self.levels[at].closed |= self.path(at).contains(&of);
                }
            }
            Op::Poll(_) | Op::DropFuture(_) | Op::DropPermit(_) => {}
        }
        self.settle();
        for (limiter, level) in self.limiters.iter().zip(&self.levels) {
            let expected = Snapshot {
                limit: level.limit,
                in_use: level.in_use,
                waiting: level.line.len(),
                closed: level.closed,
            };
            prop_assert_eq!(limiter.snapshot(), expected);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    /// [LEVEL-1], [LEVEL-2], [LEVEL-3], [LEVEL-4]
    #[test]
    fn any_sequence_of_calls_on_any_tree_agrees_with_the_naive_model(limit in 1..6_usize, ops in ops()) {
        let level = Level { limit, closed: false, in_use: 0, line: Vec::new(), parent: None };
        let mut model = Model {
            limiters: vec![Limiter::new(limit)],
            levels: vec![level],
            requests: Vec::new(),
            permits: Vec::new(),
            numbers: 0,
        };
        for op in ops {
            model.step(op)?;
        }
        let Model { limiters, requests, permits, .. } = model;
        drop((requests, permits));
        for limiter in limiters {
            prop_assert_eq!(use_of(&limiter), (0, 0));
        }
    }
}

/// What happens, in order.
type Log = Rc<RefCell<Vec<String>>>;

/// Notes how much is in use when it is dropped.
struct Noted(Log, Limiter);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.borrow_mut().push(format!("dropped with {} in use", use_of(&self.1).0));
    }
}

/// [ADMITTED-1]: done, dropped unpolled, dropped halfway, and panicked.
#[test]
fn what_a_future_holds_is_gone_before_its_permit_is() {
    for end in ["done", "unpolled", "halfway", "panicked"] {
        let limiter = Limiter::new(1);
        let log = Log::default();
        let noted = Noted(Rc::clone(&log), limiter.clone());
        let work = async move {
            let _noted = noted;
            match end {
                "done" => 7,
                "panicked" => panic!("the work"),
                _ => pending().await,
            }
        };
        let mut admitted = Box::pin(block_on(limiter.admit(work)).unwrap());
        assert_eq!(use_of(&limiter), (1, 0));
        match end {
            "done" => assert_eq!(poll_once(&mut admitted), Poll::Ready(7)),
            "panicked" => {
                assert!(catch_unwind(AssertUnwindSafe(|| poll_once(&mut admitted))).is_err());
                assert_eq!(use_of(&limiter), (1, 0), "until it is dropped");
                drop(admitted);
            }
            "halfway" => {
                assert!(poll_once(&mut admitted).is_pending());
                drop(admitted);
            }
            _ => drop(admitted),
        }
        assert_eq!(*log.borrow(), ["dropped with 1 in use"], "{end}");
        assert_eq!(use_of(&limiter), (0, 0), "{end}");
    }
}

/// [ADMITTED-1]: also what the future itself holds until it is dropped, and not only until it is done.
#[test]
fn a_future_that_is_done_is_dropped_before_its_permit_goes_back() {
    let (limiter, log) = (Limiter::new(1), Log::default());
    let noted = Noted(Rc::clone(&log), limiter.clone());
    let mut admitted = pin!(
        limiter
            .try_admit(poll_fn(move |_| {
                let _held = &noted.0;
                Poll::Ready(noted.1.snapshot().in_use)
            }))
            .unwrap()
    );
    let mut cx = Context::from_waker(Waker::noop());
    assert_eq!(admitted.as_mut().poll(&mut cx), Poll::Ready(1));
    assert_eq!((&**log.borrow(), use_of(&limiter)), (&["dropped with 1 in use".to_owned()][..], (0, 0)));
}

/// [ADMITTED-2]
#[test]
fn a_rejected_future_comes_back_and_was_never_polled() {
    let limiter = Limiter::new(1);
    let never: fn() -> Ready<()> = || unreachable!("it was polled");
    let make = || {
        let name = String::from("the future");
        (name.clone(), poll_fn(move |_| Poll::Ready((never(), name.clone()))))
    };
    let held = limiter.try_acquire().unwrap();
    let (_, future) = make();
    let error = limiter.try_admit(future).unwrap_err();
    assert_eq!(error.error(), TryAcquireError::NoPermits);
    assert_eq!(
        error.to_string(),
        "the future was not admitted: not enough permits are available, or others wait for them already"
    );
    let mut admit = limiter.admit(error.into_inner());
    assert!(poll_once(&mut admit).is_pending());
    limiter.close();
    let Poll::Ready(Err(error)) = poll_once(&mut admit) else { panic!("it is closed") };
    assert_eq!(error.error(), AcquireError::Closed);
    let _future = error.into_inner();
    drop(held);
    assert_eq!(use_of(&limiter), (0, 0));
}

/// It is as large as what it holds, a permit and a flag: a future is not held twice.
#[test]
fn an_admitted_future_costs_its_permit_and_no_copy() {
    type Big = Ready<[u8; 4_096]>;
    let overhead = size_of::<Admitted<Big>>() - size_of::<Big>();
    assert!(overhead <= 4 * size_of::<usize>(), "{overhead} bytes");
    assert_eq!(size_of::<LimiterPermit>(), 2 * size_of::<usize>());
}

#[test]
fn permits_go_into_tasks_and_futures_by_themselves() {
    let limiter = Limiter::new(5);
    let permit = block_on(limiter.child(5).acquire_many(4)).unwrap();
    let admitted = permit.attach(ready(7));
    assert_eq!(use_of(&limiter), (4, 0));
    assert_eq!(thread::scope(|scope| scope.spawn(|| block_on(admitted)).join().unwrap()), 7);
    assert_eq!(use_of(&limiter), (0, 0));
}

#[test]
fn an_admission_that_is_dropped_leaves_nothing_behind() {
    let limiter = Limiter::new(1).child(1);
    for point in ["unpolled", "waiting", "granted"] {
        let mut held = Some(limiter.try_acquire().unwrap());
        let mut admit = limiter.admit(ready(1));
        if point != "unpolled" {
            assert!(poll_once(&mut admit).is_pending());
        }
        if point == "granted" {
            held = None;
        }
        drop((admit, held));
        assert_eq!(use_of(&limiter), (0, 0), "{point}");
        assert!(limiter.try_acquire().is_ok());
    }
}

#[test]
#[should_panic(expected = "an Admit was polled after it had resolved")]
fn a_resolved_admission_says_so_when_it_is_polled_again() {
    let limiter = Limiter::new(1);
    let mut admit = limiter.admit(ready(1));
    let _admitted = poll_once(&mut admit);
    let _ = poll_once(&mut admit);
}

#[test]
#[should_panic(expected = "an Admitted was polled after it had resolved")]
fn a_future_that_is_done_says_so_when_it_is_polled_again() {
    let limiter = Limiter::new(1);
    let mut admitted = pin!(limiter.try_admit(ready(1)).unwrap());
    let mut cx = Context::from_waker(Waker::noop());
    let _ = admitted.as_mut().poll(&mut cx);
    let _ = Pin::new(&mut admitted).poll(&mut cx);
}
